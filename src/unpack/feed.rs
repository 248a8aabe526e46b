//! The uncompressed stream: decompressed and hashed by one thread, handed to another in large
//! buffers.

use super::error::{Limits, UnpackError};
use crate::id::{DiffId, Hash};
use sha2::{Digest as _, Sha256};
use std::io::{BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

/// A stream of bytes, handed out in pieces that need no copy.
pub(super) trait Feed {
    /// Returns the next bytes, at least one and at most `max`; none at the end.
    fn chunk(&mut self, max: usize) -> Result<&[u8], UnpackError>;

    /// Fills `out`; returns how many bytes there were.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, UnpackError> {
        let mut done = 0;
        while done < out.len() {
            let piece = self.chunk(out.len() - done)?;
            if piece.is_empty() {
                break;
            }
            out[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
        Ok(done)
    }
}

/// Length of a buffer: a multiple of the tar block, so that headers do not straddle buffers.
const BUFFER: usize = 256 << 10;
/// Buffers on their way.
pub(super) const BUFFERS: usize = 6;

/// What the reading thread sends.
pub(super) type Parcel = Result<Vec<u8>, UnpackError>;

/// The receiving end.
pub(super) struct Channel {
    pub(super) full: Receiver<Parcel>,
    pub(super) empty: Sender<Vec<u8>>,
    pub(super) now: Vec<u8>,
    pub(super) at: usize,
}

impl Feed for Channel {
    fn chunk(&mut self, max: usize) -> Result<&[u8], UnpackError> {
        while self.at == self.now.len() {
            match self.full.recv() {
                Ok(parcel) => {
                    let old = std::mem::replace(&mut self.now, parcel?);
                    // a reader that has finished takes no buffers back
                    self.empty.send(old).unwrap_or_default();
                    self.at = 0;
                }
                Err(_) => return Ok(&[]),
            }
        }
        let end = self.now.len().min(self.at.saturating_add(max));
        let piece = &self.now[self.at..end];
        self.at = end;
        Ok(piece)
    }
}

struct Counting<'r> {
    inner: &'r mut dyn Read,
    count: &'r std::cell::Cell<u64>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// Reads `blob` to its end, sends the uncompressed bytes and returns their digest. Stops early,
/// with a digest of no meaning, when nobody receives any more. An error is sent.
pub(super) fn produce(
    blob: &mut dyn Read,
    limits: &Limits,
    full: &SyncSender<Parcel>,
    empty: &Receiver<Vec<u8>>,
) -> DiffId {
    let mut hash = Sha256::new();
    if let Err(e) = pump(blob, limits, full, empty, &mut hash) {
        // the receiver has given up for a reason of its own, which it will tell
        full.send(Err(e)).unwrap_or_default();
    }
    DiffId::new(Hash(hash.finalize().into()))
}

fn pump(
    blob: &mut dyn Read,
    limits: &Limits,
    full: &SyncSender<Parcel>,
    empty: &Receiver<Vec<u8>>,
    hash: &mut Sha256,
) -> Result<(), UnpackError> {
    let taken = std::cell::Cell::new(0);
    let mut stream = decompress(Counting { inner: blob, count: &taken })?;
    let mut total = 0u64;
    loop {
        let mut buf = empty.try_recv().unwrap_or_default();
        buf.resize(BUFFER, 0);
        let mut len = 0;
        while len < BUFFER {
            match stream.read(&mut buf[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(UnpackError::Read(e)),
            }
        }
        buf.truncate(len);
        hash.update(&buf);
        total += len as u64;
        if total > limits.bytes {
            let what = "bytes when uncompressed";
            return Err(UnpackError::Limit { what, limit: limits.bytes });
        }
        if total > limits.ratio_free && total / limits.ratio.max(1) > taken.get() {
            let what = "uncompressed bytes for each compressed one";
            return Err(UnpackError::Limit { what, limit: limits.ratio });
        }
        if len == 0 || full.send(Ok(buf)).is_err() {
            return Ok(());
        }
    }
}

fn decompress<'r>(mut blob: Counting<'r>) -> Result<Box<dyn Read + 'r>, UnpackError> {
    let mut head = Vec::with_capacity(8);
    (&mut blob).take(8).read_to_end(&mut head).map_err(UnpackError::Read)?;
    let skippable = matches!(head[..], [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    let is = |magic: &[u8]| head.starts_with(magic);
    let (gzip, zstd) = (is(b"\x1f\x8b\x08"), is(b"\x28\xb5\x2f\xfd") || skippable);
    for (magic, name) in
        [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")]
    {
        if is(magic) {
            return Err(UnpackError::Compression(name));
        }
    }
    let whole = BufReader::with_capacity(128 << 10, Cursor::new(head).chain(blob));
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole).map_err(UnpackError::Read)?)
    } else {
        Box::new(whole)
    })
}
