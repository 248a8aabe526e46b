//! What the entries of a layer tar mean: one pass, in stream order, into a [`Builder`] and, when
//! there is one, onto the disk.
//!
//! Markers affect the layers below only, wherever they stand. They are collected here and come to
//! the disk when the layers below are known. A name's opaque mark says "hides what is below": it
//! is set by a whiteout beside a directory, by an opaque marker, and when something that is no
//! directory had the name before.

use super::disk::Disk;
use super::error::{Limits, Refusal, UnpackError};
use super::feed::Feed;
use super::header::{Entry, Keep, Type, Walker};
use super::lower_link::LowerLink;
use super::place::Place;
use super::split::Replaced;
use super::xattr;
use crate::index::{Builder, EntryId, Kind, Meta};
use crate::marker::OciMarker;
use crate::name::Name;
use crate::sys::Time;
use std::collections::{HashMap, HashSet};

/// A layer's tree while its tar goes by.
pub(super) struct Tree<'l> {
    pub(super) b: Builder,
    pub(super) disk: Option<Disk>,
    limits: &'l Limits,
    /// Directories known from markers alone. They are not on disk.
    pub(super) ghosts: HashSet<EntryId>,
    /// AUFS' pseudo links: files that only hard links show.
    hidden: HashMap<Vec<u8>, (EntryId, Vec<u8>)>,
    /// Files that hard links bring from the layers below; empty until those are known.
    pub(super) lower_links: Vec<LowerLink>,
    /// What later entries of the same name replaced.
    pub(super) replaced: Vec<Replaced>,
    /// Whether a name came twice.
    pub(super) duplicates: bool,
    position: u64,
    last_mtime: Time,
}

