//! The layer directory while it is being filled.

use super::Target;
use super::error::UnpackError;
use super::xattr;
use crate::index::{Builder, EntryId, Kind, Meta};
use crate::marker::{Dialect, OVERRIDE_XATTR, OverrideStat};
use crate::sys::{Dir, Errno, File, FileType, Identity, OpenFlags, RenameFlags, TimeSet};
use lru::LruCache;
use std::num::NonZeroUsize;

/// Where replaced and hidden files wait. A layer cannot name it: all `.wh..wh.` names are AUFS'.
const STASH: &[u8] = b".wh..wh.stratafs-stash";
/// Directories kept open.
const OPEN_DIRS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The extended attributes of an entry, under the names that users see.
pub(super) type Xattrs = [(Vec<u8>, Vec<u8>)];

/// Writes below one layer directory, every name relative to an open handle of its parent.
pub(super) struct Disk {
    diff: Dir,
    identity: Identity,
    stash: Option<Dir>,
    /// What the process' umask, or a default ACL, takes off the modes that files are made with.
    lost_bits: u32,
    dirs: LruCache<EntryId, Dir>,
    stashed: u64,
}

fn is_no_support(e: Errno) -> bool {
    matches!(
        e,
        Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::NOSPC
    )
}

impl Disk {
    /// Starts on an empty layer directory.
    pub(super) fn start(target: &Target<'_>) -> Result<Disk, UnpackError> {
        let fail = |errno| UnpackError::Disk { name: STASH.to_vec(), errno };
        target.diff.mkdir(STASH, 0o777).map_err(fail)?;
        let mut disk = Disk::attach(target);
        let stash = target.diff.open_dir(STASH).map_err(fail)?;
        disk.lost_bits = 0o777 & !stash.stat_self().map_err(fail)?.mode;
        disk.stash = Some(stash);
        Ok(disk)
    }

