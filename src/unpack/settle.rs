//! What a layer's tree means upon the layers below it: which markers have something to hide, and
//! what the directories look like that the layer only passes through.

use super::error::UnpackError;
use crate::id::LayerIndex;
use crate::index::{Builder, EntryId, Index, Kind, Meta, NodeId};
use crate::resolve::{LayerRef, Merge, Probe, Role};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The directories of the layers below that merge at one path: layer (top first) and node.
type Lower = Rc<Vec<(usize, NodeId)>>;

/// What the layers below show under a name.
pub(super) enum Below {
    Nothing,
    Leaf(usize, NodeId),
    Dir(Vec<(usize, NodeId)>),
}

pub(super) fn below(layers: &[&Index], dirs: &[(usize, NodeId)], name: &[u8]) -> Below {
    let mut merge = Merge::default();
    let mut found = Vec::new();
    for (layer, dir) in dirs {
        let index = layers[*layer];
        let Some(node) = index.child(*dir, name).and_then(|n| index.node(n)) else { continue };
        let probe = match node.kind {
            Kind::Whiteout => Probe::Whiteout,
            Kind::Dir => Probe::Dir { opaque: node.opaque },
            _ => Probe::Leaf,
        };
        let at = LayerRef::Lower(LayerIndex((layers.len() - 1 - layer) as u32));
        match (merge.feed(at, probe), probe) {
            (Role::Provides, Probe::Leaf) => return Below::Leaf(*layer, node.id),
            (Role::Provides | Role::Merged, Probe::Dir { .. }) => found.push((*layer, node.id)),
            _ => {}
        }
        if merge.cut().is_some() {
            break;
        }
    }
    if found.is_empty() { Below::Nothing } else { Below::Dir(found) }
}

/// All names that the layers below show in a directory.
fn names_below(layers: &[&Index], dirs: &[(usize, NodeId)]) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for (layer, dir) in dirs {
        for id in layers[*layer].children(*dir) {
            if let Some(n) = layers[*layer].node(NodeId(id)) {
                names.insert(n.name.to_vec());
            }
        }
    }
    names.retain(|n| !matches!(below(layers, dirs, n), Below::Nothing));
    names
}

/// Makes the tree final. `layers` are those below, top first. Directories that stay are no ghosts
/// any more: the returned ones are still to be made on disk, parents first.
///
/// Redirects of the layers below are not followed: imported layers have none.
pub(super) fn settle(
    b: &mut Builder,
    ghosts: &HashSet<EntryId>,
    layers: &[&Index],
) -> Result<Vec<EntryId>, UnpackError> {
    let roots: Vec<(usize, NodeId)> = (0..layers.len()).map(|i| (i, NodeId::ROOT)).collect();
    settle_root(b, layers, &roots)?;
    let mut lower: HashMap<EntryId, Lower> = HashMap::new();
    lower.insert(EntryId::ROOT, Rc::new(roots));
    let empty: Lower = Rc::new(Vec::new());
    let mut kept = Vec::new();
    for id in b.entries() {
        if id == EntryId::ROOT {
            continue;
        }
        let kind = b.meta(id).kind;
        if kind != Kind::Dir && kind != Kind::Whiteout {
            continue;
        }
        let dirs = lower.get(&b.parent(id)).unwrap_or(&empty);
        let shown = below(layers, dirs, b.name(id));
        match (kind, shown) {
            (Kind::Whiteout, Below::Nothing) => b.remove(id),
            (Kind::Whiteout, _) => {}
            (_, Below::Dir(found)) => {
                let m = b.meta(id);
                if m.implied {
                    take_over(b, id, layers, found[0])?;
                }
                if ghosts.contains(&id) {
                    kept.push(id);
                }
                lower.insert(id, if m.opaque { empty.clone() } else { Rc::new(found) });
            }
            (_, Below::Nothing | Below::Leaf(..)) => {
                if ghosts.contains(&id) {
                    b.remove(id);
                } else {
                    b.set_opaque(id, false);
                }
            }
        }
    }
    if kept.is_empty() { Ok(kept) } else { Ok(without_purpose(b, &kept)) }
}

/// The root of a layer cannot be opaque for the kernel: each name gets a mark of its own.
fn settle_root(
    b: &mut Builder,
    layers: &[&Index],
    roots: &[(usize, NodeId)],
) -> Result<(), UnpackError> {
    let m = b.meta(EntryId::ROOT);
    if m.implied && !layers.is_empty() {
        take_over(b, EntryId::ROOT, layers, (0, NodeId::ROOT))?;
    }
    if m.opaque {
        for name in names_below(layers, roots) {
            match b.child(EntryId::ROOT, &name) {
                Some(id) => b.set_opaque(id, true),
                None => {
                    b.add(EntryId::ROOT, &name, &Meta::new(Kind::Whiteout))?;
                }
            }
        }
        b.set_opaque(EntryId::ROOT, false);
    }
    Ok(())
}

/// Gives a directory without an entry of its own the attributes that it shows below.
fn take_over(
    b: &mut Builder,
    id: EntryId,
    layers: &[&Index],
    (layer, node): (usize, NodeId),
) -> Result<(), UnpackError> {
    let Some(n) = layers[layer].node(node) else { return Ok(()) };
    let own = b.meta(id);
    b.set(id, &Meta { mode: n.mode, uid: n.uid, gid: n.gid, mtime: n.mtime, ..own });
    let xattrs = layers[layer].xattrs(node).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    Ok(b.set_xattrs(id, xattrs, None)?)
}

/// Removes directories known from markers alone of which no marker is left; returns the others.
fn without_purpose(b: &mut Builder, kept: &[EntryId]) -> Vec<EntryId> {
    let mut children: HashMap<EntryId, usize> = HashMap::new();
    for id in b.entries() {
        *children.entry(b.parent(id)).or_default() += 1;
    }
    let mut out = Vec::new();
    for id in kept.iter().rev() {
        if b.meta(*id).opaque || children.get(id).is_some_and(|n| *n > 0) {
            out.push(*id);
        } else {
            let parent = b.parent(*id);
            b.remove(*id);
            children.entry(parent).and_modify(|n| *n -= 1);
        }
    }
    out.reverse();
    out
}
