//! The bytes of an index file. All numbers are little-endian; offsets count from the file's start.
//!
//! ```text
//! header   HEADER bytes
//! nodes    node_count * NODE
//! links    link_count * 8: canonical node u32, member node u32, sorted; groups of two and more
//! names    the names, in node order
//! extra    symlink targets; records of xattrs and redirect
//! ```

use crate::bytes::{Xattrs, checksum, put_xattrs, take, u32_at, u64_at};

/// First bytes of every index. The line end and the high bit show a file mangled by transfer.
pub(super) const MAGIC: [u8; 8] = *b"\x8fSTRIDX\n";
/// Version of the form; any change of meaning counts it up.
pub(super) const VERSION: u32 = 2;
/// Length of the header.
pub(super) const HEADER: usize = 112;
/// Length of a node.
pub(super) const NODE: usize = 64;
/// From which length in bytes on a file is large.
pub(super) const LARGE: u64 = 8 << 20;
/// No record of xattrs and redirect.
pub(super) const NO_EXTRA: u32 = u32::MAX;

/// Hides what is below.
pub(super) const OPAQUE: u8 = 1;
/// Has visible extended attributes.
pub(super) const XATTRS: u8 = 2;
/// Has a redirect.
pub(super) const REDIRECT: u8 = 4;
/// Stands in for a parent that the layer has no entry for.
pub(super) const IMPLIED: u8 = 8;
/// One of several names of a file.
pub(super) const LINKED: u8 = 16;

/// The header's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) nodes: u32,
    pub(super) links: u32,
    pub(super) names_at: u64,
    pub(super) extra_at: u64,
    pub(super) len: u64,
    pub(super) whiteouts: u32,
    pub(super) opaque_dirs: u32,
    pub(super) xattr_nodes: u32,
    /// MiB in files of at least [`LARGE`] bytes; 0 in what older versions wrote.
    pub(super) large_mib: u32,
    pub(super) body_crc: u64,
    /// Of which layer directory this is the index.
    pub(super) layer: [u8; 32],
}

impl Header {
    pub(super) fn links_at(&self) -> u64 {
        HEADER as u64 + u64::from(self.nodes) * NODE as u64
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &(NODE as u32).to_le_bytes());
        put(16, &self.nodes.to_le_bytes());
        put(20, &self.links.to_le_bytes());
        put(24, &self.names_at.to_le_bytes());
        put(32, &self.extra_at.to_le_bytes());
        put(40, &self.len.to_le_bytes());
        put(48, &self.whiteouts.to_le_bytes());
        put(52, &self.opaque_dirs.to_le_bytes());
        put(56, &self.xattr_nodes.to_le_bytes());
        put(60, &self.large_mib.to_le_bytes());
        put(64, &self.body_crc.to_le_bytes());
        put(72, &self.layer);
        let crc = checksum(&h[..HEADER - 8]);
        h[HEADER - 8..].copy_from_slice(&crc.to_le_bytes());
        h
    }

    pub(super) fn decode(data: &[u8]) -> Result<Header, super::IndexError> {
        use super::IndexError::{Damaged, Version};
        let h = data.get(..HEADER).ok_or(Damaged("shorter than a header"))?;
        if h[..8] != MAGIC {
            return Err(Damaged("no index"));
        }
        let found = u32_at(h, 8);
        if found != VERSION {
            return Err(Version { found, expected: VERSION });
        }
        if u64_at(h, HEADER - 8) != checksum(&h[..HEADER - 8]) {
            return Err(Damaged("wrong checksum of the header"));
        }
        let header = Header {
            nodes: u32_at(h, 16),
            links: u32_at(h, 20),
            names_at: u64_at(h, 24),
            extra_at: u64_at(h, 32),
            len: u64_at(h, 40),
            whiteouts: u32_at(h, 48),
            opaque_dirs: u32_at(h, 52),
            xattr_nodes: u32_at(h, 56),
            large_mib: u32_at(h, 60),
            body_crc: u64_at(h, 64),
            layer: h[72..104].try_into().map_err(|_| Damaged("cut short"))?,
        };
        let links_end = header.links_at() + u64::from(header.links) * 8;
        let ordered = links_end <= header.names_at
            && header.names_at <= header.extra_at
            && header.extra_at <= header.len;
        if u32_at(h, 12) != NODE as u32 || !ordered || header.nodes == 0 {
            return Err(Damaged("its parts do not fit together"));
        }
        if header.len != data.len() as u64 {
            return Err(Damaged("cut short or grown"));
        }
        Ok(header)
    }
}

/// One node's fields. `word` is, by kind: blocks of a file, first child and child count of a
/// directory, device number, offset and length of a symlink's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name_at: u32,
    pub(super) parent: u32,
    pub(super) name_len: u8,
    pub(super) kind: u8,
    pub(super) mode: u16,
    pub(super) flags: u8,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) nsec: u32,
    pub(super) sec: i64,
    pub(super) size: u64,
    pub(super) word: u64,
    pub(super) extra: u32,
    pub(super) canonical: u32,
}

impl Record {
    pub(super) fn encode(&self) -> [u8; NODE] {
        let mut r = [0; NODE];
        let mut put = |at: usize, bytes: &[u8]| r[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name_at.to_le_bytes());
        put(4, &self.parent.to_le_bytes());
        put(8, &[self.name_len, self.kind]);
        put(10, &self.mode.to_le_bytes());
        put(12, &[self.flags]);
        put(16, &self.uid.to_le_bytes());
        put(20, &self.gid.to_le_bytes());
        put(24, &self.nlink.to_le_bytes());
        put(28, &self.nsec.to_le_bytes());
        put(32, &self.sec.to_le_bytes());
        put(40, &self.size.to_le_bytes());
        put(48, &self.word.to_le_bytes());
        put(56, &self.extra.to_le_bytes());
        put(60, &self.canonical.to_le_bytes());
        r
    }

    pub(super) fn decode(r: &[u8; NODE]) -> Record {
        Record {
            name_at: u32_at(r, 0),
            parent: u32_at(r, 4),
            name_len: r[8],
            kind: r[9],
            mode: u16::from_le_bytes([r[10], r[11]]),
            flags: r[12],
            uid: u32_at(r, 16),
            gid: u32_at(r, 20),
            nlink: u32_at(r, 24),
            nsec: u32_at(r, 28),
            sec: u64_at(r, 32) as i64,
            size: u64_at(r, 40),
            word: u64_at(r, 48),
            extra: u32_at(r, 56),
            canonical: u32_at(r, 60),
        }
    }
}

/// Encodes redirect and xattrs as one record: redirect length u32, redirect, list of xattrs.
pub(super) fn encode_extra(redirect: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((redirect.len() as u32).to_le_bytes());
    out.extend(redirect);
    put_xattrs(&mut out, xattrs);
    out
}

/// Splits such a record into its redirect and its xattrs. Damage gives what is before it.
pub(super) fn decode_extra(mut record: &[u8]) -> (&[u8], Xattrs<'_>) {
    let len = take(&mut record, 4).map_or(0, |b| u32_at(b, 0) as usize);
    match take(&mut record, len) {
        Some(redirect) => (redirect, Xattrs::of(record)),
        None => (&[], Xattrs::default()),
    }
}
