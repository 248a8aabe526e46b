//! Copy-up: bringing a file or directory of the lowers into the upper, unchanged.
//!
//! First a plan, which only reads; then its run: the copy is staged in the work directory and
//! appears under its name by one rename. A failure or crash at any point leaves the lower file
//! visible, or the whole copy. Names of one file in a lower layer stay names of one file.

use super::error::{Doing as _, Error, Result};
use super::inode::{Backing, DirInode, FileInode, Place, Removed};
use super::io::CAPABILITY;
use super::listing::{Below, Found, OwnEntry};
use super::lower::{At, Meta};
use super::make::Spec;
use super::types::Ino;
use super::upper::Staged;
use super::{Overlay, ino};
use crate::resolve::LayerRef;
use crate::sys::{Copied, Dir, FileType, RenameFlags, copy_data};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much of a file's data the copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// All of it.
    All,
    /// None: the caller is about to cut the file to length zero.
    Nothing,
    /// None: the caller changes attributes only. The data stays in the lower (metacopy).
    StaysBelow,
}

/// What a copy-up will do, decided before anything is changed.
struct Plan {
    at: At,
    meta: Meta,
    target: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many bytes are copied.
    bytes: u64,
    /// Whether the data stays in the lower.
    metacopy: bool,
    /// The names that the copy gets, the first by the rename.
    names: Vec<Place>,
}

impl Plan {
    /// Returns whether the file has set-id bits or capabilities, which writing takes away.
    fn may_do_more(&self) -> bool {
        self.meta.mode & 0o6000 != 0 || self.xattrs.iter().any(|(key, _)| key == CAPABILITY)
    }
}

/// What a copy is in the upper.
#[derive(Clone, Copy)]
struct Copy {
    /// Inode number in the upper's file system.
    real: u64,
    kind: FileType,
    /// Whether the copy holds metadata only.
    metacopy: bool,
}

impl Overlay {
    /// Brings a file into the upper, if it is not there yet.
    pub(super) fn copy_up(&self, file: &Arc<FileInode>, data: Data) -> Result<()> {
        self.writable()?;
        if !file.state.read().is_incomplete() {
            return Ok(());
        }
        let _one_at_a_time = file.copy_up.lock();
        let at = file.state.read().lower();
        if let Some(at) = at {
            let plan = self.plan(file, at, data)?;
            self.run(file, &plan)?;
        }
        self.link_names_left(file)?;
        self.keep_links(file)
    }

    /// Gives a copy the names that it has not got yet: because they were looked up while it was
    /// made, or because of an error then. Without them, what is written would be lost to them.
    fn link_names_left(&self, file: &FileInode) -> Result<()> {
        let (left, real) = {
            let state = file.state.read();
            (state.lower_names.clone(), state.real)
        };
        if left.is_empty() {
            return Ok(());
        }
        let metacopy = self.is_metacopy(file)?;
        let copy = Copy { real, kind: self.file_attr(file)?.kind, metacopy };
        for place in &left {
            self.commit_name(file, place, &mut None, copy)?;
        }
        Ok(())
    }

    fn plan(&self, file: &FileInode, at: At, data: Data) -> Result<Plan> {
        let layer = self.lower(at)?;
        let meta = layer.meta(at.node)?;
        let target =
            if meta.kind == FileType::Symlink { layer.readlink(at.node)? } else { Vec::new() };
        let bytes = match (meta.kind, data) {
            (FileType::File, Data::All) => meta.size,
            _ => 0,
        };
        // a lower metacopy's data is further below, and may be at another name: then all is copied
        let metacopy = data == Data::StaysBelow
            && self.options.metacopy
            && meta.kind == FileType::File
            && meta.nlink == 1
            && meta.size > 0
            && !layer.is_metacopy(at.node)?;
        let bytes = if data == Data::StaysBelow && !metacopy && meta.kind == FileType::File {
            meta.size
        } else {
            bytes
        };
        let mut names = file.state.read().lower_names.clone();
        if meta.nlink > 1 || ino::decode(file.ino).is_some() {
            for found in self.names_of(file.ino, at)? {
                if !names.contains(&found) {
                    names.push(found);
                }
            }
        }
        Ok(Plan { at, meta, target, xattrs: layer.xattrs(at.node)?, bytes, metacopy, names })
    }