impl<'l> Tree<'l> {
    pub(super) fn new(disk: Option<Disk>, limits: &'l Limits) -> Tree<'l> {
        Tree {
            b: Builder::new(),
            disk,
            limits,
            ghosts: HashSet::new(),
            hidden: HashMap::new(),
            lower_links: Vec::new(),
            replaced: Vec::new(),
            duplicates: false,
            position: 0,
            last_mtime: Time::default(),
        }
    }

    /// Takes in all entries.
    pub(super) fn read<F: Feed>(&mut self, tar: &mut Walker<'_, F>) -> Result<(), UnpackError> {
        while let Some(e) = tar.next()? {
            self.entry(tar, &e)?;
            if self.b.added() as u64 > self.limits.entries {
                let what = "entries";
                return Err(UnpackError::Limit { what, limit: self.limits.entries });
            }
        }
        let root = self.b.meta(EntryId::ROOT);
        if root.implied {
            self.b.set(EntryId::ROOT, &Meta { mtime: self.last_mtime, ..root });
        }
        Ok(())
    }

    fn entry<F: Feed>(&mut self, tar: &mut Walker<'_, F>, e: &Entry) -> Result<(), UnpackError> {
        self.position = tar.split.as_ref().map_or(0, |s| s.position);
        self.last_mtime = e.mtime;
        match Place::of(&e.name, self.limits).map_err(|r| r.of(&e.name))? {
            Place::Root => {
                if e.r#type != Type::Node(Kind::Dir) {
                    return Err(Refusal::Root.of(&e.name));
                }
                let opaque = self.b.meta(EntryId::ROOT).opaque;
                self.b.set(EntryId::ROOT, &Meta { opaque, ..meta(e, Kind::Dir) });
                self.b.set_xattrs(EntryId::ROOT, kept_xattrs(e), None)?;
                place_of(tar, e)
            }
            Place::Marker(parents, marker) => {
                self.marker(&parents, marker)?;
                if e.data > 0 {
                    return tar.data(e, Keep::Raw, |_, _| Ok(()));
                }
                place_of(tar, e)
            }
            Place::Hidden(path) => self.hide(tar, e, path),
            Place::At(parents, name) => {
                let parent = self.parents(&parents, e.mtime)?;
                match e.r#type {
                    Type::Link => {
                        self.link(parent, name.bytes(), e)?;
                        place_of(tar, e)
                    }
                    Type::Node(Kind::File) => self.file(tar, parent, name.bytes(), e),
                    Type::Node(kind) => {
                        self.node(parent, name.bytes(), e, kind)?;
                        if e.data > 0 {
                            return tar.data(e, Keep::Raw, |_, _| Ok(()));
                        }
                        place_of(tar, e)
                    }
                }
            }
        }
    }

    /// Returns the directory at a path of this layer, made if it is missing. Something else that
    /// this layer put there gives way, as it would if the entry stood in a layer of its own.
    fn parents(&mut self, path: &[Name<'_>], mtime: Time) -> Result<EntryId, UnpackError> {
        let mut at = EntryId::ROOT;
        for name in path {
            let name = name.bytes();
            at = match self.b.child(at, name) {
                Some(id) if self.b.meta(id).kind == Kind::Dir => {
                    self.solidify(at, name, id)?;
                    id
                }
                old => {
                    if let Some(id) = old {
                        self.give_way(at, name, id)?;
                    }
                    let m = Meta { mtime, opaque: old.is_some(), ..Meta::implied() };
                    if let Some(d) = &mut self.disk {
                        d.mkdir(&self.b, at, name)?;
                    }
                    self.b.add(at, name, &m)?
                }
            };
        }
        Ok(at)
    }

    /// Brings a directory that only markers named so far to the disk.
    fn solidify(&mut self, at: EntryId, name: &[u8], id: EntryId) -> Result<(), UnpackError> {
        if !self.ghosts.is_empty()
            && self.ghosts.remove(&id)
            && let Some(d) = &mut self.disk
        {
            d.mkdir(&self.b, at, name)?;
        }
        Ok(())
    }

    /// Takes what this layer put under a name off the disk.
    fn give_way(&mut self, at: EntryId, name: &[u8], id: EntryId) -> Result<(), UnpackError> {
        if self.b.meta(id).kind == Kind::Whiteout || self.ghosts.remove(&id) {
            return Ok(());
        }
        self.duplicates = true;
        if let Some(d) = &mut self.disk {
            let path = [&self.b.path(at)[..], b"/", name].concat();
            let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
            let stashed = d.put_away(&self.b, at, name)?;
            self.replaced.push(Replaced { path, stashed, position: self.position });
        }
        Ok(())
    }

    /// Prepares a name for something that is no directory. Returns whether the name hides what is
    /// below already.
    fn clear(&mut self, parent: EntryId, name: &[u8]) -> Result<bool, UnpackError> {
        let Some(old) = self.b.child(parent, name) else { return Ok(false) };
        let was = self.b.meta(old);
        self.give_way(parent, name, old)?;
        Ok(was.opaque || was.kind != Kind::Dir)
    }

    fn file<F: Feed>(
        &mut self,
        tar: &mut Walker<'_, F>,
        parent: EntryId,
        name: &[u8],
        e: &Entry,
    ) -> Result<(), UnpackError> {
        let opaque = self.clear(parent, name)?;
        let m = Meta { opaque, ..meta(e, Kind::File) };
        let xattrs = kept_xattrs(e);
        match &mut self.disk {
            None => tar.data(e, Keep::InFile, |_, _| Ok(()))?,
            Some(disk) => {
                let file = disk.create(&self.b, parent, name, &m)?;
                let fail = |errno| UnpackError::Disk { name: e.name.clone(), errno };
                let mut end = 0;
                tar.data(e, Keep::InFile, |offset, piece| {
                    end = offset + piece.len() as u64;
                    file.write_all_at(piece, offset).map_err(fail)
                })?;
                if end < e.size() {
                    file.truncate(e.size()).map_err(fail)?;
                }
                disk.finish_file(&file, &m, &xattrs).map_err(fail)?;
            }
        }
        let id = self.b.add(parent, name, &m)?;
        if xattrs.is_empty() { Ok(()) } else { Ok(self.b.set_xattrs(id, xattrs, None)?) }
    }

    fn node(
        &mut self,
        parent: EntryId,
        name: &[u8],
        e: &Entry,
        kind: Kind,
    ) -> Result<(), UnpackError> {
        let mut m = meta(e, kind);
        let xattrs = kept_xattrs(e);
        let old = self.b.child(parent, name);
        let old_dir = old.filter(|o| self.b.meta(*o).kind == Kind::Dir);
        if let (Kind::Dir, Some(dir)) = (kind, old_dir) {
            let was = self.b.meta(dir);
            self.duplicates |= !was.implied;
            self.solidify(parent, name, dir)?;
            m.opaque = was.opaque;
        } else {
            m.opaque = self.clear(parent, name)?;
            if let Some(disk) = &mut self.disk {
                match kind {
                    Kind::Dir => disk.mkdir(&self.b, parent, name)?,
                    Kind::Symlink => disk.symlink(&self.b, parent, name, &e.link, &m, &xattrs)?,
                    _ => disk.special(&self.b, parent, name, &m, &xattrs)?,
                }
            }
        }
        let id = self.b.add(parent, name, &m)?;
        if kind == Kind::Symlink {
            self.b.set_target(id, &e.link)?;
        }
        Ok(self.b.set_xattrs(id, xattrs, None)?)
    }

    fn link(&mut self, parent: EntryId, name: &[u8], e: &Entry) -> Result<(), UnpackError> {
        let refuse = |r: Refusal| r.of(&e.name);
        let target = match Place::of(&e.link, self.limits).map_err(refuse)? {
            Place::Hidden(path) => match self.hidden.get(&path).cloned() {
                Some((id, stashed)) => {
                    let opaque = self.clear(parent, name)?;
                    if let Some(d) = &mut self.disk {
                        d.link(&self.b, (None, &stashed), parent, name)?;
                    }
                    return self.add_link(parent, name, id, opaque);
                }
                None => None,
            },
            Place::At(parents, last) => parents
                .iter()
                .chain([&last])
                .try_fold(EntryId::ROOT, |at, p| self.b.child(at, p.bytes())),
            Place::Root => Some(EntryId::ROOT),
            Place::Marker(..) => None,
        };
        let target = target.filter(|t| self.b.meta(*t).kind != Kind::Whiteout);
        let Some(target) = target else { return self.link_below(parent, name, e) };
        if self.b.meta(target).kind == Kind::Dir {
            return Err(refuse(Refusal::LinkToDir(e.link.clone())));
        }
        let old = self.b.child(parent, name);
        if old == Some(target) {
            return Ok(());
        }
        let (from, last) = (self.b.parent(target), self.b.name(target).to_vec());
        if old.is_none() {
            if let Some(d) = &mut self.disk {
                d.link(&self.b, (Some(from), &last), parent, name)?;
            }
            return self.add_link(parent, name, target, false);
        }
        // the target may lie below what gives way: it is held by the stash meanwhile
        let held = match &mut self.disk {
            Some(d) => Some(d.link_to_stash(&self.b, from, &last)?),
            None => None,
        };
        let opaque = self.clear(parent, name)?;
        if let (Some(d), Some(held)) = (&mut self.disk, held) {
            d.link(&self.b, (None, &held), parent, name)?;
        }
        self.add_link(parent, name, target, opaque)
    }

    /// Makes an empty file for a link whose target this layer does not hold: one below may.
    fn link_below(&mut self, parent: EntryId, name: &[u8], e: &Entry) -> Result<(), UnpackError> {
        let opaque = self.clear(parent, name)?;
        let m = Meta { opaque, ..Meta::new(Kind::File) };
        if let Some(disk) = &mut self.disk {
            disk.create(&self.b, parent, name, &Meta { mode: 0o600, ..m })?;
        }
        let entry = self.b.add(parent, name, &m)?;
        let (name, target) = (e.name.clone(), e.link.clone());
        self.lower_links.push(LowerLink { entry, name, target });
        Ok(())
    }

    fn add_link(
        &mut self,
        parent: EntryId,
        name: &[u8],
        target: EntryId,
        opaque: bool,
    ) -> Result<(), UnpackError> {
        let id = self.b.add_link(parent, name, target)?;
        self.b.set_opaque(id, opaque);
        Ok(())
    }

    fn marker(&mut self, parents: &[Name<'_>], marker: OciMarker<'_>) -> Result<(), UnpackError> {
        let mut at = EntryId::ROOT;
        for name in parents {
            at = match self.b.child(at, name.bytes()) {
                Some(id) if self.b.meta(id).kind == Kind::Dir => id,
                // what is no directory here hides all below it
                Some(_) => return Ok(()),
                None => {
                    let id = self.b.add(at, name.bytes(), &Meta::implied())?;
                    self.ghosts.insert(id);
                    id
                }
            };
        }
        match marker {
            OciMarker::AufsMeta => {}
            OciMarker::Opaque => {
                self.duplicates |= self.b.meta(at).opaque;
                self.b.set_opaque(at, true);
            }
            OciMarker::Whiteout(name) => match self.b.child(at, name.bytes()) {
                Some(id) if self.b.meta(id).kind == Kind::Whiteout => self.duplicates = true,
                Some(id) if !self.ghosts.contains(&id) => self.b.set_opaque(id, true),
                // only markers below it: they mean nothing any more
                _ => {
                    self.b.add(at, name.bytes(), &Meta::new(Kind::Whiteout))?;
                }
            },
        }
        Ok(())
    }

    /// Takes in a file of AUFS' that no path shows.
    fn hide<F: Feed>(
        &mut self,
        tar: &mut Walker<'_, F>,
        e: &Entry,
        path: Vec<u8>,
    ) -> Result<(), UnpackError> {
        if e.r#type != Type::Node(Kind::File) {
            if e.data > 0 {
                return tar.data(e, Keep::Raw, |_, _| Ok(()));
            }
            return place_of(tar, e);
        }
        let m = meta(e, Kind::File);
        let xattrs = kept_xattrs(e);
        let mut stashed = Vec::new();
        match &mut self.disk {
            None => tar.data(e, Keep::Raw, |_, _| Ok(()))?,
            Some(disk) => {
                let (name, file) = disk.stash_file(&m)?;
                stashed = name;
                let fail = |errno| UnpackError::Disk { name: e.name.clone(), errno };
                tar.data(e, Keep::Raw, |offset, piece| {
                    file.write_all_at(piece, offset).map_err(fail)
                })?;
                file.truncate(e.size()).map_err(fail)?;
                disk.finish_file(&file, &m, &xattrs).map_err(fail)?;
            }
        }
        let name = format!(".wh..wh.hidden-{}", self.hidden.len());
        let id = self.b.add(EntryId::ROOT, name.as_bytes(), &m)?;
        self.b.set_xattrs(id, xattrs, None)?;
        self.b.remove(id);
        self.hidden.insert(path, (id, stashed));
        Ok(())
    }
}

/// Records the place of an entry that has no content.
fn place_of<F: Feed>(tar: &mut Walker<'_, F>, e: &Entry) -> Result<(), UnpackError> {
    match &mut tar.split {
        Some(split) => split.file(&e.name, 0, 0),
        None => Ok(()),
    }
}

fn kept_xattrs(e: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    e.xattrs.iter().filter(|(name, _)| xattr::kept(name)).cloned().collect()
}

/// The attributes that the index will hold. Blocks are counted in pages of 4096 bytes rather than
/// asked of the file system, so that the tar alone gives the same index again.
fn meta(e: &Entry, kind: Kind) -> Meta {
    let is_file = kind == Kind::File;
    Meta {
        mode: if kind == Kind::Symlink { 0o777 } else { e.mode },
        uid: e.uid,
        gid: e.gid,
        size: if is_file { e.size() } else { 0 },
        blocks: match &e.sparse {
            Some(s) if is_file => s.blocks(),
            _ if is_file => e.data.div_ceil(4096) * 8,
            _ => 0,
        },
        rdev: e.rdev,
        mtime: e.mtime,
        ..Meta::new(kind)
    }
}
