//! Hard links.

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{Object, Place};
use super::listing::{Below, OwnEntry};
use super::types::{Attr, Ino};
use crate::name::Name;
use crate::sys::{Errno, RenameFlags};
use std::sync::Arc;

impl Overlay {
    /// Makes `name` in `parent` another name of a file.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EEXIST`, `ENOENT` for a file without a name left, `EROFS`.
    pub fn link(&self, ino: Ino, parent: Ino, name: Name<'_>) -> Result<Attr> {
        let upper = self.writable()?;
        let file = match self.object(ino)? {
            Object::Dir(_) => return Err(Error::NotPermitted),
            other => self.file(other)?,
        };
        self.options.whiteout_names.check(name.bytes())?;
        let dir = self.living_dir(parent)?;
        Overlay::refuse_taken(self.listing(&dir)?.find(&self.lowers, name.bytes()).is_some())?;
        self.copy_up(&file, Data::All)?;
        self.complete(&file, Data::All)?;
        self.settle(&file)?;
        self.ensure_upper(&dir)?;
        let _tree = self.tree.read();
        let _names = dir.names.lock();
        if dir.is_removed() {
            return Err(Error::NotFound);
        }
        let whiteout = {
            let listing = self.listing(&dir)?;
            Overlay::refuse_taken(listing.find(&self.lowers, name.bytes()).is_some())?;
            listing.has_whiteout(name.bytes())
        };
        let handle = self.upper_dir(&dir)?;
        let (node, stat) = self.upper_node_and_stat(&file)?;
        let state = file.state.read().clone();
        let kind = self.shown(file.ino, &stat, self.file_override(&file, &state, &stat)?).kind;
        if self.is_copy(&node) {
            self.mark_impure(&dir, &handle)?;
        }
        let marked = whiteout && !upper.whiteouts_take_names();
        if marked {
            upper.ready_mark(&handle, name.bytes())?;
        }
        if whiteout && !marked {
            let staged = upper.staged();
            // ENOENT if the last name has gone
            node.link_to(&upper.stage, &staged.name).upper("stage a link")?;
            staged
                .commit(&handle, name.bytes(), RenameFlags::Replace)
                .upper("put a link in place")?;
        } else {
            match node.link_to(&handle, name.bytes()) {
                Err(Errno::NOENT) => return Err(Error::NotFound),
                r => r.upper("make a link")?,
            }
        }
        if marked {
            upper.drop_mark(&handle, name.bytes())?;
        }
        let entry_name: Arc<[u8]> = Arc::from(name.bytes());
        let real = {
            let mut state = file.state.write();
            state.add_upper_name(Place { parent: dir.ino, name: entry_name.clone() });
            state.real
        };
        let entry = OwnEntry { name: entry_name, ino: file.ino, real, kind, below: Below::Nothing };
        self.listing_mut(&dir)?.put(&self.lowers, entry);
        let attr = self.file_attr(&file)?;
        self.inodes.count(&Object::File(file));
        Ok(self.visible(attr))
    }
}
