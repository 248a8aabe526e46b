//! Lower files that somebody edits while the kernel holds writes back. It keeps a file's length and
//! times for as long as it has its inode, and has that for as long as the file has a name or is
//! open. So its names are taken away, and again when it is closed: they are looked up meanwhile.

use super::Adapter;
use crate::overlay::Ino;
use crate::sys::Errno;
use fuser::{INodeNo, Notifier};
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those that were open then.
#[derive(Debug, Default)]
pub(super) struct Edited {
    files: Mutex<HashSet<Ino>>,
    count: AtomicUsize,
}

impl Edited {
    fn add(&self, ino: Ino) {
        let mut files = self.files.lock();
        files.insert(ino);
        self.count.store(files.len(), Ordering::Release);
    }

    /// Called when a handle was closed and the kernel was told so.
    pub(super) fn closed(&self, adapter: &Adapter, node: INodeNo) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let ino = adapter.ino(node);
        if adapter.overlay.is_open(ino) {
            return;
        }
        let mut files = self.files.lock();
        let edited = files.remove(&ino);
        self.count.store(files.len(), Ordering::Release);
        drop(files);
        if edited {
            let own = adapter.clone();
            adapter.pages.later(&adapter.notifier, move |notifier| own.forget_file(notifier, ino));
        }
    }
}

impl Adapter {
    /// A file of the lowers was edited: if the kernel keeps length and times by itself, it is to
    /// forget the file.
    pub(in crate::fuse) fn file_was_edited(&self, notifier: &Notifier, ino: Ino) {
        if !self.agreed().writeback {
            return;
        }
        if self.overlay.is_open(ino) {
            self.edited.add(ino);
        }
        self.forget_file(notifier, ino);
    }

    fn forget_file(&self, notifier: &Notifier, ino: Ino) {
        for (parent, name) in self.overlay.lower_names(ino) {
            let Some(parent) = self.known(parent) else { continue };
            match notifier.inval_entry(parent, OsStr::from_bytes(&name)) {
                // the kernel does not know it
                Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw()) => {}
                Err(e) => log::debug!("the kernel keeps an edited file: {e}"),
                Ok(()) => {}
            }
        }
    }
}
