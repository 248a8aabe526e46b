//! Differences that are meant, each with its reason. Keep it short.

use crate::op::{Op, Renaming, Special, Step};

/// Whether stratafs and the kernel refuse what a plain file system does, so that the referee is
/// not asked.
pub fn refused_by_overlays(step: Step, said: &str) -> bool {
    match (step.1, said) {
        // a character device 0:0 is a whiteout
        (Op::Mknod { what: Special::Zero, .. }, "EPERM") => true,
        // RENAME_WHITEOUT would make one
        (Op::Rename { how: Renaming::Whiteout, .. }, "EINVAL") => true,
        // a directory with lower parts, without redirects
        (Op::Rename { .. }, "EXDEV") => true,
        _ => false,
    }
}

/// The reason why stratafs may answer `ours` where the kernel answers `kernel`.
pub fn stated(_step: Step, _kernel: &str, _ours: &str) -> Option<&'static str> {
    None
}
