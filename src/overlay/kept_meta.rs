//! Attributes of a lower directory, kept from the reading of its names for one question.
//!
//! After a listing the kernel asks for a directory's attributes again, since reading may have
//! changed its time of access (`fuse_invalidate_atime` in fs/fuse/dir.c). By then its handle may be
//! closed, and its path long. While it is listed they cost nearly nothing, and as long as the
//! directory is watched it is known whether they have changed: but for that time itself, of which
//! no event tells.

use super::Overlay;
use super::inode::DirInode;
use super::lower::{At, Meta};

/// What the uppermost part of a directory looked like when its names were read.
#[derive(Debug)]
pub(super) struct KeptMeta {
    at: At,
    stamp: Stamp,
    meta: Meta,
}

/// Tells whether a watched directory is as it was.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// See `PlainLayer::watched_version`.
    version: u16,
    /// See `Watch::now`.
    epoch: u64,
}

impl Stamp {
    /// Returns whether nothing has changed since `earlier`.
    fn is_as(self, earlier: Stamp) -> bool {
        // each count of the version is one of the epoch, so that it has not come round
        let since = self.epoch.saturating_sub(earlier.epoch);
        self.version == earlier.version && since <= u64::from(u16::MAX)
    }
}

impl Overlay {
    /// Keeps the attributes of a directory of the lowers that is being listed.
    pub(super) fn keep_meta(&self, dir: &DirInode) {
        let Some(at) = dir.lowers().first().copied() else { return };
        // the stamp first: what changes while the attributes are read makes another one
        let Some(stamp) = self.stamp_of(at) else { return };
        // an error is told to who asks for them
        let meta = self.lower(at).and_then(|layer| layer.meta(at.node)).ok();
        *dir.kept_meta.lock() = meta.map(|meta| Box::new(KeptMeta { at, stamp, meta }));
    }

    /// Returns the attributes of the uppermost part of a directory, if they were kept and have not
    /// changed; the next one who asks gets them from the layer.
    pub(super) fn take_meta(&self, dir: &DirInode, at: At) -> Option<Meta> {
        let kept = dir.kept_meta.lock().take()?;
        let same = kept.at == at && self.stamp_of(at)?.is_as(kept.stamp);
        same.then_some(kept.meta)
    }

    fn stamp_of(&self, at: At) -> Option<Stamp> {
        let version = self.plain(at)?.watched_version(at.node)?;
        Some(Stamp { version, epoch: self.watch.as_ref()?.now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_came_round_is_another_one() {
        let then = Stamp { version: 7, epoch: 100 };
        assert!(Stamp { version: 7, epoch: 100 }.is_as(then));
        assert!(Stamp { version: 7, epoch: 900 }.is_as(then), "other directories changed");
        assert!(!Stamp { version: 8, epoch: 101 }.is_as(then));
        assert!(!Stamp { version: 7, epoch: 100 + (1 << 16) }.is_as(then));
    }
}
