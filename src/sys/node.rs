//! A handle of any file, without its content opened: fifos, sockets, devices and symlinks too.

use super::{File, OpenFlags, Result, Stat, TimeSet, platform};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A handle on a file itself, whatever its type (`O_PATH` on Linux). It stays valid when the
/// file's names are gone, and never opens a device or waits for a fifo.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    /// Opened with its content: then the calls for open files do, which cost half as much.
    opened: bool,
}

impl Node {
    pub(super) fn from_fd(fd: OwnedFd) -> Node {
        Node { fd, opened: false }
    }

    /// Returns the attributes.
    pub fn stat(&self) -> Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?.into())
    }

    /// Opens the content of a regular file.
    pub fn open(&self, flags: OpenFlags) -> Result<File> {
        let fd = platform::node_open(self.fd.as_fd(), flags.to_rustix())?;
        Ok(File::opened(fd, flags))
    }

    /// Opens a directory for listing and for names below it.
    pub fn open_dir(&self) -> Result<super::Dir> {
        use rustix::fs::OFlags;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        platform::node_open(self.fd.as_fd(), flags).map(super::Dir::from_fd)
    }

    /// Returns the target, if this is a symlink.
    pub fn readlink(&self) -> Result<Vec<u8>> {
        platform::node_readlink(self.fd.as_fd())
    }

    /// Sets the permission, set-id and sticky bits. A symlink has none: `EOPNOTSUPP`.
    pub fn chmod(&self, mode: u32) -> Result<()> {
        if self.opened {
            return Ok(rustix::fs::fchmod(&self.fd, super::dir::bits(mode))?);
        }
        platform::node_chmod(self.fd.as_fd(), mode)
    }

    /// Sets the owner; `None` leaves it.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = super::file::owner(uid, gid);
        platform::node_chown(self.fd.as_fd(), uid, gid)
    }

    /// Sets the times.
    pub fn set_times(&self, atime: TimeSet, mtime: TimeSet) -> Result<()> {
        platform::node_set_times(self.fd.as_fd(), &super::file::timestamps(atime, mtime))
    }

    /// Returns the value of an extended attribute, or `None` if there is none of that name.
    pub fn get_xattr(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.opened {
            return platform::get_xattr_fd(self.fd.as_fd(), key);
        }
        platform::node_get_xattr(self.fd.as_fd(), key)
    }

    /// Sets an extended attribute. `create`: it must not exist; `replace`: it must.
    pub fn set_xattr(&self, key: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        if self.opened {
            let mut flags = rustix::fs::XattrFlags::empty();
            flags.set(rustix::fs::XattrFlags::CREATE, create);
            flags.set(rustix::fs::XattrFlags::REPLACE, replace);
            return Ok(rustix::fs::fsetxattr(&self.fd, key, value, flags)?);
        }
        platform::node_set_xattr(self.fd.as_fd(), key, value, create, replace)
    }

    /// Removes an extended attribute; `ENODATA` if there is none of that name.
    pub fn remove_xattr(&self, key: &[u8]) -> Result<()> {
        platform::node_remove_xattr(self.fd.as_fd(), key)
    }

    /// Returns the names of all extended attributes that the caller may see.
    pub fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        platform::node_list_xattr(self.fd.as_fd())
    }

    /// Makes `name` in `dir` another hard link to this file.
    pub fn link_to(&self, dir: &super::Dir, name: &[u8]) -> Result<()> {
        platform::link_fd(self.fd.as_fd(), dir.as_fd(), name)
    }
}

impl From<File> for Node {
    fn from(file: File) -> Node {
        Node { fd: file.into_fd(), opened: true }
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
