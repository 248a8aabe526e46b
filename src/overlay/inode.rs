//! The objects that the engine keeps in memory.
//!
//! A file of an indexed lower layer that nobody changed needs no object: its number tells layer
//! and node. Nor does one of a plain layer that was looked up under one name (see `at_rest`).
//! Directories have one from their first touch; files when they are in the upper, or open.

use super::error::{Error, Result};
use super::kept_meta::KeptMeta;
use super::lazy::LazySlot;
use super::listing::Listing;
use super::lower::At;
use super::types::Ino;
use crate::marker::OverrideStat;
use crate::sys::{Dir, File, Node};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Where a name is: in which directory of the view, under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: Ino,
    pub(super) name: Arc<[u8]>,
}

/// A directory of the view.
#[derive(Debug)]
pub(super) struct DirInode {
    pub(super) ino: Ino,
    /// The lower directories that are merged here, top first. Only who edits them changes that.
    parts: RwLock<Arc<[At]>>,
    /// Whether the upper's directory was made opaque, since all that the lowers show is in it.
    own: AtomicBool,
    pub(super) place: RwLock<Place>,
    /// Whether the upper holds this directory.
    pub(super) in_upper: AtomicBool,
    /// Inode number in the upper's file system; 0 while unknown.
    pub(super) real: AtomicU64,
    /// Whether the upper's directory is marked impure already.
    pub(super) impure: AtomicBool,
    /// What new files take over from the upper's directory; `None`: not looked at, or changed since.
    pub(super) heritage: RwLock<Option<Arc<Heritage>>>,
    /// Held by whoever changes the names in this directory, over the whole change. Two are taken
    /// in the order of their numbers.
    pub(super) names: Mutex<()>,
    /// Held while this directory is copied up.
    pub(super) copy_up: Mutex<()>,
    pub(super) listing: RwLock<Option<Listing>>,
    /// What it looked like when it was listed.
    pub(super) kept_meta: Mutex<Option<Box<KeptMeta>>>,
    /// Set when the directory was removed: its handle, if the upper held it.
    pub(super) removed: RwLock<Option<Removed>>,
    pub(super) overridden: RwLock<Option<Option<OverrideStat>>>,
    pub(super) lookups: AtomicU64,
}

/// What a new file takes over from its directory.
#[derive(Debug)]
pub(super) struct Heritage {
    /// The directory's group, if its setgid bit gives that to new files.
    pub(super) gid: Option<u32>,
    /// The same as the disk does it, which knows nothing of what is recorded.
    pub(super) disk_gid: Option<u32>,
    /// The default ACL, as the attribute's value.
    pub(super) acl: Option<Vec<u8>>,
}

/// What is left of a removed directory that somebody still holds.
#[derive(Clone, Debug)]
pub(super) struct Removed {
    /// The upper's directory, without a name now; `None` if only lowers had it.
    pub(super) dir: Option<Dir>,
    /// Somebody else removed it from a lower: it may come back there.
    pub(super) elsewhere: bool,
}

impl DirInode {
    pub(super) fn new(ino: Ino, place: Place, lowers: Vec<At>, in_upper: bool) -> DirInode {
        DirInode {
            ino,
            parts: RwLock::new(lowers.into()),
            own: AtomicBool::new(false),
            place: RwLock::new(place),
            in_upper: AtomicBool::new(in_upper),
            real: AtomicU64::new(0),
            impure: AtomicBool::new(false),
            heritage: RwLock::new(None),
            names: Mutex::new(()),
            copy_up: Mutex::new(()),
            listing: RwLock::new(None),
            kept_meta: Mutex::new(None),
            removed: RwLock::new(None),
            overridden: RwLock::new(None),
            lookups: AtomicU64::new(0),
        }
    }

    /// Returns the lower directories that are merged here, top first.
    pub(super) fn lowers(&self) -> Arc<[At]> {
        if self.own.load(Ordering::Acquire) { Arc::default() } else { self.parts.read().clone() }
    }

    pub(super) fn set_lowers(&self, parts: &[At]) {
        *self.parts.write() = parts.into();
    }

