//! Opening and closing files: who opens for writing gets a copy in the upper.

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::handle::Handle;
use super::inode::{Backing, FileInode, Object};
use super::options::AccessTimes;
use super::types::{Fh, Ino, OpenMode};
use crate::sys::{File, FileType, OpenFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Overlay {
    /// Opens a regular file. For writing, or to cut it, it is copied up first.
    ///
    /// # Errors
    /// `EROFS` for writing without an upper, `EISDIR`, `ELOOP` and `ENXIO` for what is no regular
    /// file (the kernel opens those itself), and what the layers' file systems say.
    pub fn open(&self, ino: Ino, mode: OpenMode) -> Result<Fh> {
        let object = self.object(ino)?;
        let writes = mode.write || mode.truncate;
        if writes && self.read_only() {
            return Err(Error::ReadOnly);
        }
        if let (Object::Pure(_, at), true) = (&object, self.read_only()) {
            let file = self.open_lower_again(*at)?;
            return Ok(self.handles.insert(Handle::new(None, file, true, false)));
        }
        let inode = self.file(object)?;
        if writes {
            let data = if mode.truncate { Data::Nothing } else { Data::All };
            // when it is cut, the kernel asks again by itself
            if self.copy_up_for(&inode, data, None)?.is_some() && !mode.truncate {
                self.copied.add(ino);
            }
            self.complete(&inode, data)?;
            if mode.truncate {
                self.settle_cut(&inode)?;
            }
        }
        let opened = self.open_backing(&inode, mode);
        if matches!(opened, Err(Error::Replaced)) {
            // so that the kernel, which looks the name up again, finds the new file
            self.catch_up();
        }
        let (file, lower) = opened?;
        if mode.truncate {
            file.truncate(0).upper("cut a file")?;
        }
        Ok(self.handles.insert(Handle::new(Some(inode), file, lower, mode.write)))
    }

    /// Opens what a file's content is in now; says whether that is a lower layer.
    fn open_backing(&self, inode: &Arc<FileInode>, mode: OpenMode) -> Result<(Arc<File>, bool)> {
        let (backing, kept) = {
            let state = inode.state.read();
            (state.backing, state.kept.clone())
        };
        match backing {
            Backing::Lower(at) if !mode.write && !mode.truncate => {
                if self.lower_kind(at)? != FileType::File {
                    return Err(Error::Invalid);
                }
                match kept {
                    Some(kept) => Ok((kept, true)),
                    None => Ok((self.open_lower_again(at)?, true)),
                }
            }
            Backing::Lower(_) => Err(Error::Stale),
            Backing::Upper if !mode.write && !mode.truncate && self.is_metacopy(inode)? => {
                Ok((self.open_data_below(inode)?.into(), true))
            }
            Backing::Upper => self.open_upper(inode, mode).map(|f| (f.into(), false)),
        }
    }

    /// Opens the upper's copy of a file.
    pub(super) fn open_upper(&self, inode: &Arc<FileInode>, mode: OpenMode) -> Result<File> {
        let flags = OpenFlags {
            read: mode.read || !mode.write,
            write: mode.write || mode.truncate,
            direct: mode.direct,
            sync: mode.sync,
            nonblock: true,
            noatime: self.options.access_times == AccessTimes::Kept,
            ..OpenFlags::default()
        };
        let (node, stat) = self.upper_node_and_stat(inode)?;
        if stat.file_type() != FileType::File {
            return Err(Error::Invalid);
        }
        self.as_its_owner(&node, || node.open(flags)).upper("open a file")
    }

    /// Returns the file behind a handle, and its length in bytes, if it is that file for as long as
    /// the handle is open, so that it may be read and written directly: a file of the upper, or
    /// any of a read-only view. Not one with set-id bits: those go at the first write.
    #[must_use]
    pub fn backing_file(&self, fh: Fh) -> Option<(Arc<File>, u64)> {
        let handle = self.handles.get(fh)?;
        if !self.read_only() && (handle.is_lower() || self.options.owner_view) {
            return None;
        }
        if handle.lazy().is_some() {
            return None;
        }
        // the kernel reads such a file as its mount has it, whatever the handle says; those of
        // lowers come from mounts that keep times, wherever who is privileged enough for this may
        // have such
        let keeps_times = self.options.access_times == AccessTimes::Kept;
        if keeps_times && !self.options.layers_apart && !handle.is_lower() {
            return None;
        }
        let file = handle.file();
        let stat = file.stat().ok()?;
        let fits = stat.file_type() == FileType::File
            && (self.read_only() || stat.permissions() & 0o6000 == 0);
        fits.then_some((file, stat.size))
    }

    /// Returns whether anybody has the file open.
    pub fn is_open(&self, ino: Ino) -> bool {
        matches!(self.inodes.peek(ino), Some(Object::File(f)) if f.handles.load(Ordering::Acquire) > 0)
    }

    /// Returns whether anybody has the file open for writing.
    pub fn is_written(&self, ino: Ino) -> bool {
        self.handles.is_written(ino)
    }

    /// Closes a handle.
    pub fn release(&self, fh: Fh) {
        if self.held_times.any()
            && let Some(handle) = self.handles.get(fh)
        {
            self.settle_mtime(fh, &handle);
        }
        let Some(handle) = self.handles.remove(fh) else { return };
        if let Some(inode) = handle.inode() {
            inode.handles.fetch_sub(1, Ordering::AcqRel);
            self.inodes.closed(inode);
        }
    }

    /// Returns the file to read from: a handle that was opened before a copy-up sees the copy.
    pub(super) fn readable(&self, fh: Fh) -> Result<(Arc<Handle>, Arc<File>)> {
        let handle = self.handles.get(fh).ok_or(Error::BadHandle)?;
        if handle.outdated()
            && let Some(inode) = handle.inode()
        {
            handle.replace(self.open_upper(inode, OpenMode { read: true, ..OpenMode::default() })?);
        }
        let file = handle.file();
        Ok((handle, file))
    }

    /// Returns the file to write to.
    pub(super) fn writable_file(&self, fh: Fh) -> Result<(Arc<Handle>, Arc<File>)> {
        let handle = self.handles.get(fh).ok_or(Error::BadHandle)?;
        if !handle.writable {
            return Err(Error::BadHandle);
        }
        let file = handle.file();
        Ok((handle, file))
    }
}
