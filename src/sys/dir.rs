//! A directory handle, and everything that is done to names below one.

use super::{Errno, File, FileType, Node, OpenFlags, Result, Stat, TimeSet, platform};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// An open directory. Names given to its methods are single components, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Dir {
    fd: Arc<OwnedFd>,
}

/// One name of a directory listing, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, a single component.
    pub name: Box<[u8]>,
    /// Its type if the file system says so without a stat.
    pub file_type: Option<FileType>,
    /// Its inode number on its file system.
    pub ino: u64,
}

/// How [`Dir::rename`] treats source and target (renameat2(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameFlags {
    /// Replace the target.
    #[default]
    Replace,
    /// Fail with `EEXIST` if the target exists.
    NoReplace,
    /// Swap the two.
    Exchange,
    /// Replace the target and leave a whiteout device at the source.
    Whiteout,
    /// `NoReplace` and `Whiteout` together.
    NoReplaceWhiteout,
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory at `path`, relative to the working directory; follows symlinks.
    pub fn open(path: impl AsRef<Path>) -> Result<Dir> {
        Ok(Dir::from_fd(fs::open(path.as_ref(), DIR_FLAGS, Mode::empty())?))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Dir {
        Dir { fd: Arc::new(fd) }
    }

    /// Opens the directory `name`; a symlink gives `ENOTDIR` or `ELOOP`.
    pub fn open_dir(&self, name: &[u8]) -> Result<Dir> {
        Ok(Dir::from_fd(fs::openat(&self.fd, name, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// Opens the directory `name` as [`Dir::open_dir`] does, unless something is mounted there:
    /// that gives `EXDEV`, and the file system that is mounted there is not asked anything.
    pub fn open_dir_here(&self, name: &[u8]) -> Result<Dir> {
        Ok(Dir::from_fd(platform::open_here(self.fd.as_fd(), name, DIR_FLAGS)?))
    }

    /// Opens `name` as [`Dir::node`] does, unless something is mounted there: that gives `EXDEV`.
    pub fn node_here(&self, name: &[u8]) -> Result<Node> {
        platform::node_here(self.fd.as_fd(), name)
    }

    /// Opens a second handle of this very directory (with a read position of its own).
    pub fn reopen(&self) -> Result<Dir> {
        Ok(Dir::from_fd(fs::openat(&self.fd, c".", DIR_FLAGS, Mode::empty())?))
    }

    /// Opens the directory at `path` (components joined by `/`, empty for this one) beneath this
    /// handle. No component may be a symlink, and `..` is refused.
    pub fn open_dir_beneath(&self, path: &[u8]) -> Result<Dir> {
        if path.is_empty() {
            return Ok(self.clone());
        }
        Ok(Dir::from_fd(platform::open_beneath(self.fd.as_fd(), path, DIR_FLAGS)?))
    }

    /// Opens the file at `path` beneath this handle, like [`Dir::open_dir_beneath`].
    pub fn open_file_beneath(&self, path: &[u8], flags: OpenFlags) -> Result<File> {
        let fd = platform::open_beneath(self.fd.as_fd(), path, flags.to_rustix())?;
        Ok(File::opened(fd, flags))
    }

    /// Opens whatever is at `path` beneath this handle without following or opening its content.
    pub fn node_beneath(&self, path: &[u8]) -> Result<Node> {
        platform::node_beneath(self.fd.as_fd(), path)
    }

    /// Opens `name` without following it and without opening its content.
    pub fn node(&self, name: &[u8]) -> Result<Node> {
        platform::node_at(self.fd.as_fd(), name)
    }

    /// Returns a handle of this directory that can be treated like any other file's.
    pub fn as_node(&self) -> Result<Node> {
        platform::node_at(self.fd.as_fd(), b".")
    }

    /// Returns the attributes of `name`, without following it.
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        Ok(fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    /// Returns the attributes of this directory.
    pub fn stat_self(&self) -> Result<Stat> {
        Ok(fs::fstat(&self.fd)?.into())
    }

    /// Opens the file `name`, without following it. `mode` counts when `flags` creates.
    pub fn open_file(&self, name: &[u8], flags: OpenFlags, mode: u32) -> Result<File> {
        let raw = flags.to_rustix() | OFlags::NOFOLLOW;
        Ok(File::opened(fs::openat(&self.fd, name, raw, bits(mode))?, flags))
    }

    /// Opens an unnamed file in this directory (`O_TMPFILE`), read and write.
    pub fn tmpfile(&self, mode: u32) -> Result<File> {
        platform::tmpfile(self.fd.as_fd(), bits(mode)).map(File::from_fd)
    }

    /// Makes a directory. The process' umask applies.
    pub fn mkdir(&self, name: &[u8], mode: u32) -> Result<()> {
        Ok(fs::mkdirat(&self.fd, name, bits(mode))?)
    }

    /// Makes a directory if there is none of that name yet.
    pub fn mkdir_if_missing(&self, name: &[u8], mode: u32) -> Result<()> {
        match self.mkdir(name, mode) {
            Err(Errno::EXIST) => Ok(()),
            r => r,
        }
    }

    /// Makes a regular file, fifo, socket or device. The process' umask applies.
    pub fn mknod(&self, name: &[u8], kind: FileType, mode: u32, rdev: u64) -> Result<()> {
        platform::mknod(self.fd.as_fd(), name, kind.bits() | (mode & 0o7777), rdev)
    }

    /// Makes a whiteout: a character device 0:0. Needs no privilege since Linux 5.8.
    pub fn mknod_whiteout(&self, name: &[u8]) -> Result<()> {
        self.mknod(name, FileType::Char, 0, 0)
    }

    /// Makes a symlink `name` with the given target, which is stored as it is.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> Result<()> {
        Ok(fs::symlinkat(target, &self.fd, name)?)
    }

    /// Returns the target of the symlink `name`.
    pub fn readlink(&self, name: &[u8]) -> Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// Makes `new_name` in `new_dir` a hard link to `name`, which is not followed.
    pub fn link(&self, name: &[u8], new_dir: &Dir, new_name: &[u8]) -> Result<()> {
        Ok(fs::linkat(&self.fd, name, &new_dir.fd, new_name, AtFlags::empty())?)
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, name: &[u8]) -> Result<()> {
        Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &[u8]) -> Result<()> {
        Ok(fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Renames `name` to `new_name` in `new_dir`.
    pub fn rename(
        &self,
        name: &[u8],
        new_dir: &Dir,
        new_name: &[u8],
        how: RenameFlags,
    ) -> Result<()> {
        platform::rename(self.fd.as_fd(), name, new_dir.fd.as_fd(), new_name, how)
    }

    /// Sets the times of `name`, without following it.
    pub fn set_times(&self, name: &[u8], atime: TimeSet, mtime: TimeSet) -> Result<()> {
        let times = super::file::timestamps(atime, mtime);
        Ok(fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the owner of `name`, without following it; `None` leaves it.
    pub fn chown(&self, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = super::file::owner(uid, gid);
        Ok(fs::chownat(&self.fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the value of an extended attribute of `name`, or `None` if it has none of that
    /// name or the file system knows no such attributes. The name is not followed.
    pub fn get_xattr(&self, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>> {
        platform::get_xattr_at(self.fd.as_fd(), name, key)
    }

    /// Returns the names of the extended attributes of `name`, which is not followed.
    pub fn list_xattr(&self, name: &[u8]) -> Result<Vec<Vec<u8>>> {
        platform::list_xattr_at(self.fd.as_fd(), name)
    }

    /// Sets an extended attribute of `name`, which is not followed.
    pub fn set_xattr(&self, name: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        platform::set_xattr_at(self.fd.as_fd(), name, key, value)
    }

    /// Returns all names of this directory except `.` and `..`, in the file system's order.
    pub fn list(&self) -> Result<Vec<DirEntry>> {
        let mut out = Vec::new();
        self.for_each(|e| out.push(e))?;
        Ok(out)
    }

    /// Calls `f` for each name of this directory except `.` and `..`.
    pub fn for_each(&self, mut f: impl FnMut(DirEntry)) -> Result<()> {
        self.for_each_until(|e| {
            f(e);
            ControlFlow::Continue(())
        })
    }

    /// As [`Dir::for_each`], until `f` wants no more.
    pub fn for_each_until(&self, mut f: impl FnMut(DirEntry) -> ControlFlow<()>) -> Result<()> {
        // a handle of its own, so that concurrent listings do not share a read position
        let own = self.reopen()?;
        platform::keep_access_time(own.fd.as_fd(), DIR_FLAGS);
        platform::for_each_entry(own.fd.as_fd(), &mut f)
    }

    /// Lets the file system note that somebody lists this directory, as its mount has it
    /// (`relatime` and the like). The other ways to list leave the access time where they may.
    pub fn note_access(&self) -> Result<()> {
        platform::read_entries(self.reopen()?.fd.as_fd())
    }

    /// As [`Dir::list`], by means of the read position of this handle: nobody else may list it by
    /// its handle, or that of a clone, at the same time.
    pub fn list_by_this_handle(&self) -> Result<Vec<DirEntry>> {
        let mut out = Vec::new();
        fs::seek(&self.fd, fs::SeekFrom::Start(0))?;
        platform::keep_access_time(self.fd.as_fd(), DIR_FLAGS);
        platform::for_each_entry(self.fd.as_fd(), &mut |e| {
            out.push(e);
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// Returns the names of this directory's extended attributes; `None` where its file system
    /// lists none.
    pub fn list_xattr_self(&self) -> Result<Option<Vec<Vec<u8>>>> {
        platform::list_xattr_fd(self.fd.as_fd())
    }

    /// Returns whether this directory holds no name.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.list()?.is_empty())
    }

    /// Sets the permission, set-id and sticky bits of this directory.
    pub fn chmod_self(&self, mode: u32) -> Result<()> {
        Ok(fs::fchmod(&self.fd, bits(mode))?)
    }

    /// Sets the owner of this directory; `None` leaves it.
    pub fn chown_self(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = super::file::owner(uid, gid);
        Ok(fs::fchown(&self.fd, uid, gid)?)
    }

    /// Sets the times of this directory.
    pub fn set_times_self(&self, atime: TimeSet, mtime: TimeSet) -> Result<()> {
        Ok(fs::futimens(&self.fd, &super::file::timestamps(atime, mtime))?)
    }

    /// Sets an extended attribute of this directory.
    pub fn set_xattr_self(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(fs::fsetxattr(&self.fd, key, value, rustix::fs::XattrFlags::empty())?)
    }

    /// Returns the value of an extended attribute of this directory, or `None` as
    /// [`Dir::get_xattr`] does.
    pub fn get_xattr_self(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        platform::get_xattr_fd(self.fd.as_fd(), key)
    }

    /// Makes the directory's own entries durable (fsync(2)).
    pub fn sync(&self) -> Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    /// Makes everything on this directory's file system durable (syncfs(2); fsync where missing).
    pub fn sync_file_system(&self) -> Result<()> {
        platform::sync_file_system(self.fd.as_fd())
    }

    /// Returns whether the directory's file system shows a block of a file as data (lseek(2),
    /// `SEEK_DATA`) only once its content is on disk, as far as a crash is concerned.
    #[must_use]
    pub fn holes_tell(&self) -> bool {
        platform::holes_tell(self.fd.as_fd())
    }

    /// Returns whether the file system is one that gives each inode that changes the time of this
    /// machine's clock. Others take times from elsewhere (NFS, images such as squashfs), or show
    /// changes without any (overlayfs).
    pub fn keeps_true_times(&self) -> Result<bool> {
        platform::keeps_true_times(self.fd.as_fd())
    }

    /// Returns what statvfs(3) says of the directory's file system.
    pub fn statvfs(&self) -> Result<super::StatVfs> {
        super::file::statvfs(self.fd.as_fd())
    }

    /// Takes an exclusive lock (flock(2)) on this directory, which lasts until this handle and
    /// its clones are dropped. Returns false if another handle has it.
    pub fn try_lock(&self) -> Result<bool> {
        match fs::flock(&self.fd, fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes this the process' working directory.
    pub fn enter(&self) -> Result<()> {
        Ok(rustix::process::fchdir(&self.fd)?)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode)
}

pub(super) fn file_type(t: rustix::fs::FileType) -> Option<FileType> {
    use rustix::fs::FileType as T;
    Some(match t {
        T::RegularFile => FileType::File,
        T::Directory => FileType::Dir,
        T::Symlink => FileType::Symlink,
        T::Fifo => FileType::Fifo,
        T::CharacterDevice => FileType::Char,
        T::BlockDevice => FileType::Block,
        T::Socket => FileType::Socket,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolution_stays_beneath_the_handle() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.mkdir(b"in", 0o755).unwrap();
        d.symlink(b"/", b"out").unwrap();
        let inside = d.open_dir(b"in").unwrap();
        assert!(inside.open_dir_beneath(b"../in").is_err());
        assert!(d.open_dir_beneath(b"out/etc").is_err());
        assert!(d.open_dir_beneath(b"in").is_ok());
        assert!(d.open_dir(b"out").is_err());
    }
}
