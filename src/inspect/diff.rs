//! What a container changed, as `docker diff` tells it: the merged view with the upper compared
//! with the one below it.

use super::descend::Level;
use super::{InspectError, LayerKind, LayerView, Layers};
use crate::index::{Index, Kind, Node, NodeId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ChangeKind {
    /// It is new.
    #[serde(rename = "A")]
    Added,
    /// It, or something below it, is not as it was.
    #[serde(rename = "C")]
    Changed,
    /// It is gone.
    #[serde(rename = "D")]
    Deleted,
}

impl ChangeKind {
    /// Returns Docker's letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// A change of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The path from the root, beginning with a slash.
    pub path: Vec<u8>,
}

/// Returns what the upper changes, sorted by path. A deleted directory is one change; the root is
/// never listed.
///
/// # Errors
/// [`InspectError::NoUpper`] if the topmost layer is not an [`LayerKind::Upper`].
pub fn diff(layers: &Layers) -> Result<Vec<Change>, InspectError> {
    let new = layers.0.as_slice();
    let old = match new.split_first() {
        Some((top, rest)) if top.kind == LayerKind::Upper => rest,
        _ => return Err(InspectError::NoUpper),
    };
    let mut changes = Changes::default();
    // a list of what is to be compared rather than recursion: layers decide how deep paths are
    let mut waiting = vec![(Vec::new(), Level::root(new), Some(Level::root(old)))];
    while let Some((dir, now, before)) = waiting.pop() {
        let mut names: BTreeSet<&[u8]> = now.names(new);
        if let Some(before) = &before {
            names.extend(before.names(old));
        }
        for name in names {
            let path = [&dir, &b"/"[..], name].concat();
            let now = now.descend(new, name);
            let before = before.as_ref().map(|b| b.descend(old, name));
            let a = found(new, &now);
            let b = before.as_ref().and_then(|b| found(old, b));
            match (a, b) {
                (None, None) => continue,
                (None, Some(_)) => changes.put(ChangeKind::Deleted, &path),
                (Some(_), None) => changes.put(ChangeKind::Added, &path),
                (Some(a), Some(b)) => {
                    if before.as_ref().is_some_and(|b| same_parts(&now, b)) {
                        continue;
                    }
                    if differ(a, b) {
                        changes.put(ChangeKind::Changed, &path);
                    }
                }
            }
            if a.is_some_and(|(_, n)| n.kind == Kind::Dir) {
                let was_dir = b.is_some_and(|(_, n)| n.kind == Kind::Dir);
                waiting.push((path, now, before.filter(|_| was_dir)));
            }
        }
    }
    Ok(changes.0.into_iter().map(|(path, kind)| Change { kind, path }).collect())
}

#[derive(Default)]
struct Changes(BTreeMap<Vec<u8>, ChangeKind>);

impl Changes {
    /// Notes a change; the directories above it count as changed, unless they are new.
    fn put(&mut self, kind: ChangeKind, path: &[u8]) {
        self.0.insert(path.to_vec(), kind);
        let mut above = path;
        while let Some(cut) = above.iter().rposition(|b| *b == b'/').filter(|cut| *cut > 0) {
            above = &above[..cut];
            if self.0.contains_key(above) {
                return;
            }
            self.0.insert(above.to_vec(), ChangeKind::Changed);
        }
    }
}

fn found<'l>(layers: &'l [LayerView], level: &Level) -> Option<(&'l Index, Node<'l>)> {
    let (i, node) = level.provider()?;
    let index = &*layers.get(i)?.index;
    Some((index, index.node(node)?))
}

/// Whether both show the same nodes of the same layers. The new stack has one layer more on top.
fn same_parts(new: &Level, old: &Level) -> bool {
    new.parts().eq(old.parts().map(|(i, node)| (i + 1, node)))
}

/// Docker's rule: what a copy-up cannot change by itself. A directory's size and time do not
/// count, nor does a lost fraction of a second.
fn differ((ni, new): (&Index, Node<'_>), (oi, old): (&Index, Node<'_>)) -> bool {
    let times = new.mtime.sec != old.mtime.sec
        || (new.mtime.nsec != old.mtime.nsec && new.mtime.nsec != 0 && old.mtime.nsec != 0);
    new.kind != old.kind
        || (new.mode, new.uid, new.gid, new.rdev) != (old.mode, old.uid, old.gid, old.rdev)
        || (new.kind != Kind::Dir && (times || new.size != old.size))
        || capability(ni, new.id) != capability(oi, old.id)
}

fn capability(index: &Index, node: NodeId) -> Option<&[u8]> {
    index.xattrs(node).find(|(key, _)| *key == b"security.capability").map(|(_, value)| value)
}
