//! The members of an archive that lies in a file: each name's place, read once. No member's name
//! ever becomes a path on disk, and no member's content is touched before it is asked for.
//!
//! Formats: POSIX ustar and pax, GNU long names.

use super::{ImageError, blob::FileRange};
use crate::name::printable;
use std::collections::HashMap;

const BLOCK: u64 = 512;
/// Longest pax or long-name header in bytes.
const EXTENSION_MAX: u64 = 1 << 20;
/// Most members that an image archive may have. A plain root file system may have any number.
const MEMBERS_MAX: usize = 100_000;
/// Longest name that can matter. A root file system may have longer ones.
const NAME_MAX: usize = 1024;
const LINKS_MAX: u32 = 16;

/// An indexed archive.
#[derive(Debug)]
pub(super) struct Archive {
    range: FileRange,
    members: HashMap<Vec<u8>, Member>,
    too_many: bool,
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        len: u64,
    },
    /// The name, cleaned, of the member that is meant.
    Link(Vec<u8>),
    Other,
}

/// What extension headers say of the member behind them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Archive {
    /// Reads all headers.
    ///
    /// # Errors
    /// It is no tar, or is damaged or truncated.
    pub(super) fn index(range: FileRange, what: &str) -> Result<Archive, ImageError> {
        let mut a = Archive { range, members: HashMap::new(), too_many: false };
        let mut ext = Extension::default();
        let mut pos = 0;
        while let Some(header) = a.header(pos, what)? {
            let bad = |why| ImageError::BadArchive { offset: pos, why };
            let kind = header.entry_type().as_byte();
            let own_size = header.entry_size().map_err(|_| bad("a size that is no number"))?;
            let extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
            let size = match kind {
                _ if extension => own_size,
                // these have no content, whatever their size says
                b'1'..=b'6' => 0,
                _ => ext.size.unwrap_or(own_size),
            };
            let data = match kind {
                b'S' => a.after_sparse_map(pos, &header, what)?,
                _ => pos + BLOCK,
            };
            let name = || match (&ext.path, extension) {
                (Some(p), false) => p.clone(),
                _ => header.path_bytes().into_owned(),
            };
            let end = data
                .checked_add(size)
                .and_then(|e| e.checked_next_multiple_of(BLOCK))
                .ok_or_else(|| bad("a size beyond all bounds"))?;
            if data + size > a.range.len {
                return Err(ImageError::TruncatedArchive(printable(&name())));
            }
            if extension {
                if size > EXTENSION_MAX {
                    return Err(bad("a header of more than 1 MiB"));
                }
                let content = a.piece(data, size).read_small("archive header", EXTENSION_MAX)?;
                ext.read(kind, &content).map_err(bad)?;
            } else {
                if kind == b'S' || ext.sparse {
                    ext.sparse = true;
                }
                let name = clean(&name(), b"");
                let link = ext.link.take().or_else(|| header.link_name_bytes().map(|l| l.into()));
                let dir = header.path_bytes().ends_with(b"/");
                let member = match kind {
                    _ if ext.sparse => Member::Other,
                    b'0' | 0 | b'7' if !dir => Member::File { offset: data, len: size },
                    b'1' => link.and_then(|l| clean(&l, b"")).map_or(Member::Other, Member::Link),
                    b'2' => match (link, &name) {
                        (Some(l), Some(n)) => clean(&l, n).map_or(Member::Other, Member::Link),
                        _ => Member::Other,
                    },
                    _ => Member::Other,
                };
                if let Some(name) = name {
                    a.add(name, member);
                }
                ext = Extension::default();
            }
            pos = end;
        }
        Ok(a)
    }

    /// Returns where the content of an old GNU sparse file begins: behind the blocks that continue
    /// the map of its header.
    fn after_sparse_map(
        &self,
        pos: u64,
        header: &tar::Header,
        what: &str,
    ) -> Result<u64, ImageError> {
        const MORE_IN_HEADER: usize = 482;
        const MORE_IN_BLOCK: usize = 504;
        let mut block = *header.as_bytes();
        let mut more = block[MORE_IN_HEADER];
        let mut at = pos + BLOCK;
        while more != 0 {
            let n = self.range.file.read_at(&mut block, self.range.offset + at);
            let n = n.map_err(ImageError::io(format!("read {what}")))?;
            if n < block.len() || at + BLOCK > self.range.len {
                return Err(ImageError::TruncatedArchive(printable(&header.path_bytes())));
            }
            more = block[MORE_IN_BLOCK];
            at += BLOCK;
        }
        Ok(at)
    }

    fn add(&mut self, name: Vec<u8>, member: Member) {
        if name.len() > NAME_MAX || matches!(&member, Member::Link(to) if to.len() > NAME_MAX) {
            return;
        }
        let top = [&b"manifest.json"[..], b"index.json", b"oci-layout"].contains(&&name[..]);
        // directories are never asked for; the documents that tell the kind always are
        if matches!(member, Member::Other) && !top {
            self.members.remove(&name);
        } else if top || self.members.len() < MEMBERS_MAX {
            self.members.insert(name, member);
        } else {
            self.too_many = true;
        }
    }

    fn piece(&self, offset: u64, len: u64) -> FileRange {
        FileRange { file: self.range.file.clone(), offset: self.range.offset + offset, len }
    }

    /// Reads the header at `pos`; `None` at the archive's end.
    fn header(&self, pos: u64, what: &str) -> Result<Option<tar::Header>, ImageError> {
        let mut block = [0; BLOCK as usize];
        let left = self.range.len.saturating_sub(pos);
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK {
            // trailing junk shorter than a block is none of ours, unless there is nothing else
            return if pos > 0 { Ok(None) } else { Err(not_tar(what)) };
        }
        let n = self.range.file.read_at(&mut block, self.range.offset + pos);
        let n = n.map_err(ImageError::io(format!("read {what}")))?;
        if n < block.len() {
            return Err(ImageError::TruncatedArchive(what.to_owned()));
        }
        if block == [0; BLOCK as usize] {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            let damaged = ImageError::BadArchive { offset: pos, why: "a wrong header checksum" };
            return Err(if pos == 0 { not_tar(what) } else { damaged });
        }
        Ok(Some(header))
    }

    /// Returns whether the archive has a file of this name.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.file(name).is_some()
    }

    /// Returns the content of the file `name`, through links within the archive, and the cleaned
    /// name under which the content lies.
    pub(super) fn file(&self, name: &[u8]) -> Option<(Vec<u8>, FileRange)> {
        let mut name = clean(name, b"")?;
        for _ in 0..LINKS_MAX {
            match self.members.get(&name)? {
                Member::File { offset, len } => return Some((name, self.piece(*offset, *len))),
                Member::Link(to) => name.clone_from(to),
                Member::Other => return None,
            }
        }
        None
    }

    /// Checks that an image archive has no more members than is sane.
    pub(super) fn check_count(&self) -> Result<(), ImageError> {
        if self.too_many {
            return Err(ImageError::TooMany { what: "members of the archive", limit: MEMBERS_MAX });
        }
        Ok(())
    }

    /// Returns all of the archive.
    pub(super) fn whole(&self) -> FileRange {
        self.range.clone()
    }
}

