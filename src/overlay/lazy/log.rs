//! The map of an incomplete file on disk: a head, then records, only ever appended.
//!
//! ```text
//! head     magic 8, version u32, block length u32, length of the lower's content u64,
//!          boot id 16, real inode number u64, origin number u64, crc u64
//! record   kind u8, 7 zero bytes, first u64, second u64, crc u64
//! ```
//! Numbers are little-endian. A record whose checksum is wrong ends the log: it was cut by a crash.

use super::map::{BLOCK, Map};
use crc::{CRC_64_XZ, Crc};

const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);
const MAGIC: [u8; 8] = *b"\x8fSTRLZY\n";
const VERSION: u32 = 1;
/// Length of the head.
pub(in crate::overlay) const HEAD: usize = 64;
/// Length of a record.
pub(in crate::overlay) const RECORD: usize = 32;

/// What a log says about its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::overlay) struct Head {
    /// How much of the lower's content counts, in bytes, when the file was made.
    pub(in crate::overlay) lower_len: u64,
    /// The run of the machine in which the log was begun.
    pub(in crate::overlay) boot: [u8; 16],
    /// Inode number of the upper's file: a log of another file is not believed.
    pub(in crate::overlay) real: u64,
    /// The number under which the view shows the file.
    pub(in crate::overlay) ino: u64,
}

/// One thing that happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::overlay) enum Record {
    /// These blocks are in the upper.
    Present {
        /// First block.
        start: u64,
        /// The block after the last.
        end: u64,
    },
    /// The file was cut: of the lower no more than this counts from now on, in bytes.
    Cut(u64),
    /// All data that the records before speak of is on disk.
    Seal,
}

/// What is left of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::overlay) struct Recovered {
    pub(in crate::overlay) head: Head,
    pub(in crate::overlay) map: Map,
    /// How much of the lower's content counts, in bytes.
    pub(in crate::overlay) lower_len: u64,
}

impl Head {
    pub(in crate::overlay) fn encode(&self) -> [u8; HEAD] {
        let mut h = [0; HEAD];
        h[..8].copy_from_slice(&MAGIC);
        h[8..12].copy_from_slice(&VERSION.to_le_bytes());
        h[12..16].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        h[16..24].copy_from_slice(&self.lower_len.to_le_bytes());
        h[24..40].copy_from_slice(&self.boot);
        h[40..48].copy_from_slice(&self.real.to_le_bytes());
        h[48..56].copy_from_slice(&self.ino.to_le_bytes());
        let crc = CRC.checksum(&h[..56]);
        h[56..].copy_from_slice(&crc.to_le_bytes());
        h
    }

    fn decode(h: &[u8; HEAD]) -> Option<Head> {
        let right = h[..8] == MAGIC
            && h[8..12] == VERSION.to_le_bytes()
            && h[12..16] == (BLOCK as u32).to_le_bytes()
            && word(h, 56) == CRC.checksum(&h[..56]);
        let boot = h[24..40].try_into().ok()?;
        let head = Head { lower_len: word(h, 16), boot, real: word(h, 40), ino: word(h, 48) };
        right.then_some(head)
    }
}

impl Record {
    pub(in crate::overlay) fn encode(self) -> [u8; RECORD] {
        let (kind, a, b) = match self {
            Record::Present { start, end } => (1, start, end),
            Record::Cut(len) => (2, len, 0),
            Record::Seal => (3, 0, 0),
        };
        let mut r = [0; RECORD];
        r[0] = kind;
        r[8..16].copy_from_slice(&u64::to_le_bytes(a));
        r[16..24].copy_from_slice(&u64::to_le_bytes(b));
        let crc = CRC.checksum(&r[..24]);
        r[24..].copy_from_slice(&crc.to_le_bytes());
        r
    }

