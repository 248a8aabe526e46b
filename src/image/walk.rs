//! The walk through a directory tree that a layer is made of: which entry comes next, and what it
//! looks like in the tar.

use super::ImageError;
use super::lower::{Found, Merged, Part, Stack};
use super::stream::{Content, Entries, holes};
use super::tarball::{Entry, can_be_stored, is_of_this_machine, warn_of_socket};
use super::tree::open_content;
use crate::marker::{
    Dialect, FUSE_OVERLAYFS_NAMES, OPAQUE_NAME, OVERRIDE_XATTR, OciMarker,
    PRIVILEGED_FUSE_OVERLAYFS_NAMES, Redirect, WHITEOUT_PREFIX, XattrName,
};
use crate::name::printable;
use crate::sys::{Dir, Errno, FileType, Stat};
use std::collections::{BTreeSet, HashMap};

/// A directory whose names are being walked.
#[derive(Debug)]
struct Frame {
    /// Path from the root, empty or ending in a slash.
    path: Vec<u8>,
    /// The directories that make it up, top first. Just the layer's own, unless it is `merged`.
    parts: Vec<Part>,
    /// Whether the content of the layers below is written out here too.
    merged: bool,
    /// Whether nothing below is seen here anyway.
    opaque: bool,
    /// The names still to come, last first.
    names: Vec<Box<[u8]>>,
}

/// The walk's state.
#[derive(Debug)]
pub(super) struct Walk {
    stack: Stack,
    skip: Option<(u64, u64)>,
    frames: Vec<Frame>,
    /// The first name of each inode with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    started: bool,
}

/// Name and value of an extended attribute.
type Xattr = (Vec<u8>, Vec<u8>);

/// A file to be written: its attributes, and where they and its content are.
struct Leaf<'a> {
    dir: &'a Dir,
    name: &'a [u8],
    stat: Stat,
    data: Option<(Dir, Box<[u8]>)>,
}

impl Entries for Walk {
    fn next(
        &mut self,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<bool, ImageError> {
        if !self.started {
            self.started = true;
            self.start(out)?;
            return Ok(true);
        }
        while out.is_empty() {
            let Some(frame) = self.frames.last_mut() else { return Ok(false) };
            let Some(name) = frame.names.pop() else {
                self.frames.pop();
                continue;
            };
            let path = [&frame.path[..], &name].concat();
            let (parts, merged, opaque) = (frame.parts.clone(), frame.merged, frame.opaque);
            if merged {
                self.visit_merged(&parts, &name, path, out, content)?;
            } else if let Some(part) = parts.first() {
                self.visit(part, &name, path, opaque, out, content)?;
            }
        }
        Ok(true)
    }
}

impl Walk {
    pub(super) fn new(stack: Stack, skip: Option<(u64, u64)>) -> Walk {
        Walk { stack, skip, frames: Vec::new(), links: HashMap::new(), started: false }
    }

    fn start(&mut self, out: &mut Vec<u8>) -> Result<(), ImageError> {
        let part = self.stack.root(0)?;
        let stat = part.dir.stat_self().map_err(|e| ImageError::bad_tree(b".", e))?;
        if self.skip == Some((stat.dev, stat.ino)) {
            return Err(ImageError::bad_tree(b".", "it is the store, which would hold itself"));
        }
        self.put_dir(&part.dir, b".", stat, b"./", out)?;
        let opaque = self.stack.overlay && part.dir.stat(OPAQUE_NAME).is_ok();
        if opaque {
            put_marker(OPAQUE_NAME, stat, out);
        }
        self.push(Vec::new(), vec![part], false, opaque)
    }

