//! Attributes: from the index, a lower file or the upper, with what could not be set on disk.

use super::error::{Doing as _, Result};
use super::inode::{Backing, DirInode, FileInode, FileState, Object};
use super::listing::BASE;
use super::lower::{At, Meta};
use super::options::DirLinks;
use super::types::{Attr, Fh, Ino};
use super::{Error, Overlay};
use crate::marker::OverrideStat;
use crate::sys::{Dir, Errno, FileType, Node, Stat};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Overlay {
    /// Returns a file's attributes; with a handle, of the file that it has open.
    ///
    /// # Errors
    /// `ESTALE` for a number that stands for nothing.
    pub fn getattr(&self, ino: Ino, fh: Option<Fh>) -> Result<Attr> {
        let handle = fh.and_then(|fh| self.handles.get(fh));
        if handle.is_none()
            && self.watch.is_some()
            && let Some(Object::Dir(d)) = self.inodes.get(ino)
        {
            self.freshen(&d);
        }
        let attr = match handle.as_ref().and_then(|h| h.inode()) {
            Some(f) => self.file_attr(f)?,
            None => match self.seen(ino)? {
                // an object knows what to do when its layer has changed
                rests @ Object::Pure(..) => {
                    self.attr_of(&rests).or_else(|_| self.attr_of(&self.object(ino)?))?
                }
                object => self.attr_of(&object)?,
            },
        };
        Ok(self.visible(attr))
    }

    /// Returns attributes as the mounter sees them.
    pub(super) fn visible(&self, mut attr: Attr) -> Attr {
        if let Some(known) = &self.options.known_ids {
            known.apply(&mut attr);
        }
        self.options.ids.show(&mut attr);
        if attr.kind == FileType::File
            && let Some(mtime) = self.held_times.get(attr.ino)
        {
            attr.mtime = mtime;
        }
        let one = self.options.dir_links == DirLinks::One;
        if one && attr.kind == FileType::Dir && attr.nlink > 1 {
            attr.nlink = 1;
        }
        attr
    }

    /// Returns an object's attributes.
    pub(super) fn attr_of(&self, object: &Object) -> Result<Attr> {
        match object {
            Object::Dir(d) => self.dir_attr(d),
            Object::File(f) => self.file_attr(f),
            Object::Pure(ino, at) => {
                let mut attr = lower_attr(*ino, &self.lower(*at)?.meta(at.node)?);
                attr.nlink = self.links_left(*at, attr.nlink, 0)?;
                Ok(attr)
            }
        }
    }

    fn dir_attr(&self, dir: &DirInode) -> Result<Attr> {
        let mut attr = if dir.in_upper() {
            let handle = self.upper_dir(dir)?;
            let stat = handle.stat_self().upper("look at a directory")?;
            self.shown(dir.ino, &stat, self.dir_override(dir, &handle)?)
        } else {
            let at = *dir.lowers().first().ok_or(Error::Stale)?;
            let meta = match self.take_meta(dir, at) {
                Some(meta) => meta,
                None => self.lower(at)?.meta(at.node)?,
            };
            lower_attr(dir.ino, &meta)
        };
        if dir.is_removed() {
            attr.nlink = 0;
        } else if dir.lowers().len() + usize::from(dir.in_upper()) > 1 {
            // as the kernel's overlayfs: the count of a merged directory is not known
            attr.nlink = match self.options.dir_links {
                DirLinks::Counted => self.count_links(dir)?,
                DirLinks::Kernel | DirLinks::One => 1,
            };
        }
        Ok(attr)
    }

    /// Returns the links that a directory of the view would have on an ordinary file system.
    fn count_links(&self, dir: &DirInode) -> Result<u32> {
        let listing = self.listing(dir)?;
        let (mut cookie, mut links) = (BASE, 2_u32);
        while let Some((found, next)) = listing.next_from(cookie) {
            cookie = next;
            links = links.saturating_add((found.kind() == FileType::Dir).into());
        }
        Ok(links)
    }

    pub(super) fn file_attr(&self, file: &FileInode) -> Result<Attr> {
        // most are a lower's, where nothing moves: no copy of the state is needed
        let lower = {
            let state = file.state.read();
            let removed = state.removed_names;
            state.lower().filter(|_| state.kept.is_none()).map(|at| (at, removed))
        };
        if let Some((at, removed)) = lower
            && let Ok(meta) = self.lower(at)?.meta(at.node)
        {
            let attr = lower_attr(file.ino, &meta);
            file.links_below.store(attr.nlink, Ordering::Relaxed);
            return Ok(Attr { nlink: self.links_left(at, attr.nlink, removed)?, ..attr });
        }
        self.settled(file, |state| self.file_attr_in(file, state))
    }

    /// Runs `f` with a file's state until it finds the file where the state says: a rename by
    /// another thread changes the disk first and the state then.
    fn settled<T>(&self, file: &FileInode, f: impl Fn(&FileState) -> Result<T>) -> Result<T> {
        let mut last = Error::Stale;
        for attempt in 0..super::MOVING {
            let state = file.state.read().clone();
            match f(&state) {
                Err(e) if e.errno() == Errno::NOENT || matches!(e, Error::Moved) => last = e,
                r => return r,
            }
            super::wait_for_mover(attempt);
        }
        Err(last)
    }

    fn file_attr_in(&self, file: &FileInode, state: &FileState) -> Result<Attr> {
        match state.backing {
            Backing::Lower(at) => {
                let meta = match &state.kept {
                    Some(kept) => Meta::from(&kept.stat().upper("look at a removed file")?),
                    None => self.lower(at)?.meta(at.node).map_err(|e| self.if_watched(e))?,
                };
                let mut attr = lower_attr(file.ino, &meta);
                attr.nlink = attr.nlink.saturating_sub(state.removed_names);
                Ok(attr)
            }
            Backing::Upper => self.upper_attr(file, state, &self.upper_stat(state)?),
        }
    }

    /// Returns the attributes to show for a file of which the upper says `stat`.
    fn upper_attr(&self, file: &FileInode, state: &FileState, stat: &Stat) -> Result<Attr> {
        let recorded = self.file_override(file, state, stat)?;
        let mut attr = self.shown(file.ino, stat, recorded);
        if let Some(lazy) = file.lazy.get() {
            // not that of a step of completing it
            attr.mtime = lazy.mtime().upper("look at a file")?;
        }
        let seen = if state.counted { i64::MIN } else { state.lower_names.len() as i64 };
        let links = i64::from(attr.nlink) + state.uncopied_names.max(seen);
        attr.nlink = u32::try_from(links.max(0)).unwrap_or(u32::MAX);
        Ok(attr)
    }

    /// Returns an object's attributes by means of a handle on the upper's copy of it.
    pub(super) fn attr_by(&self, object: &Object, node: &Node) -> Result<Attr> {
        match object {
            Object::File(file) => {
                let stat = node.stat().upper("look at a file")?;
                let state = file.state.read().clone();
                if stat.ino == state.real {
                    self.upper_attr(file, &state, &stat)
                } else {
                    self.file_attr(file)
                }
            }
            other => self.attr_of(other),
        }
    }

    /// A lower file that is not there was removed by somebody: there is nothing to wait for.
    fn if_watched(&self, e: Error) -> Error {
        if self.watch.is_some() && e.errno() == Errno::NOENT { Error::Replaced } else { e }
    }

    /// Returns the upper's attributes of a file.
    pub(super) fn upper_stat(&self, state: &FileState) -> Result<Stat> {
        if let Some(node) = &state.orphan {
            return node.stat().upper("look at a removed file");
        }
        let place = state.upper_names.first().ok_or(Error::Stale)?;
        let dir = self.upper_dir(&*self.dir(place.parent)?)?;
        let stat = dir.stat(&place.name).upper("look at a file")?;
        if stat.ino == state.real { Ok(stat) } else { Err(Error::Moved) }
    }

    /// Returns a handle on the upper's copy of a file.
    pub(super) fn upper_node(&self, file: &FileInode) -> Result<Arc<Node>> {
        self.upper_node_and_stat(file).map(|(node, _)| node)
    }

    /// Returns a handle on the upper's copy of a file, and its attributes on disk.
    pub(super) fn upper_node_and_stat(&self, file: &FileInode) -> Result<(Arc<Node>, Stat)> {
        self.settled(file, |state| {
            if let Some(node) = &state.orphan {
                let stat = node.stat().upper("look at a removed file")?;
                return Ok((node.clone(), stat));
            }
            let place = state.upper_names.first().ok_or(Error::Stale)?;
            let dir = self.upper_dir(&*self.dir(place.parent)?)?;
            let node = dir.node(&place.name).upper("open a file")?;
            // never another file: the caller may be about to write
            let stat = node.stat().upper("look at a file")?;
            if stat.ino == state.real { Ok((Arc::new(node), stat)) } else { Err(Error::Moved) }
        })
    }

    /// Returns what is recorded about a file of the upper that its file system cannot hold.
    pub(super) fn file_override(
        &self,
        file: &FileInode,
        state: &FileState,
        stat: &Stat,
    ) -> Result<Option<OverrideStat>> {
        if !self.options.owner_view || stat.file_type() != FileType::File {
            return Ok(None);
        }
        if let Some(known) = state.overridden {
            return Ok(known);
        }
        let value = self.upper_node(file)?.get_xattr(self.options.records.stat_key());
        let found =
            value.upper("read the recorded attributes")?.and_then(|v| OverrideStat::parse(&v));
        file.state.write().overridden = Some(found);
        Ok(found)
    }

    pub(super) fn dir_override(
        &self,
        dir: &DirInode,
        handle: &Dir,
    ) -> Result<Option<OverrideStat>> {
        if !self.options.owner_view {
            return Ok(None);
        }
        if let Some(known) = *dir.overridden.read() {
            return Ok(known);
        }
        let node = handle.as_node().upper("open a directory")?;
        let value = node
            .get_xattr(self.options.records.stat_key())
            .upper("read the recorded attributes")?;
        let found = value.and_then(|v| OverrideStat::parse(&v));
        *dir.overridden.write() = Some(found);
        Ok(found)
    }

    /// Returns the attributes to show for a file of the upper.
    pub(super) fn shown(&self, ino: Ino, stat: &Stat, recorded: Option<OverrideStat>) -> Attr {
        let mut attr = Attr {
            ino,
            kind: stat.file_type(),
            mode: stat.permissions(),
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            size: stat.size,
            blocks: stat.blocks,
            blksize: stat.blksize,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        };
        if let Some(o) = recorded {
            (attr.uid, attr.gid, attr.mode) = (o.uid, o.gid, o.mode);
            if let Some(kind) = o.kind {
                attr.kind = kind;
                attr.rdev = o.rdev;
                // a stand-in's content is the target, or nothing
                if !matches!(kind, FileType::File | FileType::Dir | FileType::Symlink) {
                    (attr.size, attr.blocks) = (0, 0);
                }
            }
        }
        attr
    }

    /// Returns the kind of a lower node.
    pub(super) fn lower_kind(&self, at: At) -> Result<FileType> {
        self.lower(at)?.kind(at.node).file_type().ok_or(Error::Stale)
    }
}

/// Returns the attributes to show for a lower file, but for names of it that went.
pub(super) fn lower_attr(ino: Ino, m: &Meta) -> Attr {
    Attr {
        ino,
        kind: m.kind,
        mode: m.mode,
        nlink: m.nlink,
        uid: m.uid,
        gid: m.gid,
        rdev: m.rdev,
        size: m.size,
        blocks: m.blocks,
        blksize: m.blksize,
        atime: m.atime,
        mtime: m.mtime,
        ctime: m.ctime,
    }
}
