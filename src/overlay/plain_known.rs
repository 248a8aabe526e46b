//! What a plain layer's snapshot answers in the place of the disk.
//!
//! It is asked the same things as the disk, at the same places, so that whiteouts, marks and records
//! mean the same from either. Content always comes from the disk.

use super::error::{Error, Result};
use super::plain::PlainLayer;
use super::plain_names::Entry;
use crate::index::NodeId;
use crate::name::printable;
use crate::snapshot::{RecordId, Seen};
use crate::sys::{self, Dir, DirEntry, Errno, Stat};

/// A directory that is read: on the disk, or in a snapshot of it.
pub(super) enum Source<'a> {
    Disk(Dir),
    Known(Seen<'a>),
}

/// A name of a directory, and where the snapshot has it.
pub(super) type Listed = (DirEntry, Option<RecordId>);

impl Source<'_> {
    /// As [`Dir::stat`].
    pub(super) fn stat(&self, name: &[u8]) -> sys::Result<Stat> {
        match self {
            Source::Disk(dir) => dir.stat(name),
            Source::Known(seen) => seen.child(name).map(|c| c.stat()).ok_or(Errno::NOENT),
        }
    }

    /// As [`Dir::get_xattr`].
    pub(super) fn get_xattr(&self, name: &[u8], key: &[u8]) -> sys::Result<Option<Vec<u8>>> {
        match self {
            Source::Disk(dir) => dir.get_xattr(name, key),
            Source::Known(seen) => Ok(seen.child(name).and_then(|c| c.xattr(key))),
        }
    }
}

impl PlainLayer {
    pub(super) fn is_known(&self) -> bool {
        self.known.as_ref().is_some_and(|k| k.get().is_some())
    }

    /// Returns what the layer's snapshot has of a node, if it may be believed.
    pub(super) fn known(&self, node: NodeId) -> Option<Seen<'_>> {
        let believed = self.known.as_ref()?.get()?;
        // up to a node that was found in the snapshot itself
        let mut at = node;
        let mut way = Vec::new();
        let mut seen = loop {
            let step = |e: &Entry| (e.record, e.parent, e.name.clone());
            let (record, parent, name) = self.with(at, step).ok()?;
            match record {
                _ if at == NodeId::ROOT => break believed.get(RecordId::ROOT)?,
                Some(id) => break believed.get(id)?,
                None => way.push(name),
            }
            at = parent;
        };
        while let Some(name) = way.pop() {
            seen = seen.child(&name)?;
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
    pub(super) fn list(&self, source: &Source<'_>) -> sys::Result<Vec<Listed>> {
        Ok(match source {
            Source::Disk(dir) => self.list_disk(dir)?.into_iter().map(|e| (e, None)).collect(),
            Source::Known(seen) => seen.children().map(|c| (c.entry(), Some(c.id()))).collect(),
        })
    }

    /// Makes sure that what was opened is what the snapshot says, if nobody has compared it: else
    /// whoever keeps it is told.
    pub(super) fn confirm_known<T>(
        &self,
        node: NodeId,
        opened: Result<(T, Stat)>,
    ) -> Result<(T, Stat)> {
        let by_word = self.known.as_ref().and_then(|k| k.get()).filter(|b| b.is_by_word());
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
