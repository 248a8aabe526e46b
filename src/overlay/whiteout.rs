//! Whiteouts in the upper: what says that a name of the lowers is gone.

use super::error::{Doing as _, Error, Result};
use super::upper::UpperLayer;
use super::wh_names::WhiteoutNames;
use crate::sys::{Dir, Errno, FileType, RenameFlags};

impl UpperLayer {
    /// Puts a whiteout at `name`, replacing whatever non-directory is there, in one step.
    pub(super) fn put_whiteout(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        if self.names == WhiteoutNames::Written {
            // in this order: at no time is the name there again
            self.put_mark(dir, name)?;
            return match dir.unlink(name) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e).upper("remove a file"),
            };
        }
        match self.link_whiteout(dir, name) {
            // the directory says already that whiteouts may be files
            Err(Error::Layer { errno: Errno::EXIST, .. }) => {
                let staged = self.staged();
                self.link_whiteout(&self.stage, &staged.name)?;
                staged.commit(dir, name, RenameFlags::Replace).upper("put a whiteout in place")
            }
            r => r,
        }
    }

    /// Makes a whiteout at the unused name `name`: a hard link to one that exists already.
    pub(super) fn link_whiteout(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        if self.names == WhiteoutNames::Written {
            return self.put_mark(dir, name);
        }
        self.announce_whiteout_files(dir)?;
        for _ in 0..2 {
            let known = self.whiteout.lock().clone();
            let source = match known {
                Some(s) => s,
                None => {
                    let fresh = self.stage_name();
                    self.make_whiteout(&self.stage, &fresh)?;
                    *self.whiteout.lock() = Some(fresh.clone());
                    fresh
                }
            };
            match self.stage.link(&source, dir, name) {
                Ok(()) => return Ok(()),
                // as many links as the file system allows, or somebody cleaned the work directory
                Err(Errno::MLINK | Errno::NOENT) => {
                    let mut proto = self.whiteout.lock();
                    if proto.as_ref() == Some(&source) {
                        *proto = None;
                        self.discard(&source);
                    }
                }
                Err(e @ (Errno::PERM | Errno::OPNOTSUPP | Errno::XDEV)) => {
                    log::debug!("no hard links to whiteouts here: {e}");
                    return self.make_whiteout(dir, name);
                }
                Err(e) => return Err(e).upper("link a whiteout"),
            }
        }
        self.make_whiteout(dir, name)
    }

    fn make_whiteout(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        if !self.whiteout_files {
            return dir.mknod_whiteout(name).upper("make a whiteout");
        }
        dir.mknod(name, FileType::File, 0o600, 0).upper("make a whiteout")?;
        dir.set_xattr(name, self.dialect.whiteout(), b"y").upper("mark a whiteout").inspect_err(
            |_| {
                // half a whiteout would be an empty file
                if let Err(e) = dir.unlink(name) {
                    log::warn!("cannot remove a whiteout without its mark: {e}");
                }
            },
        )
    }

    /// Where whiteouts are files, a directory that holds some says so, lest every file of every
    /// directory must be asked.
    fn announce_whiteout_files(&self, dir: &Dir) -> Result<()> {
        if !self.whiteout_files {
            return Ok(());
        }
        let node = dir.as_node().upper("open a directory")?;
        match node.get_xattr(self.dialect.opaque()).upper("read the opaque mark")? {
            Some(_) => Ok(()),
            None => node
                .set_xattr(self.dialect.opaque(), b"x", false, false)
                .upper("mark a directory of whiteouts"),
        }
    }

    /// Returns whether a whiteout lies under the name that it hides.
    pub(super) fn whiteouts_take_names(&self) -> bool {
        self.names != WhiteoutNames::Written
    }
}