    fn decode(r: &[u8; RECORD]) -> Option<Record> {
        if word(r, 24) != CRC.checksum(&r[..24]) {
            return None;
        }
        match r[0] {
            1 => Some(Record::Present { start: word(r, 8), end: word(r, 16) }),
            2 => Some(Record::Cut(word(r, 8))),
            3 => Some(Record::Seal),
            _ => None,
        }
    }
}

/// Reads a log after a crash. `boot` is the run of the machine now: if the log is of another one,
/// only what was sealed counts. `None`: no log, or a damaged head; then nothing of the upper counts
/// and the file is the lower's.
pub(in crate::overlay) fn recover(log: &[u8], boot: [u8; 16]) -> Option<Recovered> {
    let (head, rest) = log.split_first_chunk::<HEAD>()?;
    let head = Head::decode(head)?;
    let (records, _) = rest.as_chunks::<RECORD>();
    let records: Vec<Record> = records.iter().map_while(Record::decode).collect();
    let believed = if head.boot == boot {
        records.len()
    } else {
        records.iter().rposition(|r| *r == Record::Seal).unwrap_or(0)
    };
    let (mut map, mut lower_len) = (Map::default(), head.lower_len);
    for record in &records[..believed] {
        match record {
            Record::Present { start, end } => map.insert(*start..*end),
            Record::Cut(len) => lower_len = lower_len.min(*len),
            Record::Seal => {}
        }
    }
    Some(Recovered { head, map, lower_len })
}

fn word(b: &[u8], at: usize) -> u64 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |c| u64::from_le_bytes(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: [u8; 16] = [7; 16];

    fn log(records: &[Record]) -> Vec<u8> {
        let head = Head { lower_len: 10 * BLOCK, boot: BOOT, real: 3, ino: 4 };
        let mut out = head.encode().to_vec();
        records.iter().for_each(|r| out.extend(r.encode()));
        out
    }

    fn present(start: u64, end: u64) -> Record {
        Record::Present { start, end }
    }

    fn blocks(r: &Recovered) -> Vec<std::ops::Range<u64>> {
        r.map.ranges().collect()
    }

    #[test]
    fn after_a_kill_every_record_counts() {
        let l = log(&[present(0, 1), Record::Seal, present(4, 5), Record::Cut(8 * BLOCK)]);
        let r = recover(&l, BOOT).unwrap();
        assert_eq!(blocks(&r), [0..1, 4..5]);
        assert_eq!(r.lower_len, 8 * BLOCK);
        assert_eq!((r.head.real, r.head.ino), (3, 4));
    }

    #[test]
    fn after_a_power_loss_only_what_was_sealed_counts() {
        let l = log(&[present(0, 1), Record::Seal, present(4, 5), Record::Cut(8 * BLOCK)]);
        let r = recover(&l, [8; 16]).unwrap();
        assert_eq!(blocks(&r), vec![0..1]);
        assert_eq!(r.lower_len, 10 * BLOCK);
        let r = recover(&log(&[present(4, 5)]), [8; 16]).unwrap();
        assert!(blocks(&r).is_empty(), "never sealed");
    }

    #[test]
    fn a_log_cut_anywhere_says_no_more_than_a_whole_one() {
        let l = log(&[present(0, 2), present(5, 6), Record::Seal]);
        for len in 0..l.len() {
            match recover(&l[..len], BOOT) {
                None => assert!(len < HEAD),
                Some(r) => assert_eq!(r.map.contains(5), len >= HEAD + 2 * RECORD),
            }
        }
    }

    #[test]
    fn any_flipped_bit_ends_the_log_before_it() {
        let l = log(&[present(0, 2), present(5, 6), Record::Seal]);
        for bit in 0..l.len() * 8 {
            let mut damaged = l.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let whole = bit / 8 >= HEAD + RECORD;
            let found = recover(&damaged, BOOT);
            assert_eq!(found.is_some(), bit / 8 >= HEAD);
            assert!(found.is_none_or(|r| r.map.contains(0) == whole && !r.map.contains(3)));
        }
    }
}
