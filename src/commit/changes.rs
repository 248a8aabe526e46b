//! The walk through what an upper holds: which entry of the layer's tar comes next.
//!
//! Markers take the form of the image-spec: whiteouts as `.wh.` names, opaque directories with
//! `.wh..wh..opq`. A layer cannot express that a directory was moved here: it becomes an opaque
//! one with all that is seen in it. Names are sorted by their bytes, so that the same changes give
//! the same layer.
//!
//! Source: OCI image-spec `layer.md`.

use super::upper::Upper;
use crate::image::{
    Content, ContentSource, Entries, Entry, ImageError, can_be_stored, holes, is_of_this_machine,
    warn_of_socket,
};
use crate::index::{Kind, Node, NodeId};
use crate::marker::{OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::name::{Name, printable};
use crate::overlay::{Attr, Caller, Error, Fh, Ino, ListEntry, OpenMode, Overlay};
use crate::sys::{Errno, FileType, Seek};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Attributes are read for whoever reads the layers.
const READER: Caller = Caller { uid: 0, gid: 0 };

/// A directory that the layer holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The directory in the merged view.
    ino: Ino,
    /// What the upper holds of it; nothing of a directory within a moved one.
    own: Option<NodeId>,
    /// Whether all that is seen in it goes into the layer, and not only what the upper holds.
    whole: bool,
}

/// A directory whose names are being walked.
#[derive(Debug)]
struct Frame {
    /// Path from the root, empty or ending in a slash.
    path: Vec<u8>,
    place: Place,
    /// The names still to come, last first.
    names: Vec<Box<[u8]>>,
}

/// What tells that two names are one file.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Linked {
    Upper(NodeId),
    Below(Ino),
}

/// The walk's state.
#[derive(Debug)]
pub(super) struct Changes {
    view: Arc<Overlay>,
    upper: Arc<Upper>,
    /// Whether the root directory gets an entry.
    with_root: bool,
    frames: Vec<Frame>,
    /// The first name of each file with several.
    links: HashMap<Linked, Vec<u8>>,
    started: bool,
}

impl Entries for Changes {
    fn next(
        &mut self,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<bool, ImageError> {
        if !self.started {
            self.started = true;
            self.start(out)?;
        }
        while out.is_empty() {
            let Some(frame) = self.frames.last_mut() else { return Ok(false) };
            match frame.names.pop() {
                Some(name) => {
                    let path = [&frame.path[..], &name].concat();
                    let place = frame.place;
                    self.visit(place, &name, path, out, content)?;
                }
                None => {
                    if let Some(done) = self.frames.pop() {
                        self.view.forget(done.place.ino, 1);
                    }
                }
            }
        }
        Ok(true)
    }
}

impl Changes {
    /// Begins a walk through `upper`, the topmost layer of `view`.
    pub(super) fn new(view: Arc<Overlay>, upper: Arc<Upper>, with_root: bool) -> Changes {
        let (frames, links) = (Vec::new(), HashMap::new());
        Changes { view, upper, with_root, frames, links, started: false }
    }

    fn start(&mut self, out: &mut Vec<u8>) -> Result<(), ImageError> {
        if self.with_root {
            let attr = self.view.getattr(Ino::ROOT, None).map_err(at(b"."))?;
            self.put(Ino::ROOT, entry(b"./", &attr), out)?;
        }
        let root = Place { ino: Ino::ROOT, own: Some(NodeId::ROOT), whole: false };
        self.push(Vec::new(), root)
    }

    fn visit(
        &mut self,
        place: Place,
        name: &[u8],
        path: Vec<u8>,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<(), ImageError> {
        let upper = self.upper.clone();
        let names = &upper.names;
        let own = place.own.and_then(|d| names.child(d, name)).and_then(|id| names.node(id));
        let whiteout = || [&path[..path.len() - name.len()], WHITEOUT_PREFIX, name].concat();
        if let Some(n) = own.filter(|n| n.kind == Kind::Whiteout) {
            out.extend(Entry::marker(&whiteout(), n.mtime).encode());
            return Ok(());
        }
        if name.starts_with(WHITEOUT_PREFIX) {
            log::warn!(
                "{}: in a layer such a name would delete another; left out",
                printable(&path)
            );
            return Ok(());
        }
        let checked = Name::new(name).map_err(|e| ImageError::bad_tree(&path, e))?;
        let attr = self.view.lookup(place.ino, checked).map_err(at(&path))?;
        match attr.kind {
            FileType::Dir => return self.enter(own, place.whole, path, &attr, out),
            // it is left out, and goes on hiding what it hides
            FileType::Socket => {
                warn_of_socket(&path);
                if !place.whole {
                    out.extend(Entry::marker(&whiteout(), attr.mtime).encode());
                }
            }
            _ => self.put_leaf(own, path, &attr, out, content)?,
        }
        self.view.forget(attr.ino, 1);
        Ok(())
    }

    fn enter(
        &mut self,
        own: Option<Node<'_>>,
        whole: bool,
        path: Vec<u8>,
        attr: &Attr,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let slashed = [&path[..], b"/"].concat();
        self.put(attr.ino, entry(&slashed, attr), out)?;
        let opaque = own.is_some_and(|n| n.opaque);
        let moved = !opaque && own.is_some_and(|n| n.has_redirect);
        // within a directory that is written whole nothing lies below
        if !whole && (opaque || moved) {
            out.extend(Entry::marker(&[&slashed, OPAQUE_NAME].concat(), attr.mtime).encode());
        }
        let own = own.map(|n| n.id);
        self.push(slashed, Place { ino: attr.ino, own, whole: whole || moved })
    }

    fn push(&mut self, path: Vec<u8>, place: Place) -> Result<(), ImageError> {
        let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
        if place.whole {
            let mut take = |e: ListEntry<'_>| {
                if e.name != b"." && e.name != b".." {
                    names.insert(e.name.into());
                }
                true
            };
            self.view.readdir(place.ino, 0, &mut take).map_err(at(&path))?;
        } else if let Some(own) = place.own {
            let nodes =
                self.upper.names.children(own).filter_map(|k| self.upper.names.node(NodeId(k)));
            names.extend(nodes.map(|n| n.name.into()));
        }
        let names = names.into_iter().rev().collect();
        self.frames.push(Frame { path, place, names });
        Ok(())
    }

