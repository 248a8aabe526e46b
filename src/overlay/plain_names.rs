//! The names of a plain layer: one getdents per directory gives names, types and inode numbers;
//! negative answers come from memory.
//!
//! A node is one name of one file. When somebody changes a directory it is read again: what is as
//! before keeps its node, what is not gets a new one, and the old node is gone for good.

use super::error::{Doing as _, Error, Result};
use super::lower::At;
use super::plain::{PlainLayer, is_covered};
use super::plain_attr::FileRecord;
use super::plain_known::Source;
use super::plain_marks::{Opaque, State};
use super::types::Ino;
use super::watch::Stamp;
use super::wh_names::hidden;
use crate::index::{Kind, NodeId};
use crate::marker::WHITEOUT_PREFIX;
use crate::sys::{DirEntry, Errno, FileType};
use std::sync::Arc;

/// How often a directory is read again that is changed while it is read, before what was found is
/// good enough: the next event corrects it.
const READINGS: u32 = 8;

/// Which part of what the nodes take is kept free for more.
const SPARE: usize = 4;

/// A node of a plain layer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) parent: NodeId,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// Counts the changes of a directory.
    pub(super) version: u16,
    pub(super) name: Box<[u8]>,
    pub(super) ino: Ino,
    /// The names of a directory that was read, sorted by bytes.
    pub(super) children: Option<Arc<[NodeId]>>,
}

impl Entry {
    pub(super) fn new(parent: NodeId, name: Box<[u8]>, kind: Kind, ino: Ino) -> Entry {
        Entry { parent, kind, state: State::default(), version: 0, name, ino, children: None }
    }
}

impl Entry {
    /// Returns whether this is the same kind of file, as far as anybody was told.
    fn is_as(&self, new: &Entry) -> bool {
        let unseen = self.state.may_stand_in() && self.kind == Kind::File;
        self.kind == new.kind || unseen && !matches!(new.kind, Kind::Dir | Kind::Whiteout)
    }
}

/// A name of a directory that was read again, and its nodes before and after.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) name: Box<[u8]>,
    pub(super) old: Option<NodeId>,
    pub(super) new: Option<NodeId>,
}

