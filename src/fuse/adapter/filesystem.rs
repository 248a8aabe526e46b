//! One short method per request: convert, serve, answer.

use super::pages;
use super::passthrough::{Way, is_direct, numbered};
use super::set_id::take_setgid;
use super::{Adapter, GENERATION, READ_BUFFER, caller, empty, fh, sized, written};
use crate::fuse::convert;
use crate::fuse::counters::Op;
use crate::fuse::init;
use crate::overlay::SetAttr;
use crate::sys::{self, Errno, FileType, TimeSet};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        if self.agreed.get().is_none() {
            init::negotiate(config, &mut self.plan);
            self.agreed.set(self.plan).unwrap_or_default();
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found =
            self.serve(Op::Lookup, |o| Ok(o.lookup(self.ino(parent), convert::name(name)?)?));
        match found {
            Err(e) if e.code() == Errno::NOENT.raw() && !self.plan.ttl.is_zero() => {
                reply.entry(&self.names_ttl(self.ino(parent)), &convert::no_entry(), GENERATION);
            }
            Ok(a) => {
                let (attr_ttl, name_ttl) = (self.attr_ttl(a.ino), self.names_ttl(self.ino(parent)));
                reply.entry_with_ttls(&attr_ttl, &name_ttl, &self.shown(&a), GENERATION);
            }
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _req: &Request, node: INodeNo, count: u64) {
        // no answer is expected, and serve() has logged what went wrong
        self.serve(Op::Forget, |o| {
            if self.counts_opens() {
                self.backings.forget(self.ino(node));
            }
            o.forget(self.ino(node), count);
            Ok(())
        })
        .unwrap_or_default();
    }

    fn getattr(&self, _req: &Request, node: INodeNo, h: Option<FileHandle>, reply: ReplyAttr) {
        let a = self.serve(Op::GetAttr, |o| Ok(o.getattr(self.ino(node), h.map(fh))?));
        self.attr(a, reply);
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        h: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (convert::time_set(atime), convert::time_set(mtime));
        // With HANDLE_KILLPRIV_V2 the kernel leaves it to us. chown(2) clears for everybody,
        // truncate(2) for all but root. A request that sets nothing is what remains of chown(2)
        // to the same owner and of a fallocate(2) that is to clear.
        let owner = uid.is_some() || gid.is_some();
        let nothing =
            !owner && mode.is_none() && size.is_none() && atime.is_none() && mtime.is_none();
        let kill_suid = mode.is_none() && (owner || nothing || (size.is_some() && req.uid() != 0));
        let set =
            SetAttr { mode: mode.map(|m| m & 0o7777), uid, gid, size, atime, mtime, kill_suid };
        // what the kernel says by itself of a file whose times it keeps; utimensat(2) of one of them
        // alone looks the same
        let kept = match (mtime, ctime) {
            (Some(TimeSet::At(t)), Some(_)) if self.plan.writeback => {
                let more = owner || mode.is_some() || size.is_some() || atime.is_some();
                (!more).then_some(t)
            }
            _ => None,
        };
        let a = self.serve(Op::SetAttr, |o| {
            if let Some(mtime) = kept {
                return Ok(o.keep_mtime(self.ino(node), h.map(fh), mtime)?);
            }
            if nothing && !self.clears_set_id(o, caller(req), req.pid(), self.ino(node))? {
                return Ok(o.getattr(self.ino(node), None)?);
            }
            let strange = kill_suid && req.uid() != 0;
            let before =
                if strange && owner { Some(o.getattr(self.ino(node), None)?.gid) } else { None };
            let a = match self.plan.writeback && (ctime.is_some() || size.is_some()) {
                true => self.set_keeping_mtime(o, self.ino(node), h.map(fh), &set)?,
                false => o.setattr(self.ino(node), h.map(fh), &set)?,
            };
            if strange && self.loses_setgid(req, &a, before.unwrap_or(a.gid)) {
                return take_setgid(o, &a);
            }
            Ok(a)
        });
        self.attr(a, reply);
    }

    fn readlink(&self, _req: &Request, node: INodeNo, reply: ReplyData) {
        match self.serve(Op::ReadLink, |o| Ok(o.readlink(self.ino(node))?)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let a = self.serve_change(Op::MkNod, parent, |o| {
            // mknod(2): no type means a regular file
            let kind = match mode & 0o170_000 {
                0 => FileType::File,
                _ => FileType::from_mode(mode).ok_or(Errno::INVAL)?,
            };
            let rdev = convert::decode_dev(rdev);
            let name = convert::name(name)?;
            Ok(o.mknod(caller(req), self.ino(parent), name, kind, mode & 0o7777, umask, rdev)?)
        });
        self.entry(a, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let a = self.serve_change(Op::MkDir, parent, |o| {
            Ok(o.mkdir(caller(req), self.ino(parent), convert::name(name)?, mode & 0o7777, umask)?)
        });
        self.entry(a, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.serve_change(Op::Unlink, parent, |o| {
            Ok(o.unlink(self.ino(parent), convert::name(name)?)?)
        });
        empty(done, reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.serve_change(Op::RmDir, parent, |o| {
            Ok(o.rmdir(self.ino(parent), convert::name(name)?)?)
        });
        empty(done, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let a = self.serve_change(Op::Symlink, parent, |o| {
            Ok(o.symlink(caller(req), self.ino(parent), convert::name(name)?, target)?)
        });
        self.entry(a, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.serve_change(Op::Rename, parent, |o| {
            let (from, to) = (convert::name(name)?, convert::name(new_name)?);
            let mode = convert::rename_mode(flags)?;
            Ok(o.rename(self.ino(parent), from, self.ino(new_parent), to, mode)?)
        });
        self.forget_listing(new_parent);
        empty(done, reply);
    }

    fn link(
        &self,
        _req: &Request,
        node: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let a = self.serve_change(Op::Link, new_parent, |o| {
            Ok(o.link(self.ino(node), self.ino(new_parent), convert::name(new_name)?)?)
        });
        self.entry(a, reply);
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.plan.no_open {
            return reply.error(self.refuse(Op::Open));
        }
        let mode = self.open_mode(flags.0);
        let opened = self.serve(Op::Open, |o| {
            // The kernel looks for that when we have cut the file already, unless it is opened for
            // writing. A program that runs is open.
            if mode.truncate && !mode.write && o.is_open(self.ino(node)) && sys::is_executed(node.0)
            {
                return Err(Errno::TXTBSY.into());
            }
            self.holding_mtime(o, self.ino(node), mode, || {
                if mode.truncate && req.uid() != 0 {
                    self.open_and_kill_suid(o, req, self.ino(node), mode)
                } else {
                    Ok(o.open(self.ino(node), mode)?)
                }
            })
        });
        match opened {
            Ok(h) => {
                let way = self.way(self.ino(node), h, mode, |f| reply.open_backing(f));
                let (number, flags) = (numbered(h, &way), self.open_flags_of(self.ino(node), &way));
                if let Way::Through(id) | Way::Beside(id) = &way {
                    if mode.read && mode.write {
                        self.forget_attributes(self.ino(node));
                    }
                    reply.opened_passthrough(number, flags, id);
                } else {
                    reply.opened(number, flags);
                }
            }
            Err(e) => reply.error(e),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let open = self.open_mode(flags);
        let made = self.serve_change(Op::Create, parent, |o| {
            let name = convert::name(name)?;
            let (caller, dir) = (caller(req), self.ino(parent));
            let (a, h) = o.create(caller, dir, name, mode & 0o7777, umask, open)?;
            if self.plan.writeback {
                o.hold_mtime(h, a.mtime);
            }
            Ok((a, h))
        });
        match made {
            Ok((a, h)) => {
                let way = self.way(a.ino, h, open, |f| reply.open_backing(f));
                let (number, flags) = (numbered(h, &way), self.open_flags(&way));
                let (ttl, attr) = (&self.attr_ttl(a.ino), &self.shown(&a));
                if let Way::Through(id) | Way::Beside(id) = &way {
                    reply.created_passthrough(ttl, attr, GENERATION, number, flags, id);
                } else {
                    reply.created(ttl, attr, GENERATION, number, flags);
                }
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _req: &Request,
        node: INodeNo,
        h: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        READ_BUFFER.with_borrow_mut(|buf| {
            let size = size as usize;
            if buf.len() < size {
                buf.resize(size, 0);
            }
            let n = self.serve(Op::Read, |o| {
                Ok(if self.plan.no_open {
                    o.read_ino(self.ino(node), offset, &mut buf[..size])?
                } else {
                    o.read(fh(h), offset, &mut buf[..size])?
                })
            });
            match n {
                Ok(n) => reply.data(&buf[..n.min(size)]),
                Err(e) => reply.error(e),
            }
        });
    }

    fn write(
        &self,
        req: &Request,
        node: INodeNo,
        h: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_suid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        // The pages that the kernel writes back are mapped ones, or it has held them back. In either
        // case what was to be taken away for that is gone already.
        let from_pages = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let mut elsewhere = false;
        let n = self.serve(Op::Write, |o| {
            if is_direct(h) {
                // the kernel does so by itself when it writes to its pages
                o.lose_capability(fh(h))?;
            }
            if from_pages {
                o.write_mapped(fh(h), offset, data)?;
                return Ok(data.len() as u64);
            }
            // the kernel's idea of the end is old if somebody has edited the lower file
            let at = match convert::open_mode(flags.0).append {
                true => o.getattr(self.ino(node), Some(fh(h)))?.size,
                false => offset,
            };
            elsewhere = at != offset;
            let n = o.write(fh(h), at, data, kill_suid)?;
            if kill_suid {
                self.drop_setgid(o, req, fh(h))?;
            }
            Ok(n as u64)
        });
        written(n, reply);
        if elsewhere {
            self.pages.drop_all(&self.notifier, node);
        } else if is_direct(h) && self.backings.has_company(self.ino(node)) {
            self.pages.drop_written(&self.notifier, node, offset..offset + data.len() as u64);
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        if self.plan.no_flush {
            return reply.error(self.refuse(Op::Flush));
        }
        empty(self.serve(Op::Flush, |o| Ok(o.flush(fh(h))?)), reply);
    }

    fn release(
        &self,
        _req: &Request,
        node: INodeNo,
        h: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let done = self.serve(Op::Release, |o| {
            if self.counts_opens() {
                self.backings.release(self.ino(node), h);
            }
            o.release(fh(h));
            Ok(())
        });
        empty(done, reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        if self.plan.no_open {
            return reply.error(self.refuse(Op::FSync));
        }
        empty(self.serve(Op::FSync, |o| Ok(o.fsync(fh(h), data_only)?)), reply);
    }

    fn opendir(&self, _req: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.plan.no_opendir {
            return reply.error(self.refuse(Op::OpenDir));
        }
        self.counters.add(Op::OpenDir);
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _h: FileHandle,
        cookie: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut taken = false;
        self.lists(node);
        let done = self.serve(Op::ReadDir, |o| {
            Ok(o.readdir(self.ino(node), cookie, &mut |e| {
                let (name, kind) = (OsStr::from_bytes(e.name), convert::kind(e.kind));
                let full = reply.add(self.number(e.ino), e.cookie, kind, name);
                taken |= !full;
                !full
            })?)
        });
        match done {
            Err(e) if !taken => reply.error(e),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        node: INodeNo,
        _h: FileHandle,
        cookie: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut taken = false;
        let names_ttl = self.names_ttl(self.ino(node));
        self.lists(node);
        let done = self.serve(Op::ReadDirPlus, |o| {
            Ok(o.readdir_plus(self.ino(node), cookie, &mut |e, a| {
                let (name, attr) = (OsStr::from_bytes(e.name), self.shown(a));
                let ttl = &self.attr_ttl(a.ino).min(names_ttl);
                let full = reply.add(attr.ino, e.cookie, name, ttl, &attr, GENERATION);
                taken |= !full;
                !full
            })?)
        });
        match done {
            // entries that were taken have been counted as looked up, so they must be sent
            Err(e) if !taken => reply.error(e),
            _ => reply.ok(),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _node: INodeNo,
        _h: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.counters.add(Op::ReleaseDir);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _h: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.serve(Op::FSyncDir, |o| Ok(o.fsync_dir(self.ino(node), data_only)?)), reply);
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        match self.serve(Op::StatFs, |o| Ok(o.statfs()?)) {
            Ok(s) => reply.statfs(
                s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize,
            ),
            Err(e) => reply.error(e),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if let Err(e) = self.has_xattr(Op::SetXattr, name) {
            return reply.error(e);
        }
        // setxattr(2): XATTR_CREATE is 1, XATTR_REPLACE is 2
        let (create, replace) = (flags & 1 != 0, flags & 2 != 0);
        let done = self.serve(Op::SetXattr, |o| {
            o.set_xattr(self.ino(node), name.as_bytes(), value, create, replace)?;
            if name == "system.posix_acl_access" {
                self.keep_setgid_from_strangers(o, req, self.ino(node))?;
            }
            Ok(())
        });
        empty(done, reply);
    }

    fn getxattr(&self, _req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if let Err(e) = self.has_xattr(Op::GetXattr, name) {
            return reply.error(e);
        }
        let v = self.serve(Op::GetXattr, |o| Ok(o.get_xattr(self.ino(node), name.as_bytes())?));
        sized(v, size, reply);
    }

    fn listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.plan.xattrs {
            return reply.error(self.refuse(Op::ListXattr));
        }
        let names = self.serve(Op::ListXattr, |o| Ok(o.list_xattr(caller(req), self.ino(node))?));
        sized(names, size, reply);
    }

    fn removexattr(&self, _req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if let Err(e) = self.has_xattr(Op::RemoveXattr, name) {
            return reply.error(e);
        }
        let done =
            self.serve(Op::RemoveXattr, |o| Ok(o.remove_xattr(self.ino(node), name.as_bytes())?));
        if name == "security.capability" && done.is_ok() {
            self.uncapped.store(self.ino(node).0, std::sync::atomic::Ordering::Relaxed);
        }
        empty(done, reply);
    }

    /// Comes only in a private mount, whose user may do what root may: all but execute a file
    /// that nobody may execute.
    fn access(&self, _req: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let done = self.serve(Op::Access, |o| {
            if mask.contains(AccessFlags::X_OK) {
                let a = o.getattr(self.ino(node), None)?;
                if a.kind == FileType::File && a.mode & 0o111 == 0 {
                    return Err(Errno::ACCESS.into());
                }
            }
            Ok(())
        });
        empty(done, reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _node: INodeNo,
        h: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = mode.cast_unsigned();
        empty(self.serve(Op::Fallocate, |o| Ok(o.fallocate(fh(h), mode, offset, length)?)), reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        node: INodeNo,
        h: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if !self.plan.writeback || !self.overlay.is_written(self.ino(node)) {
            return self.seek(node, h, offset, whence, reply);
        }
        // the kernel does not write back what it holds before it asks where there is data
        let adapter = self.clone();
        let seek = move || adapter.seek(node, h, offset, whence, reply);
        self.pages.later(&self.notifier, move |notifier| {
            pages::write_back(notifier, node, 0, 0);
            seek();
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _in: INodeNo,
        h_in: FileHandle,
        offset_in: u64,
        _out: INodeNo,
        h_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // the answer has 32 bits; a short count makes the caller ask again
        let len = len.min(1 << 30);
        let n = self.serve(Op::CopyFileRange, |o| {
            // as any write; the kernel has no flag for it in this request
            let kill_suid = req.uid() != 0;
            let n =
                o.copy_file_range(fh(h_in), offset_in, fh(h_out), offset_out, len, kill_suid)?;
            if kill_suid {
                self.drop_setgid(o, req, fh(h_out))?;
            }
            Ok(n)
        });
        written(n, reply);
    }

    fn bmap(&self, _req: &Request, _node: INodeNo, _block: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(self.refuse(Op::Other));
    }

    fn ioctl(
        &self,
        _req: &Request,
        _node: INodeNo,
        _h: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.counters.add(Op::Other);
        reply.error(fuser::Errno::ENOTTY);
    }

    fn poll(
        &self,
        _req: &Request,
        _node: INodeNo,
        _h: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(self.refuse(Op::Other));
    }
}