    fn run(&self, file: &Arc<FileInode>, plan: &Plan) -> Result<()> {
        let upper = self.writable()?;
        let spec = Spec {
            kind: plan.meta.kind,
            mode: plan.meta.mode,
            uid: plan.meta.uid,
            gid: plan.meta.gid,
            rdev: plan.meta.rdev,
            target: &plan.target,
            xattrs: plan.xattrs.clone(),
        };
        self.pass("copy-up:stage")?;
        let (mut waits, mut lazy) = (false, None);
        let staged = upper.staged();
        let content = self.make_bare(&upper.stage, &staged.name, &spec)?;
        if let Some(file) = content.as_ref().filter(|_| plan.metacopy) {
            file.truncate(plan.meta.size).upper("give a metacopy its size")?;
        }
        if let Some(to) = content.filter(|_| plan.bytes > 0) {
            self.pass("copy-up:data")?;
            let from = self.open_lower(plan.at)?;
            let alone = plan.names.len() == 1 && plan.meta.nlink == 1;
            if alone && !plan.may_do_more() {
                lazy = self.begin_lazy(upper, &from, &to, plan.bytes)?;
            }
            let how = match lazy {
                Some(_) => Copied::Later,
                None => copy_data(&from, &to, plan.bytes).upper("copy a file's data")?,
            };
            log::trace!("copied up {} bytes: {how:?}", plan.bytes);
            // as the kernel's overlayfs: after a power loss the name must not lead to less data.
            // The sharing of blocks needs no sync: it is in the journal before the rename
            let shared = upper.holes_tell && how == Copied::Cloned;
            if !upper.volatile && !shared {
                waits = lazy.is_some() || alone && self.may_wait(upper);
                if !waits {
                    to.sync(true).upper("sync a copied file")?;
                }
            }
        }
        self.pass("copy-up:metadata")?;
        let node = upper.stage.node(&staged.name).upper("open a staged file")?;
        // marks first: the final mode may forbid to write any
        self.mark_origin(&node, file.ino, plan.at);
        self.mark_kernel_origin(&node, plan.at);
        if plan.metacopy {
            let mark = node.set_xattr(self.dialect.metacopy(), b"", false, false);
            mark.upper("mark a file as metacopy")?;
        } else if waits {
            self.mark_unsettled(&node)?;
        }
        self.dress(&node, &spec)?;
        self.set_times(&node, plan.meta.atime, plan.meta.mtime)?;
        let real = node.stat().upper("look at a staged file")?.ino;
        let copy = Copy { real, kind: plan.meta.kind, metacopy: plan.metacopy };
        self.pass("copy-up:commit")?;
        let mut staged = Some(staged);
        // should giving it the other names fail, they still are names of this file
        {
            let mut state = file.state.write();
            state.uncopied_names =
                (i64::from(plan.meta.nlink) - i64::from(state.removed_names)).max(0);
            plan.names.iter().for_each(|p| state.add_lower_name(p.clone()));
        }
        file.lazy.set(lazy);
        for place in &plan.names {
            let unnamed = staged.is_some();
            let committed = self.commit_name(file, place, &mut staged, copy);
            if committed.is_err() && !file.in_upper() {
                file.lazy.set(None);
            }
            if committed? && staged.is_none() {
                if waits && unnamed {
                    self.settles_later(file);
                }
                self.pass("copy-up:committed")?;
            }
        }
        if staged.is_some() {
            // no name is left: whoever holds the file gets a copy without one
            let mut state = file.state.write();
            state.lower_names.clear();
            state.uncopied_names = 0;
            state.orphan = Some(Arc::new(node));
            state.backing = Backing::Upper;
            state.real = real;
            state.metacopy = Some(false);
        }
        Ok(())
    }

