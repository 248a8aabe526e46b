//! A plain directory as a lower layer: read on first touch, then remembered.
//!
//! One getdents per directory gives its names, types and inode numbers; negative answers come
//! from memory. Attributes, attributes' extensions and content are read when asked for.

use super::data::data_is_here;
use super::error::{Doing as _, Error, Result};
use super::ino::Devices;
use super::links::LinkGroups;
use super::lower::Meta;
use super::records::Recorded;
use super::types::Ino;
use super::wh_names::{WhiteoutNames, hidden, marks_opaque};
use super::xattr::{disk_name, shown_name};
use crate::id::LayerIndex;
use crate::index::{Kind, NodeId};
use crate::marker::{Dialect, Redirect, WHITEOUT_PREFIX};
use crate::name::printable;
use crate::resolve::LayerRef;
use crate::sys::{Dir, Errno, File, FileHandle, FileType, Node, OpenFlags, Stat};
use parking_lot::{Mutex, RwLock};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How many directory handles all plain layers together keep open, about.
const HANDLES: usize = 2048;
/// How many one layer keeps at the most.
const LAYER_HANDLES: usize = 256;
/// How many one layer keeps at the least, in a stack of many.
const FEW_HANDLES: usize = 4;
/// fuse-overlayfs' own opaque mark.
const FUSE_OVERLAYFS_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";

/// Returns whether something is mounted on the directory that was to be opened. What it covers
/// cannot be seen then, and stepping into it might lead into this very view.
fn is_covered(e: &Error) -> bool {
    e.errno() == Errno::XDEV
}

#[derive(Debug)]
struct Entry {
    parent: NodeId,
    name: Box<[u8]>,
    kind: Kind,
    ino: Ino,
    /// The names of a directory that was read, sorted by bytes.
    children: Option<Arc<[NodeId]>>,
}

/// What a directory's own attributes say, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opaque {
    No,
    Yes,
    /// Entries may be whiteouts in extended-attribute form.
    HoldsXattrWhiteouts,
}

