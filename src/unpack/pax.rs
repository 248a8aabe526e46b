//! Records of pax headers (POSIX pax, "pax Extended Header").
//!
//! The `tar` crate's iterator ends a record at its first line end, but values may hold line ends:
//! only the length that a record begins with counts.

use super::error::{Limits, Refusal};
use crate::sys::Time;

/// Most bytes of attribute names on one file, as in the kernel's `limits.h`.
const XATTR_LIST_MAX: usize = 64 << 10;

/// What a pax header says of the entry that follows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<PaxSparse>,
    /// Bytes of the attributes' names so far.
    xattr_names: usize,
}

/// A sparse file as GNU tar writes it in pax.
#[derive(Clone, Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real: u64,
    pub(super) parts: Vec<(u64, u64)>,
    /// Format 1.0: the map precedes the content.
    pub(super) map_in_data: bool,
}

impl Pax {
    pub(super) fn parse(mut body: &[u8], limits: &Limits) -> Result<Pax, Refusal> {
        let mut p = Pax::default();
        let mut sparse = PaxSparse::default();
        let (mut is_sparse, mut offset) = (false, None);
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or(Refusal::Pax)?;
            body = rest;
            let number = || {
                parse_number(value, 10)
                    .and_then(|n| u64::try_from(n).ok())
                    .ok_or(Refusal::Number("pax number"))
            };
            match key {
                b"path" => p.path = Some(value.to_vec()).filter(|v| !v.is_empty()),
                b"linkpath" => p.linkpath = Some(value.to_vec()).filter(|v| !v.is_empty()),
                b"uid" if !value.is_empty() => p.uid = Some(number()?),
                b"gid" if !value.is_empty() => p.gid = Some(number()?),
                b"size" if !value.is_empty() => p.size = Some(number()?),
                b"mtime" if !value.is_empty() => {
                    p.mtime = Some(parse_time(value).ok_or(Refusal::Number("mtime"))?);
                }
                b"GNU.sparse.major" => {
                    is_sparse = true;
                    sparse.map_in_data = value == b"1";
                }
                b"GNU.sparse.name" => sparse.name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    is_sparse = true;
                    sparse.real = number()?;
                }
                b"GNU.sparse.offset" => offset = Some(number()?),
                b"GNU.sparse.numbytes" => {
                    let start = offset.take().ok_or(Refusal::Sparse)?;
                    sparse.parts.push((start, number()?));
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|b| *b == b',').filter(|n| !n.is_empty());
                    let numbers: Option<Vec<u64>> =
                        numbers.map(|n| parse_number(n, 10)?.try_into().ok()).collect();
                    let numbers = numbers.filter(|n| n.len() % 2 == 0).ok_or(Refusal::Sparse)?;
                    sparse.parts = numbers.chunks_exact(2).map(|c| (c[0], c[1])).collect();
                }
                _ => {
                    let name = key
                        .strip_prefix(b"SCHILY.xattr.")
                        .or_else(|| key.strip_prefix(b"LIBARCHIVE.xattr."));
                    if let Some(name) = name.filter(|n| !n.is_empty()) {
                        p.xattr(name, value, key.starts_with(b"LIB"), limits)?;
                    }
                }
            }
        }
        if is_sparse {
            p.sparse = Some(sparse);
        }
        Ok(p)
    }

    fn xattr(
        &mut self,
        name: &[u8],
        value: &[u8],
        libarchive: bool,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        if name.len() > crate::name::NAME_MAX {
            return Err(Refusal::TooLong("xattr name", crate::name::NAME_MAX));
        }
        if value.len() > limits.xattr {
            return Err(Refusal::TooLong("xattr value", limits.xattr));
        }
        if name.contains(&0) {
            return Err(Refusal::Pax);
        }
        // the kernel cannot list more, and without a bound a header costs its length squared
        self.xattr_names += name.len() + 1;
        if self.xattr_names > XATTR_LIST_MAX {
            return Err(Refusal::TooLong("list of xattr names", XATTR_LIST_MAX));
        }
        let had = self.xattrs.iter().position(|(n, _)| n == name);
        if !libarchive {
            // the last record of a name counts
            had.map(|i| self.xattrs.remove(i));
            self.xattrs.push((name.to_vec(), value.to_vec()));
        } else if had.is_none() {
            // libarchive writes both forms: base64 here, the name percent-encoded
            let trimmed = value.trim_ascii_end();
            let end = trimmed.iter().rposition(|b| *b != b'=').map_or(0, |i| i + 1);
            let value = STANDARD_NO_PAD.decode(&trimmed[..end]).map_err(|_| Refusal::Pax)?;
            let name = percent_decoded(name);
            if self.xattrs.iter().all(|(n, _)| *n != name) && !name.contains(&0) {
                self.xattrs.push((name, value));
            }
        }
        Ok(())
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%');
        match code.and_then(|c| u8::from_str_radix(std::str::from_utf8(c).ok()?, 16).ok()) {
            Some(b) => {
                out.push(b);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Splits the first record off: `LENGTH SPACE KEY = VALUE NEWLINE`.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|b| *b == b' ')?;
    let len = usize::try_from(parse_number(&body[..space], 10)?).ok()?;
    let (record, rest) = body.split_at_checked(len)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    Some((&text[..equals], &text[equals + 1..], rest))
}

/// Parses digits, and nothing but digits.
pub(super) fn parse_number(text: &[u8], base: u32) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0i64, |n, b| {
        let digit = char::from(*b).to_digit(base)?;
        n.checked_mul(base.into())?.checked_add(digit.into())
    })
}

