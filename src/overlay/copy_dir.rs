//! Copy-up of directories: each without what is in it, with all that lead to it.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::{DirInode, Removed};
use super::make::Spec;
use super::upper::Staged;
use crate::sys::{Dir, FileType, RenameFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Overlay {
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
            self.keeping_times(&parent, &handle, || {
                let how = RenameFlags::NoReplace;
                staged.commit(&handle, &place.name, how).upper("put a copied directory in place")
            })?;
            upper.uncache(dir.ino);
            dir.real.store(real, Ordering::Release);
            dir.in_upper.store(true, Ordering::Release);
            self.copied.add(dir.ino);
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
}
