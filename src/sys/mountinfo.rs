//! The table of mounts: what is mounted where, in this process' mount namespace.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Device number as `major:minor`.
    pub device: String,
    /// Mount point.
    pub mount_point: PathBuf,
    /// Per-mount options, comma separated.
    pub options: String,
    /// File system type, such as `overlay` or `fuse.stratafs`.
    pub fs_type: String,
    /// Source, as the mounter named it.
    pub source: OsString,
    /// Per-superblock options, comma separated, with the kernel's octal escapes undone.
    pub super_options: OsString,
}

/// Returns all mounts, oldest first. Empty where the platform has no such table.
#[must_use]
pub fn mounts() -> Vec<MountInfo> {
    std::fs::read("/proc/self/mountinfo").map_or_else(|_| Vec::new(), |t| parse(&t))
}

/// Returns whether another mount namespace, of those that this process may look into, holds a
/// mount of this device number.
#[must_use]
pub fn mounted_elsewhere(device: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut seen: Vec<PathBuf> = std::fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    processes.flatten().any(|p| {
        // not a process, not ours to look at, or gone by now
        let Ok(namespace) = std::fs::read_link(p.path().join("ns/mnt")) else { return false };
        if seen.contains(&namespace) {
            return false;
        }
        seen.push(namespace);
        std::fs::read(p.path().join("mountinfo"))
            .is_ok_and(|table| parse(&table).iter().any(|m| m.device == device))
    })
}

/// Returns the topmost mount whose mount point is exactly `path` (made absolute, not followed).
#[must_use]
pub fn mount_at(path: &Path) -> Option<MountInfo> {
    let path = std::path::absolute(path).ok()?;
    // the last component may be a dead FUSE mount, which must not be touched
    let full = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => dir.canonicalize().ok()?.join(name),
        _ => path,
    };
    mounts().into_iter().rev().find(|m| m.mount_point == full)
}

/// The flags of a mount that do not depend on the file system (mount(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// No changes.
    pub read_only: bool,
    /// Set-id bits mean nothing.
    pub nosuid: bool,
    /// Device files cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Access times stay.
    pub noatime: bool,
    /// Access times change once a day, or when they are older than the last change. Neither this
    /// nor `noatime`: left to the kernel at a first mount, at each access when one is changed.
    pub relatime: bool,
    /// Access times of directories stay.
    pub nodiratime: bool,
    /// Symlinks are not followed.
    pub nosymfollow: bool,
    /// Everything is written synchronously.
    pub sync: bool,
    /// Changes of directories are written synchronously.
    pub dirsync: bool,
}

impl MountAttributes {
    /// Returns those of a mount.
    #[must_use]
    pub fn of(mount: &MountInfo) -> MountAttributes {
        let file_system = mount.super_options.as_bytes().split(|b| *b == b',');
        let all = mount.options.as_bytes().split(|b| *b == b',').chain(file_system);
        let mut out = MountAttributes::default();
        for option in all {
            match option {
                b"ro" => out.read_only = true,
                b"nosuid" => out.nosuid = true,
                b"nodev" => out.nodev = true,
                b"noexec" => out.noexec = true,
                b"noatime" => out.noatime = true,
                b"relatime" => out.relatime = true,
                b"nodiratime" => out.nodiratime = true,
                b"nosymfollow" => out.nosymfollow = true,
                b"sync" => out.sync = true,
                b"dirsync" => out.dirsync = true,
                _ => {}
            }
        }
        out
    }
}

/// Tells when the table of mounts of this process' mount namespace has changed.
#[derive(Debug)]
pub struct MountWatch {
    table: std::fs::File,
}

impl MountWatch {
    /// Starts watching. Fails where the platform has no such table.
    pub fn new() -> super::Result<MountWatch> {
        Ok(MountWatch { table: std::fs::File::open("/proc/self/mountinfo")? })
    }

    /// Waits until the table has changed since the last call. May return early.
    pub fn wait(&self) -> super::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&self.table, PollFlags::PRI)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn parse(table: &[u8]) -> Vec<MountInfo> {
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut words = line.split(|b| *b == b' ');
    let device = text(words.nth(2)?);
    let mount_point = PathBuf::from(unescape(words.nth(1)?));
    let options = text(words.next()?);
    words.by_ref().find(|w| *w == b"-")?;
    let fs_type = text(words.next()?);
    let source = unescape(words.next()?);
    let super_options = unescape(words.next().unwrap_or(b""));
    Some(MountInfo { device, mount_point, options, fs_type, source, super_options })
}

fn text(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

/// Undoes the kernel's `\ooo` escapes of blanks and backslashes.
fn unescape(b: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(b.len());
    let mut rest = b;
    while let Some((&c, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|d| c == b'\\' && d.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(d) = digits {
            let value = d.iter().fold(0_u32, |n, d| n * 8 + u32::from(d - b'0'));
            out.push((value & 0xff) as u8);
            rest = &tail[3..];
        } else {
            out.push(c);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

impl MountInfo {
    /// Returns the value of a superblock option `key=value`. Values with a comma are cut there.
    #[must_use]
    pub fn super_option(&self, key: &str) -> Option<OsString> {
        self.super_options.as_bytes().split(|b| *b == b',').find_map(|o| {
            let value = o.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            Some(OsString::from_vec(value.to_vec()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_blanks_and_optional_fields_is_understood() {
        let line = b"36 35 0:51 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.stratafs img:1 rw,lowerdir=/x:/y,user_id=0\n";
        let m = parse(line);
        assert_eq!(m.len(), 1);
        assert_eq!(m[0].mount_point, Path::new("/mnt/a b"));
        assert_eq!(m[0].fs_type, "fuse.stratafs");
        assert_eq!(m[0].super_option("lowerdir").unwrap(), "/x:/y");
        assert_eq!(m[0].super_option("lower"), None);
    }

    #[test]
    fn broken_lines_are_left_out() {
        assert!(parse(b"36 35\n\ngarbage - \n").is_empty());
    }
}
