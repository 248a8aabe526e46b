//! Set-id bits and capabilities that go when somebody changes a file. With `HANDLE_KILLPRIV_V2` the
//! kernel leaves that to us.

use super::{Adapter, Served, is_member};
use crate::overlay::{self, Attr, Caller, Fh, Ino, OpenMode, Overlay, SetAttr};
use crate::sys::{self, FileType};
use fuser::Request;
use std::sync::atomic::Ordering;

impl Adapter {
    /// Opens with `O_TRUNC`, which takes set-id bits away unless root does it. The kernel's wish
    /// for that does not pass fuser, and the answer to an open cannot carry the new mode.
    pub(super) fn open_and_kill_suid(
        &self,
        o: &Overlay,
        req: &Request,
        node: Ino,
        mode: OpenMode,
    ) -> Served<Fh> {
        let before = o.getattr(node, None)?;
        let h = o.open(node, mode)?;
        let kept = self.loses_setgid(req, &before, before.gid).then_some(before.mode & !0o6000);
        let kill = SetAttr { kill_suid: true, mode: kept, ..SetAttr::default() };
        if let Err(e) = o.setattr(node, Some(h), &kill) {
            o.release(h);
            return Err(e.into());
        }
        if before.mode & 0o6000 != 0 {
            self.forget_attributes(node);
        }
        Ok(h)
    }

    /// Whether a request that sets nothing takes set-id bits away. It is what remains of chown(2)
    /// to the same owner, and of what the kernel clears before fallocate(2), copy_file_range(2)
    /// and writes to a file with capabilities; nothing in it says which.
    ///
    /// # Errors
    /// `EPERM` for a chown(2) of somebody who does not own the file.
    pub(super) fn clears_set_id(
        &self,
        o: &Overlay,
        caller: Caller,
        task: u32,
        node: Ino,
    ) -> Served<bool> {
        if caller.uid == 0 {
            // a write of root takes the capabilities alone, by a request of its own just before
            return Ok(self.uncapped.swap(0, Ordering::Relaxed) != node.0);
        }
        let attr = o.getattr(node, None)?;
        let set_id = attr.kind != FileType::Dir && attr.mode & 0o6000 != 0;
        // with ACLs, and so with permissions, for the kernel to enforce
        if self.plan.acl && set_id && attr.uid != caller.uid {
            // what clears set-id bits by itself comes from somebody who has the file open
            let written = o.is_written(node);
            if !written || sys::changes_owner(task) == Some(true) {
                return Err(overlay::Error::NotPermitted.into());
            }
        }
        Ok(true)
    }

    /// Takes the setgid bit away when somebody outside of the file's group has set its access ACL,
    /// as the kernel does along with a chmod(2). It would tell us to with `FUSE_SETXATTR_EXT`, of
    /// which fuser does not pass on the flags.
    pub(super) fn keep_setgid_from_strangers(
        &self,
        o: &Overlay,
        req: &Request,
        node: Ino,
    ) -> Served<()> {
        if !self.plan.acl || req.uid() == 0 {
            return Ok(());
        }
        let attr = o.getattr(node, None)?;
        if attr.mode & 0o2000 != 0 && !is_member(req, attr.gid) {
            take_setgid(o, &attr)?;
        }
        Ok(())
    }

    /// Whether a setgid bit that gives nobody anything goes all the same, because who changes the
    /// file is not in its group, `gid` (`setattr_should_drop_sgid` in fs/attr.c). The kernel's wish
    /// to clear tells nothing of that.
    pub(super) fn loses_setgid(&self, req: &Request, attr: &Attr, gid: u32) -> bool {
        self.plan.acl
            && req.uid() != 0
            && attr.kind == FileType::File
            && attr.mode & 0o2010 == 0o2000
            && !is_member(req, gid)
    }

    /// Takes such a bit away after a write.
    pub(super) fn drop_setgid(&self, o: &Overlay, req: &Request, written: Fh) -> Served<()> {
        let Some(node) = o.may_have_set_id(written) else { return Ok(()) };
        let attr = o.getattr(node, None)?;
        if self.loses_setgid(req, &attr, attr.gid) {
            take_setgid(o, &attr)?;
            self.forget_attributes(node);
        }
        Ok(())
    }
}

/// Takes the setgid bit away; returns what the attributes are then.
pub(super) fn take_setgid(o: &Overlay, attr: &Attr) -> Served<Attr> {
    let mode = Some(attr.mode & !0o2000);
    Ok(o.setattr(attr.ino, None, &SetAttr { mode, ..SetAttr::default() })?)
}
