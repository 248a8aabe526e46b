//! The other names of a hard-linked file in a plain layer, which nothing but a walk can find.

use super::error::Result;
use super::plain::PlainLayer;
use super::types::Ino;
use crate::index::{Kind, NodeId};
use crate::sys::Errno;
use hashbrown::HashMap;

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
