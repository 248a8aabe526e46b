//! The other names of a hard-linked file of a lower layer. In a plain one nothing but a walk can
//! find them.

use super::Overlay;
use super::error::Result;
use super::inode::{DirInode, Place};
use super::listing::Found;
use super::lower::At;
use super::plain::PlainLayer;
use super::types::Ino;
use crate::index::{Kind, NodeId};
use crate::sys::{Errno, FileType};
use hashbrown::HashMap;
use std::sync::Arc;

/// How many entries of a layer are walked in search of names. In a larger layer only the names
/// that were looked up are known.
const ENTRIES: usize = 1_000_000;

/// The files of a layer that have several names in it.
#[derive(Debug, Default)]
pub(super) struct LinkGroups(HashMap<Ino, Vec<NodeId>>);

impl LinkGroups {
    /// Walks the whole layer: one getdents for each directory that was not read yet.
    pub(super) fn walk(layer: &PlainLayer) -> Result<LinkGroups> {
        let mut files: Vec<(Ino, NodeId)> = Vec::new();
        let mut dirs = vec![NodeId::ROOT];
        let mut seen = 0;
        while let Some(dir) = dirs.pop() {
            let read = layer.for_children(dir, &mut |_, node, kind| {
                seen += 1;
                match kind {
                    Kind::Dir => dirs.push(node),
                    Kind::Whiteout => {}
                    _ => files.push((layer.ino(node), node)),
                }
            });
            match read {
                // what lies there cannot be reached through this view either
                Err(e) if e.errno() == Errno::ACCESS => {}
                read => read?,
            }
            if seen > ENTRIES {
                log::warn!("hard links of a layer of over {ENTRIES} entries are not searched for");
                return Ok(LinkGroups::default());
            }
        }
        files.sort_unstable();
        let groups = files.chunk_by(|a, b| a.0 == b.0).filter(|g| g.len() > 1);
        Ok(LinkGroups(groups.map(|g| (g[0].0, g.iter().map(|(_, n)| *n).collect())).collect()))
    }

    /// Returns the nodes of all names of the file `ino`, of which `node` is one.
    pub(super) fn of(&self, ino: Ino, node: NodeId) -> Vec<NodeId> {
        self.0.get(&ino).cloned().unwrap_or_else(|| vec![node])
    }
}

impl Overlay {
    /// Returns the names under which the view shows a file of an indexed layer.
    pub(super) fn names_of(&self, number: Ino, at: At) -> Result<Vec<Place>> {
        let layer = self.lower(at)?;
        let mut out = Vec::new();
        for node in layer.links(at.node)? {
            let part = At { layer: at.layer, node: layer.parent(node) };
            let name: Arc<[u8]> = layer.with_name(node, |n| Arc::from(n));
            let Some(dir) = self.dir_of_part(part)? else { continue };
            let shown = self.listing(&dir)?.find(&self.lowers, &name);
            if let Some(Found::Base(e)) = shown
                && self.lower(e.at)?.ino(e.at.node) == number
            {
                out.push(Place { parent: dir.ino, name });
            }
        }
        Ok(out)
    }

    /// Returns the directory of the view that a lower directory is part of, if it is in sight.
    pub(super) fn dir_of_part(&self, part: At) -> Result<Option<Arc<DirInode>>> {
        if let Some(ino) = self.part_of.read().get(&part).copied() {
            return self.dir(ino).map(|d| Some(d).filter(|d| !d.is_removed()));
        }
        // never looked at: it is where its layer has it, unless something above hides it
        let mut dir = self.dir(Ino::ROOT)?;
        for name in self.lower(part)?.path(part.node) {
            // a file of that name is not made an object: that could ask for its names, and so for
            // this very directory again
            let found = self.listing(&dir)?.find(&self.lowers, &name);
            let Some(found) = found.filter(|f| f.kind() == FileType::Dir) else { return Ok(None) };
            dir = self.object_of(&dir, &name, found)?.dir()?;
        }
        Ok(Some(dir).filter(|d| d.lowers().contains(&part)))
    }
}
