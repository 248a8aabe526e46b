//! Advisory locks on whole files (flock(2)), which end with the process at the latest.

use super::{Errno, File, Result};
use rustix::fs::{FlockOperation, flock};

/// Who may hold a lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Any number of holders, as long as none is exclusive.
    Shared,
    /// One holder alone.
    Exclusive,
}

impl File {
    /// Takes a lock on this open file, waiting for it. The lock belongs to the open file, not to
    /// the process: it ends when the last descriptor of this opening is closed.
    pub fn lock(&self, kind: LockKind) -> Result<()> {
        let op = match kind {
            LockKind::Shared => FlockOperation::LockShared,
            LockKind::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match flock(self, op) {
                Err(rustix::io::Errno::INTR) => {}
                r => return Ok(r?),
            }
        }
    }

    /// Takes a lock if nobody stands in the way; returns whether it did.
    pub fn try_lock(&self, kind: LockKind) -> Result<bool> {
        let op = match kind {
            LockKind::Shared => FlockOperation::NonBlockingLockShared,
            LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(self, op).map_err(Errno::from) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Dir, OpenFlags};

    #[test]
    fn each_opening_is_a_holder_of_its_own() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let a = d.open_file(b"l", OpenFlags::CREATE_NEW, 0o600).unwrap();
        let b = d.open_file(b"l", OpenFlags::READ, 0).unwrap();
        a.lock(LockKind::Shared).unwrap();
        assert!(b.try_lock(LockKind::Shared).unwrap());
        assert!(!b.try_lock(LockKind::Exclusive).unwrap());
        drop(a);
        assert!(b.try_lock(LockKind::Exclusive).unwrap());
    }
}
