//! Does an operation below a directory, and says in a word what came of it.

use crate::op::{Act, How, Op, Renaming, Special, Step};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags,
    SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

type Said = Result<String, Errno>;

/// The bytes that a path of a case stands for: some letters are names that no text can hold, or
/// that would be tiring to read.
pub fn os(path: &str) -> OsString {
    let mut out = Vec::new();
    for c in path.chars() {
        match c {
            'Ñ' => out.extend([b'n'; 255]),
            'Ò' => out.extend([b'n'; 256]),
            'É' => out.extend([b'm'; 252]),
            'ÿ' => out.push(0xff),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    OsString::from_vec(out)
}

/// The value that a number stands for, of the form that the key demands.
pub fn xattr_value(key: &str, n: u8) -> Vec<u8> {
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut out = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    };
    let none = u32::MAX;
    match (key, n) {
        (k, 0) if k.contains("posix_acl") => acl(&[(1, 6, none), (4, 4, none), (0x20, 0, none)]),
        (k, 1) if k.contains("posix_acl") => {
            acl(&[(1, 7, none), (2, 6, 1000), (4, 5, none), (0x10, 7, none), (0x20, 5, none)])
        }
        (k, 2) if k.contains("posix_acl") => {
            acl(&[(1, 7, none), (2, 7, 0), (4, 0, none), (0x10, 5, none), (0x20, 0, none)])
        }
        (k, 3) if k.contains("posix_acl") => acl(&[(1, 6, none), (4, 7, none), (0x20, 7, none)]),
        ("security.capability", 0..=3) => {
            let mut v = 0x0200_0001_u32.to_le_bytes().to_vec();
            v.extend((1_u32 << n).to_le_bytes());
            v.resize(20, 0);
            v
        }
        // listed, but refused to readers
        ("security.capability", 9) => Vec::new(),
        ("security.capability", _) => b"no header".to_vec(),
        (_, 4) => Vec::new(),
        ("user.long", _) => vec![b'0' + n; 900],
        (_, n) => format!("v{n}").into_bytes(),
    }
}

/// One of the trees, with the descriptors that are held in it.
pub struct Place {
    pub root: PathBuf,
    held: Vec<Option<OwnedFd>>,
}

/// The name of an error, as in errno(3).
pub fn errno(e: Errno) -> String {
    const NAMES: [(Errno, &str); 26] = [
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::NXIO, "ENXIO"),
        (Errno::BADF, "EBADF"),
        (Errno::ACCESS, "EACCES"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::XDEV, "EXDEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::TXTBSY, "ETXTBSY"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::MLINK, "EMLINK"),
        (Errno::RANGE, "ERANGE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NODATA, "ENODATA"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::STALE, "ESTALE"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::TOOBIG, "E2BIG"),
    ];
    let known = NAMES.iter().find(|(n, _)| *n == e);
    known.map_or_else(|| format!("errno {}", e.raw_os_error()), |(_, n)| (*n).to_owned())
}

/// The thread acts as another user as long as this lives.
struct Guise(bool);

impl Guise {
    fn take(user: u32) -> Guise {
        if user != 0 {
            let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
            rustix::thread::set_thread_groups(&[gid, Gid::from_raw(7)]).unwrap();
            rustix::thread::set_thread_res_gid(None, gid, None).unwrap();
            rustix::thread::set_thread_res_uid(None, uid, None).unwrap();
        }
        Guise(user != 0)
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        if self.0 {
            rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).unwrap();
            rustix::thread::set_thread_res_gid(None, Gid::ROOT, None).unwrap();
            rustix::thread::set_thread_groups(&[Gid::ROOT]).unwrap();
        }
    }
}

fn with_umask<T>(umask: u32, f: impl FnOnce() -> T) -> T {
    let before = rustix::process::umask(Mode::from_raw_mode(umask));
    let out = f();
    rustix::process::umask(before);
    out
}

fn flags(how: How) -> OFlags {
    let base = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    base | match how {
        How::Read => OFlags::RDONLY,
        How::Write => OFlags::WRONLY,
        How::ReadWrite => OFlags::RDWR,
        How::Append => OFlags::WRONLY | OFlags::APPEND,
        How::ReadTrunc => OFlags::RDONLY | OFlags::TRUNC,
        How::WriteTrunc => OFlags::WRONLY | OFlags::TRUNC,
        How::CreateTrunc => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        How::CreateNew => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        How::CreateAppend => OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
        How::CreateRead => OFlags::RDONLY | OFlags::CREATE,
        How::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
        How::Path => OFlags::PATH,
    }
}

fn describe(s: &Stat) -> String {
    let dir = FileType::from_raw_mode(s.st_mode) == FileType::Directory;
    let (mode, uid, gid) = (s.st_mode, s.st_uid, s.st_gid);
    if dir {
        // link counts and sizes of directories are each file system's own
        format!("{mode:o} {uid}:{gid}{}", if s.st_nlink == 0 { " gone" } else { "" })
    } else {
        format!("{mode:o} {uid}:{gid} links {} size {} dev {:x}", s.st_nlink, s.st_size, s.st_rdev)
    }
}

fn is_file(s: &Stat) -> bool {
    FileType::from_raw_mode(s.st_mode) == FileType::RegularFile
}

fn times(seconds: i64) -> Timestamps {
    let at = Timespec { tv_sec: seconds, tv_nsec: 987_654_321 };
    Timestamps { last_access: at, last_modification: at }
}

fn owner(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

fn done(r: Result<(), Errno>) -> Said {
    r.map(|()| String::new())
}

impl Place {
    pub fn new(root: PathBuf) -> Place {
        Place { root, held: (0..3).map(|_| None).collect() }
    }

    pub fn close_all(&mut self) {
        self.held.iter_mut().for_each(|h| *h = None);
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(os(path))
    }

    /// Does it; returns `ok …` or the name of the error.
    pub fn run(&mut self, step: Step) -> String {
        let _guise = Guise::take(step.0);
        match self.op(step.1) {
            Ok(text) => format!("ok {text}"),
            Err(e) => errno(e),
        }
    }

    fn open(&self, path: &str, how: How, bits: u32) -> Result<OwnedFd, Errno> {
        rustix::fs::open(self.at(path), flags(how), mode(bits))
    }

    fn op(&mut self, op: Op) -> Said {
        let at = |p: &str| self.at(p);
        match op {
            Op::Put { path, how, mode, umask, data } => {
                let fd = with_umask(umask, || self.open(path, how, mode))?;
                let wrote = if is_file(&rustix::fs::fstat(&fd)?) {
                    rustix::io::write(&fd, data.as_bytes()).map_err(errno)
                } else {
                    Ok(0)
                };
                Ok(format!("{wrote:?} {}", describe(&rustix::fs::fstat(&fd)?)))
            }
            Op::Read { path } => {
                let fd = self.open(path, How::Read, 0)?;
                if !is_file(&rustix::fs::fstat(&fd)?) {
                    return Ok("no file".to_owned());
                }
                read(&fd, 0, 100)
            }
            Op::Stat { path } => Ok(describe(&rustix::fs::lstat(at(path))?)),
            Op::Open { slot, path, how } => {
                let fd = with_umask(0o022, || self.open(path, how, 0o666));
                // also on failure: the places must hold the same
                self.held[slot] = None;
                let fd = fd?;
                let said = describe(&rustix::fs::fstat(&fd)?);
                self.held[slot] = Some(fd);
                Ok(said)
            }
            Op::Held { slot, act: Act::Close } => {
                self.held[slot] = None;
                Ok(String::new())
            }
            Op::Held { slot, act } => match &self.held[slot] {
                Some(fd) => self.held(fd, act),
                None => Ok("nothing held".to_owned()),
            },
            Op::Mkdir { path, mode: m, umask } => {
                done(with_umask(umask, || rustix::fs::mkdir(at(path), mode(m))))
            }
            Op::Rmdir { path } => done(rustix::fs::rmdir(at(path))),
            Op::Unlink { path } => done(rustix::fs::unlink(at(path))),
            Op::RemoveAll { path } => {
                let mut errors = Vec::new();
                let path = at(path);
                remove_all(CWD, path.as_os_str(), "", &mut errors);
                errors.sort();
                Ok(errors.join(", "))
            }
            Op::Rename { from, to, how } => {
                let flags = match how {
                    Renaming::Replace => RenameFlags::empty(),
                    Renaming::NoReplace => RenameFlags::NOREPLACE,
                    Renaming::Exchange => RenameFlags::EXCHANGE,
                    Renaming::Whiteout => RenameFlags::WHITEOUT,
                };
                done(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags))
            }
            Op::Link { from, to, follow } => {
                let flags = if follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                done(rustix::fs::linkat(CWD, at(from), CWD, at(to), flags))
            }
            Op::Symlink { target, path } => done(rustix::fs::symlink(target, at(path))),
            Op::Readlink { path } => {
                let target = rustix::fs::readlink(at(path), Vec::new())?;
                Ok(target.to_string_lossy().into_owned())
            }
            Op::Mknod { path, what, mode: m, umask } => {
                let (kind, dev) = match what {
                    Special::Fifo => (FileType::Fifo, 0),
                    Special::Socket => (FileType::Socket, 0),
                    Special::Null => (FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
                    Special::Zero => (FileType::CharacterDevice, 0),
                };
                let make = || rustix::fs::mknodat(CWD, at(path), kind, mode(m), dev);
                done(with_umask(umask, make))
            }
            Op::Chmod { path, mode: m } => done(rustix::fs::chmod(at(path), mode(m))),
            Op::Chown { path, owner: o, group } => {
                let (uid, gid) = (owner(o).map(Uid::from_raw), owner(group).map(Gid::from_raw));
                done(rustix::fs::chownat(CWD, at(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW))
            }
            Op::Times { path, seconds } => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                done(rustix::fs::utimensat(CWD, at(path), &times(seconds), flags))
            }
            // on a fifo or a device truncate(2) says EINVAL, and on these only the path counts
            Op::Truncate { path, size } => {
                let fd = self.open(path, How::Write, 0)?;
                done(rustix::fs::ftruncate(&fd, size))
            }
            Op::SetXattr { path, key, value, flag } => {
                let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE];
                let (value, flags) = (xattr_value(key, value), flags[usize::from(flag)]);
                done(rustix::fs::lsetxattr(at(path), key, &value, flags))
            }
            Op::RemoveXattr { path, key } => done(rustix::fs::lremovexattr(at(path), key)),
            Op::Xattrs { path } => {
                let path = at(path);
                let mut names = vec![0; 8192];
                let n = rustix::fs::llistxattr(&path, &mut names[..])?;
                xattrs(&names[..n], |k, buf| rustix::fs::lgetxattr(&path, k, buf))
            }
            Op::Access { path, bits } => {
                let access = Access::from_bits_truncate(bits);
                done(rustix::fs::accessat(CWD, at(path), access, AtFlags::EACCESS))
            }
            Op::CopyRange { from, to } => {
                let source = self.open(from, How::Read, 0)?;
                let target = with_umask(0o022, || self.open(to, How::CreateTrunc, 0o666))?;
                let n = rustix::fs::copy_file_range(&source, None, &target, None, 1 << 20)?;
                Ok(n.to_string())
            }
            Op::RemovedCwd { path } => removed_cwd(&at(path)),
            Op::WalkRemoving { path } => {
                let dir = self.open(path, How::Directory, 0)?;
                walk_removing(&dir)
            }
        }
    }

    fn held(&self, fd: &OwnedFd, act: Act) -> Said {
        match act {
            Act::Stat => Ok(describe(&rustix::fs::fstat(fd)?)),
            Act::Read(offset, n) => {
                if is_file(&rustix::fs::fstat(fd)?) {
                    read(fd, offset, n)
                } else {
                    Ok(String::new())
                }
            }
            Act::Write(offset, data) => {
                if !is_file(&rustix::fs::fstat(fd)?) {
                    return Ok("no file".to_owned());
                }
                let n = rustix::io::pwrite(fd, data.as_bytes(), offset)?;
                Ok(format!("{n} {}", describe(&rustix::fs::fstat(fd)?)))
            }
            Act::Truncate(size) => done(rustix::fs::ftruncate(fd, size)),
            Act::Fallocate(kind, offset, len) => {
                let flags = [
                    FallocateFlags::empty(),
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    FallocateFlags::ZERO_RANGE,
                ];
                done(rustix::fs::fallocate(fd, flags[usize::from(kind)], offset, len))
            }
            // a directory's offsets are its file system's own
            Act::SeekHole(_) | Act::SeekData(_) if !is_file(&rustix::fs::fstat(fd)?) => {
                Ok("no file".to_owned())
            }
            Act::SeekHole(from) => Ok(rustix::fs::seek(fd, SeekFrom::Hole(from))?.to_string()),
            Act::SeekData(from) => Ok(rustix::fs::seek(fd, SeekFrom::Data(from))?.to_string()),
            Act::Chmod(m) => done(rustix::fs::fchmod(fd, mode(m))),
            Act::Chown(o, g) => {
                let (uid, gid) = (owner(o).map(Uid::from_raw), owner(g).map(Gid::from_raw));
                done(rustix::fs::fchown(fd, uid, gid))
            }
            Act::Times(seconds) => done(rustix::fs::futimens(fd, &times(seconds))),
            Act::SetXattr(key, value) => {
                let value = xattr_value(key, value);
                done(rustix::fs::fsetxattr(fd, key, &value, XattrFlags::empty()))
            }
            Act::RemoveXattr(key) => done(rustix::fs::fremovexattr(fd, key)),
            Act::Xattrs => {
                let mut names = vec![0; 8192];
                let n = rustix::fs::flistxattr(fd, &mut names[..])?;
                xattrs(&names[..n], |k, buf| rustix::fs::fgetxattr(fd, k, buf))
            }
            Act::LinkAs(path) => {
                let old = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = AtFlags::SYMLINK_FOLLOW;
                done(rustix::fs::linkat(CWD, old, CWD, self.at(path), flags))
            }
            Act::Sync => done(rustix::fs::fsync(fd)),
            Act::List => {
                // from its beginning, whatever was read before
                let again = rustix::fs::openat(fd, ".", flags(How::Directory), Mode::empty())?;
                list(&again).map(|names| names.join(" "))
            }
            Act::CreateIn(name) => {
                let make = || rustix::fs::openat(fd, os(name), flags(How::CreateNew), mode(0o666));
                with_umask(0o022, make).map(|_| String::new())
            }
            Act::UnlinkIn(name) => done(rustix::fs::unlinkat(fd, os(name), AtFlags::empty())),
            Act::Close => Ok(String::new()),
        }
    }
}

fn read(fd: &OwnedFd, offset: u64, n: usize) -> Said {
    let mut buf = vec![0; n];
    let n = rustix::io::pread(fd, &mut buf[..], offset)?;
    Ok(format!("{:?}", String::from_utf8_lossy(&buf[..n])))
}

/// Each attribute with its value, sorted.
pub fn xattrs(names: &[u8], get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>) -> Said {
    let mut out = Vec::new();
    for key in names.split(|b| *b == 0).filter(|k| !k.is_empty()) {
        let key = OsString::from_vec(key.to_vec());
        let mut buf = vec![0; 4096];
        let value = match get(&key, &mut buf) {
            Ok(n) if n > 64 => format!("{n} bytes of {}", buf[0]),
            Ok(n) => buf[..n].escape_ascii().to_string(),
            Err(e) => errno(e),
        };
        out.push(format!("{}={value}", key.display()));
    }
    out.sort();
    Ok(out.join(" "))
}

/// The names in a directory, sorted.
pub fn list(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    let mut buf = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn remove_all(dir: BorrowedFd<'_>, name: &OsStr, shown: &str, errors: &mut Vec<String>) {
    let mut note = |what: &str, e: Errno| errors.push(format!("{what} {shown}: {}", errno(e)));
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return,
        Err(Errno::ISDIR) => {}
        Err(e) => return note("unlink", e),
    }
    let flags = flags(How::Directory) | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => {
            for child in raw_names(&fd) {
                let below = format!("{shown}/{}", child.display());
                remove_all(rustix::fd::AsFd::as_fd(&fd), &child, &below, errors);
            }
        }
        Err(e) => note("open", e),
    }
    if let Err(e) = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        errors.push(format!("rmdir {shown}: {}", errno(e)));
    }
}

