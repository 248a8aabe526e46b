//! Plain lowers that somebody edits while they are in use: the view follows, and says what the
//! kernel's caches must let go.
//!
//! Events tell which directories to read again. What is as before keeps its nodes and so its
//! objects; positions in listings stay. Then, with all changes of names held off, the merged
//! directories take over what their parts hold now.

use super::Overlay;
use super::error::{Doing as _, Result};
use super::inode::{Backing, DirInode, FileInode, Object, Place};
use super::lower::{At, LowerLayer};
use super::options::{DirLinks, LowerChanges};
use super::plain::PlainLayer;
use super::plain_marks::Opaque;
use super::plain_names::NameChange;
use super::types::{Change, Ino};
use super::watch::Watch;
use crate::index::{Kind, NodeId};
use crate::sys::DirEvent;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What events say, each thing once.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Directories whose names changed.
    pub(super) again: HashSet<At>,
    /// Names whose content or attributes changed.
    touched: HashSet<(At, Box<[u8]>)>,
    /// Directories whose attributes changed.
    pub(super) themselves: HashSet<At>,
    /// Directories of the view to be put together anew.
    pub(super) anew: Vec<Ino>,
    /// Anything may have changed.
    pub(super) all: bool,
}

impl Overlay {
    /// Returns what becomes of changes that others make to plain lowers: what was asked for, or
    /// [`LowerChanges::Timeout`] where nothing can be watched.
    #[must_use]
    pub fn lower_changes(&self) -> LowerChanges {
        match self.options.lower_changes {
            LowerChanges::Watch if self.watch.is_none() => LowerChanges::Timeout,
            mode => mode,
        }
    }

