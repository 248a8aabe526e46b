//! A directory tree as a layer: read as a deterministic tar that is made on the fly, names sorted
//! by their bytes. A directory in overlay form comes out in the form of the image-spec:
//! whiteouts as `.wh.` names, opaque directories with `.wh..wh..opq`. Layers cannot express
//! redirects and metadata-only copies, so what those mean is taken from the layers below and
//! written whole: a moved directory becomes an opaque one with all of its content.

use super::ImageError;
use super::lower::Stack;
use super::tarball::BLOCK;
use super::walk::Walk;
use crate::name::printable;
use crate::sys::{Dir, Errno, File, FileType, OpenFlags, Seek, Stat};
use std::io::{self, Read};

/// A directory that is one layer, and those below it.
#[derive(Debug)]
pub(super) struct TreeLayer {
    /// The layer's directory, and behind it those below.
    pub(super) stack: Stack,
    /// Device and inode of a directory to leave out: the store, should it lie within the tree.
    pub(super) skip: Option<(u64, u64)>,
}

impl TreeLayer {
    /// Opens the layer as a tar stream.
    pub(super) fn open(&self) -> Result<TreeReader, ImageError> {
        Ok(TreeReader {
            walk: Walk::new(self.stack.clone(), self.skip),
            buf: Vec::new(),
            pos: 0,
            content: None,
            ended: false,
        })
    }
}

/// The tar stream of a tree.
#[derive(Debug)]
pub(super) struct TreeReader {
    walk: Walk,
    buf: Vec<u8>,
    pos: usize,
    content: Option<Content>,
    ended: bool,
}

/// The content of a file that is being read.
#[derive(Debug)]
pub(super) struct Content {
    file: File,
    path: Vec<u8>,
    /// The pieces still to come, last first: offset and length.
    pieces: Vec<(u64, u64)>,
    done: u64,
}

impl Read for TreeReader {
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
            } else if !self.walk.next(&mut self.buf, &mut self.content)? {
                self.buf.resize(2 * BLOCK, 0);
                self.ended = true;
            }
        }
    }
}

impl Content {
    /// Takes the pieces of `file` that are to be read, in order.
    pub(super) fn new(file: File, path: Vec<u8>, mut pieces: Vec<(u64, u64)>) -> Content {
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
            let n = n.map_err(|e| bad(&self.path, e))?;
            if n == 0 {
                return Err(bad(&self.path, "it became shorter while it was read"));
            }
            *offset += n as u64;
            *len -= n as u64;
            self.done += n as u64;
            return Ok(n);
        }
        Ok(0)
    }
}

pub(super) fn bad(path: &[u8], why: impl ToString) -> ImageError {
    ImageError::BadTree { path: printable(path), why: why.to_string() }
}

pub(super) fn open_content(
    dir: &Dir,
    name: &[u8],
    path: &[u8],
) -> Result<(File, Stat), ImageError> {
    let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
    let file = dir.open_file(name, flags, 0).map_err(|e| bad(path, e))?;
    let stat = file.stat().map_err(|e| bad(path, e))?;
    if stat.file_type() != FileType::File {
        return Err(bad(path, "it is no regular file any more"));
    }
    Ok((file, stat))
}

/// Returns the pieces of data of a file that consists of holes for the greater part.
pub(super) fn holes(file: &File, stat: &Stat) -> Option<Vec<(u64, u64)>> {
    const WORTH: u64 = 1 << 20;
    const PIECES_MAX: usize = 4096;
    if stat.size < WORTH || stat.blocks.saturating_mul(512) > stat.size / 2 {
        return None;
    }
    let mut pieces = Vec::new();
    let mut pos = 0;
    while pos < stat.size {
        let start = match file.seek(Seek::Data, pos) {
            Ok(s) => s,
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = file.seek(Seek::Hole, start).ok()?.min(stat.size);
        if start >= stat.size {
            break;
        }
        if end <= start || pieces.len() == PIECES_MAX {
            return None;
        }
        pieces.push((start, end - start));
        pos = end;
    }
    // a last piece of length 0 tells readers where the file ends
    pieces.push((stat.size, 0));
    Some(pieces)
}