    /// Gives the copy one of its names, if the view still shows the file there.
    fn commit_name(
        &self,
        file: &FileInode,
        place: &Place,
        staged: &mut Option<Staged<'_>>,
        copy: Copy,
    ) -> Result<bool> {
        let Some(parent) = self.dir(place.parent).ok().filter(|d| !d.is_removed()) else {
            file.state.write().lower_names.retain(|p| p != place);
            return Ok(false);
        };
        self.ensure_upper(&parent)?;
        let _tree = self.tree.read();
        let _names = parent.names.lock();
        let shown = self.listing(&parent)?.find(&self.lowers, &place.name);
        let number = match file.below {
            Some(at) => self.lower(at)?.ino(at.node),
            None => file.ino,
        };
        let same = match shown {
            Some(Found::Base(e)) => self.lower(e.at)?.ino(e.at.node) == number,
            _ => false,
        };
        if !same {
            // removed or replaced since the plan was made
            file.state.write().lower_names.retain(|p| p != place);
            return Ok(false);
        }
        let dir = self.upper_dir(&parent)?;
        self.mark_impure(&parent, &dir)?;
        self.keeping_times(&dir, || match staged.take() {
            Some(s) => {
                s.commit(&dir, &place.name, RenameFlags::NoReplace).upper("put a copy in place")
            }
            None => {
                let node = self.upper_node(file)?;
                node.link_to(&dir, &place.name).upper("link a copy's other name")
            }
        })?;
        {
            let mut state = file.state.write();
            state.backing = Backing::Upper;
            state.real = copy.real;
            state.metacopy = Some(copy.metacopy);
            state.one_name_less();
            state.add_upper_name(place.clone());
        }
        // the listing must say so too: the kernel may forget the file, and its object goes then
        let entry = OwnEntry {
            name: place.name.clone(),
            ino: file.ino,
            real: copy.real,
            kind: copy.kind,
            below: Below::Nothing,
        };
        self.listing_mut(&parent)?.copied_up(&self.lowers, entry);
        Ok(true)
    }

    /// Returns the names under which the view shows a file of an indexed layer.
    pub(super) fn names_of(&self, number: Ino, at: At) -> Result<Vec<Place>> {
        let layer = self.lower(at)?;
        let mut out = Vec::new();
        for node in layer.links(at.node)? {
            let part = At { layer: at.layer, node: layer.parent(node) };
            let name: Arc<[u8]> = layer.with_name(node, |n| Arc::from(n));
            let Some(dir) = self.dir_of_part(part)? else { continue };
            let shown = self.listing(&dir)?.find(&self.lowers, &name);
            if let Some(Found::Base(e)) = shown
                && self.lower(e.at)?.ino(e.at.node) == number
            {
                out.push(Place { parent: dir.ino, name });
            }
        }
        Ok(out)
    }

    /// Returns the directory of the view that a lower directory is part of, if it is in sight.
    pub(super) fn dir_of_part(&self, part: At) -> Result<Option<Arc<DirInode>>> {
        if let Some(ino) = self.part_of.read().get(&part).copied() {
            return self.dir(ino).map(|d| Some(d).filter(|d| !d.is_removed()));
        }
        // never looked at: it is where its layer has it, unless something above hides it
        let mut dir = self.dir(Ino::ROOT)?;
        for name in self.lower(part)?.path(part.node) {
            // a file of that name is not made an object: that could ask for its names, and so for
            // this very directory again
            let found = self.listing(&dir)?.find(&self.lowers, &name);
            let Some(found) = found.filter(|f| f.kind() == FileType::Dir) else { return Ok(None) };
            dir = self.object_of(&dir, &name, found)?.dir()?;
        }
        Ok(Some(dir).filter(|d| d.lowers().contains(&part)))
    }

