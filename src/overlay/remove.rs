//! Removing names. What a lower layer shows under a name stays gone: a whiteout takes its place
//! in the same step in which the upper's file goes.

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{DirInode, FileInode, Object, Place, Removed};
use super::types::Ino;
use crate::name::Name;
use crate::sys::{Dir, FileType, RenameFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Overlay {
    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`, or what the upper's file system says; then the name stays.
    pub fn unlink(&self, parent: Ino, name: Name<'_>) -> Result<()> {
        self.writable()?;
        let dir = self.living_dir(parent)?;
        let kind = self.visible_kind(&dir, name)?;
        if kind == FileType::Dir {
            return Err(Error::IsDirectory);
        }
        self.ensure_upper(&dir)?;
        self.keep_other_names(&self.find(&dir, name.bytes())?)?;
        let _tree = self.tree.read();
        let _names = dir.names.lock();
        match self.find(&dir, name.bytes())? {
            Object::Dir(_) => Err(Error::IsDirectory),
            object => self.unlink_locked(&dir, name.bytes(), &object),
        }
    }

    /// Removes a directory that shows no entries.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`, or what the upper's file system says.
    pub fn rmdir(&self, parent: Ino, name: Name<'_>) -> Result<()> {
        let upper = self.writable()?;
        let dir = self.living_dir(parent)?;
        if self.visible_kind(&dir, name)? != FileType::Dir {
            return Err(Error::NotDirectory);
        }
        let victim = self.find(&dir, name.bytes())?.dir()?;
        if !self.listing(&victim)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        self.ensure_upper(&dir)?;
        let _tree = self.tree.read();
        let _names = lock_names(vec![&dir, &victim]);
        if !Arc::ptr_eq(&self.find(&dir, name.bytes())?.dir()?, &victim) {
            return Err(Error::NotFound);
        }
        if !self.listing(&victim)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        let handle = self.upper_dir(&dir)?;
        let whiteout = self.listing(&dir)?.in_lowers(&self.lowers, name.bytes());
        let kept = if victim.in_upper() { Some(self.upper_dir(&victim)?) } else { None };
        if whiteout {
            self.pass("remove:whiteout")?;
        }
        self.pass("remove:commit")?;
        match (&kept, whiteout) {
            (None, _) => upper.put_whiteout(&handle, name.bytes())?,
            // with the whiteout in its place the old directory goes, and its whiteouts with it
            (Some(_), true) if !upper.whiteouts_take_names() => {
                upper.put_mark(&handle, name.bytes())?;
                upper.discard_dir(&handle, name.bytes())?;
            }
            (Some(_), true) => {
                let staged = upper.staged();
                upper.link_whiteout(&upper.stage, &staged.name)?;
                let how = RenameFlags::Exchange;
                staged.commit(&handle, name.bytes(), how).upper("put a whiteout in place")?;
            }
            (Some(_), false) => {
                let empty = !self.listing(&victim)?.has_whiteouts();
                upper.remove_dir(&handle, name.bytes(), empty)?;
            }
        }
        self.dir_gone(&victim, kept);
        self.listing_mut(&dir)?.remove(&self.lowers, name.bytes(), whiteout);
        self.pass("remove:committed")
    }

    /// Sees to a file's other names before one may go: a copy gets those under which only the
    /// lowers hold it, and of a lower file the next mount will know that it has one less.
    pub(super) fn keep_other_names(&self, object: &Object) -> Result<()> {
        let (at, links) = match object {
            Object::Dir(_) => return Ok(()),
            Object::Pure(_, at) => (*at, self.lower(*at)?.meta(at.node)?.nlink),
            Object::File(f) => {
                let Some(at) = f.state.read().lower() else {
                    return self.copy_up(f, Data::All);
                };
                match f.links_below.load(Ordering::Relaxed) {
                    0 => (at, self.file_attr(f)?.nlink),
                    known => (at, known),
                }
            }
        };
        if links > 1 {
            self.gone_before(at)?;
            self.writable()?.note_unlinked();
        }
        Ok(())
    }

    fn visible_kind(&self, dir: &DirInode, name: Name<'_>) -> Result<FileType> {
        let found = self.listing(dir)?.find(&self.lowers, name.bytes());
        found.map(|f| f.kind()).ok_or(Error::NotFound)
    }

    /// Notes that a directory has no name any more. Whoever still holds it keeps its attributes.
    pub(super) fn dir_gone(&self, dir: &DirInode, handle: Option<Dir>) {
        if let Some(upper) = &self.upper {
            upper.uncache(dir.ino);
        }
        *dir.removed.write() = Some(Removed { dir: handle, elsewhere: false });
        *dir.listing.write() = None;
        let mut part_of = self.part_of.write();
        for at in dir.lowers().iter() {
            if part_of.get(at) == Some(&dir.ino) {
                part_of.remove(at);
            }
        }
    }

    fn unlink_locked(&self, dir: &DirInode, name: &[u8], object: &Object) -> Result<()> {
        let upper = self.writable()?;
        let handle = self.upper_dir(dir)?;
        let whiteout = self.listing(dir)?.in_lowers(&self.lowers, name);
        let place = Place { parent: dir.ino, name: name.into() };
        let keep = self.before_name_goes(object, &place)?;
        self.pass("remove:commit")?;
        if whiteout {
            self.pass("remove:whiteout")?;
            upper.put_whiteout(&handle, name)?;
        } else {
            handle.unlink(name).upper("remove a file")?;
        }
        // first what others will see: what follows may fail, and the name is gone
        self.listing_mut(dir)?.remove(&self.lowers, name, whiteout);
        self.name_gone(object, &place, keep)?;
        self.pass("remove:committed")
    }

    /// Returns a handle on a file that is about to lose its last name in the upper: somebody may
    /// have it open, or hold it in another way.
    pub(super) fn before_name_goes(
        &self,
        object: &Object,
        place: &Place,
    ) -> Result<Option<crate::sys::Node>> {
        let Object::File(file) = object else { return Ok(None) };
        let state = file.state.read().clone();
        if state.lower().is_some() || state.upper_names != [place.clone()] {
            return Ok(None);
        }
        let dir = self.upper_dir(&*self.dir(place.parent)?)?;
        dir.node(&place.name).upper("open a file").map(Some)
    }

    /// Notes that a file has lost a name.
    pub(super) fn name_gone(
        &self,
        object: &Object,
        place: &Place,
        handle: Option<crate::sys::Node>,
    ) -> Result<()> {
        let file: Arc<FileInode> = match object {
            Object::Dir(_) => return Ok(()),
            Object::File(f) => f.clone(),
            // with one name there is nothing to count: nobody can reach it but by an old number
            Object::Pure(_, at) => {
                let links = self.lower(*at)?.meta(at.node)?.nlink;
                if links <= 1 {
                    return Ok(());
                }
                let file = self.file(object.clone())?;
                file.links_below.store(links, Ordering::Relaxed);
                file
            }
        };
        let mut state = file.state.write();
        if state.lower().is_some() {
            state.removed_names += 1;
            // a copy-up may be under way that has counted this name
            state.one_name_less();
        } else if !state.upper_names.contains(place) {
            state.one_name_less();
        }
        state.upper_names.retain(|p| p != place);
        state.lower_names.retain(|p| p != place);
        if let Some(node) = handle {
            state.orphan = Some(Arc::new(node));
        }
        let counted = state.counted;
        drop(state);
        self.pass("remove:count")?;
        if counted { self.keep_links(&file) } else { Ok(()) }
    }
}

/// Locks the names of directories in the order of their numbers, each once.
pub(super) fn lock_names<'a>(mut dirs: Vec<&'a DirInode>) -> Vec<parking_lot::MutexGuard<'a, ()>> {
    dirs.sort_unstable_by_key(|d| d.ino);
    dirs.dedup_by_key(|d| d.ino);
    dirs.into_iter().map(|d| d.names.lock()).collect()
}
