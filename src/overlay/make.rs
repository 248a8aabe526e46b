//! Making a file in the upper with everything that belongs to it, before it gets its name.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::DirInode;
use crate::marker::OverrideStat;
use crate::sys::{Dir, Errno, File, FileType, Node, OpenFlags, Time, TimeSet};

/// What a new file of the upper is to be.
#[derive(Clone, Debug)]
pub(super) struct Spec<'a> {
    pub(super) kind: FileType,
    /// Permission, set-id and sticky bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    /// A symlink's target.
    pub(super) target: &'a [u8],
    /// By the names that users see.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Overlay {
    /// Makes the bare file, closed to others until [`Overlay::dress`] has given it its attributes.
    /// A regular file is returned open for reading and writing.
    pub(super) fn make_bare(
        &self,
        dir: &Dir,
        name: &[u8],
        spec: &Spec<'_>,
    ) -> Result<Option<File>> {
        if self.needs_stand_in(spec) {
            let file =
                dir.open_file(name, OpenFlags::CREATE_NEW, 0o600).upper("make a stand-in file")?;
            if spec.kind == FileType::Symlink {
                let n = file.write_at(spec.target, 0).upper("write a symlink's target")?;
                if n != spec.target.len() {
                    return Err(Errno::NOSPC).upper("write a symlink's target");
                }
            }
            return Ok(None);
        }
        match spec.kind {
            FileType::File => {
                dir.open_file(name, OpenFlags::CREATE_NEW, 0o600).upper("make a file").map(Some)
            }
            FileType::Dir => dir.mkdir(name, 0o700).upper("make a directory").map(|()| None),
            FileType::Symlink => {
                dir.symlink(spec.target, name).upper("make a symlink").map(|()| None)
            }
            kind => {
                dir.mknod(name, kind, 0o600, spec.rdev).upper("make a special file").map(|()| None)
            }
        }
    }

    /// Gives a bare file its owner, extended attributes and mode, in the order in which none of
    /// them undoes another.
    /// Returns what was recorded instead of set.
    pub(super) fn dress(&self, node: &Node, spec: &Spec<'_>) -> Result<Option<OverrideStat>> {
        let private = self.options.owner_view;
        let mut recorded = None;
        if private {
            recorded = self.record(node, spec)?;
        } else {
            match node.chown(Some(spec.uid), Some(spec.gid)) {
                // without privilege a file is its maker's: there is nowhere to write another owner
                Err(Errno::PERM | Errno::INVAL)
                    if !self.identity.privileged || self.options.ids.squashes() => {}
                r => r.upper("set the owner")?,
            }
        }
        self.set_xattrs(node, spec)?;
        if spec.kind != FileType::Symlink || private && self.needs_stand_in(spec) {
            let on_disk =
                if private && self.needs_stand_in(spec) { FileType::File } else { spec.kind };
            let mode = self.disk_mode(on_disk, spec.mode, (spec.uid, spec.gid));
            node.chmod(mode).upper("set the mode")?;
        }
        Ok(recorded)
    }

    /// Returns whether a regular file made in the staging directory with its mode has its owner and
    /// mode for good: nothing of it need be set or recorded, and we may write it.
    pub(super) fn is_dressed_when_made(&self, spec: &Spec<'_>) -> bool {
        spec.kind == FileType::File
            && (spec.uid, spec.gid) == (self.identity.uid, self.identity.gid)
            && spec.mode & 0o6600 == 0o600
            && self.disk_mode(spec.kind, spec.mode, (spec.uid, spec.gid)) == spec.mode
    }

    pub(super) fn set_xattrs(&self, node: &Node, spec: &Spec<'_>) -> Result<()> {
        for (key, value) in &spec.xattrs {
            let disk = self.disk_key(key);
            match node.set_xattr(&disk, value, false, false) {
                Err(Errno::OPNOTSUPP | Errno::PERM) if !self.identity.privileged => {
                    log::debug!(
                        "extended attribute {} cannot be kept",
                        crate::name::printable(key)
                    );
                }
                r => r.upper("set an extended attribute")?,
            }
        }
        Ok(())
    }

    /// Returns the mode to set on disk: in a private view the daemon must be able to use its own
    /// files whatever their recorded mode says, and another's set-id bits are only recorded.
    pub(super) fn disk_mode(&self, kind: FileType, mode: u32, owner: (u32, u32)) -> u32 {
        let own = owner == (self.identity.uid, self.identity.gid);
        let recorded_only = self.options.owner_view && !own;
        let needed = match kind {
            FileType::Dir | FileType::File if self.options.owner_view => {
                let least = self.options.records.least_mode(kind == FileType::Dir);
                if own { least } else { least | 0o600 }
            }
            _ => 0,
        };
        let mode = if recorded_only { mode & 0o1777 } else { mode };
        mode | needed
    }

    /// Records in a private view what the disk does not say.
    fn record(&self, node: &Node, spec: &Spec<'_>) -> Result<Option<OverrideStat>> {
        let as_is = spec.uid == self.identity.uid
            && spec.gid == self.identity.gid
            && !self.needs_stand_in(spec)
            && (spec.kind == FileType::Symlink
                || self.disk_mode(spec.kind, spec.mode, (spec.uid, spec.gid)) == spec.mode);
        if as_is {
            return Ok(None);
        }
        let o = OverrideStat {
            uid: spec.uid,
            gid: spec.gid,
            mode: spec.mode,
            kind: Some(spec.kind),
            rdev: spec.rdev,
        };
        let key = self.options.records.stat_key();
        node.set_xattr(key, &o.encode(), false, false).upper("record the attributes")?;
        Ok(Some(o))
    }

    /// Runs `f` on a file of the upper. If its mode on disk is in the way, which in a private view
    /// must not keep its user out, it is widened for that time.
    pub(super) fn as_its_owner<T>(
        &self,
        node: &Node,
        f: impl Fn() -> crate::sys::Result<T>,
    ) -> crate::sys::Result<T> {
        match f() {
            Err(Errno::ACCESS) if self.options.owner_view => {}
            done => return done,
        }
        let stat = node.stat()?;
        if stat.uid != self.identity.uid || stat.file_type() != FileType::File {
            return Err(Errno::ACCESS);
        }
        node.chmod(stat.permissions() | 0o600)?;
        let done = f();
        node.chmod(stat.permissions())?;
        done
    }

    /// Returns whether a regular file has to stand in: what cannot carry a `user.*` attribute
    /// cannot say whose it is, and devices cannot be made at all.
    pub(super) fn needs_stand_in(&self, spec: &Spec<'_>) -> bool {
        let own = (spec.uid, spec.gid) == (self.identity.uid, self.identity.gid);
        self.options.owner_view
            && match spec.kind {
                FileType::File | FileType::Dir => false,
                FileType::Char | FileType::Block => true,
                FileType::Symlink | FileType::Fifo | FileType::Socket => {
                    !own || !spec.xattrs.is_empty()
                }
            }
    }

    /// Sets both times of a file of the upper.
    pub(super) fn set_times(&self, node: &Node, atime: Time, mtime: Time) -> Result<()> {
        node.set_times(TimeSet::At(atime), TimeSet::At(mtime)).upper("set the times")
    }

    /// Runs `change` in a directory of the upper and gives the directory its old times again: a
    /// copy-up changes nothing that the view shows.
    pub(super) fn keeping_times<T>(
        &self,
        shown: &DirInode,
        dir: &Dir,
        change: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let before = dir.stat_self().upper("look at a directory")?;
        let done = change()?;
        // the change stands, whether or not the times can be set (the directory may be another's)
        let kept = dir.set_times_self(TimeSet::At(before.atime), TimeSet::At(before.mtime));
        match kept {
            Ok(()) => self.copied.add_receiver(shown.ino),
            Err(e) => {
                log::debug!("a directory shows the time of a copy-up: {e}");
                self.copied.add(shown.ino);
            }
        }
        Ok(done)
    }

    /// Makes sure that a name is free of everything but what the caller knows of.
    pub(super) fn refuse_taken(found: bool) -> Result<()> {
        if found { Err(Error::Exists) } else { Ok(()) }
    }
}
