//! macOS: no openat2, no `O_PATH`, no renameat2; `O_SYMLINK`, clonefile and renameatx_np instead.
#![allow(unsafe_code)]

use super::dir::file_type;
use super::{DirEntry, Errno, OpenFlags, RenameFlags, Result};
use rustix::fs::{self, Mode, OFlags, Timestamps, XattrFlags};
use std::ffi::CString;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Opens a symlink itself rather than its target (fcntl.h).
const O_SYMLINK: OFlags = OFlags::from_bits_retain(libc::O_SYMLINK as u32);

fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

fn check(rc: i32) -> Result<()> {
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

pub(super) fn extra_open_flags(_: &mut OFlags, _: OpenFlags) {}

/// Flags of a mount are not changed here.
pub fn remount(_: &std::path::Path, _: super::MountAttributes) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Mounts have no numbers here.
pub fn mount_id(_: &super::Dir) -> Result<u64> {
    Err(Errno::NOSYS)
}

/// There are no private copies of mounts here.
pub fn open_apart(_: &super::Dir, _: bool, _: bool) -> Result<super::Dir> {
    Err(Errno::OPNOTSUPP)
}

/// Opens `name` in `dir`; mounts are crossed, for nothing here tells them beforehand.
pub(super) fn open_here(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    Ok(fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())?)
}

pub(super) fn node_here(dir: BorrowedFd<'_>, name: &[u8]) -> Result<super::Node> {
    node_at(dir, name)
}

pub(super) fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let here = at.as_ref().map_or(dir, AsFd::as_fd);
        let next = if parts.peek().is_some() {
            let f = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(here, part, f, Mode::empty())?
        } else {
            fs::openat(here, part, flags | OFlags::NOFOLLOW, Mode::empty())?
        };
        at = Some(next);
    }
    at.ok_or(Errno::INVAL)
}

pub(super) fn node_beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Result<super::Node> {
    if path.is_empty() {
        return node_at(dir, b".");
    }
    match path.iter().rposition(|b| *b == b'/') {
        Some(cut) => {
            let parent = open_beneath(dir, &path[..cut], OFlags::RDONLY | OFlags::DIRECTORY)?;
            node_at(parent.as_fd(), &path[cut + 1..])
        }
        None => node_at(dir, path),
    }
}

pub(super) fn node_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<super::Node> {
    if name == b".." || name.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | O_SYMLINK | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(super::Node::from_fd(fs::openat(dir, name, flags, Mode::empty())?))
}

pub(super) fn tmpfile(_: BorrowedFd<'_>, _: Mode) -> Result<OwnedFd> {
    Err(Errno::OPNOTSUPP)
}

pub(super) fn mknod(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u64) -> Result<()> {
    let name = c_string(name)?;
    let bits = (mode & 0o7777) as libc::mode_t;
    match mode & 0o170_000 {
        0o100_000 => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            fs::openat(dir, &name, flags, Mode::from_raw_mode(bits))?;
            Ok(())
        }
        0o010_000 => {
            // SAFETY: the name is a live C string.
            check(unsafe { libc::mkfifoat(dir.as_raw_fd(), name.as_ptr(), bits) })
        }
        // SAFETY: the name is a live C string.
        _ => check(unsafe {
            libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode as libc::mode_t, rdev as libc::dev_t)
        }),
    }
}

pub(super) fn rename(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    how: RenameFlags,
) -> Result<()> {
    let flags = match how {
        RenameFlags::Replace => return Ok(fs::renameat(from, name, to, new_name)?),
        RenameFlags::NoReplace => libc::RENAME_EXCL,
        RenameFlags::Exchange => libc::RENAME_SWAP,
        RenameFlags::Whiteout | RenameFlags::NoReplaceWhiteout => return Err(Errno::INVAL),
    };
    let (name, new_name) = (c_string(name)?, c_string(new_name)?);
    // SAFETY: both names are live C strings.
    check(unsafe {
        libc::renameatx_np(
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            new_name.as_ptr(),
            flags,
        )
    })
}

