//! Random layers and random operations on the kernel's overlayfs, on stratafs, and on a plain
//! directory that holds the merged tree and referees.
//!
//! Everything follows from a seed, the set of mount options too where a test has several. After each operation its result is compared, at intervals and
//! at the end the whole tree; then the mounts are made anew, the uppers exchanged (ours under the
//! kernel's overlayfs, the kernel's under us), our upper is used as a layer, and the lowers must
//! be as they were, to the byte and the nanosecond. Where stratafs and the kernel differ, the
//! plain directory decides: if it does as stratafs does, stratafs is nearer to POSIX and the case
//! counts as "better". Anything else fails, unless `allow.rs` has the statement of
//! `stratafs::semantics` that covers it. In some tests ours is also mounted anew between the steps
//! and must show the same, under the same numbers; in `as_root_in_a_container` the layers are
//! imported into a store first, and the upper is one of its containers. A failing case is shrunk and printed as Rust that goes
//! into `cases.rs`.
//!
//! Each worker runs in name spaces of its own (`unshare`), with a limit of time per seed: what
//! hangs is killed with its mounts, and fails with the number of its seed.
//!
//! Environment:
//! * `STRATAFS_SEEDS=FROM..TO`: these seeds rather than the built-in few;
//! * `STRATAFS_WORKERS=N`: in as many processes (default: 2, or 1 on a single processor);
//! * `STRATAFS_SHRINK=N`: runs that may be spent on making a failure small (default 150);
//! * `STRATAFS_SWITCHES=TEXT`: only the sets of options (`switches.rs`) in which this occurs;
//! * `STRATAFS_KERNEL_OPTIONS=…`: instead of `redirect_dir=on,index=on,metacopy=off`;
//! * `STRATAFS_DIFFERENTIAL_DIR`: where the layers are made (default `/var/tmp`).
//!
//! ```text
//! STRATAFS_SEEDS=0..2000 cargo test --release --test differential as_root
//! STRATAFS_SEEDS=0..1000 cargo test --release --test differential in_a_user_namespace
//! STRATAFS_SEEDS=0..300 cargo test --release --test differential with_uppers_exchanged
//! STRATAFS_SEEDS=0..200 STRATAFS_SWITCHES=lazy cargo test --release --test differential switch
//! ```
#![cfg(target_os = "linux")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::print_stderr)]

mod allow;
mod case;
mod cases;
mod container;
mod exec;
mod generate;
mod layer;
mod op;
mod random;
mod readonly;
mod shrink;
mod supervise;
#[path = "../support/mod.rs"]
mod support;
mod switches;
mod tree;
mod verdict;
mod worker;
mod world;

use supervise::{Work, supervise};
use world::Mode;

#[test]
fn as_root() {
    supervise(Mode::Root, Work::Seeds(0..60));
}

/// Mounted by root, used mostly by others: the kernel checks what they may do.
#[test]
fn as_others_in_a_mount_of_root() {
    supervise(Mode::Others, Work::Seeds(0..60));
}

/// Every file that is written waits for its blocks.
#[test]
fn as_root_with_lazy_copy_up() {
    supervise(Mode::Lazy, Work::Seeds(0..60));
}

/// The kernel holds back what is written.
#[test]
fn as_root_with_writeback() {
    supervise(Mode::Writeback, Work::Seeds(0..60));
}

/// Ours asks snapshots of the lowers in the place of the disk.
#[test]
fn as_root_with_known_lowers() {
    supervise(Mode::Known, Work::Seeds(0..40));
}

/// Ours is mounted anew between the steps, while the kernel's mount stays.
#[test]
fn as_root_over_remounts() {
    supervise(Mode::Remount, Work::Seeds(0..30));
}

#[test]
fn as_root_over_remounts_with_metacopy() {
    supervise(Mode::RemountMetacopy, Work::Seeds(0..30));
}

/// Each set of options that must change nothing, or does the same to the kernel's.
#[test]
fn as_root_with_every_switch() {
    supervise(Mode::Switches, Work::Seeds(0..44));
}

/// The layers are imported, mounted as an image, and changed in a container of it.
#[test]
fn as_root_in_a_container() {
    supervise(Mode::Image, Work::Seeds(0..20));
}

#[test]
fn in_a_user_namespace() {
    supervise(Mode::Namespace, Work::Seeds(0..60));
}

/// In the middle the kernel goes on with our upper and we with the kernel's.
#[test]
fn with_uppers_exchanged_redirect() {
    supervise(Mode::Redirect, Work::Seeds(0..40));
}

#[test]
fn with_uppers_exchanged_metacopy() {
    supervise(Mode::Metacopy, Work::Seeds(0..40));
}

#[test]
fn with_uppers_exchanged_index() {
    supervise(Mode::Index, Work::Seeds(0..40));
}

#[test]
fn cases_that_once_failed() {
    for mode in [
        Mode::Root,
        Mode::Lazy,
        Mode::Writeback,
        Mode::Known,
        Mode::Namespace,
        Mode::Redirect,
        Mode::Metacopy,
        Mode::Index,
        Mode::Remount,
        Mode::Image,
    ] {
        supervise(mode, Work::Cases);
    }
}

/// What the other tests start in a name space of its own.
#[test]
#[ignore = "started by the other tests"]
fn worker() {
    worker::run();
}
