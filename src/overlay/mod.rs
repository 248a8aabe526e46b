//! The overlay engine: a merged view of layers, and the changes that go to the upper.
//!
//! A plain API over inode numbers, names and handles. It knows no FUSE, no store and no globals,
//! and is tested without a mount. One file per family of operations; this one holds the state and
//! finds objects.
//!
//! # Lock order
//! Each lock may be taken while those above it are held, never the other way round.
//! ```text
//! Watch::applying                                                   following edits of the lowers
//! FileInode::copy_up, DirInode::copy_up (children before parents)   over a copy-up
//!   Overlay::tree          read: any change of names; write: moving a directory elsewhere
//!     DirInode::names      a change of names in one directory; two in the order of numbers
//!       DirInode::listing, FileInode::state, DirInode::place, ...    for memory operations only
//!         InodeTable, UpperLayer::handles, HandleTable, HeldTimes    for a map operation
//!           Overlay::part_of, PlainLayer::entries                    to find a file's name
//!       Lazy::filling        a step of completing a file, a write to one; below it only its map
//! ```
//! No lock is held over data I/O but a file's own `copy_up` and `filling`.

mod acl;
mod ahead;
mod assemble;
mod at_rest;
mod attr;
mod base;
mod below;
mod changed_dirs;
mod changes;
mod copied;
mod copy_dir;
mod copy_plan;
mod copy_up;
mod create;
mod data;
mod detach;
mod error;
pub mod failpoint;
mod handle;
mod held_back;
mod ids;
mod ino;
mod inode;
mod inode_table;
mod io;
mod kept_meta;
mod kept_open;
mod layer_dir;
mod lazy;
mod link;
mod links;
mod listing;
mod lookup;
mod lower;
mod make;
mod mend;
mod open;
mod options;
mod origin;
mod own;
mod own_origin;
mod plain;
mod plain_attr;
mod plain_content;
mod plain_known;
mod plain_marks;
mod plain_names;
mod readdir;
mod records;
mod redirect;
mod remove;
mod rename;
mod setattr;
mod settle;
mod types;
mod upper;
mod watch;
mod wh_names;
mod whiteout;
mod xattr;

pub(crate) use data::data_is_here;
pub use error::{Error, Result};
pub use ids::{IdMap, IdRange, IdView, KnownIds};
pub use layer_dir::LayerDir;
pub use options::{AccessTimes, DirLinks, Lower, LowerChanges, Options, Stack, Upper};
pub use records::Records;
pub use types::*;
pub use wh_names::WhiteoutNames;

use crate::marker::Dialect;
use crate::sys::{Dir, Errno, File, Identity};
use ahead::Ahead;
use at_rest::PartOf;
use error::Doing as _;
use handle::HandleTable;
use held_back::HeldTimes;
use ino::Devices;
use inode::{Backing, DirInode, FileInode, Object};
use inode_table::InodeTable;
use kept_open::KeptOpen;
use lower::{At, LowerLayer};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use upper::UpperLayer;
use watch::Watch;

/// How often a file is looked for that is not at its place: a rename by another thread may be
/// between the change on disk and the one in memory.
const MOVING: u32 = 48;

/// Lets the thread that is moving a file come to an end.
fn wait_for_mover(attempt: u32) {
    if attempt < 8 {
        std::thread::yield_now();
    } else {
        // that thread may have to wait for a processor: half a second in all
        std::thread::sleep(std::time::Duration::from_millis(1 << (attempt - 8).min(4)));
    }
}

