//! Finding names: which layers a directory is merged from, and what is visible in it.

use super::error::{Doing as _, Error, Result};
use super::inode::{Backing, DirInode, FileInode, Object, Place};
use super::listing::{Base, Below, Found, Listing, OwnEntry};
use super::lower::At;
use super::types::{Attr, Ino};
use super::wh_names::marks_opaque;
use super::{Overlay, ino};
use crate::id::LayerIndex;
use crate::index::NodeId;
use crate::marker::{OverrideStat, Redirect};
use crate::name::{Name, printable};
use crate::resolve::{LayerRef, Merge, Probe, Role};
use crate::sys::{Dir, DirEntry, Errno, FileType};
use parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLockReadGuard, RwLockWriteGuard,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a chain of redirects may be before it counts as a loop.
const REDIRECTS: usize = 64;

/// What one layer holds at a path.
enum Walked {
    Found {
        at: At,
        /// A directory on the way is opaque: the layers below are hidden.
        ends: bool,
    },
    Absent,
    /// Nothing, and the layers below are hidden.
    Ended,
}

/// Where the layers below are asked next.
enum Look {
    /// For a name in these directories, top first.
    Name(Vec<At>, Box<[u8]>),
    /// For a path from their roots.
    Path(Vec<Box<[u8]>>),
}

impl Overlay {
    /// Finds `name` in `parent` and counts one lookup of the result.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, or what a layer's file system says.
    pub fn lookup(&self, parent: Ino, name: Name<'_>) -> Result<Attr> {
        let dir = self.dir(parent)?;
        self.freshen(&dir);
        match self.lookup_in(&dir, name) {
            // somebody has changed a lower, and we have not taken it in
            Err(Error::Replaced | Error::Layer { errno: Errno::NOENT | Errno::NOTDIR, .. })
                if self.watch.is_some() =>
            {
                self.catch_up();
                self.lookup_in(&self.dir(parent)?, name)
            }
            done => done,
        }
    }

    fn lookup_in(&self, dir: &Arc<DirInode>, name: Name<'_>) -> Result<Attr> {
        let object = self.find(dir, name.bytes())?;
        if let Object::Dir(d) = &object {
            self.freshen(d);
        }
        // an object that nobody is told of must not stay: its number may come to another file
        let attr = self.attr_of(&object).inspect_err(|_| self.forget(object.ino(), 0))?;
        self.inodes.count(&object);
        Ok(self.visible(attr))
    }

    /// Returns the object visible under `name`.
    pub(super) fn find(&self, dir: &Arc<DirInode>, name: &[u8]) -> Result<Object> {
        let found = self.listing(dir)?.find(&self.lowers, name).ok_or(Error::NotFound)?;
        self.object_of(dir, name, found)
    }

    /// Returns the object of an entry that a listing holds.
    pub(super) fn object_of(
        &self,
        dir: &Arc<DirInode>,
        name: &[u8],
        found: Found,
    ) -> Result<Object> {
        let place = || Place { parent: dir.ino, name: name.into() };
        let then = self.watch.as_ref().map(|w| w.now());
        let made = |d: Arc<DirInode>| {
            if let (Some(watch), Some(then)) = (&self.watch, then) {
                watch.made(d.ino, then);
            }
            Object::Dir(d)
        };
        match found {
            Found::Own(e) if e.kind == FileType::Dir => {
                let parts = self.parts_below(dir, name, &e.below)?;
                self.dir_object(place(), parts, Some((e.ino, e.real))).map(made)
            }
            Found::Own(e) => self.upper_file(&e, place()).map(Object::File),
            Found::Base(e) if e.kind == FileType::Dir => {
                let parts = self.gather(Look::Name(dir.lowers().to_vec(), name.into()))?;
                self.dir_object(place(), parts, None).map(made)
            }
            Found::Base(e) => self.lower_file(e.at, place()),
        }
    }

    /// Returns the lower directories below a directory of the upper.
    fn parts_below(&self, dir: &DirInode, name: &[u8], below: &Below) -> Result<Vec<At>> {
        match below {
            Below::Nothing => Ok(Vec::new()),
            Below::SameName => self.gather(Look::Name(dir.lowers().to_vec(), name.into())),
            Below::Redirected(r) => self.gather(look_at(&dir.lowers(), r)),
        }
    }

