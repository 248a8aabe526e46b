//! What a plain layer's directory says about itself, read when it is first touched: from then on
//! it is watched too, so that what the kernel was told of it stays true.

use super::error::{Doing as _, Result};
use super::lower::At;
use super::plain::{PlainLayer, is_covered};
use super::wh_names::{is_there, marks_opaque};
use crate::index::NodeId;
use crate::marker::{FUSE_OVERLAYFS_OPAQUE, WHITEOUT_PREFIX};
use crate::sys::{self, Dir, Errno};

/// Whether a directory hides what lies below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opaque {
    #[default]
    No,
    Yes,
    /// Entries may be whiteouts in extended-attribute form.
    HoldsXattrWhiteouts,
}

/// What a directory's extended attributes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) opaque: Opaque,
    /// The layers below hold it elsewhere.
    pub(super) redirect: bool,
}

/// What is known of a node, in a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    /// Nothing is there any more, or something else.
    const GONE: u8 = 1;
    const WATCHED: u8 = 2;
    /// The bits below hold the marks.
    const MARKS: u8 = 4;
    const OPAQUE: u8 = 8;
    const XATTR_WHITEOUTS: u8 = 16;
    const REDIRECT: u8 = 32;
    /// A regular file of which it is not known whether a record makes it something else.
    const MAY_STAND_IN: u8 = 64;

    pub(super) fn is_gone(self) -> bool {
        self.0 & State::GONE != 0
    }

    /// Changes are told.
    pub(super) fn is_watched(self) -> bool {
        self.0 & State::WATCHED != 0
    }

    pub(super) fn gone(self) -> State {
        State(self.0 | State::GONE)
    }

    pub(super) fn watched(self, watched: bool) -> State {
        State(self.0 & !State::WATCHED | if watched { State::WATCHED } else { 0 })
    }

    /// What a regular file is takes a look at its record.
    pub(super) fn may_stand_in(self) -> bool {
        self.0 & State::MAY_STAND_IN != 0
    }

    pub(super) fn standing_in(self, may: bool) -> State {
        State(self.0 & !State::MAY_STAND_IN | if may { State::MAY_STAND_IN } else { 0 })
    }

    /// Forgets all but that a node is gone.
    pub(super) fn unknown(self) -> State {
        State(self.0 & State::GONE)
    }

    fn with(self, marks: Marks) -> State {
        let opaque = match marks.opaque {
            Opaque::No => 0,
            Opaque::Yes => State::OPAQUE,
            Opaque::HoldsXattrWhiteouts => State::XATTR_WHITEOUTS,
        };
        let redirect = if marks.redirect { State::REDIRECT } else { 0 };
        State(self.0 & (State::GONE | State::WATCHED) | State::MARKS | opaque | redirect)
    }

    fn marks(self) -> Option<Marks> {
        (self.0 & State::MARKS != 0).then_some(Marks {
            opaque: match self.0 & (State::OPAQUE | State::XATTR_WHITEOUTS) {
                State::OPAQUE => Opaque::Yes,
                0 => Opaque::No,
                _ => Opaque::HoldsXattrWhiteouts,
            },
            redirect: self.0 & State::REDIRECT != 0,
        })
    }
}

impl PlainLayer {
    /// Returns what a directory says about itself. It is watched from before that on, if it can
    /// be.
    pub(super) fn marks(&self, dir: NodeId) -> Result<Marks> {
        let (state, version) = self.with(dir, |e| (e.state, e.version))?;
        if let Some(marks) = state.marks() {
            return Ok(marks);
        }
        if let Some(known) = self.known(dir) {
            let marks = self.parse_marks(dir, &|key| Ok(known.xattr(key)))?;
            self.remember_marks(dir, version, marks);
            return Ok(marks);
        }
        let handle = match self.dir(dir) {
            // taken for empty
            Err(e) if is_covered(&e) => return Ok(Marks::default()),
            // it may be looked at, if not into
            Err(e) if e.errno() == Errno::ACCESS => return self.marks_from_outside(dir),
            handle => handle?,
        };
        let told = self.watch.is_none() || state.is_watched() || self.watch_dir(dir, &handle);
        let marks = self.read_marks(dir, &handle)?;
        if told {
            self.remember_marks(dir, version, marks);
        }
        Ok(marks)
    }

