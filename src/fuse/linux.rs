//! Linux: mount(2) for those who may, fusermount3 for the others.

use super::error::MountError;
use super::options::MountSettings;
use super::{FS_TYPE, SUBTYPE};
use crate::sys::{self, Errno};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const DEVICE: &str = "/dev/fuse";
const SELINUX: &str = "/sys/fs/selinux/enforce";
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
const FUSERMOUNT: &str = "fusermount3";
/// What it reads besides itself.
const FUSERMOUNT_READS: [&str; 3] = ["/etc/fuse.conf", "/etc/nsswitch.conf", "/etc/passwd"];

pub(super) fn threads(wanted: usize) -> usize {
    wanted
}

/// How far the kernel is to read ahead, in KiB: a stream then comes in requests of 1 MiB.
const READ_AHEAD: &str = "1024";

/// Lets the kernel read further ahead in the mount of this `major:minor` than a file system may
/// ask for. Only root may; without it reads are smaller.
pub(super) fn raise_read_ahead(device: &str) {
    let knob = format!("/sys/class/bdi/{device}/read_ahead_kb");
    match std::fs::write(&knob, READ_AHEAD) {
        Ok(()) => log::debug!("read-ahead of {device}: {READ_AHEAD} KiB"),
        Err(e) => log::debug!("{knob}: {e}"),
    }
}

/// Opens one more device on a connection, with a queue of its own.
pub(super) fn clone_device(connection: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open(DEVICE)?;
    sys::join_fuse_connection(device.as_fd(), connection)?;
    Ok(device.into())
}

/// Puts `device` in the place of an open descriptor.
pub(super) fn replace_device(place: BorrowedFd<'_>, device: OwnedFd) -> std::io::Result<()> {
    Ok(sys::replace_descriptor(place, device)?)
}

/// Returns two ends of a socket. The first gives a kernel's greeting (`FUSE_INIT`) to who reads
/// it; the second is where the answer goes, and must live until then.
pub(super) fn greeting() -> std::io::Result<(OwnedFd, OwnedFd)> {
    const INIT: u32 = 26;
    let mut message = Vec::new();
    // struct fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, padding
    message.extend_from_slice(&104_u32.to_ne_bytes());
    message.extend_from_slice(&INIT.to_ne_bytes());
    message.resize(40, 0);
    // struct fuse_init_in: major, minor, max_readahead, flags, flags2, unused
    for word in [7_u32, 40, 1 << 17] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message.resize(104, 0);
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair()?;
    ours.send(&message)?;
    Ok((theirs.into(), ours.into()))
}

/// Mounts at `target`, an absolute path without symlinks, and returns the connection.
pub(super) fn mount(target: &Path, settings: &MountSettings) -> Result<OwnedFd, MountError> {
    if sys::effective_capability_sys_admin() {
        match mount_directly(target, settings) {
            // a user namespace without a mount namespace of its own
            Err(MountError::Mount(Errno::PERM)) => {}
            done => return done,
        }
        return mount_by_fusermount(target, settings).map_err(|e| match e {
            MountError::NoFusermount => MountError::Mount(Errno::PERM),
            e => e,
        });
    }
    mount_by_fusermount(target, settings)
}

fn open_device() -> Result<File, MountError> {
    File::options().read(true).write(true).open(DEVICE).map_err(|e| MountError::Device(e.into()))
}

fn mount_directly(target: &Path, settings: &MountSettings) -> Result<OwnedFd, MountError> {
    let point = |e: std::io::Error| MountError::MountPoint { path: target.into(), errno: e.into() };
    let root_mode = std::fs::symlink_metadata(target).map_err(point)?.mode();
    let device = open_device()?;
    let me = sys::Identity::current();
    let mut data = format!(
        "fd={},rootmode={root_mode:o},user_id={},group_id={}",
        device.as_raw_fd(),
        me.uid,
        me.gid
    );
    if settings.default_permissions {
        data.push_str(",default_permissions");
    }
    if settings.allow_other {
        data.push_str(",allow_other");
    }
    let mut data = data.into_bytes();
    data.extend(labels(settings, Path::new(SELINUX).exists()));
    let data = CString::new(data).map_err(|_| MountError::Mount(Errno::INVAL))?;
    sys::mount_fuse(&settings.source, target, FS_TYPE, settings.attributes, &data)
        .map_err(MountError::Mount)?;
    Ok(device.into())
}

/// The options for the security module. Without it the kernel would refuse them, and there are no
/// labels that they could set.
fn labels(settings: &MountSettings, active: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in &settings.labels {
        if active {
            out.extend_from_slice(format!(",{key}=\"").as_bytes());
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
        } else {
            log::debug!("{key}= has no effect: SELinux is not active");
        }
    }
    out
}

/// The options as fusermount3 understands them. It adds nosuid and nodev for ordinary users.
fn fusermount_options(settings: &MountSettings) -> OsString {
    let a = settings.attributes;
    let mut o = b"fsname=".to_vec();
    for b in settings.source.as_bytes() {
        if matches!(b, b',' | b'\\') {
            o.push(b'\\');
        }
        o.push(*b);
    }
    o.extend_from_slice(format!(",subtype={SUBTYPE}").as_bytes());
    let flags = [
        (a.read_only, "ro"),
        (a.nosuid, "nosuid"),
        (a.nodev, "nodev"),
        (a.noexec, "noexec"),
        (a.noatime, "noatime"),
        (a.sync, "sync"),
        (a.dirsync, "dirsync"),
        (settings.default_permissions, "default_permissions"),
        (settings.allow_other, "allow_other"),
    ];
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        o.push(b',');
        o.extend_from_slice(name.as_bytes());
    }
    OsString::from_vec(o)
}

