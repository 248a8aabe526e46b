//! The bytes of a snapshot file. All numbers are little-endian; offsets count from the file's start.
//!
//! ```text
//! header   HEADER bytes
//! records  one for each name, RECORD bytes; breadth first, the names of a directory together and
//!          sorted by bytes
//! names    in the order of the records
//! extra    targets of symlinks and lists of extended attributes
//! ```

use crate::bytes::{checksum, u32_at, u64_at};
use crate::sys::{Stat, Time};

/// First bytes of every snapshot. The line end and the high bit show a file mangled by transfer.
const MAGIC: [u8; 8] = *b"\x8fSTRSNP\n";
/// Version of the form; any change of meaning counts it up.
const VERSION: u32 = 1;
/// Length of the header.
pub(super) const HEADER: usize = 48;
/// Length of a record.
pub(super) const RECORD: usize = 112;
/// No extended attributes.
pub(super) const NO_EXTRA: u32 = u32::MAX;

/// Where the parts of the file lie. Without records it says that there is no snapshot to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) records: u32,
    pub(super) names_len: u32,
    pub(super) extra_len: u32,
    pub(super) body_crc: u64,
}

impl Header {
    pub(super) fn names_at(&self) -> usize {
        HEADER + self.records as usize * RECORD
    }

    pub(super) fn extra_at(&self) -> usize {
        self.names_at() + self.names_len as usize
    }

    pub(super) fn len(&self) -> usize {
        self.extra_at() + self.extra_len as usize
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.records.to_le_bytes());
        put(16, &self.names_len.to_le_bytes());
        put(20, &self.extra_len.to_le_bytes());
        put(24, &self.body_crc.to_le_bytes());
        let crc = checksum(&h[..HEADER - 8]);
        h[HEADER - 8..].copy_from_slice(&crc.to_le_bytes());
        h
    }

    /// Reads the header of a whole file; `None` if it is not one that [`Header::encode`] made, or
    /// not of that length.
    pub(super) fn decode(data: &[u8]) -> Option<Header> {
        let h = data.get(..HEADER)?;
        let sum = checksum(&h[..HEADER - 8]);
        if h[..8] != MAGIC || u32_at(h, 8) != VERSION || u64_at(h, HEADER - 8) != sum {
            return None;
        }
        let header = Header {
            records: u32_at(h, 12),
            names_len: u32_at(h, 16),
            extra_len: u32_at(h, 20),
            body_crc: u64_at(h, 24),
        };
        (header.len() == data.len()).then_some(header)
    }
}

/// What is known of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Number of the directory that holds it; the root's is the root.
    pub(super) parent: u32,
    pub(super) name_at: u32,
    pub(super) name_len: u32,
    /// Of a directory its first name, of a symlink the place of its target.
    pub(super) first: u32,
    /// Of a directory how many names it holds, of a symlink the length of its target.
    pub(super) count: u32,
    /// Place of its extended attributes.
    pub(super) extra: u32,
    /// What stat(2) says, but for the device.
    pub(super) stat: Stat,
}

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD] {
        let s = &self.stat;
        let small = [
            self.parent,
            self.name_at,
            self.name_len,
            self.first,
            self.count,
            self.extra,
            s.mode,
            s.nlink,
            s.uid,
            s.gid,
            s.blksize,
            s.atime.nsec,
            s.mtime.nsec,
            s.ctime.nsec,
        ];
        let large = [s.ino, s.rdev, s.size, s.blocks].into_iter();
        let times = [s.atime.sec, s.mtime.sec, s.ctime.sec].map(i64::cast_unsigned);
        let mut out = [0; RECORD];
        for (to, from) in out.chunks_exact_mut(4).zip(small) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        for (to, from) in out[SMALL..].chunks_exact_mut(8).zip(large.chain(times)) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        out
    }

    /// Returns place and length of the name of an encoded record.
    pub(super) fn name(r: &[u8]) -> (u32, u32) {
        (u32_at(r, 4), u32_at(r, 8))
    }

    /// Reads a record of a file system that has the number `dev` now.
    pub(super) fn decode(r: &[u8; RECORD], dev: u64) -> Record {
        let small = |i: usize| u32_at(r, i * 4);
        let large = |i: usize| u64_at(r, SMALL + i * 8);
        let time = |sec: u64, nsec: u32| Time { sec: sec.cast_signed(), nsec };
        Record {
            parent: small(0),
            name_at: small(1),
            name_len: small(2),
            first: small(3),
            count: small(4),
            extra: small(5),
            stat: Stat {
                dev,
                mode: small(6),
                nlink: small(7),
                uid: small(8),
                gid: small(9),
                blksize: small(10),
                ino: large(0),
                rdev: large(1),
                size: large(2),
                blocks: large(3),
                atime: time(large(4), small(11)),
                mtime: time(large(5), small(12)),
                ctime: time(large(6), small(13)),
            },
        }
    }
}

/// Where the longer numbers of a record begin.
const SMALL: usize = 14 * 4;
