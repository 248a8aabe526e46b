//! Unchanged files of plain layers, in the few bytes that the table keeps of them while nobody
//! uses them: the node, the lookups and the links. Name, directory and number follow from the node.

use super::ino;
use super::inode::{Backing, FileInode, Place};
use super::lower::{At, LowerLayer};
use super::types::Ino;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Which directory of the view a lower directory is part of.
pub(super) type PartOf = RwLock<HashMap<At, Ino>>;

/// All that the table keeps of a file at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resting {
    pub(super) at: At,
    pub(super) lookups: u16,
    /// See `FileInode::links_below`.
    links: u8,
}

/// Puts files to rest and wakes them.
#[derive(Debug)]
pub(super) struct AtRest {
    lowers: Arc<[LowerLayer]>,
    part_of: Arc<PartOf>,
}

impl AtRest {
    pub(super) fn new(lowers: Arc<[LowerLayer]>, part_of: Arc<PartOf>) -> AtRest {
        AtRest { lowers, part_of }
    }

    /// Returns what to keep of a file if that says all there is to say: it is in a plain layer alone,
    /// under one name as far as was looked up, and nobody has it open. Never waits for its state.
    pub(super) fn lay_down(&self, file: &FileInode) -> Option<Resting> {
        let below = file.below.filter(|_| ino::decode(file.ino).is_none())?;
        let state = file.state.try_read()?;
        let [place] = state.lower_names.as_slice() else { return None };
        let plain = state.backing == Backing::Lower(below) && state.is_as_found() && file.is_idle();
        let again = || Some(self.number(below)? == file.ino && self.place(below)? == *place);
        let resting = Resting {
            at: below,
            lookups: file.lookups.load(Ordering::Acquire).try_into().ok()?,
            links: file.links_below.load(Ordering::Acquire).try_into().ok()?,
        };
        (plain && again()?).then_some(resting)
    }

    /// Returns what to keep of a file of one name that was just looked up as `name` in `parent` for the
    /// first time, as [`lay_down`](Self::lay_down) would.
    pub(super) fn found(
        &self,
        (number, at): (Ino, At),
        parent: Ino,
        name: &[u8],
    ) -> Option<Resting> {
        let layer = self.lowers.get(at.layer.0 as usize)?;
        let dir = At { layer: at.layer, node: layer.parent(at.node) };
        let here = ino::decode(number).is_none()
            && layer.ino(at.node) == number
            && *self.part_of.read().get(&dir)? == parent
            && layer.with_name(at.node, |n| n == name);
        here.then_some(Resting { at, lookups: 1, links: 1 })
    }

    /// Returns the object of a file at rest.
    pub(super) fn wake(&self, number: Ino, resting: Resting) -> FileInode {
        let file = FileInode::lower(number, resting.at);
        file.lookups.store(resting.lookups.into(), Ordering::Relaxed);
        file.links_below.store(resting.links.into(), Ordering::Relaxed);
        // else its directory went, and with it the name
        if let Some(place) = self.place(resting.at) {
            file.state.write().add_lower_name(place);
        }
        file
    }

    fn number(&self, at: At) -> Option<Ino> {
        Some(self.lowers.get(at.layer.0 as usize)?.ino(at.node))
    }

    fn place(&self, at: At) -> Option<Place> {
        let layer = self.lowers.get(at.layer.0 as usize)?;
        let dir = At { layer: at.layer, node: layer.parent(at.node) };
        let parent = *self.part_of.read().get(&dir)?;
        Some(Place { parent, name: layer.with_name(at.node, |n| n.into()) })
    }
}
