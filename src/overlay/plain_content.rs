//! What the files of a plain layer hold, and whether they still are where they were.

use super::data::data_is_here;
use super::error::{Doing as _, Error, Result};
use super::plain::PlainLayer;
use crate::index::{Kind, NodeId};
use crate::marker::INCOMPLETE;
use crate::name::printable;
use crate::sys::{self, Errno, File, FileType, OpenFlags, Stat};
use std::sync::atomic::Ordering;

impl PlainLayer {
    pub(super) fn open(&self, node: NodeId) -> Result<File> {
        Ok(self.open_here(node)?.0)
    }

    /// Opens a regular file; `None`: its data is in a layer below.
    pub(super) fn open_data(&self, node: NodeId) -> Result<Option<File>> {
        let (file, stat) = self.open_here(node)?;
        if data_is_here(&stat) {
            return Ok(Some(file));
        }
        let below = self.sends_below(node, file.get_xattr(self.dialect.metacopy()))?;
        Ok((!below).then_some(file))
    }

    /// Opens a regular file and returns what it looked like then.
    pub(super) fn open_here(&self, node: NodeId) -> Result<(File, Stat)> {
        let (file, stat) = self.confirm_known(node, self.open_regular(node))?;
        if self.watch.is_some() {
            self.confirm(node, &stat)?;
        }
        Ok((file, stat))
    }

    fn open_regular(&self, node: NodeId) -> Result<(File, Stat)> {
        let (dir, name) = self.place(node)?;
        // nonblock: the name may have become a fifo behind our back
        let flags = OpenFlags { nonblock: true, noatime: true, ..OpenFlags::READ };
        let file = dir.open_file(&name, flags, 0).layer(self.at(), "open a file")?;
        let stat = file.stat().layer(self.at(), "look at a file")?;
        if stat.file_type() != FileType::File {
            return Err(Error::Stale);
        }
        Ok((file, stat))
    }

    /// Makes sure that what was opened is the node's file, and not another one that somebody put
    /// in its place.
    fn confirm(&self, node: NodeId, s: &Stat) -> Result<()> {
        let same = || s.dev != self.dev || self.devices.ino(s.dev, s.ino) == self.ino(node);
        if self.odd_numbers.load(Ordering::Relaxed) || same() {
            return Ok(());
        }
        let (dir, name) = self.place(node)?;
        let listed = dir.list().layer(self.at(), "list a directory")?;
        let listed = listed.iter().find(|e| e.name == name).ok_or(Error::Replaced)?;
        if self.devices.ino(self.dev, listed.ino) != self.ino(node) {
            return Err(Error::Replaced);
        }
        self.odd_numbers.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the node's file is where it was, as far as the disk can tell now.
    pub(super) fn is_there(&self, node: NodeId) -> bool {
        let found = self
            .place(node)
            .and_then(|(dir, name)| dir.stat(&name).layer(self.at(), "look at a file"));
        match found {
            Ok(s) => {
                self.odd_numbers.load(Ordering::Relaxed)
                    || s.dev != self.dev
                    || self.devices.ino(s.dev, s.ino) == self.ino(node)
            }
            Err(e) => {
                !matches!(e, Error::Replaced) && !matches!(e.errno(), Errno::NOENT | Errno::NOTDIR)
            }
        }
    }

    /// Returns whether the node is a regular file whose data is in a layer below.
    pub(super) fn is_metacopy(&self, node: NodeId) -> Result<bool> {
        if self.kind(node) != Kind::File {
            return Ok(false);
        }
        let (parent, name) = self.living(node)?;
        let source = self.source(parent)?;
        let stat = source.stat(&name).layer(self.at(), "look at a file")?;
        if data_is_here(&stat) {
            return Ok(false);
        }
        self.sends_below(node, source.get_xattr(&name, self.dialect.metacopy()))
    }

    /// Returns whether a file with this metacopy attribute has its data in a layer below.
    fn sends_below(&self, node: NodeId, mark: sys::Result<Option<Vec<u8>>>) -> Result<bool> {
        match mark.layer(self.at(), "read the metacopy mark")? {
            Some(v) if v == INCOMPLETE => {
                let (_, name) = self.place(node)?;
                Err(Error::Incomplete { path: printable(&name), layer: self.at() })
            }
            mark => Ok(mark.is_some()),
        }
    }
}
