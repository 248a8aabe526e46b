//! Whether the layers of a chain are still those that were seen before, without reading them.
//!
//! A layer comes and goes by a rename or removal of its directory in `layerdb/sha256` and of the
//! one under `overlay2/`, which changes the time of the directory above. As long as both places
//! are as they were, so are the layers. When `layerdb/sha256` has changed, by another image
//! perhaps, the entries of the chain's own layers tell; when `overlay2` has, by a container
//! perhaps, its names do, for a cache id is random and never comes again.
//!
//! What is written into a file in place changes no directory: neither dockerd nor we do that.

use super::{Layer, Store, StoreError, layout};
use crate::id::ChainId;
use crate::sys::{Dir, Errno, Stat, Time};
use std::collections::HashSet;
use std::time::Duration;

/// How coarse the times are that file systems with fractions of a second give, at most: a tick of
/// the kernel's slowest clock is 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// How coarse those without are: ext3, ext4 with inodes of 128 bytes. No fraction is their mark.
const WHOLE_SECONDS: Duration = Duration::from_secs(2);

/// What tells a directory from another one under its name, and from itself after a change of its
/// entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// Last change of the inode, which a directory's names coming and going, and its own rename,
    /// are.
    pub ctime: Time,
}

impl From<Stat> for Stamp {
    fn from(s: Stat) -> Stamp {
        Stamp { ino: s.ino, ctime: s.ctime }
    }
}

/// The stamps of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Of `layerdb/sha256` and of `overlay2`.
    pub places: [Stamp; 2],
    /// Of each layer's entry in layerdb, bottom first.
    pub entries: Vec<Stamp>,
}

impl Stamps {
    /// Returns whether every later change would give another stamp: one made within the tick in
    /// which a stamp was taken would not. Of a file system that counts whole seconds that takes two
    /// of them.
    #[must_use]
    pub fn are_settled(&self, taken: Time) -> bool {
        let nanos = |t: Time| i128::from(t.sec) * 1_000_000_000 + i128::from(t.nsec);
        let settled = |t: Time| {
            let tick = if t.nsec == 0 { WHOLE_SECONDS } else { TICK };
            nanos(t) < nanos(taken) - tick.as_nanos() as i128
        };
        self.places.iter().chain(&self.entries).all(|s| settled(s.ctime))
    }

    /// Waits until what was changed before now is settled, where times have fractions of a second:
    /// for the others nobody wants to wait.
    pub fn settle() {
        std::thread::sleep(TICK);
    }
}

impl Store {
    /// Takes the stamps of a chain.
    ///
    /// # Errors
    /// A directory is missing or cannot be looked at.
    pub fn stamps(&self, chain: &[Layer]) -> Result<Stamps, StoreError> {
        let (entries, caches) = self.both_places()?;
        let stamps = Stamps {
            places: [
                self.place_stamp(&entries, layout::LAYERS)?,
                self.place_stamp(&caches, layout::OVERLAY2)?,
            ],
            entries: chain
                .iter()
                .map(|l| self.entry_stamp(&entries, &l.chain))
                .collect::<Result<_, StoreError>>()?,
        };
        self.find_caches(&caches, chain)?;
        Ok(stamps)
    }

    /// Returns whether a chain is as it was when its stamps were taken: `None` if not, else
    /// whether the stamp of `layerdb/sha256` is still the same too, so that this was told without
    /// looking at each layer. The uppermost layer is left to the caller, who reads it.
    ///
    /// # Errors
    /// A directory is missing or cannot be looked at.
    pub fn is_as_stamped(
        &self,
        chain: &[Layer],
        stamps: &Stamps,
    ) -> Result<Option<bool>, StoreError> {
        let (entries, caches) = self.both_places()?;
        let below = &chain[..chain.len().saturating_sub(1)];
        let same_entries = self.place_stamp(&entries, layout::LAYERS)? == stamps.places[0];
        if !same_entries {
            for (layer, stamp) in below.iter().zip(&stamps.entries) {
                if self.entry_stamp(&entries, &layer.chain)? != *stamp {
                    return Ok(None);
                }
            }
        }
        if self.place_stamp(&caches, layout::OVERLAY2)? != stamps.places[1] {
            self.find_caches(&caches, below)?;
        }
        Ok(Some(same_entries))
    }

