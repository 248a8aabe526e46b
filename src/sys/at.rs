//! The newer system calls that reach a file without a way through `/proc`: fchmodat2 (Linux 6.6)
//! by an `O_PATH` handle, setxattrat and getxattrat (6.13) by a name in a directory. Where the
//! kernel or a sandbox does not know them, the caller goes the old way. (The latter two refuse
//! `O_PATH` handles.)
#![allow(unsafe_code)]

use super::{Errno, Result};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Their numbers are the same on all architectures (asm-generic/unistd.h).
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;

static NO_CHMOD: AtomicBool = AtomicBool::new(false);
static NO_XATTR: AtomicBool = AtomicBool::new(false);

/// `struct xattr_args` of linux/xattr.h.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Turns an answer into a result; `None` if the call is not to be had here.
fn answer(rc: libc::c_long, missing: &AtomicBool) -> Option<Result<usize>> {
    if rc >= 0 {
        return Some(Ok(usize::try_from(rc).unwrap_or(0)));
    }
    let e = Errno::from(std::io::Error::last_os_error());
    if e == Errno::NOSYS {
        missing.store(true, Ordering::Relaxed);
        return None;
    }
    // a sandbox may say this of calls that it does not know: the old way tells
    if e == Errno::PERM {
        return None;
    }
    Some(Err(e))
}

fn ask(missing: &AtomicBool) -> Option<()> {
    (!missing.load(Ordering::Relaxed)).then_some(())
}

/// fchmodat2(2) of what a descriptor stands for; a symlink gives `EOPNOTSUPP`.
pub(super) fn chmod(fd: BorrowedFd<'_>, mode: u32) -> Option<Result<()>> {
    ask(&NO_CHMOD)?;
    let (fd, flag) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is a C string constant; the other arguments are numbers.
    let rc = unsafe { libc::syscall(FCHMODAT2, fd, c"".as_ptr(), mode & 0o7777, flag) };
    answer(rc, &NO_CHMOD).map(|r| r.map(drop))
}

/// getxattrat(2) of `name`, not followed, into `buf`; returns the value's length.
pub(super) fn get_xattr(
    fd: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    buf: &mut [u8],
) -> Option<Result<usize>> {
    ask(&NO_XATTR)?;
    let (path, key) = match names(name, key) {
        Ok(n) => n,
        Err(e) => return Some(Err(e)),
    };
    let args = XattrArgs {
        value: buf.as_mut_ptr() as u64,
        size: u32::try_from(buf.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    // SAFETY: path and key are live C strings, `args` is the struct that the call reads, and the
    // kernel writes at most `size` bytes to `value`, which is `buf`.
    let rc = unsafe {
        libc::syscall(
            GETXATTRAT,
            fd.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            key.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    answer(rc, &NO_XATTR)
}

/// setxattrat(2) of `name`, not followed; `flags` as of setxattr(2).
pub(super) fn set_xattr(
    fd: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &[u8],
    flags: u32,
) -> Option<Result<()>> {
    ask(&NO_XATTR)?;
    let (path, key) = match names(name, key) {
        Ok(n) => n,
        Err(e) => return Some(Err(e)),
    };
    let Ok(size) = u32::try_from(value.len()) else { return Some(Err(Errno::RANGE)) };
    let args = XattrArgs { value: value.as_ptr() as u64, size, flags };
    // SAFETY: as above; the kernel reads `size` bytes from `value`.
    let rc = unsafe {
        libc::syscall(
            SETXATTRAT,
            fd.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            key.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    answer(rc, &NO_XATTR).map(|r| r.map(drop))
}

fn names(name: &[u8], key: &[u8]) -> Result<(CString, CString)> {
    let c = |s| CString::new(s).map_err(|_| Errno::INVAL);
    Ok((c(name)?, c(key)?))
}

#[cfg(test)]
mod tests {
    use crate::sys::{Dir, FileType, OpenFlags};

    #[test]
    fn both_ways_to_an_attribute_see_the_same() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.open_file(b"a", OpenFlags::CREATE_NEW, 0o600).unwrap();
        let node = d.node(b"a").unwrap();
        if node.set_xattr(b"user.k", b"value", true, false).is_err() {
            std::io::Write::write_all(
                &mut std::io::stderr(),
                b"\nSKIPPED (1 so far): at: no user attributes here\n",
            )
            .unwrap();
            return;
        }
        assert!(node.set_xattr(b"user.k", b"x", true, false).is_err());
        assert_eq!(d.get_xattr(b"a", b"user.k").unwrap().unwrap(), b"value");
        let file = d.open_file(b"a", OpenFlags::READ, 0).unwrap();
        assert_eq!(file.get_xattr(b"user.k").unwrap().unwrap(), b"value");
        let long = vec![b'x'; 2000];
        d.set_xattr(b"a", b"user.k", &long).unwrap();
        assert_eq!(node.get_xattr(b"user.k").unwrap().unwrap(), long);
        node.remove_xattr(b"user.k").unwrap();
        assert_eq!(node.get_xattr(b"user.k").unwrap(), None);
        node.chmod(0o640).unwrap();
        assert_eq!(node.stat().unwrap().permissions(), 0o640);
        d.symlink(b"a", b"l").unwrap();
        assert!(d.node(b"l").unwrap().chmod(0o600).is_err());
        assert_eq!(d.stat(b"l").unwrap().file_type(), FileType::Symlink);
    }
}
