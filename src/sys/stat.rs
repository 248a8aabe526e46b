//! What stat(2) says, in a form that does not differ between platforms.

/// The type of a file, as `st_mode` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Unix socket.
    Socket,
}

impl FileType {
    /// Returns the type that the `S_IFMT` bits of `mode` say, or `None` for bits of no known type.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode & 0o170_000 {
            0o100_000 => FileType::File,
            0o040_000 => FileType::Dir,
            0o120_000 => FileType::Symlink,
            0o010_000 => FileType::Fifo,
            0o020_000 => FileType::Char,
            0o060_000 => FileType::Block,
            0o140_000 => FileType::Socket,
            _ => return None,
        })
    }

    /// Returns the `S_IFMT` bits of this type.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            FileType::File => 0o100_000,
            FileType::Dir => 0o040_000,
            FileType::Symlink => 0o120_000,
            FileType::Fifo => 0o010_000,
            FileType::Char => 0o020_000,
            FileType::Block => 0o060_000,
            FileType::Socket => 0o140_000,
        }
    }
}

/// A point in time: seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub sec: i64,
    /// Nanoseconds after `sec`.
    pub nsec: u32,
}

impl Time {
    /// Returns the present time of the system clock.
    #[must_use]
    pub fn now() -> Time {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => Time { sec: d.as_secs() as i64, nsec: d.subsec_nanos() },
            Err(_) => Time::default(),
        }
    }
}

/// What utimensat(2) is to do with one of the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSet {
    /// Leave it (`UTIME_OMIT`).
    Omit,
    /// The kernel's present time (`UTIME_NOW`).
    Now,
    /// This time.
    At(Time),
}

/// The result of stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number on it.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl Stat {
    /// Returns the file's type; an unknown one counts as a regular file.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::File)
    }

    /// Returns whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Dir
    }

    /// Returns whether this is a character device 0:0, overlayfs' whiteout.
    #[must_use]
    pub fn is_whiteout_device(&self) -> bool {
        self.file_type() == FileType::Char && self.rdev == 0
    }

    /// Returns the permission, set-id and sticky bits.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    trivial_numeric_casts,
    reason = "the types of the fields differ between platforms"
)]
impl From<rustix::fs::Stat> for Stat {
    fn from(s: rustix::fs::Stat) -> Stat {
        Stat {
            dev: s.st_dev as u64,
            ino: s.st_ino as u64,
            mode: s.st_mode as u32,
            nlink: u32::try_from(s.st_nlink).unwrap_or(u32::MAX),
            uid: s.st_uid,
            gid: s.st_gid,
            rdev: s.st_rdev as u64,
            size: s.st_size as u64,
            blocks: s.st_blocks as u64,
            blksize: s.st_blksize as u32,
            atime: Time { sec: s.st_atime as i64, nsec: s.st_atime_nsec as u32 },
            mtime: Time { sec: s.st_mtime as i64, nsec: s.st_mtime_nsec as u32 },
            ctime: Time { sec: s.st_ctime as i64, nsec: s.st_ctime_nsec as u32 },
        }
    }
}

/// Puts a device number together, in the encoding of the platform's `st_rdev`.
#[must_use]
pub fn makedev(major: u32, minor: u32) -> u64 {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between platforms")]
    let dev = rustix::fs::makedev(major, minor) as u64;
    dev
}

/// Returns the major part of a device number.
#[must_use]
pub fn major(dev: u64) -> u32 {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between platforms")]
    rustix::fs::major(dev as rustix::fs::Dev)
}

/// Returns the minor part of a device number.
#[must_use]
pub fn minor(dev: u64) -> u32 {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between platforms")]
    rustix::fs::minor(dev as rustix::fs::Dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_round_trip() {
        for (ma, mi) in [(0, 0), (1, 3), (7, 0), (511, 1_048_575 & 0xff_ffff)] {
            let d = makedev(ma, mi);
            assert_eq!((major(d), minor(d)), (ma, mi));
        }
    }

    #[test]
    fn type_bits_survive_the_round_trip() {
        for bits in [0o100_644, 0o040_755, 0o120_777, 0o010_600, 0o020_000, 0o060_660, 0o140_600] {
            assert_eq!(FileType::from_mode(bits).map(FileType::bits), Some(bits & 0o170_000));
        }
        assert_eq!(FileType::from_mode(0), None);
    }
}
