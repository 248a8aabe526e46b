//! From 512-byte blocks to entries: ustar, pax, GNU and old tars.
//!
//! Every byte that is no file's content goes into the tar-split file as it is.

use super::error::{Limits, Refusal, UnpackError};
use super::feed::Feed;
use super::pax::{Pax, parse_number};
use super::sparse::{SparseMap, gnu_map, map_in_data};
use super::split::{CONTENT_CRC, SplitWriter};
use crate::index::Kind;
use crate::sys::{Time, makedev};

pub(super) const BLOCK: usize = 512;
/// Largest parts of a device number that Linux knows (`include/linux/kdev_t.h`: 12 and 20 bits).
/// mknod cuts off what is above, so that a larger one would make another device, or a whiteout.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Anything but a hard link.
    Node(Kind),
    /// A hard link.
    Link,
}

/// One entry of a tar, all extensions applied.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) r#type: Type,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) rdev: u64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of content that follow in the stream.
    pub(super) data: u64,
    pub(super) sparse: Option<SparseMap>,
}

impl Entry {
    /// Length of the file.
    pub(super) fn size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.data, |s| s.real)
    }
}

/// How the content of an entry is kept for the tar to come out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// It lies in the layer directory under the entry's name.
    InFile,
    /// It does not, or not as it is: its bytes go into the tar-split file.
    Raw,
}

/// Walks over a tar.
pub(super) struct Walker<'l, F> {
    feed: F,
    pub(super) split: Option<SplitWriter>,
    limits: &'l Limits,
    offset: u64,
    after: Vec<u8>,
}

impl<'l, F: Feed> Walker<'l, F> {
    pub(super) fn new(feed: F, split: Option<SplitWriter>, limits: &'l Limits) -> Self {
        Walker { feed, split, limits, offset: 0, after: b"nothing".to_vec() }
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.split.as_mut().map_or(Ok(()), |s| s.raw(bytes))
    }

    fn bad(&self, why: &'static str) -> UnpackError {
        let offset = self.offset - BLOCK as u64;
        UnpackError::BadHeader { offset, why, after: self.after.clone() }
    }

    fn truncated(&self) -> UnpackError {
        UnpackError::Truncated(self.after.clone())
    }