    /// Returns which lower directories are merged at a place now; `None`: it shows no directory.
    pub(super) fn parts_at(&self, place: &Place) -> Result<Option<Vec<At>>> {
        let Ok(dir) = self.living_dir(place.parent) else { return Ok(None) };
        let found = self.listing(&dir)?.find(&self.lowers, &place.name);
        Ok(match found {
            Some(Found::Own(e)) if e.kind == FileType::Dir => {
                Some(self.parts_below(&dir, &place.name, &e.below)?)
            }
            Some(Found::Base(e)) if e.kind == FileType::Dir => {
                Some(self.gather(Look::Name(dir.lowers().to_vec(), place.name[..].into()))?)
            }
            _ => None,
        })
    }

    /// Returns the object of a file that a lower layer shows at `place`.
    fn lower_file(&self, at: At, place: Place) -> Result<Object> {
        let first = self.lower(at)?.ino(at.node);
        if ino::decode(first).is_some() {
            return match self.inodes.get(first) {
                None => Ok(Object::Pure(first, at)),
                Some(Object::File(file)) => {
                    file.state.write().add_lower_name(place);
                    Ok(Object::File(file))
                }
                Some(_) => Err(Error::Stale),
            };
        }
        // a plain layer's hard links are not known before they are looked up: when the copy has
        // lost its names meanwhile, this name cannot become one of it
        let other = ino::hashed(&[&place.parent.0.to_le_bytes()[..], &place.name, b"/"].concat());
        let copy = match self.indexed_copy(at)? {
            Some((node, stat)) => {
                let links = self.names_beside(&node)?;
                Some((Arc::new(node), stat, links))
            }
            None => None,
        };
        for number in [first, other] {
            let make = || FileInode::lower(number, at);
            let Some(file) = self.inodes.file_or_insert(number, make) else { continue };
            if self.watch.is_some() {
                self.found_again(&file, at);
            }
            let mut state = file.state.write();
            match &copy {
                Some((node, stat, links)) if state.lower().is_some() => {
                    state.backing = Backing::Upper;
                    state.real = stat.ino;
                    state.orphan = Some(node.clone());
                    state.count_names(*links);
                }
                Some((_, stat, _)) if state.real == stat.ino => {}
                None if state.orphan.is_none() => {}
                _ => continue,
            }
            state.add_lower_name(place);
            drop(state);
            return Ok(Object::File(file));
        }
        Err(Error::Stale)
    }

    /// Returns the object of a file that the upper holds at `place`.
    fn upper_file(&self, e: &OwnEntry, place: Place) -> Result<Arc<FileInode>> {
        let upper = self.writable()?;
        let real = self.devices.ino(upper.dev, e.real);
        let others = self.names_left_below(e.ino)?;
        // what was copied up may have names that the upper does not hold
        let beside = if e.ino != real && !self.is_upper_file(e.ino) {
            let parent = self.upper_dir(&*self.dir(place.parent)?)?;
            self.names_beside(&parent.node(&place.name).upper("open a file")?)?
        } else {
            None
        };
        for number in [e.ino, real] {
            let make = || FileInode::upper(number, e.real);
            let Some(file) = self.inodes.file_or_insert(number, make) else { continue };
            let mut state = file.state.write();
            let fresh = state.lower().is_some() || !state.counted && state.uncopied_names == 0;
            if state.lower().is_some() {
                // another name of the lower file was seen first: it follows this copy
                state.backing = Backing::Upper;
                state.real = e.real;
            }
            if state.real == e.real {
                if fresh {
                    state.count_names(beside);
                }
                others.into_iter().for_each(|p| state.add_lower_name(p));
                state.add_upper_name(place);
                drop(state);
                return Ok(file);
            }
        }
        Err(Error::Stale)
    }

    /// Returns the names of a copied-up file that only its layer holds, because a copy-up did not
    /// come to them.
    fn names_left_below(&self, number: Ino) -> Result<Vec<Place>> {
        let Some((layer, node)) = ino::decode(number) else { return Ok(Vec::new()) };
        let at = At { layer, node };
        if self.lower(at)?.links(node)?.len() < 2 {
            return Ok(Vec::new());
        }
        self.names_of(number, at)
    }

