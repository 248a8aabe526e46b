//! What a kernel that holds writes back needs: it keeps the time of a file's last write by itself,
//! and may have something of any file that is open for writing.
//!
//! The disk takes a time of its own with each write. The kernel's is another one, and it tells it
//! only if it has changed: within one tick of its clock it has not. So that a file shows the same
//! time when the kernel has forgotten it, the kernel's is kept in mind for as long as the file is
//! open for writing, and given to the disk at the end.

use super::error::Doing as _;
use super::handle::Handle;
use super::types::{Attr, Fh, Ino, SetAttr};
use super::{Overlay, Result};
use crate::sys::{Errno, Time, TimeSet};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The kernel's times of files that are open for writing, each with the number of those handles.
#[derive(Debug, Default)]
pub(super) struct HeldTimes {
    files: Mutex<HashMap<Ino, (Time, u64)>>,
    /// Whether there has ever been one.
    any: AtomicBool,
}

impl HeldTimes {
    /// Returns whether there can be one at all.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Time> {
        if !self.any() {
            return None;
        }
        self.files.lock().get(&ino).map(|(time, _)| *time)
    }

    /// The kernel has another one now. Returns whether one was kept.
    pub(super) fn set(&self, ino: Ino, to: Time) -> bool {
        if !self.any() {
            return false;
        }
        let mut files = self.files.lock();
        let kept = files.get_mut(&ino);
        kept.is_some_and(|(time, _)| {
            *time = to;
            true
        })
    }

    fn add(&self, ino: Ino, time: Time) {
        self.any.store(true, Ordering::Release);
        self.files.lock().entry(ino).or_insert((time, 0)).1 += 1;
    }

    /// Takes a handle off; returns whether it was the last.
    fn take(&self, ino: Ino) -> bool {
        let mut files = self.files.lock();
        let Some((_, handles)) = files.get_mut(&ino) else { return false };
        *handles = handles.saturating_sub(1);
        *handles == 0
    }

    fn forget(&self, ino: Ino) {
        let mut files = self.files.lock();
        if files.get(&ino).is_some_and(|(_, handles)| *handles == 0) {
            files.remove(&ino);
        }
    }
}

impl Overlay {
    /// Opens a file by `open`, and keeps in mind that the kernel takes the time of its last write
    /// before that for the one it has, until it says otherwise, as long as the handle is open. One
    /// that does not write changes nothing.
    ///
    /// # Errors
    /// Those of `open`, and [`Overlay::getattr`]'s.
    pub fn holding_mtime<E: From<super::Error>>(
        &self,
        ino: Ino,
        open: impl FnOnce() -> std::result::Result<Fh, E>,
    ) -> std::result::Result<Fh, E> {
        // before the file is cut, and before others could close what they have written meanwhile
        self.held_times.add(ino, self.getattr(ino, None)?.mtime);
        let opened = open();
        let handle = opened.as_ref().ok().and_then(|fh| self.handles.get(*fh));
        match handle.filter(|h| h.writable && h.inode().is_some_and(|i| i.ino == ino)) {
            Some(handle) => handle.holds.store(true, Ordering::Release),
            None => {
                self.held_times.take(ino);
                self.held_times.forget(ino);
            }
        }
        opened
    }

    /// As [`Overlay::holding_mtime`], of a file that was just made.
    pub fn hold_mtime(&self, fh: Fh, mtime: Time) {
        if let Some(handle) = self.handles.get(fh).filter(|h| h.writable)
            && let Some(inode) = handle.inode()
        {
            self.held_times.add(inode.ino, mtime);
            handle.holds.store(true, Ordering::Release);
        }
    }

    /// Gives a file the time of its last write as the kernel has it, which says so after writes, and
    /// after each change of names and attributes too. Returns the attributes.
    ///
    /// Nothing is done to a file that has this time already: it is not copied up for that.
    ///
    /// # Errors
    /// As [`Overlay::setattr`]. That the mounter may not set the time of a file that he may write is
    /// none: the disk has kept one of its own.
    pub fn keep_mtime(&self, ino: Ino, fh: Option<Fh>, mtime: Time) -> Result<Attr> {
        if let Some(handle) = fh.and_then(|fh| self.handles.get(fh))
            && self.is_held(&handle)
        {
            self.held_times.set(ino, mtime);
            match self.put_mtime(fh, &handle, mtime) {
                Err(e) if e.errno() != Errno::PERM => return Err(e),
                _ => return self.getattr(ino, fh),
            }
        }
        let attr = self.getattr(ino, fh)?;
        // that of a file being written is not what the disk says
        if attr.mtime == mtime && self.held_times.get(ino).is_none() {
            return Ok(attr);
        }
        self.setattr(ino, fh, &only_mtime(mtime))
    }

    fn is_held(&self, handle: &Handle) -> bool {
        handle.writable && handle.inode().is_some_and(|i| self.held_times.get(i.ino).is_some())
    }

    /// Sets the time of the last write on disk.
    fn put_mtime(&self, fh: Option<Fh>, handle: &Handle, mtime: Time) -> Result<()> {
        match (handle.inode(), handle.lazy()) {
            // an incomplete copy is given its time again when it is complete
            (Some(inode), Some(_)) => self.setattr(inode.ino, fh, &only_mtime(mtime)).map(drop),
            _ => {
                let file = handle.file();
                if file.stat().is_ok_and(|s| s.mtime == mtime) {
                    return Ok(());
                }
                file.set_times(TimeSet::Omit, TimeSet::At(mtime)).upper("set the times")
            }
        }
    }

    /// Gives the disk the kernel's time when a handle is closed, if it is the last that wrote.
    pub(super) fn settle_mtime(&self, fh: Fh, handle: &Handle) {
        if !handle.holds.swap(false, Ordering::AcqRel) {
            return;
        }
        let Some(inode) = handle.inode() else { return };
        let Some(held) = self.held_times.get(inode.ino) else { return };
        if !self.held_times.take(inode.ino) {
            return;
        }
        if let Err(e) = self.put_mtime(Some(fh), handle, held) {
            log::debug!("the time of a file's last write is that of the disk: {e}");
        }
        self.held_times.forget(inode.ino);
    }

    /// Returns the files that are open for writing, each once.
    #[must_use]
    pub fn written(&self) -> Vec<Ino> {
        let mut all = self.handles.written();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn only_mtime(to: Time) -> SetAttr {
    SetAttr { mtime: Some(TimeSet::At(to)), ..SetAttr::default() }
}
