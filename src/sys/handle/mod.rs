//! File handles: what names a file of a file system for good, whatever happens to its names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

use super::{Dir, Node, Result, Stat};
use std::os::fd::AsFd;

/// A file's handle (name_to_handle_at(2)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle {
    /// What the file system makes of the bytes.
    pub kind: i32,
    /// At most 128 bytes that mean something to the file system alone.
    pub bytes: Vec<u8>,
}

impl Node {
    /// Returns the file's handle. `EOPNOTSUPP` where the file system gives none.
    pub fn handle(&self) -> Result<FileHandle> {
        platform::handle(self.as_fd(), b"")
    }
}

impl Dir {
    /// Returns the handle of an entry, of a symlink itself. `EOPNOTSUPP` where the file system
    /// gives none.
    pub fn handle_of(&self, name: &[u8]) -> Result<FileHandle> {
        platform::handle(self.as_fd(), name)
    }

    /// Returns the attributes of the file of this directory's file system that a handle names.
    /// `ESTALE` if it is gone, `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub fn stat_handle(&self, handle: &FileHandle) -> Result<Stat> {
        platform::stat_handle(self.as_fd(), handle)
    }

    /// Returns the file system's UUID, if it has one and the kernel tells it (Linux 6.9).
    pub fn file_system_uuid(&self) -> Option<[u8; 16]> {
        platform::file_system_uuid(self.as_fd())
    }
}
