//! Copies whose data is not on disk yet, although they have their name.
//!
//! A copied file is written into the page cache, given its size and the id of the current batch
//! (in its origin, see `own_origin`), and put in place at once. A thread then writes a whole batch
//! out and takes away the note, a directory `incompat/stratafs-ID` in the staging directory, that
//! says that files of this batch may lack data. Note, size, id and name are metadata and so come to
//! the disk in the order in which they were made. This rests on file systems that never show a
//! block as data before its content is on disk (ext4 but with `data=writeback`, xfs, btrfs): after
//! a crash, a hole in a file of a noted batch where the lower file has data is data that was lost,
//! and is copied again; whatever else the file holds is the copy, or was written by a user since.
//! So a crash leaves in every block the old content or the new one, and what was synced stays, by
//! whatever means. What makes holes of its own (cutting, punching) settles the file first; so do
//! fsync(2), renaming and linking.
//!
//! While there is a note, and so after a crash, the kernel's overlayfs refuses the whole upper
//! ("overlay with incompat feature"); the next mount here makes it whole. Programs that read the
//! upper itself see whole files as long as the machine runs, since the page cache has them.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::{FileInode, Object};
use super::own_origin::OwnOrigin;
use super::types::Ino;
use super::upper::UpperLayer;
use crate::name::printable;
use crate::sys::{Dir, FileType, Node, OpenFlags, fill_holes, random_bytes};
use hashbrown::HashSet;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// More than so many files are not left for later: who copies up then waits for the disk.
const MOST: usize = 8192;
/// From so many files on, the whole file system is synced rather than each file.
const TOGETHER: usize = 8;

/// Copies that settle together. Held by who is making one, so that the note stays.
#[derive(Debug)]
pub(super) struct Batch(u64);

impl Batch {
    pub(super) fn id(&self) -> u64 {
        self.0
    }
}

/// The files that wait.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Whether somebody calls [`Overlay::settle_all`] again and again.
    on: AtomicBool,
    waiting: Mutex<Waiting>,
    came: Condvar,
    /// Inode numbers, in the upper's file system, of copies that cannot be completed.
    lost: Mutex<HashSet<u64>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// With the ids of their batches.
    files: Vec<(Arc<FileInode>, u64)>,
    /// The batch that takes new ones.
    current: Option<Arc<Batch>>,
    /// Those of which a copy was still being made when their turn came.
    old: Vec<Arc<Batch>>,
}

