//! A worker's requests, each within its turn.

use super::adapter::Adapter;
use super::turns::Turn;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

/// The file system as one worker serves it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) adapter: Adapter,
    pub(super) turn: Turn,
}

macro_rules! in_turn {
    ($($op:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $op(&self, req: &Request, $($arg: $type),*) {
            self.turn.begin(Some(req.pid()));
            self.adapter.$op(req, $($arg),*);
            self.turn.done();
        }
    )*};
}

impl Filesystem for Worker {
    fn init(&mut self, req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.adapter.init(req, config)
    }

    fn read(
        &self,
        req: &Request,
        node: INodeNo,
        h: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // the kernel reads ahead
        self.turn.begin(None);
        self.adapter.read(req, node, h, offset, size, flags, owner, reply);
        self.turn.done();
    }

    in_turn! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(node: INodeNo, count: u64);
        getattr(node: INodeNo, h: Option<FileHandle>, reply: ReplyAttr);
        setattr(node: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>, ctime: Option<SystemTime>, h: Option<FileHandle>, crtime: Option<SystemTime>, chgtime: Option<SystemTime>, bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>, reply: ReplyAttr);
        readlink(node: INodeNo, reply: ReplyData);
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        rename(parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr, flags: RenameFlags, reply: ReplyEmpty);
        link(node: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry);
        open(node: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        create(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate);
        write(node: INodeNo, h: FileHandle, offset: u64, data: &[u8], write_flags: WriteFlags, flags: OpenFlags, owner: Option<LockOwner>, reply: ReplyWrite);
        flush(node: INodeNo, h: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        release(node: INodeNo, h: FileHandle, flags: OpenFlags, owner: Option<LockOwner>, flush: bool, reply: ReplyEmpty);
        fsync(node: INodeNo, h: FileHandle, data_only: bool, reply: ReplyEmpty);
        opendir(node: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        readdir(node: INodeNo, h: FileHandle, cookie: u64, reply: ReplyDirectory);
        readdirplus(node: INodeNo, h: FileHandle, cookie: u64, reply: ReplyDirectoryPlus);
        releasedir(node: INodeNo, h: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
        fsyncdir(node: INodeNo, h: FileHandle, data_only: bool, reply: ReplyEmpty);
        statfs(node: INodeNo, reply: ReplyStatfs);
        setxattr(node: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32, reply: ReplyEmpty);
        getxattr(node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(node: INodeNo, size: u32, reply: ReplyXattr);
        removexattr(node: INodeNo, name: &OsStr, reply: ReplyEmpty);
        access(node: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        fallocate(node: INodeNo, h: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty);
        lseek(node: INodeNo, h: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
        copy_file_range(from: INodeNo, hdata: FileHandle, offset_in: u64, out: INodeNo, h_out: FileHandle, offset_out: u64, len: u64, flags: CopyFileRangeFlags, reply: ReplyWrite);
        bmap(node: INodeNo, block: u32, idx: u64, reply: ReplyBmap);
        ioctl(node: INodeNo, h: FileHandle, flags: IoctlFlags, cmd: u32, input: &[u8], out_size: u32, reply: ReplyIoctl);
        poll(node: INodeNo, h: FileHandle, notifier: PollNotifier, events: PollEvents, flags: PollFlags, reply: ReplyPoll);
    }
}
