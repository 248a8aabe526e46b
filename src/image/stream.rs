//! A layer's tar, made while it is read: a header is asked for when the content before it is out.

use super::ImageError;
use super::tarball::BLOCK;
use crate::sys::{Errno, File, Seek};
use std::fmt;
use std::io::{self, Read};

/// What gives the entries of a tar, one after the other.
pub(crate) trait Entries {
    /// Appends the next entry's header to `out`, and puts its content into `content` if it has
    /// some. Returns false when there is none left.
    fn next(
        &mut self,
        out: &mut Vec<u8>,
        content: &mut Option<Content>,
    ) -> Result<bool, ImageError>;
}

/// A file whose content goes into a tar.
pub(crate) trait Source: fmt::Debug + Send {
    /// Reads at `offset`, as pread(2) does.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// Finds data or a hole, as lseek(2) does.
    fn seek(&self, what: Seek, offset: u64) -> Result<u64, Errno>;
}

impl Source for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        File::read_at(self, buf, offset)
    }

    fn seek(&self, what: Seek, offset: u64) -> Result<u64, Errno> {
        File::seek(self, what, offset)
    }
}

/// The tar that some entries make.
#[derive(Debug)]
pub(crate) struct TarStream<E> {
    entries: E,
    buf: Vec<u8>,
    pos: usize,
    content: Option<Content>,
    ended: bool,
}

/// The content of a file that is being read.
#[derive(Debug)]
pub(crate) struct Content {
    file: Box<dyn Source>,
    path: Vec<u8>,
    /// The pieces still to come, last first: offset and length.
    pieces: Vec<(u64, u64)>,
    done: u64,
}

impl<E> TarStream<E> {
    pub(crate) fn new(entries: E) -> TarStream<E> {
        TarStream { entries, buf: Vec::new(), pos: 0, content: None, ended: false }
    }
}

impl<E: Entries> Read for TarStream<E> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.pos < self.buf.len() {
                let n = out.len().min(self.buf.len() - self.pos);
                out[..n].copy_from_slice(&self.buf[self.pos..self.pos + n]);
                self.pos += n;
                return Ok(n);
            }
            self.buf.clear();
            self.pos = 0;
            if let Some(content) = &mut self.content {
                match content.read(out)? {
                    0 => {
                        let rest = content.done % BLOCK as u64;
                        if rest != 0 {
                            self.buf.resize(BLOCK - rest as usize, 0);
                        }
                        self.content = None;
                    }
                    n => return Ok(n),
                }
            } else if self.ended {
                return Ok(0);
            } else if !self.entries.next(&mut self.buf, &mut self.content)? {
                self.buf.resize(2 * BLOCK, 0);
                self.ended = true;
            }
        }
    }
}

impl Content {
    /// Takes the pieces of `file` that are to be read, in order. `path` names it in errors.
    pub(crate) fn new(
        file: Box<dyn Source>,
        path: Vec<u8>,
        mut pieces: Vec<(u64, u64)>,
    ) -> Content {
        pieces.reverse();
        Content { file, path, pieces, done: 0 }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, ImageError> {
        while let Some((offset, len)) = self.pieces.last_mut() {
            if *len == 0 {
                self.pieces.pop();
                continue;
            }
            let want = out.len().min(usize::try_from(*len).unwrap_or(usize::MAX));
            let n = self.file.read_at(&mut out[..want], *offset);
            let n = n.map_err(|e| ImageError::bad_tree(&self.path, e))?;
            if n == 0 {
                return Err(ImageError::bad_tree(
                    &self.path,
                    "it became shorter while it was read",
                ));
            }
            *offset += n as u64;
            *len -= n as u64;
            self.done += n as u64;
            return Ok(n);
        }
        Ok(0)
    }
}

/// Returns the pieces of data of a file that consists of holes for the greater part; `None` of any
/// other. `size` in bytes, `blocks` of 512 bytes.
pub(crate) fn holes(file: &dyn Source, size: u64, blocks: u64) -> Option<Vec<(u64, u64)>> {
    const WORTH: u64 = 1 << 20;
    // their list is at most 1 MiB, which readers (Go's archive/tar) take
    const PIECES_MAX: usize = 24_576;
    if size < WORTH || blocks.saturating_mul(512) > size / 2 {
        return None;
    }
    let mut pieces = Vec::new();
    let mut pos = 0;
    while pos < size {
        let start = match file.seek(Seek::Data, pos) {
            Ok(s) => s,
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = file.seek(Seek::Hole, start).ok()?.min(size);
        if start >= size {
            break;
        }
        if end <= start || pieces.len() == PIECES_MAX {
            return None;
        }
        pieces.push((start, end - start));
        pos = end;
    }
    // a last piece of length 0 tells readers where the file ends
    pieces.push((size, 0));
    Some(pieces)
}
