//! Copying the content of a file: shared blocks if the file system can, else extent by extent.

use super::{Errno, File, Result, Seek, platform};
use std::ops::Range;
use std::os::fd::AsFd;

/// How [`copy_data`] did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The blocks are shared (FICLONE).
    Cloned,
    /// Copied in the kernel (copy_file_range(2)), holes left out.
    InKernel,
    /// Read and written, holes left out.
    ReadWrite,
}

const CHUNK: usize = 1 << 20;

/// Copies the first `len` bytes of `from` into the empty file `to` and gives it that length.
/// Holes stay holes. On an error `to` holds part of the data and is to be thrown away.
pub fn copy_data(from: &File, to: &File, len: u64) -> Result<Copied> {
    if len == 0 {
        return Ok(Copied::Cloned);
    }
    if clone_data(from, to, len)? {
        return Ok(Copied::Cloned);
    }
    to.truncate(len)?;
    let mut in_kernel = true;
    let mut buf = Vec::new();
    let mut offset = 0;
    while offset < len {
        let (start, end) = match next_extent(from, offset, len)? {
            Some(extent) => extent,
            None => break,
        };
        let mut pos = start;
        while pos < end {
            if in_kernel {
                match from.copy_range(pos, to, pos, end - pos) {
                    // the source became shorter: the rest reads as zeros, as with any reader
                    Ok(0) => break,
                    Ok(n) => {
                        pos += n;
                        continue;
                    }
                    Err(
                        Errno::XDEV
                        | Errno::INVAL
                        | Errno::NOSYS
                        | Errno::OPNOTSUPP
                        | Errno::IO
                        | Errno::PERM,
                    ) => {
                        in_kernel = false;
                    }
                    Err(e) => return Err(e),
                }
            }
            buf.resize(CHUNK, 0);
            let want = CHUNK.min(usize::try_from(end - pos).unwrap_or(CHUNK));
            let got = from.read_at(&mut buf[..want], pos)?;
            if got == 0 {
                break;
            }
            to.write_all_at(&buf[..got], pos)?;
            pos += got as u64;
        }
        offset = end;
    }
    Ok(if in_kernel { Copied::InKernel } else { Copied::ReadWrite })
}

/// Shares the blocks of `from` with the empty file `to`, which gets the length `len`. Returns false
/// if the file system cannot.
pub fn clone_data(from: &File, to: &File, len: u64) -> Result<bool> {
    if platform::clone_file(from.as_fd(), to.as_fd()).is_err() {
        return Ok(false);
    }
    if to.stat()?.size != len {
        to.truncate(len)?;
    }
    Ok(true)
}

/// Copies a range of bytes from one file to the same place of another. Holes of `from` are left out:
/// there, `to` must have holes too.
pub fn copy_part(from: &File, to: &File, bytes: Range<u64>) -> Result<()> {
    let mut buf = Vec::new();
    let mut offset = bytes.start;
    while offset < bytes.end {
        let Some((start, end)) = next_extent(from, offset, bytes.end)? else { break };
        let mut pos = start;
        while pos < end {
            let want = CHUNK.min(usize::try_from(end - pos).unwrap_or(CHUNK));
            buf.resize(want, 0);
            let got = from.read_at(&mut buf, pos)?;
            if got == 0 {
                return Ok(());
            }
            to.write_all_at(&buf[..got], pos)?;
            pos += got as u64;
        }
        offset = end;
    }
    Ok(())
}

/// Up to this size a file is copied by one read and one write.
pub const SMALL: u64 = 128 << 10;

/// Copies the first `len` bytes, [`SMALL`] at the most, of a file without holes into the empty file
/// `to` and gives it that length. The length is set first, so that after a crash the file has it,
/// and holes where data did not come to the disk.
pub fn copy_small(from: &File, to: &File, len: u64) -> Result<()> {
    to.truncate(len)?;
    let mut buf = vec![0; usize::try_from(len.min(SMALL)).unwrap_or(0)];
    let got = from.read_at(&mut buf, 0)?;
    // a source that became shorter reads as zeros, as with any reader
    to.write_all_at(&buf[..got], 0)
}

/// Copies the data of `from` to where `to` has holes, up to `len` bytes; returns how much that was.
pub fn fill_holes(from: &File, to: &File, len: u64) -> Result<u64> {
    let (mut offset, mut filled) = (0, 0);
    let mut buf = vec![0; CHUNK];
    while let Some((start, end)) = next_extent(from, offset, len)? {
        let mut pos = start;
        while pos < end {
            let hole = match to.seek(Seek::Hole, pos) {
                Ok(h) if h < end => h,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(e) => return Err(e),
            };
            let after = match to.seek(Seek::Data, hole) {
                Ok(d) => d.min(end),
                Err(Errno::NXIO) => end,
                Err(e) => return Err(e),
            };
            pos = hole;
            while pos < after {
                let want = CHUNK.min(usize::try_from(after - pos).unwrap_or(CHUNK));
                let got = from.read_at(&mut buf[..want], pos)?;
                if got == 0 {
                    return Ok(filled);
                }
                to.write_all_at(&buf[..got], pos)?;
                pos += got as u64;
                filled += got as u64;
            }
        }
        offset = end;
    }
    Ok(filled)
}

/// Returns the next piece of data at or after `offset`, or `None` if only holes follow.
fn next_extent(from: &File, offset: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let start = match from.seek(Seek::Data, offset) {
        Ok(s) => s,
        Err(Errno::NXIO) => return Ok(None),
        // a file system that knows no holes: all of it is data
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((offset, len))),
        Err(e) => return Err(e),
    };
    if start >= len {
        return Ok(None);
    }
    let end = from.seek(Seek::Hole, start).map_or(len, |e| e.min(len));
    Ok(Some((start, end.max(start + 1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Dir, OpenFlags};

    #[test]
    fn holes_alone_are_filled() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let make = |name| d.open_file(name, OpenFlags::CREATE_NEW, 0o600).unwrap();
        let (a, b) = (make(b"a"), make(b"b"));
        a.write_at(&[1; 1 << 20], 0).unwrap();
        b.truncate(1 << 20).unwrap();
        b.write_at(&[2; 4096], 64 << 10).unwrap();
        assert_eq!(fill_holes(&a, &b, 1 << 20).unwrap(), (1 << 20) - 4096);
        assert_eq!(fill_holes(&a, &b, 1 << 20).unwrap(), 0);
        let mut out = vec![0; 1 << 20];
        b.read_at(&mut out, 0).unwrap();
        let (old, new) = (64 << 10, (64 << 10) + 4096);
        assert!(out[..old].iter().all(|x| *x == 1) && out[old..new].iter().all(|x| *x == 2));
        assert!(out[new..].iter().all(|x| *x == 1));
    }

    #[test]
    fn holes_stay_holes_and_content_is_equal() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let a = d.open_file(b"a", OpenFlags::CREATE_NEW, 0o600).unwrap();
        a.truncate(8 << 20).unwrap();
        a.write_at(b"head", 0).unwrap();
        a.write_at(&[7; 5000], 3 << 20).unwrap();
        let b = d.open_file(b"b", OpenFlags::CREATE_NEW, 0o600).unwrap();
        copy_data(&a, &b, 8 << 20).unwrap();
        let (mut x, mut y) = (vec![0; 8 << 20], vec![1; 8 << 20]);
        assert_eq!(a.read_at(&mut x, 0).unwrap(), b.read_at(&mut y, 0).unwrap());
        assert!(x == y);
        assert!(b.stat().unwrap().blocks <= a.stat().unwrap().blocks + 16);
    }
}