    /// Writes what the layer itself holds under `name`.
    fn visit(
        &mut self,
        part: &Part,
        name: &[u8],
        path: Vec<u8>,
        parent_opaque: bool,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<(), ImageError> {
        let parent = &path[..path.len() - name.len()];
        if self.stack.overlay && name.starts_with(WHITEOUT_PREFIX) {
            let marker = OciMarker::parse(name).map_err(|e| ImageError::bad_tree(&path, e))?;
            // an opaque mark stands behind its directory's entry, and AUFS' files mean nothing
            if let Some(OciMarker::Whiteout(_)) = marker {
                let stat = part.dir.stat(name).map_err(|e| ImageError::bad_tree(&path, e))?;
                put_marker(&path, stat, out);
            }
            return Ok(());
        }
        match self.stack.probe(part, name)? {
            Found::Absent => {
                Err(ImageError::bad_tree(&path, "it vanished while the directory was read"))
            }
            Found::Whiteout(stat) => {
                put_marker(&[parent, WHITEOUT_PREFIX, name].concat(), stat, out);
                Ok(())
            }
            // it is left out, and goes on hiding what it hides
            Found::Leaf { stat, .. } if stat.file_type() == FileType::Socket => {
                warn_of_socket(&path);
                let below = self.below(parent, parent_opaque)?;
                if !matches!(self.stack.child(&below, name)?, Merged::Nothing) {
                    put_marker(&[parent, WHITEOUT_PREFIX, name].concat(), stat, out);
                }
                Ok(())
            }
            Found::Leaf { stat, metacopy, redirect } => {
                let data = if metacopy {
                    let below = self.below(parent, parent_opaque)?;
                    Some(self.stack.data(part, &below, name, redirect).map_err(|e| at(&path, e))?)
                } else {
                    None
                };
                self.put_leaf(Leaf { dir: &part.dir, name, stat, data }, path, out, content)
            }
            Found::Dir { stat, .. } if self.skip == Some((stat.dev, stat.ino)) => {
                log::warn!("{}: the store itself; left out", printable(&path));
                Ok(())
            }
            Found::Dir { stat, part: own, opaque, redirect } => {
                let slashed = [&path[..], b"/"].concat();
                self.put_dir(&own.dir, b".", stat, &slashed, out)?;
                let redirect = redirect.filter(|_| !opaque);
                if opaque || redirect.is_some() {
                    put_marker(&[&slashed, OPAQUE_NAME].concat(), stat, out);
                }
                let mut parts = vec![own];
                let merged = redirect.is_some();
                match redirect {
                    None => {}
                    Some(Redirect::Absolute(p)) => parts.extend(self.stack.dirs_at(1, &p)?),
                    Some(Redirect::Sibling(n)) => {
                        let below = self.below(parent, parent_opaque)?;
                        if let Merged::Dir { parts: p, .. } = self.stack.child(&below, &n)? {
                            parts.extend(p);
                        }
                    }
                }
                self.push(slashed, parts, merged, opaque || parent_opaque)
            }
        }
    }

    /// Writes what `parts` together show under `name`: no markers, all of the content.
    fn visit_merged(
        &mut self,
        parts: &[Part],
        name: &[u8],
        path: Vec<u8>,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<(), ImageError> {
        match self.stack.child(parts, name).map_err(|e| at(&path, e))? {
            Merged::Nothing => Ok(()),
            Merged::Leaf { part, name, stat, data } => {
                self.put_leaf(Leaf { dir: &part.dir, name: &name, stat, data }, path, out, content)
            }
            Merged::Dir { stat, parts } => {
                let slashed = [&path[..], b"/"].concat();
                if let Some(top) = parts.first() {
                    self.put_dir(&top.dir, b".", stat, &slashed, out)?;
                }
                self.push(slashed, parts, true, true)
            }
        }
    }

    /// Returns the directories of the layers below that are merged at `path`.
    fn below(&self, path: &[u8], opaque: bool) -> Result<Vec<Part>, ImageError> {
        if opaque {
            return Ok(Vec::new());
        }
        let names: Vec<Box<[u8]>> =
            path.split(|b| *b == b'/').filter(|n| !n.is_empty()).map(Into::into).collect();
        self.stack.dirs_at(1, &names)
    }

    fn push(
        &mut self,
        path: Vec<u8>,
        parts: Vec<Part>,
        merged: bool,
        opaque: bool,
    ) -> Result<(), ImageError> {
        let mut names = BTreeSet::new();
        for part in &parts {
            for e in part.dir.list().map_err(|e| ImageError::bad_tree(&path, e))? {
                if !(merged && self.stack.overlay && e.name.starts_with(WHITEOUT_PREFIX)) {
                    names.insert(e.name);
                }
            }
        }
        let names = names.into_iter().rev().collect();
        self.frames.push(Frame { path, parts, merged, opaque, names });
        Ok(())
    }

    fn put_dir(
        &self,
        dir: &Dir,
        name: &[u8],
        stat: Stat,
        path: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let xattrs = self.xattrs(dir, name, path)?;
        out.extend(Entry { xattrs: &xattrs, ..plain(path, stat) }.encode());
        Ok(())
    }

    fn put_leaf(
        &mut self,
        leaf: Leaf<'_>,
        path: Vec<u8>,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<(), ImageError> {
        let Leaf { dir, name, stat, data } = leaf;
        let kind = stat.file_type();
        if kind == FileType::Socket {
            warn_of_socket(&path);
            return Ok(());
        }
        if stat.nlink > 1 {
            let key = (stat.dev, stat.ino);
            if let Some(first) = self.links.get(&key) {
                let size = 0;
                out.extend(Entry { hard_link: Some(first), size, ..plain(&path, stat) }.encode());
                return Ok(());
            }
            self.links.insert(key, path.clone());
        }
        let xattrs = self.xattrs(dir, name, &path)?;
        let entry = Entry { xattrs: &xattrs, ..plain(&path, stat) };
        match kind {
            FileType::File => {
                let (dir, name) = data.as_ref().map_or((dir, name), |(d, n)| (d, &n[..]));
                let (file, now) = open_content(dir, name, &path)?;
                let holes = holes(&file, now.size, now.blocks);
                let pieces = holes.as_deref();
                out.extend(Entry { sparse: pieces, size: now.size, ..entry }.encode());
                let pieces = holes.unwrap_or_else(|| vec![(0, now.size)]);
                *content = Some(Content::new(Box::new(file), path, pieces));
            }
            FileType::Symlink => {
                let target = dir.readlink(name).map_err(|e| ImageError::bad_tree(&path, e))?;
                out.extend(Entry { target: Some(&target), ..entry }.encode());
            }
            _ => out.extend(entry.encode()),
        }
        Ok(())
    }

    /// Returns the extended attributes to store, by the names that a mount would show.
    fn xattrs(&self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<Vec<Xattr>, ImageError> {
        let mut keys = match dir.list_xattr(name) {
            Ok(keys) => keys,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(ImageError::bad_tree(path, e)),
        };
        keys.sort();
        let mut out = Vec::new();
        for key in keys {
            let Some(shown) = self.shown(&key) else { continue };
            if !can_be_stored(path, &shown) {
                continue;
            }
            match dir.get_xattr(name, &key) {
                Ok(Some(value)) => out.push((shown, value)),
                Ok(None) => {}
                // an empty or broken capability is listed, and shown to nobody
                Err(Errno::INVAL) => log::warn!(
                    "{}: the extended attribute {} cannot be read; left out",
                    printable(path),
                    printable(&shown)
                ),
                Err(e) => return Err(ImageError::bad_tree(path, e)),
            }
        }
        Ok(out)
    }

    fn shown(&self, key: &[u8]) -> Option<Vec<u8>> {
        if is_of_this_machine(key) {
            return None;
        }
        if !self.stack.overlay {
            return Some(key.to_vec());
        }
        let private = [FUSE_OVERLAYFS_NAMES, PRIVILEGED_FUSE_OVERLAYFS_NAMES];
        if key == OVERRIDE_XATTR || private.iter().any(|p| key.starts_with(p)) {
            return None;
        }
        // no overlay that keeps its marks there lets one of another name come to the disk: so the
        // marks of this one are the trusted ones, and it shows this
        let own = Dialect::User.from_disk(key) == XattrName::Own;
        if own && !Dialect::User.is_mark(key) {
            return Some(key.to_vec());
        }
        for dialect in [Dialect::Trusted, Dialect::User] {
            if key.starts_with(dialect.prefix()) {
                return match dialect.from_disk(key) {
                    XattrName::Own => None,
                    XattrName::Visible(name) => Some(name),
                };
            }
        }
        Some(key.to_vec())
    }
}

fn at(path: &[u8], e: ImageError) -> ImageError {
    match e {
        ImageError::BadTree { why, .. } => ImageError::bad_tree(path, why),
        e => e,
    }
}

fn plain(path: &[u8], stat: Stat) -> Entry<'_> {
    Entry {
        path,
        kind: stat.file_type(),
        mode: stat.permissions(),
        uid: stat.uid,
        gid: stat.gid,
        size: 0,
        mtime: stat.mtime,
        rdev: stat.rdev,
        target: None,
        hard_link: None,
        xattrs: &[],
        sparse: None,
    }
}

fn put_marker(path: &[u8], near: Stat, out: &mut Vec<u8>) {
    out.extend(Entry::marker(path, near.mtime).encode());
}
