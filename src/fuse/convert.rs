//! Between the engine's types and fuser's.

use crate::name::{BadName, Name};
use crate::overlay::{self, Attr, OpenMode, RenameMode};
use crate::sys::{self, Errno, FileType, OpenFlags, Time, TimeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The engine says so.
    Engine(overlay::Error),
    /// The protocol says so: a bad name, or a request that this mount never serves.
    Protocol(Errno),
}

impl From<overlay::Error> for Refusal {
    fn from(e: overlay::Error) -> Refusal {
        Refusal::Engine(e)
    }
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Refusal {
        Refusal::Protocol(e)
    }
}

impl Refusal {
    pub(super) fn errno(&self) -> Errno {
        match self {
            Refusal::Engine(e) => e.errno(),
            Refusal::Protocol(e) => *e,
        }
    }
}

pub(super) fn errno(e: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(e.raw())
}

pub(super) fn name(bytes: &OsStr) -> Result<Name<'_>, Errno> {
    Name::new(bytes.as_bytes()).map_err(|e| match e {
        BadName::Empty => Errno::NOENT,
        BadName::TooLong => Errno::NAMETOOLONG,
        BadName::Dots | BadName::Separator => Errno::INVAL,
    })
}

pub(super) fn kind(t: FileType) -> fuser::FileType {
    match t {
        FileType::File => fuser::FileType::RegularFile,
        FileType::Dir => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Char => fuser::FileType::CharDevice,
        FileType::Block => fuser::FileType::BlockDevice,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// A time as fuser wants it. Times that `SystemTime` cannot hold become the epoch.
fn to_system(t: Time) -> SystemTime {
    let whole = Duration::from_secs(t.sec.unsigned_abs());
    let base =
        if t.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|b| b.checked_add(Duration::from_nanos(t.nsec.into()))).unwrap_or(UNIX_EPOCH)
}

/// A time as the kernel sent it.
///
/// fuser 0.18 decodes times before 1970 wrongly: it takes the nanoseconds away instead of adding
/// them. This undoes it; tests/mount.rs would tell if a newer fuser does it right.
fn from_system(t: SystemTime) -> Time {
    let signed = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time { sec: signed(d), nsec: d.subsec_nanos() },
        Err(e) => {
            let before = e.duration();
            Time { sec: -signed(before), nsec: before.subsec_nanos() }
        }
    }
}

pub(super) fn time_set(t: Option<fuser::TimeOrNow>) -> Option<TimeSet> {
    t.map(|t| match t {
        fuser::TimeOrNow::SpecificTime(t) => TimeSet::At(from_system(t)),
        fuser::TimeOrNow::Now => TimeSet::Now,
    })
}

/// Device numbers travel as the kernel's `new_encode_dev` has them: 12 bits of major, 20 of minor.
fn encode_dev(dev: u64) -> u32 {
    let (major, minor) = (sys::major(dev), sys::minor(dev));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

pub(super) fn decode_dev(dev: u32) -> u64 {
    sys::makedev((dev & 0xf_ff00) >> 8, (dev & 0xff) | (dev >> 12 & 0xf_ff00))
}

pub(super) fn attr(a: &Attr) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(a.ino.0),
        size: a.size,
        blocks: a.blocks,
        atime: to_system(a.atime),
        mtime: to_system(a.mtime),
        ctime: to_system(a.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(a.kind),
        // 12 bits
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: encode_dev(a.rdev),
        blksize: a.blksize,
        flags: 0,
    }
}

/// An answer to a lookup that says "no such name, and remember it": node id 0.
pub(super) fn no_entry() -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// O_DIRECT is left out: the kernel has bypassed its cache already, and the buffers that fuser
/// hands on are not aligned as the layer's file system would want them.
pub(super) fn open_mode(raw: i32) -> OpenMode {
    let f = OpenFlags::from_raw(raw);
    OpenMode {
        read: f.read,
        write: f.write,
        truncate: f.truncate,
        append: f.append,
        direct: false,
        sync: f.sync,
    }
}

pub(super) fn rename_mode(flags: fuser::RenameFlags) -> Result<RenameMode, Errno> {
    // renameat2(2), and the same numbers on every platform
    match flags.bits() {
        0 => Ok(RenameMode::Replace),
        1 => Ok(RenameMode::NoReplace),
        2 => Ok(RenameMode::Exchange),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_whole() {
        let back = |t: Time| match to_system(t).duration_since(UNIX_EPOCH) {
            Ok(d) => d.as_nanos().cast_signed(),
            Err(e) => -e.duration().as_nanos().cast_signed(),
        };
        assert_eq!(back(Time { sec: 5, nsec: 7 }), 5_000_000_007);
        // half a second before 1970
        assert_eq!(back(Time { sec: -1, nsec: 500_000_000 }), -500_000_000);
        assert_eq!(back(Time { sec: i64::MIN, nsec: 1 }), back(Time { sec: i64::MIN, nsec: 1 }));
    }

    #[test]
    fn times_before_1970_come_in_whole() {
        // what fuser makes of {-1 s, 500 ms}
        let wrong = UNIX_EPOCH - Duration::new(1, 500_000_000);
        assert_eq!(from_system(wrong), Time { sec: -1, nsec: 500_000_000 });
        let t = UNIX_EPOCH + Duration::new(9, 3);
        assert_eq!(from_system(t), Time { sec: 9, nsec: 3 });
    }

    #[test]
    fn device_numbers_survive_both_ways() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 256), (0xfff, 0xf_ffff)] {
            let dev = sys::makedev(major, minor);
            assert_eq!(decode_dev(encode_dev(dev)), dev);
        }
        assert_eq!(encode_dev(sys::makedev(1, 3)), 0x103);
        assert_eq!(encode_dev(sys::makedev(259, 0x1234)), 0x0121_0334);
    }

    #[test]
    fn bad_names_have_their_errno() {
        assert_eq!(name(OsStr::new("..")).unwrap_err(), Errno::INVAL);
        assert_eq!(name(OsStr::new(&"n".repeat(256))).unwrap_err(), Errno::NAMETOOLONG);
        assert_eq!(name(OsStr::from_bytes(b"\xff")).unwrap().bytes(), b"\xff");
    }

    #[test]
    fn rename_knows_three_ways() {
        let mode = |bits| rename_mode(fuser::RenameFlags::from_bits_retain(bits));
        assert_eq!(mode(0), Ok(RenameMode::Replace));
        assert_eq!(mode(1), Ok(RenameMode::NoReplace));
        assert_eq!(mode(2), Ok(RenameMode::Exchange));
        assert_eq!(mode(4), Err(Errno::INVAL));
        assert_eq!(mode(3), Err(Errno::INVAL));
    }

    #[test]
    fn the_negative_entry_has_node_zero() {
        assert_eq!(no_entry().ino.0, 0);
    }
}