    /// Notes that the upper's directory hides all lower ones now.
    pub(super) fn leave_lowers(&self) {
        self.own.store(true, Ordering::Release);
    }

    pub(super) fn in_upper(&self) -> bool {
        self.in_upper.load(Ordering::Acquire)
    }

    pub(super) fn is_at(&self, place: &Place) -> bool {
        *self.place.read() == *place
    }

    /// Returns whether this may be the upper's directory of that inode number.
    pub(super) fn may_be(&self, real: u64) -> bool {
        let known = self.real.load(Ordering::Acquire);
        known == 0 || known == real
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.read().is_some()
    }
}

/// Where a file's content and attributes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// In a lower layer.
    Lower(At),
    /// In the upper.
    Upper,
}

/// A file (anything but a directory) of the view.
#[derive(Debug)]
pub(super) struct FileInode {
    pub(super) ino: Ino,
    /// The lower file that this was when it became an object.
    pub(super) below: Option<At>,
    pub(super) state: RwLock<FileState>,
    /// Held over a whole copy-up, data included.
    pub(super) copy_up: Mutex<()>,
    pub(super) lookups: AtomicU64,
    pub(super) handles: AtomicU64,
    /// Whether this is a copy whose data may not be on disk yet.
    pub(super) unsettled: AtomicBool,
    /// Says which blocks of this copy are still in a lower.
    pub(super) lazy: LazySlot,
    /// Whether there is nothing to take away at a write: no set-id bits and no capability. Set
    /// before looking, so that a change meanwhile is not missed.
    pub(super) no_set_id: AtomicBool,
    /// Whether it has had no extended attributes since it was made here.
    pub(super) no_xattrs: AtomicBool,
    /// How many names the lower file has, as far as somebody has looked.
    pub(super) links_below: AtomicU32,
}

/// What changes about a file.
#[derive(Clone, Debug)]
pub(super) struct FileState {
    pub(super) backing: Backing,
    /// Names under which the upper holds the file.
    pub(super) upper_names: Vec<Place>,
    /// Names that only the lowers hold, as far as they were looked up.
    pub(super) lower_names: Vec<Place>,
    /// Names of a lower file that were removed from the view.
    pub(super) removed_names: u32,
    /// How many names more than the copy in the upper has are there: those that it did not get.
    /// Less than none where the kernel's index holds a name of it.
    pub(super) uncopied_names: i64,
    /// Whether the upper says so too.
    pub(super) counted: bool,
    /// Inode number in the upper's file system.
    pub(super) real: u64,
    /// The upper's file, when its last name that we know of is gone.
    pub(super) orphan: Option<Arc<Node>>,
    /// The lower's file, when somebody has removed or replaced it there while it was open here.
    pub(super) kept: Option<Arc<File>>,
    /// What the upper's override attribute says; `None`: not read yet.
    pub(super) overridden: Option<Option<OverrideStat>>,
    /// Whether the upper holds metadata only, the data being in a lower; `None`: not looked at.
    pub(super) metacopy: Option<bool>,
}

impl FileState {
    /// Returns the lower node, while the file is not in the upper.
    pub(super) fn lower(&self) -> Option<At> {
        match self.backing {
            Backing::Lower(at) => Some(at),
            Backing::Upper => None,
        }
    }

