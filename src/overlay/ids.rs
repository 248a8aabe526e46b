//! Owners on their way between the layers and the mount: what the mounter's user namespace does
//! not know, and what he wants shown as another's.
//!
//! The engine works with the ids that the layers hold. They are changed here, at its boundary:
//! on the way out by [`IdView::show`], on the way in by [`IdMap::stored`].

use super::types::{Attr, Caller};

/// Ids as inclusive ranges, and whose an unknown one is shown as.
///
/// The kernel takes an unknown owner for nobody's and lets no one write such a file. Who mounts
/// in a namespace of his own (`unshare -Ur`) is to work with his files: what he cannot name is
/// shown as his own, as it is on his disk. The recorded owner stays what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownIds {
    /// Known user ids: first and last.
    pub uids: Vec<(u32, u32)>,
    /// Known group ids: first and last.
    pub gids: Vec<(u32, u32)>,
    /// The user that others are shown as.
    pub uid: u32,
    /// The group that others are shown as.
    pub gid: u32,
}

impl KnownIds {
    pub(super) fn apply(&self, attr: &mut Attr) {
        let known = |ranges: &[(u32, u32)], id| ranges.iter().any(|(a, b)| (*a..=*b).contains(&id));
        if !known(&self.uids, attr.uid) {
            attr.uid = self.uid;
        }
        if !known(&self.gids, attr.gid) {
            attr.gid = self.gid;
        }
    }
}

/// `count` ids that the layers hold from `stored` on and the mount shows from `shown` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id in the layers.
    pub stored: u32,
    /// The first id in the mount.
    pub shown: u32,
    /// How many there are.
    pub count: u32,
}

/// Users, or groups, that the mount shows otherwise than the layers hold them. The default
/// changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// The first range that holds an id counts. Without any, ids are shown as they are.
    pub ranges: Vec<IdRange>,
    /// Every id is shown as this one.
    pub squash: Option<u32>,
    /// What an id outside of all ranges becomes, in both directions.
    pub overflow: u32,
}

impl IdMap {
    /// Returns what the mount shows for an id of the layers.
    #[must_use]
    pub fn shown(&self, id: u32) -> u32 {
        self.squash.unwrap_or_else(|| self.through(id, |r| (r.stored, r.shown)))
    }

    /// Returns what the layers hold for an id of the mount.
    #[must_use]
    pub fn stored(&self, id: u32) -> u32 {
        self.through(id, |r| (r.shown, r.stored))
    }

    fn through(&self, id: u32, ends: impl Fn(&IdRange) -> (u32, u32)) -> u32 {
        if self.ranges.is_empty() {
            return id;
        }
        let hit = self.ranges.iter().find_map(|r| {
            let (from, to) = ends(r);
            let offset = id.checked_sub(from).filter(|o| *o < r.count)?;
            to.checked_add(offset)
        });
        hit.unwrap_or(self.overflow)
    }
}

/// Whose files the mount shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdView {
    /// Users.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
}

impl IdView {
    pub(super) fn show(&self, attr: &mut Attr) {
        attr.uid = self.uids.shown(attr.uid);
        attr.gid = self.gids.shown(attr.gid);
    }

    /// Returns who a caller is to the layers.
    pub(super) fn caller(&self, caller: Caller) -> Caller {
        Caller { uid: self.uids.stored(caller.uid), gid: self.gids.stored(caller.gid) }
    }

    /// Returns whether owners are hidden, so that it does not matter whether one can be set.
    pub(super) fn squashes(&self) -> bool {
        self.uids.squash.is_some() || self.gids.squash.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u32, u32, u32)]) -> IdMap {
        let ranges =
            ranges.iter().map(|&(stored, shown, count)| IdRange { stored, shown, count }).collect();
        IdMap { ranges, squash: None, overflow: 65534 }
    }

    #[test]
    fn ids_go_through_ranges_both_ways() {
        let m = map(&[(0, 1000, 1), (1, 100_000, 65536)]);
        for (stored, shown) in [(0, 1000), (1, 100_000), (65536, 165_535)] {
            assert_eq!(m.shown(stored), shown);
            assert_eq!(m.stored(shown), stored);
        }
        assert_eq!(m.shown(65537), 65534);
        assert_eq!(m.stored(0), 65534);
    }

    #[test]
    fn without_ranges_ids_stay_and_a_range_past_the_end_does_not_wrap() {
        assert_eq!(IdMap::default().shown(7), 7);
        assert_eq!(IdMap::default().stored(7), 7);
        let m = map(&[(0, u32::MAX - 1, 10)]);
        assert_eq!(m.shown(1), u32::MAX);
        assert_eq!(m.shown(2), 65534);
    }

    #[test]
    fn squashing_hides_the_ranges_but_not_who_writes() {
        let m = IdMap { squash: Some(0), ..map(&[(0, 1000, 10)]) };
        assert_eq!(m.shown(3), 0);
        assert_eq!(m.stored(1003), 3);
    }
}
