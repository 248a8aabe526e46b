//! Which extended attributes of a layer are kept, and under which name they lie on disk.

use crate::marker::{
    CONTAINERS_NAMES, Dialect, FUSE_OVERLAYFS_NAMES, OVERRIDE_XATTR,
    PRIVILEGED_FUSE_OVERLAYFS_NAMES,
};

/// Attributes that the store or another overlay program believes, or that belong to the host:
/// a layer may not bring them.
const DROPPED: [&[u8]; 6] = [
    FUSE_OVERLAYFS_NAMES,
    PRIVILEGED_FUSE_OVERLAYFS_NAMES,
    CONTAINERS_NAMES,
    b"user.rootlesscontainers",
    b"security.selinux",
    b"system.nfs4_acl",
];

/// Returns whether an attribute of this name may be kept.
pub(super) fn kept(name: &[u8]) -> bool {
    !DROPPED.iter().any(|d| name.starts_with(d)) && name != OVERRIDE_XATTR
}

/// Returns the name under which an attribute lies on disk: those in either namespace of the
/// overlay are escaped, whatever the store's own is, so that no program believes them.
pub(super) fn disk_name(name: &[u8]) -> Vec<u8> {
    if name.starts_with(Dialect::Trusted.prefix()) {
        Dialect::Trusted.to_disk(name)
    } else {
        Dialect::User.to_disk(name)
    }
}

/// Returns whether an ordinary user can set an attribute of this name.
pub(super) fn settable_by_user(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_attributes_are_dropped_or_escaped() {
        assert!(!kept(b"user.containers.override_stat"));
        assert!(!kept(b"user.fuseoverlayfs.opaque"));
        assert!(kept(b"user.container") && kept(b"security.capability"));
        assert_eq!(disk_name(b"trusted.overlay.opaque"), b"trusted.overlay.overlay.opaque");
        assert_eq!(disk_name(b"user.overlay.redirect"), b"user.overlay.overlay.redirect");
        assert_eq!(disk_name(b"user.overlay"), b"user.overlay");
    }
}
