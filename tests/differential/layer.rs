//! Layers as lists of entries, and how they are put on a disk.

use crate::exec::{os, xattr_value};
use crate::world::Mode;
use rustix::fs::{AtFlags, CWD, FileType, Mode as Bits, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u16),
    /// A file with a hole before its last bytes.
    Sparse,
    Dir,
    /// A directory with the mark that hides what lies below.
    Opaque,
    Symlink(&'static str),
    Fifo,
    Socket,
    Null,
    Whiteout,
    /// A directory that is marked as one that may hold whiteouts in the form of attributes.
    Marking,
    /// A whiteout in that form. Its directory gets the mark: without it the form means nothing, and
    /// the kernel lists a name that it does not find. Left out in opaque directories likewise.
    MarkedWhiteout,
    /// Another name of a file of the same layer.
    Hard(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: &'static str,
    pub kind: Kind,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// Key and number of a value.
    pub xattr: Option<(&'static str, u8)>,
}

/// A file owned by root without anything special; for `cases.rs`.
pub const PLAIN: Entry =
    Entry { path: "", kind: Kind::Dir, mode: 0o755, owner: 0, group: 0, xattr: None };

/// What all files of layers were changed at.
pub const OLD: Timespec = Timespec { tv_sec: 1_500_000_000, tv_nsec: 123_456_789 };

/// Makes a layer. Entries without a parent, or with a name that is taken, are left out.
pub fn make(root: &Path, entries: &[Entry], mode: Mode) {
    std::fs::create_dir(root).unwrap();
    open_to_all(root);
    let made: Vec<_> = entries.iter().filter(|e| one(root, e, mode)).collect();
    for e in made.iter().rev() {
        set_old(&root.join(OsStr::new(&os(e.path))));
    }
    set_old(root);
}

pub fn open_to_all(path: &Path) {
    rustix::fs::chmod(path, Bits::from_raw_mode(0o777)).unwrap();
}

pub fn set_old(path: &Path) {
    let times = Timestamps { last_access: OLD, last_modification: OLD };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // a name may be as long as names are, and its entry left out
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {}
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

fn one(root: &Path, e: &Entry, mode: Mode) -> bool {
    match try_one(root, e, mode) {
        Ok(()) => true,
        // without a parent (or through a link), taken, or not for this user (devices)
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::EXIST
            | Errno::PERM
            | Errno::LOOP
            | Errno::NAMETOOLONG,
        ) => false,
        Err(err) => panic!("{e:?}: {err}"),
    }
}

fn try_one(root: &Path, e: &Entry, mode: Mode) -> Result<(), Errno> {
    let at = root.join(OsStr::new(&os(e.path)));
    let bits = Bits::from_raw_mode(e.mode);
    let node = |kind, dev| rustix::fs::mknodat(CWD, &at, kind, Bits::from_raw_mode(0o600), dev);
    match e.kind {
        Kind::File(size) => {
            let text = format!("{}:{size} ", e.path).into_bytes();
            let text: Vec<u8> = text.into_iter().cycle().take(size.into()).collect();
            create(&at, 0, &text)?;
        }
        Kind::Sparse => create(&at, 300_000, b"end")?,
        Kind::Dir | Kind::Opaque | Kind::Marking => rustix::fs::mkdir(&at, bits)?,
        Kind::Symlink(to) => rustix::fs::symlink(to, &at)?,
        Kind::Fifo => node(FileType::Fifo, 0)?,
        Kind::Socket => node(FileType::Socket, 0)?,
        Kind::MarkedWhiteout => {
            let (dir, key) =
                (at.parent().ok_or(Errno::NOENT)?, format!("{}.overlay.opaque", mode.marks()));
            let mut value = [0; 8];
            match rustix::fs::getxattr(dir, &key, &mut value) {
                Ok(_) if value[0] == b'y' => return Err(Errno::NOENT),
                _ => {}
            }
            create(&at, 0, b"")?;
            rustix::fs::setxattr(dir, &key, b"x", XattrFlags::empty())?;
        }
        Kind::Null => node(FileType::CharacterDevice, rustix::fs::makedev(1, 3))?,
        Kind::Whiteout => return node(FileType::CharacterDevice, 0),
        Kind::Hard(to) => {
            let old = root.join(OsStr::new(&os(to)));
            let stat = rustix::fs::lstat(&old)?;
            // nothing but files and fifos; a whiteout is no file
            if !matches!(
                FileType::from_raw_mode(stat.st_mode),
                FileType::RegularFile | FileType::Fifo
            ) {
                return Err(Errno::NOENT);
            }
            // in a directory that is not marked, the kernel lists such a name and does not find it
            let key = format!("{}.overlay.whiteout", mode.marks());
            if rustix::fs::lgetxattr(&old, &key, &mut [0; 8]).is_ok() {
                return Err(Errno::NOENT);
            }
            return rustix::fs::linkat(CWD, &old, CWD, &at, AtFlags::empty());
        }
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    if !mode.namespace() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(e.owner), rustix::fs::Gid::from_raw(e.group));
        rustix::fs::chownat(CWD, &at, Some(uid), Some(gid), flags)?;
    }
    if !matches!(e.kind, Kind::Symlink(_)) {
        rustix::fs::chmod(&at, bits)?;
    }
    let mark = |key: &str, value: &[u8]| {
        let key = format!("{}.overlay.{key}", mode.marks());
        rustix::fs::lsetxattr(&at, key, value, XattrFlags::empty())
    };
    match e.kind {
        Kind::Opaque => mark("opaque", b"y")?,
        Kind::Marking => mark("opaque", b"x")?,
        Kind::MarkedWhiteout => mark("whiteout", b"")?,
        _ => {}
    }
    if let Some((key, value)) = e.xattr {
        match rustix::fs::lsetxattr(&at, key, &xattr_value(key, value), XattrFlags::empty()) {
            // not for this user, or not on this type of file
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

fn create(at: &Path, offset: u64, data: &[u8]) -> Result<(), Errno> {
    use rustix::fs::OFlags;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::open(at, flags, Bits::from_raw_mode(0o600))?;
    rustix::io::pwrite(&fd, data, offset)?;
    Ok(())
}