    /// Reads a block, or `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let mut b = [0; BLOCK];
        let n = self.feed.fill(&mut b)?;
        self.offset += n as u64;
        self.raw(&b[..n])?;
        match n {
            0 => Ok(None),
            BLOCK => Ok(Some(b)),
            _ => Err(self.truncated()),
        }
    }

    /// Reads `size` bytes and their padding; at most the limit for headers.
    fn record(&mut self, block: &[u8; BLOCK], size: u64) -> Result<Vec<u8>, UnpackError> {
        let limit = self.limits.header;
        if size > limit as u64 {
            let name = tar::Header::from_byte_slice(block).path_bytes();
            return Err(Refusal::TooLong("header record", limit).of(&name));
        }
        let mut out = Vec::new();
        while (out.len() as u64) < size {
            out.extend_from_slice(&self.block()?.ok_or_else(|| self.truncated())?);
        }
        out.truncate(size as usize);
        Ok(out)
    }

    /// Returns the next entry; its content is still to be read with [`Walker::data`].
    pub(super) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let (mut pax, mut long_name, mut long_link) = (None::<Pax>, None, None);
        loop {
            let Some(block) = self.block()? else {
                if pax.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(self.truncated());
                }
                return Ok(None);
            };
            if block == [0; BLOCK] {
                if pax.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(self.bad("an extension header without an entry"));
                }
                return match self.block()? {
                    None => Ok(None),
                    Some(second) if second == [0; BLOCK] => Ok(None),
                    Some(_) => Err(self.bad("data behind a single zero block")),
                };
            }
            if !checksum_matches(&block) {
                return Err(self.bad("wrong checksum"));
            }
            let h = tar::Header::from_byte_slice(&block);
            let size = field(&h.as_old().size).and_then(|n| u64::try_from(n).ok());
            let size = size.ok_or_else(|| self.bad("its size is no number"))?;
            match h.as_old().linkflag[0] {
                b'x' | b'X' => {
                    let body = self.record(&block, size)?;
                    let limits = self.limits;
                    pax = Some(Pax::parse(&body, limits).map_err(|r| r.of(&h.path_bytes()))?);
                }
                // says something of all entries to come, which layers do not use
                b'g' => {
                    self.record(&block, size)?;
                }
                b'L' => long_name = Some(until_nul(self.record(&block, size)?)),
                b'K' => long_link = Some(until_nul(self.record(&block, size)?)),
                _ => {
                    let pax = pax.unwrap_or_default();
                    let e = self.entry(&block, size, pax, long_name, long_link)?;
                    self.after.clone_from(&e.name);
                    return Ok(Some(e));
                }
            }
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, UnpackError> {
        let h = tar::Header::from_byte_slice(block);
        let old = h.as_old();
        let flag = old.linkflag[0];
        let name = pax.path.or(long_name).unwrap_or_else(|| h.path_bytes().into_owned());
        let link = pax
            .linkpath
            .or(long_link)
            .unwrap_or_else(|| h.link_name_bytes().unwrap_or_default().into_owned());
        let refuse = |r: Refusal| r.of(&name);
        let id = |from_pax: Option<u64>, raw: &[u8], what| {
            let n = from_pax.or_else(|| field(raw).and_then(|n| u64::try_from(n).ok()));
            // the last one is no owner: to chown it means "leave as it is"
            let n = n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n != u32::MAX);
            n.ok_or_else(|| refuse(Refusal::Number(what)))
        };
        let uid = id(pax.uid, &old.uid, "owner")?;
        let gid = id(pax.gid, &old.gid, "group")?;
        let mode = field(&old.mode).ok_or_else(|| refuse(Refusal::Number("mode")))?;
        let mtime = match pax.mtime {
            Some(t) => t,
            None => {
                let sec = field(&old.mtime).ok_or_else(|| refuse(Refusal::Number("mtime")))?;
                Time { sec, nsec: 0 }
            }
        };
        let slash = name.ends_with(b"/");
        let r#type = match flag {
            0 | b'0' if slash => Type::Node(Kind::Dir),
            0 | b'0' | b'7' | b'S' => Type::Node(Kind::File),
            b'1' => Type::Link,
            b'2' => Type::Node(Kind::Symlink),
            b'3' => Type::Node(Kind::Char),
            b'4' => Type::Node(Kind::Block),
            b'5' => Type::Node(Kind::Dir),
            b'6' => Type::Node(Kind::Fifo),
            other => return Err(refuse(Refusal::Type(other))),
        };
        let rdev = if matches!(flag, b'3' | b'4') {
            let part = |at: usize| {
                let n = field(&block[at..at + 8]).and_then(|n| u32::try_from(n).ok());
                n.ok_or_else(|| refuse(Refusal::Number("device number")))
            };
            let (major, minor) = (part(329)?, part(337)?);
            if major > MAJOR_MAX || minor > MINOR_MAX {
                return Err(refuse(Refusal::Number("device number")));
            }
            makedev(major, minor)
        } else {
            0
        };
        // only files have content; the sizes of others mean nothing
        let has_data = match flag {
            b'0' | b'7' | b'S' => true,
            0 => !slash,
            _ => false,
        };
        let mut e = Entry {
            r#type,
            mode: mode as u32 & 0o7777,
            uid,
            gid,
            mtime,
            rdev,
            xattrs: pax.xattrs,
            data: if has_data { pax.size.unwrap_or(size) } else { 0 },
            sparse: None,
            name,
            link,
        };
        if i64::try_from(e.data).is_err() {
            return Err(Refusal::Number("size").of(&e.name));
        }
        if flag == b'S' {
            let limits = self.limits;
            let mut blocks = 0u64;
            let map = gnu_map(block, &mut || {
                blocks += 1;
                if blocks * BLOCK as u64 > limits.header as u64 {
                    return Err(Refusal::TooLong("sparse map", limits.header).of(&e.name));
                }
                self.block()
            })?;
            let map = map.ok_or_else(|| Refusal::Sparse.of(&e.name))?;
            e.sparse = Some(map.check(e.data).map_err(|r| r.of(&e.name))?);
        } else if let Some(sparse) = pax.sparse.filter(|_| has_data) {
            if let Some(name) = sparse.name {
                e.name = name;
            }
            let map = if sparse.map_in_data {
                let limit = self.limits.header;
                let mut left = e.data;
                let map = map_in_data(sparse.real, limit, &mut || {
                    left = left.checked_sub(BLOCK as u64).unwrap_or(u64::MAX);
                    if left == u64::MAX { Ok(None) } else { self.block() }
                });
                e.data = left;
                map?.ok_or_else(|| Refusal::Sparse.of(&e.name))?
            } else {
                SparseMap { real: sparse.real, parts: sparse.parts }
            };
            e.sparse = Some(map.check(e.data).map_err(|r| r.of(&e.name))?);
        }
        Ok(e)
    }

    /// Reads the content of the entry, hands it to `sink` with its offset in the file, and
    /// records how it comes out again.
    pub(super) fn data(
        &mut self,
        e: &Entry,
        keep: Keep,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let keep = if e.sparse.is_some() { Keep::Raw } else { keep };
        let mut crc = CONTENT_CRC.digest();
        let whole = [(0, e.data)];
        let parts = e.sparse.as_ref().map_or(&whole[..], |s| &s.parts);
        let mut left = e.data;
        for (start, len) in parts {
            let mut done = 0;
            while done < *len {
                let want = usize::try_from(*len - done).unwrap_or(usize::MAX);
                let piece = self.feed.chunk(want)?;
                if piece.is_empty() {
                    return Err(UnpackError::Truncated(e.name.clone()));
                }
                match (&mut self.split, keep) {
                    (Some(_), Keep::InFile) => crc.update(piece),
                    (Some(split), Keep::Raw) => split.raw(piece)?,
                    (None, _) => {}
                }
                sink(start + done, piece)?;
                done += piece.len() as u64;
                left -= piece.len() as u64;
                self.offset += piece.len() as u64;
            }
        }
        if let Some(split) = &mut self.split
            && keep == Keep::InFile
        {
            split.file(&e.name, e.data, crc.finalize())?;
        }
        let padding = left + e.data.wrapping_neg() % BLOCK as u64;
        self.skip(padding, &e.name)
    }

    fn skip(&mut self, mut n: u64, name: &[u8]) -> Result<(), UnpackError> {
        while n > 0 {
            let piece = self.feed.chunk(usize::try_from(n).unwrap_or(usize::MAX))?;
            if piece.is_empty() {
                // the padding of the last file may be missing, as may the end blocks
                return if n < BLOCK as u64 {
                    Ok(())
                } else {
                    Err(UnpackError::Truncated(name.to_vec()))
                };
            }
            n -= piece.len() as u64;
            self.offset += piece.len() as u64;
            if let Some(split) = &mut self.split {
                split.raw(piece)?;
            }
        }
        Ok(())
    }

    /// Reads what follows the last entry and returns the length of the whole stream.
    pub(super) fn finish(mut self) -> Result<(u64, Option<SplitWriter>), UnpackError> {
        loop {
            let piece = self.feed.chunk(usize::MAX)?;
            if piece.is_empty() {
                return Ok((self.offset, self.split));
            }
            self.offset += piece.len() as u64;
            if let Some(split) = &mut self.split {
                split.raw(piece)?;
            }
        }
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|b| *b == 0) {
        text.truncate(end);
    }
    text
}

