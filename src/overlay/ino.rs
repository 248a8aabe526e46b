//! Inode numbers: derived from what is on disk, never handed out.
//!
//! ```text
//! 1                                     the root
//! 01 | slot (22 bits) | node (40 bits)  a node of an indexed layer; slots count from the bottom
//! 00 | device (14)    | st_ino (48)     a file of a plain layer or of the upper
//! 001| hash (61 bits)                   the same where st_ino needs more than 48 bits, or is taken
//! ```
//! The number of a file that was copied up stays that of the lower file. With the same layers it
//! is the same after the next mount, and adding layers on top changes no number.

use super::types::Ino;
use crate::id::LayerIndex;
use crate::index::NodeId;
use parking_lot::RwLock;

const INDEXED: u64 = 1 << 62;
const HASHED: u64 = 1 << 61;
const REAL_BITS: u32 = 48;
const NODE_BITS: u32 = 40;

/// The devices that numbers of plain layers and of the upper come from.
#[derive(Debug, Default)]
pub(super) struct Devices(RwLock<Vec<u64>>);

impl Devices {
    /// Returns the number of a file of a real file system.
    pub(super) fn ino(&self, dev: u64, real: u64) -> Ino {
        let slot = self.slot(dev);
        let number = slot << REAL_BITS | real;
        if real >> REAL_BITS == 0 && slot >> 13 == 0 && number != Ino::ROOT.0 {
            Ino(number)
        } else {
            hashed(&[slot.to_le_bytes(), real.to_le_bytes()].concat())
        }
    }

    fn slot(&self, dev: u64) -> u64 {
        if let Some(i) = self.0.read().iter().position(|d| *d == dev) {
            return i as u64;
        }
        let mut all = self.0.write();
        let known = all.iter().position(|d| *d == dev);
        known.unwrap_or_else(|| {
            all.push(dev);
            all.len() - 1
        }) as u64
    }
}

/// Returns the number of a node of an indexed layer.
pub(super) fn indexed(layer: LayerIndex, node: NodeId) -> Ino {
    Ino(INDEXED | u64::from(layer.0) << NODE_BITS | u64::from(node.0))
}

/// Returns the node that a number of an indexed layer stands for.
pub(super) fn decode(ino: Ino) -> Option<(LayerIndex, NodeId)> {
    if ino.0 & (INDEXED | HASHED | 1 << 63) != INDEXED {
        return None;
    }
    let layer = u32::try_from((ino.0 & !INDEXED) >> NODE_BITS).ok()?;
    let node = u32::try_from(ino.0 & ((1 << NODE_BITS) - 1)).ok()?;
    Some((LayerIndex(layer), NodeId(node)))
}

/// Returns a number for what has no other: FNV-1a of `key`.
pub(super) fn hashed(key: &[u8]) -> Ino {
    let h = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    Ino(HASHED | h & (HASHED - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_indexed_layers_decode() {
        let i = indexed(LayerIndex(399), NodeId(u32::MAX));
        assert_eq!(decode(i), Some((LayerIndex(399), NodeId(u32::MAX))));
        assert_eq!(decode(Ino::ROOT), None);
        assert_eq!(decode(hashed(b"x")), None);
        assert!(i.0 < 1 << 63);
    }

    #[test]
    fn real_numbers_never_meet_the_root_or_each_other() {
        let d = Devices::default();
        assert_ne!(d.ino(7, 1), Ino::ROOT);
        assert_eq!(d.ino(7, 5), Ino(5));
        assert_ne!(d.ino(8, 5), d.ino(7, 5));
        assert_eq!(d.ino(8, 5), d.ino(8, 5));
        assert_ne!(d.ino(7, 1 << 50), d.ino(7, 0));
        assert_eq!(decode(d.ino(8, (1 << 48) - 1)), None);
    }
}
