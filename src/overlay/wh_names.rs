//! Whiteouts as names: `.wh.NAME` beside the others and `.wh..wh..opq` for an opaque directory.
//!
//! That is the form of layer archives (OCI image-spec, layer.md). containers/storage leaves it on
//! disk for a mount program, and fuse-overlayfs writes it where it cannot make device nodes. In
//! the layers of an overlay such names are ordinary otherwise, so that a view must be told.

use super::error::{Doing as _, Error, Result};
use super::upper::UpperLayer;
use crate::marker::{OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::sys::{Dir, DirEntry, Errno, FileType, OpenFlags, RenameFlags, Stat};

/// What names that begin with `.wh.` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhiteoutNames {
    /// Names like all others.
    #[default]
    Ordinary,
    /// Marks in all layers. In the upper they are replaced by the kernel's as they are met.
    Read,
    /// Marks in all layers, and the upper's own whiteouts take this form.
    Written,
}

impl WhiteoutNames {
    /// Returns whether they are marks.
    pub(super) fn heeded(self) -> bool {
        self != WhiteoutNames::Ordinary
    }

    /// Returns the name that an entry hides, where names can do that.
    pub(super) fn hidden(self, name: &[u8]) -> Option<&[u8]> {
        if self.heeded() { hidden(name) } else { None }
    }

    /// Returns whether an entry of the upper, when its marks are settled, is neither shown nor hides
    /// another.
    fn is_bare(self, name: &[u8]) -> bool {
        name.starts_with(WHITEOUT_PREFIX)
            && match self {
                WhiteoutNames::Ordinary => false,
                // the kernel's has taken its place
                WhiteoutNames::Read => true,
                WhiteoutNames::Written => hidden(name).is_none(),
            }
    }

    /// Refuses to make such a name where it would be a mark.
    pub(super) fn check(self, name: &[u8]) -> Result<()> {
        if self.heeded() && name.starts_with(WHITEOUT_PREFIX) {
            return Err(Error::Invalid);
        }
        Ok(())
    }
}

/// Returns the name that a mark hides, for a mark that is not the one of opaque directories.
pub(super) fn hidden(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(WHITEOUT_PREFIX).filter(|n| !n.is_empty() && name != OPAQUE_NAME)
}

/// Returns whether a directory, at whose names `stat` looks, holds the mark of opaque directories.
pub(super) fn marks_opaque(
    stat: impl FnOnce(&[u8]) -> crate::sys::Result<Stat>,
) -> crate::sys::Result<bool> {
    is_there(stat(OPAQUE_NAME))
}

/// Returns whether a name was found.
pub(super) fn is_there(found: crate::sys::Result<Stat>) -> crate::sys::Result<bool> {
    match found {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(false),
        Err(e) => Err(e),
    }
}

fn mark_of(name: &[u8]) -> Result<Vec<u8>> {
    let mark = [WHITEOUT_PREFIX, name].concat();
    if mark.len() > crate::name::NAME_MAX {
        return Err(Errno::NAMETOOLONG).upper("make a whiteout");
    }
    Ok(mark)
}

/// Removes a mark that has been replaced. One that is a directory stays, unseen: who knows what is
/// in it.
fn take_away(dir: &Dir, name: &[u8]) -> Result<()> {
    match dir.unlink(name) {
        Ok(()) | Err(Errno::ISDIR) => Ok(()),
        Err(e) => Err(e).upper("remove a whiteout"),
    }
}

impl UpperLayer {
    /// Makes the mark that hides `name`.
    pub(super) fn put_mark(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        match dir.open_file(&mark_of(name)?, OpenFlags::CREATE_NEW, 0o600) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e).upper("make a whiteout"),
        }
    }

    /// Makes sure that [`UpperLayer::drop_mark`] can remove the mark that hides `name`: one that is a
    /// directory becomes a file, in one step, and goes with what is in it.
    pub(super) fn ready_mark(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        let mark = mark_of(name)?;
        match dir.stat(&mark) {
            Ok(s) if s.file_type() == FileType::Dir => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e).upper("look at a whiteout"),
        }
        let staged = self.staged();
        self.stage
            .open_file(&staged.name, OpenFlags::CREATE_NEW, 0o600)
            .upper("make a whiteout")?;
        staged.commit(dir, &mark, RenameFlags::Exchange).upper("replace a directory by a whiteout")
    }

    /// Removes the mark that hides `name`, which another file has taken the place of.
    pub(super) fn drop_mark(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        let mark = mark_of(name)?;
        match dir.unlink(&mark) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.discard_dir(dir, &mark),
            Err(e) => Err(e).upper("remove a whiteout"),
        }
    }

    /// Brings the marks of a directory of the upper into the form that this view writes, and
    /// returns its entries as they are then, without names that say nothing and are not to be shown.
    /// What others wrote is only met once.
    pub(super) fn settle_marks(
        &self,
        dir: &Dir,
        mut entries: Vec<DirEntry>,
    ) -> Result<Vec<DirEntry>> {
        let foreign = |e: &DirEntry| match self.names {
            WhiteoutNames::Ordinary => false,
            WhiteoutNames::Read => e.name.starts_with(WHITEOUT_PREFIX),
            WhiteoutNames::Written => {
                &e.name[..] == OPAQUE_NAME || e.file_type.is_none_or(|t| t == FileType::Char)
            }
        };
        let mut changed = false;
        for e in entries.iter().filter(|e| foreign(e)) {
            if &e.name[..] == OPAQUE_NAME {
                let node = dir.as_node().upper("open a directory")?;
                node.set_xattr(self.dialect.opaque(), b"y", false, false)
                    .upper("mark a directory opaque")?;
                take_away(dir, &e.name)?;
            } else if let Some(name) = hidden(&e.name) {
                if !entries.iter().any(|other| &other.name[..] == name) {
                    self.link_whiteout(dir, name)?;
                }
                take_away(dir, &e.name)?;
            } else if self.names == WhiteoutNames::Written
                && dir.stat(&e.name).upper("look at a file")?.is_whiteout_device()
            {
                self.put_whiteout(dir, &e.name)?;
            } else {
                continue;
            }
            changed = true;
        }
        if changed {
            entries = dir.list().upper("list a directory of the upper")?;
        }
        entries.retain(|e| !self.names.is_bare(&e.name));
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_names() {
        assert_eq!(hidden(b".wh.a"), Some(&b"a"[..]));
        assert_eq!(hidden(OPAQUE_NAME), None);
        assert_eq!(hidden(b".wh."), None);
        assert_eq!(hidden(b"a.wh.b"), None);
        assert!(WhiteoutNames::Ordinary.check(b".wh.a").is_ok());
        assert!(WhiteoutNames::Read.check(b".wh.a").is_err());
        assert!(WhiteoutNames::Written.check(b"a").is_ok());
        assert!(mark_of(&[b'a'; 252]).is_err() && mark_of(&[b'a'; 251]).is_ok());
    }
}
