//! A plain directory as a lower layer: read on first touch, then remembered.
//!
//! This is what its files are; the names that lead to them are in `plain_names`, their content in
//! `plain_content`. Attributes and extended attributes are read when asked for.
//!
//! Where a snapshot of the layer may be believed, that is asked in the place of the disk
//! (`plain_known`).

use super::error::{Doing as _, Error, Result};
use super::handle::kept_open;
use super::ino::Devices;
use super::links::LinkGroups;
use super::lower::Meta;
use super::plain_names::Entry;
use super::records::Recorded;
use super::types::Ino;
use super::watch::Watch;
use super::wh_names::WhiteoutNames;
use super::xattr::{disk_name, shown_name};
use crate::id::LayerIndex;
use crate::index::{Kind, NodeId};
use crate::marker::{Dialect, OverrideStat, Redirect};
use crate::name::printable;
use crate::resolve::LayerRef;
use crate::snapshot::{Seen, Slot};
use crate::sys::{self, Dir, DirEntry, Errno, FileHandle, FileType, Node, OpenFlags, Stat};
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

/// What is recorded about a regular file.
pub(super) struct FileRecord(pub(super) Option<OverrideStat>);

impl FileRecord {
    /// Returns what the file stands in for. A directory is none that has files.
    pub(super) fn kind_of(&self, on_disk: Kind) -> Kind {
        let recorded = self.0.as_ref().and_then(|o| o.kind).filter(|k| *k != FileType::Dir);
        recorded.map_or(on_disk, Kind::of)
    }
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
    pub(super) known: Option<Slot>,
    /// Held by who reads names by means of a handle's own position.
    listing: Mutex<()>,
}

/// A directory at which one looks several times.
enum Held<'a> {
    Open(Dir),
    Found(Node),
    Known(Seen<'a>),
}

