//! What one directory of the merged view shows: the lowers' part, which changes only when somebody
//! edits them, and what the upper changed on top of it.
//!
//! Cookies of entries never change and are never used for another name, so that a listing can go on
//! after any number of changes: 1 and 2 are `.` and `..`, `3 + position` the lowers' entries, and
//! from [`OWN`] on those of the upper in the order in which they came. What takes the place of an
//! entry takes its cookie.

use super::base::{Base, BaseEntry};
use super::error::Result;
use super::lower::{At, LowerLayer};
use super::types::Ino;
use crate::marker::Redirect;
use crate::sys::FileType;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// First cookie of the lowers' entries.
pub(super) const BASE: u64 = 3;
/// First cookie of the upper's entries.
pub(super) const OWN: u64 = 1 << 40;

/// What the upper holds under a name.
#[derive(Clone, Debug)]
pub(super) struct OwnEntry {
    pub(super) name: Arc<[u8]>,
    pub(super) ino: Ino,
    /// Inode number in the upper's file system.
    pub(super) real: u64,
    pub(super) kind: FileType,
    /// For a directory: which lower directories lie below it.
    pub(super) below: Below,
}

/// Which lower directories an upper directory is merged with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// Those of its name.
    SameName,
    /// None: it is opaque, or no directory.
    Nothing,
    /// Those at another place.
    Redirected(Redirect),
}

/// A directory's whole listing.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) base: Base,
    /// `None` while the upper has nothing here, as in most directories.
    upper: Option<Box<UpperPart>>,
    /// Whether the lowers are hidden altogether: the base only keeps its places in the listing.
    detached: bool,
    /// Where walks end: the next cookie when the latest of them began. Who renames each entry that
    /// he reads would else never come to an end.
    end: AtomicU64,
}

/// What the upper changes about a listing of the lowers.
#[derive(Debug, Default)]
struct UpperPart {
    /// Positions of the base that the upper replaced or deleted.
    hidden: HashSet<u32>,
    /// Positions of the base at which the upper has something: the lowers' file copied up, or
    /// another one.
    copied: HashMap<u32, OwnEntry>,
    /// Names at which the upper holds a whiteout.
    whiteouts: HashSet<Box<[u8]>>,
    by_name: HashMap<Arc<[u8]>, u64>,
    own: BTreeMap<u64, OwnEntry>,
    /// How many cookies were given to entries of its own.
    given: u64,
}

impl UpperPart {
    fn entry(&self, name: &[u8]) -> Option<&OwnEntry> {
        self.own.get(self.by_name.get(name)?)
    }

    fn is_hidden(&self, pos: u32) -> bool {
        self.hidden.contains(&pos)
    }

    fn entries(&self) -> impl Iterator<Item = &OwnEntry> {
        self.own.values().chain(self.copied.values())
    }
}

/// An entry found by name.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The upper's.
    Own(OwnEntry),
    /// The lowers'.
    Base(BaseEntry),
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        match self {
            Found::Own(e) => e.kind,
            Found::Base(e) => e.kind,
        }
    }
}

impl Listing {
    pub(super) fn new(base: Base) -> Listing {
        Listing { base, upper: None, detached: false, end: AtomicU64::new(u64::MAX) }
    }

    fn upper(&mut self) -> &mut UpperPart {
        self.upper.get_or_insert_default()
    }

    /// Returns about how many entries the upper has changed so far.
    fn changes(&self) -> u64 {
        let at_base = |u: &UpperPart| (u.copied.len() + u.hidden.len()) as u64;
        self.upper.as_ref().map_or(0, |u| u.given + at_base(u))
    }

    /// Returns what is visible under `name`.
    pub(super) fn find(&self, layers: &[LowerLayer], name: &[u8]) -> Option<Found> {
        if let Some(e) = self.upper.as_ref().and_then(|u| u.entry(name)) {
            return Some(Found::Own(e.clone()));
        }
        self.at(self.base.position(layers, name)?)
    }

