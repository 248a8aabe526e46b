//! A plain directory as a lower layer: read on first touch, then remembered.
//!
//! This is where its files are; the names that lead to them are in `plain_names`, what they are like
//! in `plain_attr`, their content in `plain_content`.
//!
//! Where a snapshot of the layer may be believed, that is asked in the place of the disk
//! (`plain_known`).

use super::error::{Doing as _, Error, Result};
use super::handle::kept_open;
use super::ino::Devices;
use super::links::LinkGroups;
use super::plain_known::Known;
use super::plain_names::Entry;
use super::records::Recorded;
use super::types::Ino;
use super::watch::Watch;
use super::wh_names::WhiteoutNames;
use crate::id::LayerIndex;
use crate::index::{Kind, NodeId};
use crate::marker::Dialect;
use crate::resolve::LayerRef;
use crate::snapshot::Slot;
use crate::sys::{self, Dir, DirEntry, Errno, FileHandle, Node};
use parking_lot::{Mutex, RwLock};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How many directory handles all plain layers together keep open, about.
const HANDLES: usize = 2048;
/// How many one layer keeps at the most.
const LAYER_HANDLES: usize = 256;
/// How many one layer keeps at the least, in a stack of many.
const FEW_HANDLES: usize = 4;

/// Returns whether something is mounted on the directory that was to be opened. What it covers
/// cannot be seen then, and stepping into it might lead into this very view.
pub(super) fn is_covered(e: &Error) -> bool {
    e.errno() == Errno::XDEV
}

/// A directory in overlay form.
#[derive(Debug)]
pub(super) struct PlainLayer {
    pub(super) layer: LayerIndex,
    root: Dir,
    pub(super) dialect: Dialect,
    pub(super) devices: Arc<Devices>,
    pub(super) dev: u64,
    pub(super) recorded: Recorded,
    pub(super) names: WhiteoutNames,
    pub(super) foreign_marks: bool,
    /// Something may be mounted on directories of the layer.
    mounts: bool,
    pub(super) entries: RwLock<Vec<Entry>>,
    pub(super) handles: Mutex<lru::LruCache<NodeId, Dir>>,
    /// Found when a hard-linked file is copied up for the first time.
    pub(super) groups: Mutex<Option<Arc<LinkGroups>>>,
    pub(super) watch: Option<Arc<Watch>>,
    /// The file system lists other inode numbers than it shows.
    pub(super) odd_numbers: AtomicBool,
    /// What the layer looks like, as soon as that is known.
    pub(super) known: Option<Known>,
    /// Held by who reads names by means of a handle's own position.
    listing: Mutex<()>,
}

impl PlainLayer {
    /// Reads nothing but the root.
    pub(super) fn new(
        layer: LayerIndex,
        root: Dir,
        dialect: Dialect,
        devices: Arc<Devices>,
        recorded: Recorded,
    ) -> Result<PlainLayer> {
        let at = LayerRef::Lower(layer);
        let stat = root.stat_self().layer(at, "look at the layer's root")?;
        let number = devices.ino(stat.dev, stat.ino);
        let entry = Entry::new(NodeId::ROOT, Box::default(), Kind::Dir, number);
        let handles = NonZeroUsize::new(LAYER_HANDLES)
            .map_or_else(lru::LruCache::unbounded, lru::LruCache::new);
        Ok(PlainLayer {
            layer,
            root,
            dialect,
            devices,
            dev: stat.dev,
            recorded,
            names: WhiteoutNames::Ordinary,
            foreign_marks: true,
            mounts: true,
            entries: RwLock::new(vec![entry]),
            handles: Mutex::new(handles),
            groups: Mutex::new(None),
            watch: None,
            odd_numbers: AtomicBool::new(false),
            known: None,
            listing: Mutex::new(()),
        })
    }

    /// Keeps as few handles open as one of so many plain layers should.
    pub(super) fn one_of(self, layers: usize) -> PlainLayer {
        let layers = layers.max(1);
        let share = (HANDLES / layers).clamp(FEW_HANDLES, LAYER_HANDLES);
        self.handles.lock().resize(kept_open(share, 4 * layers as u64));
        self
    }

    /// Takes names, and marks of fuse-overlayfs, for what they are said to be.
    pub(super) fn heeding(self, names: WhiteoutNames, foreign_marks: bool) -> PlainLayer {
        PlainLayer { names, foreign_marks, ..self }
    }

    /// Notices what others change.
    pub(super) fn watched_by(self, watch: Option<Arc<Watch>>) -> PlainLayer {
        PlainLayer { watch, ..self }
    }

    /// Asks a snapshot in the place of the disk, as soon as there is one.
    pub(super) fn known_by(self, slot: Option<Slot>) -> PlainLayer {
        PlainLayer { known: slot.map(Known::new), ..self }
    }

