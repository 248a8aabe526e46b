//! Content: read, write, seek, allocate, copy, sync.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::handle::Handle;
use super::inode::{FileInode, Object};
use super::types::{Fh, Ino};
use crate::resolve::LayerRef;
use crate::sys::{Errno, File, FileType, Seek};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a file may do for whoever executes it; gone with the first change of its content or owner.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

impl Overlay {
    /// Reads at `offset` until `buf` is full or the file ends; returns the number of bytes.
    ///
    /// # Errors
    /// `EBADF` for an unknown handle, or what the layer's file system says.
    pub fn read(&self, fh: Fh, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (handle, file) = self.readable(fh)?;
        match handle.lazy() {
            Some(lazy) => lazy.read(buf, offset).upper("read a file"),
            None => file.read_at(buf, offset).upper("read a file"),
        }
    }

    /// Reads without a handle, through a bounded set of open files: for read-only views, in which
    /// the kernel need not open anything.
    ///
    /// # Errors
    /// As [`Overlay::read`]; `EISDIR` for a directory.
    pub fn read_ino(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let known = self.contents.lock().get(&ino).cloned();
        let file = match known {
            Some(f) => f,
            None => {
                let at = match self.seen(ino)? {
                    Object::Dir(_) => return Err(Error::IsDirectory),
                    Object::Pure(_, at) => at,
                    Object::File(f) => f.state.read().lower().ok_or(Error::Stale)?,
                };
                if self.lower_kind(at)? != FileType::File {
                    return Err(Error::Invalid);
                }
                let file = Arc::new(self.open_lower(at)?);
                let evicted = self.contents.lock().push(ino, file.clone());
                drop(evicted);
                file
            }
        };
        file.read_at(buf, offset).upper("read a file")
    }

    /// Writes at `offset`; returns the number of bytes. `kill_suid`: the writer may not keep
    /// setuid, setgid and capabilities, and the kernel left clearing them to us.
    ///
    /// # Errors
    /// `EBADF` for a handle not open for writing, or what the upper's file system says.
    pub fn write(&self, fh: Fh, offset: u64, data: &[u8], kill_suid: bool) -> Result<usize> {
        let (handle, file) = self.writable_file(fh)?;
        if kill_suid && let Some(inode) = handle.inode() {
            self.clear_set_id(inode, &file)?;
        }
        self.write_in(&handle, &file, offset, data)
    }

    fn write_in(&self, handle: &Handle, file: &File, offset: u64, data: &[u8]) -> Result<usize> {
        match handle.lazy() {
            Some(lazy) => self.write_lazy(&lazy, file, data, offset),
            None => file.write_at(data, offset).upper("write a file"),
        }
    }

    /// Returns whether a file was made in this mount and has never had an extended attribute.
    #[must_use]
    pub fn has_had_no_xattrs(&self, ino: Ino) -> bool {
        matches!(self.inodes.peek(ino), Some(Object::File(f)) if f.no_xattrs.load(Ordering::Acquire))
    }

    /// Takes away what a file may do for whoever executes it, before it is written.
    ///
    /// # Errors
    /// What the upper's file system says.
    pub fn lose_capability(&self, fh: Fh) -> Result<()> {
        let handle = self.handles.get(fh).ok_or(Error::BadHandle)?;
        let Some(inode) = handle.inode() else { return Ok(()) };
        if inode.no_xattrs.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.get_xattr(inode.ino, CAPABILITY) {
            // an empty one gives nothing, and stays
            Ok(v) if !v.is_empty() => {}
            _ => return Ok(()),
        }
        match self.remove_xattr(inode.ino, CAPABILITY) {
            Err(e) if e.errno() == Errno::NODATA => Ok(()),
            r => r,
        }
    }

    /// Writes what was written through a map, or what the kernel held back: all of it, for the
    /// kernel does not look at how much it was (`fuse_writepage_end` in fs/fuse/file.c). That takes
    /// no set-id bits and capabilities away; the write of it in the upper would.
    ///
    /// # Errors
    /// As [`Overlay::write`], also after a part was written.
    pub fn write_mapped(&self, fh: Fh, offset: u64, data: &[u8]) -> Result<()> {
        let (handle, file) = self.writable_file(fh)?;
        let write = || {
            let mut done = 0;
            while done < data.len() {
                match self.write_in(&handle, &file, offset + done as u64, &data[done..])? {
                    0 => return Err(Errno::IO).upper("write"),
                    n => done += n,
                }
            }
            Ok(())
        };
        // only looked at: a write that is to take them away must not find it set before it is true
        if handle.inode().is_some_and(|i| i.no_set_id.load(Ordering::Acquire)) {
            return write();
        }
        keeping_rights(&file, write)
    }

    /// Clears setuid, setgid (of a group-executable file) and capabilities.
    pub(super) fn clear_set_id(&self, inode: &FileInode, file: &File) -> Result<()> {
        if inode.no_set_id.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let cleared = self.clear_what_is_set(inode, file);
        if !matches!(cleared, Ok(false)) {
            inode.no_set_id.store(false, Ordering::Release);
        }
        cleared.map(drop)
    }

    /// Returns the file behind a handle, if it may have set-id bits: those that a write leaves.
    #[must_use]
    pub fn may_have_set_id(&self, fh: Fh) -> Option<Ino> {
        let handle = self.handles.get(fh)?;
        let inode = handle.inode()?;
        (!inode.no_set_id.load(Ordering::Acquire)).then_some(inode.ino)
    }