    /// Goes on with a layer directory that has its entries.
    pub(super) fn attach(target: &Target<'_>) -> Disk {
        Disk {
            diff: target.diff.clone(),
            identity: target.identity,
            stash: None,
            lost_bits: 0o777,
            dirs: LruCache::new(OPEN_DIRS),
            stashed: 0,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        if self.identity.privileged { Dialect::Trusted } else { Dialect::User }
    }

    pub(super) fn stash_dir(&self) -> Option<&Dir> {
        self.stash.as_ref()
    }

    /// Removes the stash with all that waits there.
    pub(super) fn end_stash(&mut self) -> Result<(), UnpackError> {
        self.stash = None;
        let fail = |errno| UnpackError::Disk { name: STASH.to_vec(), errno };
        self.diff.remove_tree(STASH).map_err(fail)
    }

    /// Returns the directory of an entry, from the nearest one that is open.
    pub(super) fn dir(&mut self, b: &Builder, id: EntryId) -> Result<Dir, UnpackError> {
        let mut missing = Vec::new();
        let mut at = id;
        let mut dir = loop {
            if at == EntryId::ROOT {
                break self.diff.clone();
            }
            if let Some(d) = self.dirs.get(&at) {
                break d.clone();
            }
            missing.push(at);
            at = b.parent(at);
        };
        for m in missing.into_iter().rev() {
            dir = dir
                .open_dir(b.name(m))
                .map_err(|errno| UnpackError::Disk { name: b.path(m), errno })?;
            self.dirs.put(m, dir.clone());
        }
        Ok(dir)
    }

    /// Makes a directory that only this process can enter until [`Disk::finish_dir`].
    pub(super) fn mkdir(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        self.dir(b, parent)?.mkdir(name, 0o700).map_err(|e| at(b, parent, name, e))
    }

    /// Moves a name away; returns its name in the stash.
    pub(super) fn put_away(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
    ) -> Result<Vec<u8>, UnpackError> {
        self.stash_by(b, parent, name, |dir, stash, stashed| {
            dir.rename(name, stash, stashed, RenameFlags::NoReplace)
        })
    }

    /// Brings a name into the stash by `how`; returns its name there.
    fn stash_by(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
        how: impl FnOnce(&Dir, &Dir, &[u8]) -> crate::sys::Result<()>,
    ) -> Result<Vec<u8>, UnpackError> {
        let dir = self.dir(b, parent)?;
        let (stashed, stash) = self.stash_name()?;
        how(&dir, &stash, &stashed).map_err(|e| at(b, parent, name, e))?;
        Ok(stashed)
    }

    fn stash_name(&mut self) -> Result<(Vec<u8>, Dir), UnpackError> {
        let stash = self
            .stash
            .clone()
            .ok_or(UnpackError::Disk { name: STASH.to_vec(), errno: Errno::NOENT })?;
        self.stashed += 1;
        Ok((self.stashed.to_string().into_bytes(), stash))
    }

    /// Makes a file in the stash.
    pub(super) fn stash_file(&mut self, m: &Meta) -> Result<(Vec<u8>, File), UnpackError> {
        let (name, stash) = self.stash_name()?;
        let file = stash
            .open_file(&name, OpenFlags::CREATE_NEW, self.disk_mode(m) & 0o777)
            .map_err(|errno| UnpackError::Disk { name: STASH.to_vec(), errno })?;
        Ok((name, file))
    }

    /// Makes a regular file, with the permissions of `m` as far as the umask lets them.
    pub(super) fn create(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
        m: &Meta,
    ) -> Result<File, UnpackError> {
        let mode = self.disk_mode(m) & 0o777;
        self.dir(b, parent)?
            .open_file(name, OpenFlags::CREATE_NEW, mode)
            .map_err(|e| at(b, parent, name, e))
    }

    /// Returns the permissions that a file has on disk. Its owner is this process' user where
    /// that is an ordinary one, who must be able to read and replace it.
    pub(super) fn disk_mode(&self, m: &Meta) -> u32 {
        match (self.identity.privileged, m.kind) {
            (true, _) => m.mode & 0o7777,
            (false, Kind::Dir) => m.mode & 0o777 | 0o700,
            // a set-id bit would hand out this user's rights, not those of the recorded owner
            (false, _) => m.mode & 0o777 | 0o600,
        }
    }

    /// Returns what the file cannot say itself: owner, mode or type.
    fn override_stat(&self, m: &Meta, on_disk: Kind) -> Option<Vec<u8>> {
        let owner =
            self.identity.privileged || (m.uid, m.gid) == (self.identity.uid, self.identity.gid);
        if owner && m.mode == self.disk_mode(m) && m.kind == on_disk {
            return None;
        }
        let kind = m.kind.file_type();
        let o = OverrideStat { uid: m.uid, gid: m.gid, mode: m.mode, kind, rdev: m.rdev };
        Some(o.encode())
    }

    /// Sets owner, xattrs, mode and times of a regular file, in the order in which one does not
    /// undo the other.
    pub(super) fn finish_file(&self, file: &File, m: &Meta, xattrs: &Xattrs) -> Result<(), Errno> {
        let mode = self.disk_mode(m);
        let chown =
            self.identity.privileged && (m.uid, m.gid) != (self.identity.uid, self.identity.gid);
        if chown {
            file.chown(Some(m.uid), Some(m.gid))?;
        }
        for (name, value) in xattrs {
            if self.may_set(name) {
                tolerate(file.set_xattr(&xattr::disk_name(name), value))?;
            }
        }
        if let Some(text) = self.override_stat(m, Kind::File) {
            tolerate(file.set_xattr(OVERRIDE_XATTR, &text))?;
        }
        if mode & (self.lost_bits | 0o7000) != 0 {
            file.chmod(mode)?;
        }
        file.set_times(TimeSet::At(m.mtime), TimeSet::At(m.mtime))
    }

    fn may_set(&self, name: &[u8]) -> bool {
        self.identity.privileged || xattr::settable_by_user(name)
    }

    /// Makes a symlink.
    pub(super) fn symlink(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
        target: &[u8],
        m: &Meta,
        xattrs: &Xattrs,
    ) -> Result<(), UnpackError> {
        let dir = self.dir(b, parent)?;
        let fail = |e| at(b, parent, name, e);
        dir.symlink(target, name).map_err(fail)?;
        self.finish_name(&dir, name, m, xattrs).map_err(fail)
    }

    /// Makes a fifo or a device, or an empty file that stands in for one that cannot be made.
    pub(super) fn special(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
        m: &Meta,
        xattrs: &Xattrs,
    ) -> Result<(), UnpackError> {
        let dir = self.dir(b, parent)?;
        let fail = |e| at(b, parent, name, e);
        let kind = m.kind.file_type().unwrap_or(FileType::File);
        // a character device 0:0 on disk would be a whiteout
        let native = match m.kind {
            Kind::Char => self.identity.privileged && m.rdev != 0,
            Kind::Block => self.identity.privileged,
            _ => true,
        };
        if native {
            match dir.mknod(name, kind, self.disk_mode(m) & 0o777, m.rdev) {
                Ok(()) => {
                    let mode = self.disk_mode(m);
                    self.own(&dir, name, m).map_err(fail)?;
                    if mode & (self.lost_bits | 0o7000) != 0 {
                        dir.node(name).and_then(|n| n.chmod(mode)).map_err(fail)?;
                    }
                    return self.finish_name(&dir, name, m, xattrs).map_err(fail);
                }
                Err(e) if is_no_support(e) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let mode = self.disk_mode(m) & 0o777;
        let file = dir.open_file(name, OpenFlags::CREATE_NEW, mode).map_err(fail)?;
        self.finish_file(&file, m, xattrs).map_err(fail)
    }

    fn own(&self, dir: &Dir, name: &[u8], m: &Meta) -> Result<(), Errno> {
        if self.identity.privileged && (m.uid, m.gid) != (self.identity.uid, self.identity.gid) {
            dir.chown(name, Some(m.uid), Some(m.gid))?;
        }
        Ok(())
    }

    fn finish_name(&self, dir: &Dir, name: &[u8], m: &Meta, xattrs: &Xattrs) -> Result<(), Errno> {
        self.own(dir, name, m)?;
        for (key, value) in xattrs {
            // users can set none on what is neither file nor directory
            if self.identity.privileged {
                tolerate(dir.set_xattr(name, &xattr::disk_name(key), value))?;
            }
        }
        dir.set_times(name, TimeSet::At(m.mtime), TimeSet::At(m.mtime))
    }

    /// Makes a hard link; `from` is a name in a directory of the layer, or in the stash.
    pub(super) fn link(
        &mut self,
        b: &Builder,
        from: (Option<EntryId>, &[u8]),
        parent: EntryId,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let source = match (from.0, &self.stash) {
            (Some(d), _) => self.dir(b, d)?,
            (None, Some(stash)) => stash.clone(),
            (None, None) => return Err(at(b, parent, name, Errno::NOENT)),
        };
        let dir = self.dir(b, parent)?;
        source.link(from.1, &dir, name).map_err(|e| at(b, parent, name, e))
    }

    /// Links a file into the stash, before what holds its name is replaced.
    pub(super) fn link_to_stash(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
    ) -> Result<Vec<u8>, UnpackError> {
        self.stash_by(b, parent, name, |dir, stash, stashed| dir.link(name, stash, stashed))
    }

    /// Makes a whiteout: the device, or an empty file with an attribute where that is refused.
    /// Returns whether the directory must be marked for the latter form.
    pub(super) fn whiteout(
        &mut self,
        b: &Builder,
        parent: EntryId,
        name: &[u8],
    ) -> Result<bool, UnpackError> {
        let dir = self.dir(b, parent)?;
        let fail = |e| at(b, parent, name, e);
        match dir.mknod_whiteout(name) {
            Ok(()) => Ok(false),
            Err(e) if is_no_support(e) => {
                let f = dir.open_file(name, OpenFlags::CREATE_NEW, 0o600).map_err(fail)?;
                f.set_xattr(self.dialect().whiteout(), b"").map_err(fail)?;
                Ok(true)
            }
            Err(e) => Err(fail(e)),
        }
    }

    /// Sets all of a directory, when nothing in it changes any more.
    pub(super) fn finish_dir(
        &mut self,
        b: &Builder,
        id: EntryId,
        m: &Meta,
        xattrs: &Xattrs,
        holds_xattr_whiteouts: bool,
    ) -> Result<(), UnpackError> {
        let fail = |errno| UnpackError::Disk { name: b.path(id), errno };
        let dir = self.dir(b, id)?;
        if self.identity.privileged && (m.uid, m.gid) != (self.identity.uid, self.identity.gid) {
            dir.chown_self(Some(m.uid), Some(m.gid)).map_err(fail)?;
        }
        for (name, value) in xattrs {
            if self.may_set(name) {
                tolerate(dir.set_xattr_self(&xattr::disk_name(name), value)).map_err(fail)?;
            }
        }
        if let Some(text) = self.override_stat(m, Kind::Dir) {
            tolerate(dir.set_xattr_self(OVERRIDE_XATTR, &text)).map_err(fail)?;
        }
        if m.opaque || holds_xattr_whiteouts {
            let value: &[u8] = if m.opaque { b"y" } else { b"x" };
            dir.set_xattr_self(self.dialect().opaque(), value).map_err(fail)?;
        }
        dir.chmod_self(self.disk_mode(m)).map_err(fail)?;
        dir.set_times_self(TimeSet::At(m.mtime), TimeSet::At(m.mtime)).map_err(fail)
    }
}

/// An attribute that the file system cannot hold is in the index all the same.
fn tolerate(r: Result<(), Errno>) -> Result<(), Errno> {
    match r {
        Err(e) if is_no_support(e) => Ok(()),
        r => r,
    }
}

pub(super) fn at(b: &Builder, parent: EntryId, name: &[u8], errno: Errno) -> UnpackError {
    let dir = b.path(parent);
    let name = if dir.is_empty() { name.to_vec() } else { [&dir[..], b"/", name].concat() };
    UnpackError::Disk { name, errno }
}
