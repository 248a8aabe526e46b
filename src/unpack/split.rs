//! `tar-split.json.gz`: everything of a layer tar but the files' content, so that the tar can be
//! put together again byte for byte.
//!
//! Form: vbatts/tar-split `tar/storage/entry.go`, JSON documents, one a line.

use super::error::UnpackError;
use super::feed::Feed;
use crate::sys::{Dir, File, OpenFlags, RenameFlags};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc::{CRC_64_GO_ISO, Crc, Table};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::sync::LazyLock;

/// Name of the file in a layer's layerdb entry.
pub const SPLIT_NAME: &[u8] = b"tar-split.json.gz";

/// The checksum of a file's content. The table is made when it is needed: in the program it would
/// be 32 KiB that every mount reads.
pub(super) static CONTENT_CRC: LazyLock<Box<Crc<u64, Table<16>>>> =
    LazyLock::new(|| Box::new(Crc::<u64, Table<16>>::new(&CRC_64_GO_ISO)));

/// Raw bytes of one line at most.
const PIECE: usize = 1 << 20;
/// A line at most, when reading what others wrote.
const LINE_MAX: u64 = 64 << 20;

type Gz = flate2::write::GzEncoder<BufWriter<std::fs::File>>;

/// Writes the file while the tar goes by.
pub(super) struct SplitWriter {
    out: Gz,
    raw: Vec<u8>,
    line: Vec<u8>,
    pub(super) position: u64,
}

impl SplitWriter {
    pub(super) fn create(meta: &Dir, name: &[u8]) -> Result<SplitWriter, UnpackError> {
        let file = meta
            .open_file(name, OpenFlags::CREATE_NEW, 0o644)
            .map_err(|e| UnpackError::Split(e.into()))?;
        let out = BufWriter::with_capacity(64 << 10, file.into_std());
        let out = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        Ok(SplitWriter { out, raw: Vec::new(), line: Vec::new(), position: 0 })
    }

    /// Records bytes to copy out.
    pub(super) fn raw(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while self.raw.len() + bytes.len() > PIECE {
            let (now, later) = bytes.split_at(PIECE - self.raw.len());
            self.raw.extend_from_slice(now);
            self.flush()?;
            bytes = later;
        }
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), UnpackError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let mut text = String::with_capacity(self.raw.len() / 3 * 4 + 64);
        text.push_str(r#"{"type":2,"payload":""#);
        STANDARD.encode_string(&self.raw, &mut text);
        text.push_str(&format!("\",\"position\":{}}}\n", self.position));
        self.raw.clear();
        self.position += 1;
        self.out.write_all(text.as_bytes()).map_err(UnpackError::Split)
    }

