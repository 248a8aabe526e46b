//! Changing attributes: mode, owner, size, times.

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{FileInode, Object};
use super::io::CAPABILITY;
use super::make::Spec;
use super::types::{Attr, Fh, Ino, SetAttr};
use crate::marker::OverrideStat;
use crate::sys::{Errno, FileType, Node, OpenFlags, RenameFlags, TimeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Overlay {
    /// Changes attributes and returns the new ones. With a handle, those of the file it has open.
    ///
    /// # Errors
    /// `EROFS`, `EISDIR` for the size of a directory, or what the upper's file system says.
    pub fn setattr(&self, ino: Ino, fh: Option<Fh>, set: &SetAttr) -> Result<Attr> {
        self.writable()?;
        let mut attr = self.set_attributes(ino, fh, set)?;
        if let Some(TimeSet::At(mtime)) = set.mtime
            && self.held_times.set(ino, mtime)
        {
            attr.mtime = mtime;
        }
        Ok(attr)
    }

    fn set_attributes(&self, ino: Ino, fh: Option<Fh>, set: &SetAttr) -> Result<Attr> {
        let ids = &self.options.ids;
        let set = &SetAttr {
            uid: set.uid.map(|id| ids.uids.stored(id)),
            gid: set.gid.map(|id| ids.gids.stored(id)),
            ..*set
        };
        let mut fresh = None;
        let object = match self.object(ino)? {
            Object::Dir(_) if set.size.is_some() => return Err(Error::IsDirectory),
            Object::Dir(d) => {
                self.ensure_upper(&d)?;
                Object::Dir(d)
            }
            other => {
                let file = self.file(other)?;
                let data = match set.size {
                    Some(0) => Data::Nothing,
                    Some(_) => Data::All,
                    None => Data::StaysBelow,
                };
                fresh = self.copy_up_for(&file, data, Some(set))?;
                if set.size.is_some() {
                    self.complete(&file, data)?;
                }
                match set.size {
                    Some(0) => self.settle_cut(&file)?,
                    Some(_) => self.settle(&file)?,
                    None => {}
                }
                if set.mode.is_some_and(|m| m & 0o6000 != 0) {
                    self.settle_lazy(&file)?;
                }
                Object::File(file)
            }
        };
        let node = match fresh {
            Some(copy) if copy.is_set => {
                forget_what_was_seen(&object);
                return Ok(self.visible(self.attr_by(&object, &copy.node)?));
            }
            Some(copy) => copy.node,
            None => match self.node_by_handle(&object, fh) {
                Some(node) => node,
                None => self.upper_handle(&object)?.ok_or(Error::Stale)?,
            },
        };
        if set.changes_more_than_times() {
            let before = self.attr_by(&object, &node)?;
            if let (Some(size), Object::File(_)) = (set.size, &object) {
                self.truncate(&node, fh, size)?;
            }
            let done = self.set_owner_and_mode(&object, &node, &before, set);
            forget_what_was_seen(&object);
            done?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let at = set.atime.unwrap_or(TimeSet::Omit);
            let lazy = if let Object::File(f) = &object { f.lazy.get() } else { None };
            let _still = lazy.as_ref().map(|l| l.still());
            node.set_times(at, set.mtime.unwrap_or(TimeSet::Omit)).upper("set the times")?;
        }
        Ok(self.visible(self.attr_by(&object, &node)?))
    }

    /// Returns a handle on the upper's copy of a file by means of one that is open on it.
    fn node_by_handle(&self, object: &Object, fh: Option<Fh>) -> Option<Arc<Node>> {
        let (Object::File(file), Some(fh)) = (object, fh) else { return None };
        let open = self.handles.get(fh).filter(|h| !h.is_lower())?;
        let same = open.inode().is_some_and(|i| Arc::ptr_eq(i, file));
        // without a descriptor to spare, the name leads to it too
        let own = if same { open.file().try_clone().ok() } else { None };
        own.map(|f| Arc::new(Node::from(f)))
    }

    fn truncate(&self, node: &Arc<Node>, fh: Option<Fh>, size: u64) -> Result<()> {
        let open = fh.and_then(|fh| self.handles.get(fh)).filter(|h| h.writable);
        let done = match open {
            Some(h) => h.file().truncate(size),
            None => {
                let flags =
                    OpenFlags { read: false, write: true, nonblock: true, ..OpenFlags::default() };
                self.as_its_owner(node, || node.open(flags)).and_then(|f| f.truncate(size))
            }
        };
        done.upper("cut a file")
    }

    fn set_owner_and_mode(
        &self,
        object: &Object,
        node: &Node,
        before: &Attr,
        set: &SetAttr,
    ) -> Result<()> {
        let chown = set.uid.is_some() || set.gid.is_some();
        let regular = before.kind == FileType::File;
        let mut mode = set.mode.map(|m| m & 0o7777);
        // chown(2) takes set-id bits away from everybody's files; in a private view nobody else does it
        let kill = set.kill_suid || chown && self.options.owner_view;
        let can_lose = !matches!(before.kind, FileType::Dir | FileType::Symlink);
        if mode.is_none() && can_lose && kill {
            let kept = without_set_id(before.mode);
            mode = (kept != before.mode).then_some(kept);
        }
        if self.options.owner_view {
            if chown || mode.is_some() {
                let uid = set.uid.unwrap_or(before.uid);
                let gid = set.gid.unwrap_or(before.gid);
                self.record_change(object, node, before, (uid, gid), mode.unwrap_or(before.mode))?;
            }
            return Ok(());
        }
        if chown {
            match node.chown(set.uid, set.gid) {
                // nobody would see it
                Err(Errno::PERM | Errno::INVAL) if self.options.ids.squashes() => {}
                r => r.upper("set the owner")?,
            }
        }
        if let Some(mode) = mode {
            node.chmod(mode).upper("set the mode")?;
        }
        if regular && set.kill_suid {
            let has = match node.get_xattr(CAPABILITY) {
                Err(Errno::OPNOTSUPP | Errno::PERM) => false,
                r => r.upper("look for a file's capabilities")?.is_some_and(|v| !v.is_empty()),
            };
            match if has { node.remove_xattr(CAPABILITY) } else { Ok(()) } {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
                r => r.upper("clear a file's capabilities")?,
            }
        }
        Ok(())
    }

    /// Records a new owner or mode in a private view.
    fn record_change(
        &self,
        object: &Object,
        node: &Node,
        before: &Attr,
        owner: (u32, u32),
        mode: u32,
    ) -> Result<()> {
        let on_disk = node.stat().upper("look at a file")?.file_type();
        if !matches!(on_disk, FileType::File | FileType::Dir) {
            if owner != (before.uid, before.gid)
                && let Object::File(file) = object
            {
                return self.replace_by_stand_in(file, node, before, owner, mode);
            }
            // native, and so the user's own: only a fifo or socket has a mode to set
            return match on_disk {
                FileType::Symlink => Ok(()),
                _ => node.chmod(mode).upper("set the mode"),
            };
        }
        let o = OverrideStat {
            uid: owner.0,
            gid: owner.1,
            mode,
            kind: Some(before.kind),
            rdev: before.rdev,
        };
        let on_disk_mode = self.disk_mode(on_disk, mode, owner);
        let known = match object {
            Object::Dir(d) => *d.overridden.read(),
            Object::File(f) => f.state.read().overridden,
            Object::Pure(..) => None,
        };
        // without a record so far, and the disk can say it all
        let plain = known == Some(None)
            && on_disk == before.kind
            && owner == (self.identity.uid, self.identity.gid)
            && on_disk_mode == mode;
        if !plain {
            let key = self.options.records.stat_key();
            self.as_its_owner(node, || node.set_xattr(key, &o.encode(), false, false))
                .upper("record the attributes")?;
        }
        node.chmod(on_disk_mode).upper("set the mode")?;
        let now = Some((!plain).then_some(o));
        match object {
            Object::Dir(d) => *d.overridden.write() = now,
            Object::File(f) => f.state.write().overridden = now,
            Object::Pure(..) => {}
        }
        Ok(())
    }

    /// Puts a regular file that can carry a record in the place of a native symlink, fifo or
    /// socket, which cannot, because its owner changes.
    fn replace_by_stand_in(
        &self,
        file: &FileInode,
        node: &Node,
        before: &Attr,
        owner: (u32, u32),
        mode: u32,
    ) -> Result<()> {
        let upper = self.writable()?;
        let target = match before.kind {
            FileType::Symlink => node.readlink().upper("read a symlink")?,
            _ => Vec::new(),
        };
        let spec = Spec {
            kind: before.kind,
            mode,
            uid: owner.0,
            gid: owner.1,
            rdev: 0,
            target: &target,
            xattrs: self.shown_xattrs(node)?,
        };
        let staged = upper.staged();
        self.make_bare(&upper.stage, &staged.name, &spec)?;
        let fresh = upper.stage.node(&staged.name).upper("open a staged file")?;
        self.dress(&fresh, &spec)?;
        self.set_times(&fresh, before.atime, before.mtime)?;
        let real = fresh.stat().upper("look at a staged file")?.ino;
        let _tree = self.tree.read();
        let names = file.state.read().upper_names.clone();
        for place in &names {
            let parent = self.dir(place.parent)?;
            let _names = parent.names.lock();
            let dir = self.upper_dir(&parent)?;
            let link = upper.staged();
            fresh.link_to(&upper.stage, &link.name).upper("stage a link")?;
            self.keeping_times(&parent, &dir, || {
                link.commit(&dir, &place.name, RenameFlags::Replace)
                    .upper("put a stand-in in place")
            })?;
            {
                // from the first name on, so that an error at another one leaves this one usable
                let mut state = file.state.write();
                state.real = real;
                state.overridden = None;
            }
            self.listing_mut(&parent)?.renumber(&self.lowers, &place.name, real);
        }
        let mut state = file.state.write();
        state.real = real;
        state.overridden = None;
        if names.is_empty() {
            state.orphan = Some(Arc::new(fresh));
        }
        Ok(())
    }

    /// Sets the mode of a file that is in the upper.
    pub(super) fn set_upper_mode(&self, file: &FileInode, mode: u32) -> Result<()> {
        let node = self.upper_node(file)?;
        file.no_set_id.store(false, Ordering::Release);
        if !self.options.owner_view {
            return node.chmod(mode).upper("set the mode");
        }
        let before = self.file_attr(file)?;
        let object = self.object(file.ino)?;
        self.record_change(&object, &node, &before, (before.uid, before.gid), mode)
    }
}

/// Forgets what was seen of an object's mode and extended attributes, because they have changed:
/// what new files take over from a directory, and what a write would take away from a file.
pub(super) fn forget_what_was_seen(object: &Object) {
    match object {
        Object::Dir(d) => *d.heritage.write() = None,
        Object::File(f) => f.no_set_id.store(false, Ordering::Release),
        Object::Pure(..) => {}
    }
}

/// Returns a regular file's mode after a change that takes setuid and setgid away: setgid without
/// group execution means something else and stays (chown(2)).
fn without_set_id(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_goes_only_with_group_execution() {
        assert_eq!(without_set_id(0o6755), 0o755);
        assert_eq!(without_set_id(0o2644), 0o2644);
        assert_eq!(without_set_id(0o4711), 0o711);
    }
}
