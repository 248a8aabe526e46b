//! What a kernel that holds writes back needs: the times that it keeps by itself, which files it may
//! hold something of, and by which names it has what somebody else has changed.

use super::inode::Object;
use super::types::{Attr, Fh, Ino, SetAttr};
use super::{Overlay, Result};
use crate::sys::{Errno, Time, TimeSet};

impl Overlay {
    /// Gives a file the time of its last write as the kernel has kept it, which says so after
    /// writes, and after each change of names and attributes too. Returns the attributes.
    ///
    /// Nothing is done to a file that has this time already: it is not copied up for that.
    ///
    /// # Errors
    /// As [`Overlay::setattr`]. That the mounter may not set the time of a file that he may write is
    /// none: the disk has kept one of its own.
    pub fn keep_mtime(&self, ino: Ino, fh: Option<Fh>, mtime: Time) -> Result<Attr> {
        let attr = self.getattr(ino, fh)?;
        if attr.mtime == mtime {
            return Ok(attr);
        }
        let set = SetAttr { mtime: Some(TimeSet::At(mtime)), ..SetAttr::default() };
        match self.setattr(ino, fh, &set) {
            // without a handle it is what somebody has asked for
            Err(e) if fh.is_some() && e.errno() == Errno::PERM => Ok(attr),
            done => done,
        }
    }

    /// Returns the files that are open for writing, each once.
    #[must_use]
    pub fn written(&self) -> Vec<Ino> {
        let mut all = self.handles.written();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Returns whether what is written by this handle can also be read by it.
    #[must_use]
    pub fn reads_what_it_writes(&self, fh: Fh) -> bool {
        self.handles.get(fh).is_some_and(|h| h.file().is_readable().unwrap_or(false))
    }

    /// Returns the names, each in its directory, under which the lowers show a file that is in none
    /// but them, as far as they were looked up.
    #[must_use]
    pub fn lower_names(&self, ino: Ino) -> Vec<(Ino, Box<[u8]>)> {
        match self.inodes.get(ino) {
            Some(Object::File(f)) if !f.data_in_upper() => {
                let state = f.state.read();
                state.lower_names.iter().map(|p| (p.parent, Box::from(&*p.name))).collect()
            }
            _ => Vec::new(),
        }
    }
}
