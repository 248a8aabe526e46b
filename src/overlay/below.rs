//! What lies below: which directories of the lowers are merged at a name or a path.

use super::Overlay;
use super::error::{Error, Result};
use super::inode::{DirInode, Place};
use super::listing::{Below, Found};
use super::lower::At;
use super::types::Ino;
use crate::id::LayerIndex;
use crate::index::{Kind, NodeId};
use crate::marker::Redirect;
use crate::resolve::{LayerRef, Merge, Probe, Role};
use crate::sys::FileType;

/// How long a chain of redirects may be before it counts as a loop.
const REDIRECTS: usize = 64;

/// What one layer holds at a path.
enum Walked {
    Found {
        at: At,
        /// A directory on the way is opaque: the layers below are hidden.
        ends: bool,
    },
    Absent,
    /// Nothing, and the layers below are hidden.
    Ended,
}

/// Where the layers below are asked next.
enum Look {
    /// For a name in these directories, top first.
    Name(Vec<At>, Box<[u8]>),
    /// For a path from their roots.
    Path(Vec<Box<[u8]>>),
}

impl Overlay {
    /// Returns the lower directories below a directory of the upper.
    pub(super) fn parts_below(
        &self,
        dir: &DirInode,
        name: &[u8],
        below: &Below,
    ) -> Result<Vec<At>> {
        match below {
            Below::Nothing => Ok(Vec::new()),
            Below::SameName => {
                let lowers = dir.lowers().to_vec();
                self.ahead.read(&self.lowers, &lowers, Some(name));
                self.gather(Look::Name(lowers, name.into()))
            }
            Below::Redirected(r) => self.gather(look_at(&dir.lowers(), r)),
        }
    }

    /// Returns which lower directories are merged at a place now; `None`: it shows no directory.
    pub(super) fn parts_at(&self, place: &Place) -> Result<Option<Vec<At>>> {
        let Ok(dir) = self.living_dir(place.parent) else { return Ok(None) };
        let found = self.listing(&dir)?.find(&self.lowers, &place.name);
        Ok(match found {
            Some(Found::Own(e)) if e.kind == FileType::Dir => {
                Some(self.parts_below(&dir, &place.name, &e.below)?)
            }
            Some(Found::Base(e)) if e.kind == FileType::Dir => {
                Some(self.parts_below(&dir, &place.name, &Below::SameName)?)
            }
            _ => None,
        })
    }

    /// Returns the root directories of the lowers that are seen at the root, top first.
    pub(super) fn root_parts(&self) -> Result<Vec<At>> {
        let mut merge = Merge::default();
        let mut out = Vec::new();
        for layer in self.merged_layers() {
            let at = At { layer, node: NodeId::ROOT };
            // the root's opaque mark means nothing to the kernel's overlayfs
            let probe = Probe::Dir { opaque: false };
            if matches!(merge.feed(LayerRef::Lower(layer), probe), Role::Provides | Role::Merged) {
                out.push(at);
            }
        }
        Ok(out)
    }

    /// Returns the layers whose names are seen, top first.
    fn merged_layers(&self) -> impl Iterator<Item = LayerIndex> {
        (self.data_only..self.lowers.len() as u32).rev().map(LayerIndex)
    }

    /// Returns the lower directories that are merged under a name or path, top first.
    fn gather(&self, mut look: Look) -> Result<Vec<At>> {
        let mut merge = Merge::default();
        let mut out = Vec::new();
        let mut redirects = 0;
        let mut below = self.lowers.len() as u32;
        while let Some((at, rest)) = self.next_candidate(&look, below)? {
            below = rest;
            let layer = self.lower(at)?;
            let role = merge.feed(LayerRef::Lower(at.layer), layer.probe(at.node)?);
            if !matches!(role, Role::Provides | Role::Merged)
                || layer.kind_on_disk(at.node) != Kind::Dir
            {
                break;
            }
            // as in the kernel: changing what lies there would change a lower
            if self.traps.contains(&layer.ino(at.node)) {
                return Err(Error::Loop);
            }
            out.push(at);
            if merge.cut().is_some() {
                break;
            }
            if self.options.follow_redirects
                && let Some(r) = layer.redirect(at.node)?
            {
                redirects += 1;
                if redirects > REDIRECTS {
                    return Err(Error::Invalid);
                }
                let parents = match look {
                    Look::Name(parents, _) => parents,
                    Look::Path(path) => self.parents_of(&path),
                };
                look = look_at(&parents, &r);
            }
        }
        Ok(out)
    }