    /// Returns the directory at `place`, merged from `parts`; `upper`: its number, and that in the
    /// upper's file system.
    fn dir_object(
        &self,
        place: Place,
        parts: Vec<At>,
        upper: Option<(Ino, u64)>,
    ) -> Result<Arc<DirInode>> {
        let first = match (parts.first(), upper) {
            (Some(at), _) => self.lower(*at)?.ino(at.node),
            (None, Some((ino, _))) => ino,
            (None, None) => return Err(Error::NotFound),
        };
        if self.watch.is_some()
            && let Some(dir) = self.known_dir(&place, &parts, upper.map(|(ino, _)| ino))
        {
            return Ok(dir);
        }
        // two directories may claim one number when redirects lead to the same place
        let other = ino::hashed(&[&place.parent.0.to_le_bytes()[..], &place.name].concat());
        for number in [first, other] {
            let make = || {
                let dir = DirInode::new(number, place.clone(), parts.clone(), upper.is_some());
                dir.real.store(upper.map_or(0, |(_, real)| real), Ordering::Release);
                dir
            };
            if let Some(dir) = self.inodes.dir_or_insert(number, make)
                && *dir.place.read() == place
            {
                let mut part_of = self.part_of.write();
                for at in dir.lowers().iter() {
                    part_of.entry(*at).or_insert(dir.ino);
                }
                return Ok(dir);
            }
        }
        Err(Error::Stale)
    }

    /// Returns the directory at `place` if it is an object already. Its topmost part may be
    /// another one than when it became one.
    fn known_dir(&self, place: &Place, parts: &[At], upper: Option<Ino>) -> Option<Arc<DirInode>> {
        let by_part = {
            let part_of = self.part_of.read();
            parts.iter().find_map(|at| part_of.get(at).copied())
        };
        upper.into_iter().chain(by_part).find_map(|ino| match self.inodes.get(ino) {
            Some(Object::Dir(d)) if !d.is_removed() && d.is_at(place) => Some(d),
            _ => None,
        })
    }

    /// Returns the root directories of the lowers that are seen at the root, top first.
    pub(super) fn root_parts(&self) -> Result<Vec<At>> {
        let mut merge = Merge::default();
        let mut out = Vec::new();
        for layer in self.merged_layers() {
            let at = At { layer, node: NodeId::ROOT };
            // the root's opaque mark means nothing to the kernel's overlayfs
            let probe = Probe::Dir { opaque: false };
            if matches!(merge.feed(LayerRef::Lower(layer), probe), Role::Provides | Role::Merged) {
                out.push(at);
            }
        }
        Ok(out)
    }

    /// Returns the layers whose names are seen, top first.
    fn merged_layers(&self) -> impl Iterator<Item = LayerIndex> {
        (self.data_only..self.lowers.len() as u32).rev().map(LayerIndex)
    }

    /// Returns the lower directories that are merged under a name or path, top first.
    fn gather(&self, mut look: Look) -> Result<Vec<At>> {
        let mut merge = Merge::default();
        let mut out = Vec::new();
        let mut redirects = 0;
        let mut below = self.lowers.len() as u32;
        while let Some((at, rest)) = self.next_candidate(&look, below)? {
            below = rest;
            let layer = self.lower(at)?;
            let role = merge.feed(LayerRef::Lower(at.layer), layer.probe(at.node)?);
            if !matches!(role, Role::Provides | Role::Merged)
                || layer.kind(at.node).file_type() != Some(FileType::Dir)
            {
                break;
            }
            // as in the kernel: changing what lies there would change a lower
            if self.traps.contains(&layer.ino(at.node)) {
                return Err(Error::Loop);
            }
            out.push(at);
            if merge.cut().is_some() {
                break;
            }
            if self.options.follow_redirects
                && let Some(r) = layer.redirect(at.node)?
            {
                redirects += 1;
                if redirects > REDIRECTS {
                    return Err(Error::Invalid);
                }
                let parents = match look {
                    Look::Name(parents, _) => parents,
                    Look::Path(path) => self.parents_of(&path),
                };
                look = look_at(&parents, &r);
            }
        }
        Ok(out)
    }

    /// Returns the topmost layer under number `below` that holds what is looked for, whatever it
    /// is, with its own number: the next search goes on below it.
    fn next_candidate(&self, look: &Look, below: u32) -> Result<Option<(At, u32)>> {
        match look {
            Look::Name(parents, name) => {
                for p in parents.iter().filter(|p| p.layer.0 < below) {
                    if let Some(node) = self.lower(*p)?.child(p.node, name)? {
                        return Ok(Some((At { layer: p.layer, node }, p.layer.0)));
                    }
                }
            }
            Look::Path(path) => return self.walk_down(path, below, self.data_only),
        }
        Ok(None)
    }

