//! Block-level copy-up: the first write to a large lower file does not wait for all of it.
//!
//! The upper's file is made sparse, of full length, and gets its name at once. Which of its blocks
//! are the file's is in a [`map`] in memory; all others are the lower's. The thread that settles
//! copies brings them up, and whatever does more than to read and write brings them up first.
//!
//! It is a file of a batch, whose note keeps the kernel's overlayfs away (see
//! [`settle`](super::settle)). But the note lies in the work directory, and these holes are there
//! as soon as the daemon is gone, not after a power loss alone. So in place of the batch's id the
//! file bears a mark of its own, [`INCOMPLETE`](crate::marker::INCOMPLETE), which goes after its
//! data came to the disk: with another work directory, and as a layer below, it is refused too.
//!
//! # The map on disk
//! is the upper's file system's own: it shows a block as data only when its content is on disk, so
//! a hole in a marked file is the lower's, and all else is the file's. Hence no write may leave a
//! block half right, not even for a moment: a block is copied whole before a part of it is written.
//! What a mount finds marked it completes before it shows it, whatever its options.

pub(super) mod map;

use super::Overlay;
use super::error::{Doing as _, Result};
use super::inode::FileInode;
use super::settle::Later;
use super::upper::UpperLayer;
use crate::sys::{self, Errno, File, Seek, Time, TimeSet, clone_data, copy_part};
use map::{BLOCK, Map, Part};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many files may be incomplete at a time: each holds two open files.
const MOST: usize = 64;
/// How many blocks are brought up in one step, for which a writer may have to wait.
const STEP: u64 = 4;

/// A file of the upper of which some blocks are still in a lower.
#[derive(Debug)]
pub(super) struct Lazy {
    from: File,
    to: File,
    /// How many bytes of the lower's content count. Does not change: cutting completes first.
    lower_len: u64,
    /// Held over each change of the upper's data, and whoever needs its times still.
    filling: Mutex<()>,
    map: RwLock<Map>,
    count: Arc<AtomicUsize>,
}

impl Drop for Lazy {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where a file says that it is incomplete.
#[derive(Debug, Default)]
pub(super) struct LazySlot {
    is_lazy: AtomicBool,
    lazy: RwLock<Option<Arc<Lazy>>>,
}

impl LazySlot {
    pub(super) fn get(&self) -> Option<Arc<Lazy>> {
        if self.is_lazy.load(Ordering::Acquire) { self.lazy.read().clone() } else { None }
    }

    pub(super) fn set(&self, lazy: Option<Arc<Lazy>>) {
        let is_lazy = lazy.is_some();
        let before = std::mem::replace(&mut *self.lazy.write(), lazy);
        self.is_lazy.store(is_lazy, Ordering::Release);
        // its files are closed without a lock
        drop(before);
    }
}

impl Lazy {
    /// Reads as from one file.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> sys::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64);
        let parts = self.map.read().parts(offset..end, self.lower_len);
        let mut rest = buf;
        let mut done = 0;
        for part in parts {
            let (file, r) = match part {
                Part::Upper(r) => (&self.to, r),
                Part::Lower(r) => (&self.from, r),
            };
            // no longer than `buf`
            let (piece, after) = rest.split_at_mut((r.end - r.start) as usize);
            rest = after;
            let n = file.read_at(piece, r.start)?;
            done += piece.len();
            if std::ptr::eq(file, &self.from) {
                // somebody made the lower shorter
                piece[n..].fill(0);
            } else if n < piece.len() {
                return Ok(done - piece.len() + n);
            }
        }
        Ok(done)
    }

    /// Returns the time of the last change that a user made.
    pub(super) fn mtime(&self) -> sys::Result<Time> {
        let _still = self.still();
        Ok(self.to.stat()?.mtime)
    }

