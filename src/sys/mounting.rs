//! Mounting a FUSE file system: mount(2) for who may, and the socket by which fusermount3 hands
//! over the connection to who may not.
#![allow(unsafe_code)]

use super::{Dir, Errno, MountAttributes, Result};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::{CStr, OsStr};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Mounts a FUSE connection at `target`. `fs_type` is `fuse` or `fuse.NAME`, `data` holds the
/// options of the FUSE file system, the descriptor of `/dev/fuse` among them.
pub fn mount_fuse(
    source: &OsStr,
    target: &Path,
    fs_type: &str,
    attributes: MountAttributes,
    data: &CStr,
) -> Result<()> {
    Ok(rustix::mount::mount(source, target, fs_type, flags(attributes), data)?)
}

/// Gives the topmost mount at `target`, and the file system behind it, other flags (mount(2),
/// `MS_REMOUNT`). Fails with `EBUSY` where files are open for writing and nothing may be written.
pub fn remount(target: &Path, attributes: MountAttributes) -> Result<()> {
    let mut flags = flags(attributes);
    // with no flag about them at all the kernel leaves access times as they were
    if !attributes.noatime {
        flags.set(MountFlags::RELATIME, attributes.relatime);
        flags.set(MountFlags::STRICTATIME, !attributes.relatime);
    }
    Ok(rustix::mount::mount_remount(target, flags, c"")?)
}

fn flags(attributes: MountAttributes) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, attributes.read_only);
    flags.set(MountFlags::NOSUID, attributes.nosuid);
    flags.set(MountFlags::NODEV, attributes.nodev);
    flags.set(MountFlags::NOEXEC, attributes.noexec);
    flags.set(MountFlags::NOATIME, attributes.noatime);
    flags.set(MountFlags::NODIRATIME, attributes.nodiratime);
    flags.set(MountFlags::NOSYMFOLLOW, attributes.nosymfollow);
    flags.set(MountFlags::SYNCHRONOUS, attributes.sync);
    flags.set(MountFlags::DIRSYNC, attributes.dirsync);
    flags
}

/// Unmounts the FUSE mount at `path` as a lazy [`unmount`](super::unmount) does, and ends its
/// connection first. Fails with `EPERM` unless this process has CAP_SYS_ADMIN over the whole machine.
pub fn unmount_by_force(path: &Path) -> Result<()> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE;
    Ok(rustix::mount::unmount(path, flags)?)
}

/// Waits for a message on a socket and returns the descriptor that came with it (`SCM_RIGHTS`),
/// or `None` if the other side closed without sending one.
pub fn receive_fd(socket: impl AsFd) -> Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut iov = [IoSliceMut::new(&mut byte)];
        match recvmsg(&socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Errno::from(e)),
        }
    }
    Ok(control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Makes the freshly opened `/dev/fuse` `device` one more device of a live connection
/// (FUSE_DEV_IOC_CLONE of linux/fuse.h).
pub fn join_fuse_connection(device: BorrowedFd<'_>, connection: BorrowedFd<'_>) -> Result<()> {
    use rustix::ioctl::{Setter, ioctl, opcode};
    const CLONE: rustix::ioctl::Opcode = opcode::read::<u32>(229, 0);
    let number = connection.as_raw_fd().cast_unsigned();
    // SAFETY: this request reads one u32, a descriptor number, which is open during the call.
    Ok(unsafe { ioctl(device, Setter::<CLONE, u32>::new(number)) }?)
}

/// Makes the open descriptor number `place` refer to what `new` refers to (dup3(2)). Whoever owns
/// `place` goes on owning it.
pub fn replace_descriptor(place: BorrowedFd<'_>, new: OwnedFd) -> Result<()> {
    // SAFETY: the number is open, since it is borrowed; it is not closed here, since the owned
    // handle is never dropped, and dup3 keeps it open throughout.
    let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(place.as_raw_fd()) });
    Ok(rustix::io::dup3(&new, &mut place, rustix::io::DupFlags::CLOEXEC)?)
}

/// Opens the directory `dir` once more in a copy of its mount that nobody else sees: what is
/// mounted anywhere below it, now or later, is not there, as in the layers of the kernel's
/// overlayfs. With `read_only`, nothing can be written through the handle; with `noatime`, reading
/// changes no access time, unless a user namespace owns the mount. Needs CAP_SYS_ADMIN over the
/// mount namespace (open_tree(2), mount_setattr(2)).
pub fn open_apart(dir: &Dir, read_only: bool, noatime: bool) -> Result<Dir> {
    use rustix::mount::{OpenTreeFlags as F, open_tree};
    let flags = F::OPEN_TREE_CLONE | F::OPEN_TREE_CLOEXEC | F::AT_EMPTY_PATH;
    let tree = open_tree(dir, c"", flags)?;
    // private: a mount made on the original must not come here too
    match set_mount(tree.as_fd(), read_only, noatime) {
        // a user namespace may not change how its mounts keep access times
        Err(Errno::PERM) if noatime => set_mount(tree.as_fd(), read_only, false)?,
        done => done?,
    }
    // the copy lives as long as what is opened in it
    open_dir_in(tree.as_fd())
}

/// Returns the number of the mount through which a directory was opened (statx(2), Linux 5.8).
///
/// # Errors
/// `ENOSYS` where the kernel does not say.
pub fn mount_id(dir: &Dir) -> Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let found = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(found.stx_mnt_id)
}

fn open_dir_in(tree: BorrowedFd<'_>) -> Result<Dir> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Dir::from_fd(openat(tree, c".", flags, Mode::empty())?))
}

/// Makes a mount private, and what else is asked for.
fn set_mount(mount: BorrowedFd<'_>, read_only: bool, noatime: bool) -> Result<()> {
    let mut attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    attr.propagation = libc::MS_PRIVATE;
    if read_only {
        attr.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    if noatime {
        attr.attr_set |= libc::MOUNT_ATTR_NOATIME;
        attr.attr_clr |= libc::MOUNT_ATTR__ATIME;
    }
    // SAFETY: the descriptor is open during the call, the path is a C string, and the structure is
    // initialized and of the size that is told.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_closed_socket_gives_no_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive_fd(&ours).unwrap().is_none());
    }
}