    /// Finds the layers' directories under `overlay2/`, by whichever reads less of the disk: the
    /// whole list of names, or each directory's inode.
    fn find_caches(&self, caches: &Dir, chain: &[Layer]) -> Result<(), StoreError> {
        let at = |path: &str, e| self.io("look for", path, e);
        let blocks = caches.stat_self().map_err(|e| at(layout::OVERLAY2, e))?.size / 4096;
        let path = |l: &Layer| format!("{}/{}", layout::OVERLAY2, l.cache);
        if blocks > chain.len() as u64 {
            for l in chain {
                caches.stat(l.cache.as_str().as_bytes()).map_err(|e| at(&path(l), e))?;
            }
            return Ok(());
        }
        let mut names = HashSet::new();
        caches.for_each(|e| names.extend([e.name])).map_err(|e| at(layout::OVERLAY2, e))?;
        match chain.iter().find(|l| !names.contains(l.cache.as_str().as_bytes())) {
            Some(l) => Err(at(&path(l), Errno::NOENT)),
            None => Ok(()),
        }
    }

    fn both_places(&self) -> Result<(Dir, Dir), StoreError> {
        let open = |path| self.place(path)?.ok_or_else(|| self.io("open", path, Errno::NOENT));
        Ok((open(layout::LAYERS)?, open(layout::OVERLAY2)?))
    }

    fn place_stamp(&self, dir: &Dir, path: &str) -> Result<Stamp, StoreError> {
        dir.stat_self().map(Stamp::from).map_err(|e| self.io("stat", path, e))
    }

    fn entry_stamp(&self, entries: &Dir, chain: &ChainId) -> Result<Stamp, StoreError> {
        match entries.stat(chain.hex().as_bytes()) {
            Ok(s) => Ok(s.into()),
            Err(Errno::NOENT) => Err(StoreError::NoLayer(*chain)),
            Err(e) => Err(self.io("stat", &format!("{}/{}", layout::LAYERS, chain.hex()), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sec: i64, nsec: u32) -> Time {
        Time { sec, nsec }
    }

    fn stamps(ctime: Time) -> Stamps {
        Stamps { places: [Stamp { ino: 1, ctime }; 2], entries: Vec::new() }
    }

    #[test]
    fn what_changed_in_the_tick_of_the_look_is_not_settled() {
        assert!(stamps(at(7, 1)).are_settled(at(7, 20_000_002)));
        assert!(stamps(at(6, 999_999_999)).are_settled(at(7, 20_000_000)));
        assert!(!stamps(at(7, 1)).are_settled(at(7, 20_000_001)));
        // the clock was set back
        assert!(!stamps(at(9, 1)).are_settled(at(7, 1)));
        let mixed = Stamps { entries: vec![Stamp { ino: 1, ctime: at(8, 1) }], ..stamps(at(1, 1)) };
        assert!(!mixed.are_settled(at(8, 5)) && mixed.are_settled(at(9, 0)));
    }

    #[test]
    fn a_time_of_whole_seconds_settles_after_two_of_them() {
        // changed at 7.2, and once more at 7.9, which the file system calls 7 too
        assert!(!stamps(at(7, 0)).are_settled(at(7, 500_000_000)));
        assert!(!stamps(at(7, 0)).are_settled(at(9, 0)));
        assert!(stamps(at(7, 0)).are_settled(at(9, 1)));
        let mixed = Stamps { entries: vec![Stamp { ino: 1, ctime: at(8, 0) }], ..stamps(at(1, 1)) };
        assert!(!mixed.are_settled(at(9, 0)) && mixed.are_settled(at(10, 1)));
    }
}
