//! What a lower directory looked like when its names were read.
//!
//! After each listing the kernel asks for a directory's attributes again, since reading it may
//! have changed its time of access (`fuse_invalidate_atime` in fs/fuse/dir.c). They need not be
//! read from disk then: of a watched directory it is known whether they have changed.

use super::Overlay;
use super::inode::DirInode;
use super::lower::{At, Meta};

/// The attributes of a view's directory that only lowers hold, and what they were read from.
#[derive(Debug)]
pub(super) struct Seen {
    at: At,
    /// The version of the layer's directory; see `PlainLayer::watched_version`.
    version: u16,
    meta: Meta,
}

impl Overlay {
    /// Keeps what a directory looks like whose names were just read, and so are watched.
    pub(super) fn keep_seen(&self, dir: &DirInode) {
        let Some(at) = dir.lowers().first().copied() else { return };
        let Some(layer) = self.plain(at) else { return };
        // the version first: what changes while the attributes are read counts it up
        let Some(version) = layer.watched_version(at.node) else { return };
        // who asks for them is told the error
        *dir.seen.lock() =
            layer.meta(at.node).ok().map(|meta| Box::new(Seen { at, version, meta }));
    }

    /// Returns the attributes of the uppermost part of a directory, if they were kept and are what
    /// the layer has now.
    pub(super) fn seen(&self, dir: &DirInode, at: At) -> Option<Meta> {
        let version = self.plain(at)?.watched_version(at.node)?;
        let kept = dir.seen.lock();
        kept.as_ref().filter(|s| (s.at, s.version) == (at, version)).map(|s| s.meta)
    }
}
