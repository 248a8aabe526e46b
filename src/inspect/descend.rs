//! One step down a path in all layers at once: what each holds, and whether it is seen.
//!
//! The visible part goes the way of the mount's own lookup (`overlay::lookup`): directories that
//! are merged, redirects that are followed. What a layer holds but nobody sees is carried along.

use super::{LayerView, layer_ref, position_of};
use crate::index::{Index, Kind, NodeId};
use crate::marker::Redirect;
use crate::resolve::{Merge, Probe, Reason, Role};
use std::collections::BTreeSet;

/// How long a chain of redirects may be before it counts as a loop.
const REDIRECTS: usize = 64;

/// Why something is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A layer above has a whiteout.
    Whiteout,
    /// A layer above has an opaque directory.
    Opaque,
    /// A layer above has something that is no directory.
    NonDirectory,
    /// It is no directory itself, and a layer above has one.
    Directory,
    /// A directory above was renamed to this name and brings its own contents.
    Redirect,
}

/// What hides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hide {
    /// Position of the layer that hides it.
    pub(super) by: usize,
    pub(super) why: Why,
    /// At how many components of the path.
    pub(super) depth: usize,
}

/// Whether what a layer holds is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Provides,
    Merged,
    Deletes,
    Hidden(Hide),
}

/// What one layer holds at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) node: NodeId,
    pub(super) sight: Sight,
    /// It lies at another path in this layer.
    pub(super) redirected: bool,
}

impl Held {
    fn seen(&self) -> bool {
        matches!(self.sight, Sight::Provides | Sight::Merged)
    }
}

/// What all layers hold at one path, by position from the top.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) held: Vec<Option<Held>>,
    pub(super) depth: usize,
}

enum Look {
    Name(Box<[u8]>),
    Path(Vec<Box<[u8]>>),
}

impl Level {
    /// The root of the stack.
    pub(super) fn root(layers: &[LayerView]) -> Level {
        let mut merge = Merge::default();
        let held = (0..layers.len()).map(|i| {
            // the root's opaque mark means nothing to the mount, nor to the kernel
            let role = merge.feed(layer_ref(layers, i), Probe::Dir { opaque: false });
            let sight = if role == Role::Provides { Sight::Provides } else { Sight::Merged };
            Some(Held { node: NodeId::ROOT, sight, redirected: false })
        });
        Level { held: held.collect(), depth: 0 }
    }

    /// The layer whose file or directory is seen.
    pub(super) fn provider(&self) -> Option<(usize, NodeId)> {
        let at = |(i, h): (usize, &Option<Held>)| {
            h.filter(|h| h.sight == Sight::Provides).map(|h| (i, h.node))
        };
        self.held.iter().enumerate().find_map(at)
    }

