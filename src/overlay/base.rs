//! What the lowers alone show in a directory: their merged listing, small enough for a million
//! entries.

use super::error::Result;
use super::lower::{At, LowerLayer};
use crate::id::LayerIndex;
use crate::index::{Kind, NodeId};
use crate::sys::FileType;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// For how many entries a directory must have seen a change to be worth a table of its names.
const ENTRIES_A_CHANGE: u64 = 16;

/// An entry that the lowers show.
#[derive(Clone, Copy, Debug)]
pub(super) struct BaseEntry {
    pub(super) at: At,
    pub(super) kind: FileType,
}

/// The merged listing of the lowers alone.
#[derive(Debug, Default)]
pub(super) struct Base {
    entries: Vec<PackedEntry>,
    /// Positions in `entries` by hash of the name; empty while the entries are sorted by name.
    table: HashTable<u32>,
    sorted: bool,
    hasher: hashbrown::DefaultHashBuilder,
}

/// 8 bytes an entry; the name is read from its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedEntry {
    node: u32,
    layer: u16,
    kind: Kind,
}

impl PackedEntry {
    fn at(self) -> At {
        At { layer: LayerIndex(self.layer.into()), node: NodeId(self.node) }
    }
}

impl Base {
    /// Merges the directories `parts`, top first.
    pub(super) fn merge(layers: &[LowerLayer], parts: &[At]) -> Result<Base> {
        let mut base = Base::default();
        if let [only] = parts {
            // sorted by the layer already, so that no table is needed
            base.sorted = true;
            if let Some(layer) = layers.get(only.layer.0 as usize) {
                layer.for_children(only.node, &mut |_, node, kind| {
                    base.entries.push(PackedEntry {
                        node: node.0,
                        layer: only.layer.0 as u16,
                        kind,
                    });
                })?;
            }
            base.entries.shrink_to_fit();
            return Ok(base);
        }
        for at in parts {
            let Some(layer) = layers.get(at.layer.0 as usize) else { continue };
            layer.for_children(at.node, &mut |name, node, kind| {
                let hash = base.hasher.hash_one(name);
                let same = |pos: &u32| is_named(layers, &base.entries, *pos, name);
                // the topmost layer decides: entry, whiteout or directory
                if base.table.find(hash, same).is_some() {
                    return;
                }
                let pos = base.entries.len() as u32;
                base.entries.push(PackedEntry { node: node.0, layer: at.layer.0 as u16, kind });
                let hasher = &base.hasher;
                let entries = &base.entries;
                base.table.insert_unique(hash, pos, |p| hash_of(layers, entries, hasher, *p));
            })?;
        }
        base.entries.shrink_to_fit();
        Ok(base)
    }

    /// Returns the position of `name`, if the lowers show it.
    pub(super) fn find(&self, layers: &[LowerLayer], name: &[u8]) -> Option<u32> {
        let pos = self.position(layers, name)?;
        self.get(pos).map(|_| pos)
    }

    /// Returns the position of `name`, also if it is a whiteout or went.
    pub(super) fn position(&self, layers: &[LowerLayer], name: &[u8]) -> Option<u32> {
        Some(if self.sorted {
            // all of one layer, which is asked once
            let layer = layers.get(usize::from(self.entries.first()?.layer))?;
            layer.search(&self.entries, |e| NodeId(e.node), name)? as u32
        } else {
            let hash = self.hasher.hash_one(name);
            *self.table.find(hash, |pos| is_named(layers, &self.entries, *pos, name))?
        })
    }

    /// Notes that so many entries were changed so far. A directory whose names are searched again and
    /// again is worth a table of them, which takes as long as some searches for each entry.
    pub(super) fn changed(&mut self, layers: &[LowerLayer], changes: u64) {
        if self.sorted && changes >= self.entries.len() as u64 / ENTRIES_A_CHANGE {
            self.tabulate(layers);
        }
    }

    /// Makes the table anew.
    fn tabulate(&mut self, layers: &[LowerLayer]) {
        let (hasher, entries) = (&self.hasher, &self.entries);
        let hash = |pos: &u32| hash_of(layers, entries, hasher, *pos);
        self.table.clear();
        self.table.reserve(entries.len(), hash);
        for pos in 0..entries.len() as u32 {
            self.table.insert_unique(hash(&pos), pos, hash);
        }
        self.sorted = false;
    }

    /// Takes over what the layers show by now. Names keep their positions, new ones come last.
    /// Returns the positions of names that are not what they were.
    pub(super) fn update(&mut self, layers: &[LowerLayer], parts: &[At]) -> Result<Vec<u32>> {
        let new = Base::merge(layers, parts)?;
        let mut changed = Vec::new();
        let mut taken = vec![false; new.entries.len()];
        let mut entries = self.entries.clone();
        for (pos, e) in entries.iter_mut().enumerate() {
            let name: Box<[u8]> = name_of(layers, *e);
            let now = new.position(layers, &name);
            let now = now.and_then(|n| Some((n as usize, *new.entries.get(n as usize)?)));
            match now {
                Some((n, entry)) => {
                    taken[n] = true;
                    if entry != *e {
                        *e = entry;
                        changed.push(pos as u32);
                    }
                }
                // a whiteout shows nothing
                None if e.kind != Kind::Whiteout => {
                    e.kind = Kind::Whiteout;
                    changed.push(pos as u32);
                }
                None => {}
            }
        }
        for (entry, _) in new.entries.iter().zip(taken).filter(|(_, taken)| !taken) {
            changed.push(entries.len() as u32);
            entries.push(*entry);
        }
        self.entries = entries;
        if !changed.is_empty() {
            self.tabulate(layers);
        }
        Ok(changed)
    }

    /// Returns the entry at a position; `None` for a whiteout or past the end.
    pub(super) fn get(&self, pos: u32) -> Option<BaseEntry> {
        let e = self.entries.get(pos as usize)?;
        Some(BaseEntry { at: e.at(), kind: e.kind.file_type()? })
    }

    /// Returns the name at a position.
    pub(super) fn name_at(&self, layers: &[LowerLayer], pos: u32) -> Option<Box<[u8]>> {
        self.entries.get(pos as usize).map(|e| name_of(layers, *e))
    }

    /// Returns the number of positions, those of whiteouts included.
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }
}

fn name_of(layers: &[LowerLayer], e: PackedEntry) -> Box<[u8]> {
    let layer = layers.get(usize::from(e.layer));
    layer.map(|l| l.with_name(NodeId(e.node), |n| Box::from(n))).unwrap_or_default()
}

fn is_named(layers: &[LowerLayer], entries: &[PackedEntry], pos: u32, name: &[u8]) -> bool {
    entries.get(pos as usize).is_some_and(|e| {
        layers.get(usize::from(e.layer)).is_some_and(|l| l.with_name(NodeId(e.node), |n| n == name))
    })
}

fn hash_of(
    layers: &[LowerLayer],
    entries: &[PackedEntry],
    hasher: &hashbrown::DefaultHashBuilder,
    pos: u32,
) -> u64 {
    let named =
        entries.get(pos as usize).and_then(|e| Some((e, layers.get(usize::from(e.layer))?)));
    named.map_or(0, |(e, l)| l.with_name(NodeId(e.node), |n| hasher.hash_one(n)))
}