impl Held<'_> {
    fn stat(&self) -> sys::Result<Stat> {
        match self {
            Held::Open(dir) => dir.stat_self(),
            Held::Found(node) => node.stat(),
            Held::Known(seen) => Ok(seen.stat()),
        }
    }

    fn get_xattr(&self, key: &[u8]) -> sys::Result<Option<Vec<u8>>> {
        match self {
            Held::Open(dir) => dir.get_xattr_self(key),
            Held::Found(node) => node.get_xattr(key),
            Held::Known(seen) => Ok(seen.xattr(key)),
        }
    }
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

    /// Takes names for what they are said to be.
    pub(super) fn heeding(self, names: WhiteoutNames) -> PlainLayer {
        PlainLayer { names, ..self }
    }

    /// Notices what others change.
    pub(super) fn watched_by(self, watch: Option<Arc<Watch>>) -> PlainLayer {
        PlainLayer { watch, ..self }
    }

    /// Asks a snapshot in the place of the disk, as soon as there is one.
    pub(super) fn known_by(self, known: Option<Slot>) -> PlainLayer {
        PlainLayer { known, ..self }
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
    fn is_watched_for_mounts(&self, node: NodeId) -> bool {
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

    pub(super) fn name(&self, node: NodeId) -> Box<[u8]> {
        self.with(node, |e| e.name.clone()).unwrap_or_default()
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

    /// Reads what is recorded about a file, and remembers what it stands in for.
    fn record_of_file(&self, node: NodeId) -> Result<FileRecord> {
        let parent = self.parent(node);
        let version = self.with(parent, |e| e.version)?;
        let record = match self.known(node) {
            Some(known) => self.recorded.read(|key| Ok(known.xattr(key))),
            None => {
                let (dir, name) = self.place(node)?;
                self.recorded.read(|key| dir.get_xattr(&name, key))
            }
        };
        let record = FileRecord(record.layer(self.at(), "read the recorded attributes")?);
        if self.with(node, |e| e.state.may_stand_in())? {
            let mut all = self.entries.write();
            // else somebody may have changed it since
            let same = all.get(parent.0 as usize).is_some_and(|e| e.version == version);
            if let Some(e) = all.get_mut(node.0 as usize).filter(|_| same) {
                e.kind = record.kind_of(e.kind);
                e.state = e.state.standing_in(false);
            }
        }
        Ok(record)
    }

    pub(super) fn ino(&self, node: NodeId) -> Ino {
        self.with(node, |e| e.ino).unwrap_or(Ino(0))
    }

    pub(super) fn redirect(&self, node: NodeId) -> Result<Option<Redirect>> {
        if self.kind_on_disk(node) == Kind::Dir && !self.marks(node)?.redirect {
            return Ok(None);
        }
        let Some(value) = self.get_xattr_of(node, self.dialect.redirect(), "read a redirect")?
        else {
            return Ok(None);
        };
        match Redirect::parse(&value) {
            Ok(r) => Ok(Some(r)),
            Err(e) => {
                log::warn!("{:?}: redirect {:?} is not valid: {e}", self.at(), printable(&value));
                Err(Error::Invalid)
            }
        }
    }

    pub(super) fn meta(&self, node: NodeId) -> Result<Meta> {
        let (stat, seen) = if let Some(known) = self.known(node) {
            (Ok(known.stat()), Some(Held::Known(known)))
        } else if node == NodeId::ROOT || self.is_watched_for_mounts(node) {
            match self.hold(node) {
                Err(e) if is_covered(&e) => return self.covered_meta(),
                held => {
                    let held = held?;
                    (held.stat(), Some(held))
                }
            }
        } else {
            let (dir, name) = self.place(node)?;
            (dir.stat(&name), None)
        };
        let mut meta = Meta::from(&stat.layer(self.at(), "look at a file")?);
        if self.recorded.any() && matches!(meta.kind, FileType::File | FileType::Dir) {
            let record = match (meta.kind, seen) {
                (FileType::File, _) => self.record_of_file(node)?.0,
                (_, Some(held)) => self.record_of_dir(&held)?,
                (_, None) => self.record_of_dir(&self.hold(node)?)?,
            };
            if let Some(o) = record {
                meta.apply(&o);
            }
        }
        Ok(meta)
    }

    fn record_of_dir(&self, held: &Held<'_>) -> Result<Option<OverrideStat>> {
        let record = self.recorded.read(|key| held.get_xattr(key));
        record.layer(self.at(), "read the recorded attributes")
    }

    /// Returns a directory as it is open already, or finds it.
    fn hold(&self, node: NodeId) -> Result<Held<'_>> {
        let open = match node {
            NodeId::ROOT => Some(self.root.clone()),
            _ => self.handles.lock().get(&node).cloned(),
        };
        match open {
            Some(dir) => Ok(Held::Open(dir)),
            None => self.handle(node).map(Held::Found),
        }
    }

    /// What is shown of a directory that a mount covers.
    fn covered_meta(&self) -> Result<Meta> {
        let meta = self.meta(NodeId::ROOT)?;
        Ok(Meta { mode: 0o555, nlink: 2, size: 0, blocks: 0, ..meta })
    }

    pub(super) fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        if let Some(known) = self.known(node)
            && known.stat().file_type() == FileType::Symlink
        {
            return Ok(known.target().to_vec());
        }
        let (dir, name) = self.place(node)?;
        match dir.readlink(&name) {
            // a regular file that stands in for a symlink
            Err(Errno::INVAL) if self.recorded.any() => {
                let flags = OpenFlags { nonblock: true, noatime: true, ..OpenFlags::READ };
                let file = dir.open_file(&name, flags, 0).layer(self.at(), "open a stand-in")?;
                let mut target = vec![0; 4096];
                let n = file.read_at(&mut target, 0).layer(self.at(), "read a stand-in")?;
                target.truncate(n);
                Ok(target)
            }
            r => r.layer(self.at(), "read a symlink"),
        }
    }

    pub(super) fn xattrs(&self, node: NodeId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if let Some(known) = self.known(node) {
            let shown = |key: &[u8]| shown_name(self.dialect, self.recorded.private(), key);
            return Ok(known.xattrs().filter_map(|(k, v)| Some((shown(k)?, v.to_vec()))).collect());
        }
        let handle = match self.handle(node) {
            Err(e) if is_covered(&e) => return Ok(Vec::new()),
            handle => handle?,
        };
        let mut out = Vec::new();
        for key in handle.list_xattr().layer(self.at(), "list extended attributes")? {
            if let Some(name) = shown_name(self.dialect, self.recorded.private(), &key)
                && let Some(value) =
                    handle.get_xattr(&key).layer(self.at(), "read an extended attribute")?
            {
                out.push((name, value));
            }
        }
        Ok(out)
    }

    pub(super) fn xattr_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        let all = if let Some(known) = self.known(node) {
            Ok(known.xattrs().map(|(key, _)| key.to_vec()).collect())
        } else if self.kind(node) == Kind::File {
            let (dir, name) = self.place(node)?;
            dir.list_xattr(&name)
        } else {
            match self.handle(node) {
                Err(e) if is_covered(&e) => return Ok(Vec::new()),
                handle => handle?.list_xattr(),
            }
        }
        .layer(self.at(), "list extended attributes")?;
        let visible = |key: &Vec<u8>| shown_name(self.dialect, self.recorded.private(), key);
        Ok(all.iter().filter_map(visible).collect())
    }

    pub(super) fn xattr(&self, node: NodeId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let disk = disk_name(self.dialect, self.recorded.private(), key);
        if self.kind(node) == Kind::File {
            return self.file_xattr(node, &disk, "read an extended attribute");
        }
        self.get_xattr_of(node, &disk, "read an extended attribute")
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