/// A merged view of layers. All methods may be called from many threads at once.
#[derive(Debug)]
pub struct Overlay {
    /// The lowers, bottom first: [`LayerIndex`] is the position.
    lowers: Arc<[LowerLayer]>,
    /// How many of them, from the bottom, hold data only.
    data_only: u32,
    upper: Option<UpperLayer>,
    options: Options,
    dialect: Dialect,
    identity: Identity,
    devices: Arc<Devices>,
    inodes: InodeTable,
    /// Numbers of the upper's and the work directory's roots, where a lower might hold them.
    traps: Vec<Ino>,
    /// Which directory of the view a lower directory is part of.
    part_of: Arc<PartOf>,
    /// Whether it knows all directories that the upper moved.
    moved_known: AtomicBool,
    /// How many names of a hard-linked lower file went in earlier mounts, as far as that was asked.
    gone_before: RwLock<hashbrown::HashMap<Ino, u32>>,
    ahead: Ahead,
    handles: HandleTable,
    held_times: HeldTimes,
    contents: Mutex<lru::LruCache<Ino, Arc<File>>>,
    kept_open: KeptOpen,
    tree: RwLock<()>,
    /// What tells of changes that others make to plain lowers.
    watch: Option<Arc<Watch>>,
    unsettled: settle::Unsettled,
    /// How many files are incomplete in the upper.
    lazies: Arc<AtomicUsize>,
    copied: copied::Untold,
    /// UUIDs of the lowers' file systems, as far as they were asked for.
    uuids: Box<[OnceLock<[u8; 16]>]>,
}

