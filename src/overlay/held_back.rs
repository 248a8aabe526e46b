//! What a kernel that holds writes back needs: it keeps the time of a file's last write by itself,
//! may have something of any file that is open for writing, and has names of what others change.
//!
//! The disk takes a time of its own with each write. The kernel's is another one, and it tells it
//! only if it has changed: within one tick of its clock it has not. So that a file shows the same
//! time when the kernel has forgotten it, the kernel's is kept in mind for as long as the file is
//! open for writing, and given to the disk at the end.

use super::error::Doing as _;
use super::handle::Handle;
use super::inode::Object;
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

    /// The kernel has another one now.
    pub(super) fn set(&self, ino: Ino, to: Time) {
        if self.any()
            && let Some((time, _)) = self.files.lock().get_mut(&ino)
        {
            *time = to;
        }
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
    /// Keeps in mind that the kernel takes this for the time of a file's last write until it says
    /// otherwise, as long as a handle is open that was just opened. One that does not write changes
    /// nothing.
    pub fn hold_mtime(&self, fh: Fh, mtime: Time) {
        if let Some(handle) = self.handles.get(fh).filter(|h| h.writable)
            && let Some(inode) = handle.inode()
        {
            self.held_times.add(inode.ino, mtime);
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
        let Some(inode) = handle.inode().filter(|_| handle.writable) else { return };
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

    /// Returns the names, each in its directory, under which the lowers show a file that is in none
    /// but them, as far as they were looked up.
    #[must_use]
    pub fn lower_names(&self, ino: Ino) -> Vec<(Ino, Box<[u8]>)> {
        match self.inodes.get(ino) {
            Some(Object::File(f)) if !f.data_in_upper() => {
                let state = f.state.read();
                state.lower_names.iter().map(|p| (p.parent, Box::from(&*p.name))).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn only_mtime(to: Time) -> SetAttr {
    SetAttr { mtime: Some(TimeSet::At(to)), ..SetAttr::default() }
}
