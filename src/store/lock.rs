//! The two locks of a store, in the order in which they are taken.
//!
//! ```text
//! stratafs-import.lock   exclusive for a whole import; only its holder adds to the store
//!   stratafs.lock        shared by readers; exclusive for the moment of a rename
//! ```
//! So importers wait for each other, but no reader ever waits for an import. Both are flock(2)
//! locks and end with their process. Never ask for something that changes the store while holding
//! a [`ReadLock`]: it would wait for itself.

use super::{Store, StoreError, layout, sweep};
use crate::sys::{Errno, File, LockKind, OpenFlags};
use std::sync::Arc;

/// The right to add to the store. Lasts until its last clone is dropped; every [`super::LayerTxn`]
/// holds one.
#[derive(Clone, Debug)]
pub struct ImportLock {
    _file: Arc<File>,
}

/// Keeps others from changing what is visible in the store. Hold it briefly.
#[derive(Debug)]
pub struct ReadLock {
    _file: Option<File>,
}

/// The right to make something visible.
#[derive(Debug)]
pub(super) struct WriteLock {
    _file: File,
}

impl Store {
    /// Takes the import lock, waiting for another importer, and removes what a killed one left.
    ///
    /// # Errors
    /// [`StoreError::NotWritable`] if this user may not change the store.
    pub fn import_lock(&self) -> Result<ImportLock, StoreError> {
        let at = |e| self.io("lock", layout::IMPORT_LOCK, e);
        let file = self.lock_file(layout::IMPORT_LOCK)?;
        if !file.try_lock(LockKind::Exclusive).map_err(at)? {
            log::warn!("waiting for another change of {} to end", self.root.display());
            file.lock(LockKind::Exclusive).map_err(at)?;
        }
        // from here on the store is one to which this program writes
        self.lock_file(layout::STORE_LOCK)?;
        let lock = ImportLock { _file: Arc::new(file) };
        sweep::sweep(self, &lock)?;
        Ok(lock)
    }

    /// Takes the store lock for reading, so that several reads see one state. A store without
    /// lock files, or whose lock file this user may not open, is read without.
    pub fn read_lock(&self) -> Result<ReadLock, StoreError> {
        let file = match self.dir.open_file(layout::STORE_LOCK.as_bytes(), OpenFlags::READ, 0) {
            Ok(f) => f,
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => return Ok(ReadLock { _file: None }),
            Err(e) => return Err(self.io("open", layout::STORE_LOCK, e)),
        };
        match file.lock(LockKind::Shared) {
            Ok(()) => Ok(ReadLock { _file: Some(file) }),
            // a file system without locks: every change is one rename all the same
            Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(ReadLock { _file: None }),
            Err(e) => Err(self.io("lock", layout::STORE_LOCK, e)),
        }
    }

    pub(super) fn write_lock(&self) -> Result<WriteLock, StoreError> {
        let file = self.lock_file(layout::STORE_LOCK)?;
        file.lock(LockKind::Exclusive).map_err(|e| self.io("lock", layout::STORE_LOCK, e))?;
        Ok(WriteLock { _file: file })
    }

    fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let dir = &self.dir;
        loop {
            let opened = match dir.open_file(name.as_bytes(), OpenFlags::READ_WRITE, 0) {
                Err(Errno::NOENT) => dir
                    .open_file(name.as_bytes(), OpenFlags::CREATE_NEW, layout::FILE_MODE)
                    .and_then(|f| f.chmod(layout::FILE_MODE).map(|()| f)),
                r => r,
            };
            return match opened {
                Ok(f) => Ok(f),
                // made by another between our two tries
                Err(Errno::EXIST) => continue,
                Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                    Err(StoreError::NotWritable { root: self.root().to_owned(), errno })
                }
                Err(e) => Err(self.io("open", name, e)),
            };
        }
    }
}
