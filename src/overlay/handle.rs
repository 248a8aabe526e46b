//! Open files.

use super::inode::FileInode;
use super::lazy::Lazy;
use super::types::{Fh, Ino};
use crate::sys::{File, open_files};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Returns how many files may be kept open only because they may be wanted again: `most`, or this
/// part of what the process may open. Those that users open must find room.
pub(super) fn kept_open(most: usize, part: u64) -> NonZeroUsize {
    let share = usize::try_from(open_files() / part).unwrap_or(usize::MAX);
    NonZeroUsize::new(most.min(share)).unwrap_or(NonZeroUsize::MIN)
}

/// One open file of the view.
#[derive(Debug)]
pub(super) struct Handle {
    /// `None`: an unchanged file of a read-only view.
    inode: Option<Arc<FileInode>>,
    file: RwLock<Arc<File>>,
    /// Whether `file` is still the lower's.
    lower: AtomicBool,
    pub(super) writable: bool,
    /// Whether it keeps the kernel's time of the last write ([`super::held_back`]).
    pub(super) holds: AtomicBool,
}

impl Handle {
    pub(super) fn new(
        inode: Option<Arc<FileInode>>,
        file: impl Into<Arc<File>>,
        lower: bool,
        writable: bool,
    ) -> Handle {
        if let Some(i) = &inode {
            i.handles.fetch_add(1, Ordering::AcqRel);
        }
        Handle {
            inode,
            file: RwLock::new(file.into()),
            lower: AtomicBool::new(lower),
            writable,
            holds: AtomicBool::new(false),
        }
    }

    pub(super) fn inode(&self) -> Option<&Arc<FileInode>> {
        self.inode.as_ref()
    }

    /// Returns the open file. The lock is not held while it is used.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.read().clone()
    }

    /// Returns whether this handle reads a lower file that was copied up since.
    pub(super) fn outdated(&self) -> bool {
        self.lower.load(Ordering::Acquire) && self.inode.as_ref().is_some_and(|i| i.data_in_upper())
    }

    /// Returns whether this handle reads a lower file.
    pub(super) fn is_lower(&self) -> bool {
        self.lower.load(Ordering::Acquire)
    }

    /// Returns what is known of the file's blocks, if this handle is one of an incomplete copy.
    pub(super) fn lazy(&self) -> Option<Arc<Lazy>> {
        self.inode.as_ref().and_then(|i| i.lazy.get()).filter(|_| !self.is_lower())
    }

    /// Makes this handle read the copy in the upper.
    pub(super) fn replace(&self, file: File) {
        *self.file.write() = Arc::new(file);
        self.lower.store(false, Ordering::Release);
    }
}

/// All open files by number.
#[derive(Debug, Default)]
pub(super) struct HandleTable {
    next: AtomicU64,
    open: RwLock<HashMap<Fh, Arc<Handle>>>,
}

impl HandleTable {
    pub(super) fn insert(&self, handle: Handle) -> Fh {
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        self.open.write().insert(fh, Arc::new(handle));
        fh
    }

    pub(super) fn get(&self, fh: Fh) -> Option<Arc<Handle>> {
        self.open.read().get(&fh).cloned()
    }

    /// Returns a lower file that somebody has open by this number.
    pub(super) fn open_lower(&self, ino: Ino) -> Option<Arc<File>> {
        let all = self.open.read();
        let of_it = |h: &&Arc<Handle>| {
            h.lower.load(Ordering::Acquire) && h.inode.as_ref().is_some_and(|i| i.ino == ino)
        };
        all.values().find(of_it).map(|h| h.file())
    }

    /// Returns whether anybody has a file open for writing.
    pub(super) fn is_written(&self, ino: Ino) -> bool {
        let open = self.open.read();
        open.values().any(|h| h.writable && h.inode().is_some_and(|i| i.ino == ino))
    }

    /// Returns the files that are open for writing, once for each handle.
    pub(super) fn written(&self) -> Vec<Ino> {
        let open = self.open.read();
        let writable = open.values().filter(|h| h.writable);
        writable.filter_map(|h| h.inode().map(|i| i.ino)).collect()
    }

    pub(super) fn remove(&self, fh: Fh) -> Option<Arc<Handle>> {
        self.open.write().remove(&fh)
    }
}
