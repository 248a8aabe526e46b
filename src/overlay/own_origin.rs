//! Our own record of where a copy comes from: the number that the file has in the view, the
//! position of its layer, that layer's fingerprint; and while the copy's data may not be on disk,
//! the id of its batch (see `settle`).
//!
//! It is kept in one of two ways. ext4 has room for 88 bytes of attributes in an inode and allocates
//! a block for more, which makes a copy half as slow again:
//! * behind the kernel's record in `overlay.origin`, where that is written: a byte that says so,
//!   number, fingerprint, position in 2 bytes, and the batch. With a handle of ext4 this makes 56
//!   bytes, of 88 with the name. The kernel does not look beyond its own part;
//! * in `overlay.stratafs.origin`: number, position, fingerprint and batch in 8 bytes each.
//!
//! Numbers are little-endian.

use super::Overlay;
use super::error::{Doing as _, Result};
use super::lower::{At, LowerLayer};
use super::types::Ino;
use crate::id::LayerIndex;
use crate::marker::Origin;
use crate::resolve::LayerRef;
use crate::sys::{self, Node};

/// What our record behind the kernel's begins with.
const BEHIND: u8 = 1;

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

    /// Reads what follows the kernel's record.
    fn parse_behind(rest: &[u8]) -> Option<OwnOrigin> {
        let (mark, rest) = rest.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (print, rest) = rest.split_first_chunk()?;
        let (layer, rest) = rest.split_first_chunk()?;
        let batch = match rest {
            [] => None,
            batch => Some(u64::from_le_bytes(batch.try_into().ok()?)),
        };
        (*mark == BEHIND).then_some(OwnOrigin {
            number: Ino(u64::from_le_bytes(*number)),
            layer: LayerIndex(u16::from_le_bytes(*layer).into()),
            print: u64::from_le_bytes(*print),
            batch,
        })
    }

    /// Returns the value that follows the kernel's record `kernel`; `None` if it cannot hold it.
    fn behind(&self, mut kernel: Vec<u8>) -> Option<Vec<u8>> {
        let layer = u16::try_from(self.layer.0).ok()?;
        kernel.push(BEHIND);
        kernel.extend(self.number.0.to_le_bytes());
        kernel.extend(self.print.to_le_bytes());
        kernel.extend(layer.to_le_bytes());
        kernel.extend(self.batch.into_iter().flat_map(u64::to_le_bytes));
        Some(kernel)
    }
}

/// What a copy says about where it comes from.
#[derive(Debug, Default)]
pub(super) struct CopyRecord {
    pub(super) own: Option<OwnOrigin>,
    /// The value of `overlay.origin`. Not read where our record was found without it.
    pub(super) kernel: Option<Vec<u8>>,
    /// Whether ours is part of that.
    behind: bool,
}

impl CopyRecord {
    fn of_the_kernel(value: Vec<u8>) -> CopyRecord {
        let own = Origin::beyond(&value).and_then(OwnOrigin::parse_behind);
        CopyRecord { own, behind: own.is_some(), kernel: Some(value) }
    }
}

impl Overlay {
    /// Writes into a copy where it comes from. That is only a hint, so that a file that cannot carry
    /// it (a symlink of an ordinary user) gets another number at the next mount. With a batch, also
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
        let set = |key, value: &[u8]| {
            let done = node.set_xattr(key, value, false, false);
            done.inspect_err(|e| log::debug!("{:?} keeps no origin: {e}", LayerRef::Upper))
        };
        if let Some(value) = self.kernel_record(at).and_then(|k| origin.behind(k))
            && set(self.dialect.kernel_origin(), &value).is_ok()
        {
            return Ok(());
        }
        // no room for both in one, perhaps
        let marked = set(self.dialect.origin(), &origin.encode());
        self.mark_kernel_origin(node, at);
        match (marked, batch) {
            (Err(e), Some(_)) => Err(e).upper("mark a copy as not yet on disk"),
            // a hint that is not there
            _ => Ok(()),
        }
    }

    /// Reads the records of a copy by means of `get`, which reads an extended attribute.
    pub(super) fn copy_record<E>(
        &self,
        get: impl Fn(&[u8]) -> std::result::Result<Option<Vec<u8>>, E>,
    ) -> std::result::Result<CopyRecord, E> {
        let alone = || -> std::result::Result<_, E> {
            Ok(get(self.dialect.origin())?.and_then(|v| OwnOrigin::parse(&v)))
        };
        let kernels = || get(self.dialect.kernel_origin());
        // first where this mount writes it
        if self.marks_for_the_kernel() {
            let record = kernels()?.map(CopyRecord::of_the_kernel).unwrap_or_default();
            let own = if record.behind { record.own } else { alone()? };
            return Ok(CopyRecord { own, ..record });
        }
        if let Some(own) = alone()? {
            return Ok(CopyRecord { own: Some(own), ..CopyRecord::default() });
        }
        Ok(kernels()?.map(CopyRecord::of_the_kernel).unwrap_or_default())
    }

    /// Returns whether a file bears a record of what it was copied from.
    pub(super) fn is_copy(&self, node: &Node) -> bool {
        let record = self.copy_record(|key| node.get_xattr(key)).unwrap_or_default();
        record.own.is_some() || record.kernel.is_some()
    }

    /// Writes our record where it was read, or apart from the kernel's if there was none.
    pub(super) fn change_record(
        &self,
        node: &Node,
        record: CopyRecord,
        now: OwnOrigin,
    ) -> sys::Result<()> {
        let own = self.dialect.origin();
        let kernel = record.kernel.filter(|_| record.behind);
        let kernel = kernel.and_then(|v| Origin::parse(&v)?.encode());
        match kernel.and_then(|k| now.behind(k)) {
            Some(value) => {
                let key = self.dialect.kernel_origin();
                self.as_its_owner(node, || node.set_xattr(key, &value, false, false))
            }
            None if now == OwnOrigin::UNKNOWN => self.as_its_owner(node, || node.remove_xattr(own)),
            None => {
                let value = now.encode();
                self.as_its_owner(node, || node.set_xattr(own, &value, false, false))
            }
        }
    }

    /// Returns the number that a record names, if its layer is still part of this stack.
    pub(super) fn recorded_number(&self, origin: OwnOrigin) -> Option<Ino> {
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
    #[test]
    fn behind_the_kernels_record_it_is_read_as_written_and_fits_into_an_inode_of_ext4() {
        let handle = crate::sys::FileHandle { kind: 1, bytes: vec![9; 8] };
        let kernel = Origin { uuid: [7; 16], handle };
        for batch in [None, Some(7)] {
            let o = OwnOrigin { number: Ino(5), layer: LayerIndex(499), print: 9, batch };
            let value = o.behind(kernel.encode().unwrap()).unwrap();
            // entry, name behind the prefix, value, each in steps of 4
            assert!(16 + b"overlay.origin".len().next_multiple_of(4) + value.len() <= 88);
            assert_eq!(Origin::parse(&value).as_ref(), Some(&kernel));
            assert_eq!(CopyRecord::of_the_kernel(value.clone()).own, Some(o));
            for cut in 1..8 {
                let value = value[..value.len() - cut].to_vec();
                assert_eq!(CopyRecord::of_the_kernel(value).own, None, "{cut} bytes less");
            }
        }
        let too_many = OwnOrigin { layer: LayerIndex(1 << 16), ..OwnOrigin::UNKNOWN };
        assert_eq!(too_many.behind(Vec::new()), None);
    }
}
