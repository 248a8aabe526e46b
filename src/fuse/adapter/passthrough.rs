//! How an open file is read and written: by requests and the kernel's pages, by the backing file
//! without a request (passthrough), or by requests alone (direct).
//!
//! The kernel allows one way at a time for an inode: all of its opens go through our pages
//! (cached), or all go to one backing file (passthrough); any other open fails with `EIO`
//! (`fuse_file_io_open` in fs/fuse/iomode.c). So the first open decides, and the others follow
//! until the last has been closed. We count by RELEASE, which comes after the kernel's own count.
//!
//! A passthrough open may ask for requests all the same, which then go to the backing file for maps
//! alone: so it is with who opens to append beside others, for the kernel's backing file keeps the
//! flags of the open, and fcntl(2) may take that one away later.
//!
//! Two things outlive an open. What passthrough wrote is not in the pages that a cached open finds,
//! so the first one after drops them. And a mapping of the backing file may go on writing unseen,
//! so an inode that was open for reading and writing has no attributes that the kernel may trust.
//!
//! Direct is how a file is written that was made in this mount and that nobody else has open: the
//! data does not go through pages that are read again seldom, and the kernel asks for no
//! capabilities before the first write, which a new file has not. Who opens it meanwhile reads
//! directly too, since the kernel drops the written range of the pages before the write and not
//! after it. So who maps the file meanwhile may fill pages with what was there before: they are
//! dropped after the write ([`pages`](super::pages)), and all of them at the next open.

use crate::overlay::{Fh, Ino, OpenMode, Overlay};
use crate::sys::{Errno, File};
use fuser::{BackingId, FileHandle};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// In a handle's number as the kernel knows it: the open is a passthrough one.
const THROUGH: u64 = 1 << 63;
/// The same: the open is a direct one.
const DIRECT: u64 = 1 << 62;
/// From which length on a file opened for reading alone is passed through. The kernel's own pages
/// serve small ones as fast, and keeping them costs no registration.
const WORTH_READING: u64 = 128 << 10;

/// How an open is to be answered.
#[derive(Debug)]
pub(super) enum Way {
    /// By requests, with the kernel's pages; `keep`: those of earlier opens are still right.
    Cached { keep: bool },
    /// By the backing file.
    Through(Arc<BackingId>),
    /// By requests, while other opens are passed through: maps alone are of the backing file.
    Beside(Arc<BackingId>),
    /// By requests, without the kernel's pages.
    Direct,
}

/// What is known about an inode that is open, or was in a way that still matters.
#[derive(Debug, Default)]
struct Use {
    cached: u32,
    through: u32,
    direct: u32,
    id: Option<Arc<BackingId>>,
    /// The kernel's pages may be older than the file.
    outdated: bool,
    /// A mapping that writes may exist.
    mapped: bool,
}

impl Use {
    fn is_unused(&self) -> bool {
        self.through == 0 && self.cached == 0 && self.direct == 0
    }
}

const SHARDS: usize = 16;

/// Which inodes are open in which way.
#[derive(Debug, Default)]
pub(super) struct Backings {
    shards: [Mutex<HashMap<Ino, Use>>; SHARDS],
    /// The kernel has refused once for good.
    refused: AtomicBool,
}

/// Returns the engine's number of a handle.
pub(super) fn plain(h: FileHandle) -> Fh {
    Fh(h.0 & !(THROUGH | DIRECT))
}

/// Returns a handle's number as the kernel is to know it.
pub(super) fn numbered(h: Fh, way: &Way) -> FileHandle {
    match way {
        Way::Cached { .. } => FileHandle(h.0),
        Way::Through(_) => FileHandle(h.0 | THROUGH),
        Way::Beside(_) => FileHandle(h.0 | THROUGH | DIRECT),
        Way::Direct => FileHandle(h.0 | DIRECT),
    }
}

/// Returns whether an open is a direct one.
pub(super) fn is_direct(h: FileHandle) -> bool {
    h.0 & DIRECT != 0
}

impl Backings {
    fn shard(&self, ino: Ino) -> &Mutex<HashMap<Ino, Use>> {
        let mixed = ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        &self.shards[mixed as usize % SHARDS]
    }

