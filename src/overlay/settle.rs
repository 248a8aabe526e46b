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
use super::inode::FileInode;
use super::lazy::Lazy;
use super::own_origin::OwnOrigin;
use super::upper::UpperLayer;
use crate::marker::INCOMPLETE;
use crate::sys::{Node, OpenFlags, random_bytes};
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

/// What is still to be done for a copy that has its name.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) batch: Arc<Batch>,
    /// Says which of its blocks are still in a lower.
    pub(super) lazy: Option<Arc<Lazy>>,
}

impl From<Arc<Batch>> for Later {
    fn from(batch: Arc<Batch>) -> Later {
        Later { batch, lazy: None }
    }
}

impl Later {
    /// Returns the batch that the file's origin is to name. An incomplete file has a mark instead.
    pub(super) fn batch_to_name(&self) -> Option<u64> {
        self.lazy.is_none().then_some(self.batch.0)
    }
}

/// The files that wait.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Whether somebody calls [`Overlay::settle_all`] again and again.
    on: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Held while batches settle.
    settling: Mutex<()>,
    came: Condvar,
    /// Inode numbers, in the upper's file system, of copies that cannot be completed.
    pub(super) lost: Mutex<HashSet<u64>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// With the ids of their batches.
    files: Vec<(Arc<FileInode>, u64)>,
    /// The batch that takes new ones.
    current: Option<Arc<Batch>>,
    /// Those of which a copy was still being made when their turn came, or failed.
    old: Vec<Arc<Batch>>,
    /// Files of batches that failed, for want of room perhaps.
    stuck: Vec<(Arc<FileInode>, u64)>,
}

impl Unsettled {
    /// Takes out the batches that nobody adds to any more, and their files.
    fn take(&self) -> (Vec<(Arc<FileInode>, u64)>, Vec<u64>) {
        let mut w = self.waiting.lock();
        let current = w.current.take();
        w.old.extend(current);
        let ended: Vec<u64> =
            w.old.extract_if(.., |b| Arc::strong_count(b) == 1).map(|b| b.0).collect();
        let mut files: Vec<_> = w.files.extract_if(.., |(_, id)| ended.contains(id)).collect();
        files.extend(w.stuck.extract_if(.., |(_, id)| ended.contains(id)));
        (files, ended)
    }

