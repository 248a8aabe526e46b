//! What is measured, as a program does it in a directory.

use super::backing::{self, Backing};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{pread, pwrite, write};
use std::os::fd::BorrowedFd;
use stratafs::sys::{Result, Time, TimeSet};

/// How often each operation is done, each time with another file.
pub(crate) const FILES: usize = 400;
const NEW: &[u8] = &[b'x'; 100];
/// What a lower file holds.
pub(crate) const OLD: &[u8] = &[b'y'; 1 << 10];
const NEW_MODE: u32 = 0o644;
const TIME: Timespec = Timespec { tv_sec: 1_500_000_000, tv_nsec: 0 };
/// The times of a file that is unpacked.
const TIMES: Timestamps = Timestamps { last_access: TIME, last_modification: TIME };
const CHANGED_MODE: u32 = 0o600;

/// An operation. Some need the files that those before them leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Stat,
    Read,
    Create,
    Unpack,
    Append,
    MkDir,
    ChMod,
    Rename,
    UnlinkLower,
    Unlink,
    RmDir,
}

impl Work {
    /// All of them, in their order: what makes files before what removes some, since ext4 takes long
    /// to find a free inode among many that became free just now.
    pub(crate) const ALL: &[Work] = &[
        Work::Stat,
        Work::Read,
        Work::Create,
        Work::Unpack,
        Work::Append,
        Work::MkDir,
        Work::ChMod,
        Work::Rename,
        Work::UnlinkLower,
        Work::Unlink,
        Work::RmDir,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Create => "create, write 100 bytes, close",
            Work::Unpack => "create, write 100 bytes, set times, close",
            Work::Append => "open to append, write 100 bytes, close",
            Work::Rename => "rename a file of the upper",
            Work::Unlink => "unlink a file of the upper",
            Work::MkDir => "mkdir",
            Work::RmDir => "rmdir of a directory of the upper",
            Work::Stat => "stat of a lower file, cold",
            Work::Read => "open, read, close of a lower file, cold",
            Work::UnlinkLower => "unlink a lower file",
            Work::ChMod => "chmod a lower file of 1 KiB",
        }
    }

    /// Does it in a mounted directory.
    pub(crate) fn mounted(self, dir: BorrowedFd<'_>, name: &Names) -> Result<()> {
        let made = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let found = OFlags::RDONLY | OFlags::CLOEXEC;
        let extended = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(NEW_MODE);
        match self {
            Work::Create => {
                let file = rustix::fs::openat(dir, &name.at, made, mode)?;
                pwrite(&file, NEW, 0)?;
            }
            // as tar does
            Work::Unpack => {
                let file = rustix::fs::openat(dir, &name.at, made, mode)?;
                pwrite(&file, NEW, 0)?;
                rustix::fs::futimens(&file, &TIMES)?;
            }
            Work::Append => {
                let file = rustix::fs::openat(dir, &name.at, extended, Mode::empty())?;
                write(&file, NEW)?;
            }
            Work::Rename => rustix::fs::renameat(dir, &name.at, dir, &name.to)?,
            Work::Unlink | Work::UnlinkLower => {
                rustix::fs::unlinkat(dir, &name.at, AtFlags::empty())?;
            }
            Work::MkDir => rustix::fs::mkdirat(dir, &name.at, Mode::from_raw_mode(0o755))?,
            Work::RmDir => rustix::fs::unlinkat(dir, &name.at, AtFlags::REMOVEDIR)?,
            Work::Stat => {
                rustix::fs::statat(dir, &name.at, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Work::Read => {
                let file = rustix::fs::openat(dir, &name.at, found, Mode::empty())?;
                pread(&file, &mut [0_u8; OLD.len()], 0)?;
            }
            Work::ChMod => {
                let mode = Mode::from_raw_mode(CHANGED_MODE);
                rustix::fs::chmodat(dir, &name.at, mode, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Makes the calls that serving it takes.
    pub(crate) fn native(self, b: &Backing, name: &Names) -> Result<()> {
        let (at, to) = (name.at.as_bytes(), name.to.as_bytes());
        match self {
            Work::Create => {
                let (file, _) = b.create(at, NEW_MODE)?;
                backing::write(&file, NEW, 0).map(drop)
            }
            Work::Unpack => {
                let (file, _) = b.create(at, NEW_MODE)?;
                backing::write(&file, NEW, 0)?;
                let time = |t: Timespec| TimeSet::At(Time { sec: t.tv_sec, nsec: 0 });
                b.set_times(at, time(TIMES.last_access), time(TIMES.last_modification)).map(drop)
            }
            Work::Append => {
                let file = b.open_upper(at)?;
                backing::write(&file, NEW, NEW.len() as u64).map(drop)
            }
            Work::Rename => b.rename(at, to),
            Work::Unlink => b.unlink(at),
            Work::MkDir => b.mkdir(at, 0o755).map(drop),
            Work::RmDir => b.rmdir(at),
            Work::Stat => b.stat(at, false).map(drop),
            Work::Read => {
                b.stat(at, false)?;
                let file = b.open_lower(at)?;
                backing::read(&file, &mut [0_u8; OLD.len()], 0).map(drop)
            }
            Work::UnlinkLower => b.whiteout(at),
            Work::ChMod => b.copy_up(at, CHANGED_MODE, &mut [0_u8; OLD.len()]).map(drop),
        }
    }
}

/// What an operation is done with.
pub(crate) struct Names {
    at: String,
    /// What it is renamed to.
    to: String,
}

impl Names {
    pub(crate) fn of(work: Work, number: usize) -> Names {
        let to = format!("renamed-{number}");
        let [looked_at, read] = lower_names(number);
        let at = match work {
            Work::Create | Work::Append | Work::Rename => format!("new-{number}"),
            Work::Unpack => format!("unpacked-{number}"),
            Work::Unlink => to.clone(),
            Work::MkDir | Work::RmDir => format!("dir-{number}"),
            // what was looked at is changed, what was read is removed
            Work::Stat | Work::ChMod => looked_at,
            Work::Read | Work::UnlinkLower => read,
        };
        Names { at, to }
    }
}

/// The names of the lower files that belong to a number.
pub(crate) fn lower_names(number: usize) -> [String; 2] {
    [format!("looked-at-{number}"), format!("read-{number}")]
}
