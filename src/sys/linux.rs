//! Linux: openat2, `O_PATH` handles, `/proc/self/fd`, renameat2, fallocate.

pub use super::daemon::{Detached, Readiness, detach};
use super::dir::file_type;
pub(super) use super::xattr::{
    get_xattr_at, get_xattr_fd, list_xattr_at, list_xattr_fd, node_get_xattr, node_list_xattr,
    node_remove_xattr, node_set_xattr, set_xattr_at,
};
use super::{DirEntry, Errno, OpenFlags, RenameFlags, Result, at};
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Timestamps};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the path by which the kernel names an open descriptor, with `/name` behind it.
pub(super) fn proc_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut p = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(n) = name {
        p.push(b'/');
        p.extend_from_slice(n);
    }
    p
}

pub(super) fn extra_open_flags(o: &mut OFlags, f: OpenFlags) {
    o.set(OFlags::DIRECT, f.direct);
}

pub(super) fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(dir, path, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
            // a rename somewhere made the kernel give up the race-free walk: try again
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                return open_by_hand(dir, path, flags);
            }
            // longer than PATH_MAX: in pieces
            Err(rustix::io::Errno::NAMETOOLONG) if path.contains(&b'/') => {
                return open_by_hand(dir, path, flags);
            }
            r => return Ok(r?),
        }
    }
}

/// Opens `name` in `dir`; a name on which something is mounted gives `EXDEV`, and nothing is
/// asked of what is mounted there.
pub(super) fn open_here(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(dir, name, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // a kernel or sandbox without openat2: mounts are crossed
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                return Ok(fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
            }
            r => return Ok(r?),
        }
    }
}

pub(super) fn node_here(dir: BorrowedFd<'_>, name: &[u8]) -> Result<super::Node> {
    Ok(super::Node::from_fd(open_here(dir, name, PATH_FLAGS)?))
}

/// The same component by component, for kernels and sandboxes without openat2.
fn open_by_hand(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let here = at.as_ref().map_or(dir, AsFd::as_fd);
        let next = if parts.peek().is_some() {
            fs::openat(here, part, PATH_FLAGS | OFlags::DIRECTORY, Mode::empty())?
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
    // openat2 with NO_SYMLINKS would refuse a final symlink even with O_PATH|O_NOFOLLOW
    match path.iter().rposition(|b| *b == b'/') {
        Some(cut) => {
            let parent = open_beneath(dir, &path[..cut], PATH_FLAGS | OFlags::DIRECTORY)?;
            node_at(parent.as_fd(), &path[cut + 1..])
        }
        None => node_at(dir, path),
    }
}

pub(super) fn node_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<super::Node> {
    if name == b".." || name.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    Ok(super::Node::from_fd(fs::openat(dir, name, PATH_FLAGS, Mode::empty())?))
}

pub(super) fn tmpfile(dir: BorrowedFd<'_>, mode: Mode) -> Result<OwnedFd> {
    Ok(fs::openat(dir, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)?)
}

pub(super) fn mknod(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u64) -> Result<()> {
    let kind = fs::FileType::from_raw_mode(mode);
    Ok(fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode & 0o7777), rdev)?)
}

pub(super) fn rename(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    how: RenameFlags,
) -> Result<()> {
    use rustix::fs::RenameFlags as R;
    let flags = match how {
        RenameFlags::Replace => return Ok(fs::renameat(from, name, to, new_name)?),
        RenameFlags::NoReplace => R::NOREPLACE,
        RenameFlags::Exchange => R::EXCHANGE,
        RenameFlags::Whiteout => R::WHITEOUT,
        RenameFlags::NoReplaceWhiteout => R::WHITEOUT | R::NOREPLACE,
    };
    Ok(fs::renameat_with(from, name, to, new_name, flags)?)
}

pub(super) fn fallocate(fd: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> Result<()> {
    let mode = fs::FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
    Ok(fs::fallocate(fd, mode, offset, len)?)
}

pub(super) fn copy_file_range(
    from: BorrowedFd<'_>,
    offset: u64,
    to: BorrowedFd<'_>,
    out_offset: u64,
    len: u64,
) -> Result<u64> {
    let (mut i, mut o) = (offset, out_offset);
    let len = usize::try_from(len.min(1 << 30)).map_err(|_| Errno::INVAL)?;
    Ok(fs::copy_file_range(from, Some(&mut i), to, Some(&mut o), len)? as u64)
}

pub(super) fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::ioctl_ficlone(to, from)?)
}