    fn put_leaf(
        &mut self,
        own: Option<Node<'_>>,
        path: Vec<u8>,
        attr: &Attr,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<(), ImageError> {
        let linked = match own {
            Some(n) if n.nlink > 1 => Some(Linked::Upper(self.upper.names.canonical(n.id))),
            None if attr.nlink > 1 => Some(Linked::Below(attr.ino)),
            _ => None,
        };
        if let Some(linked) = linked {
            if let Some(first) = self.links.get(&linked) {
                out.extend(Entry { hard_link: Some(first), ..entry(&path, attr) }.encode());
                return Ok(());
            }
            self.links.insert(linked, path.clone());
        }
        match attr.kind {
            FileType::File => {
                let file = ViewFile::open(&self.view, attr.ino).map_err(at(&path))?;
                let holes = holes(&file, attr.size, attr.blocks);
                let sparse = holes.as_deref();
                let size = attr.size;
                self.put(attr.ino, Entry { sparse, size, ..entry(&path, attr) }, out)?;
                let pieces = holes.unwrap_or_else(|| vec![(0, size)]);
                *content = Some(Content::new(Box::new(file), path, pieces));
                Ok(())
            }
            FileType::Symlink => {
                let target = self.view.readlink(attr.ino).map_err(at(&path))?;
                self.put(attr.ino, Entry { target: Some(&target), ..entry(&path, attr) }, out)
            }
            _ => self.put(attr.ino, entry(&path, attr), out),
        }
    }

    /// Writes an entry with its extended attributes.
    fn put(&self, ino: Ino, entry: Entry<'_>, out: &mut Vec<u8>) -> Result<(), ImageError> {
        let path = entry.path;
        let list = self.view.list_xattr(READER, ino).map_err(at(path))?;
        let mut xattrs = Vec::new();
        for key in list.split(|b| *b == 0).filter(|k| !k.is_empty()) {
            if is_of_this_machine(key) || !can_be_stored(path, key) {
                continue;
            }
            match self.view.get_xattr(ino, key) {
                Ok(value) => xattrs.push((key.to_vec(), value)),
                Err(Error::NoData) => {}
                // an empty or broken capability is listed, and shown to nobody
                Err(e) if e.errno() == Errno::INVAL => log::warn!(
                    "{}: the extended attribute {} cannot be read; left out",
                    printable(path),
                    printable(key)
                ),
                Err(e) => return Err(at(path)(e)),
            }
        }
        xattrs.sort();
        out.extend(Entry { xattrs: &xattrs, ..entry }.encode());
        Ok(())
    }
}

/// An entry as the view shows the file, without content, links and extended attributes.
fn entry<'a>(path: &'a [u8], attr: &Attr) -> Entry<'a> {
    Entry {
        path,
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        size: 0,
        mtime: attr.mtime,
        rdev: attr.rdev,
        target: None,
        hard_link: None,
        xattrs: &[],
        sparse: None,
    }
}

fn at(path: &[u8]) -> impl Fn(Error) -> ImageError {
    move |e| match e {
        Error::Incomplete { .. } => ImageError::Incomplete { path: printable(path) },
        e => ImageError::bad_tree(path, e),
    }
}

/// An open file of the view.
#[derive(Debug)]
struct ViewFile {
    view: Arc<Overlay>,
    fh: Fh,
}

impl ViewFile {
    fn open(view: &Arc<Overlay>, ino: Ino) -> crate::overlay::Result<ViewFile> {
        let fh = view.open(ino, OpenMode { read: true, ..OpenMode::default() })?;
        Ok(ViewFile { view: view.clone(), fh })
    }
}

impl ContentSource for ViewFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.view.read(self.fh, offset, buf).map_err(|e| e.errno())
    }

    fn seek(&self, what: Seek, offset: u64) -> Result<u64, Errno> {
        self.view.seek(self.fh, what, offset).map_err(|e| e.errno())
    }
}

impl Drop for ViewFile {
    fn drop(&mut self) {
        self.view.release(self.fh);
    }
}
