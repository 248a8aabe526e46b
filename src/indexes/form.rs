//! The bytes of a stack file: a chain's layers, how their directories looked, and their indexes.
//!
//! ```text
//! head     MAGIC, VERSION u32, number of layers u32, stamps of both places
//!          per layer, bottom first: DiffID, size u64, stamp of its entry, place and length of the
//!          index u64 u64 (length 0: it is too large to be here), length u8 and text of the cache id
//!          CRC-64 of the head
//! indexes  one behind the other, as in their own files
//! ```
//! All numbers are little-endian; a stamp is inode number u64, seconds i64, nanoseconds u32.

use crate::bytes::checksum;
use crate::id::{CacheId, ChainId, DiffId, Hash};
use crate::store::{Layer, MAX_DEPTH, Stamp, Stamps};
use crate::sys::Time;
use std::ops::Range;

const MAGIC: [u8; 8] = *b"\x8fSTRSTK\n";
/// Version of the form; any change of meaning counts it up.
const VERSION: u32 = 1;
/// The largest index that is kept here a second time. Of a larger one the reading takes longer
/// than finding it.
const LARGEST: usize = 256 << 10;

/// A stack file, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// The layers, bottom first.
    pub(super) layers: Vec<Layer>,
    pub(super) stamps: Stamps,
    /// Where each layer's index lies in the file; `None`: in its own file alone.
    pub(super) indexes: Vec<Option<Range<usize>>>,
}

/// Makes a stack file of layers with the bytes of their indexes.
pub(super) fn encode(layers: &[(&Layer, &[u8])], stamps: &Stamps) -> Vec<u8> {
    let record = |l: &Layer| 32 + 8 + 20 + 16 + 1 + l.cache.as_str().len();
    let head = 16 + 40 + layers.iter().map(|(l, _)| record(l)).sum::<usize>() + 8;
    let mut out = Vec::with_capacity(head);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((layers.len() as u32).to_le_bytes());
    stamps.places.iter().for_each(|s| put_stamp(&mut out, s));
    let mut at = head;
    for ((layer, index), stamp) in layers.iter().zip(&stamps.entries) {
        let len = if index.len() > LARGEST { 0 } else { index.len() };
        out.extend(layer.diff.hash().0);
        out.extend(layer.size.to_le_bytes());
        put_stamp(&mut out, stamp);
        out.extend((at as u64).to_le_bytes());
        out.extend((len as u64).to_le_bytes());
        // 64 hex digits, and five more characters at most
        out.push(layer.cache.as_str().len() as u8);
        out.extend(layer.cache.as_str().as_bytes());
        at += len;
    }
    out.extend(checksum(&out).to_le_bytes());
    for (_, index) in layers.iter().filter(|(_, index)| index.len() <= LARGEST) {
        out.extend(*index);
    }
    out
}

fn put_stamp(out: &mut Vec<u8>, s: &Stamp) {
    out.extend(s.ino.to_le_bytes());
    out.extend(s.ctime.sec.to_le_bytes());
    out.extend(s.ctime.nsec.to_le_bytes());
}

/// Reads a stack file; `None` if it is not one that [`encode`] made. The indexes are not looked
/// at.
pub(super) fn decode(data: &[u8]) -> Option<Form> {
    let mut r = Reader { data, at: 0 };
    if r.take(8)? != MAGIC || r.u32()? != VERSION {
        return None;
    }
    let count = usize::try_from(r.u32()?).ok().filter(|n| *n <= MAX_DEPTH)?;
    let mut form = Form {
        layers: Vec::with_capacity(count),
        stamps: Stamps { places: [r.stamp()?, r.stamp()?], entries: Vec::with_capacity(count) },
        indexes: Vec::with_capacity(count),
    };
    for _ in 0..count {
        let diff = DiffId::new(Hash(*r.take(32)?.first_chunk()?));
        let size = r.u64()?;
        form.stamps.entries.push(r.stamp()?);
        let (start, len) = (usize::try_from(r.u64()?).ok()?, usize::try_from(r.u64()?).ok()?);
        form.indexes.push((len > 0).then_some(start..start.checked_add(len)?));
        let len = usize::from(r.take(1)?[0]);
        let cache: CacheId = std::str::from_utf8(r.take(len)?).ok()?.parse().ok()?;
        let parent = form.layers.last().map(|l: &Layer| l.chain);
        let chain = ChainId::next(parent.as_ref(), &diff);
        form.layers.push(Layer { chain, diff, parent, cache, size });
    }
    let sum = checksum(&data[..r.at]);
    (r.u64()? == sum).then_some(form)
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let part = self.data.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let (ino, sec, nsec) = (self.u64()?, self.u64()?.cast_signed(), self.u32()?);
        Some(Stamp { ino, ctime: Time { sec, nsec } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<Layer>, Stamps) {
        let mut layers: Vec<Layer> = Vec::new();
        for i in 0..3 {
            let diff = DiffId::new(Hash::of(&[i]));
            let parent = layers.last().map(|l| l.chain);
            let chain = ChainId::next(parent.as_ref(), &diff);
            layers.push(Layer { chain, diff, parent, cache: CacheId::random(), size: 7 });
        }
        let stamp = |ino| Stamp { ino, ctime: Time { sec: -1, nsec: 2 } };
        let stamps = Stamps { places: [stamp(1), stamp(2)], entries: vec![stamp(3); 3] };
        (layers, stamps)
    }

    #[test]
    fn what_is_written_is_read() {
        let (layers, stamps) = example();
        let large = vec![1; LARGEST + 1];
        let bodies: [&[u8]; 3] = [b"one", &large, b"three"];
        let data = encode(&layers.iter().zip(bodies).collect::<Vec<_>>(), &stamps);
        let form = decode(&data).unwrap();
        assert_eq!((&form.layers, &form.stamps), (&layers, &stamps));
        let body = |i: usize| form.indexes[i].clone().map(|r| &data[r]);
        assert_eq!((body(0), body(1), body(2)), (Some(&b"one"[..]), None, Some(&b"three"[..])));
        assert_eq!(data.len(), form.indexes[2].clone().unwrap().end);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_of_the_head_is_noticed() {
        let (layers, stamps) = example();
        let data = encode(&layers.iter().map(|l| (l, &b""[..])).collect::<Vec<_>>(), &stamps);
        assert!(decode(&data).is_some());
        for i in 0..data.len() {
            assert_eq!(decode(&data[..i]), None, "{i}");
            let mut bad = data.clone();
            bad[i] ^= 1 << (i % 8);
            assert_eq!(decode(&bad), None, "{i}");
        }
    }
}
