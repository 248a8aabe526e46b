//! Copies whose data is not on disk yet, although they have their name.
//!
//! A copied file is written into the page cache, given its size and the mark [`UNSETTLED`], and put
//! in place at once. A thread then writes batches of such files out and takes their marks off. This
//! rests on file systems that never show a block as data before its content is on disk (ext4 but
//! with `data=writeback`, xfs, btrfs): after a crash, a hole in a marked file where the lower file
//! has data is data that was lost, and is copied again; whatever else the file holds is the copy,
//! or was written by a user since. So a crash leaves in every block the old content or the new one,
//! and what was synced stays, by whatever means. What makes holes of its own (cutting, punching)
//! settles the file first; so do fsync(2), renaming and linking.
//!
//! The mark is a value of the kernel's metacopy attribute that its overlayfs does not know: it
//! refuses such a file (`EIO`, before Linux 6.6 it takes it for a metacopy), and never shows half.
//! Programs that read the upper itself see the whole file, since the page cache has it.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::{FileInode, Object};
use super::types::Ino;
use super::upper::UpperLayer;
use crate::name::printable;
use crate::sys::{Dir, Errno, FileType, Node, OpenFlags, fill_holes};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Value of the metacopy attribute of a file whose data may not be on disk. Its first byte is a
/// version to the kernel, which knows 0 alone.
const UNSETTLED: &[u8] = b"stratafs-unsettled";
/// In the staging directory while there may be such files: tells the next mount to look for them.
pub(super) const UNCLEAN: &[u8] = b"stratafs.unsettled";
/// More than so many files are not left for later: who copies up then waits for the disk.
const MOST: usize = 8192;
/// From so many files on, the whole file system is synced rather than each file.
const TOGETHER: usize = 8;

/// The files that wait.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Whether somebody calls [`Overlay::settle_all`] again and again.
    on: AtomicBool,
    /// Whether the next mount has been told to look for marks.
    noted: AtomicBool,
    /// Whether a mark could not be taken off.
    failed: AtomicBool,
    files: Mutex<Vec<Arc<FileInode>>>,
    came: Condvar,
    /// Incomplete ones that could not be completed, for want of room perhaps.
    stuck: Mutex<Vec<Arc<FileInode>>>,
}

impl Overlay {
    /// Lets copies be put in place before they are on disk, if the upper's file system allows
    /// that. The caller promises to call [`Overlay::settle_all`] soon after each time that
    /// [`Overlay::wait_for_unsettled`] returns true.
    ///
    /// Returns whether it does.
    pub fn settle_later(&self) -> bool {
        let able = self.upper.as_ref().is_some_and(|u| u.holes_tell && !u.volatile);
        let on = able && !self.options.strict_sync;
        self.unsettled.on.store(on, Ordering::Release);
        on
    }

    /// Waits until a copy is to be settled. Returns false when that will never be again, because
    /// the view was closed.
    pub fn wait_for_unsettled(&self) -> bool {
        let mut files = self.unsettled.files.lock();
        while files.is_empty() && self.unsettled.on.load(Ordering::Acquire) {
            self.unsettled.came.wait(&mut files);
        }
        !files.is_empty()
    }

