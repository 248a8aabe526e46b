//! Every system call of the project, and the only place for `unsafe`, libc and rustix.
//!
//! Nothing here knows layers, markers or FUSE. Paths are resolved relative to a [`Dir`] handle,
//! names are bytes, and the last component of a name is never followed when it is a symlink,
//! unless a function says so. What differs between platforms is in `linux.rs` (with
//! `daemon.rs` and `xattr.rs`) and `macos.rs`, which offer the same functions.

mod copy;
mod dir;
mod errno;
mod file;
mod handle;
mod lock;
mod mapping;
mod mountinfo;
mod node;
mod probe;
mod process;
#[cfg(target_os = "linux")]
mod program;
mod stat;
mod tree;

#[cfg(target_os = "linux")]
mod at;
#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod mounting;
#[cfg(target_os = "linux")]
mod xattr;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
mod no_inotify;
#[cfg(target_os = "macos")]
use macos as platform;
#[cfg(target_os = "macos")]
pub use macos::{Runs, keep_what_requests_run, mount_id, open_apart, read_program_ahead, remount};
#[cfg(target_os = "macos")]
use no_inotify as inotify;

pub use copy::{Copied, SMALL, clone_data, copy_data, copy_part, copy_small, fill_holes};
pub use dir::{Dir, DirEntry, RenameFlags};
pub use errno::{Errno, Result};
pub use file::{File, OpenFlags, Seek, StatVfs};
pub use handle::FileHandle;
pub use inotify::{DirEvent, DirWatcher, WatchId, max_watches};
pub use lock::LockKind;
pub use mapping::Mapping;
pub use mountinfo::{MountAttributes, MountInfo, MountWatch, mount_at, mounted_elsewhere, mounts};
#[cfg(target_os = "linux")]
pub use mounting::{
    join_fuse_connection, mount_fuse, mount_id, open_apart, receive_fd, remount,
    replace_descriptor, unmount_by_force,
};
pub use node::Node;
pub use platform::{
    Detached, Readiness, be_modest, changes_owner, detach, effective_capability_sys_admin,
    groups_of, id_maps, is_executed, processors, supplementary_groups, unmount,
};
pub use probe::{Capabilities, IdRanges, Identity, known_ids};
pub use process::{
    SignalSet, block_signals, clear_umask, open_files, pid_alive, raise_open_files, random_bytes,
    terminate, tune_allocator, unblock_signals, wait_signal,
};
#[cfg(target_os = "linux")]
pub use program::{Runs, keep_what_requests_run, read_program_ahead};
pub use stat::{FileType, Stat, Time, TimeSet, major, makedev, minor};
