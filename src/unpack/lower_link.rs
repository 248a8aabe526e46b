//! Hard links to files of the layers below. An inode cannot lie in two layer directories, so the
//! file is copied into this layer, once for all its names here: what a copy-up would give.
//!
//! While the tar goes by the file is empty. It is filled when the layers below are known: markers
//! of this layer do not hide the target, since they say nothing about what was linked before.

use super::disk::{Disk, at};
use super::error::{Limits, Refusal, UnpackError};
use super::place::Place;
use super::settle::{Below, below};
use crate::index::{Builder, EntryId, Index, Kind, Meta, NodeId};
use crate::sys::{Dir, Errno, File, OpenFlags, copy_data};
use std::collections::{HashMap, HashSet};

/// One layer below: what it holds, and where.
#[derive(Clone, Copy, Debug)]
pub struct LowerLayer<'a> {
    /// Its index.
    pub index: &'a Index,
    /// Its layer directory.
    pub diff: &'a Dir,
}

/// A file of this layer whose content lies below.
#[derive(Debug)]
pub(super) struct LowerLink {
    /// The empty file.
    pub(super) entry: EntryId,
    /// The link's name as the tar has it.
    pub(super) name: Vec<u8>,
    /// The link's target as the tar has it.
    pub(super) target: Vec<u8>,
}

/// What is still to be done on disk for one file below.
pub(super) struct Copy<'l> {
    link: &'l LowerLink,
    layer: usize,
    node: NodeId,
    /// A name of the empty file.
    at: EntryId,
    /// Names that were made as other files and are to become links to this one.
    others: Vec<EntryId>,
}

/// Finds the targets and gives the files their attributes. `layers` are those below, top first.
///
/// # Errors
/// A target that is not there, or is no regular file.
pub(super) fn resolve<'l>(
    b: &mut Builder,
    links: &'l [LowerLink],
    layers: &[&Index],
    limits: &Limits,
) -> Result<Vec<Copy<'l>>, UnpackError> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let files: HashSet<EntryId> = links.iter().map(|l| l.entry).collect();
    let mut names: HashMap<EntryId, Vec<EntryId>> = HashMap::new();
    for id in b.entries() {
        let file = b.file_of(id);
        if files.contains(&file) {
            names.entry(file).or_default().push(id);
        }
    }
    let mut first: HashMap<(usize, NodeId), usize> = HashMap::new();
    let mut copies: Vec<Copy<'l>> = Vec::new();
    for link in links {
        let (layer, node) = target(link, layers, limits)?;
        // later entries may have replaced all of its names
        let Some(shown) = names.get(&link.entry) else { continue };
        let file = (layer, layers[layer].canonical(node));
        if let Some(copy) = first.get(&file).and_then(|i| copies.get_mut(*i)) {
            for old in shown {
                let (parent, name) = (b.parent(*old), b.name(*old).to_vec());
                copy.others.push(b.add_link(parent, &name, copy.link.entry)?);
            }
            continue;
        }
        let Some(n) = layers[layer].node(node) else { continue };
        let m = Meta {
            mode: n.mode,
            uid: n.uid,
            gid: n.gid,
            size: n.size,
            blocks: n.blocks,
            mtime: n.mtime,
            opaque: b.meta(link.entry).opaque,
            ..Meta::new(Kind::File)
        };
        b.set(link.entry, &m);
        let xattrs = layers[layer].xattrs(node).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        b.set_xattrs(link.entry, xattrs, None)?;
        first.insert(file, copies.len());
        copies.push(Copy { link, layer, node, at: shown[0], others: Vec::new() });
    }
    Ok(copies)
}

/// Returns the regular file that the layers below show as the target of a link.
fn target(
    link: &LowerLink,
    layers: &[&Index],
    limits: &Limits,
) -> Result<(usize, NodeId), UnpackError> {
    let refuse = |r: Refusal| r.of(&link.name);
    let Place::At(parents, last) = Place::of(&link.target, limits).map_err(refuse)? else {
        return Err(refuse(Refusal::LinkTarget(link.target.clone())));
    };
    let mut dirs: Vec<_> = (0..layers.len()).map(|i| (i, NodeId::ROOT)).collect();
    for name in &parents {
        dirs = match below(layers, &dirs, name.bytes()) {
            Below::Dir(found) => found,
            _ => return Err(refuse(Refusal::LinkTarget(link.target.clone()))),
        };
    }
    match below(layers, &dirs, last.bytes()) {
        Below::Leaf(layer, node) => {
            match layers[layer].node(node).is_some_and(|n| n.kind == Kind::File) {
                true => Ok((layer, node)),
                false => Err(refuse(Refusal::LinkToSpecial(link.target.clone()))),
            }
        }
        Below::Dir(_) => Err(refuse(Refusal::LinkToDir(link.target.clone()))),
        Below::Nothing => Err(refuse(Refusal::LinkTarget(link.target.clone()))),
    }
}

/// Fills the files. `so_far` are the bytes that the layer's stream had: copies count like them.
pub(super) fn copy(
    b: &Builder,
    disk: &mut Disk,
    copies: &[Copy<'_>],
    layers: &[LowerLayer<'_>],
    limits: &Limits,
    so_far: u64,
) -> Result<(), UnpackError> {
    let mut total = so_far;
    for c in copies {
        let m = b.meta(c.at);
        total = total.saturating_add(m.size);
        if total > limits.bytes {
            let what = "bytes, those of files that it links from layers below included";
            return Err(UnpackError::Limit { what, limit: limits.bytes });
        }
        let fail = |errno| UnpackError::LowerFile {
            name: c.link.name.clone(),
            target: c.link.target.clone(),
            errno,
        };
        let LowerLayer { index, diff } = layers[c.layer];
        let from = diff.open_file_beneath(&index.path(c.node), OpenFlags::READ).map_err(fail)?;
        let found = from.stat().map_err(fail)?;
        if !from.is_regular().map_err(fail)? || found.size != m.size {
            // the directory is not what its index says
            return Err(fail(Errno::IO));
        }
        let to = disk.open_again(b, c.at)?;
        copy_data(&from, &to, m.size).map_err(fail)?;
        to.chmod(disk.disk_mode(&m) & 0o777).map_err(fail)?;
        disk.finish_file(&to, &m, &b.xattrs(c.at)).map_err(fail)?;
        for other in &c.others {
            disk.relink(b, c.at, *other)?;
        }
    }
    Ok(())
}

impl Disk {
    /// Opens a file of the layer for writing.
    fn open_again(&mut self, b: &Builder, id: EntryId) -> Result<File, UnpackError> {
        let flags = OpenFlags::READ_WRITE;
        let dir = self.dir(b, b.parent(id))?;
        dir.open_file(b.name(id), flags, 0).map_err(|e| at(b, b.parent(id), b.name(id), e))
    }

    /// Makes a name that is another file's one of `file`'s.
    fn relink(&mut self, b: &Builder, file: EntryId, name: EntryId) -> Result<(), UnpackError> {
        let from = self.dir(b, b.parent(file))?;
        let to = self.dir(b, b.parent(name))?;
        to.unlink(b.name(name))
            .and_then(|()| from.link(b.name(file), &to, b.name(name)))
            .map_err(|e| at(b, b.parent(name), b.name(name), e))
    }
}
