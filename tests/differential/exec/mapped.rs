//! Memory maps, locks, aligned I/O: what a descriptor can do beside read and write.
#![allow(unsafe_code)]

use super::Said;
use super::words::{describe, errno, is_file};
use crate::op::Map;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

const PAGE: usize = 4096;
/// How much of a map is looked at.
const SEEN: usize = 40;

fn raw(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

/// A shared map of a file's first page, which may outlive its descriptor.
pub struct Mapped(MmapRaw);

impl Mapped {
    pub fn new(fd: &OwnedFd) -> Result<Mapped, Errno> {
        MmapOptions::new().len(PAGE).map_raw_read_only(fd).map(Mapped).map_err(|e| raw(&e))
    }

    /// The first bytes; `EFAULT` where the file has none.
    pub fn look(&self) -> Said {
        peek(self.0.as_ptr())
    }
}

/// Reads memory that may not be there: a system call says so, where a load would be killed.
fn peek(from: *const u8) -> Said {
    let (out, into) = rustix::pipe::pipe()?;
    // SAFETY: write(2) looks whether the memory is there; it is of a map that the caller holds.
    let n = unsafe { libc::write(into.as_raw_fd(), from.cast(), SEEN) };
    if n < 0 {
        return Err(raw(&std::io::Error::last_os_error()));
    }
    let mut buf = [0; SEEN];
    let n = rustix::io::read(&out, &mut buf)?;
    Ok(buf[..n].escape_ascii().to_string())
}

/// Writes memory that may not be there.
fn poke(to: *mut u8, data: &[u8]) -> Result<(), Errno> {
    let (out, into) = rustix::pipe::pipe()?;
    rustix::io::write(&into, data)?;
    // SAFETY: read(2) looks whether the memory is there and may be written; it is of a map of a
    // page, longer than `data`, that nothing else refers to.
    let n = unsafe { libc::read(out.as_raw_fd(), to.cast(), data.len()) };
    if n < 0 { Err(raw(&std::io::Error::last_os_error())) } else { Ok(()) }
}

/// Maps a file and changes it through the map, or not.
pub fn map(fd: &OwnedFd, how: Map, data: &str) -> Said {
    let mut options = MmapOptions::new();
    let options = options.len(PAGE);
    let seen = match how {
        Map::Shared => {
            let map = options.map_raw(fd).map_err(|e| raw(&e))?;
            poke(map.as_mut_ptr(), data.as_bytes())?;
            map.flush().map_err(|e| raw(&e))?;
            peek(map.as_ptr())?
        }
        Map::Read => Mapped::new(fd)?.look()?,
        Map::Private => {
            // SAFETY: only looked at by system calls.
            let mut map = unsafe { options.map_copy(fd) }.map_err(|e| raw(&e))?;
            poke(map.as_mut_ptr(), data.as_bytes())?;
            peek(map.as_ptr())?
        }
    };
    let mut buf = [0; SEEN];
    let n = rustix::io::pread(fd, &mut buf, 0)?;
    Ok(format!("{seen} {} {}", buf[..n].escape_ascii(), describe(&rustix::fs::fstat(fd)?)))
}

/// Whether the locks of two descriptors of a file, one of them opened before a copy-up, know of
/// each other.
pub fn locks(first: &OwnedFd, second: &OwnedFd) -> Said {
    let flock = |fd: &OwnedFd, how| rustix::fs::flock(fd, how).map_err(errno);
    let a = flock(first, FlockOperation::NonBlockingLockShared);
    let b = flock(second, FlockOperation::NonBlockingLockExclusive);
    let c = flock(first, FlockOperation::Unlock);
    let d = flock(second, FlockOperation::NonBlockingLockExclusive);
    let e = ofd(first, libc::F_RDLCK);
    let f = ofd(second, libc::F_WRLCK);
    let g = ofd(first, libc::F_UNLCK);
    let h = ofd(second, libc::F_WRLCK);
    Ok(format!("{a:?} {b:?} {c:?} {d:?} {e:?} {f:?} {g:?} {h:?}"))
}

/// Sets a lock of the open file description on its first bytes.
fn ofd(fd: &OwnedFd, kind: libc::c_int) -> Result<(), String> {
    let kind = i16::try_from(kind).unwrap();
    let lock = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 10, l_pid: 0 };
    // SAFETY: the lock is a live, initialised local.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if r < 0 { Err(errno(raw(&std::io::Error::last_os_error()))) } else { Ok(()) }
}

/// Asks for a lease, and gives it back.
pub fn lease(fd: &OwnedFd, write: bool) -> Said {
    let kind = if write { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: these commands take numbers only.
    let call = |cmd, arg: libc::c_int| match unsafe { libc::fcntl(fd.as_raw_fd(), cmd, arg) } {
        -1 => Err(raw(&std::io::Error::last_os_error())),
        n => Ok(n),
    };
    call(libc::F_SETLEASE, kind)?;
    let got = call(libc::F_GETLEASE, 0)?;
    call(libc::F_SETLEASE, libc::F_UNLCK)?;
    Ok(format!("{}", got == kind))
}

/// Reads and writes past the page cache: in whole, aligned pages.
pub fn direct(fd: &OwnedFd, data: &str) -> Said {
    if !is_file(&rustix::fs::fstat(fd)?) {
        return Ok("no file".to_owned());
    }
    let mut buf = vec![0_u8; 2 * PAGE];
    let from = buf.as_ptr().align_offset(PAGE);
    let page = &mut buf[from..from + PAGE];
    let n = rustix::io::pread(fd, &mut *page, 0)?;
    let before = page[..n.min(SEEN)].escape_ascii().to_string();
    page.fill(b'.');
    page[..data.len()].copy_from_slice(data.as_bytes());
    let wrote = rustix::io::pwrite(fd, &*page, 0)?;
    Ok(format!("{n} {before} {wrote} {}", describe(&rustix::fs::fstat(fd)?)))
}
