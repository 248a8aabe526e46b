//! A layer's blob: where its bytes are, and a reader that checks them on the way.

use super::ImageError;
use super::tree::TreeLayer;
use crate::id::{DiffId, Digest, Hasher};
use crate::sys::{Dir, Errno, File, OpenFlags};
use std::io::{self, Read};
use std::sync::Arc;

/// One layer of a source image. It may be opened several times and from several threads at once.
#[derive(Clone, Debug)]
pub struct LayerBlob {
    /// The digest that the uncompressed stream must have; `None` if only the stream can tell.
    pub diff_id: Option<DiffId>,
    /// The digest of the bytes as they lie there, if the source says it.
    pub digest: Option<Digest>,
    /// Their number, if known beforehand.
    pub size: Option<u64>,
    /// What the layer is called in messages.
    pub name: String,
    pub(super) content: Content,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A piece of a file: of an archive, or of the spool.
    Range(FileRange),
    /// A file of an OCI layout directory, opened when needed.
    InLayout(Dir, Vec<u8>),
    /// In the descriptor itself.
    Embedded(Arc<[u8]>),
    /// A directory tree, turned into a tar as it is read.
    Tree(Arc<TreeLayer>),
    /// The source does not hold it; that matters only if the store does not either.
    Absent,
}

/// A piece of an open file.
#[derive(Clone, Debug)]
pub(super) struct FileRange {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl LayerBlob {
    /// Opens the layer's bytes as they lie there, compressed or not. The reader fails at its end,
    /// or earlier, if size or digest are not those that the source promised: read it to its end.
    ///
    /// # Errors
    /// The bytes are not there, are no regular file, or have another length.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, ImageError> {
        let wrong_size = |found| match self.size {
            Some(expected) if expected != found => {
                Err(ImageError::WrongSize { digest: self.name.clone(), expected, found })
            }
            _ => Ok(()),
        };
        Ok(match &self.content {
            Content::Range(range) => {
                wrong_size(range.len)?;
                self.checked(range.reader())
            }
            Content::InLayout(dir, path) => {
                let file = open_regular(dir, path)?.ok_or_else(|| self.missing())?;
                let len = file.stat().map_err(ImageError::io(&self.name))?.size;
                wrong_size(len)?;
                self.checked(FileRange { file: Arc::new(file), offset: 0, len }.reader())
            }
            Content::Embedded(bytes) => self.checked(io::Cursor::new(bytes.clone())),
            Content::Tree(tree) => Box::new(tree.open()),
            Content::Absent => return Err(self.missing()),
        })
    }

    fn missing(&self) -> ImageError {
        ImageError::Missing(format!("the blob of layer {}", self.name))
    }

    fn checked<R: Read + Send + 'static>(&self, inner: R) -> Box<dyn Read + Send> {
        Box::new(Checked {
            inner,
            hasher: self.digest.as_ref().map(Digest::hasher),
            digest: self.digest.clone(),
            size: self.size,
            name: self.name.clone(),
            seen: 0,
        })
    }
}

impl FileRange {
    pub(super) fn reader(&self) -> RangeReader {
        RangeReader { range: self.clone(), pos: 0 }
    }

    /// Reads all of it, if it is at most `limit` bytes.
    pub(super) fn read_small(&self, what: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        if self.len > limit {
            return Err(ImageError::TooLarge { what: what.to_owned(), limit });
        }
        let mut out = Vec::new();
        match self.reader().read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => Err(ImageError::from_reader(e, what)),
        }
    }
}

/// Reads a piece of a file without moving the file's own position.
#[derive(Debug)]
pub(super) struct RangeReader {
    range: FileRange,
    pos: u64,
}

impl Read for RangeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.range.len - self.pos;
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.range.file.read_at(&mut buf[..want], self.range.offset + self.pos)?;
        if n == 0 {
            return Err(ImageError::TruncatedArchive("a layer".to_owned()).into());
        }
        self.pos += n as u64;
        Ok(n)
    }
}

struct Checked<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Option<Digest>,
    size: Option<u64>,
    name: String,
    seen: u64,
}

impl<R: Read> Checked<R> {
    fn wrong_size(&self, expected: u64) -> io::Error {
        ImageError::WrongSize { digest: self.name.clone(), expected, found: self.seen }.into()
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.seen += n as u64;
        if let Some(expected) = self.size
            && (self.seen > expected || (n == 0 && !buf.is_empty() && self.seen < expected))
        {
            return Err(self.wrong_size(expected));
        }
        if n > 0 {
            if let Some(h) = &mut self.hasher {
                h.update(&buf[..n]);
            }
        } else if !buf.is_empty()
            && let (Some(h), Some(expected)) = (&self.hasher, &self.digest)
        {
            let found = h.clone().finish();
            if found != *expected {
                return Err(ImageError::WrongDigest { expected: expected.clone(), found }.into());
            }
        }
        Ok(n)
    }
}

/// Checks a whole blob in memory.
pub(super) fn check(bytes: &[u8], digest: &Digest, size: u64) -> Result<(), ImageError> {
    let found = bytes.len() as u64;
    if found != size {
        return Err(ImageError::WrongSize { digest: digest.to_string(), expected: size, found });
    }
    let mut hasher = digest.hasher();
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *digest {
        Ok(())
    } else {
        Err(ImageError::WrongDigest { expected: digest.clone(), found })
    }
}

/// Opens the regular file at `path` beneath `dir`, following no symlink; `None` if there is none.
pub(super) fn open_regular(dir: &Dir, path: &[u8]) -> Result<Option<File>, ImageError> {
    let what = crate::name::printable(path);
    // without waiting, if somebody put a fifo there
    let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
    let file = match dir.open_file_beneath(path, flags) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(ImageError::io(format!("open {what}"))(e)),
    };
    if !file.is_regular().map_err(ImageError::io(&what))? {
        return Err(ImageError::document(what, "it is no regular file"));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Hash;

    fn blob(content: &[u8], digest: &[u8], size: u64) -> LayerBlob {
        LayerBlob {
            diff_id: None,
            digest: Some(Digest::Sha256(Hash::of(digest))),
            size: Some(size),
            name: "test".to_owned(),
            content: Content::Embedded(content.into()),
        }
    }

    fn read(b: &LayerBlob) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        b.open()?.read_to_end(&mut out).map_err(|e| ImageError::from_reader(e, "read"))?;
        Ok(out)
    }

    #[test]
    fn the_reader_checks_size_and_digest() {
        assert_eq!(read(&blob(b"abc", b"abc", 3)).unwrap(), b"abc");
        assert!(matches!(read(&blob(b"abc", b"abd", 3)), Err(ImageError::WrongDigest { .. })));
        assert!(matches!(read(&blob(b"abc", b"abc", 2)), Err(ImageError::WrongSize { .. })));
        assert!(matches!(read(&blob(b"abc", b"abc", 4)), Err(ImageError::WrongSize { .. })));
    }

    #[test]
    fn symlinks_and_directories_are_no_blobs() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.symlink(b"/etc/passwd", b"link").unwrap();
        d.mkdir(b"dir", 0o755).unwrap();
        assert!(open_regular(&d, b"link").is_err());
        assert!(open_regular(&d, b"dir").is_err());
        assert!(open_regular(&d, b"none").unwrap().is_none());
    }
}