impl PlainLayer {
    /// Returns parent and name of a node that is still there.
    pub(super) fn living(&self, node: NodeId) -> Result<(NodeId, Box<[u8]>)> {
        self.with(node, |e| (!e.state.is_gone()).then(|| (e.parent, e.name.clone())))?
            .ok_or(Error::Replaced)
    }

    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        self.with(node, |e| e.state.is_gone()).unwrap_or(true)
    }

    /// Returns whether changes in a directory, and its own, are told.
    pub(super) fn is_watched(&self, dir: NodeId) -> bool {
        self.with(dir, |e| e.state.is_watched()).unwrap_or(false)
    }

    /// Returns the version of a directory, which each change that is told counts up; `None` if
    /// changes are not told.
    pub(super) fn watched_version(&self, dir: NodeId) -> Option<u16> {
        let of = |e: &Entry| (e.state.is_watched() && !e.state.is_gone()).then_some(e.version);
        self.with(dir, of).ok().flatten()
    }

    /// Returns the names of a directory, reading them if that was not done yet.
    pub(super) fn children(&self, dir: NodeId) -> Result<Arc<[NodeId]>> {
        let (known, mut version) = self.with(dir, |e| (e.children.clone(), e.version))?;
        if let Some(c) = known {
            return Ok(c);
        }
        for last in (0..READINGS).rev() {
            let mut fresh = self.read(dir)?;
            let mut all = self.entries.write();
            let Some(e) = all.get(dir.0 as usize) else { return Err(Error::Stale) };
            // two threads may have read it at once: the first one's numbers stand
            if let Some(c) = e.children.clone() {
                return Ok(c);
            }
            if e.version != version && last > 0 {
                version = e.version;
                continue;
            }
            let first = u32::try_from(all.len()).map_err(|_| Error::Stale)?;
            let ids: Arc<[NodeId]> =
                (0..fresh.len()).map(|i| NodeId(first.saturating_add(i as u32))).collect();
            if all.capacity() - all.len() < fresh.len() {
                // not twice as much, as a vector would by itself
                let spare = all.len() / SPARE;
                all.reserve_exact(fresh.len() + spare);
            }
            all.append(&mut fresh);
            if let Some(e) = all.get_mut(dir.0 as usize) {
                e.children = Some(ids.clone());
            }
            return Ok(ids);
        }
        Err(Error::Stale)
    }

    /// Reads a directory's names, sorted by bytes. It is watched from before that on.
    fn read(&self, dir: NodeId) -> Result<Vec<Entry>> {
        let source = match self.source(dir) {
            // taken for empty
            Err(e) if is_covered(&e) => return Ok(Vec::new()),
            source => source?,
        };
        if let (Some(watch), Source::Disk(handle)) = (&self.watch, &source) {
            let at = At { layer: self.layer, node: dir };
            if self.watch_dir(dir, handle) {
                watch.is_read(at);
            } else {
                watch.goes_without(at, Stamp::of(handle).layer(self.at(), "look at a directory")?);
            }
        }
        let mut found = self.list(&source).layer(self.at(), "list a directory")?;
        let mut marks = Vec::new();
        if self.names.heeded() {
            marks.extend(found.iter().filter_map(|e| {
                let name = Box::<[u8]>::from(hidden(&e.name)?);
                Some((name, e.ino))
            }));
            found.retain(|e| !e.name.starts_with(WHITEOUT_PREFIX));
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let holds_xattr_whiteouts = self.marks(dir)?.opaque == Opaque::HoldsXattrWhiteouts;
        let mut fresh = Vec::with_capacity(found.len());
        for e in found {
            let (kind, ino) = self.classify(&source, &e, holds_xattr_whiteouts)?;
            let mut entry = Entry::new(dir, e.name, kind, ino);
            // to look at each file's record now would read its inode from disk
            entry.state = entry.state.standing_in(kind == Kind::File && self.recorded.any());
            fresh.push(entry);
        }
        // beside an entry of that name, the mark speaks of the layers below, which it hides too
        marks.retain(|(name, _)| fresh.binary_search_by(|e| e.name.cmp(name)).is_err());
        if !marks.is_empty() {
            fresh.extend(marks.into_iter().map(|(name, real)| {
                let ino = self.devices.ino(self.dev, real);
                Entry::new(dir, name, Kind::Whiteout, ino)
            }));
            fresh.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(fresh)
    }

    /// Reads a directory again that was read before, and returns what is not as it was.
    pub(super) fn read_again(&self, dir: NodeId) -> Result<Vec<NameChange>> {
        {
            let mut all = self.entries.write();
            let Some(e) = all.get_mut(dir.0 as usize) else { return Ok(Vec::new()) };
            e.version = e.version.wrapping_add(1);
            e.state = e.state.unknown();
            // who is reading it now sees by the version that he must do it again
            if e.children.is_none() || e.state.is_gone() {
                return Ok(Vec::new());
            }
        }
        *self.groups.lock() = None;
        let mut fresh = self.read(dir)?;
        self.settle_stand_ins(dir, &mut fresh)?;
        let mut all = self.entries.write();
        let old = all.get(dir.0 as usize).and_then(|e| e.children.clone()).unwrap_or_default();
        let mut changes = Vec::new();
        let mut ids = Vec::with_capacity(fresh.len());
        let mut before = old.iter().copied().peekable();
        let lost = |all: &[Entry], id: NodeId| NameChange {
            name: all.get(id.0 as usize).map(|e| e.name.clone()).unwrap_or_default(),
            old: Some(id),
            new: None,
        };
        for entry in fresh {
            let mut same = None;
            while let Some(id) = before.peek().copied() {
                let Some(was) = all.get(id.0 as usize) else { break };
                match was.name.cmp(&entry.name) {
                    std::cmp::Ordering::Less => changes.push(lost(&all, id)),
                    std::cmp::Ordering::Equal => same = Some(id),
                    std::cmp::Ordering::Greater => break,
                }
                before.next();
            }
            let kept = same.filter(|id| {
                all.get(id.0 as usize).is_some_and(|e| e.is_as(&entry) && e.ino == entry.ino)
            });
            ids.push(match kept {
                Some(id) => id,
                None => {
                    let id = NodeId(u32::try_from(all.len()).map_err(|_| Error::Stale)?);
                    changes.push(NameChange { name: entry.name.clone(), old: same, new: Some(id) });
                    all.push(entry);
                    id
                }
            });
        }
        changes.extend(before.map(|id| lost(&all, id)));
        if let Some(e) = all.get_mut(dir.0 as usize) {
            e.children = Some(ids.into());
        }
        let gone: Vec<NodeId> = changes.iter().filter_map(|c| c.old).collect();
        let (gone, dirs) = bury(&mut all, gone);
        drop(all);
        let mut handles = self.handles.lock();
        for id in gone {
            handles.pop(&id);
        }
        drop(handles);
        if let Some(watch) = self.watch.as_ref().filter(|_| !dirs.is_empty()) {
            watch.forget(&dirs.into_iter().map(|n| At { layer: self.layer, node: n }).collect());
        }
        Ok(changes)
    }

    /// Looks at the records of those files that were looked at before the directory changed.
    fn settle_stand_ins(&self, dir: NodeId, fresh: &mut [Entry]) -> Result<()> {
        if !self.recorded.any() {
            return Ok(());
        }
        let handle = self.dir(dir)?;
        for entry in fresh.iter_mut().filter(|e| e.state.may_stand_in()) {
            let looked_at = self
                .known_child(dir, &entry.name)
                .is_some_and(|id| self.with(id, |e| !e.state.may_stand_in()).unwrap_or(false));
            if looked_at {
                let record = self.recorded.read(|key| handle.get_xattr(&entry.name, key));
                let record = record.layer(self.at(), "read the recorded attributes")?;
                entry.kind = FileRecord(record).kind_of(entry.kind);
                entry.state = entry.state.standing_in(false);
            }
        }
        Ok(())
    }

    /// Returns whether a directory that is not watched was changed since it was read.
    pub(super) fn is_outdated(&self, dir: NodeId) -> bool {
        let Some(watch) = &self.watch else { return false };
        let Some(then) = watch.unwatched.lock().get(&At { layer: self.layer, node: dir }).copied()
        else {
            return false;
        };
        let now = self.dir(dir).ok().and_then(|d| Stamp::of(&d).ok());
        !now.is_some_and(|s| s.is_as(then))
    }

    fn classify(
        &self,
        dir: &Source<'_>,
        e: &DirEntry,
        xattr_whiteouts: bool,
    ) -> Result<(Kind, Ino)> {
        let mut dev = self.dev;
        let mut real = e.ino;
        let kind = match e.file_type {
            Some(t) if t != FileType::Char => t,
            // a character device may be a whiteout, and some file systems tell no types
            _ => match dir.stat(&e.name) {
                Ok(s) if s.is_whiteout_device() => {
                    return Ok((Kind::Whiteout, self.devices.ino(s.dev, s.ino)));
                }
                Ok(s) => {
                    (dev, real) = (s.dev, s.ino);
                    s.file_type()
                }
                Err(Errno::NOENT) => return Ok((Kind::Whiteout, self.devices.ino(dev, real))),
                Err(errno) => return Err(errno).layer(self.at(), "look at a file"),
            },
        };
        let mut kind = Kind::of(kind);
        if xattr_whiteouts && kind == Kind::File {
            let mark = dir.get_xattr(&e.name, self.dialect.whiteout());
            if mark.layer(self.at(), "read a whiteout's mark")?.is_some() {
                kind = Kind::Whiteout;
            }
        }
        Ok((kind, self.devices.ino(dev, real)))
    }

    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let ids = self.children(dir)?;
        Ok(self.search(&ids, |id| *id, name).map(|i| ids[i]))
    }

    /// As [`PlainLayer::child`], in a directory that was read already.
    pub(super) fn known_child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let ids = self.with(dir, |e| e.children.clone()).ok()??;
        self.search(&ids, |id| *id, name).map(|i| ids[i])
    }

    pub(super) fn for_children(
        &self,
        dir: NodeId,
        f: &mut dyn FnMut(&[u8], NodeId, Kind),
    ) -> Result<()> {
        let ids = self.children(dir)?;
        // `f` may ask this layer for names, and a thread that waits to write would stand between
        // two locks for reading: so it is called with none held
        let entries: Vec<_> = {
            let all = self.entries.read();
            let entry = |id: &NodeId| all.get(id.0 as usize).map(|e| (e.name.clone(), *id, e.kind));
            ids.iter().filter_map(entry).collect()
        };
        for (name, id, kind) in &entries {
            f(name, *id, *kind);
        }
        Ok(())
    }
}

/// Marks nodes as gone, with all that is below them; returns them all, and the directories among
/// them that were read or watched.
fn bury(all: &mut [Entry], mut gone: Vec<NodeId>) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut dirs = Vec::new();
    let mut next = 0;
    while let Some(id) = gone.get(next).copied() {
        next += 1;
        let Some(e) = all.get_mut(id.0 as usize) else { continue };
        if e.children.is_some() || e.state.is_watched() {
            dirs.push(id);
        }
        e.state = e.state.unknown().gone();
        if let Some(children) = e.children.take() {
            gone.extend(children.iter().copied());
        }
    }
    (gone, dirs)
}
