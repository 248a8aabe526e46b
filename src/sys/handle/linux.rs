//! name_to_handle_at, open_by_handle_at, and the file system's UUID.
#![allow(unsafe_code)]

use super::FileHandle;
use crate::sys::{Errno, Result, Stat};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The kernel's `MAX_HANDLE_SZ`.
const MOST: usize = 128;

/// The kernel's `struct file_handle`, with room for the longest.
#[repr(C)]
struct Raw {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; MOST],
}

pub(super) fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> Result<FileHandle> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let mut raw = Raw { bytes: MOST as libc::c_uint, kind: 0, handle: [0; MOST] };
    let mut mount: libc::c_int = 0;
    // SAFETY: `raw` has the layout of `struct file_handle` and the room that `bytes` says; `name`
    // ends with a NUL; all live over the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    };
    if done != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let bytes = raw.handle.get(..raw.bytes as usize).ok_or(Errno::OVERFLOW)?;
    Ok(FileHandle { kind: raw.kind, bytes: bytes.to_vec() })
}

pub(super) fn stat_handle(mount: BorrowedFd<'_>, h: &FileHandle) -> Result<Stat> {
    let mut raw = Raw { bytes: h.bytes.len() as libc::c_uint, kind: h.kind, handle: [0; MOST] };
    raw.handle.get_mut(..h.bytes.len()).ok_or(Errno::INVAL)?.copy_from_slice(&h.bytes);
    // SAFETY: as above; the call returns a descriptor that nobody else owns.
    let fd = unsafe {
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        let fd = libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut raw, flags);
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| Errno::OVERFLOW)?)
    };
    Ok(rustix::fs::fstat(&fd)?.into())
}

pub(super) fn file_system_uuid(fd: BorrowedFd<'_>) -> Option<[u8; 16]> {
    /// `FS_IOC_GETFSUUID`: `_IOR(0x15, 0, struct fsuuid2)`.
    const REQUEST: u32 = 2 << 30 | 17 << 16 | 0x15 << 8;
    // a length and as many bytes
    let mut out = [0_u8; 17];
    // SAFETY: the kernel writes 17 bytes, which `out` holds.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), REQUEST as _, out.as_mut_ptr()) };
    if done != 0 || out[0] != 16 {
        return None;
    }
    out[1..].try_into().ok()
}
