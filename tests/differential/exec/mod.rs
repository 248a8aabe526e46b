//! Does an operation below a directory, and says in a word what came of it.

mod dirs;
mod held;
mod mapped;
mod words;

pub use dirs::raw_names;
pub use words::{errno, os, xattr_value, xattrs};

use crate::op::{Act, How, Map, Op, Renaming, Special, Step};
use held::read;
use mapped::Mapped;
use rustix::fd::OwnedFd;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use std::path::PathBuf;
use words::{describe, is_file};

type Said = Result<String, Errno>;

/// One of the trees, with the descriptors that are held in it.
pub struct Place {
    pub root: PathBuf,
    held: Vec<Option<OwnedFd>>,
    map: Option<Mapped>,
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
        How::Direct => OFlags::RDWR | OFlags::DIRECT,
    }
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
        Place { root, held: (0..3).map(|_| None).collect(), map: None }
    }

    pub fn close_all(&mut self) {
        self.held.iter_mut().for_each(|h| *h = None);
        self.map = None;
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
            Op::Held { act: Act::Look, .. } => match &self.map {
                Some(map) => map.look(),
                None => Ok("nothing mapped".to_owned()),
            },
            Op::Held { slot, act: Act::Map } => {
                self.map = None;
                if let Some(fd) = &self.held[slot] {
                    self.map = Some(Mapped::new(fd)?);
                }
                Ok(String::new())
            }
            Op::Held { slot, act } => match &self.held[slot] {
                Some(fd) => self.act(fd, act),
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
                dirs::remove_all(CWD, path.as_os_str(), "", &mut errors);
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
            Op::RemovedCwd { path } => dirs::removed_cwd(&at(path)),
            Op::WalkRemoving { path } => {
                let dir = self.open(path, How::Directory, 0)?;
                dirs::walk_removing(&dir)
            }
            Op::WalkSeeking { path } => {
                let dir = self.open(path, How::Directory, 0)?;
                dirs::walk_seeking(&dir)
            }
            Op::TmpFile { slot, path } => {
                let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
                let fd = rustix::fs::open(at(path), flags, mode(0o600));
                self.held[slot] = None;
                let fd = fd?;
                let said = describe(&rustix::fs::fstat(&fd)?);
                self.held[slot] = Some(fd);
                Ok(said)
            }
            Op::Mapped { path, how, data } => {
                let fd = self.open(
                    path,
                    if how == Map::Shared { How::ReadWrite } else { How::Read },
                    0,
                )?;
                mapped::map(&fd, how, data)
            }
            Op::Direct { path, data } => mapped::direct(&self.open(path, How::Direct, 0)?, data),
            Op::Locks { path } => {
                let before = self.open(path, How::Read, 0)?;
                // a fifo would be opened for good
                let how =
                    if is_file(&rustix::fs::fstat(&before)?) { How::ReadWrite } else { How::Read };
                mapped::locks(&before, &self.open(path, how, 0)?)
            }
            Op::Clone { from, to } => {
                let (from, to) = (self.open(from, How::Read, 0)?, self.open(to, How::Write, 0)?);
                done(rustix::fs::ioctl_ficlone(&to, &from))
            }
            Op::StatFs { path } => {
                let s = rustix::fs::statvfs(at(path))?;
                let (name, size) = (s.f_namemax, s.f_bsize);
                Ok(format!("{name} {size} {} {} {}", s.f_frsize, s.f_blocks, s.f_files))
            }
            Op::XattrSizes { path, key } => {
                let get = |n: usize| {
                    rustix::fs::lgetxattr(at(path), key, &mut vec![0_u8; n][..]).map_err(errno)
                };
                let list = |n: usize| {
                    rustix::fs::llistxattr(at(path), &mut vec![0_u8; n][..]).map_err(errno)
                };
                // the kernel's answer counts names that it does not show
                let list = list(4096).and_then(|n| if n == 0 { Ok(0) } else { list(1) });
                Ok(format!("{:?} {:?} {:?} {list:?}", get(0), get(1), get(4096)))
            }
            Op::Now { path } => {
                let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
                let times = Timestamps { last_access: now, last_modification: now };
                done(rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW))
            }
        }
    }
}
