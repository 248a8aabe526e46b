//! Inode numbers below 2^32, for programs that cannot take longer ones (`xino=off`).
//!
//! fuser sends the inode number as the node id too, so the kernel names inodes by these, and every
//! request is translated back. A number is a function of the engine's, which stays over remounts;
//! of two that would meet, the one that comes second gets the next free number. Entries stay for
//! the life of the mount, about 20 bytes each: a number given back could come to another file.

use crate::overlay::Ino;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

const SHARDS: u32 = 16;
/// 0 means "no such name" in FUSE, 1 is the root.
const FIRST: u32 = 2;

/// Which number stands for which inode.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The owner of each number in use.
    owners: [RwLock<HashMap<u32, Ino>>; SHARDS as usize],
    /// The numbers of those whose own one was taken.
    displaced: Mutex<HashMap<Ino, u32>>,
}

/// Returns the number that an inode has if nobody else has it.
fn own(ino: Ino) -> u32 {
    match u32::try_from(ino.0) {
        // as on disk, in most views
        Ok(n) => n,
        Err(_) => ((ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32).max(FIRST),
    }
}

impl Numbers {
    fn shard(&self, number: u32) -> &RwLock<HashMap<u32, Ino>> {
        &self.owners[(number % SHARDS) as usize]
    }

    /// Takes a number for an inode; false: it is another's.
    fn take(&self, number: u32, ino: Ino) -> bool {
        let shard = self.shard(number);
        if let Some(owner) = shard.read().get(&number) {
            return *owner == ino;
        }
        *shard.write().entry(number).or_insert(ino) == ino
    }

    /// Returns the number of an inode, now and for as long as the mount lives.
    pub(super) fn number(&self, ino: Ino) -> u64 {
        let own = own(ino);
        if ino == Ino::ROOT || self.take(own, ino) {
            return own.into();
        }
        // held all the time, so that two threads do not find two numbers
        let mut displaced = self.displaced.lock();
        if let Some(n) = displaced.get(&ino) {
            return (*n).into();
        }
        let mut next = own;
        loop {
            next = next.wrapping_add(1).max(FIRST);
            if self.take(next, ino) {
                displaced.insert(ino, next);
                return next.into();
            }
            if next == own {
                // four thousand million files in use: it shares its number in what is shown only
                return own.into();
            }
        }
    }

    /// Returns the number of an inode, if it has one: else the kernel does not know it.
    pub(super) fn known(&self, ino: Ino) -> Option<u64> {
        let own = own(ino);
        if ino == Ino::ROOT || self.shard(own).read().get(&own) == Some(&ino) {
            return Some(own.into());
        }
        self.displaced.lock().get(&ino).map(|n| (*n).into())
    }

    /// Returns the inode of a number; one that was never given is that of no inode.
    pub(super) fn ino(&self, number: u64) -> Ino {
        if number == Ino::ROOT.0 {
            return Ino::ROOT;
        }
        let owner = u32::try_from(number).ok().and_then(|n| self.shard(n).read().get(&n).copied());
        owner.unwrap_or(Ino(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_stay_and_large_ones_come_back() {
        let n = Numbers::default();
        assert_eq!((n.number(Ino::ROOT), n.ino(1)), (1, Ino::ROOT));
        assert_eq!(n.number(Ino(4711)), 4711);
        for i in 0..100_000_u64 {
            let ino = Ino(1 << 62 | 3 << 40 | i);
            let number = n.number(ino);
            assert!((2..1 << 32).contains(&number));
            assert_eq!((n.ino(number), n.known(ino)), (ino, Some(number)));
            assert_eq!(n.number(ino), number);
        }
        // another mount of the same
        let again = Numbers::default();
        assert_eq!(n.number(Ino(1 << 62)), again.number(Ino(1 << 62)));
    }

    #[test]
    fn who_finds_his_number_taken_gets_another_for_good() {
        let n = Numbers::default();
        let large = Ino(1 << 50);
        let taken = u64::from(own(large));
        assert_eq!(n.number(Ino(taken)), taken);
        assert_eq!(n.known(large), None);
        let number = n.number(large);
        assert_eq!(number, taken + 1);
        // whose number that would have been
        assert_eq!(n.number(Ino(taken + 1)), taken + 2);
        for (ino, number) in [(large, taken + 1), (Ino(taken), taken), (Ino(taken + 1), taken + 2)]
        {
            assert_eq!((n.ino(number), n.number(ino), n.known(ino)), (ino, number, Some(number)));
        }
    }

    #[test]
    fn a_number_that_was_never_given_is_nobodys() {
        let n = Numbers::default();
        assert_eq!((n.ino(77), n.ino(1 << 40), n.ino(0)), (Ino(0), Ino(0), Ino(0)));
    }
}
