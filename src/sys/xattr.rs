//! Linux: extended attributes, by handle and by name.

use super::linux::proc_path;
use super::{Errno, Result, at};
use rustix::fs::{self, XattrFlags};
use std::os::fd::BorrowedFd;

/// Reads an attribute value of unknown length.
fn read_xattr(mut get: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Option<Vec<u8>>> {
    let mut buf = vec![0; 256];
    loop {
        match get(&mut buf) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(Some(buf));
            }
            Err(Errno::RANGE) if buf.len() < 1 << 17 => {
                let longer = buf.len() * 8;
                buf.resize(longer, 0);
            }
            Err(Errno::NODATA) => return Ok(None),
            Err(e) if super::probe::unsupported(e) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

fn read_list(get: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<Vec<u8>>> {
    let raw = read_xattr(get)?.unwrap_or_default();
    Ok(names_in(&raw))
}

fn names_in(raw: &[u8]) -> Vec<Vec<u8>> {
    raw.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect()
}

pub(super) fn get_xattr_fd(fd: BorrowedFd<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    read_xattr(|buf| Ok(fs::fgetxattr(fd, key, buf)?))
}

/// `None`: the file system lists none.
pub(super) fn list_xattr_fd(fd: BorrowedFd<'_>) -> Result<Option<Vec<Vec<u8>>>> {
    let raw = read_xattr(|buf| Ok(fs::flistxattr(fd, buf)?))?;
    Ok(raw.map(|raw| names_in(&raw)))
}

pub(super) fn get_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
) -> Result<Option<Vec<u8>>> {
    let mut path = None;
    read_xattr(|buf| match at::get_xattr(dir, name, key, buf) {
        Some(r) => r,
        None => {
            let path = path.get_or_insert_with(|| proc_path(dir, Some(name)));
            Ok(fs::lgetxattr(&**path, key, buf)?)
        }
    })
}

pub(super) fn list_xattr_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>> {
    let path = proc_path(dir, Some(name));
    read_list(|buf| Ok(fs::llistxattr(&path, buf)?))
}

pub(super) fn set_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    if let Some(done) = at::set_xattr(dir, name, key, value, 0) {
        return done;
    }
    Ok(fs::lsetxattr(proc_path(dir, Some(name)), key, value, XattrFlags::empty())?)
}

pub(super) fn node_get_xattr(fd: BorrowedFd<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = proc_path(fd, None);
    read_xattr(|buf| Ok(fs::getxattr(&path, key, buf)?))
}

pub(super) fn node_set_xattr(
    fd: BorrowedFd<'_>,
    key: &[u8],
    value: &[u8],
    create: bool,
    replace: bool,
) -> Result<()> {
    let mut flags = XattrFlags::empty();
    flags.set(XattrFlags::CREATE, create);
    flags.set(XattrFlags::REPLACE, replace);
    Ok(fs::setxattr(proc_path(fd, None), key, value, flags)?)
}

pub(super) fn node_remove_xattr(fd: BorrowedFd<'_>, key: &[u8]) -> Result<()> {
    Ok(fs::removexattr(proc_path(fd, None), key)?)
}

pub(super) fn node_list_xattr(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let path = proc_path(fd, None);
    read_list(|buf| Ok(fs::listxattr(&path, buf)?))
}
