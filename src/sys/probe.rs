//! What this process may do, and what a file system can hold: asked once, then carried as a value.

use super::{Dir, Errno, FileType, RenameFlags, Result, platform};
use std::sync::OnceLock;

/// Who this process is, as far as the file system cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Whether this is real root: any owner, devices, `trusted.*` attributes.
    pub privileged: bool,
    /// Whether this process lives in a user namespace of its own (`unshare -U`).
    pub user_namespace: bool,
}

impl Identity {
    /// Returns the identity of this process.
    #[must_use]
    pub fn current() -> Identity {
        // a process that starts no namespace of its own stays in the one that it has
        static USER_NAMESPACE: OnceLock<bool> = OnceLock::new();
        let user_namespace = *USER_NAMESPACE.get_or_init(platform::in_user_namespace);
        let uid = rustix::process::geteuid().as_raw();
        Identity {
            uid,
            gid: rustix::process::getegid().as_raw(),
            privileged: uid == 0 && !user_namespace && platform::effective_capability_sys_admin(),
            user_namespace,
        }
    }
}

/// Inclusive ranges of ids.
pub type IdRanges = Vec<(u32, u32)>;

/// Returns the user and the group ids that this process' user namespace knows.
#[must_use]
pub fn known_ids() -> (IdRanges, IdRanges) {
    platform::known_ids()
}

/// What a directory's file system can hold when this process writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Character devices 0:0 can be made.
    pub whiteout_device: bool,
    /// `renameat2` can leave a whiteout behind.
    pub rename_whiteout: bool,
    /// `renameat2` can swap two names.
    pub rename_exchange: bool,
    /// `user.*` extended attributes can be set.
    pub user_xattr: bool,
    /// `trusted.*` extended attributes can be set.
    pub trusted_xattr: bool,
}

/// The names that are tried.
const PROBED: [&[u8]; 3] = [b"a", b"b", b"c"];

impl Capabilities {
    /// Tries each of them in `dir`, in a directory of its own which is removed again.
    pub fn probe(dir: &Dir) -> Result<Capabilities> {
        let name = format!(".probe-{:016x}", u64::from_ne_bytes(super::random_bytes()));
        let name = name.as_bytes();
        dir.mkdir(name, 0o700)?;
        let found = dir.open_dir(name).and_then(|d| {
            let found = Capabilities::probe_in(&d);
            PROBED.iter().try_for_each(|name| remove(&d, name))?;
            found
        });
        dir.rmdir(name).or_else(|_| dir.remove_tree(name))?;
        found
    }

    fn probe_in(d: &Dir) -> Result<Capabilities> {
        let node = d.as_node()?;
        let xattr = |key: &[u8]| node.set_xattr(key, b"y", false, false).is_ok();
        let (user_xattr, trusted_xattr) =
            (xattr(b"user.overlay.probe"), xattr(b"trusted.overlay.probe"));
        // a file system may accept the mknod and give back something else (9p, some NFS)
        let is_whiteout = |name| d.stat(name).is_ok_and(|s| s.is_whiteout_device());
        let [file, other, moved] = PROBED;
        d.mknod(file, FileType::File, 0o600, 0)?;
        let whiteout_device = d.mknod_whiteout(other).is_ok() && is_whiteout(other);
        if !whiteout_device {
            remove(d, other)?;
            d.mknod(other, FileType::File, 0o600, 0)?;
        }
        let rename_exchange = d.rename(file, d, other, RenameFlags::Exchange).is_ok();
        let rename_whiteout =
            d.rename(other, d, moved, RenameFlags::Whiteout).is_ok() && is_whiteout(other);
        Ok(Capabilities {
            whiteout_device,
            rename_whiteout,
            rename_exchange,
            user_xattr,
            trusted_xattr,
        })
    }

    /// Returns what an upper directory needs and this one lacks, or `Ok`.
    pub fn check_upper(&self) -> std::result::Result<(), &'static str> {
        if !self.rename_exchange {
            return Err("its file system cannot swap two names (renameat2 RENAME_EXCHANGE); \
                 use one that can, such as ext4, xfs, btrfs or tmpfs");
        }
        if !self.user_xattr && !self.trusted_xattr {
            return Err("its file system holds no extended attributes of this user; \
                 use one that does, such as ext4, xfs, btrfs or (since Linux 6.6) tmpfs");
        }
        Ok(())
    }
}

/// Removes a name that may be there.
fn remove(d: &Dir, name: &[u8]) -> Result<()> {
    match d.unlink(name) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Returns `ok` unless `r` failed because the file system lacks the feature.
pub(super) fn unsupported(e: Errno) -> bool {
    matches!(e, Errno::OPNOTSUPP | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_leaves_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let c = Capabilities::probe(&d).unwrap();
        assert!(c.rename_exchange);
        assert!(d.is_empty().unwrap());
    }
}