/// Begins to read from disk what a mount to come will want of it, if that is by fusermount3: the layers
/// are read in the meantime. `search` says where programs are (`PATH`). Starts a thread.
pub fn read_helper_ahead(search: OsString) {
    if sys::effective_capability_sys_admin() {
        return;
    }
    let read = |path: &Path| {
        let file = File::open(path).map(|f| sys::File::from_std(f).read_ahead());
        file.is_ok()
    };
    let all = move || {
        let found = std::env::split_paths(&search).any(|dir| read(&dir.join(FUSERMOUNT)));
        log::debug!("{FUSERMOUNT} is there to be read: {found}");
        for path in FUSERMOUNT_READS {
            read(path.as_ref());
        }
    };
    let started = std::thread::Builder::new().name("ahead".to_owned()).spawn(all);
    if let Err(e) = started {
        log::debug!("{FUSERMOUNT} is not read ahead: {e}");
    }
}

fn mount_by_fusermount(target: &Path, settings: &MountSettings) -> Result<OwnedFd, MountError> {
    for (key, _) in &settings.labels {
        log::warn!("{key}= has no effect: only root may set it");
    }
    // fusermount3 would say it in fewer words
    match open_device() {
        Err(MountError::Device(e)) if e != Errno::ACCESS => return Err(MountError::Device(e)),
        _ => {}
    }
    let (ours, theirs) = UnixStream::pair().map_err(MountError::Connection)?;
    // its standard input is the one descriptor that it gets from us
    let child = Command::new(FUSERMOUNT)
        .arg("-o")
        .arg(fusermount_options(settings))
        .arg("--")
        .arg(target)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let received = sys::receive_fd(&ours);
    let output = child.wait_with_output().map_err(MountError::Connection)?;
    match received {
        Ok(Some(fd)) if output.status.success() => Ok(fd),
        Ok(_) => Err(refusal(&output)),
        Err(e) => Err(MountError::Connection(e.into())),
    }
}

fn not_started(e: std::io::Error) -> MountError {
    match e.kind() {
        std::io::ErrorKind::NotFound => MountError::NoFusermount,
        _ => MountError::Fusermount(format!("{FUSERMOUNT} cannot be started: {e}")),
    }
}

fn refusal(output: &Output) -> MountError {
    let said = crate::name::printable(output.stderr.trim_ascii());
    if said.contains("user_allow_other") {
        return MountError::AllowOther;
    }
    if said.contains(DEVICE) && said.contains("ermission denied") {
        return MountError::Device(Errno::ACCESS);
    }
    MountError::Fusermount(if said.is_empty() {
        format!("{FUSERMOUNT} ended with {} and said nothing", output.status)
    } else {
        said
    })
}

/// Unmounts the file system at `target`, an absolute path. With `lazy` it disappears at once and
/// ends when its last user has gone.
///
/// # Errors
/// [`MountError::Busy`] if somebody uses it and `lazy` is not set.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    match sys::unmount(target, lazy) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy(target.into())),
        Err(Errno::PERM) => unmount_by_fusermount(target, lazy),
        Err(errno) => Err(MountError::Unmount { path: target.into(), errno }),
    }
}

/// Unmounts as a lazy [`unmount`] does, and ends the connection: whoever waits for an answer gets
/// `ECONNABORTED`.
///
/// # Errors
/// [`MountError::Unmount`], with `EPERM` for all but the machine's root.
pub(super) fn unmount_by_force(target: &Path) -> Result<(), MountError> {
    sys::unmount_by_force(target)
        .map_err(|errno| MountError::Unmount { path: target.into(), errno })
}

/// Ends the connection of the mount of this `major:minor`, wherever it is mounted. Returns whether
/// it has: a system need not show its connections.
pub(super) fn abort(device: &str) -> bool {
    let Some((_, minor)) = device.split_once(':') else { return false };
    let knob = format!("{CONNECTIONS}/{minor}/abort");
    let done = std::fs::write(&knob, "1");
    if let Err(e) = &done {
        log::debug!("{knob}: {e}");
    }
    done.is_ok()
}

fn unmount_by_fusermount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output =
        command.arg("--").arg(target).stdin(Stdio::null()).output().map_err(not_started)?;
    if output.status.success() {
        return Ok(());
    }
    if contains(&output.stderr, "busy") {
        return Err(MountError::Busy(target.into()));
    }
    Err(refusal(&output))
}

fn contains(text: &[u8], word: &str) -> bool {
    OsStr::from_bytes(text).to_string_lossy().contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_to_the_kernel_in_quotes_where_it_knows_them() {
        let mut s = MountSettings::private("x");
        s.labels.push(("context".to_owned(), "u:r:t:s0:c1,c2".into()));
        assert_eq!(labels(&s, true), b",context=\"u:r:t:s0:c1,c2\"");
        assert!(labels(&s, false).is_empty());
    }

    #[test]
    fn commas_in_the_source_do_not_become_options() {
        let s = MountSettings::private("a,allow_other\\b");
        let o = fusermount_options(&s);
        let want = "fsname=a\\,allow_other\\\\b,subtype=stratafs,nosuid,nodev";
        assert_eq!(o, want);
    }
}
