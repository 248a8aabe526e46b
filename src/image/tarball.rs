//! Writes tar headers: ustar, with pax records for what ustar cannot say.

use crate::name::printable;
use crate::sys::{FileType, Time};

/// The size of a tar block in bytes.
pub(super) const BLOCK: usize = 512;

/// One entry, its content not included.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Path, relative; a directory's ends in a slash.
    pub(crate) path: &'a [u8],
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) rdev: u64,
    /// Target of a symlink.
    pub(crate) target: Option<&'a [u8]>,
    /// The entry of the same archive that this is a hard link to.
    pub(crate) hard_link: Option<&'a [u8]>,
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// The pieces of data of a sparse file, if it is to be stored as one.
    pub(crate) sparse: Option<&'a [(u64, u64)]>,
}

impl Entry<'_> {
    /// A whiteout or an opaque mark: an empty file without an owner, and of a whole second. `near`
    /// is the time of what it belongs to.
    pub(crate) fn marker(path: &[u8], near: Time) -> Entry<'_> {
        Entry {
            path,
            kind: FileType::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time { sec: near.sec.max(0), nsec: 0 },
            rdev: 0,
            target: None,
            hard_link: None,
            xattrs: &[],
            sparse: None,
        }
    }

    /// Returns everything that stands before the content.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut pax = Vec::new();
        let mut map = Vec::new();
        let mut stored =
            if self.kind == FileType::File && self.hard_link.is_none() { self.size } else { 0 };
        let mut name = self.path.to_vec();
        if let Some(pieces) = self.sparse {
            // GNU's pax form 1.0: the map stands at the head of the content
            map = sparse_map(pieces);
            stored = map.len() as u64 + pieces.iter().map(|(_, len)| len).sum::<u64>();
            record(&mut pax, b"GNU.sparse.major", b"1");
            record(&mut pax, b"GNU.sparse.minor", b"0");
            record(&mut pax, b"GNU.sparse.name", self.path);
            record(&mut pax, b"GNU.sparse.realsize", self.size.to_string().as_bytes());
            name = [b"GNUSparseFile.0/", self.path].concat();
        }
        if name.len() > 100 && self.sparse.is_none() {
            record(&mut pax, b"path", &name);
        }
        let link = self.hard_link.or(self.target).unwrap_or_default();
        if link.len() > 100 {
            record(&mut pax, b"linkpath", link);
        }
        for (key, id) in [(&b"uid"[..], self.uid), (b"gid", self.gid)] {
            if id > 0o7_777_777 {
                record(&mut pax, key, id.to_string().as_bytes());
            }
        }
        if stored > 0o77_777_777_777 {
            record(&mut pax, b"size", stored.to_string().as_bytes());
        }
        let whole_second = self.mtime.nsec == 0 && (0..=0o77_777_777_777).contains(&self.mtime.sec);
        if !whole_second {
            record(&mut pax, b"mtime", decimal(self.mtime).as_bytes());
        }
        for (key, value) in self.xattrs {
            record(&mut pax, &[b"SCHILY.xattr.", &key[..]].concat(), value);
        }
        let mut out = Vec::new();
        if !pax.is_empty() {
            let mut h = tar::Header::new_ustar();
            fill(&mut h, b"PaxHeader", b"", pax.len() as u64);
            h.set_entry_type(tar::EntryType::XHeader);
            h.set_mode(0o644);
            h.set_cksum();
            out.extend_from_slice(h.as_bytes());
            out.extend_from_slice(&pax);
            pad(&mut out);
        }
        let mut h = tar::Header::new_ustar();
        fill(&mut h, &name, link, stored);
        h.set_entry_type(self.entry_type());
        h.set_mode(self.mode & 0o7777);
        h.set_uid(self.uid.min(0o7_777_777).into());
        h.set_gid(self.gid.min(0o7_777_777).into());
        h.set_mtime(u64::try_from(self.mtime.sec).unwrap_or(0).min(0o77_777_777_777));
        if matches!(self.kind, FileType::Char | FileType::Block)
            && let Some(u) = h.as_ustar_mut()
        {
            u.set_device_major(crate::sys::major(self.rdev));
            u.set_device_minor(crate::sys::minor(self.rdev));
        }
        h.set_cksum();
        out.extend_from_slice(h.as_bytes());
        out.extend_from_slice(&map);
        out
    }

    fn entry_type(&self) -> tar::EntryType {
        if self.hard_link.is_some() {
            return tar::EntryType::Link;
        }
        match self.kind {
            FileType::File | FileType::Socket => tar::EntryType::Regular,
            FileType::Dir => tar::EntryType::Directory,
            FileType::Symlink => tar::EntryType::Symlink,
            FileType::Fifo => tar::EntryType::Fifo,
            FileType::Char => tar::EntryType::Char,
            FileType::Block => tar::EntryType::Block,
        }
    }
}