    /// Returns how many copies wait to be settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.files.lock().len()
    }

    /// Returns whether a copy may wait, and notes on disk that there are such.
    pub(super) fn may_wait(&self, upper: &UpperLayer) -> bool {
        let u = &self.unsettled;
        if !u.on.load(Ordering::Acquire) || u.files.lock().len() >= MOST {
            return false;
        }
        if u.noted.load(Ordering::Acquire) {
            return true;
        }
        // held over the making, so that nobody goes on before it is there
        let _files = u.files.lock();
        match upper.stage.open_file(UNCLEAN, OpenFlags::CREATE_NEW, 0o600) {
            Ok(_) | Err(Errno::EXIST) => {
                u.noted.store(true, Ordering::Release);
                true
            }
            Err(e) => {
                log::warn!("copies are synced at once: {e}");
                false
            }
        }
    }

    /// Marks a staged copy as one whose data is not on disk yet.
    pub(super) fn mark_unsettled(&self, node: &Node) -> Result<()> {
        node.set_xattr(self.dialect.metacopy(), UNSETTLED, false, false)
            .upper("mark a copy as not yet on disk")
    }

    /// Takes in a copy that has got its name with that mark.
    pub(super) fn settles_later(&self, file: &Arc<FileInode>) {
        file.unsettled.store(true, Ordering::Release);
        // the kernel may forget it, but we must not: its mark is to go
        file.handles.fetch_add(1, Ordering::AcqRel);
        self.unsettled.files.lock().push(file.clone());
        self.unsettled.came.notify_one();
    }

    /// Writes all copies out that wait for it, and takes their marks off. What fails is logged, and
    /// stays marked for the next mount.
    pub fn settle_all(&self) {
        let files = std::mem::take(&mut *self.unsettled.files.lock());
        let Some(upper) = self.upper.as_ref().filter(|_| !files.is_empty()) else { return };
        let synced = files.len() >= TOGETHER
            && upper
                .root
                .sync_file_system()
                .inspect_err(|e| log::error!("cannot sync the upper: {e}"))
                .is_ok();
        for file in files {
            // nobody will find it after a crash
            let nameless = file.lazy.get().is_some() && file.state.read().orphan.is_some();
            let done = if nameless { Ok(()) } else { self.settle_after(&file, synced) };
            match done {
                Ok(()) => {}
                // it has no name any more
                Err(Error::NotFound | Error::Stale) => {}
                Err(e) => {
                    log::warn!("a copied file stays marked: {e}; the next mount will see to it");
                    self.unsettled.failed.store(true, Ordering::Release);
                    if file.lazy.get().is_some() {
                        self.unsettled.stuck.lock().push(file);
                        continue;
                    }
                }
            }
            file.handles.fetch_sub(1, Ordering::AcqRel);
            self.inodes.closed(&file);
        }
    }

    /// Makes sure that a file's data is on disk if it is a copy that waits for that.
    pub(super) fn settle(&self, file: &FileInode) -> Result<()> {
        self.settle_after(file, false)
    }

    fn settle_after(&self, file: &FileInode, synced: bool) -> Result<()> {
        let lazy = file.lazy.get();
        if lazy.is_none() && !file.unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(lazy) = &lazy {
            self.fill(lazy)?;
        }
        let _one_at_a_time = file.copy_up.lock();
        if !file.unsettled.load(Ordering::Acquire) {
            // without a mark: it never had a name
            file.lazy.set(None);
            return Ok(());
        }
        if !synced || lazy.is_some() {
            let node = self.upper_node(file)?;
            self.as_its_owner(&node, || node.open(OpenFlags::READ))
                .and_then(|f| f.sync(true))
                .upper("sync a copied file")?;
        }
        self.settled_now(file)
    }

    /// Settles a file that is incomplete.
    pub(super) fn settle_lazy(&self, file: &FileInode) -> Result<()> {
        if file.lazy.get().is_some() { self.settle(file) } else { Ok(()) }
    }

    /// Takes the mark off a file that is whole and on disk.
    pub(super) fn settled_now(&self, file: &FileInode) -> Result<()> {
        if file.unsettled.load(Ordering::Acquire) {
            self.pass("settle:synced")?;
            self.unmark(&*self.upper_node(file)?)?;
            self.pass("settle:unmarked")?;
            file.unsettled.store(false, Ordering::Release);
        }
        file.lazy.set(None);
        Ok(())
    }

    fn unmark(&self, node: &Node) -> Result<()> {
        match self.as_its_owner(node, || node.remove_xattr(self.dialect.metacopy())) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            r => r.upper("take the mark off a copied file"),
        }
    }

    /// Stops waiting: what is left is settled.
    pub(super) fn settle_for_good(&self) {
        {
            let _files = self.unsettled.files.lock();
            self.unsettled.on.store(false, Ordering::Release);
            self.unsettled.came.notify_all();
        }
        let stuck = std::mem::take(&mut *self.unsettled.stuck.lock());
        self.unsettled.files.lock().extend(stuck);
        self.settle_all();
    }

    /// Takes away the note that there may be marked copies, once none is left on disk.
    pub(super) fn all_settled(&self, upper: &UpperLayer) {
        let u = &self.unsettled;
        if u.noted.load(Ordering::Acquire)
            && !u.failed.load(Ordering::Acquire)
            && let Err(e) = upper.stage.unlink(UNCLEAN)
        {
            log::debug!("the note of unsettled copies: {e}");
        }
    }

    /// Returns whether the value of a metacopy attribute is the mark of a copy.
    pub(super) fn is_unsettled(value: &[u8]) -> bool {
        value == UNSETTLED
    }

    /// Completes a marked copy of an earlier mount that did not end well.
    pub(super) fn mend(&self, file: &FileInode, node: &Node) -> Result<()> {
        let _one_at_a_time = file.copy_up.lock();
        if file.state.read().metacopy == Some(false) {
            return Ok(());
        }
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
        let Some(upper) = self.upper.as_ref().filter(|u| u.unclean) else { return Ok(()) };
        let mut left = 0;
        self.mend_below(Ino::ROOT, &upper.root.clone(), &mut left)?;
        if left == 0 {
            upper.stage.unlink(UNCLEAN).upper("take away the note of unsettled copies")?;
        }
        Ok(())
    }

    fn mend_below(&self, ino: Ino, handle: &Dir, left: &mut u32) -> Result<()> {
        let dir = self.dir(ino)?;
        for e in handle.list().upper("list a directory of the upper")? {
            let kind = match e.file_type {
                Some(t) => t,
                None => handle.stat(&e.name).upper("look at a file of the upper")?.file_type(),
            };
            let marked = || -> crate::sys::Result<bool> {
                let value = handle.get_xattr(&e.name, self.dialect.metacopy())?;
                Ok(value.is_some_and(|v| Overlay::is_unsettled(&v)))
            };
            match kind {
                FileType::Dir => {
                    // what the view does not show as this directory is none of ours
                    if let Ok(Object::Dir(sub)) = self.find(&dir, &e.name)
                        && let Ok(below) = handle.open_dir(&e.name)
                    {
                        self.mend_below(sub.ino, &below, left)?;
                    }
                }
                FileType::File if marked().upper("read the metacopy mark")? => {
                    let Ok(Object::File(file)) = self.find(&dir, &e.name) else { continue };
                    let mended = self.upper_node(&file).and_then(|n| self.mend(&file, &n));
                    if let Err(why) = mended {
                        log::error!("{}: a copy cannot be completed: {why}", printable(&e.name));
                        *left += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