    /// Waits until somebody has changed a lower layer, and returns what the view shows otherwise
    /// since; `None` after [`Overlay::stop_watching`], or if nothing is watched.
    ///
    /// The kernel must be told without holding up the threads that serve it.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn wait_for_changes(&self) -> Result<Option<Vec<Change>>> {
        let Some(watch) = &self.watch else { return Ok(None) };
        loop {
            if watch.stopped.load(Ordering::Acquire) {
                return Ok(None);
            }
            let changes = self.changes()?;
            if !changes.is_empty() {
                return Ok(Some(changes));
            }
            watch.watcher.wait().upper("wait for changes of the lowers")?;
        }
    }

    /// As [`Overlay::wait_for_changes`], without waiting.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let Some(watch) = &self.watch else { return Ok(Vec::new()) };
        let mut found = self.follow_lowers(watch, Vec::new())?;
        let mut out = std::mem::take(&mut *watch.pending.lock());
        out.append(&mut found);
        Ok(out)
    }

    /// Lets [`Overlay::wait_for_changes`] return.
    pub fn stop_watching(&self) {
        if let Some(watch) = &self.watch {
            watch.stopped.store(true, Ordering::Release);
            watch.announce(vec![Change::Inode(Ino::ROOT)]);
        }
    }

    /// Returns whether names in a directory, also those it has not, stay as they are until a
    /// [`Change`] says otherwise.
    #[must_use]
    pub fn names_last(&self, dir: Ino) -> bool {
        let Some(watch) = &self.watch else { return true };
        if !watch.any_unwatched.load(Ordering::Acquire) {
            return true;
        }
        self.dir(dir).is_ok_and(|d| d.lowers().iter().all(|at| self.is_watched(*at)))
    }

    /// Returns whether attributes and content of a file stay as they are until a [`Change`] says
    /// otherwise, or somebody changes them through this view.
    #[must_use]
    pub fn attributes_last(&self, ino: Ino) -> bool {
        if self.watch.is_none() {
            return true;
        }
        match self.inodes.peek(ino) {
            Some(Object::Dir(d)) if self.options.dir_links == DirLinks::Counted => {
                d.lowers().iter().all(|at| self.is_watched(*at))
            }
            Some(Object::Dir(d)) if d.in_upper() => true,
            Some(Object::Dir(d)) => d.lowers().first().is_none_or(|at| self.is_watched(*at)),
            Some(Object::File(f)) => {
                let state = f.state.read();
                if state.metacopy == Some(true) {
                    // its data is in a lower, whose changes are told by another number
                    return false;
                }
                let at = state.lower();
                drop(state);
                at.is_none_or(|at| self.is_file_watched(at))
            }
            Some(Object::Pure(_, at)) => self.is_file_watched(at),
            None => true,
        }
    }

    fn is_file_watched(&self, file: At) -> bool {
        self.plain(file).is_none_or(|p| p.is_watched(p.parent(file.node)))
    }

    fn is_watched(&self, at: At) -> bool {
        self.plain(at).is_none_or(|p| p.is_watched(at.node))
    }

    pub(super) fn plain(&self, at: At) -> Option<&PlainLayer> {
        match self.lowers.get(at.layer.0 as usize)? {
            LowerLayer::Plain(p) => Some(p),
            LowerLayer::Indexed(_) => None,
        }
    }

    pub(super) fn is_gone(&self, at: At) -> bool {
        self.plain(at).is_some_and(|p| p.is_gone(at.node))
    }

    /// Takes in what has happened so far: a file was not where it should be. Must be called
    /// without locks.
    pub(super) fn catch_up(&self) {
        let Some(watch) = &self.watch else { return };
        match self.follow_lowers(watch, Vec::new()) {
            Ok(changes) => watch.announce(changes),
            Err(e) => log::warn!("changes of the lowers cannot be followed: {e}"),
        }
    }

    /// Reads those parts of a directory again that are not watched, if they have changed. Must be
    /// called without locks.
    pub(super) fn freshen(&self, dir: &DirInode) {
        let Some(watch) = &self.watch else { return };
        if !watch.any_unwatched.load(Ordering::Acquire) {
            return;
        }
        let outdated = |at: &At| self.plain(*at).is_some_and(|p| p.is_outdated(at.node));
        let parts: Vec<At> = dir.lowers().iter().copied().filter(outdated).collect();
        if parts.is_empty() {
            return;
        }
        match self.follow_lowers(watch, parts) {
            Ok(changes) => watch.announce(changes),
            Err(e) => log::warn!("changes of the lowers cannot be followed: {e}"),
        }
    }

    /// Brings the view up to date with all events, and with the directories `again`.
    fn follow_lowers(&self, watch: &Watch, again: Vec<At>) -> Result<Vec<Change>> {
        let _one_at_a_time = watch.applying.lock();
        let again: HashSet<At> = again.into_iter().collect();
        // what changed there may be a mark of the directory
        let mut seen = Seen { themselves: again.clone(), again, ..Seen::default() };
        for event in watch.watcher.read().upper("read what changed in the lowers")? {
            seen.all |= event == DirEvent::Lost;
            for at in watch.nodes_of(&event) {
                match &event {
                    DirEvent::Names(_, name) => {
                        seen.again.insert(at);
                        seen.touched.insert((at, name.clone()));
                    }
                    DirEvent::Content(_, name) => {
                        seen.touched.insert((at, name.clone()));
                    }
                    DirEvent::Itself(_) => {
                        seen.themselves.insert(at);
                    }
                    // reading it again watches it again, if it is still there
                    DirEvent::Ended(_) | DirEvent::Lost => {
                        seen.again.insert(at);
                    }
                }
            }
        }
        seen.anew = std::mem::take(&mut *watch.anew.lock());
        if seen.again.is_empty()
            && seen.touched.is_empty()
            && seen.themselves.is_empty()
            && seen.anew.is_empty()
            && !seen.all
        {
            return Ok(Vec::new());
        }
        log::debug!("the lowers were changed: {seen:?}");
        Ok(self.follow_events(watch, seen))
    }

    fn follow_events(&self, watch: &Watch, mut seen: Seen) -> Vec<Change> {
        let files = self.sort_out(&mut seen);
        let mut changes: HashMap<At, Vec<NameChange>> = HashMap::new();
        for at in &seen.again {
            let Some(layer) = self.plain(*at) else { continue };
            match layer.read_again(at.node) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    changes.insert(*at, found);
                }
                Err(e) => log::warn!("a changed lower directory cannot be read: {e}"),
            }
        }
        // from now on objects are made of what the layers hold now
        watch.epoch.fetch_add(1, Ordering::AcqRel);
        self.kept_open.clear();
        let mut out = Vec::new();
        let _tree = self.tree.write();
        let structural = !changes.is_empty()
            || !seen.again.is_empty()
            || !seen.themselves.is_empty()
            || !seen.anew.is_empty()
            || seen.all;
        if structural {
            let (dirs, files) = self.inodes.all();
            self.follow_files(&changes, &mut out);
            self.follow_dirs(&dirs, &seen, &changes, &mut out);
            if seen.all {
                out.extend(dirs.iter().map(|d| Change::Inode(d.ino)));
                out.extend(files.into_iter().map(Change::Inode));
            }
        }
        for ino in files {
            match self.inodes.peek(ino) {
                Some(Object::File(f)) if !f.data_in_upper() => out.push(Change::Inode(ino)),
                Some(Object::Pure(..)) => out.push(Change::Inode(ino)),
                _ => {}
            }
        }
        let mut told = HashSet::new();
        out.retain(|c| told.insert(c.clone()));
        // names first, then the listings that held them
        out.sort_by_key(|c| matches!(c, Change::Inode(_)));
        out
    }

    /// Finds out what the names are whose content or attributes changed: returns the numbers of
    /// files, and adds directories to those that are to be looked at.
    fn sort_out(&self, seen: &mut Seen) -> Vec<Ino> {
        let mut files = Vec::new();
        let mut marked: HashMap<At, bool> = HashMap::new();
        for (at, name) in &seen.touched {
            let Some(layer) = self.plain(*at) else { continue };
            let Some(node) = layer.known_child(at.node, name) else { continue };
            if layer.kind_on_disk(node) == Kind::Dir {
                seen.themselves.insert(At { layer: at.layer, node });
                continue;
            }
            files.push(layer.ino(node));
            // an attribute may have made it a whiteout, or another type of file
            let depends = marked.entry(*at).or_insert_with(|| {
                layer.recorded.any()
                    || layer.marks(at.node).is_ok_and(|m| m.opaque == Opaque::HoldsXattrWhiteouts)
            });
            if *depends {
                seen.again.insert(*at);
            }
        }
        seen.again.extend(seen.themselves.iter());
        files
    }

    /// Lets go of files that are gone from a layer, and finds those again that have other names.
    fn follow_files(&self, changes: &HashMap<At, Vec<NameChange>>, out: &mut Vec<Change>) {
        let nodes = |pick: fn(&NameChange) -> Option<NodeId>| {
            changes.iter().flat_map(move |(dir, all)| {
                all.iter().filter_map(move |c| Some(At { layer: dir.layer, node: pick(c)? }))
            })
        };
        for at in nodes(|c| c.new).filter(|at| !self.is_gone(*at)) {
            let Some(file) = self.file_of_node(at) else { continue };
            self.found_again(&file, at);
            // its link count, at least
            out.push(Change::Inode(file.ino));
        }
        for at in nodes(|c| c.old) {
            let Some(file) = self.file_of_node(at) else { continue };
            let mut state = file.state.write();
            if state.backing == Backing::Lower(at) {
                let other = state.lower_names.iter().find_map(|p| self.still_names(p, file.ino));
                match other {
                    Some(other) => state.backing = Backing::Lower(other),
                    // who has it open goes on with the old file
                    None => state.kept = self.handles.open_lower(file.ino),
                }
            }
            out.push(Change::Inode(file.ino));
        }
    }

    fn file_of_node(&self, at: At) -> Option<Arc<FileInode>> {
        let layer = self.plain(at)?;
        match self.inodes.get(layer.ino(at.node))? {
            Object::File(f) => Some(f),
            _ => None,
        }
    }

    /// Returns the node of a lower file's name, if it still is one.
    fn still_names(&self, place: &Place, number: Ino) -> Option<At> {
        let Some(Object::Dir(dir)) = self.inodes.get(place.parent) else { return None };
        dir.lowers().iter().find_map(|part| {
            let layer = self.plain(*part)?;
            let node = layer.known_child(part.node, &place.name)?;
            (layer.ino(node) == number).then_some(At { layer: part.layer, node })
        })
    }

    /// Notes that a lower file whose node is gone is at another one.
    pub(super) fn found_again(&self, file: &FileInode, at: At) {
        let Some(old) = file.state.read().lower().filter(|old| *old != at) else { return };
        let unnoticed = !self.is_gone(old) && self.went_unnoticed(old);
        if !unnoticed && !self.is_gone(old) {
            // another name of the same file
            return;
        }
        let mut state = file.state.write();
        if state.lower() == Some(old) {
            state.backing = Backing::Lower(at);
            state.kept = None;
            drop(state);
            if let Some(watch) = self.watch.as_ref().filter(|_| unnoticed) {
                watch.announce(vec![Change::Inode(file.ino)]);
            }
        }
    }

    /// Returns whether a file has gone from a directory that is not watched: nobody has told, and
    /// the disk may have given its number to another.
    fn went_unnoticed(&self, at: At) -> bool {
        self.plain(at).is_some_and(|p| !p.is_watched(p.parent(at.node)) && !p.is_there(at.node))
    }
}
