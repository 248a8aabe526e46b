//! Whether the layers of a chain are still those that were seen before, without reading them.
//!
//! A layer comes and goes by a rename or removal of its directory in `layerdb/sha256` and of the
//! one under `overlay2/`, which changes the time of the directory above. As long as both places
//! are as they were, so are the layers. When one has changed, by another image or a container
//! perhaps, the directories of the chain's own layers tell.
//!
//! What is written into a file in place changes no directory: neither dockerd nor we do that.

use super::{Layer, Store, StoreError, layout};
use crate::id::{CacheId, ChainId};
use crate::sys::{Dir, Errno, Stat, Time};
use std::time::Duration;

/// How coarse the times are that file systems give, at most: a tick of the slowest clock is 10 ms.
const TICK: Duration = Duration::from_millis(20);

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
    /// Of each layer's entry in layerdb and of its directory under `overlay2/`, bottom first.
    pub layers: Vec<[Stamp; 2]>,
}

impl Stamps {
    /// Returns whether every later change would give another stamp: one made within the tick in
    /// which a stamp was taken would not.
    #[must_use]
    pub fn are_settled(&self, taken: Time) -> bool {
        let nanos = |t: Time| i128::from(t.sec) * 1_000_000_000 + i128::from(t.nsec);
        let latest = nanos(taken) - TICK.as_nanos() as i128;
        let all = self.places.iter().chain(self.layers.iter().flatten());
        all.map(|s| nanos(s.ctime)).all(|t| t < latest)
    }

    /// Waits until what was changed before now is settled.
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
        let layer = |l: &Layer| {
            Ok([self.entry_stamp(&entries, &l.chain)?, self.cache_stamp(&caches, &l.cache)?])
        };
        Ok(Stamps {
            places: [self.place_stamp(&entries)?, self.place_stamp(&caches)?],
            layers: chain.iter().map(layer).collect::<Result<_, StoreError>>()?,
        })
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
        let below = || chain.iter().zip(&stamps.layers).take(chain.len().saturating_sub(1));
        let same_entries = self.place_stamp(&entries)? == stamps.places[0];
        if !same_entries {
            for (layer, stamp) in below() {
                if self.entry_stamp(&entries, &layer.chain)? != stamp[0] {
                    return Ok(None);
                }
            }
        }
        if self.place_stamp(&caches)? != stamps.places[1] {
            for (layer, stamp) in below() {
                if self.cache_stamp(&caches, &layer.cache)? != stamp[1] {
                    return Ok(None);
                }
            }
        }
        Ok(Some(same_entries))
    }

    fn both_places(&self) -> Result<(Dir, Dir), StoreError> {
        let open = |path| self.place(path)?.ok_or_else(|| self.io("open", path, Errno::NOENT));
        Ok((open(layout::LAYERS)?, open(layout::OVERLAY2)?))
    }

    fn place_stamp(&self, dir: &Dir) -> Result<Stamp, StoreError> {
        dir.stat_self().map(Stamp::from).map_err(|e| self.io("stat", "", e))
    }

    fn entry_stamp(&self, entries: &Dir, chain: &ChainId) -> Result<Stamp, StoreError> {
        match entries.stat(chain.hex().as_bytes()) {
            Ok(s) => Ok(s.into()),
            Err(Errno::NOENT) => Err(StoreError::NoLayer(*chain)),
            Err(e) => Err(self.io("stat", &format!("{}/{}", layout::LAYERS, chain.hex()), e)),
        }
    }

    fn cache_stamp(&self, caches: &Dir, cache: &CacheId) -> Result<Stamp, StoreError> {
        let at = |e| self.io("stat", &format!("{}/{cache}", layout::OVERLAY2), e);
        caches.stat(cache.as_str().as_bytes()).map(Stamp::from).map_err(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_in_the_tick_of_the_look_is_not_settled() {
        let at = |sec, nsec| Time { sec, nsec };
        let stamps = |ctime| Stamps { places: [Stamp { ino: 1, ctime }; 2], layers: Vec::new() };
        assert!(stamps(at(7, 0)).are_settled(at(7, 20_000_001)));
        assert!(stamps(at(6, 999_999_999)).are_settled(at(7, 20_000_000)));
        assert!(!stamps(at(7, 0)).are_settled(at(7, 20_000_000)));
        // the clock was set back
        assert!(!stamps(at(9, 0)).are_settled(at(7, 0)));
        let mixed = Stamps {
            layers: vec![[Stamp::default(), Stamp { ino: 1, ctime: at(8, 0) }]],
            ..stamps(at(1, 0))
        };
        assert!(!mixed.are_settled(at(8, 5)) && mixed.are_settled(at(9, 0)));
    }
}