/// Parses `[-]SECONDS[.FRACTION]`; digits beyond the nanosecond are cut.
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |t| (true, t));
    let mut parts = text.splitn(2, |b| *b == b'.');
    let sec = parse_number(parts.next()?, 10)?;
    let mut nsec = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let digit = |i: usize| fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
        nsec = (0..9).fold(0, |n, i| n * 10 + digit(i));
    }
    Some(match (negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec },
        (true, _) => Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[(&str, &[u8])]) -> Result<Pax, Refusal> {
        let mut body = Vec::new();
        for (k, v) in records {
            body.extend(crate::unpack::testing::pax_record(k.as_bytes(), v));
        }
        Pax::parse(&body, &Limits { xattr: 100, ..Limits::default() })
    }

    #[test]
    fn values_may_hold_anything() {
        let p = pax(&[("SCHILY.xattr.user.a", b"\0\n=\xff"), ("path", b"a\nb"), ("size", b"77")]);
        let p = p.unwrap();
        assert_eq!(p.xattrs, [(b"user.a".to_vec(), b"\0\n=\xff".to_vec())]);
        assert_eq!((p.path, p.size), (Some(b"a\nb".to_vec()), Some(77)));
        let p = pax(&[("LIBARCHIVE.xattr.user.a%20b", b"AP8=")]).unwrap();
        assert_eq!(p.xattrs, [(b"user.a b".to_vec(), vec![0, 0xff])]);
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in
            [&b"5 a=b"[..], b"99 a=b\n", b"x a=b\n", b"6 a-b\n", b"0 a=b\n", b"3 a=b\n", b" "]
        {
            assert!(Pax::parse(bad, &Limits::default()).is_err(), "{bad:?}");
        }
        assert!(pax(&[("uid", b"-1")]).is_err());
        assert!(pax(&[("size", b"99999999999999999999")]).is_err());
        assert!(pax(&[("SCHILY.xattr.user.a", &[0; 101])]).is_err());
        assert!(pax(&[("GNU.sparse.map", b"1,2,3")]).is_err());
    }

    #[test]
    fn times_have_signs_and_fractions() {
        let t = |s: &str| parse_time(s.as_bytes()).map(|t| (t.sec, t.nsec));
        assert_eq!(t("12.5"), Some((12, 500_000_000)));
        assert_eq!(t("-1"), Some((-1, 0)));
        assert_eq!(t("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(t("0.0000000019"), Some((0, 1)));
        assert_eq!(t("-0.5"), Some((-1, 500_000_000)));
        assert_eq!((t(""), t("1.x"), t("--1"), t("1e3")), (None, None, None, None));
    }
}