    /// Returns whether the lowers alone show a certain file, at `name` in what is at `path` below
    /// the directories `parts`.
    pub(super) fn lowers_show(
        &self,
        number: Ino,
        mut parts: Vec<At>,
        path: &[Box<[u8]>],
        name: &[u8],
    ) -> Result<bool> {
        for part in path {
            parts = self.gather(Look::Name(parts, part.clone()))?;
        }
        let all = self.lowers.len() as u32;
        match self.next_candidate(&Look::Name(parts, name.into()), all)? {
            Some((at, _)) => Ok(self.lower(at)?.ino(at.node) == number),
            None => Ok(false),
        }
    }

    /// Returns the topmost layer under number `below` that holds what is looked for, whatever it
    /// is, with its own number: the next search goes on below it.
    fn next_candidate(&self, look: &Look, below: u32) -> Result<Option<(At, u32)>> {
        match look {
            Look::Name(parents, name) => {
                for p in parents.iter().filter(|p| p.layer.0 < below) {
                    if let Some(node) = self.lower(*p)?.child(p.node, name)? {
                        return Ok(Some((At { layer: p.layer, node }, p.layer.0)));
                    }
                }
            }
            Look::Path(path) => return self.walk_down(path, below, self.data_only),
        }
        Ok(None)
    }

    /// Returns the topmost layer under number `below` and not under `last` that holds a path from
    /// its root, and the number under which the search goes on.
    pub(super) fn walk_down(
        &self,
        path: &[Box<[u8]>],
        below: u32,
        last: u32,
    ) -> Result<Option<(At, u32)>> {
        for layer in (last..below).rev().map(LayerIndex) {
            match self.walk(layer, path)? {
                Walked::Found { at, ends } => {
                    return Ok(Some((at, if ends { 0 } else { layer.0 })));
                }
                Walked::Absent => {}
                Walked::Ended => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Looks for a path in one layer. As in the kernel's `ovl_lookup_layer`, whatever ends a merge
    /// on the way ends the search in the layers below too.
    fn walk(&self, layer: LayerIndex, path: &[Box<[u8]>]) -> Result<Walked> {
        let mut at = At { layer, node: NodeId::ROOT };
        let mut ends = false;
        for (i, part) in path.iter().enumerate() {
            let lower = self.lower(at)?;
            if i > 0 {
                match lower.probe(at.node)? {
                    Probe::Dir { opaque } => ends |= opaque,
                    Probe::Absent | Probe::Whiteout | Probe::Leaf => return Ok(Walked::Ended),
                }
            }
            match lower.child(at.node, part)? {
                Some(node) => at.node = node,
                None if ends => return Ok(Walked::Ended),
                None => return Ok(Walked::Absent),
            }
        }
        Ok(Walked::Found { at, ends })
    }

    /// Returns the directories that hold the last component of a path, one for each layer.
    pub(super) fn parents_of(&self, path: &[Box<[u8]>]) -> Vec<At> {
        let dir = path.split_last().map_or(&[][..], |(_, d)| d);
        let mut out = Vec::new();
        let mut below = self.lowers.len() as u32;
        while let Ok(Some((at, rest))) = self.walk_down(dir, below, self.data_only) {
            out.push(at);
            below = rest;
        }
        out
    }
}

fn look_at(parents: &[At], redirect: &Redirect) -> Look {
    match redirect {
        Redirect::Sibling(name) => Look::Name(parents.to_vec(), name.clone()),
        Redirect::Absolute(path) => Look::Path(path.clone()),
    }
}