/// Decodes a number field: octal text, or base-256 with its sign; empty is 0.
pub(super) fn field(raw: &[u8]) -> Option<i64> {
    let first = *raw.first()?;
    if first & 0x80 != 0 {
        // two's complement; bit 6 of the first byte is the sign, bit 7 says that it is binary
        let negative = first & 0x40 != 0;
        let mut n: i128 = if negative { -1 } else { 0 };
        for (i, b) in raw.iter().enumerate() {
            let b = match (i, negative) {
                (0, false) => b & 0x7f,
                _ => *b,
            };
            n = n << 8 | i128::from(b);
        }
        return i64::try_from(n).ok();
    }
    let text = raw.split(|b| *b == 0).next().unwrap_or(&[]).trim_ascii();
    if text.is_empty() { Some(0) } else { parse_number(text, 8) }
}

/// Compares the checksum, whose own field counts as spaces; old tars summed signed bytes.
fn checksum_matches(block: &[u8; BLOCK]) -> bool {
    let Some(wanted) = field(&block[148..156]) else { return false };
    let byte = |(i, b): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *b };
    let unsigned: i64 = block.iter().enumerate().map(byte).map(i64::from).sum();
    let signed: i64 = block.iter().enumerate().map(byte).map(|b| i64::from(b as i8)).sum();
    wanted == unsigned || wanted == signed
}