fn not_tar(what: &str) -> ImageError {
    ImageError::NotAnImage(
        what.to_owned(),
        "neither a tar archive (plain, gzip or zstd) nor a directory",
    )
}

impl Extension {
    fn read(&mut self, kind: u8, content: &[u8]) -> Result<(), &'static str> {
        let text = || content.split(|b| *b == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'L' => self.path = Some(text()),
            b'K' => self.link = Some(text()),
            // global headers say nothing that an image archive needs
            b'x' => {
                for (key, value) in pax_records(content)? {
                    match key {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => self.size = Some(number(value).ok_or("a pax size")?),
                        k if k.starts_with(b"GNU.sparse.") => self.sparse = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let n: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (n <= i64::MAX as u64).then_some(n)
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits pax records, `LENGTH KEY=VALUE\n`.
fn pax_records(mut rest: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    const BAD: &str = "a pax header that is none";
    let mut out = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().take(20).position(|b| *b == b' ').ok_or(BAD)?;
        let len = number(&rest[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(BAD)?;
        let record = rest.get(space + 1..len).and_then(|r| r.strip_suffix(b"\n")).ok_or(BAD)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        out.push((&record[..equals], &record[equals + 1..]));
        rest = &rest[len..];
    }
    Ok(out)
}

/// Returns `path`, relative to the directory that holds `from`, without `.`, `..` and doubled
/// slashes; `None` if it leaves the archive or is empty.
fn clean(path: &[u8], from: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if !path.starts_with(b"/") {
        parts.extend(from.split(|b| *b == b'/'));
        parts.pop();
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            p => parts.push(p),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::File;
    use std::io::Write as _;
    use std::sync::Arc;

    fn open(data: &[u8]) -> Result<Archive, ImageError> {
        let mut f = tempfile::tempfile().unwrap();
        f.write_all(data).unwrap();
        let file = Arc::new(File::from_std(f));
        Archive::index(FileRange { file, offset: 0, len: data.len() as u64 }, "test")
    }

    fn get(a: &Archive, name: &str) -> Option<Vec<u8>> {
        a.file(name.as_bytes()).map(|(_, r)| r.read_small("test", 1 << 20).unwrap())
    }

    fn add(b: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
        let mut h = tar::Header::new_gnu();
        h.set_size(data.len() as u64);
        b.append_data(&mut h, name, data).unwrap();
    }

    fn link(b: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, to: &str) {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_size(0);
        b.append_link(&mut h, name, to).unwrap();
    }

    #[test]
    fn members_are_found_through_links_inside() {
        let mut b = tar::Builder::new(Vec::new());
        add(&mut b, "./a/layer.tar", b"one");
        let long = format!("d/{}", "n".repeat(200));
        add(&mut b, &long, b"two");
        link(&mut b, tar::EntryType::Symlink, "b/layer.tar", "../a/layer.tar");
        link(&mut b, tar::EntryType::Link, "c", "a/layer.tar");
        link(&mut b, tar::EntryType::Symlink, "out", "../../etc/passwd");
        link(&mut b, tar::EntryType::Symlink, "loop", "loop");
        add(&mut b, "twice", b"old");
        add(&mut b, "twice", b"new");
        let a = open(&b.into_inner().unwrap()).unwrap();
        for (name, content) in [
            ("a/layer.tar", &b"one"[..]),
            ("./a//layer.tar", b"one"),
            ("b/layer.tar", b"one"),
            ("c", b"one"),
            (&long, b"two"),
            ("twice", b"new"),
        ] {
            assert_eq!(get(&a, name).as_deref(), Some(content), "{name}");
        }
        for none in ["out", "loop", "a", "", "../a/layer.tar", "x"] {
            assert_eq!(get(&a, none), None, "{none}");
        }
    }

    #[test]
    fn damage_is_told_and_never_panics() {
        let mut b = tar::Builder::new(Vec::new());
        add(&mut b, "first", &[1; 700]);
        add(&mut b, "second", &[2; 700]);
        let good = b.into_inner().unwrap();
        assert!(open(&good).is_ok());
        assert!(matches!(open(&good[..600]), Err(ImageError::TruncatedArchive(m)) if m == "first"));
        let mut bad = good.clone();
        bad[1536] ^= 1;
        assert!(matches!(open(&bad), Err(ImageError::BadArchive { offset: 1536, .. })));
        assert!(matches!(open(b"hello"), Err(ImageError::NotAnImage(..))));
        assert!(matches!(open(&[9; 4096]), Err(ImageError::NotAnImage(..))));
        let mut huge = good;
        huge[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
        let header = &mut huge[..512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(open(&huge).is_err());
    }

    #[test]
    fn the_map_of_a_sparse_member_is_stepped_over() {
        let mut b = tar::Builder::new(Vec::new());
        let mut h = tar::Header::new_gnu();
        h.set_path("sparse").unwrap();
        h.set_entry_type(tar::EntryType::GNUSparse);
        h.set_size(512);
        h.as_gnu_mut().unwrap().isextended = [1];
        h.set_cksum();
        // the map's second block, then the data
        let mut rest = [0u8; 1024];
        rest[..3].copy_from_slice(b"not");
        b.append(&h, &rest[..512]).unwrap();
        let mut all = b.into_inner().unwrap();
        all.truncate(1024);
        all.extend_from_slice(&[7; 512]);
        let mut b = tar::Builder::new(Vec::new());
        add(&mut b, "behind", b"x");
        all.extend(b.into_inner().unwrap());
        let a = open(&all).unwrap();
        assert_eq!(get(&a, "behind").as_deref(), Some(&b"x"[..]));
        assert_eq!(get(&a, "sparse"), None);
    }

    #[test]
    fn pax_records_are_bounded() {
        assert_eq!(pax_records(b"10 path=a\n").unwrap(), [(&b"path"[..], &b"a"[..])]);
        for bad in [&b"5"[..], b"99 path=a\n", b"0 a=b\n", b"-1 a=b\n", b"6 ab\n", b"3 \n"] {
            assert!(pax_records(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