    /// Lets nobody change the upper's data or times meanwhile.
    pub(super) fn still(&self) -> MutexGuard<'_, ()> {
        self.filling.lock()
    }

    /// Returns the bytes of the lower in some blocks.
    fn bytes(&self, blocks: Range<u64>) -> Range<u64> {
        let at = |b: u64| b.saturating_mul(BLOCK).min(self.lower_len);
        at(blocks.start)..at(blocks.end)
    }

    /// Brings up some blocks that are missing from `at` on, without the file's times changing.
    /// Returns where to go on, or `None` when none is missing.
    fn step(&self, at: u64) -> sys::Result<Option<u64>> {
        let _one_at_a_time = self.filling.lock();
        let end = self.lower_len.div_ceil(BLOCK);
        let Some(missing) = self.map.read().next_missing(at, end) else { return Ok(None) };
        let bytes = self.bytes(missing.clone());
        let data = match self.from.seek(Seek::Data, bytes.start) {
            Ok(d) => d.min(bytes.end),
            Err(Errno::NXIO) => bytes.end,
            // a file system that knows no holes
            Err(Errno::INVAL | Errno::OPNOTSUPP) => bytes.start,
            Err(e) => return Err(e),
        };
        let hole = if data == bytes.end { missing.end } else { data / BLOCK };
        if hole > missing.start {
            self.map.write().insert(missing.start..hole);
            return Ok(Some(hole));
        }
        let blocks = missing.start..missing.end.min(missing.start + STEP);
        let mtime = self.to.stat()?.mtime;
        let copied = copy_part(&self.from, &self.to, self.bytes(blocks.clone()));
        self.to.set_times(TimeSet::Omit, TimeSet::At(mtime))?;
        copied?;
        self.map.write().insert(blocks.clone());
        Ok(Some(blocks.end))
    }

    /// Brings up what a write would change in part only.
    fn fill_edges(&self, bytes: Range<u64>) -> sys::Result<()> {
        let edges = self.map.read().edges(bytes, self.lower_len);
        for block in edges {
            copy_part(&self.from, &self.to, self.bytes(block..block + 1))?;
            self.map.write().insert(block..block + 1);
        }
        Ok(())
    }

    /// Notes what was written at `bytes`, of which `whole` should have been.
    fn wrote(&self, bytes: Range<u64>, whole: bool) -> sys::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (first, last) = (bytes.start / BLOCK, (bytes.end - 1) / BLOCK);
        // a short write may have ended within a block that it was to cover
        let tail = bytes.end..self.bytes(last..last + 1).end;
        if !whole && !tail.is_empty() && !self.map.read().contains(last) {
            copy_part(&self.from, &self.to, tail)?;
        }
        self.map.write().insert(first..last + 1);
        Ok(())
    }
}

impl Overlay {
    /// Begins a copy of `len` bytes that need not be made now: gives the empty file `to` its
    /// length. Returns `None` where the copy is to be made at once, because that is as fast, or
    /// because a crash could not be mended.
    pub(super) fn begin_lazy(
        &self,
        upper: &UpperLayer,
        from: &File,
        to: &File,
        len: u64,
    ) -> Result<Option<Later>> {
        if self.options.lazy_from.is_none_or(|least| len < least.max(1))
            || self.lazies.load(Ordering::Acquire) >= MOST
            || clone_data(from, to, len).upper("share a file's blocks")?
            || from.stat().upper("look at a lower file")?.size != len
        {
            return Ok(None);
        }
        let Some(batch) = self.may_wait(upper) else { return Ok(None) };
        to.truncate(len).upper("give a copy its size")?;
        // kept in the inode, say: then holes tell nothing
        if to.seek(Seek::Data, 0) != Err(Errno::NXIO) {
            return Ok(None);
        }
        let files = (from.try_clone(), to.try_clone());
        let (Ok(from), Ok(to)) = files else { return Ok(None) };
        self.pass("lazy:begun")?;
        self.lazies.fetch_add(1, Ordering::AcqRel);
        let lazy = Lazy {
            from,
            to,
            lower_len: len,
            filling: Mutex::new(()),
            map: RwLock::default(),
            count: self.lazies.clone(),
        };
        Ok(Some(Later { batch, lazy: Some(Arc::new(lazy)) }))
    }

    /// Writes by means of `file`, an open file of the upper's copy.
    pub(super) fn write_lazy(
        &self,
        lazy: &Lazy,
        file: &File,
        data: &[u8],
        offset: u64,
    ) -> Result<usize> {
        let _one_at_a_time = lazy.filling.lock();
        let end = offset.saturating_add(data.len() as u64);
        self.pass("lazy:edges")?;
        lazy.fill_edges(offset..end).upper("copy the blocks around a write")?;
        self.pass("lazy:write")?;
        let n = file.write_at(data, offset).upper("write a file")?;
        lazy.wrote(offset..offset + n as u64, n == data.len())
            .upper("copy the block in which a write ended")?;
        self.pass("lazy:written")?;
        Ok(n)
    }

    /// Brings up all that is missing of a file.
    pub(super) fn fill(&self, lazy: &Lazy) -> Result<()> {
        let mut at = 0;
        loop {
            self.pass("lazy:step")?;
            match lazy.step(at).upper("complete a copied file")? {
                Some(next) => at = next,
                None => return self.pass("lazy:filled"),
            }
        }
    }

    /// Settles a file that is about to be cut to length zero: nothing of the lower is needed.
    pub(super) fn settle_cut(&self, file: &FileInode) -> Result<()> {
        {
            let _one_at_a_time = file.copy_up.lock();
            if let Some(lazy) = file.lazy.get() {
                // nobody writes before the mark has gone: what then were a hole would be taken for lost
                let _still = lazy.still();
                lazy.to.truncate(0).upper("cut a file")?;
                lazy.map.write().insert(0..lazy.lower_len.div_ceil(BLOCK));
                self.pass("lazy:cut")?;
                if file.unsettled.load(Ordering::Acquire) {
                    lazy.to.sync(false).upper("sync a file")?;
                    self.settled_now(file)?;
                }
                file.lazy.set(None);
                return Ok(());
            }
        }
        self.settle(file)
    }
}