/// Names as they are, without `.` and `..`.
pub fn raw_names(dir: &OwnedFd) -> Vec<OsString> {
    let mut names = Vec::new();
    let mut buf = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names
}

fn removed_cwd(path: &std::path::Path) -> Said {
    rustix::fs::mkdir(path, mode(0o755))?;
    rustix::process::chdir(path)?;
    let removed = rustix::fs::rmdir(path).map_err(errno);
    let stat = rustix::fs::stat(".").map(|s| describe(&s)).map_err(errno);
    let make = rustix::fs::open("f", flags(How::CreateNew), mode(0o600)).map(drop).map_err(errno);
    let listed = rustix::fs::open(".", flags(How::Directory), Mode::empty())
        .map(|fd| raw_names(&fd).len())
        .map_err(errno);
    rustix::process::chdir("/").unwrap();
    Ok(format!("{removed:?} {stat:?} {make:?} {listed:?}"))
}

fn walk_removing(dir: &OwnedFd) -> Said {
    let mut out = Vec::new();
    // so small that the directory is read in several goes
    let mut buf = [MaybeUninit::uninit(); 320];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let said = match name.to_bytes() {
            b"." | b".." => "",
            _ => match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => "removed",
                Err(e) => &errno(e),
            },
        };
        out.push(format!("{} {said}", name.to_string_lossy()));
    }
    out.sort();
    Ok(out.join(", "))
}
