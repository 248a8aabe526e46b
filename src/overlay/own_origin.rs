//! Our own record of where a copy comes from: the value of `overlay.stratafs.origin`.
//!
//! Little-endian words of 8 bytes: the number that the file has in the view, the position of its
//! layer, that layer's fingerprint; and while the copy's data may not be on disk, the id of its
//! batch (see `settle`). One attribute for both, since ext4 has room for about 88 bytes of
//! attributes in an inode and allocates a block for more.

use super::Overlay;
use super::error::{Doing as _, Result};
use super::lower::{At, LowerLayer};
use super::types::Ino;
use crate::id::LayerIndex;
use crate::resolve::LayerRef;
use crate::sys::Node;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnOrigin {
    /// 0: not known.
    pub(super) number: Ino,
    pub(super) layer: LayerIndex,
    pub(super) print: u64,
    /// The batch with which it settles.
    pub(super) batch: Option<u64>,
}

impl OwnOrigin {
    /// Of a copy of which only its batch is known.
    pub(super) const UNKNOWN: OwnOrigin =
        OwnOrigin { number: Ino(0), layer: LayerIndex(0), print: 0, batch: None };

    pub(super) fn parse(value: &[u8]) -> Option<OwnOrigin> {
        let (words, rest) = value.as_chunks::<8>();
        let word = |i: usize| words.get(i).map(|w| u64::from_le_bytes(*w));
        if !rest.is_empty() || words.len() > 4 {
            return None;
        }
        Some(OwnOrigin {
            number: Ino(word(0)?),
            layer: LayerIndex(u32::try_from(word(1)?).ok()?),
            print: word(2)?,
            batch: word(3),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let words = [self.number.0, self.layer.0.into(), self.print];
        words.into_iter().chain(self.batch).flat_map(u64::to_le_bytes).collect()
    }
}

impl Overlay {
    /// Writes into a copy which number it has: only a hint, so that a file that cannot carry it
    /// (a symlink of an ordinary user) gets another number at the next mount. With a batch, also
    /// that its data may not be on disk, which must be there.
    pub(super) fn mark_origin(
        &self,
        node: &Node,
        number: Ino,
        at: At,
        batch: Option<u64>,
    ) -> Result<()> {
        let layer = self.lowers.get(at.layer.0 as usize);
        let origin = OwnOrigin {
            number,
            layer: at.layer,
            print: layer.map_or(0, LowerLayer::fingerprint),
            batch,
        };
        match node.set_xattr(self.dialect.origin(), &origin.encode(), false, false) {
            Err(e) if batch.is_none() => {
                log::debug!("{:?} keeps no origin: {e}", LayerRef::Upper);
                Ok(())
            }
            r => r.upper("mark a copy as not yet on disk"),
        }
    }

    /// Returns the number that an origin names, if its layer is still part of this stack.
    pub(super) fn decode_origin(&self, value: &[u8]) -> Option<Ino> {
        let origin = OwnOrigin::parse(value)?;
        let layer = self.lowers.get(origin.layer.0 as usize)?;
        (layer.fingerprint() == origin.print && origin.number > Ino::ROOT).then_some(origin.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_a_batch_it_is_read_as_written() {
        for batch in [None, Some(7)] {
            let o = OwnOrigin { number: Ino(5), layer: LayerIndex(2), print: 9, batch };
            assert_eq!(OwnOrigin::parse(&o.encode()), Some(o));
        }
        let o = OwnOrigin::UNKNOWN.encode();
        assert_eq!(o.len(), 24);
        assert_eq!(OwnOrigin::parse(&o[..23]), None);
        assert_eq!(OwnOrigin::parse(&[&o[..], &o].concat()), None);
    }
}