    /// Returns whether the upper does not hold the file under all the names that we know of.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lower().is_some() || !self.lower_names.is_empty()
    }

    /// Takes over what the upper says of names that are not the copy's.
    pub(super) fn count_names(&mut self, beside: Option<i64>) {
        if let Some(n) = beside {
            (self.uncopied_names, self.counted) = (n, true);
        }
    }

    /// Notes that the upper got a name, or the lowers lost one, that was not the copy's.
    pub(super) fn one_name_less(&mut self) {
        let least = if self.counted { i64::MIN } else { 0 };
        self.uncopied_names = (self.uncopied_names - 1).max(least);
    }

    /// Returns whether all but the names is as a lookup in the lowers makes it.
    pub(super) fn is_as_found(&self) -> bool {
        self.upper_names.is_empty()
            && self.removed_names == 0
            && self.uncopied_names == 0
            && !self.counted
            && self.orphan.is_none()
            && self.kept.is_none()
            && self.overridden.is_none()
            && self.metacopy.is_none()
    }

    pub(super) fn add_lower_name(&mut self, place: Place) {
        if !self.lower_names.contains(&place) && !self.upper_names.contains(&place) {
            // most files have one name
            if self.lower_names.is_empty() {
                self.lower_names.reserve_exact(1);
            }
            self.lower_names.push(place);
        }
    }

    pub(super) fn add_upper_name(&mut self, place: Place) {
        self.lower_names.retain(|p| *p != place);
        // a name that was not known when the last known one went, or a new link
        self.orphan = None;
        if !self.upper_names.contains(&place) {
            if self.upper_names.is_empty() {
                self.upper_names.reserve_exact(1);
            }
            self.upper_names.push(place);
        }
    }
}

impl FileInode {
    pub(super) fn lower(ino: Ino, at: At) -> FileInode {
        FileInode { below: Some(at), ..FileInode::new(ino, Backing::Lower(at), 0) }
    }

    pub(super) fn upper(ino: Ino, real: u64) -> FileInode {
        FileInode::new(ino, Backing::Upper, real)
    }

    fn new(ino: Ino, backing: Backing, real: u64) -> FileInode {
        FileInode {
            ino,
            below: None,
            state: RwLock::new(FileState {
                backing,
                upper_names: Vec::new(),
                lower_names: Vec::new(),
                removed_names: 0,
                uncopied_names: 0,
                counted: false,
                real,
                orphan: None,
                kept: None,
                overridden: None,
                metacopy: None,
            }),
            copy_up: Mutex::new(()),
            lookups: AtomicU64::new(0),
            handles: AtomicU64::new(0),
            unsettled: AtomicBool::new(false),
            lazy: LazySlot::default(),
            no_set_id: AtomicBool::new(false),
            no_xattrs: AtomicBool::new(false),
            links_below: AtomicU32::new(0),
        }
    }

    pub(super) fn in_upper(&self) -> bool {
        self.state.read().backing == Backing::Upper
    }

    /// Returns whether nobody has the file open, and no copy of it is under way or incomplete.
    pub(super) fn is_idle(&self) -> bool {
        self.handles.load(Ordering::Acquire) == 0
            && !self.unsettled.load(Ordering::Acquire)
            && self.lazy.get().is_none()
    }

    /// Returns whether the upper holds the data too, as far as is known.
    pub(super) fn data_in_upper(&self) -> bool {
        let state = self.state.read();
        state.backing == Backing::Upper && state.metacopy != Some(true)
    }

    /// Returns whether this is a lower file of which some names were removed and others are left:
    /// only the object knows how many. Never waits.
    pub(super) fn counts_names(&self) -> bool {
        let links = self.links_below.load(Ordering::Relaxed);
        links > 1
            && self.state.try_read().is_none_or(|s| {
                s.lower().is_some() && s.removed_names > 0 && s.removed_names < links
            })
    }

    /// Returns whether this is an unchanged file of an indexed layer. Never waits.
    pub(super) fn is_pure(&self) -> bool {
        super::ino::decode(self.ino).is_some()
            && self.state.try_read().is_some_and(|s| s.lower().is_some() && s.removed_names == 0)
    }
}

/// What a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// A directory.
    Dir(Arc<DirInode>),
    /// A file with a state of its own.
    File(Arc<FileInode>),
    /// An unchanged file of a lower layer.
    Pure(Ino, At),
}

impl Object {
    pub(super) fn ino(&self) -> Ino {
        match self {
            Object::Dir(d) => d.ino,
            Object::File(f) => f.ino,
            Object::Pure(ino, _) => *ino,
        }
    }

    pub(super) fn dir(self) -> Result<Arc<DirInode>> {
        match self {
            Object::Dir(d) => Ok(d),
            _ => Err(Error::NotDirectory),
        }
    }
}
