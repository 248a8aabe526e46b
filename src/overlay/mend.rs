//! Completing copies that an earlier mount left without all of their data (see `settle`, `lazy`).

use super::Overlay;
use super::error::{Doing as _, Result};
use super::inode::{FileInode, Object};
use super::types::Ino;
use crate::marker::INCOMPLETE;
use crate::name::printable;
use crate::sys::{self, Dir, FileType, Node, OpenFlags, fill_holes};

impl Overlay {
    /// Completes a copy that an earlier mount left incomplete and this one could not complete so
    /// far; fails if that cannot be done, so that nobody sees half a file.
    pub(super) fn find_again(&self, file: &FileInode, node: &Node, real: u64) -> Result<()> {
        if self.unsettled.lost.lock().contains(&real) {
            self.mend(file, node)?;
            self.unsettled.lost.lock().remove(&real);
        }
        Ok(())
    }

    /// Completes a marked copy of an earlier mount that did not end well.
    pub(super) fn mend(&self, file: &FileInode, node: &Node) -> Result<()> {
        let _one_at_a_time = file.copy_up.lock();
        let before = node.stat().upper("look at a file")?;
        let from = self.open_data_below(file)?;
        let to = self
            .as_its_owner(node, || node.open(OpenFlags::READ_WRITE))
            .upper("open a copied file")?;
        let len = from.stat().upper("look at a lower file")?.size.min(before.size);
        let filled = fill_holes(&from, &to, len).upper("complete a copied file")?;
        if filled > 0 {
            log::warn!("{filled} bytes of a copied file were not on disk and were copied again");
            self.set_times(node, before.atime, before.mtime)?;
        }
        to.sync(true).upper("sync a copied file")?;
        self.unmark(node)?;
        file.state.write().metacopy = Some(false);
        Ok(())
    }

    /// Looks for copies that an earlier mount left marked, and completes them.
    pub(super) fn mend_all(&self) -> Result<()> {
        let Some(upper) = self.upper.as_ref().filter(|u| !u.unclean.is_empty()) else {
            return Ok(());
        };
        self.mend_below(Ino::ROOT, &upper.root.clone(), &upper.unclean)?;
        if self.unsettled.lost.lock().is_empty() {
            upper.unclean.iter().try_for_each(|id| upper.forget_batch(*id))?;
        }
        Ok(())
    }

    fn mend_below(&self, ino: Ino, handle: &Dir, unclean: &[u64]) -> Result<()> {
        let dir = self.dir(ino)?;
        for e in handle.list().upper("list a directory of the upper")? {
            let kind = match e.file_type {
                Some(t) => t,
                None => handle.stat(&e.name).upper("look at a file of the upper")?.file_type(),
            };
            let marked = || -> sys::Result<bool> {
                Ok(match handle.get_xattr(&e.name, self.dialect.metacopy())? {
                    Some(v) => v == INCOMPLETE,
                    None => self
                        .copy_record(|key| handle.get_xattr(&e.name, key))?
                        .own
                        .and_then(|o| o.batch)
                        .is_some_and(|id| unclean.contains(&id)),
                })
            };
            match kind {
                FileType::Dir => {
                    // what the view does not show as this directory is none of ours
                    if let Ok(Object::Dir(sub)) = self.find(&dir, &e.name)
                        && let Ok(below) = handle.open_dir(&e.name)
                    {
                        self.mend_below(sub.ino, &below, unclean)?;
                    }
                }
                FileType::File if marked().upper("read a copy's marks")? => {
                    let Ok(Object::File(file)) = self.find(&dir, &e.name) else { continue };
                    let mended = self.upper_node(&file).and_then(|n| self.mend(&file, &n));
                    let mut lost = self.unsettled.lost.lock();
                    if let Err(why) = mended {
                        log::error!("{}: a copy cannot be completed: {why}", printable(&e.name));
                        lost.insert(e.ino);
                    } else {
                        // perhaps it could not under another name
                        lost.remove(&e.ino);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
