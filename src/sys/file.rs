//! An open file.

use super::{Errno, FileType, Result, Stat, Time, TimeSet, platform};
use rustix::fs::{self, OFlags, SeekFrom, Timespec, Timestamps};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Writes go to the end.
    pub append: bool,
    /// Cut to length zero.
    pub truncate: bool,
    /// Make the file if it is missing.
    pub create: bool,
    /// Fail with `EEXIST` if it exists.
    pub exclusive: bool,
    /// Bypass the page cache (`O_DIRECT`), where the platform has it.
    pub direct: bool,
    /// Writes are durable when they return (`O_SYNC`).
    pub sync: bool,
    /// Never wait for a fifo's other end (`O_NONBLOCK`).
    pub nonblock: bool,
    /// Leave the access time (`O_NOATIME`), where allowed.
    pub noatime: bool,
}

impl OpenFlags {
    /// For reading only.
    pub const READ: OpenFlags = OpenFlags {
        read: true,
        write: false,
        append: false,
        truncate: false,
        create: false,
        exclusive: false,
        direct: false,
        sync: false,
        nonblock: false,
        noatime: false,
    };
    /// For reading and writing.
    pub const READ_WRITE: OpenFlags = OpenFlags { write: true, ..OpenFlags::READ };
    /// A new file for reading and writing, which must not exist yet.
    pub const CREATE_NEW: OpenFlags =
        OpenFlags { create: true, exclusive: true, ..OpenFlags::READ_WRITE };

    /// Reads the raw flags of open(2). Unknown ones mean nothing.
    #[must_use]
    pub fn from_raw(raw: i32) -> OpenFlags {
        let o = OFlags::from_bits_retain(raw.cast_unsigned());
        let access = o & OFlags::RWMODE;
        OpenFlags {
            read: access != OFlags::WRONLY,
            write: access == OFlags::WRONLY || access == OFlags::RDWR,
            append: o.contains(OFlags::APPEND),
            truncate: o.contains(OFlags::TRUNC),
            create: o.contains(OFlags::CREATE),
            exclusive: o.contains(OFlags::EXCL),
            direct: false,
            sync: o.contains(OFlags::SYNC) || o.contains(OFlags::DSYNC),
            nonblock: o.contains(OFlags::NONBLOCK),
            noatime: false,
        }
    }

    pub(super) fn to_rustix(self) -> OFlags {
        let mut o = match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        } | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        o.set(OFlags::APPEND, self.append);
        o.set(OFlags::TRUNC, self.truncate);
        o.set(OFlags::CREATE, self.create);
        o.set(OFlags::EXCL, self.exclusive);
        o.set(OFlags::SYNC, self.sync);
        o.set(OFlags::NONBLOCK, self.nonblock);
        platform::extra_open_flags(&mut o, self);
        o
    }
}

/// What lseek(2) is to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data at or after the offset.
    Data,
    /// The next hole at or after the offset.
    Hole,
}

/// What statvfs(3) says.
#[derive(Clone, Copy, Debug)]
pub struct StatVfs {
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Blocks free for ordinary users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred block size in bytes.
    pub bsize: u32,
    /// Fragment size in bytes, the unit of the block counts.
    pub frsize: u32,
    /// Longest name in bytes.
    pub namelen: u32,
    /// What the file system is known by, if it has something.
    pub fsid: u64,
}

/// An open regular file (or, with care, any other that can be opened).
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
}

impl File {
    pub(super) fn from_fd(fd: OwnedFd) -> File {
        File { fd }
    }

