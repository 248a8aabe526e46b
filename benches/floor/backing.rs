//! The system calls that an operation takes on the backing file system, whoever serves it: relative
//! to directories that are held open, and no more of them than the semantics want.

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{pread, pwrite};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use stratafs::sys::{Dir, File, Identity, OpenFlags, RenameFlags, Result, Stat, TimeSet};

const WHITEOUT: &[u8] = b"whiteout";
/// The length of what a mount's copy says of its origin, its batch and its own number.
const ORIGIN_LENGTH: usize = 56;

/// Where a system has its layers, and where it is mounted.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(root: &Path) -> Place {
        Place(root.into())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.0.join("lower")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.0.join("merged")
    }
}

/// The directories of a stack of one lower, held open.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) lower: Dir,
    upper: Dir,
    stage: Dir,
    /// The attribute of a copy that tells its origin.
    origin: &'static [u8],
    staged: AtomicU64,
}

impl Backing {
    /// Opens the directories and prepares the whiteout that all others are links to.
    pub(crate) fn open(place: &Place) -> Result<Backing> {
        let stage = Dir::open(place.work())?;
        stage.mknod_whiteout(WHITEOUT)?;
        let privileged = Identity::current().privileged;
        Ok(Backing {
            lower: Dir::open(place.lower())?,
            upper: Dir::open(place.upper())?,
            stage,
            origin: if privileged { b"trusted.overlay.origin" } else { b"user.overlay.origin" },
            staged: AtomicU64::new(0),
        })
    }

    pub(crate) fn stat_root(&self) -> Result<Stat> {
        self.upper.stat_self()
    }

    pub(crate) fn stat(&self, name: &[u8], in_upper: bool) -> Result<Stat> {
        if in_upper { self.upper.stat(name) } else { self.lower.stat(name) }
    }

    /// Makes a file and looks at it, since the answer to the kernel must have its attributes.
    pub(crate) fn create(&self, name: &[u8], mode: u32) -> Result<(File, Stat)> {
        let file = self.upper.open_file(name, OpenFlags::CREATE_NEW, mode)?;
        let stat = file.stat()?;
        Ok((file, stat))
    }

    /// Opens a file of the upper to append to it, and for what the kernel may read of it.
    pub(crate) fn open_upper(&self, name: &[u8]) -> Result<File> {
        self.upper.open_file(name, OpenFlags { append: true, ..OpenFlags::READ_WRITE }, 0)
    }

    /// Sets the times of a file of the upper and looks at it.
    pub(crate) fn set_times(&self, name: &[u8], atime: TimeSet, mtime: TimeSet) -> Result<Stat> {
        self.upper.set_times(name, atime, mtime)?;
        self.upper.stat(name)
    }

    /// Makes a directory and looks at it.
    pub(crate) fn mkdir(&self, name: &[u8], mode: u32) -> Result<Stat> {
        self.upper.mkdir(name, mode)?;
        self.upper.stat(name)
    }

    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.upper.rename(from, &self.upper, to, RenameFlags::NoReplace)
    }

    pub(crate) fn unlink(&self, name: &[u8]) -> Result<()> {
        self.upper.unlink(name)
    }

    pub(crate) fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.upper.rmdir(name)
    }

    /// Hides a lower file that has no copy.
    pub(crate) fn whiteout(&self, name: &[u8]) -> Result<()> {
        self.stage.link(WHITEOUT, &self.upper, name)
    }

    /// Opens a lower file to read it, in the one call that this takes its owner.
    pub(crate) fn open_lower(&self, name: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
        let fd = openat(&self.lower, name, flags, Mode::empty())?;
        Ok(File::from_std(fd.into()))
    }

    /// Copies a small lower file up, with a new mode and so that a crash cannot spoil it: staged, the
    /// length set before the content comes, and put in place by one rename, which the directory's
    /// times do not show. The disk is waited for later, for many together.
    pub(crate) fn copy_up(&self, name: &[u8], mode: u32, buf: &mut [u8]) -> Result<Stat> {
        let from = self.open_lower(name)?;
        let meta = from.stat()?;
        // they would have to be copied; the files that are measured have none
        from.list_xattr()?;
        let staged = self.staged.fetch_add(1, Ordering::Relaxed).to_string();
        let to = self.stage.open_file(staged.as_bytes(), OpenFlags::CREATE_NEW, mode)?;
        to.truncate(meta.size)?;
        let n = read(&from, buf, 0)?;
        write(&to, &buf[..n], 0)?;
        let mut origin = self.lower.handle_of(name)?.bytes;
        origin.resize(ORIGIN_LENGTH, 0);
        to.set_xattr(self.origin, &origin)?;
        to.set_times(TimeSet::At(meta.atime), TimeSet::At(meta.mtime))?;
        let before = self.upper.stat_self()?;
        self.stage.rename(staged.as_bytes(), &self.upper, name, RenameFlags::NoReplace)?;
        self.upper.set_times_self(TimeSet::At(before.atime), TimeSet::At(before.mtime))?;
        to.stat()
    }
}

/// Reads with one call, as is enough for files on a disk.
pub(crate) fn read(file: &File, buf: &mut [u8], offset: u64) -> Result<usize> {
    Ok(pread(file, buf, offset)?)
}

/// Writes with one call.
pub(crate) fn write(file: &File, data: &[u8], offset: u64) -> Result<usize> {
    Ok(pwrite(file, data, offset)?)
}