    /// Returns the topmost layer under number `below` and not under `last` that holds a path from
    /// its root, and the number under which the search goes on.
    pub(super) fn walk_down(
        &self,
        path: &[Box<[u8]>],
        below: u32,
        last: u32,
    ) -> Result<Option<(At, u32)>> {
        for layer in (last..below).rev().map(LayerIndex) {
            match self.walk(layer, path)? {
                Walked::Found { at, ends } => {
                    return Ok(Some((at, if ends { 0 } else { layer.0 })));
                }
                Walked::Absent => {}
                Walked::Ended => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Looks for a path in one layer. As in the kernel's `ovl_lookup_layer`, whatever ends a merge
    /// on the way ends the search in the layers below too.
    fn walk(&self, layer: LayerIndex, path: &[Box<[u8]>]) -> Result<Walked> {
        let mut at = At { layer, node: NodeId::ROOT };
        let mut ends = false;
        for (i, part) in path.iter().enumerate() {
            let lower = self.lower(at)?;
            if i > 0 {
                match lower.probe(at.node)? {
                    Probe::Dir { opaque } => ends |= opaque,
                    Probe::Absent | Probe::Whiteout | Probe::Leaf => return Ok(Walked::Ended),
                }
            }
            match lower.child(at.node, part)? {
                Some(node) => at.node = node,
                None if ends => return Ok(Walked::Ended),
                None => return Ok(Walked::Absent),
            }
        }
        Ok(Walked::Found { at, ends })
    }

    /// Returns the directories that hold the last component of a path, one for each layer.
    pub(super) fn parents_of(&self, path: &[Box<[u8]>]) -> Vec<At> {
        let dir = path.split_last().map_or(&[][..], |(_, d)| d);
        let mut out = Vec::new();
        let mut below = self.lowers.len() as u32;
        while let Ok(Some((at, rest))) = self.walk_down(dir, below, self.data_only) {
            out.push(at);
            below = rest;
        }
        out
    }

    /// Returns the directory's listing, reading it if that was not done yet.
    pub(super) fn listing<'a>(
        &self,
        dir: &'a DirInode,
    ) -> Result<MappedRwLockReadGuard<'a, Listing>> {
        loop {
            if let Ok(g) = RwLockReadGuard::try_map(dir.listing.read(), Option::as_ref) {
                return Ok(g);
            }
            self.load(&mut dir.listing.write(), dir)?;
        }
    }

    /// Returns the directory's listing for a change.
    pub(super) fn listing_mut<'a>(
        &self,
        dir: &'a DirInode,
    ) -> Result<MappedRwLockWriteGuard<'a, Listing>> {
        let mut guard = dir.listing.write();
        self.load(&mut guard, dir)?;
        RwLockWriteGuard::try_map(guard, Option::as_mut).map_err(|_| Error::Stale)
    }

    fn load(&self, slot: &mut Option<Listing>, dir: &DirInode) -> Result<()> {
        if slot.is_some() {
            return Ok(());
        }
        if dir.is_removed() {
            *slot = Some(Listing::new(Base::default()));
            return Ok(());
        }
        let mut listing = Listing::new(Base::merge(&self.lowers, &dir.lowers())?);
        if dir.in_upper() {
            let handle = self.upper_dir(dir)?;
            let node = handle.as_node().upper("open a directory of the upper")?;
            let mark = |key| node.get_xattr(key).upper("read a directory's marks");
            let marks = Marks {
                impure: mark(self.dialect.impure())?.is_some(),
                xattr_whiteouts: self.writable()?.whiteout_files
                    || mark(self.dialect.opaque())?.as_deref() == Some(b"x"),
            };
            dir.impure.store(marks.impure, Ordering::Relaxed);
            let entries = handle.list().upper("list a directory of the upper")?;
            for e in self.writable()?.settle_marks(&handle, entries)? {
                if let Some(name) = self.options.whiteout_names.hidden(&e.name) {
                    listing.remove(&self.lowers, name, true);
                    continue;
                }
                match self.own_entry(dir, &handle, &e, &listing, marks)? {
                    Some(entry) => listing.put(&self.lowers, entry),
                    None => listing.remove(&self.lowers, &e.name, true),
                }
            }
        }
        *slot = Some(listing);
        Ok(())
    }

    /// Returns what an entry of the upper's directory is in the view; `None` for a whiteout.
    fn own_entry(
        &self,
        dir: &DirInode,
        handle: &Dir,
        e: &DirEntry,
        listing: &Listing,
        marks: Marks,
    ) -> Result<Option<OwnEntry>> {
        let upper = self.writable()?;
        let mut kind = match e.file_type {
            Some(t) if t != FileType::Char => t,
            _ => {
                let s = handle.stat(&e.name).upper("look at a file of the upper")?;
                if s.is_whiteout_device() {
                    return Ok(None);
                }
                s.file_type()
            }
        };
        // through a handle, for on a directory this view itself may be mounted
        let node = match kind {
            FileType::Dir => match handle.node_here(&e.name) {
                Err(Errno::XDEV) => None,
                node => Some(node.upper("open a directory of the upper")?),
            },
            _ => None,
        };
        let xattr = |key: &[u8]| {
            match (&node, kind) {
                (Some(node), _) => node.get_xattr(key),
                // it cannot be entered, so that nothing below it is shown either
                (None, FileType::Dir) => Ok((key == self.dialect.opaque()).then(|| b"y".to_vec())),
                (None, _) => handle.get_xattr(&e.name, key),
            }
            .upper("read a mark in the upper")
        };
        let mut below = Below::Nothing;
        let mut ino = None;
        if kind == FileType::Dir {
            below = if self.options.whiteout_names.heeded()
                && node.is_some()
                && self.is_marked(handle, &e.name)?
            {
                Below::Nothing
            } else {
                self.below(&xattr)?
            };
            let parts = match &below {
                Below::Nothing => Vec::new(),
                Below::SameName if !listing.in_lowers(&self.lowers, &e.name) => Vec::new(),
                Below::SameName => {
                    self.gather(Look::Name(dir.lowers().to_vec(), e.name.clone()))?
                }
                Below::Redirected(r) => self.gather(look_at(&dir.lowers(), r))?,
            };
            if let Some(at) = parts.first() {
                ino = Some(self.lower(*at)?.ino(at.node));
            }
        } else {
            if marks.xattr_whiteouts
                && kind == FileType::File
                && xattr(self.dialect.whiteout())?.is_some()
            {
                return Ok(None);
            }
            if marks.impure
                && let Some(value) = xattr(self.dialect.origin())?
            {
                ino = self.decode_origin(&value);
            }
            // the kernel marks no directory that a copied-up file is linked to
            let linked = || -> Result<bool> {
                let stat = handle.stat(&e.name).upper("look at a file of the upper")?;
                Ok(stat.nlink > 1)
            };
            if ino.is_none()
                && (marks.impure || upper.of_the_kernel && linked()?)
                && let Some(value) = xattr(self.dialect.kernel_origin())?
            {
                ino = self.follow_kernel_origin(&value, listing, &e.name, e.ino)?;
            }
            if self.options.owner_view && kind == FileType::File {
                let key = self.options.records.stat_key();
                let recorded = xattr(key)?.and_then(|v| OverrideStat::parse(&v));
                kind = recorded.and_then(|o| o.kind).unwrap_or(kind);
            }
        }
        let ino = ino.unwrap_or_else(|| self.devices.ino(upper.dev, e.ino));
        Ok(Some(OwnEntry { name: Arc::from(&e.name[..]), ino, real: e.ino, kind, below }))
    }

    /// Returns whether a directory of the upper holds the name that makes it opaque.
    fn is_marked(&self, parent: &Dir, name: &[u8]) -> Result<bool> {
        let dir = parent.open_dir_here(name).upper("open a directory of the upper")?;
        marks_opaque(&dir).upper("look for the opaque mark")
    }

    /// Returns which lower directories lie below an upper directory.
    fn below(&self, xattr: ReadMark<'_>) -> Result<Below> {
        if xattr(self.dialect.opaque())?.as_deref() == Some(b"y") {
            return Ok(Below::Nothing);
        }
        let redirect =
            if self.options.follow_redirects { xattr(self.dialect.redirect())? } else { None };
        let Some(value) = redirect else { return Ok(Below::SameName) };
        match Redirect::parse(&value) {
            Ok(r) => Ok(Below::Redirected(r)),
            Err(why) => {
                log::warn!("upper: redirect {:?} is not valid: {why}", printable(&value));
                Err(Error::Layer {
                    layer: LayerRef::Upper,
                    doing: "follow a redirect that is not valid",
                    errno: Errno::IO,
                })
            }
        }
    }
}

/// Reads an extended attribute of one entry.
type ReadMark<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Vec<u8>>>;

/// What a directory of the upper says about its entries.
#[derive(Clone, Copy)]
struct Marks {
    /// It holds entries that were copied up or moved.
    impure: bool,
    /// Its entries may be whiteouts in extended-attribute form.
    xattr_whiteouts: bool,
}

fn look_at(parents: &[At], redirect: &Redirect) -> Look {
    match redirect {
        Redirect::Sibling(name) => Look::Name(parents.to_vec(), name.clone()),
        Redirect::Absolute(path) => Look::Path(path.clone()),
    }
}