/// A directory in overlay form.
#[derive(Debug)]
pub(super) struct PlainLayer {
    layer: LayerIndex,
    root: Dir,
    dialect: Dialect,
    devices: Arc<Devices>,
    dev: u64,
    recorded: Recorded,
    names: WhiteoutNames,
    /// Something may be mounted on directories of the layer.
    mounts: bool,
    entries: RwLock<Vec<Entry>>,
    handles: Mutex<lru::LruCache<NodeId, Dir>>,
    /// Found when a hard-linked file is copied up for the first time.
    groups: Mutex<Option<Arc<LinkGroups>>>,
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
        let entry = Entry {
            parent: NodeId::ROOT,
            name: Box::default(),
            kind: Kind::Dir,
            ino: devices.ino(stat.dev, stat.ino),
            children: None,
        };
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
        })
    }

    /// Keeps as few handles open as one of so many plain layers should.
    pub(super) fn one_of(self, layers: usize) -> PlainLayer {
        let share = (HANDLES / layers.max(1)).clamp(FEW_HANDLES, LAYER_HANDLES);
        if let Some(share) = NonZeroUsize::new(share) {
            self.handles.lock().resize(share);
        }
        self
    }

    /// Takes names for what they are said to be.
    pub(super) fn heeding(self, names: WhiteoutNames) -> PlainLayer {
        PlainLayer { names, ..self }
    }

    /// Says whether the layer's handles see mounts.
    pub(super) fn among_mounts(self, mounts: bool) -> PlainLayer {
        PlainLayer { mounts, ..self }
    }

    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    fn with<R>(&self, node: NodeId, f: impl FnOnce(&Entry) -> R) -> Result<R> {
        self.entries.read().get(node.0 as usize).map(f).ok_or(Error::Stale)
    }

    fn at(&self) -> LayerRef {
        LayerRef::Lower(self.layer)
    }

    /// Returns a handle on a directory of the layer.
    fn dir(&self, node: NodeId) -> Result<Dir> {
        if node == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        if let Some(d) = self.handles.lock().get(&node) {
            return Ok(d.clone());
        }
        let (parent, name) = self.with(node, |e| (e.parent, e.name.clone()))?;
        let dir = self.dir(parent)?.open_dir_here(&name).layer(self.at(), "open a directory")?;
        self.handles.lock().put(node, dir.clone());
        Ok(dir)
    }

    fn place(&self, node: NodeId) -> Result<(Dir, Box<[u8]>)> {
        let (parent, name) = self.with(node, |e| (e.parent, e.name.clone()))?;
        Ok((self.dir(parent)?, name))
    }

    fn handle(&self, node: NodeId) -> Result<Node> {
        if node == NodeId::ROOT {
            return self.root.as_node().layer(self.at(), "open the layer's root");
        }
        let (dir, name) = self.place(node)?;
        let handle =
            if self.is_watched_for_mounts(node) { dir.node_here(&name) } else { dir.node(&name) };
        handle.layer(self.at(), "open a file")
    }

    /// Returns whether the node is a directory on which something may be mounted.
    fn is_watched_for_mounts(&self, node: NodeId) -> bool {
        self.mounts && node != NodeId::ROOT && self.kind(node) == Kind::Dir
    }

    /// Returns the names of a directory, reading them if that was not done yet.
    fn children(&self, dir: NodeId) -> Result<Arc<[NodeId]>> {
        if let Some(c) = self.with(dir, |e| e.children.clone())? {
            return Ok(c);
        }
        let handle = match self.dir(dir) {
            Err(e) if is_covered(&e) => return self.without_children(dir),
            handle => handle?,
        };
        let mut found = handle.list().layer(self.at(), "list a directory")?;
        let mut marks = Vec::new();
        if self.names.heeded() {
            marks.extend(found.iter().filter_map(|e| {
                let name = Box::<[u8]>::from(hidden(&e.name)?);
                Some((name, e.ino))
            }));
            found.retain(|e| !e.name.starts_with(WHITEOUT_PREFIX));
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let holds_xattr_whiteouts = self.opaque_mark(dir)? == Opaque::HoldsXattrWhiteouts;
        let mut fresh = Vec::with_capacity(found.len());
        for e in found {
            let (kind, ino) = self.classify(&handle, &e, holds_xattr_whiteouts)?;
            fresh.push(Entry { parent: dir, name: e.name, kind, ino, children: None });
        }
        // beside an entry of that name, the mark speaks of the layers below, which it hides too
        marks.retain(|(name, _)| fresh.binary_search_by(|e| e.name.cmp(name)).is_err());
        if !marks.is_empty() {
            fresh.extend(marks.into_iter().map(|(name, real)| {
                let ino = self.devices.ino(self.dev, real);
                Entry { parent: dir, name, kind: Kind::Whiteout, ino, children: None }
            }));
            fresh.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        let mut all = self.entries.write();
        // two threads may have read it at once: the first one's numbers stand
        if let Some(c) = all.get(dir.0 as usize).and_then(|e| e.children.clone()) {
            return Ok(c);
        }
        let first = u32::try_from(all.len()).map_err(|_| Error::Stale)?;
        let ids: Arc<[NodeId]> =
            (0..fresh.len()).map(|i| NodeId(first.saturating_add(i as u32))).collect();
        all.append(&mut fresh);
        if let Some(e) = all.get_mut(dir.0 as usize) {
            e.children = Some(ids.clone());
        }
        Ok(ids)
    }

    /// Takes a directory for empty.
    fn without_children(&self, dir: NodeId) -> Result<Arc<[NodeId]>> {
        let none: Arc<[NodeId]> = Arc::default();
        if let Some(e) = self.entries.write().get_mut(dir.0 as usize) {
            e.children = Some(none.clone());
        }
        Ok(none)
    }

    fn classify(
        &self,
        dir: &Dir,
        e: &crate::sys::DirEntry,
        xattr_whiteouts: bool,
    ) -> Result<(Kind, Ino)> {
        let mut dev = self.dev;
        let mut real = e.ino;
        let kind = match e.file_type {
            Some(t) if t != FileType::Char => t,
            // a character device may be a whiteout, and some file systems tell no types
            _ => match dir.stat(&e.name) {
                Ok(s) if s.is_whiteout_device() => {
                    return Ok((Kind::Whiteout, self.devices.ino(s.dev, s.ino)));
                }
                Ok(s) => {
                    (dev, real) = (s.dev, s.ino);
                    s.file_type()
                }
                Err(Errno::NOENT) => return Ok((Kind::Whiteout, self.devices.ino(dev, real))),
                Err(errno) => return Err(errno).layer(self.at(), "look at a file"),
            },
        };
        let mut kind = Kind::of(kind);
        if xattr_whiteouts && kind == Kind::File {
            let mark = dir.get_xattr(&e.name, self.dialect.whiteout());
            if mark.layer(self.at(), "read a whiteout's mark")?.is_some() {
                kind = Kind::Whiteout;
            }
        }
        if kind == Kind::File {
            let record = self.recorded.read(|key| dir.get_xattr(&e.name, key));
            let record = record.layer(self.at(), "read the recorded attributes")?;
            kind = record.and_then(|o| o.kind).map_or(kind, Kind::of);
        }
        Ok((kind, self.devices.ino(dev, real)))
    }

    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let ids = self.children(dir)?;
        let all = self.entries.read();
        let key = |id: &NodeId| all.get(id.0 as usize).map_or(&b""[..], |e| &e.name);
        Ok(ids.binary_search_by(|id| key(id).cmp(name)).ok().map(|i| ids[i]))
    }

    pub(super) fn for_children(
        &self,
        dir: NodeId,
        f: &mut dyn FnMut(&[u8], NodeId, Kind),
    ) -> Result<()> {
        let ids = self.children(dir)?;
        // `f` may ask this layer for names, and a thread that waits to write would stand between
        // two locks for reading: so it is called with none held
        let entries: Vec<_> = {
            let all = self.entries.read();
            let entry = |id: &NodeId| all.get(id.0 as usize).map(|e| (e.name.clone(), *id, e.kind));
            ids.iter().filter_map(entry).collect()
        };
        for (name, id, kind) in &entries {
            f(name, *id, *kind);
        }
        Ok(())
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

    pub(super) fn kind(&self, node: NodeId) -> Kind {
        self.with(node, |e| e.kind).unwrap_or(Kind::Whiteout)
    }

    pub(super) fn ino(&self, node: NodeId) -> Ino {
        self.with(node, |e| e.ino).unwrap_or(Ino(0))
    }

    fn opaque_mark(&self, dir: NodeId) -> Result<Opaque> {
        let node = match self.handle(dir) {
            Err(e) if is_covered(&e) => return Ok(Opaque::No),
            node => node?,
        };
        if self.names.heeded() && self.is_marked_opaque(dir)? {
            return Ok(Opaque::Yes);
        }
        let read = |key| node.get_xattr(key).layer(self.at(), "read the opaque mark");
        let value = read(self.dialect.opaque())?;
        Ok(match value.as_deref() {
            Some(b"y") => Opaque::Yes,
            Some(b"x") => Opaque::HoldsXattrWhiteouts,
            _ if read(FUSE_OVERLAYFS_OPAQUE)?.as_deref() == Some(b"y") => Opaque::Yes,
            _ => Opaque::No,
        })
    }

    /// Returns whether a name inside or beside the directory hides what lies below it.
    fn is_marked_opaque(&self, dir: NodeId) -> Result<bool> {
        let marks = |d: &Dir| marks_opaque(d).layer(self.at(), "look for the opaque mark");
        if marks(&self.dir(dir)?)? {
            return Ok(true);
        }
        if dir == NodeId::ROOT {
            return Ok(false);
        }
        let (parent, name) = self.place(dir)?;
        let beside = parent.stat(&[WHITEOUT_PREFIX, &name].concat());
        match beside {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(false),
            Err(e) => Err(e).layer(self.at(), "look for a whiteout"),
        }
    }

    pub(super) fn opaque(&self, node: NodeId) -> Result<bool> {
        Ok(self.opaque_mark(node)? == Opaque::Yes)
    }

    pub(super) fn redirect(&self, node: NodeId) -> Result<Option<Redirect>> {
        let handle = match self.handle(node) {
            Err(e) if is_covered(&e) => return Ok(None),
            handle => handle?,
        };
        let value = handle.get_xattr(self.dialect.redirect());
        let Some(value) = value.layer(self.at(), "read a redirect")? else { return Ok(None) };
        match Redirect::parse(&value) {
            Ok(r) => Ok(Some(r)),
            Err(e) => {
                log::warn!("{:?}: redirect {:?} is not valid: {e}", self.at(), printable(&value));
                Err(Error::Invalid)
            }
        }
    }

    pub(super) fn meta(&self, node: NodeId) -> Result<Meta> {
        let stat = if node == NodeId::ROOT {
            self.root.stat_self()
        } else if self.is_watched_for_mounts(node) {
            match self.stat_here(node) {
                Err(e) if is_covered(&e) => return self.covered_meta(),
                stat => Ok(stat?),
            }
        } else {
            let (dir, name) = self.place(node)?;
            dir.stat(&name)
        };
        let s = stat.layer(self.at(), "look at a file")?;
        let mut meta = Meta {
            kind: s.file_type(),
            mode: s.permissions(),
            nlink: s.nlink,
            uid: s.uid,
            gid: s.gid,
            rdev: s.rdev,
            size: s.size,
            blocks: s.blocks,
            blksize: s.blksize,
            atime: s.atime,
            mtime: s.mtime,
            ctime: s.ctime,
        };
        if self.recorded.any() && matches!(meta.kind, FileType::File | FileType::Dir) {
            let handle = self.handle(node)?;
            let record = self.recorded.read(|key| handle.get_xattr(key));
            if let Some(o) = record.layer(self.at(), "read the recorded attributes")? {
                meta.apply(&o);
            }
        }
        Ok(meta)
    }

    fn stat_here(&self, node: NodeId) -> Result<Stat> {
        let open = self.handles.lock().get(&node).cloned();
        match open {
            Some(dir) => dir.stat_self(),
            None => self.handle(node)?.stat(),
        }
        .layer(self.at(), "look at a directory")
    }

    /// What is shown of a directory that a mount covers.
    fn covered_meta(&self) -> Result<Meta> {
        let meta = self.meta(NodeId::ROOT)?;
        Ok(Meta { mode: 0o555, nlink: 2, size: 0, blocks: 0, ..meta })
    }

    pub(super) fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let (dir, name) = self.place(node)?;
        match dir.readlink(&name) {
            // a regular file that stands in for a symlink
            Err(Errno::INVAL) if self.recorded.any() => {
                let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
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
        let handle = match self.handle(node) {
            Err(e) if is_covered(&e) => return Ok(Vec::new()),
            handle => handle?,
        };
        let all = handle.list_xattr().layer(self.at(), "list extended attributes")?;
        let visible = |key: &Vec<u8>| shown_name(self.dialect, self.recorded.private(), key);
        Ok(all.iter().filter_map(visible).collect())
    }

    pub(super) fn xattr(&self, node: NodeId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let disk = disk_name(self.dialect, self.recorded.private(), key);
        match self.handle(node) {
            Err(e) if is_covered(&e) => Ok(None),
            handle => handle?.get_xattr(&disk).layer(self.at(), "read an extended attribute"),
        }
    }

    /// Returns what names the file on its file system.
    pub(super) fn file_handle(&self, node: NodeId) -> Result<FileHandle> {
        if node == NodeId::ROOT {
            return self.handle(node)?.handle().layer(self.at(), "ask for a file's handle");
        }
        let (dir, name) = self.place(node)?;
        dir.handle_of(&name).layer(self.at(), "ask for a file's handle")
    }

    pub(super) fn open(&self, node: NodeId) -> Result<File> {
        let (dir, name) = self.place(node)?;
        // nonblock: the name may have become a fifo behind our back
        let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
        let file = dir.open_file(&name, flags, 0).layer(self.at(), "open a file")?;
        if !file.is_regular().layer(self.at(), "look at a file")? {
            return Err(Error::Stale);
        }
        Ok(file)
    }

    /// Returns whether the node is a regular file whose data is in a layer below.
    pub(super) fn is_metacopy(&self, node: NodeId) -> Result<bool> {
        if self.kind(node) != Kind::File {
            return Ok(false);
        }
        let (dir, name) = self.place(node)?;
        let stat = dir.stat(&name).layer(self.at(), "look at a file")?;
        if data_is_here(&stat) {
            return Ok(false);
        }
        let mark = dir.get_xattr(&name, self.dialect.metacopy());
        Ok(mark.layer(self.at(), "read the metacopy mark")?.is_some())
    }
}
