//! `-o remount`: changing the flags of a mount that is there, without its daemon.
//!
//! As with the kernel's overlayfs nothing changes but what mount(2) calls flags: read-only or not,
//! set-id bits, devices, programs, access times. mount(8) gives all other options once more; they
//! stay as they are. The daemon hears nothing of it: what it reads from the upper by itself leaves or
//! changes access times there as its first options said.

use super::mount_options::MountOptions;
use super::{CliError, live};
use crate::fuse::FS_TYPE;
use crate::sys::{self, Errno, MountAttributes};
use std::path::Path;

/// Changes the flags of the topmost mount at `mount_point` to what `options` ask for; others stay.
pub(super) fn remount(mount_point: &Path, options: &MountOptions) -> Result<(), CliError> {
    let at = mount_point.display();
    let mount = sys::mount_at(mount_point)
        .filter(|m| m.fs_type == FS_TYPE)
        .ok_or_else(|| CliError::message(format!("{at}: no stratafs is mounted there")))?;
    let now = MountAttributes::of(&mount);
    let new = changed(now, options);
    let has_no_upper =
        || live::find(&mount.mount_point, &mount.device).is_some_and(|l| l.record.read_only);
    if now.read_only && !new.read_only && has_no_upper() {
        return Err(CliError::failed(
            format!("{at} stays read-only: it has no upper"),
            &Errno::ROFS,
        )
        .hint("unmount it, and mount it with upperdir= and workdir=, or as a container"));
    }
    sys::remount(&mount.mount_point, new).map_err(|e| {
        let failed = CliError::failed(format!("cannot remount {at}"), &e);
        match e {
            Errno::PERM => failed.hint("only root may; or unmount it and mount it anew"),
            Errno::BUSY => failed.hint("somebody has files open for writing there"),
            _ => failed,
        }
    })
}

fn changed(now: MountAttributes, o: &MountOptions) -> MountAttributes {
    let not = |wanted: Option<bool>, now: bool| wanted.map_or(now, |w| !w);
    MountAttributes {
        read_only: o.read_only.unwrap_or(now.read_only),
        nosuid: not(o.suid, now.nosuid),
        nodev: not(o.dev, now.nodev),
        noexec: not(o.exec, now.noexec),
        noatime: not(o.atime, now.noatime),
        // of the modes other than noatime a FUSE mount has no use for: the usual one
        relatime: o.atime.unwrap_or(now.relatime),
        nodiratime: not(o.diratime, now.nodiratime),
        nosymfollow: not(o.symfollow, now.nosymfollow),
        sync: now.sync || o.sync,
        dirsync: now.dirsync || o.dirsync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let now = MountAttributes { read_only: true, nosuid: true, ..MountAttributes::default() };
        let of = |text: &str| changed(now, &MountOptions::parse(&[text]).unwrap());
        assert_eq!(of("remount"), now);
        assert_eq!(of("remount,rw"), MountAttributes { read_only: false, ..now });
        assert_eq!(
            of("remount,suid,noexec,ro"),
            MountAttributes { nosuid: false, noexec: true, ..now }
        );
        assert_eq!(of("remount,noatime"), MountAttributes { noatime: true, ..now });
    }

    #[test]
    fn what_the_mount_has_is_carried_along() {
        let now = MountAttributes {
            noatime: true,
            nodiratime: true,
            nosymfollow: true,
            ..MountAttributes::default()
        };
        let of = |text: &str| changed(now, &MountOptions::parse(&[text]).unwrap());
        assert_eq!(of("remount,rw"), now);
        // as mount(8) gives it: what is there first, then what is new
        for new in ["atime", "noatime,nosymfollow,atime", "noatime,relatime"] {
            let atime = MountAttributes { noatime: false, relatime: true, ..now };
            assert_eq!(of(&format!("remount,{new}")), atime, "{new}");
        }
        let relatime = MountAttributes { relatime: true, ..MountAttributes::default() };
        let of = |text: &str| changed(relatime, &MountOptions::parse(&[text]).unwrap());
        assert_eq!(of("remount,ro"), MountAttributes { read_only: true, ..relatime });
    }
}