    /// Records the place of a file's content; size 0 for all that has none.
    pub(super) fn file(&mut self, name: &[u8], size: u64, crc: u64) -> Result<(), UnpackError> {
        self.flush()?;
        let line = &mut self.line;
        line.clear();
        line.extend(br#"{"type":1,"#);
        match std::str::from_utf8(name) {
            Ok(text) => {
                line.extend(br#""name":"#);
                serde_json::to_writer(&mut *line, text)
                    .map_err(|e| UnpackError::Split(e.into()))?;
            }
            Err(_) => line.extend(format!(r#""name_raw":"{}""#, STANDARD.encode(name)).bytes()),
        }
        if size == 0 {
            line.extend(br#","payload":null"#);
        } else {
            let sum = STANDARD.encode(crc.to_be_bytes());
            line.extend(format!(r#","size":{size},"payload":"{sum}""#).bytes());
        }
        line.extend(format!(",\"position\":{}}}\n", self.position).bytes());
        self.position += 1;
        self.out.write_all(line).map_err(UnpackError::Split)
    }

    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        self.flush()?;
        let mut buffered = self.out.finish().map_err(UnpackError::Split)?;
        buffered.flush().map_err(UnpackError::Split)
    }
}

#[derive(Deserialize)]
struct Line {
    r#type: u8,
    name: Option<String>,
    name_raw: Option<String>,
    size: Option<u64>,
    payload: Option<String>,
    #[serde(default)]
    position: u64,
}

/// One document of the file.
pub(super) enum Piece {
    Raw(Vec<u8>),
    File { name: Vec<u8>, size: u64, crc: u64, position: u64 },
}

/// Reads the file.
pub(super) struct SplitReader<'r> {
    lines: BufReader<flate2::read::MultiGzDecoder<&'r mut dyn Read>>,
    line: Vec<u8>,
}

fn bad(why: &str) -> UnpackError {
    UnpackError::Split(std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned()))
}

impl<'r> SplitReader<'r> {
    pub(super) fn new(gz: &'r mut dyn Read) -> SplitReader<'r> {
        let lines = BufReader::with_capacity(64 << 10, flate2::read::MultiGzDecoder::new(gz));
        SplitReader { lines, line: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Piece>, UnpackError> {
        self.line.clear();
        (&mut self.lines)
            .take(LINE_MAX)
            .read_until(b'\n', &mut self.line)
            .map_err(UnpackError::Split)?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let l: Line =
            serde_json::from_slice(&self.line).map_err(|e| UnpackError::Split(e.into()))?;
        let decode = |t: &Option<String>| {
            STANDARD.decode(t.as_deref().unwrap_or("")).map_err(|_| bad("broken base64"))
        };
        match l.r#type {
            2 => Ok(Some(Piece::Raw(decode(&l.payload)?))),
            1 => {
                let name = match (&l.name, &l.name_raw) {
                    (Some(n), _) => n.clone().into_bytes(),
                    (None, raw) => decode(raw)?,
                };
                let size = l.size.unwrap_or(0);
                let sum = decode(&l.payload)?;
                let crc = sum.first_chunk().map_or(0, |c| u64::from_be_bytes(*c));
                if size > 0 && sum.len() != 8 {
                    return Err(bad("a checksum that is none"));
                }
                Ok(Some(Piece::File { name, size, crc, position: l.position }))
            }
            _ => Err(bad("a document of unknown type")),
        }
    }
}

/// The tar's bytes with zeros in place of the files' content: enough to read all headers.
pub(super) struct Headers<'r> {
    pub(super) split: SplitReader<'r>,
    raw: Vec<u8>,
    at: usize,
    zeros: u64,
}

impl<'r> Headers<'r> {
    pub(super) fn new(split: SplitReader<'r>) -> Headers<'r> {
        Headers { split, raw: Vec::new(), at: 0, zeros: 0 }
    }
}

static ZEROS: [u8; 4 << 10] = [0; 4 << 10];

impl Feed for Headers<'_> {
    fn chunk(&mut self, max: usize) -> Result<&[u8], UnpackError> {
        while self.zeros == 0 && self.at == self.raw.len() {
            match self.split.next()? {
                None => return Ok(&[]),
                Some(Piece::Raw(bytes)) => (self.raw, self.at) = (bytes, 0),
                Some(Piece::File { size, .. }) => self.zeros = size,
            }
        }
        if self.zeros > 0 {
            let n = max.min(ZEROS.len()).min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
            self.zeros -= n as u64;
            return Ok(&ZEROS[..n]);
        }
        let end = self.raw.len().min(self.at.saturating_add(max));
        let piece = &self.raw[self.at..end];
        self.at = end;
        Ok(piece)
    }
}

/// Writes the layer's tar again, byte for byte: headers from `tar_split`, content from `diff`.
///
/// # Errors
/// A file that is missing or whose content is not what was unpacked; what `out` says.
pub fn assemble(
    tar_split: &mut dyn Read,
    diff: &Dir,
    out: &mut dyn Write,
) -> Result<(), UnpackError> {
    let mut split = SplitReader::new(tar_split);
    let mut buf = vec![0; 256 << 10];
    while let Some(piece) = split.next()? {
        match piece {
            Piece::Raw(bytes) => out.write_all(&bytes).map_err(UnpackError::Read)?,
            Piece::File { size: 0, .. } => {}
            Piece::File { name, size, crc, .. } => {
                let path = cleaned(&name);
                let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
                let file = diff
                    .open_file_beneath(&path, flags)
                    .map_err(|errno| UnpackError::Disk { name: name.clone(), errno })?;
                let sum = content(&file, size, &mut buf, |b| {
                    out.write_all(b).map_err(UnpackError::Read)
                })?;
                if sum != Some(crc) {
                    return Err(bad(&format!(
                        "{} was changed since the layer was unpacked",
                        crate::name::printable(&name)
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Hands a file's content to `f`; returns its checksum, or `None` if the length is not `size`.
fn content(
    file: &File,
    size: u64,
    buf: &mut [u8],
    mut f: impl FnMut(&[u8]) -> Result<(), UnpackError>,
) -> Result<Option<u64>, UnpackError> {
    let mut digest = CONTENT_CRC.digest();
    let mut at = 0;
    while at < size {
        let want = buf.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let n = file.read_at(&mut buf[..want], at).map_err(|e| UnpackError::Split(e.into()))?;
        if n == 0 {
            return Ok(None);
        }
        digest.update(&buf[..n]);
        f(&buf[..n])?;
        at += n as u64;
    }
    Ok(Some(digest.finalize()))
}

/// A path without the slashes and dots that mean nothing.
pub(super) fn cleaned(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> =
        name.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    parts.join(&b'/')
}

/// Something that a later entry of the layer replaced.
#[derive(Debug)]
pub(super) struct Replaced {
    /// Its path in the layer.
    pub(super) path: Vec<u8>,
    /// Its name in the stash.
    pub(super) stashed: Vec<u8>,
    /// Position at which it was replaced.
    pub(super) position: u64,
}

/// Writes the file again for a layer with duplicate names: what was replaced no longer lies in
/// `diff`, so its content goes into the file, and one document of each name stays.
pub(super) fn rewrite(meta: &Dir, stash: &Dir, replaced: &[Replaced]) -> Result<(), UnpackError> {
    let io = |e: crate::sys::Errno| UnpackError::Split(e.into());
    let open = || meta.open_file(SPLIT_NAME, OpenFlags::READ, 0).map(File::into_std).map_err(io);
    let mut last = HashMap::new();
    let mut old = open()?;
    let mut split = SplitReader::new(&mut old);
    while let Some(piece) = split.next()? {
        if let Piece::File { name, position, .. } = piece {
            last.insert(cleaned(&name), position);
        }
    }
    let tmp = b".tar-split.json.gz";
    let mut new = SplitWriter::create(meta, tmp)?;
    let mut old = open()?;
    let mut split = SplitReader::new(&mut old);
    let mut buf = vec![0; 256 << 10];
    while let Some(piece) = split.next()? {
        match piece {
            Piece::Raw(bytes) => new.raw(&bytes)?,
            Piece::File { name, size, crc, position } => {
                let path = cleaned(&name);
                let below = |r: &&Replaced| {
                    r.position > position
                        && path
                            .strip_prefix(&r.path[..])
                            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
                };
                match replaced.iter().find(below) {
                    Some(r) if size > 0 => {
                        let at = [&r.stashed[..], &path[r.path.len()..]].concat();
                        let file = stash
                            .open_file_beneath(&at, OpenFlags::READ)
                            .map_err(|errno| UnpackError::Disk { name: name.clone(), errno })?;
                        content(&file, size, &mut buf, |b| new.raw(b))?;
                    }
                    _ if last.get(&path) == Some(&position) || size > 0 => {
                        new.file(&name, size, crc)?;
                    }
                    _ => {}
                }
            }
        }
    }
    new.finish()?;
    meta.rename(tmp, meta, SPLIT_NAME, RenameFlags::Replace).map_err(io)
}