    /// The layers whose directories are merged, top first.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, NodeId)> {
        let held = self.held.iter().enumerate();
        held.filter_map(|(i, h)| h.filter(Held::seen).map(|h| (i, h.node)))
    }

    /// The names that any of the merged directories holds, whiteouts included.
    pub(super) fn names<'l>(&self, layers: &'l [LayerView]) -> BTreeSet<&'l [u8]> {
        self.parts().flat_map(|(i, node)| names_in(&layers[i].index, node)).collect()
    }

    /// Takes one step down.
    pub(super) fn descend(&self, layers: &[LayerView], name: &[u8]) -> Level {
        let depth = self.depth + 1;
        let mut merge = Merge::default();
        let mut look = Look::Name(name.into());
        let mut renamed_in = None;
        let mut redirects = 0;
        // what ended the search on the way to a redirect's target
        let mut ended: Option<Hide> = None;
        let mut top = None;
        let mut held = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let index = &layer.index;
            let parent = self.held.get(i).copied().flatten();
            let by_name = |n: &[u8]| parent.and_then(|p| index.child(p.node, n));
            let hide = |by, why| Sight::Hidden(Hide { by, why, depth });
            let found = match &look {
                Look::Path(path) => {
                    let (node, ends) = walk(index, path);
                    if let Some(h) = ended {
                        let this = |node| Held { node, sight: Sight::Hidden(h), redirected: true };
                        held.push(node.map(this));
                        continue;
                    }
                    ended = ends.map(|why| Hide { by: i, why, depth });
                    node
                }
                Look::Name(_) if ended.is_some() => None,
                Look::Name(n) => parent.filter(Held::seen).and_then(|p| index.child(p.node, n)),
            };
            let Some(node) = found else {
                // something of this name may lie here all the same, where the mount does not look
                let unseen = by_name(name).map(|node| {
                    let sight = match (parent.map(|p| p.sight), renamed_in) {
                        (Some(Sight::Hidden(h)), _) => Sight::Hidden(h),
                        (_, Some(by)) => hide(by, Why::Redirect),
                        // cannot be: a part that is seen was asked for this name
                        _ => Sight::Merged,
                    };
                    Held { node, sight, redirected: false }
                });
                held.push(unseen);
                continue;
            };
            let is_whiteout = index.node(node).is_none_or(|n| n.kind == Kind::Whiteout);
            let role = merge.feed(layer_ref(layers, i), probe(index, node));
            let sight = match role {
                Role::Provides => Sight::Provides,
                Role::Merged if !is_whiteout => Sight::Merged,
                Role::Merged | Role::Deletes | Role::Absent => Sight::Deletes,
                Role::Hidden(cut) => match (position_of(layers, cut.by), cut.reason) {
                    (by, _) if by == i => hide(top.unwrap_or(by), Why::Directory),
                    (by, Reason::Whiteout) => hide(by, Why::Whiteout),
                    (by, Reason::Opaque) => hide(by, Why::Opaque),
                    (by, Reason::NonDirectory) => hide(by, Why::NonDirectory),
                },
            };
            if sight == Sight::Provides {
                top = Some(i);
            }
            let this = Held { node, sight, redirected: renamed_in.is_some() };
            if this.seen()
                && redirects < REDIRECTS
                && let Some(r) = directory_redirect(index, node)
            {
                redirects += 1;
                renamed_in = Some(i);
                look = match (look, r) {
                    (_, Redirect::Absolute(path)) => Look::Path(path),
                    (Look::Name(_), Redirect::Sibling(n)) => Look::Name(n),
                    (Look::Path(mut path), Redirect::Sibling(n)) => {
                        path.pop();
                        path.push(n);
                        Look::Path(path)
                    }
                };
            }
            held.push(Some(this));
        }
        Level { held, depth }
    }
}

fn names_in(index: &Index, dir: NodeId) -> impl Iterator<Item = &[u8]> {
    index.children(dir).filter_map(|k| index.node(NodeId(k)).map(|n| n.name))
}

fn probe(index: &Index, node: NodeId) -> Probe {
    match index.node(node) {
        Some(n) if n.kind == Kind::Dir => Probe::Dir { opaque: n.opaque },
        Some(n) if n.kind != Kind::Whiteout => Probe::Leaf,
        _ => Probe::Whiteout,
    }
}

fn directory_redirect(index: &Index, node: NodeId) -> Option<Redirect> {
    let n = index.node(node)?;
    if n.kind == Kind::Dir && n.has_redirect { index.redirect(node) } else { None }
}

/// Looks for a path in one layer; says also what on the way hides the layers below, as the mount's
/// own search does (`overlay::lookup`).
fn walk(index: &Index, path: &[Box<[u8]>]) -> (Option<NodeId>, Option<Why>) {
    let mut at = NodeId::ROOT;
    let mut ends = None;
    for (i, part) in path.iter().enumerate() {
        if i > 0 {
            match probe(index, at) {
                Probe::Dir { opaque: true } => ends = ends.or(Some(Why::Opaque)),
                Probe::Dir { opaque: false } => {}
                Probe::Leaf => return (None, Some(Why::NonDirectory)),
                Probe::Whiteout | Probe::Absent => return (None, Some(Why::Whiteout)),
            }
        }
        match index.child(at, part) {
            Some(node) => at = node,
            None => return (None, ends),
        }
    }
    (Some(at), ends)
}
