//! The overlay engine. SKELETON: signatures are final, bodies follow.
#![allow(unused_variables, missing_docs, clippy::missing_errors_doc, clippy::too_many_arguments)]

mod types;
pub use types::*;

use crate::name::Name;
use crate::sys::{Errno, FileType, Seek};

/// An error of the engine; says what was done to what.
#[derive(Debug, thiserror::Error)]
#[error("{errno}")]
pub struct Error {
    errno: Errno,
}

impl Error {
    /// The error number that the caller of the file system gets. Decided here and nowhere else.
    pub fn errno(&self) -> Errno {
        self.errno
    }
    /// The level at which it belongs in the log.
    pub fn level(&self) -> log::Level {
        log::Level::Debug
    }
}

pub type Result<T> = std::result::Result<T, Error>;

const NO: Error = Error { errno: Errno::NOSYS };

/// A merged view. All methods may be called from many threads at once.
#[derive(Debug)]
pub struct Overlay {}

impl Overlay {
    /// Whether there is no upper: every change fails with `EROFS`.
    pub fn read_only(&self) -> bool {
        true
    }
    /// Whether only this program can change what the view shows (store layers, or a plain lower that nobody edits): unlimited cache lifetimes are right.
    pub fn immutable_lowers(&self) -> bool {
        true
    }
    /// Whether any file shows an extended attribute.
    pub fn has_xattrs(&self) -> bool {
        true
    }

    /// Finds `name` in `parent`; counts one lookup of the result (see `forget`).
    pub fn lookup(&self, parent: Ino, name: Name<'_>) -> Result<Attr> {
        Err(NO)
    }
    /// Takes back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {}
    pub fn getattr(&self, ino: Ino, fh: Option<Fh>) -> Result<Attr> {
        Err(NO)
    }
    pub fn setattr(&self, ino: Ino, fh: Option<Fh>, set: &SetAttr) -> Result<Attr> {
        Err(NO)
    }
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        Err(NO)
    }

    pub fn open(&self, ino: Ino, mode: OpenMode) -> Result<Fh> {
        Err(NO)
    }
    pub fn read(&self, fh: Fh, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Err(NO)
    }
    /// Reads without an open handle, from a bounded cache of descriptors. For read-only views.
    pub fn read_ino(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Err(NO)
    }
    /// `kill_suid`: clear setuid, setgid and capabilities first (the kernel asks for it).
    pub fn write(&self, fh: Fh, offset: u64, data: &[u8], kill_suid: bool) -> Result<usize> {
        Err(NO)
    }
    pub fn flush(&self, fh: Fh) -> Result<()> {
        Err(NO)
    }
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        Err(NO)
    }
    pub fn release(&self, fh: Fh) {}
    pub fn fallocate(&self, fh: Fh, mode: u32, offset: u64, len: u64) -> Result<()> {
        Err(NO)
    }
    pub fn seek(&self, fh: Fh, what: Seek, offset: u64) -> Result<u64> {
        Err(NO)
    }
    pub fn copy_file_range(
        &self,
        fh: Fh,
        offset: u64,
        out: Fh,
        out_offset: u64,
        len: u64,
    ) -> Result<u64> {
        Err(NO)
    }

    /// Lists `dir` from `cookie` (0: from the start) until `sink` returns false (its entry is then not taken).
    pub fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        sink: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<()> {
        Err(NO)
    }
    /// The same with attributes; counts one lookup per entry taken, but for `.` and `..`.
    pub fn readdir_plus(
        &self,
        dir: Ino,
        cookie: u64,
        sink: &mut dyn FnMut(ListEntry<'_>, &Attr) -> bool,
    ) -> Result<()> {
        Err(NO)
    }
    pub fn fsync_dir(&self, dir: Ino, data_only: bool) -> Result<()> {
        Err(NO)
    }

    /// Creates and opens a regular file. The umask is the caller's; it does not apply where a default ACL does.
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        mode: u32,
        umask: u32,
        open: OpenMode,
    ) -> Result<(Attr, Fh)> {
        Err(NO)
    }
    pub fn mknod(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        kind: FileType,
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Attr> {
        Err(NO)
    }
    pub fn mkdir(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        mode: u32,
        umask: u32,
    ) -> Result<Attr> {
        Err(NO)
    }
    pub fn symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        target: &[u8],
    ) -> Result<Attr> {
        Err(NO)
    }
    pub fn link(&self, ino: Ino, parent: Ino, name: Name<'_>) -> Result<Attr> {
        Err(NO)
    }
    pub fn unlink(&self, parent: Ino, name: Name<'_>) -> Result<()> {
        Err(NO)
    }
    pub fn rmdir(&self, parent: Ino, name: Name<'_>) -> Result<()> {
        Err(NO)
    }
    pub fn rename(
        &self,
        parent: Ino,
        name: Name<'_>,
        new_parent: Ino,
        new_name: Name<'_>,
        mode: RenameMode,
    ) -> Result<()> {
        Err(NO)
    }

    pub fn get_xattr(&self, ino: Ino, key: &[u8]) -> Result<Vec<u8>> {
        Err(NO)
    }
    /// All names, each followed by a NUL.
    pub fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>> {
        Err(NO)
    }
    /// `create`: it must not exist; `replace`: it must.
    pub fn set_xattr(
        &self,
        ino: Ino,
        key: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Result<()> {
        Err(NO)
    }
    pub fn remove_xattr(&self, ino: Ino, key: &[u8]) -> Result<()> {
        Err(NO)
    }

    pub fn statfs(&self) -> Result<StatFs> {
        Err(NO)
    }
    /// Makes everything written so far durable and ends the view (unless volatile).
    pub fn sync(&self) -> Result<()> {
        Err(NO)
    }
}

/// STUB
#[derive(Debug, Default)]
pub struct Stack {
    pub lowers: Vec<Lower>,
    pub upper: Option<Upper>,
}
#[derive(Debug)]
pub enum Lower {
    Plain(crate::sys::Dir),
    Indexed { index: std::sync::Arc<crate::index::Index>, diff: crate::sys::Dir, label: String },
}
#[derive(Debug)]
pub struct Upper {
    pub dir: crate::sys::Dir,
    pub work: crate::sys::Dir,
}
#[derive(Debug, Default)]
pub struct Options {
    pub dialect: Option<crate::marker::Dialect>,
    pub owner_view: bool,
    pub redirect_dir: bool,
    pub volatile: bool,
}
impl Overlay {
    pub fn new(stack: Stack, options: Options) -> Result<Overlay> {
        Ok(Overlay {})
    }
}
