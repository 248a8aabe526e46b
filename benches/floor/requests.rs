//! The least server's answers: one short method per request.

use super::backing;
use super::nodes::{absent, attr};
use super::server::{BUFFER, FOREVER, Floor, MAX_BACKGROUND, MAX_WRITE};
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};
use stratafs::sys::{self, Time, TimeSet};

const GENERATION: Generation = Generation(0);

fn errno(e: sys::Errno) -> Errno {
    Errno::from_i32(e.raw())
}

fn empty(done: sys::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

/// The files that are measured are all younger than 1970.
fn time_set(t: TimeOrNow) -> TimeSet {
    match t {
        TimeOrNow::Now => TimeSet::Now,
        TimeOrNow::SpecificTime(t) => {
            let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
            TimeSet::At(Time { sec: since.as_secs().cast_signed(), nsec: since.subsec_nanos() })
        }
    }
}

impl Filesystem for Floor {
    /// As `src/fuse/init.rs` for a writable mount whose lowers are watched.
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK;
        wanted.set(InitFlags::FUSE_POSIX_ACL, self.acl);
        let refused = |what| std::io::Error::other(format!("the kernel refuses {what}"));
        config
            .add_capabilities(wanted & config.capabilities())
            .map_err(|missing| refused(format!("{missing:?}")))?;
        config.set_max_write(MAX_WRITE).map_err(|n| refused(format!("more than {n} bytes")))?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|n| refused(format!("more than {n} requests")))?;
        Ok(())
    }

    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count();
        let found = self.nodes.lock().find(name.as_bytes());
        let Some(node) = found else {
            return reply.entry(&FOREVER, &absent(), GENERATION);
        };
        match self.backing.stat(name.as_bytes(), node.in_upper) {
            Ok(s) => reply.entry(&FOREVER, &attr(node.number, &s), GENERATION),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _h: Option<FileHandle>, reply: ReplyAttr) {
        self.count();
        match self.stat(node) {
            Ok(a) => reply.attr(&FOREVER, &a),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _h: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.count();
        let set = match (mode, atime, mtime) {
            (Some(mode), ..) => self.copy_up(node, mode & 0o7777),
            // futimens(2) names no open file here
            (None, Some(atime), Some(mtime)) => {
                let found = self.nodes.lock().by_number(node.0).ok_or(sys::Errno::STALE);
                found.and_then(|(name, _)| {
                    let stat = self.backing.set_times(&name, time_set(atime), time_set(mtime))?;
                    Ok(attr(node.0, &stat))
                })
            }
            // nothing else is measured
            _ => return reply.error(Errno::ENOTSUP),
        };
        match set {
            Ok(a) => reply.attr(&FOREVER, &a),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        _parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.count();
        match self.backing.mkdir(name.as_bytes(), mode & 0o7777 & !umask) {
            Ok(s) => {
                let number = self.nodes.lock().add(name.as_bytes(), true);
                reply.entry(&FOREVER, &attr(number, &s), GENERATION);
            }
            Err(e) => reply.error(errno(e)),
        }
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.count();
        empty(self.remove(name), reply);
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.count();
        let done = self.backing.rmdir(name.as_bytes());
        if done.is_ok() {
            self.nodes.lock().remove(name.as_bytes());
        }
        empty(done, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        name: &OsStr,
        _new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.count();
        let done = self.backing.rename(name.as_bytes(), new_name.as_bytes());
        if done.is_ok() {
            self.nodes.lock().rename(name.as_bytes(), new_name.as_bytes());
        }
        empty(done, reply);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.count();
        match self.backing.create(name.as_bytes(), mode & 0o7777 & !umask) {
            Ok((file, stat)) => {
                let number = self.nodes.lock().add(name.as_bytes(), true);
                let flags = FopenFlags::FOPEN_NOFLUSH | FopenFlags::FOPEN_DIRECT_IO;
                let (attr, h) = (attr(number, &stat), self.keep_open(file));
                reply.created(&FOREVER, &attr, GENERATION, h, flags);
            }
            Err(e) => reply.error(errno(e)),
        }
    }

    fn open(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count();
        let found = self.nodes.lock().by_number(node.0).ok_or(sys::Errno::STALE);
        let opened = found.and_then(|(name, node)| match node.in_upper {
            true => Ok((self.backing.open_upper(&name)?, FopenFlags::FOPEN_DIRECT_IO)),
            false => Ok((self.backing.open_lower(&name)?, FopenFlags::FOPEN_KEEP_CACHE)),
        });
        match opened {
            Ok((file, way)) => {
                let flags = FopenFlags::FOPEN_NOFLUSH | way;
                reply.opened(self.keep_open(file), flags);
            }
            Err(e) => reply.error(errno(e)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.count();
        BUFFER.with_borrow_mut(|buf| {
            let size = buf.len().min(size as usize);
            match self.opened(h).and_then(|f| backing::read(&f, &mut buf[..size], offset)) {
                Ok(n) => reply.data(&buf[..n]),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.count();
        match self.opened(h).and_then(|f| backing::write(&f, data, offset)) {
            // a request holds MAX_WRITE bytes at the most
            Ok(n) => reply.written(n as u32),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.count();
        let closed = self.open.lock().remove(&h.0);
        drop(closed);
        reply.ok();
    }

    fn getxattr(&self, _req: &Request, _node: INodeNo, _n: &OsStr, _size: u32, reply: ReplyXattr) {
        self.count();
        reply.error(Errno::NO_XATTR);
    }
}
