//! A lower layer, whatever it is made of: five things to read and nothing to write.

use super::error::{Doing as _, Error, Result};
use super::ino;
use super::layer_dir::LayerDir;
use super::plain::PlainLayer;
use super::types::Ino;
use crate::id::LayerIndex;
use crate::index::{Index, Kind, NodeId};
use crate::marker::{OverrideStat, Redirect};
use crate::name::printable;
use crate::resolve::{LayerRef, Probe};
use crate::sys::{Dir, File, FileHandle, FileType, OpenFlags, Stat, Time};
use std::sync::Arc;

/// A node of a lower layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub(super) layer: LayerIndex,
    pub(super) node: NodeId,
}

/// Attributes of a node of a lower layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) blksize: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

impl From<&Stat> for Meta {
    fn from(s: &Stat) -> Meta {
        Meta {
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
        }
    }
}

impl Meta {
    /// Puts what is recorded in the place of what the disk says.
    pub(super) fn apply(&mut self, o: &OverrideStat) {
        (self.uid, self.gid, self.mode) = (o.uid, o.gid, o.mode);
        let stands_in = self.kind == FileType::File;
        if let Some(kind) = o.kind.filter(|k| stands_in && *k != FileType::Dir) {
            (self.kind, self.rdev) = (kind, o.rdev);
            // a stand-in's content is the target, or nothing
            if !matches!(kind, FileType::File | FileType::Symlink) {
                (self.size, self.blocks) = (0, 0);
            }
        }
    }
}

/// One lower layer of the stack.
#[derive(Debug)]
pub(super) enum LowerLayer {
    Plain(PlainLayer),
    Indexed(IndexedLayer),
}

/// A layer of a store.
#[derive(Debug)]
pub(super) struct IndexedLayer {
    layer: LayerIndex,
    index: Arc<Index>,
    diff: LayerDir,
}

impl IndexedLayer {
    pub(super) fn new(layer: LayerIndex, index: Arc<Index>, diff: LayerDir) -> IndexedLayer {
        IndexedLayer { layer, index, diff }
    }

    fn diff(&self) -> Result<&Dir> {
        self.diff.get().layer(LayerRef::Lower(self.layer), "open the layer's directory")
    }

    fn meta(&self, id: NodeId) -> Option<Meta> {
        let n = self.index.node(id)?;
        Some(Meta {
            kind: n.kind.file_type()?,
            mode: n.mode,
            nlink: n.nlink,
            uid: n.uid,
            gid: n.gid,
            rdev: n.rdev,
            size: n.size,
            blocks: n.blocks,
            blksize: 4096,
            atime: n.mtime,
            mtime: n.mtime,
            ctime: n.mtime,
        })
    }
}

