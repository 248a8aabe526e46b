//! What a view is made of and how it behaves.

use super::failpoint::Failpoints;
use super::ids::{IdView, KnownIds};
use super::layer_dir::LayerDir;
use super::records::Records;
use super::wh_names::WhiteoutNames;
use crate::index::Index;
use crate::marker::Dialect;
use crate::snapshot::Slot;
use crate::sys::Dir;
use std::sync::Arc;

/// The layers of a view.
#[derive(Debug)]
pub struct Stack {
    /// The lower layers, top first.
    pub lowers: Vec<Lower>,
    /// Layers below them, top first, whose names are not seen: they hold the data of metacopy files
    /// that lead there by absolute redirects (`lowerdir=…::DATA`).
    pub data_only: Vec<Lower>,
    /// The writable layer; without one the view is read-only.
    pub upper: Option<Upper>,
}

/// A lower layer. It is never written.
#[derive(Debug)]
pub enum Lower {
    /// A directory in overlay form that somebody else made, and may change.
    Plain(Dir),
    /// The same, of which a snapshot may turn up that can be believed. Used with
    /// [`LowerChanges::Ignore`] only.
    Known {
        /// The directory.
        dir: Dir,
        /// Where the snapshot will be.
        snapshot: Slot,
    },
    /// An immutable layer of a store: its metadata come from the index, its content from `diff`.
    Indexed {
        /// The layer's index.
        index: Arc<Index>,
        /// The directory of its files.
        diff: LayerDir,
    },
}

/// The writable layer.
#[derive(Debug)]
pub struct Upper {
    /// Where changes go.
    pub dir: Dir,
    /// An otherwise unused directory on the same file system, for staging.
    pub work: Dir,
}

/// How many links directories show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirLinks {
    /// Those of the file system; of merged directories 1, as in the kernel's overlayfs.
    #[default]
    Kernel,
    /// Those of the file system; of merged directories two and one for each directory in them.
    Counted,
    /// 1.
    One,
}

/// Which times of access change by reading what the upper holds. Those of lowers never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTimes {
    /// As the mount of the upper has it (`relatime` and the like).
    #[default]
    Upper,
    /// The same, but not those of directories (`nodiratime`).
    NotOfDirectories,
    /// None (`noatime`).
    Kept,
}

/// What becomes of changes that others make to plain lowers while they are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LowerChanges {
    /// Directories that were read are watched. Somebody must ask for what changed
    /// ([`Overlay::wait_for_changes`](super::Overlay::wait_for_changes)).
    Watch,
    /// What was read of directories stays; the kernel is to trust it for a short time.
    #[default]
    Timeout,
    /// There are none.
    Ignore,
}

/// How a view behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the overlay's own attributes; `None`: `trusted` where this process may
    /// set those, else `user`.
    pub dialect: Option<Dialect>,
    /// The private view of an ordinary user: recorded owners, modes and devices are shown, and
    /// what he may not set on disk is recorded.
    pub owner_view: bool,
    /// Where such a view records it.
    pub records: Records,
    /// The ids that the mounter's user namespace knows; `None`: all.
    pub known_ids: Option<KnownIds>,
    /// Owners that are shown otherwise than the layers hold them.
    pub ids: IdView,
    /// How many links directories show.
    pub dir_links: DirLinks,
    /// Renaming a directory that has lower parts writes a redirect; else it fails with `EXDEV`.
    pub redirect_dir: bool,
    /// Where `redirect_dir` is off: renaming such a directory copies it first, with all that is in
    /// it, instead of failing.
    pub rename_by_copy: bool,
    /// Redirects in the layers are followed.
    pub follow_redirects: bool,
    /// A change of a lower file's attributes alone copies up no data.
    pub metacopy: bool,
    /// What names that begin with `.wh.` are.
    pub whiteout_names: WhiteoutNames,
    /// fuse-overlayfs' mark of opaque directories counts in plain lowers. Not where these are uppers of
    /// our own mounts, in which anybody could set it.
    pub foreign_marks: bool,
    /// The plain layers' handles, and the upper's, see no mounts (see [`crate::sys::open_apart`]);
    /// else care is taken not to step into one, for it may be this very view. Those of indexed
    /// layers need no care: what is in them the index says.
    pub layers_apart: bool,
    /// A copied file is on disk before it gets its name, whatever the file system and whoever
    /// settles copies later.
    pub strict_sync: bool,
    /// From how many bytes on a lower file is copied block by block, after the write that asked for
    /// it (`lazy_copy_up`); `None`: all files are copied first. Where copies do not wait for
    /// [`Overlay::settle_all`](super::Overlay::settle_all), this changes nothing.
    pub lazy_from: Option<u64>,
    /// Nothing is synced: a crash may lose the upper.
    pub volatile: bool,
    /// Which times of access change.
    pub access_times: AccessTimes,
    /// What becomes of changes that others make to plain lowers.
    pub lower_changes: LowerChanges,
    /// How many directories may be watched; `None`: a share of what the system allows.
    pub max_watches: Option<usize>,
    /// Steps that are to fail, for tests.
    pub failpoints: Option<Arc<Failpoints>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            dialect: None,
            owner_view: false,
            records: Records::Own,
            known_ids: None,
            ids: IdView::default(),
            dir_links: DirLinks::Kernel,
            redirect_dir: true,
            rename_by_copy: false,
            follow_redirects: true,
            metacopy: false,
            whiteout_names: WhiteoutNames::Ordinary,
            foreign_marks: true,
            layers_apart: false,
            strict_sync: false,
            lazy_from: None,
            volatile: false,
            access_times: AccessTimes::default(),
            lower_changes: LowerChanges::default(),
            max_watches: None,
            failpoints: None,
        }
    }
}