    fn remember_marks(&self, dir: NodeId, version: u16, marks: Marks) {
        let mut all = self.entries.write();
        if let Some(e) = all.get_mut(dir.0 as usize).filter(|e| e.version == version) {
            e.state = e.state.with(marks);
        }
    }

    pub(super) fn opaque(&self, node: NodeId) -> Result<bool> {
        Ok(self.marks(node)?.opaque == Opaque::Yes)
    }

    /// Watches a directory; false: that is not possible.
    pub(super) fn watch_dir(&self, dir: NodeId, handle: &Dir) -> bool {
        let Some(watch) = &self.watch else { return false };
        let known = self.with(dir, |e| (e.state, e.version));
        let Ok((state, version)) = known else { return false };
        if state.is_watched() {
            return true;
        }
        let watched = watch.add(At { layer: self.layer, node: dir }, handle);
        let mut all = self.entries.write();
        // else it has changed since, or the watch has ended: who reads it again adds it again
        if let Some(e) = all.get_mut(dir.0 as usize).filter(|e| e.version == version) {
            e.state = e.state.watched(watched);
        }
        watched
    }

    fn read_marks(&self, dir: NodeId, handle: &Dir) -> Result<Marks> {
        let keys = handle.list_xattr_self().layer(self.at(), "list extended attributes")?;
        let has = |key: &[u8]| keys.as_ref().is_none_or(|k| k.iter().any(|k| k == key));
        let read = |key: &[u8]| match has(key) {
            true => handle.get_xattr_self(key),
            false => Ok(None),
        };
        self.parse_marks(dir, &read)
    }

    fn marks_from_outside(&self, dir: NodeId) -> Result<Marks> {
        let node = self.handle(dir)?;
        self.parse_marks(dir, &|key| node.get_xattr(key))
    }

    fn parse_marks(&self, dir: NodeId, read: ReadXattr<'_>) -> Result<Marks> {
        let read = |key| read(key).layer(self.at(), "read the opaque mark");
        let redirect = read(self.dialect.redirect())?.is_some();
        if self.names.heeded() && self.is_marked_opaque(dir)? {
            return Ok(Marks { opaque: Opaque::Yes, redirect });
        }
        let opaque = match read(self.dialect.opaque())?.as_deref() {
            Some(b"y") => Opaque::Yes,
            Some(b"x") => Opaque::HoldsXattrWhiteouts,
            _ if !self.foreign_marks => Opaque::No,
            _ if read(FUSE_OVERLAYFS_OPAQUE)?.as_deref() == Some(b"y") => Opaque::Yes,
            _ => Opaque::No,
        };
        Ok(Marks { opaque, redirect })
    }

    /// Returns whether a name inside or beside the directory hides what lies below it.
    fn is_marked_opaque(&self, dir: NodeId) -> Result<bool> {
        let source = self.source(dir)?;
        let inside = marks_opaque(|name| source.stat(name));
        if inside.layer(self.at(), "look for the opaque mark")? {
            return Ok(true);
        }
        if dir == NodeId::ROOT {
            return Ok(false);
        }
        let (parent, name) = self.living(dir)?;
        let beside = self.source(parent)?.stat(&[WHITEOUT_PREFIX, &name].concat());
        is_there(beside).layer(self.at(), "look for a whiteout")
    }
}

/// Reads an extended attribute of a directory.
type ReadXattr<'a> = &'a dyn Fn(&[u8]) -> sys::Result<Option<Vec<u8>>>;
