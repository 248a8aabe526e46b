//! `redirect_dir=copy`: a directory that is to move, where no redirect may be written, takes all
//! that the lowers show in it along.
//!
//! Everything below it is copied up at its place, which changes nothing that anybody sees; then
//! each directory, from the innermost outwards, is marked opaque, which changes nothing either.
//! What is left is a directory of the upper alone, which one rename moves. A failure on the way
//! leaves the view as it was, with the copies made so far. It takes the time and the room that
//! the data takes, and gives the directories new numbers with the next mount.

use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{DirInode, Object};
use super::listing::{BASE, Below, Found, OwnEntry};
use super::{Errno, Overlay};
use crate::sys::FileType;
use std::sync::Arc;

impl Overlay {
    /// Makes `top`, with all below it, independent of the lowers.
    pub(super) fn detach(&self, top: &Arc<DirInode>) -> Result<()> {
        // a list rather than recursion: layers decide how deep a tree is
        let mut dirs = vec![top.clone()];
        let mut next = 0;
        while let Some(dir) = dirs.get(next).cloned() {
            next += 1;
            self.ensure_upper(&dir)?;
            for name in self.visible_names(&dir)? {
                match self.find(&dir, &name) {
                    Ok(Object::Dir(d)) => dirs.push(d),
                    Ok(other) => {
                        let file = self.file(other)?;
                        self.copy_up(&file, Data::All)?;
                        self.copied.add(file.ino);
                        self.complete(&file, Data::All)?;
                        // after a crash, its data would be looked for in the lowers
                        self.settle(&file)?;
                    }
                    // removed since
                    Err(Error::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
            self.pass("rename:copy")?;
        }
        dirs.iter().rev().try_for_each(|d| self.hide_lowers(d))
    }

    fn visible_names(&self, dir: &DirInode) -> Result<Vec<Box<[u8]>>> {
        let listing = self.listing(dir)?;
        let mut names = Vec::new();
        let mut cookie = BASE;
        while let Some((found, next)) = listing.next_from(cookie) {
            cookie = next;
            names.push(match found {
                Found::Own(e) => Box::from(&e.name[..]),
                Found::Base(e) => self.lower(e.at)?.with_name(e.at.node, |n| Box::from(n)),
            });
        }
        Ok(names)
    }

    /// Marks a directory opaque of which the upper holds all that is visible.
    fn hide_lowers(&self, dir: &Arc<DirInode>) -> Result<()> {
        let upper = self.writable()?;
        let _tree = self.tree.read();
        let _names = dir.names.lock();
        if dir.lowers().is_empty() || dir.is_removed() {
            return Ok(());
        }
        let handle = self.upper_dir(dir)?;
        let mut moved = Vec::new();
        for name in self.visible_names(dir)? {
            let Some(Found::Base(e)) = self.listing(dir)?.find(&self.lowers, &name) else {
                continue;
            };
            // a directory that was copied up is one of the lowers to its parent's listing
            let child = match (e.kind, self.find(dir, &name)) {
                (FileType::Dir, Ok(Object::Dir(d))) if d.in_upper() => d,
                _ => return Err(Error::CrossDevice),
            };
            let real = handle.stat(&name).upper("look at a copied directory")?.ino;
            moved.push(OwnEntry {
                name: name.into(),
                ino: child.ino,
                real,
                kind: FileType::Dir,
                below: Below::Nothing,
            });
        }
        self.pass("rename:opaque")?;
        let node = handle.as_node().upper("open a directory")?;
        node.set_xattr(self.dialect.opaque(), b"y", false, false)
            .upper("mark a directory opaque")?;
        let whiteouts = {
            let mut listing = self.listing_mut(dir)?;
            moved.into_iter().for_each(|e| listing.copied_up(&self.lowers, e));
            listing.detach()
        };
        dir.leave_lowers();
        self.part_of.write().retain(|_, ino| *ino != dir.ino);
        // they hide nothing any more; one that stays does no harm
        for name in whiteouts {
            let gone = if upper.whiteouts_take_names() {
                handle.unlink(&name).upper("remove a whiteout")
            } else {
                upper.drop_mark(&handle, &name)
            };
            if let Err(e) = gone {
                log::debug!("a whiteout stays in an opaque directory: {e}");
            }
        }
        match node.remove_xattr(self.dialect.redirect()) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            r => r.upper("remove a redirect"),
        }
    }
}
