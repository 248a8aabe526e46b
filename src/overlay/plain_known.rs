//! What a plain layer's snapshot answers in the place of the disk.
//!
//! It is asked the same things as the disk, at the same places, so that whiteouts, marks and records
//! mean the same from either. Content always comes from the disk.

use super::error::{Error, Result};
use super::plain::PlainLayer;
use crate::index::NodeId;
use crate::name::printable;
use crate::snapshot::{Believed, RecordId, Seen, Slot};
use crate::sys::{self, Dir, DirEntry, Errno, Stat};
use hashbrown::HashMap;
use parking_lot::RwLock;

/// A directory that is read: on the disk, or in a snapshot of it.
pub(super) enum Source<'a> {
    Disk(Dir),
    Known(Seen<'a>),
}

/// What a layer looks like, as soon as that is known.
#[derive(Debug)]
pub(super) struct Known {
    slot: Slot,
    /// Where the snapshot has directories that were asked for.
    dirs: RwLock<HashMap<NodeId, RecordId>>,
}

impl Known {
    pub(super) fn new(slot: Slot) -> Known {
        Known { slot, dirs: RwLock::default() }
    }
}

impl Source<'_> {
    /// As [`Dir::stat`].
    pub(super) fn stat(&self, name: &[u8]) -> sys::Result<Stat> {
        match self {
            Source::Disk(dir) => dir.stat(name),
            Source::Known(seen) => seen.child(name).map(|c| c.stat()).ok_or(Errno::NOENT),
        }
    }

    /// As [`Dir::get_xattr`]; a name that is not there has none.
    pub(super) fn get_xattr(&self, name: &[u8], key: &[u8]) -> sys::Result<Option<Vec<u8>>> {
        match self {
            Source::Disk(dir) => dir.get_xattr(name, key),
            Source::Known(seen) => Ok(seen.child(name).and_then(|c| c.xattr(key))),
        }
    }
}

impl PlainLayer {
    pub(super) fn is_known(&self) -> bool {
        self.believed().is_some()
    }

    fn believed(&self) -> Option<&Believed> {
        self.known.as_ref()?.slot.get()
    }

    /// Returns what the layer's snapshot has of a node, if it may be believed.
    pub(super) fn known(&self, node: NodeId) -> Option<Seen<'_>> {
        let believed = self.believed()?;
        let dirs = &self.known.as_ref()?.dirs;
        // up to a directory that was found before, and down again
        let mut at = node;
        let mut way = Vec::new();
        let mut seen = loop {
            if at == NodeId::ROOT {
                break believed.get(RecordId::ROOT)?;
            }
            if let Some(id) = dirs.read().get(&at) {
                break believed.get(*id)?;
            }
            let (parent, name) = self.with(at, |e| (e.parent, e.name.clone())).ok()?;
            way.push((at, name));
            at = parent;
        };
        while let Some((at, name)) = way.pop() {
            seen = seen.child(&name)?;
            if seen.is_dir() {
                dirs.write().insert(at, seen.id());
            }
        }
        Some(seen)
    }

    /// Returns where a directory's names are read.
    pub(super) fn source(&self, dir: NodeId) -> Result<Source<'_>> {
        match self.known(dir) {
            Some(seen) => Ok(Source::Known(seen)),
            None => self.dir(dir).map(Source::Disk),
        }
    }

    /// Returns the names of a directory.
    pub(super) fn list(&self, source: &Source<'_>) -> sys::Result<Vec<DirEntry>> {
        match source {
            Source::Disk(dir) => self.list_disk(dir),
            Source::Known(seen) => Ok(seen.children().map(|c| c.entry()).collect()),
        }
    }

    /// Makes sure that what was opened is what the snapshot says, if nobody has compared it: else
    /// whoever keeps it is told.
    pub(super) fn confirm_known<T>(
        &self,
        node: NodeId,
        opened: Result<(T, Stat)>,
    ) -> Result<(T, Stat)> {
        let by_word = self.believed().filter(|b| b.is_by_word());
        let (Some(believed), Some(seen)) = (by_word, self.known(node)) else { return opened };
        let changed = match &opened {
            Ok((_, now)) => !seen.is_as(now),
            Err(e) => matches!(
                e.errno(),
                Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::LOOP
                    | Errno::NXIO
                    | Errno::XDEV
                    | Errno::STALE
            ),
        };
        if !changed {
            return opened;
        }
        log::error!("{:?}: {} is not as it was", self.at(), printable(&seen.path()));
        believed.disprove();
        Err(Error::Stale)
    }
}