    /// Takes back what failed.
    fn put_back(&self, files: Vec<(Arc<FileInode>, u64)>, batches: HashSet<u64>) {
        let mut w = self.waiting.lock();
        w.stuck.extend(files);
        w.old.extend(batches.into_iter().map(|id| Arc::new(Batch(id))));
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
        if !u.on.load(Ordering::Acquire) || w.files.len() + w.stuck.len() >= MOST {
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

    /// Marks a file of the upper as incomplete, in place of any metacopy mark, or as one of a batch.
    pub(super) fn mark_unsettled(&self, node: &Node, later: &Later) -> Result<()> {
        let doing = "mark a copy as not yet on disk";
        let Some(batch) = later.batch_to_name() else {
            let key = self.dialect.metacopy();
            return node.set_xattr(key, INCOMPLETE, false, false).upper(doing);
        };
        let record = self.copy_record(|key| node.get_xattr(key)).upper("read an origin")?;
        let known = record.own.unwrap_or(OwnOrigin::UNKNOWN);
        let marked = OwnOrigin { batch: Some(batch), ..known };
        self.change_record(node, record, marked).upper(doing)
    }

    /// Takes in a copy that has got its name with that mark.
    pub(super) fn settles_later(&self, file: &Arc<FileInode>, later: &Later) {
        file.unsettled.store(true, Ordering::Release);
        // the kernel may forget it, but we must not: its mark is to go
        file.handles.fetch_add(1, Ordering::AcqRel);
        self.unsettled.waiting.lock().files.push((file.clone(), later.batch.0));
        self.unsettled.came.notify_one();
    }

    /// Writes all copies out that wait for it, and takes their batches' notes away. What fails is
    /// logged, stays noted for the next mount, and is tried again with the next ones.
    pub fn settle_all(&self) {
        // the end of a view waits for whoever is at it
        let _one_at_a_time = self.unsettled.settling.lock();
        let (files, ended) = self.unsettled.take();
        let Some(upper) = self.upper.as_ref().filter(|_| !ended.is_empty()) else { return };
        let synced = files.len() >= TOGETHER
            && upper
                .root
                .sync_file_system()
                .inspect_err(|e| log::error!("cannot sync the upper: {e}"))
                .is_ok();
        let mut failed = HashSet::new();
        for (file, batch) in &files {
            if let Err(e) = self.settle_one(file, synced) {
                log::error!("a copied file is not on disk: {e}");
                failed.insert(*batch);
            }
        }
        for id in &ended {
            if !failed.contains(id)
                && let Err(e) = upper.forget_batch(*id)
            {
                log::error!("copied files are noted as lacking data: {e}");
                failed.insert(*id);
            }
        }
        let (stuck, done) = files.into_iter().partition(|(_, id)| failed.contains(id));
        self.unsettled.put_back(stuck, failed);
        for (file, _) in done {
            // after the note went: what makes a hole now cannot come to the disk before that
            file.unsettled.store(false, Ordering::Release);
            file.handles.fetch_sub(1, Ordering::AcqRel);
            self.inodes.closed(&file);
        }
    }

    /// Settles a file of a batch. `synced`: all that was copied is on disk.
    fn settle_one(&self, file: &FileInode, synced: bool) -> Result<()> {
        let incomplete = file.lazy.get().is_some();
        // nobody will find it after a crash
        let nameless = incomplete && file.state.read().orphan.is_some();
        if nameless || synced && !incomplete {
            return Ok(());
        }
        match self.settle(file) {
            // it has no name any more
            Err(Error::NotFound | Error::Stale) => Ok(()),
            r => r,
        }
    }

    /// Makes sure that a file is whole and on disk if it is a copy that waits for that.
    pub(super) fn settle(&self, file: &FileInode) -> Result<()> {
        loop {
            let lazy = file.lazy.get();
            if lazy.is_none() && !file.unsettled.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(lazy) = &lazy {
                self.fill(lazy)?;
            }
            let _one_at_a_time = file.copy_up.lock();
            if lazy.as_ref().map(Arc::as_ptr) != file.lazy.get().as_ref().map(Arc::as_ptr) {
                // it became incomplete, or whole, meanwhile
                continue;
            }
            if file.unsettled.load(Ordering::Acquire) {
                let node = self.upper_node(file)?;
                self.as_its_owner(&node, || node.open(OpenFlags::READ))
                    .and_then(|f| f.sync(true))
                    .upper("sync a copied file")?;
                self.settled_now(file)?;
            }
            // else it has no name
            file.lazy.set(None);
            return Ok(());
        }
    }

    /// Settles a file that is incomplete.
    pub(super) fn settle_lazy(&self, file: &FileInode) -> Result<()> {
        if file.lazy.get().is_some() { self.settle(file) } else { Ok(()) }
    }

    /// Takes the mark off a file that is whole and on disk.
    pub(super) fn settled_now(&self, file: &FileInode) -> Result<()> {
        self.pass("settle:synced")?;
        self.unmark(&*self.upper_node(file)?)?;
        self.pass("settle:unmarked")?;
        file.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// Takes off a file whatever says that it may lack data.
    pub(super) fn unmark(&self, node: &Node) -> Result<()> {
        let metacopy = self.dialect.metacopy();
        let doing = "take the mark off a copied file";
        let record = self.copy_record(|key| node.get_xattr(key)).upper(doing)?;
        if let Some(known) = record.own.filter(|o| o.batch.is_some()) {
            let now = OwnOrigin { batch: None, ..known };
            self.change_record(node, record, now).upper(doing)?;
        }
        if node.get_xattr(metacopy).upper(doing)?.is_some_and(|v| v == INCOMPLETE) {
            self.as_its_owner(node, || node.remove_xattr(metacopy)).upper(doing)?;
        }
        Ok(())
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
}