/// Returns whether an extended attribute is a label of this machine, not of an image.
pub(crate) fn is_of_this_machine(key: &[u8]) -> bool {
    [&b"security.selinux"[..], b"security.evm", b"security.ima", b"system.nfs4_acl"].contains(&key)
}

/// Returns whether a tar can hold an extended attribute of this name; warns if not.
pub(crate) fn can_be_stored(path: &[u8], key: &[u8]) -> bool {
    let can = !key.contains(&b'=');
    if !can {
        let (path, key) = (printable(path), printable(key));
        log::warn!("{path}: no tar can hold the extended attribute {key:?}; left out");
    }
    can
}

/// Says that a socket is left out.
pub(crate) fn warn_of_socket(path: &[u8]) {
    log::warn!("{}: a socket, which no layer can hold; left out", printable(path));
}

/// Sets the fields whose longer values are in pax records; here they are cut.
fn fill(h: &mut tar::Header, name: &[u8], link: &[u8], size: u64) {
    let old = h.as_old_mut();
    let n = name.len().min(old.name.len());
    old.name[..n].copy_from_slice(&name[..n]);
    let n = link.len().min(old.linkname.len());
    old.linkname[..n].copy_from_slice(&link[..n]);
    h.set_size(size.min(0o77_777_777_777));
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
}

/// Fills up to a whole block.
pub(super) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Appends `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn sparse_map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", pieces.len());
    for (offset, len) in pieces {
        text.push_str(&format!("{offset}\n{len}\n"));
    }
    let mut out = text.into_bytes();
    pad(&mut out);
    out
}

/// Writes a time as a decimal number of seconds.
fn decimal(t: Time) -> String {
    // before 1970 the fraction counts downwards: -1 s and 500,000,000 ns is -0.5
    let (sign, sec, nsec) = match (t.sec < 0, t.nsec) {
        (true, 0) => ("-", t.sec.unsigned_abs(), 0),
        (true, n) => ("-", t.sec.unsigned_abs() - 1, 1_000_000_000 - n),
        (false, n) => ("", t.sec.unsigned_abs(), n),
    };
    let all = format!("{sign}{sec}.{nsec:09}");
    all.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn times_are_decimals() {
        let t = |sec, nsec| decimal(Time { sec, nsec });
        assert_eq!(t(5, 0), "5");
        assert_eq!(t(5, 120_000_000), "5.12");
        assert_eq!(t(-1, 500_000_000), "-0.5");
        assert_eq!(t(-2, 0), "-2");
    }

    #[test]
    fn another_reader_reads_it() {
        let path = [b"d/".to_vec(), vec![b'n'; 150]].concat();
        let xattrs = [(b"user.a".to_vec(), b"x\0=y".to_vec())];
        let entry = Entry {
            path: &path,
            kind: FileType::File,
            mode: 0o4755,
            uid: 3_000_000,
            gid: 7,
            size: 3,
            mtime: Time { sec: 9, nsec: 5 },
            rdev: 0,
            target: None,
            hard_link: None,
            xattrs: &xattrs,
            sparse: None,
        };
        let mut all = entry.encode();
        all.extend_from_slice(b"abc");
        pad(&mut all);
        all.extend_from_slice(&[0; 1024]);
        let mut archive = tar::Archive::new(&all[..]);
        let mut e = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(e.path_bytes(), &path[..]);
        assert_eq!(e.header().mode().unwrap(), 0o4755);
        let pax: Vec<_> = e
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|r| r.unwrap())
            .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
            .collect();
        assert!(pax.contains(&("mtime".to_owned(), b"9.000000005".to_vec())));
        assert!(pax.contains(&("uid".to_owned(), b"3000000".to_vec())));
        let mut text = Vec::new();
        e.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"abc");
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for n in 0..300 {
            let mut out = Vec::new();
            record(&mut out, b"k", &vec![b'v'; n]);
            let text = String::from_utf8(out.clone()).unwrap();
            let len: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(len, out.len());
        }
    }
}