    /// Brings a directory (not what is in it) into the upper, with all that lead to it.
    pub(super) fn ensure_upper(&self, dir: &Arc<DirInode>) -> Result<()> {
        let upper = self.writable()?;
        if dir.in_upper() {
            return Ok(());
        }
        let _one_at_a_time = dir.copy_up.lock();
        loop {
            if dir.in_upper() {
                return Ok(());
            }
            if dir.is_removed() {
                return self.keep_removed(dir);
            }
            let place = dir.place.read().clone();
            let parent = self.dir(place.parent)?;
            self.ensure_upper(&parent)?;
            let staged = self.stage_dir(dir)?;
            let real = upper.stage.stat(&staged.name).upper("look at a staged directory")?.ino;
            let _tree = self.tree.read();
            let _names = parent.names.lock();
            // moved or removed since: its place is another one now
            if *dir.place.read() != place || dir.is_removed() {
                continue;
            }
            self.pass("copy-up:commit")?;
            let handle = self.upper_dir(&parent)?;
            self.mark_impure(&parent, &handle)?;
            self.keeping_times(&handle, || {
                let how = RenameFlags::NoReplace;
                staged.commit(&handle, &place.name, how).upper("put a copied directory in place")
            })?;
            upper.uncache(dir.ino);
            dir.real.store(real, Ordering::Release);
            dir.in_upper.store(true, Ordering::Release);
            return self.pass("copy-up:committed");
        }
    }

    /// Gives a removed directory of the lowers, which somebody still holds and wants to change, a
    /// copy in the upper that has no name.
    fn keep_removed(&self, dir: &DirInode) -> Result<()> {
        let upper = self.writable()?;
        let staged = self.stage_dir(dir)?;
        let held = upper.stage.open_dir(&staged.name).upper("open a staged directory")?;
        drop(staged);
        *dir.removed.write() = Some(Removed { dir: Some(held), elsewhere: false });
        dir.in_upper.store(true, Ordering::Release);
        Ok(())
    }

    fn stage_dir(&self, dir: &DirInode) -> Result<Staged<'_>> {
        let upper = self.writable()?;
        let at = *dir.lowers().first().ok_or(Error::Stale)?;
        let layer = self.lower(at)?;
        let meta = layer.meta(at.node)?;
        let spec = Spec {
            kind: FileType::Dir,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            rdev: 0,
            target: b"",
            xattrs: layer.xattrs(at.node)?,
        };
        self.pass("copy-up:stage")?;
        let staged = upper.staged();
        self.make_bare(&upper.stage, &staged.name, &spec)?;
        self.pass("copy-up:metadata")?;
        let node = upper.stage.node(&staged.name).upper("open a staged directory")?;
        self.dress(&node, &spec)?;
        self.mark_kernel_origin(&node, at);
        self.set_times(&node, meta.atime, meta.mtime)?;
        Ok(staged)
    }

    /// Marks a directory of the upper as holding entries whose numbers are those of lower files.
    pub(super) fn mark_impure(&self, dir: &DirInode, handle: &Dir) -> Result<()> {
        if dir.impure.load(Ordering::Relaxed) {
            return Ok(());
        }
        let node = handle.as_node().upper("open a directory")?;
        node.set_xattr(self.dialect.impure(), b"y", false, false)
            .upper("mark a directory impure")?;
        dir.impure.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Writes into a copy which number it has: only a hint, so that a file that cannot carry it
    /// (a symlink of an ordinary user) gets another number at the next mount.
    fn mark_origin(&self, node: &crate::sys::Node, number: Ino, at: At) {
        let value = self.encode_origin(number, at);
        if let Err(e) = node.set_xattr(self.dialect.origin(), &value, false, false) {
            log::debug!("{:?} keeps no origin: {e}", LayerRef::Upper);
        }
    }

    fn encode_origin(&self, number: Ino, at: At) -> Vec<u8> {
        let print =
            self.lowers.get(at.layer.0 as usize).map_or(0, super::lower::LowerLayer::fingerprint);
        [number.0.to_le_bytes(), u64::from(at.layer.0).to_le_bytes(), print.to_le_bytes()].concat()
    }

    /// Returns the number that an origin names, if its layer is still part of this stack.
    pub(super) fn decode_origin(&self, value: &[u8]) -> Option<Ino> {
        let word = |i: usize| {
            let bytes = value.get(i * 8..i * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (number, layer, print) = (word(0)?, word(1)?, word(2)?);
        let layer = self.lowers.get(usize::try_from(layer).ok()?)?;
        (value.len() == 24 && layer.fingerprint() == print && number > Ino::ROOT.0)
            .then_some(Ino(number))
    }
}
