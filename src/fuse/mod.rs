//! The FUSE front end: the only place that names fuser.
//!
//! `adapter` converts each request, calls the engine and replies once; it decides nothing about
//! semantics. `options` says how a view is to be mounted and what follows from that for caching,
//! `init` negotiates it with the kernel, `session` mounts, serves and ends.

mod adapter;
mod changes;
mod convert;
mod counters;
mod error;
mod init;
mod options;
mod session;
mod workers;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

pub use counters::{Counters, Op};
pub use error::MountError;
pub use options::{MountSettings, Passthrough};
pub use platform::{read_helper_ahead, unmount};
pub use session::{Ended, Session, leave_working_directory};

/// The subtype under which mounts appear: `fuse.stratafs` in the table of mounts.
pub const SUBTYPE: &str = "stratafs";
/// The file system type of our mounts in the table of mounts.
pub const FS_TYPE: &str = "fuse.stratafs";
