//! The table that finds the engine's objects by number.

use super::at_rest::{AtRest, Resting};
use super::inode::{DirInode, FileInode, Object};
use super::lower::At;
use super::types::Ino;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[derive(Clone, Debug)]
enum Slot {
    Dir(Arc<DirInode>),
    File(Arc<FileInode>),
    /// Lookups of a file without an object.
    Counted(u64),
    /// A file of a plain layer of which this says everything.
    AtRest(Resting),
}

const SHARDS: usize = 32;

/// All objects by number. Its locks are held for a map operation and nothing else.
#[derive(Debug)]
pub(super) struct InodeTable {
    shards: Vec<RwLock<HashMap<Ino, Slot>>>,
    at_rest: AtRest,
    /// Whether lookups of files without an object are counted, so that an object made later knows
    /// how many the kernel holds.
    count_pure: bool,
}

impl InodeTable {
    pub(super) fn new(count_pure: bool, at_rest: AtRest) -> InodeTable {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        InodeTable { shards, at_rest, count_pure }
    }

    fn shard(&self, ino: Ino) -> &RwLock<HashMap<Ino, Slot>> {
        let mixed = ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        &self.shards[mixed as usize % SHARDS]
    }

    /// Returns the object of that number. A file at rest becomes one again.
    pub(super) fn get(&self, ino: Ino) -> Option<Object> {
        match self.peek(ino)? {
            Object::Pure(..) => self.awake(&mut self.shard(ino).write(), ino).map(Object::File),
            known => Some(known),
        }
    }

    /// As [`get`](Self::get), but leaves a file at rest, which is a [`Object::Pure`] then: for who
    /// only asks.
    pub(super) fn peek(&self, ino: Ino) -> Option<Object> {
        match self.shard(ino).read().get(&ino)? {
            Slot::Dir(d) => Some(Object::Dir(d.clone())),
            Slot::File(f) => Some(Object::File(f.clone())),
            Slot::Counted(_) => None,
            Slot::AtRest(r) => Some(Object::Pure(ino, r.at)),
        }
    }

    /// Returns the file of that number, woken if it was at rest.
    fn awake(&self, shard: &mut HashMap<Ino, Slot>, ino: Ino) -> Option<Arc<FileInode>> {
        let slot = shard.get_mut(&ino)?;
        match slot {
            Slot::File(f) => Some(f.clone()),
            Slot::AtRest(resting) => {
                let file = Arc::new(self.at_rest.wake(ino, *resting));
                *slot = Slot::File(file.clone());
                Some(file)
            }
            Slot::Dir(_) | Slot::Counted(_) => None,
        }
    }

    /// Puts a file to rest that a lookup has found, if nobody else uses it this moment.
    pub(super) fn rest(&self, object: Object) {
        if let Object::File(file) = object {
            let mut shard = self.shard(file.ino).write();
            let dropped = self.laid_down(&mut shard, &file);
            drop(shard);
            drop(dropped);
        }
    }

    /// Returns whether a number is known.
    pub(super) fn knows(&self, ino: Ino) -> bool {
        self.shard(ino).read().contains_key(&ino)
    }

    /// Puts a file to rest by its first lookup, which is counted, without an object in between.
    /// Returns whether it did: somebody may have come to know it meanwhile, or layers changed.
    pub(super) fn rest_at_once(&self, file: (Ino, At), parent: Ino, name: &[u8]) -> bool {
        let mut shard = self.shard(file.0).write();
        if shard.contains_key(&file.0) {
            return false;
        }
        let resting = self.at_rest.found(file, parent, name);
        resting.is_some_and(|r| shard.insert(file.0, Slot::AtRest(r)).is_none())
    }

    /// Puts a file to rest of which the table and the caller have the only references; returns the
    /// object that it was.
    fn laid_down(&self, shard: &mut HashMap<Ino, Slot>, file: &Arc<FileInode>) -> Option<Slot> {
        let slot = shard.get_mut(&file.ino)?;
        let here = matches!(slot, Slot::File(f) if Arc::ptr_eq(f, file));
        if !here || Arc::strong_count(file) != 2 {
            return None;
        }
        // what the last of the others did is seen from here on
        fence(Ordering::Acquire);
        Some(std::mem::replace(slot, Slot::AtRest(self.at_rest.lay_down(file)?)))
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
            Some(Slot::Dir(_) | Slot::File(_) | Slot::AtRest(..)) => return None,
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
        if let Some(known) = self.awake(&mut shard, ino) {
            return Some(known);
        }
        let counted = match shard.get(&ino) {
            Some(Slot::Counted(n)) => *n,
            Some(_) => return None,
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
                if let Some(known) = self.awake(&mut shard, ino) {
                    known.lookups.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let before = match shard.get(&ino) {
                    Some(Slot::Counted(n)) => *n,
                    _ => 0,
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
                    Slot::Dir(_) | Slot::AtRest(..) => {}
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
            Some(Slot::AtRest(r)) => {
                r.lookups = r.lookups.saturating_sub(u16::try_from(n).unwrap_or(u16::MAX));
                r.lookups == 0
            }
            None => false,
        };
        let dropped = if gone { shard.remove(&ino) } else { None };
        drop(shard);
        // closing a removed file's last handle may take long: not under the lock
        drop(dropped);
    }

    /// Called when one of a file's handles is closed: an unchanged file of a lower layer needs no
    /// object, and one that nobody knows any more goes.
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
            self.laid_down(&mut shard, file)
        };
        drop(shard);
        drop(dropped);
    }

    /// Returns all directories, and the numbers of all files that are known: for what happens
    /// seldom.
    pub(super) fn all(&self) -> (Vec<Arc<DirInode>>, Vec<Ino>) {
        let (mut dirs, mut files) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            for (ino, slot) in shard.read().iter() {
                match slot {
                    Slot::Dir(d) => dirs.push(d.clone()),
                    Slot::File(_) | Slot::AtRest(..) => files.push(*ino),
                    Slot::Counted(_) => {}
                }
            }
        }
        (dirs, files)
    }

    /// Returns how many numbers are known, for statistics.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().len()).sum()
    }

    /// Returns how many of them are files at rest.
    pub(super) fn at_rest(&self) -> usize {
        let rests = |slot: &&Slot| matches!(slot, Slot::AtRest(..));
        self.shards.iter().map(|s| s.read().values().filter(rests).count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_rest_takes_no_more_room_than_a_pointer_to_an_object() {
        assert_eq!(size_of::<(Ino, Slot)>(), size_of::<(Ino, u64, Arc<FileInode>)>());
    }
}