pub(super) fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<()> {
    if data_only {
        fs::fdatasync(fd)?;
    } else {
        fs::fsync(fd)?;
    }
    Ok(())
}

/// ext4 makes new blocks data in the transaction that their content comes before (`data=ordered`),
/// or when it has been written (`dioread_nolock`, the default); xfs and btrfs when it has been.
pub(super) fn holes_tell(fd: BorrowedFd<'_>) -> bool {
    // linux/magic.h
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    let Ok(s) = fs::fstatfs(fd) else { return false };
    #[allow(clippy::unnecessary_cast)]
    match s.f_type as u64 & 0xffff_ffff {
        XFS | BTRFS => true,
        EXT4 => {
            let Ok(stat) = fs::fstat(fd) else { return false };
            let device = format!("{}:{}", super::major(stat.st_dev), super::minor(stat.st_dev));
            super::mounts().iter().find(|m| m.device == device).is_some_and(|m| {
                let options = m.super_options.to_string_lossy();
                let unsafe_ones = ["data=writeback", "dioread_lock"];
                m.fs_type == "ext4" && !options.split(',').any(|o| unsafe_ones.contains(&o))
            })
        }
        _ => false,
    }
}

pub(super) fn sync_file_system(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::syncfs(fd)?)
}

pub(super) fn link_fd(fd: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    Ok(fs::linkat(fs::CWD, proc_path(fd, None), dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

pub(super) fn node_open(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    Ok(fs::open(proc_path(fd, None), flags, Mode::empty())?)
}

pub(super) fn node_readlink(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Ok(fs::readlinkat(fd, c"", Vec::new())?.into_bytes())
}

pub(super) fn node_chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    if let Some(done) = at::chmod(fd, mode) {
        return done;
    }
    let s = fs::fstat(fd)?;
    if s.st_mode & 0o170_000 == 0o120_000 {
        return Err(Errno::OPNOTSUPP);
    }
    Ok(fs::chmod(proc_path(fd, None), super::dir::bits(mode))?)
}

pub(super) fn node_chown(
    fd: BorrowedFd<'_>,
    uid: Option<fs::Uid>,
    gid: Option<fs::Gid>,
) -> Result<()> {
    Ok(fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?)
}

pub(super) fn node_set_times(fd: BorrowedFd<'_>, times: &Timestamps) -> Result<()> {
    match fs::utimensat(fd, c"", times, AtFlags::EMPTY_PATH) {
        // older kernels refuse it: the magic link leads to the file itself, also when that is a
        // symlink
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT | rustix::io::Errno::BADF) => {}
        done => return Ok(done?),
    }
    Ok(fs::utimensat(fs::CWD, proc_path(fd, None), times, AtFlags::empty())?)
}

/// Makes reading by this handle, which was opened with `flags`, leave the access time, if that is
/// allowed: the owner may, and who may act for him.
pub(super) fn keep_access_time(fd: BorrowedFd<'_>, flags: OFlags) {
    // of the flags this changes those that are not about opening; where it is refused, the file is
    // read all the same, and its time changes as by any other reader
    fs::fcntl_setfl(fd, flags | OFlags::NOATIME).ok();
}

/// Reads some entries of a directory, for what follows from reading.
pub(super) fn read_entries(fd: BorrowedFd<'_>) -> Result<()> {
    let mut buffer = [const { MaybeUninit::uninit() }; 512];
    match fs::RawDir::new(fd, &mut buffer).next() {
        Some(Err(e)) => Err(e.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Calls `f` for each name of a directory but `.` and `..`, from the handle's position on.
pub(super) fn for_each_entry(
    fd: BorrowedFd<'_>,
    f: &mut dyn FnMut(DirEntry) -> ControlFlow<()>,
) -> Result<()> {
    let mut buffer = [const { MaybeUninit::uninit() }; 1 << 15];
    let mut entries = fs::RawDir::new(fd, &mut buffer);
    while let Some(entry) = entries.next() {
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

pub(super) fn fill_random(out: &mut [u8]) {
    let mut done = 0;
    while done < out.len() {
        match rustix::rand::getrandom(&mut out[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            // the source exists on every Linux that this program can start on
            Err(e) => unreachable!("getrandom: {e}"),
        }
    }
}

/// Returns whether this process has CAP_SYS_ADMIN in its user namespace.
#[must_use]
pub fn effective_capability_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|c| c.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// Reads the maps of user_namespaces(7): lines of first id inside, first id outside, count.
pub(super) fn known_ids() -> (super::IdRanges, super::IdRanges) {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let range = |line: &str| {
            let mut words = line.split_whitespace();
            let first: u32 = words.next()?.parse().ok()?;
            let count: u32 = words.nth(1)?.parse().ok()?;
            Some((first, first.checked_add(count.checked_sub(1)?)?))
        };
        text.lines().filter_map(range).collect()
    };
    (read("/proc/self/uid_map"), read("/proc/self/gid_map"))
}

/// Returns how this process' user namespace shows ids, as the kernel says it.
#[must_use]
pub fn id_maps() -> Vec<u8> {
    let maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map(std::fs::read);
    maps.into_iter().flat_map(std::io::Result::unwrap_or_default).collect()
}

/// Returns the groups of this process, besides its own.
#[must_use]
pub fn supplementary_groups() -> Vec<u32> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().map(|g| g.as_raw()).collect()
}

/// Lets the calling thread work only where nobody else would.
pub fn be_modest() {
    // a wish, no more
    rustix::process::nice(19).map(drop).unwrap_or_default();
}

pub(super) fn keeps_true_times(fd: BorrowedFd<'_>) -> Result<bool> {
    // linux/magic.h: ext2 to ext4, xfs, btrfs, tmpfs, f2fs; and bcachefs, zfs
    const KNOWN: [u32; 7] =
        [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0xCA45_1A4E, 0x2FC1_2FC1];
    Ok(KNOWN.contains(&(fs::fstatfs(fd)?.f_type as u32)))
}

pub(super) fn in_user_namespace() -> bool {
    // the initial namespace maps all ids onto themselves
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    !words.is_empty() && words != ["0", "0", "4294967295"]
}

/// Unmounts the mount at `path` with the privilege of this process. With `lazy` the mount
/// disappears at once and ends when its last user has gone.
pub fn unmount(path: &std::path::Path, lazy: bool) -> Result<()> {
    let mut flags = rustix::mount::UnmountFlags::NOFOLLOW;
    flags.set(rustix::mount::UnmountFlags::DETACH, lazy);
    Ok(rustix::mount::unmount(path, flags)?)
}

/// Returns whether a thread waits in one of the calls of chown(2); `None` if that cannot be seen
/// (proc_pid_syscall(5): it takes the rights of a debugger).
#[must_use]
pub fn changes_owner(task: u32) -> Option<bool> {
    let text = std::fs::read_to_string(format!("/proc/{task}/syscall")).ok()?;
    let number = text.split(' ').next()?.parse().ok()?;
    #[cfg(target_arch = "x86_64")]
    if [libc::SYS_chown, libc::SYS_lchown].contains(&number) {
        return Some(true);
    }
    Some([libc::SYS_fchown, libc::SYS_fchownat].contains(&number))
}

/// Returns whether a process runs the file of that number of a file system without a device. Asks
/// nobody: the file system may be our own, and its threads busy.
#[must_use]
pub fn is_executed(ino: u64) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.filter_map(|p| p.ok().map(|p| p.path().join("exe"))).any(|exe| {
        let (how, what) = (fs::AtFlags::STATX_DONT_SYNC, fs::StatxFlags::INO);
        fs::statx(fs::CWD, exe, how, what).is_ok_and(|s| s.stx_ino == ino && s.stx_dev_major == 0)
    })
}

/// Returns the supplementary groups of a thread; `None` if they cannot be seen.
#[must_use]
pub fn groups_of(task: u32) -> Option<Vec<u32>> {
    let text = std::fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Groups:"))?;
    line.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// Asks for all of a file to be read from disk.
pub(super) fn read_ahead(fd: BorrowedFd<'_>) {
    // a wish, no more
    fs::fadvise(fd, 0, None, fs::Advice::WillNeed).unwrap_or_default();
}

/// Returns how many processors this process may run on (sched_getaffinity(2)). What a control
/// group grants of their time is not asked for, which costs a dozen files.
pub fn processors() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize)
}
