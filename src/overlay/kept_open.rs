//! Lower files that stay open for a while after they were opened: most are opened again.
//!
//! Opening one takes four system calls, which for a small file is most of what there is to do. A
//! file is kept only where we are told when it is replaced, and used only when no such event is
//! on its way, so that an open finds what the layer holds at that moment.

use super::Overlay;
use super::error::Result;
use super::handle::kept_open;
use super::lower::{At, LowerLayer};
use super::options::LowerChanges;
use crate::sys::File;
use parking_lot::Mutex;
use std::sync::Arc;

/// How many files are kept open at the most, and which part of those that may be open.
const FILES: usize = 4096;
const SHARE: u64 = 8;

/// Open files by where they are.
#[derive(Debug)]
pub(super) struct KeptOpen {
    files: Mutex<lru::LruCache<At, Arc<File>>>,
    bound: usize,
}

impl KeptOpen {
    /// Keeps as many files as the limit of this process allows.
    pub(super) fn new() -> KeptOpen {
        let bound = kept_open(FILES, SHARE).get();
        KeptOpen { files: Mutex::new(lru::LruCache::unbounded()), bound }
    }

    fn get(&self, at: At) -> Option<Arc<File>> {
        self.files.lock().get(&at).cloned()
    }

    /// Keeps a file, if `still` says under the lock that it is the right one.
    fn put(&self, at: At, file: &Arc<File>, still: impl FnOnce() -> bool) {
        let mut files = self.files.lock();
        if !still() {
            return;
        }
        let mut gone = files.put(at, Arc::clone(file));
        if files.len() > self.bound {
            gone = files.pop_lru().map(|(_, file)| file);
        }
        drop(files);
        // closing may take long: not under the lock
        drop(gone);
    }

    /// Closes them all, but for those that somebody has open.
    pub(super) fn clear(&self) {
        let mut files = self.files.lock();
        let gone = std::mem::replace(&mut *files, lru::LruCache::unbounded());
        drop(files);
        drop(gone);
    }
}

impl Overlay {
    /// As [`Overlay::open_lower`], by means of a handle of an earlier open where that is the same.
    pub(super) fn open_lower_again(&self, at: At) -> Result<Arc<File>> {
        if !self.may_keep_open(at) {
            return self.open_lower(at).map(Arc::new);
        }
        // in this order: who takes events in closes the files before he lets go of his lock
        let changing =
            self.watch.as_ref().is_some_and(|w| w.watcher.has_events() || w.applying.is_locked());
        if !changing && let Some(file) = self.kept_open.get(at) {
            return Ok(file);
        }
        let then = self.watch.as_ref().map(|w| w.now());
        let Some(file) = self.lower(at)?.open_data(at.node)? else {
            // of the layer that holds a metacopy's data nothing may be told
            return self.open_lower(at).map(Arc::new);
        };
        let file = Arc::new(file);
        // whoever takes events in counts them first and closes the files then
        self.kept_open.put(at, &file, || self.watch.as_ref().map(|w| w.now()) == then);
        Ok(file)
    }

    /// Returns whether it is told, or cannot happen, that another file comes to this place.
    fn may_keep_open(&self, at: At) -> bool {
        match self.lower(at) {
            Ok(LowerLayer::Indexed(_)) => true,
            Ok(LowerLayer::Plain(p)) => match self.lower_changes() {
                LowerChanges::Ignore => true,
                LowerChanges::Watch => p.is_watched(p.parent(at.node)),
                LowerChanges::Timeout => false,
            },
            Err(_) => false,
        }
    }
}