impl LowerLayer {
    /// Returns the node of `name` in the directory `dir`, whiteouts included.
    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        match self {
            LowerLayer::Plain(p) => p.child(dir, name),
            LowerLayer::Indexed(i) => Ok(i.index.child(dir, name)),
        }
    }

    /// Calls `f` for each entry of the directory `dir`, whiteouts included, sorted by bytes.
    pub(super) fn for_children(
        &self,
        dir: NodeId,
        f: &mut dyn FnMut(&[u8], NodeId, Kind),
    ) -> Result<()> {
        match self {
            LowerLayer::Plain(p) => p.for_children(dir, f),
            LowerLayer::Indexed(i) => {
                for id in i.index.children(dir) {
                    if let Some(n) = i.index.node(NodeId(id)) {
                        f(n.name, NodeId(id), n.kind);
                    }
                }
                Ok(())
            }
        }
    }

    /// Calls `f` with the node's name. It must not ask the layer for anything.
    pub(super) fn with_name<R>(&self, node: NodeId, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            LowerLayer::Plain(p) => p.with_name(node, f),
            LowerLayer::Indexed(i) => f(i.index.node(node).map_or(b"", |n| n.name)),
        }
    }

    /// Returns which of some nodes of this layer, sorted by name, has this name.
    pub(super) fn search<T>(
        &self,
        nodes: &[T],
        node: impl Fn(&T) -> NodeId,
        name: &[u8],
    ) -> Option<usize> {
        match self {
            LowerLayer::Plain(p) => p.search(nodes, node, name),
            LowerLayer::Indexed(i) => {
                let name_of = |n: &T| i.index.node(node(n)).map_or(&b""[..], |n| n.name);
                nodes.binary_search_by(|n| name_of(n).cmp(name)).ok()
            }
        }
    }

    /// Returns the node's parent directory.
    pub(super) fn parent(&self, node: NodeId) -> NodeId {
        match self {
            LowerLayer::Plain(p) => p.parent(node),
            LowerLayer::Indexed(i) => i.index.node(node).map_or(NodeId::ROOT, |n| n.parent),
        }
    }

    /// Returns what the node is; a whiteout is a kind of its own.
    pub(super) fn kind(&self, node: NodeId) -> Kind {
        match self {
            LowerLayer::Plain(p) => p.kind(node),
            LowerLayer::Indexed(i) => i.index.node(node).map_or(Kind::Whiteout, |n| n.kind),
        }
    }

    /// As [`LowerLayer::kind`], where it does not matter what a file stands in for.
    pub(super) fn kind_on_disk(&self, node: NodeId) -> Kind {
        match self {
            LowerLayer::Plain(p) => p.kind_on_disk(node),
            LowerLayer::Indexed(_) => self.kind(node),
        }
    }

    /// Returns what the node means to the merge.
    pub(super) fn probe(&self, node: NodeId) -> Result<Probe> {
        Ok(match self.kind_on_disk(node) {
            Kind::Whiteout => Probe::Whiteout,
            Kind::Dir => Probe::Dir { opaque: self.opaque(node)? },
            _ => Probe::Leaf,
        })
    }

    /// Reads a directory's names, for who will ask for them soon and is told what is wrong then.
    pub(super) fn read_names(&self, dir: NodeId) {
        if let LowerLayer::Plain(p) = self {
            p.children(dir).map(drop).unwrap_or_default();
        }
    }

    /// Reads what the directory `name` in `dir` says about itself, in the same way.
    pub(super) fn read_marks(&self, dir: NodeId, name: &[u8]) {
        if let LowerLayer::Plain(p) = self
            && let Some(child) = p.known_child(dir, name).filter(|c| p.kind(*c) == Kind::Dir)
        {
            p.marks(child).map(drop).unwrap_or_default();
        }
    }

    fn opaque(&self, node: NodeId) -> Result<bool> {
        match self {
            LowerLayer::Plain(p) => p.opaque(node),
            LowerLayer::Indexed(i) => Ok(i.index.node(node).is_some_and(|n| n.opaque)),
        }
    }

    /// Returns where the layers below hold this directory, if they hold it elsewhere.
    pub(super) fn redirect(&self, node: NodeId) -> Result<Option<Redirect>> {
        match self {
            LowerLayer::Plain(p) => p.redirect(node),
            LowerLayer::Indexed(i) => Ok(i.index.redirect(node)),
        }
    }

    /// Returns the node's attributes.
    pub(super) fn meta(&self, node: NodeId) -> Result<Meta> {
        match self {
            LowerLayer::Plain(p) => p.meta(node),
            LowerLayer::Indexed(i) => i.meta(node).ok_or(Error::Stale),
        }
    }

    /// Returns the node's inode number: the same for all names of one file.
    pub(super) fn ino(&self, node: NodeId) -> Ino {
        match self {
            LowerLayer::Plain(p) => p.ino(node),
            LowerLayer::Indexed(i) => ino::indexed(i.layer, i.index.canonical(node)),
        }
    }

    /// Returns the nodes of all names of the node's file. In a plain layer that may walk all of it.
    pub(super) fn links(&self, node: NodeId) -> Result<Vec<NodeId>> {
        match self {
            LowerLayer::Plain(p) => p.links(node),
            LowerLayer::Indexed(i) => Ok(i.index.links(node)),
        }
    }

    /// Returns a symlink's target.
    pub(super) fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        match self {
            LowerLayer::Plain(p) => p.readlink(node),
            LowerLayer::Indexed(i) => Ok(i.index.symlink_target(node).to_vec()),
        }
    }

    /// Returns the extended attributes that users of the layer see.
    pub(super) fn xattrs(&self, node: NodeId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match self {
            LowerLayer::Plain(p) => p.xattrs(node),
            LowerLayer::Indexed(i) => {
                Ok(i.index.xattrs(node).map(|(k, v)| (k.to_vec(), v.to_vec())).collect())
            }
        }
    }

    /// Returns the names of the extended attributes that users of the layer see. Reads no values:
    /// a file system may list what it then refuses to read (a broken `security.capability`).
    pub(super) fn xattr_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        match self {
            LowerLayer::Plain(p) => p.xattr_names(node),
            LowerLayer::Indexed(i) => Ok(i.index.xattrs(node).map(|(k, _)| k.to_vec()).collect()),
        }
    }

    /// Returns one extended attribute, by the name that users of the layer see.
    pub(super) fn xattr(&self, node: NodeId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self {
            LowerLayer::Plain(p) => p.xattr(node, key),
            LowerLayer::Indexed(i) => {
                Ok(i.index.xattrs(node).find(|(k, _)| *k == key).map(|(_, v)| v.to_vec()))
            }
        }
    }

    /// Returns whether any file of the layer may have extended attributes.
    pub(super) fn has_xattrs(&self) -> bool {
        match self {
            LowerLayer::Plain(_) => true,
            LowerLayer::Indexed(i) => i.index.has_xattrs(),
        }
    }

    /// Returns MiB in large files and the number of all nodes, as far as an index tells.
    pub(super) fn weight(&self) -> (u64, u64) {
        match self {
            LowerLayer::Plain(_) => (0, 0),
            LowerLayer::Indexed(i) => (i.index.large_mib().into(), i.index.len() as u64),
        }
    }

    /// Opens a regular file's content, read-only whatever happens.
    pub(super) fn open(&self, node: NodeId) -> Result<File> {
        match self {
            LowerLayer::Plain(p) => p.open(node),
            LowerLayer::Indexed(i) => {
                let path = i.index.path(node);
                let at = LayerRef::Lower(i.layer);
                let flags = OpenFlags { nonblock: true, noatime: true, ..OpenFlags::READ };
                let file = i.diff()?.open_file_beneath(&path, flags).layer(at, "open a file")?;
                if !file.is_regular().layer(at, "look at a file")? {
                    log::warn!("{:?}: {} is no regular file any more", at, printable(&path));
                    return Err(Error::Stale);
                }
                Ok(file)
            }
        }
    }

    /// As [`LowerLayer::open`]; `None`: this is a metacopy.
    pub(super) fn open_data(&self, node: NodeId) -> Result<Option<File>> {
        match self {
            LowerLayer::Plain(p) => p.open_data(node),
            LowerLayer::Indexed(_) => self.open(node).map(Some),
        }
    }

    /// Returns whether this is a regular file whose data is in a layer below. Layers of a store
    /// are not believed such a mark: whoever made them could show files that a layer above hides.
    pub(super) fn is_metacopy(&self, node: NodeId) -> Result<bool> {
        match self {
            LowerLayer::Plain(p) => p.is_metacopy(node),
            LowerLayer::Indexed(_) => Ok(false),
        }
    }

    /// Returns what names the node's file on its file system, if that gives such handles.
    pub(super) fn handle(&self, node: NodeId) -> Option<FileHandle> {
        match self {
            LowerLayer::Plain(p) => p.file_handle(node).ok(),
            LowerLayer::Indexed(i) => {
                let path = i.index.path(node);
                i.diff().ok()?.node_beneath(&path).and_then(|n| n.handle()).ok()
            }
        }
    }

    /// Returns a handle on the layer's root directory.
    pub(super) fn root(&self) -> Result<&Dir> {
        match self {
            LowerLayer::Plain(p) => Ok(p.root()),
            LowerLayer::Indexed(i) => i.diff(),
        }
    }
}

impl LowerLayer {
    /// Returns a value that tells this layer from another one in its place.
    pub(super) fn fingerprint(&self) -> u64 {
        match self {
            LowerLayer::Plain(p) => p.ino(NodeId::ROOT).0,
            LowerLayer::Indexed(i) => {
                let x = &i.index;
                let counts =
                    [x.len(), x.whiteouts(), x.opaque_dirs()].map(|n| (n as u64).to_le_bytes());
                ino::hashed(&counts.concat()).0
            }
        }
    }
}
