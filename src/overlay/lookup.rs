//! Finding names: which layers a directory is merged from, and what is visible in it.

use super::attr::lower_attr;
use super::error::{Doing as _, Error, Result};
use super::inode::{Backing, DirInode, FileInode, Object, Place};
use super::listing::{Below, Found, OwnEntry};
use super::lower::At;
use super::types::{Attr, Ino};
use super::{Overlay, ino};
use crate::name::Name;
use crate::sys::{Errno, FileType};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
        let found = self.listing(dir)?.find(&self.lowers, name.bytes()).ok_or(Error::NotFound)?;
        if let Some(attr) = self.first_look(dir, name.bytes(), &found) {
            return Ok(self.visible(attr));
        }
        let object = self.object_of(dir, name.bytes(), found)?;
        if let Object::Dir(d) = &object {
            self.freshen(d);
        }
        // an object that nobody is told of must not stay: its number may come to another file
        let attr = self.attr_of(&object).inspect_err(|_| self.forget(object.ino(), 0))?;
        self.inodes.count(&object);
        self.inodes.rest(object);
        Ok(self.visible(attr))
    }

    /// Looks at a file of one name in a plain layer that nobody knows yet, as most lookups do, and
    /// counts the lookup. `None`: it needs an object, or the long way finds out what is wrong.
    fn first_look(&self, dir: &DirInode, name: &[u8], found: &Found) -> Option<Attr> {
        let Found::Base(e) = found else { return None };
        let indexed = self.upper.as_ref().is_some_and(|u| u.index.is_some());
        if e.kind == FileType::Dir || indexed {
            return None;
        }
        let plain = self.plain(e.at)?;
        let number = plain.ino(e.at.node);
        if self.inodes.knows(number) {
            return None;
        }
        let attr = lower_attr(number, &plain.meta(e.at.node).ok()?);
        let rests = attr.nlink == 1 && self.inodes.rest_at_once((number, e.at), dir.ino, name);
        rests.then_some(attr)
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
                let parts = self.parts_below(dir, name, &Below::SameName)?;
                self.dir_object(place(), parts, None).map(made)
            }
            Found::Base(e) => self.lower_file(e.at, place()),
        }
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
        // lost its names meanwhile, this name cannot become one of it. Nor can it be what a directory
        // has that went and is still in use, whose number the disk has given to this file. The number
        // is part of the key: other files come to this name when somebody edits the layers
        let key = [&place.parent.0.to_le_bytes()[..], &place.name, b"/", &first.0.to_le_bytes()];
        let other = ino::hashed(&key.concat());
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
}