    /// Takes over what the lowers show by now in the directories `parts`. Returns the names that
    /// lead elsewhere than before.
    pub(super) fn rebase(&mut self, layers: &[LowerLayer], parts: &[At]) -> Result<Vec<Box<[u8]>>> {
        let mut names = Vec::new();
        for pos in self.base.update(layers, parts)? {
            let Some(name) = self.base.name_at(layers, pos) else { continue };
            let Some(upper) = &mut self.upper else {
                names.push(name);
                continue;
            };
            if upper.by_name.contains_key(&name[..]) || upper.whiteouts.contains(&name[..]) {
                upper.hidden.insert(pos);
            }
            if !upper.is_hidden(pos) && !upper.copied.contains_key(&pos) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Returns what is visible at a position of the base.
    fn at(&self, pos: u32) -> Option<Found> {
        if let Some(upper) = &self.upper {
            if upper.is_hidden(pos) {
                return None;
            }
            if let Some(e) = upper.copied.get(&pos) {
                return Some(Found::Own(e.clone()));
            }
        }
        self.base.get(pos).map(Found::Base)
    }

    /// Notes that the file which the lowers show under a name was copied up. It keeps its cookie:
    /// whoever is listing the directory sees it once.
    pub(super) fn copied_up(&mut self, layers: &[LowerLayer], entry: OwnEntry) {
        let pos = self.base.find(layers, &entry.name);
        match pos.filter(|pos| !self.upper().is_hidden(*pos)) {
            Some(pos) => {
                self.upper().copied.insert(pos, entry);
            }
            None => self.put(layers, entry),
        }
    }

    /// Returns whether the lowers show `name`: removing it takes a whiteout.
    pub(super) fn in_lowers(&self, layers: &[LowerLayer], name: &[u8]) -> bool {
        !self.detached && self.base.find(layers, name).is_some()
    }

    /// Returns whether the upper holds a whiteout under `name`.
    pub(super) fn has_whiteout(&self, name: &[u8]) -> bool {
        self.upper.as_ref().is_some_and(|u| u.whiteouts.contains(name))
    }

    /// Returns whether the upper holds any whiteout in this directory.
    pub(super) fn has_whiteouts(&self) -> bool {
        self.upper.as_ref().is_some_and(|u| !u.whiteouts.is_empty())
    }

    /// Returns the names of the whiteouts that the upper holds in this directory.
    pub(super) fn whiteouts(&self) -> Vec<Box<[u8]>> {
        self.upper.iter().flat_map(|u| u.whiteouts.iter().cloned()).collect()
    }

    /// Notes that the upper's directory is opaque now and holds all that is visible. Returns the
    /// whiteouts that it has no more need of.
    pub(super) fn detach(&mut self) -> Vec<Box<[u8]>> {
        self.detached = true;
        let Some(upper) = &mut self.upper else { return Vec::new() };
        let entries = upper.own.values_mut().chain(upper.copied.values_mut());
        entries.for_each(|e| e.below = Below::Nothing);
        upper.whiteouts.drain().collect()
    }

    /// Notes that the upper's directory is empty and opaque now.
    pub(super) fn cleared(&mut self) {
        if let Some(upper) = &mut self.upper {
            upper.whiteouts.clear();
        }
    }

    /// Takes in an entry that the upper holds under a name.
    pub(super) fn put(&mut self, layers: &[LowerLayer], entry: OwnEntry) {
        self.base.changed(layers, self.changes());
        let pos = self.base.position(layers, &entry.name);
        let upper = self.upper();
        upper.whiteouts.remove(&entry.name[..]);
        // where the name was, so that a walk that has not come there yet does not miss it
        if let Some(cookie) = upper.by_name.get(&entry.name) {
            upper.own.insert(*cookie, entry);
            return;
        }
        if let Some(pos) = pos {
            upper.hidden.remove(&pos);
            upper.copied.insert(pos, entry);
            return;
        }
        let cookie = OWN + upper.given;
        upper.given += 1;
        upper.by_name.insert(entry.name.clone(), cookie);
        upper.own.insert(cookie, entry);
    }

    /// Takes `name` out of the view; `whiteout`: the upper holds one there now.
    pub(super) fn remove(&mut self, layers: &[LowerLayer], name: &[u8], whiteout: bool) {
        self.base.changed(layers, self.changes());
        let pos = self.base.position(layers, name);
        let upper = self.upper();
        if let Some(cookie) = upper.by_name.remove(name) {
            upper.own.remove(&cookie);
        }
        if let Some(pos) = pos {
            upper.hidden.insert(pos);
            upper.copied.remove(&pos);
        }
        if whiteout {
            upper.whiteouts.insert(name.into());
        } else {
            upper.whiteouts.remove(name);
        }
    }

    /// Notes that another inode of the upper's file system is under a name now.
    pub(super) fn renumber(&mut self, layers: &[LowerLayer], name: &[u8], real: u64) {
        let Some(upper) = &mut self.upper else { return };
        let entry = match upper.by_name.get(name) {
            Some(cookie) => upper.own.get_mut(cookie),
            None => self.base.position(layers, name).and_then(|pos| upper.copied.get_mut(&pos)),
        };
        if let Some(e) = entry {
            e.real = real;
        }
    }

    /// Returns whether nothing is visible.
    pub(super) fn is_empty(&self) -> bool {
        self.upper.as_ref().is_none_or(|u| u.own.is_empty())
            && (0..self.base.len()).all(|p| self.at(p).is_none())
    }

    /// Returns the directories that the upper holds here.
    pub(super) fn own_dirs(&self) -> Vec<OwnEntry> {
        let all = self.upper.iter().flat_map(|u| u.entries());
        all.filter(|e| e.kind == FileType::Dir).cloned().collect()
    }

    /// Notes that a walk begins: it shows what is here now.
    pub(super) fn begin_walk(&self) {
        let given = self.upper.as_ref().map_or(0, |u| u.given);
        self.end.store(OWN + given, Ordering::Relaxed);
    }

    /// Returns whether a walk that has come to the entry before this cookie is past its end.
    pub(super) fn is_past_walk(&self, cookie: u64) -> bool {
        cookie > self.end.load(Ordering::Relaxed)
    }

    /// Returns the first visible entry at or after a cookie, with the cookie behind it.
    pub(super) fn next_from(&self, cookie: u64) -> Option<(Found, u64)> {
        if cookie < OWN {
            let first = u32::try_from(cookie.saturating_sub(BASE)).unwrap_or(u32::MAX);
            for pos in first..self.base.len() {
                if let Some(found) = self.at(pos) {
                    return Some((found, BASE + u64::from(pos) + 1));
                }
            }
        }
        let (c, e) = self.upper.as_ref()?.own.range(cookie.max(OWN)..).next()?;
        Some((Found::Own(e.clone()), c + 1))
    }
}
