//! Writes that the kernel holds back (`FUSE_WRITEBACK_CACHE`), and what that asks of us.

use super::passthrough::plain as fh;
use super::{Adapter, Served};
use crate::fuse::convert;
use crate::fuse::counters::Op;
use crate::overlay::{Attr, Error, Fh, Ino, OpenMode, Overlay, SetAttr};
use crate::sys::{Errno, Seek, TimeSet};
use fuser::{FileHandle, INodeNo, ReplyLseek};

impl Adapter {
    /// How a file is to be opened for these flags of open(2). By any handle that writes, the kernel
    /// reads what is around a write to part of a page, and writes back what others wrote.
    pub(super) fn open_mode(&self, flags: i32) -> OpenMode {
        let mode = convert::open_mode(flags);
        OpenMode { read: mode.read || mode.write && self.plan.writeback, ..mode }
    }

    /// Runs an `open`, so that who opens for writing keeps the kernel's time of the last write.
    pub(super) fn holding_mtime(
        &self,
        o: &Overlay,
        node: Ino,
        mode: OpenMode,
        open: impl FnOnce() -> Served<Fh>,
    ) -> Served<Fh> {
        if !(self.plan.writeback && mode.write) {
            return open();
        }
        o.holding_mtime(node, open)
    }

    /// Changes attributes where the kernel keeps the times of files: `mtime` is its own then, not
    /// its user's, who may be allowed less.
    pub(super) fn set_keeping_mtime(
        &self,
        o: &Overlay,
        node: Ino,
        h: Option<Fh>,
        set: &SetAttr,
    ) -> Served<Attr> {
        let refused = |e: &Error| e.errno() == Errno::PERM;
        if set.size.is_none() {
            // utimensat(2) to the present time, which who may write may ask for
            let now = SetAttr { mtime: Some(TimeSet::Now), ..*set };
            let touched = set.atime == Some(TimeSet::Now);
            return Ok(o.setattr(node, h, set).or_else(|e| match touched && refused(&e) {
                true => o.setattr(node, h, &now),
                false => Err(e),
            })?);
        }
        // that a cut to the same length is none, the kernel knows by itself
        let mtime = match set.mtime {
            Some(TimeSet::At(t)) => t,
            _ => o.getattr(node, None)?.mtime,
        };
        let cut = o.setattr(node, h, &SetAttr { mtime: None, ..*set })?;
        match o.keep_mtime(node, h, mtime) {
            Err(e) if refused(&e) => Ok(cut),
            done => Ok(done?),
        }
    }

    /// Lets the kernel write back all that it holds, and returns when it has. Not by a thread that
    /// serves requests.
    pub(in crate::fuse) fn write_back(&self) {
        let Some(notifier) = self.notifier().filter(|_| self.agreed().writeback) else { return };
        for node in self.overlay.written().into_iter().filter_map(|ino| self.known(ino)) {
            super::pages::write_back(&notifier, node, 0, 0);
        }
    }

    /// Finds the next data or hole.
    pub(super) fn seek(
        &self,
        node: INodeNo,
        h: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = self.serve(Op::Seek, |o| self.find(o, node, h, offset, whence));
        match found.map(i64::try_from) {
            Ok(Ok(pos)) => reply.offset(pos),
            Ok(Err(_)) => reply.error(fuser::Errno::EOVERFLOW),
            Err(e) => reply.error(e),
        }
    }

    fn find(
        &self,
        o: &Overlay,
        node: INodeNo,
        h: FileHandle,
        offset: i64,
        whence: i32,
    ) -> Served<u64> {
        // lseek(2): SEEK_DATA is 3, SEEK_HOLE is 4; the kernel does the others itself
        let what = match whence {
            3 => Seek::Data,
            4 => Seek::Hole,
            _ => return Err(Errno::INVAL.into()),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        if !self.plan.no_open {
            return Ok(o.seek(fh(h), what, offset)?);
        }
        let h = o.open(self.ino(node), convert::open_mode(0))?;
        let found = o.seek(h, what, offset);
        o.release(h);
        Ok(found?)
    }
}