pub(super) fn fallocate(fd: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> Result<()> {
    if mode != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let size = u64::try_from(fs::fstat(fd)?.st_size).unwrap_or(0);
    if offset + len > size { Ok(fs::ftruncate(fd, offset + len)?) } else { Ok(()) }
}

pub(super) fn copy_file_range(
    _: BorrowedFd<'_>,
    _: u64,
    _: BorrowedFd<'_>,
    _: u64,
    _: u64,
) -> Result<u64> {
    Err(Errno::OPNOTSUPP)
}

pub(super) fn clone_file(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<()> {
    // fclonefileat makes a new name and cannot fill an open file
    Err(Errno::OPNOTSUPP)
}

pub(super) fn sync(fd: BorrowedFd<'_>, _data_only: bool) -> Result<()> {
    // fsync on macOS does not reach the platter
    Ok(fs::fcntl_fullfsync(fd)?)
}

pub(super) fn holes_tell(_: BorrowedFd<'_>) -> bool {
    false
}

pub(super) fn sync_file_system(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::sync();
    sync(fd, false)
}

pub(super) fn link_fd(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

fn path_of(fd: BorrowedFd<'_>) -> Result<CString> {
    Ok(fs::getpath(fd)?)
}

pub(super) fn node_open(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    Ok(fs::open(path_of(fd)?, flags, Mode::empty())?)
}

pub(super) fn node_readlink(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Ok(fs::readlinkat(fs::CWD, path_of(fd)?, Vec::new())?.into_bytes())
}

pub(super) fn node_chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    Ok(fs::fchmod(fd, super::dir::bits(mode))?)
}

pub(super) fn node_chown(
    fd: BorrowedFd<'_>,
    uid: Option<fs::Uid>,
    gid: Option<fs::Gid>,
) -> Result<()> {
    Ok(fs::fchown(fd, uid, gid)?)
}

pub(super) fn node_set_times(fd: BorrowedFd<'_>, times: &Timestamps) -> Result<()> {
    Ok(fs::futimens(fd, times)?)
}

fn read_xattr(
    mut get: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Option<Vec<u8>>> {
    let mut buf = vec![0; 1 << 16];
    match get(&mut buf) {
        Ok(n) => {
            buf.truncate(n);
            Ok(Some(buf))
        }
        Err(e) if Errno::from(e) == Errno::NODATA => Ok(None),
        Err(e) if super::probe::unsupported(e.into()) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn read_list(get: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<Vec<u8>>> {
    let raw = read_xattr(get)?.unwrap_or_default();
    Ok(raw.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
}

pub(super) fn get_xattr_fd(fd: BorrowedFd<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    read_xattr(|buf| fs::fgetxattr(fd, key, buf))
}

pub(super) fn list_xattr_fd(fd: BorrowedFd<'_>) -> Result<Option<Vec<Vec<u8>>>> {
    node_list_xattr(fd).map(Some)
}

/// There is no such thing here: whether reading changes an access time is up to the mount.
pub(super) fn keep_access_time(_: BorrowedFd<'_>, _: OFlags) {}

/// Reads an entry of a directory, for what follows from reading.
pub(super) fn read_entries(fd: BorrowedFd<'_>) -> Result<()> {
    match fs::Dir::read_from(fd)?.next() {
        Some(Err(e)) => Err(e.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Calls `f` for each name of a directory but `.` and `..`, until it wants no more.
pub(super) fn for_each_entry(
    fd: BorrowedFd<'_>,
    f: &mut dyn FnMut(DirEntry) -> ControlFlow<()>,
) -> Result<()> {
    for entry in fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let file_type = file_type(entry.file_type());
            if f(DirEntry { name: name.into(), file_type, ino: entry.ino() }).is_break() {
                break;
            }
        }
    }
    Ok(())
}

pub(super) fn get_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
) -> Result<Option<Vec<u8>>> {
    node_get_xattr(node_at(dir, name)?.as_fd(), key)
}

pub(super) fn list_xattr_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>> {
    node_list_xattr(node_at(dir, name)?.as_fd())
}

pub(super) fn set_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    node_set_xattr(node_at(dir, name)?.as_fd(), key, value, false, false)
}

pub(super) fn node_get_xattr(fd: BorrowedFd<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    get_xattr_fd(fd, key)
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
    Ok(fs::fsetxattr(fd, key, value, flags)?)
}

pub(super) fn node_remove_xattr(fd: BorrowedFd<'_>, key: &[u8]) -> Result<()> {
    Ok(fs::fremovexattr(fd, key)?)
}

pub(super) fn node_list_xattr(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    read_list(|buf| fs::flistxattr(fd, buf))
}

pub(super) fn fill_random(out: &mut [u8]) {
    // SAFETY: the pointer and length are those of a live slice.
    unsafe { libc::arc4random_buf(out.as_mut_ptr().cast(), out.len()) }
}

/// Returns whether this process is the superuser.
#[must_use]
pub fn effective_capability_sys_admin() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn known_ids() -> (super::IdRanges, super::IdRanges) {
    (vec![(0, u32::MAX)], vec![(0, u32::MAX)])
}

pub(super) fn in_user_namespace() -> bool {
    false
}

/// Unmounts the mount at `path`; with `lazy` by force.
pub fn unmount(path: &std::path::Path, lazy: bool) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = c_string(path.as_os_str().as_bytes())?;
    let flags = if lazy { libc::MNT_FORCE } else { 0 };
    // SAFETY: the path is a live C string.
    check(unsafe { libc::unmount(path.as_ptr(), flags) })
}

/// What [`detach`] returned into.
#[derive(Debug)]
pub enum Detached {
    /// The caller's process, with the daemon's report.
    Parent(std::result::Result<(), String>),
    /// The daemon.
    Daemon(Readiness),
}

/// By which a daemon tells the process that started it how it went.
#[derive(Debug)]
pub struct Readiness(());

impl Readiness {
    /// Reports success.
    pub fn ready(self) -> Result<()> {
        Ok(())
    }

    /// Reports a failure.
    pub fn failed(self, _message: &str) -> Result<()> {
        Ok(())
    }
}

/// Refused: the frameworks that a FUSE mount loads on macOS do not survive a fork.
pub fn detach() -> Result<Detached> {
    Err(Errno::NOSYS)
}

/// Returns whether a thread waits in one of the calls of chown(2): not known here.
#[must_use]
pub fn changes_owner(_task: u32) -> Option<bool> {
    None
}

/// Returns whether a process runs a file: not known here.
#[must_use]
pub fn is_executed(_ino: u64) -> bool {
    false
}

/// Returns the supplementary groups of a thread: not known here.
#[must_use]
pub fn groups_of(_task: u32) -> Option<Vec<u32>> {
    None
}

/// Returns how ids are shown to this process. There are no user namespaces here.
#[must_use]
pub fn id_maps() -> Vec<u8> {
    Vec::new()
}

/// Returns the groups of this process, besides its own.
#[must_use]
pub fn supplementary_groups() -> Vec<u32> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().map(|g| g.as_raw()).collect()
}

/// Lets the calling thread work only where nobody else would. Left to the system here.
pub fn be_modest() {}

pub(super) fn keeps_true_times(fd: BorrowedFd<'_>) -> Result<bool> {
    // sys/mount.h: MNT_LOCAL
    const LOCAL: u32 = 0x1000;
    Ok(fs::fstatfs(fd)?.f_flags & LOCAL != 0)
}

/// What a process is about to run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// A mount of directories.
    Mount,
    /// A mount of an image or a container.
    MountFromStore,
    /// Any other command.
    Anything,
}

/// Reads the program into memory. Left to the system here.
pub fn read_program_ahead(_runs: Runs) {}

/// Lets go of code that has run. Left to the system here.
pub fn keep_what_requests_run() {}

/// Asks for all of a file to be read from disk. Left to the system here.
pub(super) fn read_ahead(_fd: BorrowedFd<'_>) {}

/// Returns how many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
