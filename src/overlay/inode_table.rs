//! The table that finds the engine's objects by number.

use super::inode::{DirInode, FileInode, Object};
use super::types::Ino;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Debug)]
enum Slot {
    Dir(Arc<DirInode>),
    File(Arc<FileInode>),
    /// Lookups of a file without an object.
    Counted(u64),
}

const SHARDS: usize = 32;

/// All objects by number. Its locks are held for a map operation and nothing else.
#[derive(Debug)]
pub(super) struct InodeTable {
    shards: Vec<RwLock<HashMap<Ino, Slot>>>,
    /// Whether lookups of files without an object are counted, so that an object made later knows
    /// how many the kernel holds.
    count_pure: bool,
}

impl InodeTable {
    pub(super) fn new(count_pure: bool) -> InodeTable {
        InodeTable { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), count_pure }
    }

    fn shard(&self, ino: Ino) -> &RwLock<HashMap<Ino, Slot>> {
        let mixed = ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        &self.shards[mixed as usize % SHARDS]
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Object> {
        match self.shard(ino).read().get(&ino)? {
            Slot::Dir(d) => Some(Object::Dir(d.clone())),
            Slot::File(f) => Some(Object::File(f.clone())),
            Slot::Counted(_) => None,
        }
    }

    /// Returns the directory of that number, or makes it.
    pub(super) fn dir_or_insert(
        &self,
        ino: Ino,
        make: impl FnOnce() -> DirInode,
    ) -> Option<Arc<DirInode>> {
        let mut lookups = 0;
        let mut shard = self.shard(ino).write();
        match shard.get(&ino) {
            Some(Slot::Dir(d)) if !d.is_removed() => return Some(d.clone()),
            // the same directory of a lower, at another place or back again
            Some(Slot::Dir(d)) if d.removed.read().as_ref().is_some_and(|r| r.elsewhere) => {
                lookups = d.lookups.load(Ordering::Acquire);
            }
            // the number is in use for something else
            Some(Slot::Dir(_) | Slot::File(_)) => return None,
            Some(Slot::Counted(_)) | None => {}
        }
        let dir = Arc::new(make());
        dir.lookups.store(lookups, Ordering::Release);
        shard.insert(ino, Slot::Dir(dir.clone()));
        Some(dir)
    }

    /// Returns the file of that number, or makes it. It takes over the lookups counted so far.
    pub(super) fn file_or_insert(
        &self,
        ino: Ino,
        make: impl FnOnce() -> FileInode,
    ) -> Option<Arc<FileInode>> {
        let mut shard = self.shard(ino).write();
        let counted = match shard.get(&ino) {
            Some(Slot::File(f)) => return Some(f.clone()),
            Some(Slot::Dir(_)) => return None,
            Some(Slot::Counted(n)) => *n,
            None => 0,
        };
        let file = Arc::new(make());
        file.lookups.store(counted, Ordering::Relaxed);
        shard.insert(ino, Slot::File(file.clone()));
        Some(file)
    }

    /// Counts a lookup that the kernel is about to be told of.
    pub(super) fn count(&self, object: &Object) {
        let ino = object.ino();
        match object {
            Object::Dir(d) => {
                d.lookups.fetch_add(1, Ordering::Relaxed);
            }
            Object::File(f) => {
                if let Some(Slot::File(known)) = self.shard(ino).read().get(&ino) {
                    // perhaps not `f`: forgotten since the lookup, and looked up by another thread
                    known.lookups.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let mut shard = self.shard(ino).write();
                let before = match shard.get(&ino) {
                    Some(Slot::File(known)) => {
                        known.lookups.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    Some(Slot::Counted(n)) => *n,
                    Some(Slot::Dir(_)) | None => 0,
                };
                // forgotten between the lookup and now: it is known again
                f.lookups.store(before + 1, Ordering::Relaxed);
                shard.insert(ino, Slot::File(f.clone()));
            }
            Object::Pure(..) if self.count_pure => {
                let mut shard = self.shard(ino).write();
                match shard.entry(ino).or_insert(Slot::Counted(0)) {
                    Slot::Counted(n) => *n += 1,
                    Slot::File(f) => {
                        f.lookups.fetch_add(1, Ordering::Relaxed);
                    }
                    Slot::Dir(_) => {}
                }
            }
            Object::Pure(..) => {}
        }
    }

    /// Takes back `n` lookups; drops what nobody can reach any more.
    pub(super) fn forget(&self, ino: Ino, n: u64) {
        let sub = |count: &AtomicU64| {
            let old = count
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |c| Some(c.saturating_sub(n)));
            old.unwrap_or(0) <= n
        };
        let mut shard = self.shard(ino).write();
        let gone = match shard.get_mut(&ino) {
            // a living directory stays: those below it find their way up through it
            Some(Slot::Dir(d)) => sub(&d.lookups) && d.is_removed(),
            Some(Slot::File(f)) => {
                sub(&f.lookups) && f.handles.load(Ordering::Acquire) == 0 && !f.counts_names()
            }
            Some(Slot::Counted(c)) => {
                *c = c.saturating_sub(n);
                *c == 0
            }
            None => false,
        };
        let dropped = if gone { shard.remove(&ino) } else { None };
        drop(shard);
        // closing a removed file's last handle may take long: not under the lock
        drop(dropped);
    }

    /// Called when one of a file's handles is closed: an unchanged file of an indexed layer needs
    /// no object, and one that nobody knows any more goes.
    pub(super) fn closed(&self, file: &Arc<FileInode>) {
        let mut shard = self.shard(file.ino).write();
        if file.handles.load(Ordering::Acquire) != 0 {
            return;
        }
        let lookups = file.lookups.load(Ordering::Acquire);
        let here = matches!(shard.get(&file.ino), Some(Slot::File(f)) if Arc::ptr_eq(f, file));
        if !here {
            return;
        }
        let dropped = if lookups == 0 && !file.counts_names() {
            shard.remove(&file.ino)
        } else if Arc::strong_count(file) == 2 && file.is_pure() {
            // held by the table and the caller alone: nobody is about to change it
            shard.insert(file.ino, Slot::Counted(lookups))
        } else {
            None
        };
        drop(shard);
        drop(dropped);
    }

    /// Returns all objects: for what happens seldom.
    pub(super) fn all(&self) -> (Vec<Arc<DirInode>>, Vec<Arc<FileInode>>) {
        let (mut dirs, mut files) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            for slot in shard.read().values() {
                match slot {
                    Slot::Dir(d) => dirs.push(d.clone()),
                    Slot::File(f) => files.push(f.clone()),
                    Slot::Counted(_) => {}
                }
            }
        }
        (dirs, files)
    }

    /// Returns the number of objects and of counted numbers, for statistics.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().len()).sum()
    }
}
