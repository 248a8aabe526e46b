//! Compression of a whole archive, told by its first bytes.

use super::{ImageError, blob::FileRange};
use crate::sys::{Dir, File};
use std::cell::Cell;
use std::io::{self, Read};
use std::sync::Arc;

/// A compression, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    Unsupported(&'static str),
}

impl Compression {
    /// Tells it from the first bytes; six are enough.
    pub(super) fn of(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
            // a frame, or a skippable frame before it
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Unsupported("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Unsupported("bzip2"),
            [b'L', b'Z', b'I', b'P', ..] => Compression::Unsupported("lzip"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Unsupported("lz4"),
            _ => Compression::None,
        }
    }
}

/// Writes a whole stream, decompressed, into an unnamed file of `dir`, which is gone when the last
/// handle is closed. Memory stays bounded, disk by `limit` bytes.
pub(super) fn spool(
    mut input: impl Read,
    dir: &Dir,
    limit: u64,
    what: &str,
) -> Result<FileRange, ImageError> {
    let failed = |e: io::Error| ImageError::from_reader(e, &format!("read {what}"));
    let mut head = [0; 6];
    let mut have = 0;
    while have < head.len() {
        match input.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let kind = Compression::of(&head[..have]);
    let taken = Cell::new(0);
    let input = io::Cursor::new(head).take(have as u64).chain(input);
    let input = Counted { inner: input, count: &taken };
    let mut stream: Box<dyn Read + '_> = match kind {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(input).map_err(failed)?),
        Compression::Unsupported(name) => return Err(unsupported(what, name)),
    };
    let file = dir.tmpfile(0o600).map_err(ImageError::io("make a temporary file in the store"))?;
    let is_bomb = |len| kind != Compression::None && is_bomb(len, taken.get());
    let len = copy(&mut stream, &file, limit, &is_bomb, what)?;
    Ok(FileRange { file: Arc::new(file), offset: 0, len })
}

pub(super) fn unsupported(what: &str, name: &str) -> ImageError {
    ImageError::BadDocument {
        what: what.to_owned(),
        why: format!("it is compressed with {name}; give it as gzip, zstd or plain tar"),
    }
}

/// Uncompressed bytes for each compressed one, beyond the first `RATIO_FREE`: as for a layer.
const RATIO: u64 = 200;
const RATIO_FREE: u64 = 1 << 30;

struct Counted<'c, R> {
    inner: R,
    count: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// Returns whether `len` bytes are more than anything honest becomes from `taken` compressed ones.
fn is_bomb(len: u64, taken: u64) -> bool {
    len > RATIO_FREE && len / RATIO > taken
}

fn copy(
    stream: &mut dyn Read,
    file: &File,
    limit: u64,
    is_bomb: &dyn Fn(u64) -> bool,
    what: &str,
) -> Result<u64, ImageError> {
    let mut buf = vec![0; 1 << 18];
    let mut len = 0;
    loop {
        let n = match stream.read(&mut buf) {
            Ok(0) => return Ok(len),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ImageError::from_reader(e, &format!("read {what}"))),
        };
        if len + n as u64 > limit {
            return Err(ImageError::TooLarge { what: format!("{what}, unpacked,"), limit });
        }
        if is_bomb(len + n as u64) {
            let why = "it becomes more than 200 times as large when decompressed; \
                       decompress it yourself if you trust it";
            return Err(ImageError::document(what, why));
        }
        let done = file.write_at(&buf[..n], len).map_err(ImageError::io(SPOOL))?;
        if done < n {
            return Err(ImageError::io(SPOOL)(crate::sys::Errno::NOSPC));
        }
        len += n as u64;
    }
}

const SPOOL: &str = "write a temporary file in the store";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn spooled(data: &[u8], limit: u64) -> Result<Vec<u8>, ImageError> {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        let range = spool(data, &dir, limit, "test")?;
        assert!(dir.is_empty().unwrap());
        range.read_small("test", u64::MAX)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        z.write_all(data).unwrap();
        z.finish().unwrap()
    }

    #[test]
    fn bombs_are_known_by_their_ratio() {
        let gib = 1 << 30;
        assert!(!is_bomb(gib, 1) && is_bomb(gib + 1, 1));
        assert!(is_bomb(4 * gib, gib / 100) && !is_bomb(4 * gib, gib / 10));
    }

    #[test]
    fn every_form_gives_the_same_bytes() {
        let data = vec![7; 100_000];
        let half = data.len() / 2;
        let zstd = zstd::encode_all(&data[..], 1).unwrap();
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
        let members = [gzip(&data[..half]), gzip(&data[half..])].concat();
        for form in [&data[..], &gzip(&data), &members, &zstd, &skippable] {
            assert_eq!(spooled(form, 200_000).unwrap(), data);
        }
        assert!(matches!(spooled(&gzip(&data), 99_999), Err(ImageError::TooLarge { .. })));
        assert!(spooled(&gzip(&data)[..50], 200_000).is_err());
        assert!(spooled(b"\xfd7zXZ\0...", 100).unwrap_err().to_string().contains("xz"));
        assert_eq!(spooled(b"", 10).unwrap(), b"");
    }
}