    /// Decides how an open of `ino` that has `h` goes, and counts it. `register` gives the kernel a
    /// backing file.
    ///
    /// That keeps the flags of the open, so that who opens to append would go on appending when
    /// fcntl(2) has taken that away: his writes are requests, whoever else has the file open.
    pub(super) fn open(
        &self,
        overlay: &Overlay,
        ino: Ino,
        h: Fh,
        mode: OpenMode,
        register: impl FnOnce(&File) -> std::io::Result<BackingId>,
    ) -> Way {
        let mut shard = self.shard(ino).lock();
        let known = shard.entry(ino).or_default();
        let appends = mode.append && mode.write;
        let first = known.through == 0 && known.cached == 0;
        if first && !appends && !self.refused.load(Ordering::Relaxed) {
            known.id = candidate(overlay, h, mode).and_then(|f| self.register(&f, register));
        }
        match known.id.clone().filter(|_| known.cached == 0) {
            Some(id) => {
                known.through += 1;
                known.outdated |= mode.write || mode.truncate;
                known.mapped |= mode.write && mode.read;
                if appends { Way::Beside(id) } else { Way::Through(id) }
            }
            None => {
                known.cached += 1;
                let keep = !known.outdated;
                known.outdated = known.mapped;
                Way::Cached { keep }
            }
        }
    }

    /// The same where nothing is passed through: writing alone is direct if `new` says that the
    /// file has nothing to lose by it.
    pub(super) fn open_direct(&self, ino: Ino, mode: OpenMode, new: impl FnOnce() -> bool) -> Way {
        let mut shard = self.shard(ino).lock();
        let known = shard.entry(ino).or_default();
        let alone = known.cached == 0 && known.direct == 0;
        if known.direct > 0 || alone && mode.write && !mode.read && new() {
            // a mapping could fill pages while somebody writes
            known.outdated |= !alone;
            known.direct += 1;
            return Way::Direct;
        }
        known.cached += 1;
        Way::Cached { keep: !std::mem::take(&mut known.outdated) }
    }

    fn register(
        &self,
        file: &File,
        register: impl FnOnce(&File) -> std::io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        match register(file) {
            Ok(id) => Some(Arc::new(id)),
            Err(e) => {
                let e = Errno::from(e);
                // too deep a stack of file systems, or too many open files: this one alone
                let passing = [Errno::LOOP, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
                if !passing.contains(&e) {
                    self.refused.store(true, Ordering::Relaxed);
                }
                log::debug!("no passthrough: {e}");
                None
            }
        }
    }

    /// Notes that a handle was closed. The last one of an inode gives its backing file back.
    pub(super) fn release(&self, ino: Ino, h: FileHandle) {
        let mut shard = self.shard(ino).lock();
        let Some(known) = shard.get_mut(&ino) else { return };
        let count = match (h.0 & THROUGH != 0, is_direct(h)) {
            (true, _) => &mut known.through,
            (_, true) => &mut known.direct,
            _ => &mut known.cached,
        };
        *count = count.saturating_sub(1);
        let id = if known.through == 0 { known.id.take() } else { None };
        if known.is_unused() && !known.outdated && !known.mapped {
            shard.remove(&ino);
        }
        drop(shard);
        drop(id);
    }

    /// The kernel has dropped an inode, and its pages and attributes with it.
    pub(super) fn forget(&self, ino: Ino) {
        let mut shard = self.shard(ino).lock();
        if shard.get(&ino).is_some_and(Use::is_unused) {
            shard.remove(&ino);
        }
    }

    /// Returns whether others than one direct open of an inode may fill pages.
    pub(super) fn has_company(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino).is_some_and(|k| k.direct > 1)
    }

    /// Returns whether the attributes of an inode may change without a request.
    pub(super) fn changes_unseen(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino).is_some_and(|k| k.mapped)
    }
}

/// Returns the backing file of a handle, if passing it through is allowed and worth it.
fn candidate(overlay: &Overlay, h: Fh, mode: OpenMode) -> Option<Arc<File>> {
    let (file, size) = overlay.backing_file(h)?;
    (mode.write || size >= WORTH_READING).then_some(file)
}