impl Unsettled {
    /// Takes out the batches that nobody adds to any more, and their files.
    fn take(&self) -> (Vec<Arc<FileInode>>, Vec<u64>) {
        let mut w = self.waiting.lock();
        let current = w.current.take();
        w.old.extend(current);
        let ended: Vec<u64> =
            w.old.extract_if(.., |b| Arc::strong_count(b) == 1).map(|b| b.0).collect();
        let files = w.files.extract_if(.., |(_, id)| ended.contains(id)).map(|(f, _)| f).collect();
        (files, ended)
    }
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
        let mut waiting = self.unsettled.waiting.lock();
        while waiting.files.is_empty() && self.unsettled.on.load(Ordering::Acquire) {
            self.unsettled.came.wait(&mut waiting);
        }
        !waiting.files.is_empty()
    }

    /// Returns how many copies wait to be settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.waiting.lock().files.len()
    }

    /// Returns the batch with which a copy may wait, which is noted on disk; `None` if it may not.
    pub(super) fn may_wait(&self, upper: &UpperLayer) -> Option<Arc<Batch>> {
        let u = &self.unsettled;
        let mut w = u.waiting.lock();
        if !u.on.load(Ordering::Acquire) || w.files.len() >= MOST {
            return None;
        }
        if w.current.is_none() {
            let id = u64::from_le_bytes(random_bytes());
            // under the lock, so that nobody goes on before it is there
            match upper.note_batch(id) {
                Ok(()) => w.current = Some(Arc::new(Batch(id))),
                Err(e) => log::warn!("copies are synced at once: {e}"),
            }
        }
        w.current.clone()
    }

    /// Marks a file of the upper as one of a batch.
    pub(super) fn mark_unsettled(&self, node: &Node, batch: &Batch) -> Result<()> {
        let value = node.get_xattr(self.dialect.origin()).upper("read an origin")?;
        let known = value.and_then(|v| OwnOrigin::parse(&v)).unwrap_or(OwnOrigin::UNKNOWN);
        let marked = OwnOrigin { batch: Some(batch.0), ..known }.encode();
        node.set_xattr(self.dialect.origin(), &marked, false, false)
            .upper("mark a copy as not yet on disk")
    }

    /// Takes in a copy that has got its name with that mark.
    pub(super) fn settles_later(&self, file: &Arc<FileInode>, batch: &Batch) {
        file.unsettled.store(true, Ordering::Release);
        // the kernel may forget it, but we must not: its mark is to go
        file.handles.fetch_add(1, Ordering::AcqRel);
        self.unsettled.waiting.lock().files.push((file.clone(), batch.0));
        self.unsettled.came.notify_one();
    }

    /// Writes all copies out that wait for it, and takes their batches' notes away. What fails is
    /// logged, and stays noted for the next mount.
    pub fn settle_all(&self) {
        let (files, ended) = self.unsettled.take();
        let Some(upper) = self.upper.as_ref().filter(|_| !ended.is_empty()) else { return };
        let done = if files.len() >= TOGETHER {
            upper.root.sync_file_system().upper("sync the upper")
        } else {
            files.iter().try_for_each(|f| match self.settle(f) {
                // it has no name any more
                Err(Error::NotFound | Error::Stale) => Ok(()),
                r => r,
            })
        };
        let done = done.and_then(|()| ended.iter().try_for_each(|id| upper.forget_batch(*id)));
        if let Err(e) = &done {
            log::error!("copied files may lack data after a crash, until the next mount: {e}");
        }
        for file in files {
            if done.is_ok() {
                // after the note went: what makes a hole now cannot come to the disk before that
                file.unsettled.store(false, Ordering::Release);
            }
            file.handles.fetch_sub(1, Ordering::AcqRel);
            self.inodes.closed(&file);
        }
    }

    /// Makes sure that a file's data is on disk if it is a copy that waits for that.
    pub(super) fn settle(&self, file: &FileInode) -> Result<()> {
        if !file.unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = file.copy_up.lock();
        if !file.unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        let node = self.upper_node(file)?;
        self.as_its_owner(&node, || node.open(OpenFlags::READ))
            .and_then(|f| f.sync(true))
            .upper("sync a copied file")?;
        self.unmark(&node)?;
        file.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    fn unmark(&self, node: &Node) -> Result<()> {
        let key = self.dialect.origin();
        let doing = "take the mark off a copied file";
        let Some(known) = self.batch_of(|| node.get_xattr(key)).upper(doing)? else {
            return Ok(());
        };
        let done = match (OwnOrigin { batch: None, ..known }) {
            OwnOrigin::UNKNOWN => self.as_its_owner(node, || node.remove_xattr(key)),
            o => self.as_its_owner(node, || node.set_xattr(key, &o.encode(), false, false)),
        };
        done.upper(doing)
    }

    /// Returns the origin of a copy if it names a batch.
    fn batch_of(
        &self,
        get: impl FnOnce() -> crate::sys::Result<Option<Vec<u8>>>,
    ) -> crate::sys::Result<Option<OwnOrigin>> {
        Ok(get()?.and_then(|v| OwnOrigin::parse(&v)).filter(|o| o.batch.is_some()))
    }

    /// Stops waiting: what is left is settled.
    pub(super) fn settle_for_good(&self) {
        {
            let _waiting = self.unsettled.waiting.lock();
            self.unsettled.on.store(false, Ordering::Release);
            self.unsettled.came.notify_all();
        }
        self.settle_all();
    }

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
            let marked = || -> crate::sys::Result<bool> {
                // a metacopy's data is below, whatever else it says
                let origin = self.batch_of(|| handle.get_xattr(&e.name, self.dialect.origin()))?;
                Ok(origin.and_then(|o| o.batch).is_some_and(|id| unclean.contains(&id))
                    && handle.get_xattr(&e.name, self.dialect.metacopy())?.is_none())
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
                FileType::File if marked().upper("read a copy's origin")? => {
                    let Ok(Object::File(file)) = self.find(&dir, &e.name) else { continue };
                    let mended = self.upper_node(&file).and_then(|n| self.mend(&file, &n));
                    if let Err(why) = mended {
                        log::error!("{}: a copy cannot be completed: {why}", printable(&e.name));
                        self.unsettled.lost.lock().insert(e.ino);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