    /// Takes over what was opened with these flags.
    pub(super) fn opened(fd: OwnedFd, flags: OpenFlags) -> File {
        if flags.noatime {
            platform::keep_access_time(fd.as_fd(), flags.to_rustix());
        }
        File { fd }
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Returns the attributes.
    pub fn stat(&self) -> Result<Stat> {
        Ok(fs::fstat(&self.fd)?.into())
    }

    /// Reads at `offset` until `buf` is full or the file ends; returns the number of bytes.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(&self.fd, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Writes all of `buf` at `offset`. Returns the number of bytes written, which is short only
    /// when an error struck after some had been written.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pwrite(&self.fd, &buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// As [`File::write_at`], but all or an error: what struck after some bytes is met again by those
    /// that are left.
    pub fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let n = self.write_at(buf, offset)?;
            if n == 0 {
                return Err(Errno::NOSPC);
            }
            buf = &buf[n..];
            offset += n as u64;
        }
        Ok(())
    }

    /// Sets the length in bytes.
    pub fn truncate(&self, len: u64) -> Result<()> {
        Ok(fs::ftruncate(&self.fd, len)?)
    }

    /// Allocates or frees space, as fallocate(2) with the raw Linux `mode`.
    pub fn fallocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        platform::fallocate(self.fd.as_fd(), mode, offset, len)
    }

    /// Returns the offset of the next data or hole.
    pub fn seek(&self, what: Seek, offset: u64) -> Result<u64> {
        let pos = match what {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        Ok(fs::seek(&self.fd, pos)?)
    }

    /// Copies up to `len` bytes to `out` within the kernel; returns the number of bytes copied.
    pub fn copy_range(&self, offset: u64, out: &File, out_offset: u64, len: u64) -> Result<u64> {
        platform::copy_file_range(self.fd.as_fd(), offset, out.fd.as_fd(), out_offset, len)
    }

    /// Asks the kernel to read the file from disk in the background, as much of its beginning as the
    /// disk takes at once (a MiB and more). Costs next to nothing for what is in memory already. A
    /// wish, no more.
    pub fn read_ahead(&self) {
        platform::read_ahead(self.fd.as_fd());
    }

    /// Makes the content durable; with `data_only` not the times (fdatasync(2)).
    pub fn sync(&self, data_only: bool) -> Result<()> {
        platform::sync(self.fd.as_fd(), data_only)
    }

    /// Sets the permission, set-id and sticky bits.
    pub fn chmod(&self, mode: u32) -> Result<()> {
        Ok(fs::fchmod(&self.fd, super::dir::bits(mode))?)
    }

    /// Sets the owner; `None` leaves it.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = owner(uid, gid);
        Ok(fs::fchown(&self.fd, uid, gid)?)
    }

    /// Sets the times.
    pub fn set_times(&self, atime: TimeSet, mtime: TimeSet) -> Result<()> {
        Ok(fs::futimens(&self.fd, &timestamps(atime, mtime))?)
    }

    /// Returns the value of an extended attribute, or `None` if there is none of that name.
    pub fn get_xattr(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        platform::get_xattr_fd(self.fd.as_fd(), key)
    }

    /// Returns the names of all extended attributes that the caller may see.
    pub fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        platform::list_xattr_fd(self.fd.as_fd()).map(Option::unwrap_or_default)
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(fs::fsetxattr(&self.fd, key, value, rustix::fs::XattrFlags::empty())?)
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, key: &[u8]) -> Result<()> {
        Ok(fs::fremovexattr(&self.fd, key)?)
    }

    /// Gives an unnamed file (`O_TMPFILE`) a name.
    pub fn link_to(&self, dir: &super::Dir, name: &[u8]) -> Result<()> {
        platform::link_fd(self.fd.as_fd(), dir.as_fd(), name)
    }

    /// Returns the std file of this handle, for use with readers and writers.
    #[must_use]
    pub fn into_std(self) -> std::fs::File {
        self.fd.into()
    }

    /// Wraps a std file.
    #[must_use]
    pub fn from_std(file: std::fs::File) -> File {
        File { fd: file.into() }
    }

    /// Returns a second descriptor of the same open file.
    pub fn try_clone(&self) -> Result<File> {
        Ok(File { fd: self.fd.try_clone().map_err(Errno::from)? })
    }

    /// Returns whether this is a regular file.
    pub fn is_regular(&self) -> Result<bool> {
        Ok(self.stat()?.file_type() == FileType::File)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn timestamps(atime: TimeSet, mtime: TimeSet) -> Timestamps {
    let one = |t: TimeSet| match t {
        TimeSet::Omit => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        TimeSet::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        TimeSet::At(Time { sec, nsec }) => Timespec { tv_sec: sec, tv_nsec: nsec.into() },
    };
    Timestamps { last_access: one(atime), last_modification: one(mtime) }
}

pub(super) fn owner(
    uid: Option<u32>,
    gid: Option<u32>,
) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    // the all-ones id means "leave it" to the kernel and is no owner
    (
        uid.filter(|u| *u != u32::MAX).map(rustix::fs::Uid::from_raw),
        gid.filter(|g| *g != u32::MAX).map(rustix::fs::Gid::from_raw),
    )
}

pub(super) fn statvfs(fd: BorrowedFd<'_>) -> Result<StatVfs> {
    let s = fs::fstatvfs(fd)?;
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(StatVfs {
        blocks: s.f_blocks,
        bfree: s.f_bfree,
        bavail: s.f_bavail,
        files: s.f_files,
        ffree: s.f_ffree,
        bsize: small(s.f_bsize),
        frsize: small(s.f_frsize),
        namelen: small(s.f_namemax),
        fsid: s.f_fsid,
    })
}
