//! Renaming files and directories.
//!
//! The source is copied up first (a directory alone, not what is in it); a directory with lower
//! parts gets a redirect, so that the layers below still find them; then one rename moves it and
//! leaves a whiteout where a lower layer shows the old name.

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{DirInode, Object, Place};
use super::listing::{Below, OwnEntry};
use super::make::Spec;
use super::remove::lock_names;
use super::types::{Ino, RenameMode};
use crate::name::Name;
use crate::sys::{Dir, FileType, RenameFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One end of a rename.
struct End<'a> {
    dir: Arc<DirInode>,
    handle: Dir,
    name: &'a [u8],
    /// Whether the lowers show something under this name.
    in_lowers: bool,
    /// Whether the upper holds a whiteout there.
    whiteout: bool,
    /// What is shown there.
    kind: Option<FileType>,
}

impl End<'_> {
    fn place(&self) -> Place {
        Place { parent: self.dir.ino, name: self.name.into() }
    }
}

impl Overlay {
    /// Renames `name` in `parent` to `new_name` in `new_parent`.
    ///
    /// # Errors
    /// Those of renameat2(2); `EXDEV` for a directory with lower parts when redirects are off.
    pub fn rename(
        &self,
        parent: Ino,
        name: Name<'_>,
        new_parent: Ino,
        new_name: Name<'_>,
        mode: RenameMode,
    ) -> Result<()> {
        self.writable()?;
        let from = self.living_dir(parent)?;
        let to = self.living_dir(new_parent)?;
        let source = self.find(&from, name.bytes())?;
        let target = self.find_optional(&to, new_name.bytes())?;
        if target.is_none() && mode == RenameMode::Exchange {
            return Err(Error::NotFound);
        }
        if target.is_some() && mode == RenameMode::NoReplace {
            return Err(Error::Exists);
        }
        if target.as_ref().map(Object::ino) == Some(source.ino()) {
            return Ok(());
        }
        self.check_ends(&from, &source, &to, target.as_ref(), mode)?;
        self.ensure_upper(&from)?;
        self.ensure_upper(&to)?;
        let source = self.bring_up(source)?;
        let target = match (target, mode) {
            (Some(t), RenameMode::Exchange) => Some(self.bring_up(t)?),
            (t, _) => t,
        };
        if let Some(t) = &target {
            self.keep_other_names(t)?;
        }
        // moving a directory elsewhere changes the way to everything below it
        let is_dir = |o: &Object| matches!(o, Object::Dir(_));
        let moves_dir = parent != new_parent
            && (is_dir(&source)
                || mode == RenameMode::Exchange && target.as_ref().is_some_and(is_dir));
        let _exclusive = moves_dir.then(|| self.tree.write());
        let _shared = (!moves_dir).then(|| self.tree.read());
        // a directory that is replaced must not get entries meanwhile
        let mut dirs = vec![&*from, &*to];
        if let Some(Object::Dir(t)) = &target {
            dirs.push(t);
        }
        let _names = lock_names(dirs);
        if from.is_removed() || to.is_removed() {
            return Err(Error::NotFound);
        }
        // both ends may have changed since they were looked at
        let same = |dir: &Arc<DirInode>, name: Name<'_>, was: Option<&Object>| -> Result<bool> {
            let now = self.find_optional(dir, name.bytes())?;
            Ok(now.as_ref().map(Object::ino) == was.map(Object::ino))
        };
        if !same(&from, name, Some(&source))? || !same(&to, new_name, target.as_ref())? {
            return Err(Error::NotFound);
        }
        let (a, b) = (self.end(&from, name)?, self.end(&to, new_name)?);
        self.check_ends(&from, &source, &to, target.as_ref(), mode)?;
        match (mode, &target) {
            (RenameMode::Exchange, Some(target)) => self.exchange(&a, &source, &b, target),
            (_, target) => self.replace(&a, &source, &b, target.as_ref()),
        }
    }

    fn find_optional(&self, dir: &Arc<DirInode>, name: &[u8]) -> Result<Option<Object>> {
        match self.find(dir, name) {
            Ok(o) => Ok(Some(o)),
            Err(Error::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Checks what renameat2(2) says about source and target, in the kernel's order.
    fn check_ends(
        &self,
        from: &Arc<DirInode>,
        source: &Object,
        to: &Arc<DirInode>,
        target: Option<&Object>,
        mode: RenameMode,
    ) -> Result<()> {
        if let Object::Dir(d) = source
            && self.is_below(to, d)?
        {
            return Err(Error::Invalid);
        }
        match (source, target) {
            (_, None) => Ok(()),
            (_, Some(Object::Dir(t))) if self.is_below(from, t)? => {
                Err(if mode == RenameMode::Exchange { Error::Invalid } else { Error::NotEmpty })
            }
            (_, Some(_)) if mode == RenameMode::Exchange => Ok(()),
            (Object::Dir(_), Some(Object::Dir(t))) => {
                if self.listing(t)?.is_empty() {
                    Ok(())
                } else {
                    Err(Error::NotEmpty)
                }
            }
            (Object::Dir(_), Some(_)) => Err(Error::NotDirectory),
            (_, Some(Object::Dir(_))) => Err(Error::IsDirectory),
            _ => Ok(()),
        }
    }

    /// Copies up what is about to move.
    fn bring_up(&self, object: Object) -> Result<Object> {
        match object {
            Object::Dir(d) => {
                if !d.lowers().is_empty() && !self.options.redirect_dir {
                    if !self.options.rename_by_copy {
                        return Err(Error::CrossDevice);
                    }
                    self.detach(&d)?;
                }
                self.ensure_upper(&d)?;
                Ok(Object::Dir(d))
            }
            other => {
                let file = self.file(other)?;
                self.copy_up(&file, Data::All)?;
                // its data would be looked for under the new name
                self.complete(&file, Data::All)?;
                self.settle(&file)?;
                Ok(Object::File(file))
            }
        }
    }

    fn end<'a>(&self, dir: &Arc<DirInode>, name: Name<'a>) -> Result<End<'a>> {
        self.options.whiteout_names.check(name.bytes())?;
        let listing = self.listing(dir)?;
        Ok(End {
            handle: self.upper_dir(dir)?,
            name: name.bytes(),
            in_lowers: listing.in_lowers(&self.lowers, name.bytes()),
            whiteout: listing.has_whiteout(name.bytes()),
            kind: listing.find(&self.lowers, name.bytes()).map(|f| f.kind()),
            dir: dir.clone(),
        })
    }

    /// Returns whether `dir` is `ancestor` or lies below it.
    fn is_below(&self, dir: &Arc<DirInode>, ancestor: &DirInode) -> Result<bool> {
        let mut at = dir.clone();
        loop {
            if at.ino == ancestor.ino {
                return Ok(true);
            }
            if at.ino == Ino::ROOT {
                return Ok(false);
            }
            let up = at.place.read().parent;
            at = self.dir(up)?;
        }
    }

    fn replace(
        &self,
        a: &End<'_>,
        source: &Object,
        b: &End<'_>,
        target: Option<&Object>,
    ) -> Result<()> {
        let upper = self.writable()?;
        let below = self.prepare(a, source, b)?;
        let is_dir = matches!(source, Object::Dir(_));
        let mut kept_dir = None;
        let mut kept_file = None;
        match target {
            Some(Object::Dir(t)) if t.in_upper() => {
                kept_dir = Some(self.upper_dir(t)?);
                if !self.listing(t)?.whiteouts().is_empty() {
                    self.clear(t, b)?;
                }
            }
            Some(object) => kept_file = self.before_name_goes(object, &b.place())?,
            None => {}
        }
        // a whiteout under a directory's new name cannot be replaced by it, only swapped with it
        let swap = is_dir && b.whiteout && upper.whiteouts_take_names();
        let marked = b.whiteout && !upper.whiteouts_take_names();
        if marked {
            upper.ready_mark(&b.handle, b.name)?;
        }
        self.pass("rename:commit")?;
        let how = match (swap, a.in_lowers) {
            (true, _) => RenameFlags::Exchange,
            (false, true) if upper.caps.rename_whiteout && upper.whiteouts_take_names() => {
                RenameFlags::Whiteout
            }
            (false, _) => RenameFlags::Replace,
        };
        a.handle.rename(a.name, &b.handle, b.name, how).upper("rename")?;
        if swap && !a.in_lowers {
            // hides nothing there; left behind, it would be as harmless
            a.handle.unlink(a.name).upper("remove a swapped whiteout")?;
        } else if how == RenameFlags::Replace && a.in_lowers {
            upper.link_whiteout(&a.handle, a.name)?;
        }
        if marked {
            upper.drop_mark(&b.handle, b.name)?;
        }
        // first what others will see: what follows may fail, and the rename stands
        self.listing_mut(&a.dir)?.remove(&self.lowers, a.name, a.in_lowers);
        self.arrive(source, a, b, below)?;
        match target {
            Some(Object::Dir(t)) => self.dir_gone(t, kept_dir),
            Some(object) => self.name_gone(object, &b.place(), kept_file)?,
            None => {}
        }
        self.pass("rename:committed")
    }

    fn exchange(&self, a: &End<'_>, source: &Object, b: &End<'_>, target: &Object) -> Result<()> {
        let there = self.prepare(a, source, b)?;
        let here = self.prepare(b, target, a)?;
        self.pass("rename:commit")?;
        let how = RenameFlags::Exchange;
        a.handle.rename(a.name, &b.handle, b.name, how).upper("swap two names")?;
        self.arrive(source, a, b, there)?;
        self.arrive(target, b, a, here)?;
        self.pass("rename:committed")
    }

    /// Marks what is about to move so that it shows the same at its new place: a redirect to a
    /// directory's lower parts, or opaque where it has none and the lowers show that name.
    /// Should the rename fail after this, the marks say at the old place what is true there.
    fn prepare(&self, a: &End<'_>, source: &Object, b: &End<'_>) -> Result<Below> {
        let Object::Dir(dir) = source else {
            if self.has_origin(source)? {
                self.mark_impure(&b.dir, &b.handle)?;
            }
            return Ok(Below::Nothing);
        };
        let node = a.handle.node(a.name).upper("open a directory")?;
        if dir.lowers().is_empty() {
            if b.in_lowers {
                let opaque = node.set_xattr(self.dialect.opaque(), b"y", false, false);
                opaque.upper("mark a directory opaque")?;
            }
            return Ok(Below::Nothing);
        }
        self.mark_impure(&b.dir, &b.handle)?;
        let stays = a.dir.ino == b.dir.ino;
        self.write_redirect(&a.dir, a.name, &node, stays).map(Below::Redirected)
    }

    fn has_origin(&self, object: &Object) -> Result<bool> {
        if let Object::File(f) = object
            && f.no_xattrs.load(Ordering::Acquire)
        {
            return Ok(false);
        }
        let Some(node) = self.upper_handle(object)? else { return Ok(false) };
        Ok(self.is_copy(&node))
    }

    /// Replaces an empty-looking directory that holds whiteouts by one that is empty and opaque.
    fn clear(&self, dir: &DirInode, at: &End<'_>) -> Result<()> {
        let upper = self.writable()?;
        let stat = self.upper_dir(dir)?.stat_self().upper("look at a directory")?;
        let spec = Spec {
            kind: FileType::Dir,
            mode: stat.permissions(),
            uid: stat.uid,
            gid: stat.gid,
            rdev: 0,
            target: b"",
            xattrs: Vec::new(),
        };
        let staged = upper.staged();
        self.make_bare(&upper.stage, &staged.name, &spec)?;
        let node = upper.stage.node(&staged.name).upper("open a staged directory")?;
        self.dress(&node, &spec)?;
        node.set_xattr(self.dialect.opaque(), b"y", false, false)
            .upper("mark a directory opaque")?;
        let how = RenameFlags::Exchange;
        let real = node.stat().upper("look at a staged directory")?.ino;
        staged.commit(&at.handle, at.name, how).upper("clear a directory")?;
        // should the rename fail, this is the directory that stays
        upper.uncache(dir.ino);
        *dir.heritage.write() = None;
        dir.real.store(real, Ordering::Release);
        dir.impure.store(false, Ordering::Relaxed);
        self.listing_mut(dir)?.cleared();
        Ok(())
    }

    /// Notes where an object is now.
    fn arrive(&self, object: &Object, from: &End<'_>, end: &End<'_>, below: Below) -> Result<()> {
        let (old, place) = (from.place(), end.place());
        let kind = from.kind.ok_or(Error::Stale)?;
        let real = match object {
            Object::Dir(d) => {
                *d.place.write() = place.clone();
                end.handle.stat(end.name).upper("look at a renamed directory")?.ino
            }
            Object::File(f) => {
                let mut state = f.state.write();
                state.upper_names.retain(|p| *p != old);
                state.add_upper_name(place.clone());
                state.real
            }
            Object::Pure(..) => return Err(Error::Stale),
        };
        let entry = OwnEntry { name: place.name, ino: object.ino(), real, kind, below };
        self.listing_mut(&end.dir)?.put(&self.lowers, entry);
        Ok(())
    }
}