impl Overlay {
    /// Returns whether there is no upper: every change fails with `EROFS`.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.upper.is_none()
    }

    /// Returns whether nobody but this view can change what it shows.
    #[must_use]
    pub fn immutable_lowers(&self) -> bool {
        self.lowers.iter().all(|l| matches!(l, LowerLayer::Indexed(_)))
    }

    /// Returns whether any file may show an extended attribute.
    #[must_use]
    pub fn has_xattrs(&self) -> bool {
        self.upper.is_some() || self.lowers.iter().any(LowerLayer::has_xattrs)
    }

    /// Returns whether reading large files is likely to take longer than opening small ones, by
    /// what the layers hold. An open costs about 20 µs, a MiB through a request 800 µs more than
    /// without; each file is taken to be opened ten times.
    #[must_use]
    pub fn is_mostly_large_files(&self) -> bool {
        let sum = |(a, b), (c, d)| (a + c, b + d);
        let (mib, files) = self.lowers.iter().map(LowerLayer::weight).fold((0, 0), sum);
        mib > 0 && mib * 4 >= files
    }

    /// Returns the namespace of the overlay's own attributes.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns how many files and directories the kernel or this view holds, as far as they are
    /// counted: those of indexed layers are not in read-only views.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.inodes.len()
    }

    /// Returns how many of these are unchanged files of plain layers that nobody uses, which take
    /// up next to no memory.
    #[must_use]
    pub fn at_rest(&self) -> usize {
        self.inodes.at_rest()
    }

    /// Returns of how many lower layers a snapshot is asked in the place of the disk.
    #[must_use]
    pub fn known_lowers(&self) -> usize {
        self.lowers.iter().filter(|l| matches!(l, LowerLayer::Plain(p) if p.is_known())).count()
    }

    /// Returns the state of the upper's file system, or of the topmost lower's.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn statfs(&self) -> Result<StatFs> {
        let dir = match (&self.upper, self.lowers.last()) {
            (Some(u), _) => &u.root,
            (None, Some(l)) => l.root()?,
            (None, None) => return Err(Error::Invalid),
        };
        let mut s = dir.statvfs().upper("ask for the file system's state")?;
        s.namelen = crate::name::NAME_MAX as u32;
        Ok(s)
    }

    /// Makes everything written so far durable (unless volatile) and leaves nothing staged.
    ///
    /// # Errors
    /// The upper's file system reports that data was lost.
    pub fn sync(&self) -> Result<()> {
        let Some(upper) = &self.upper else { return Ok(()) };
        self.copied.close();
        self.settle_for_good();
        upper.close()
    }

    fn writable(&self) -> Result<&UpperLayer> {
        self.upper.as_ref().ok_or(Error::ReadOnly)
    }

    fn lower(&self, at: At) -> Result<&LowerLayer> {
        self.lowers.get(at.layer.0 as usize).ok_or(Error::Stale)
    }

    fn pass(&self, point: &'static str) -> Result<()> {
        self.options.failpoints.as_ref().map_or(Ok(()), |f| f.pass(point))
    }

    /// Returns what a number stands for.
    fn object(&self, ino: Ino) -> Result<Object> {
        if let Some(o) = self.inodes.get(ino) {
            return Ok(o);
        }
        let (layer, node) = ino::decode(ino).ok_or(Error::Stale)?;
        let at = At { layer, node };
        match self.lower(at)?.kind(node).file_type() {
            Some(crate::sys::FileType::Dir) | None => Err(Error::Stale),
            Some(_) => Ok(Object::Pure(ino, at)),
        }
    }

    /// As [`object`](Self::object), for who only asks: most files are no objects then.
    fn seen(&self, ino: Ino) -> Result<Object> {
        self.inodes.peek(ino).map_or_else(|| self.object(ino), Ok)
    }

    fn dir(&self, ino: Ino) -> Result<Arc<DirInode>> {
        self.object(ino)?.dir()
    }

    /// Returns a living directory, for a change of its names.
    fn living_dir(&self, ino: Ino) -> Result<Arc<DirInode>> {
        let dir = self.dir(ino)?;
        if dir.is_removed() { Err(Error::NotFound) } else { Ok(dir) }
    }

    /// Returns a handle on the upper's copy of a directory.
    fn upper_dir(&self, dir: &DirInode) -> Result<Dir> {
        let upper = self.writable()?;
        if dir.ino == Ino::ROOT {
            return Ok(upper.root.clone());
        }
        if let Some(d) = upper.cached(dir.ino) {
            return Ok(d);
        }
        // a rename moves the directory first and tells its new place then: what is found meanwhile
        // under the old name is nothing, or another directory
        for attempt in 0..MOVING {
            if let Some(removed) = dir.removed.read().as_ref() {
                return removed.dir.clone().ok_or(Error::NotFound);
            }
            let place = dir.place.read().clone();
            let parent = self.dir(place.parent)?;
            match self.upper_dir(&parent)?.open_dir_here(&place.name) {
                Ok(handle) => {
                    let real = handle.stat_self().upper("look at a directory of the upper")?.ino;
                    if dir.may_be(real) {
                        upper.cache(dir.ino, handle.clone());
                        return Ok(handle);
                    }
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e).upper("open a directory of the upper"),
            }
            wait_for_mover(attempt);
        }
        Err(Error::NotFound)
    }

    /// Returns the object of a file that needs one: because it is open, or about to change.
    fn file(&self, object: Object) -> Result<Arc<FileInode>> {
        match object {
            Object::Dir(_) => Err(Error::IsDirectory),
            Object::File(f) => Ok(f),
            Object::Pure(ino, at) => {
                let make = || FileInode::lower(ino, at);
                self.inodes.file_or_insert(ino, make).ok_or(Error::Stale)
            }
        }
    }

    /// Tells each object whose attributes have changed in passing, by the copy-up of what a request
    /// named or of what is in it, once. Of the directories that received a copy this is told by
    /// [`Overlay::receivers`].
    pub fn tell_copied(&self, told: &mut dyn FnMut(Ino)) {
        self.copied.tell(told);
    }

    /// Waits until a directory has received a copy, which changes its ctime. Returns false when the
    /// view was closed.
    pub fn wait_for_receivers(&self) -> bool {
        self.copied.wait_for_receivers()
    }

    /// Returns the directories that have received a copy since this was last asked.
    pub fn receivers(&self) -> Vec<Ino> {
        self.copied.take_receivers()
    }

    /// Takes back `count` lookups of a number.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino != Ino::ROOT {
            self.inodes.forget(ino, count);
        }
    }
}