    /// Says whether the layer's handles see mounts.
    pub(super) fn among_mounts(self, mounts: bool) -> PlainLayer {
        PlainLayer { mounts, ..self }
    }

    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    pub(super) fn with<R>(&self, node: NodeId, f: impl FnOnce(&Entry) -> R) -> Result<R> {
        self.entries.read().get(node.0 as usize).map(f).ok_or(Error::Stale)
    }

    pub(super) fn at(&self) -> LayerRef {
        LayerRef::Lower(self.layer)
    }

    /// Returns a handle on a directory of the layer.
    pub(super) fn dir(&self, node: NodeId) -> Result<Dir> {
        if node == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        if let Some(d) = self.handles.lock().get(&node) {
            return Ok(d.clone());
        }
        let (parent, name) = self.living(node)?;
        let dir = self.dir(parent)?.open_dir_here(&name).layer(self.at(), "open a directory")?;
        self.handles.lock().put(node, dir.clone());
        Ok(dir)
    }

    pub(super) fn place(&self, node: NodeId) -> Result<(Dir, Box<[u8]>)> {
        let (parent, name) = self.living(node)?;
        Ok((self.dir(parent)?, name))
    }

    pub(super) fn handle(&self, node: NodeId) -> Result<Node> {
        if node == NodeId::ROOT {
            return self.root.as_node().layer(self.at(), "open the layer's root");
        }
        let (dir, name) = self.place(node)?;
        let handle =
            if self.is_watched_for_mounts(node) { dir.node_here(&name) } else { dir.node(&name) };
        handle.layer(self.at(), "open a file")
    }

    /// Returns the names of a directory of the disk.
    pub(super) fn list_disk(&self, dir: &Dir) -> sys::Result<Vec<DirEntry>> {
        match self.listing.try_lock() {
            Some(_alone) => dir.list_by_this_handle(),
            None => dir.list(),
        }
    }

    /// Returns whether the node is a directory on which something may be mounted.
    pub(super) fn is_watched_for_mounts(&self, node: NodeId) -> bool {
        self.mounts && node != NodeId::ROOT && self.kind_on_disk(node) == Kind::Dir
    }

    /// Returns the nodes of all names of a file that has more than one.
    pub(super) fn links(&self, node: NodeId) -> Result<Vec<NodeId>> {
        let mut known = self.groups.lock();
        let groups = match &*known {
            Some(g) => g.clone(),
            None => known.insert(Arc::new(LinkGroups::walk(self)?)).clone(),
        };
        drop(known);
        Ok(groups.of(self.ino(node), node))
    }

    /// Returns which of some nodes, sorted by name, has this name. The names are looked at where they
    /// are: a search looks at a dozen.
    pub(super) fn search<T>(
        &self,
        nodes: &[T],
        node: impl Fn(&T) -> NodeId,
        name: &[u8],
    ) -> Option<usize> {
        let all = self.entries.read();
        let name_of = |n: &T| all.get(node(n).0 as usize).map_or(&b""[..], |e| &e.name);
        nodes.binary_search_by(|n| name_of(n).cmp(name)).ok()
    }

    /// Calls `f` with a node's name, while nobody can add nodes: it must not ask for any.
    pub(super) fn with_name<R>(&self, node: NodeId, f: impl FnOnce(&[u8]) -> R) -> R {
        let all = self.entries.read();
        f(all.get(node.0 as usize).map_or(b"", |e| &e.name))
    }

    pub(super) fn parent(&self, node: NodeId) -> NodeId {
        self.with(node, |e| e.parent).unwrap_or(NodeId::ROOT)
    }

    /// Returns what the node is. Of a regular file a record may say that it stands in for
    /// something else: that is read now if it was not yet.
    pub(super) fn kind(&self, node: NodeId) -> Kind {
        match self.with(node, |e| (e.kind, e.state.may_stand_in())) {
            Ok((kind, false)) => kind,
            Ok((kind, true)) => self.record_of_file(node).map_or(kind, |r| r.kind_of(kind)),
            Err(_) => Kind::Whiteout,
        }
    }

    /// Returns what the node is, taking a stand-in for the regular file that it is on disk.
    pub(super) fn kind_on_disk(&self, node: NodeId) -> Kind {
        self.with(node, |e| e.kind).unwrap_or(Kind::Whiteout)
    }

    pub(super) fn ino(&self, node: NodeId) -> Ino {
        self.with(node, |e| e.ino).unwrap_or(Ino(0))
    }

    /// Returns what names the file on its file system.
    pub(super) fn file_handle(&self, node: NodeId) -> Result<FileHandle> {
        if node == NodeId::ROOT {
            return self.handle(node)?.handle().layer(self.at(), "ask for a file's handle");
        }
        let (dir, name) = self.place(node)?;
        dir.handle_of(&name).layer(self.at(), "ask for a file's handle")
    }
}