    /// Returns whether there was anything to clear.
    fn clear_what_is_set(&self, inode: &FileInode, file: &File) -> Result<bool> {
        let attr = self.file_attr(inode)?;
        let mut mode = attr.mode & !0o4000;
        if mode & 0o010 != 0 {
            mode &= !0o2000;
        }
        if mode != attr.mode {
            self.set_upper_mode(inode, mode)?;
        }
        // an empty one gives nothing, and cap_inode_need_killpriv() lets it be
        match file.get_xattr(CAPABILITY) {
            Ok(Some(v)) if !v.is_empty() => {}
            // setgid without group execution stays, and must be looked at again after a chmod
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(attr.mode & 0o6000 != 0),
            r => return r.map(|_| true).upper("look for a file's capabilities"),
        }
        match file.remove_xattr(CAPABILITY) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(true),
            r => r.map(|()| true).upper("clear a file's capabilities"),
        }
    }

    /// Called at each close of a descriptor. Writes went through to the upper's file already.
    ///
    /// # Errors
    /// `EBADF` for an unknown handle.
    pub fn flush(&self, fh: Fh) -> Result<()> {
        self.handles.get(fh).map(|_| ()).ok_or(Error::BadHandle)
    }

    /// Makes a file durable.
    ///
    /// # Errors
    /// What the upper's file system says.
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        let handle = self.handles.get(fh).ok_or(Error::BadHandle)?;
        let in_upper = handle.inode().is_some_and(|i| i.data_in_upper());
        if !in_upper || self.options.volatile {
            return Ok(());
        }
        if let Some(inode) = handle.inode() {
            self.settle(inode)?;
        }
        let (_, file) = self.readable(fh)?;
        file.sync(data_only).upper("sync a file")
    }

    /// Allocates or frees space, as fallocate(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a mode that the upper's file system does not know.
    pub fn fallocate(&self, fh: Fh, mode: u32, offset: u64, len: u64) -> Result<()> {
        let (handle, file) = self.writable_file(fh)?;
        if let Some(inode) = handle.inode() {
            self.settle(inode)?;
        }
        file.fallocate(mode, offset, len).upper("allocate space")
    }

    /// Returns the offset of the next data or hole.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    pub fn seek(&self, fh: Fh, what: Seek, offset: u64) -> Result<u64> {
        let (handle, file) = self.readable(fh)?;
        if let (Some(inode), Some(_)) = (handle.inode(), handle.lazy()) {
            self.settle_lazy(inode)?;
        }
        file.seek(what, offset).upper("seek in a file")
    }

    /// Copies between two open files without the data leaving the kernel; returns the bytes.
    /// `kill_suid` as for a write.
    ///
    /// # Errors
    /// `EXDEV` or `EOPNOTSUPP` where the file systems cannot: the caller reads and writes then.
    pub fn copy_file_range(
        &self,
        fh: Fh,
        offset: u64,
        out: Fh,
        out_offset: u64,
        len: u64,
        kill_suid: bool,
    ) -> Result<u64> {
        let (source, from) = self.readable(fh)?;
        if let (Some(inode), Some(_)) = (source.inode(), source.lazy()) {
            self.settle_lazy(inode)?;
        }
        let (handle, to) = self.writable_file(out)?;
        if kill_suid && let Some(inode) = handle.inode() {
            self.clear_set_id(inode, &to)?;
        }
        if let Some(inode) = handle.inode() {
            // shared blocks may bring holes
            self.settle(inode)?;
        }
        from.copy_range(offset, &to, out_offset, len).layer(LayerRef::Upper, "copy between files")
    }
}

/// Writes to a file of the upper without taking set-id bits and capabilities away, also by a write
/// that fails half done.
pub(super) fn keeping_rights<T>(file: &File, write: impl FnOnce() -> Result<T>) -> Result<T> {
    let mode = file.stat().upper("look at a file")?.permissions();
    let capability = |doing| match file.get_xattr(CAPABILITY) {
        // a broken one gives nothing, and stays
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => Ok(None),
        r => r.upper(doing),
    };
    let able = capability("look for a file's capabilities")?;
    let done = write();
    let restore_mode = || {
        if mode & 0o6000 != 0 && file.stat().upper("look at a file")?.permissions() != mode {
            file.chmod(mode).upper("set the mode")?;
        }
        Ok(())
    };
    let restore_capability = || {
        if let Some(value) = able
            && capability("look for a file's capabilities")?.is_none()
        {
            file.set_xattr(CAPABILITY, &value).upper("keep a file's capabilities")?;
        }
        Ok(())
    };
    // each though another fails
    let (mode, able) = (restore_mode(), restore_capability());
    let done = done?;
    mode.and(able).map(|()| done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Dir, OpenFlags};

    #[test]
    fn a_write_that_fails_takes_no_rights_away() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        let file = dir.open_file(b"f", OpenFlags::CREATE_NEW, 0o600).unwrap();
        let mut capability = vec![1, 0, 0, 2, 2];
        capability.resize(20, 0);
        // only root may give one
        let able = file.set_xattr(CAPABILITY, &capability).is_ok();
        file.chmod(0o6755).unwrap();
        let failed = keeping_rights(&file, || -> Result<()> {
            file.write_at(b"some", 0).unwrap();
            // as the write of somebody without privilege
            file.chmod(0o755).unwrap();
            Err(Errno::NOSPC).upper("copy a file's data")
        });
        assert_eq!(failed.unwrap_err().errno(), Errno::NOSPC);
        assert_eq!(file.stat().unwrap().permissions(), 0o6755);
        if able {
            assert_eq!(file.get_xattr(CAPABILITY).unwrap(), Some(capability));
        }
    }
}
