//! What is done with a held descriptor.

use super::words::{describe, is_file, os, xattr_value, xattrs};
use super::{Place, Said, dirs, done, flags, mapped, mode, owner, times, with_umask};
use crate::op::{Act, How};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, SeekFrom, Uid, XattrFlags};

impl Place {
    pub(super) fn act(&self, fd: &OwnedFd, act: Act) -> Said {
        match act {
            Act::Stat => Ok(describe(&rustix::fs::fstat(fd)?)),
            Act::Read(offset, n) => {
                if is_file(&rustix::fs::fstat(fd)?) {
                    read(fd, offset, n)
                } else {
                    Ok(String::new())
                }
            }
            Act::Write(offset, data) => {
                if !is_file(&rustix::fs::fstat(fd)?) {
                    return Ok("no file".to_owned());
                }
                let n = rustix::io::pwrite(fd, data.as_bytes(), offset)?;
                Ok(format!("{n} {}", describe(&rustix::fs::fstat(fd)?)))
            }
            Act::Truncate(size) => done(rustix::fs::ftruncate(fd, size)),
            Act::Fallocate(kind, offset, len) => {
                let flags = [
                    FallocateFlags::empty(),
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    FallocateFlags::ZERO_RANGE,
                    FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                    FallocateFlags::COLLAPSE_RANGE,
                    FallocateFlags::INSERT_RANGE,
                ];
                done(rustix::fs::fallocate(fd, flags[usize::from(kind)], offset, len))
            }
            // a directory's offsets are its file system's own
            Act::SeekHole(_) | Act::SeekData(_) if !is_file(&rustix::fs::fstat(fd)?) => {
                Ok("no file".to_owned())
            }
            Act::SeekHole(from) => Ok(rustix::fs::seek(fd, SeekFrom::Hole(from))?.to_string()),
            Act::SeekData(from) => Ok(rustix::fs::seek(fd, SeekFrom::Data(from))?.to_string()),
            Act::Chmod(m) => done(rustix::fs::fchmod(fd, mode(m))),
            Act::Chown(o, g) => {
                let (uid, gid) = (owner(o).map(Uid::from_raw), owner(g).map(Gid::from_raw));
                done(rustix::fs::fchown(fd, uid, gid))
            }
            Act::Times(seconds) => done(rustix::fs::futimens(fd, &times(seconds))),
            Act::SetXattr(key, value) => {
                let value = xattr_value(key, value);
                done(rustix::fs::fsetxattr(fd, key, &value, XattrFlags::empty()))
            }
            Act::RemoveXattr(key) => done(rustix::fs::fremovexattr(fd, key)),
            Act::Xattrs => {
                let mut names = vec![0; 8192];
                let n = rustix::fs::flistxattr(fd, &mut names[..])?;
                xattrs(&names[..n], |k, buf| rustix::fs::fgetxattr(fd, k, buf))
            }
            Act::LinkAs(path) => {
                let old = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = AtFlags::SYMLINK_FOLLOW;
                done(rustix::fs::linkat(CWD, old, CWD, self.at(path), flags))
            }
            Act::Sync => done(rustix::fs::fsync(fd)),
            Act::List => {
                // from its beginning, whatever was read before
                let again = rustix::fs::openat(fd, ".", flags(How::Directory), Mode::empty())?;
                dirs::list(&again).map(|names| names.join(" "))
            }
            Act::CreateIn(name) => {
                let make = || rustix::fs::openat(fd, os(name), flags(How::CreateNew), mode(0o666));
                with_umask(0o022, make).map(|_| String::new())
            }
            Act::UnlinkIn(name) => done(rustix::fs::unlinkat(fd, os(name), AtFlags::empty())),
            Act::Append(on) => {
                let flags = rustix::fs::fcntl_getfl(fd)?;
                let flags = if on { flags | OFlags::APPEND } else { flags - OFlags::APPEND };
                done(rustix::fs::fcntl_setfl(fd, flags))
            }
            Act::Lease(write) => mapped::lease(fd, write),
            // of the place rather than of a descriptor
            Act::Map | Act::Look | Act::Close => Ok(String::new()),
        }
    }
}

pub(super) fn read(fd: &OwnedFd, offset: u64, n: usize) -> Said {
    let mut buf = vec![0; n];
    let n = rustix::io::pread(fd, &mut buf[..], offset)?;
    Ok(format!("{:?}", String::from_utf8_lossy(&buf[..n])))
}
