//! How a layer says "deleted", "opaque", "moved" and "owned by": pure functions over bytes.
//!
//! Sources: the kernel's `Documentation/filesystems/overlayfs.rst`, the OCI image-spec's
//! `layer.md`, containers/storage (`user.containers.override_stat`).

mod dialect;
mod links;
mod oci;
mod origin;
mod override_stat;
mod redirect;

pub use dialect::{Dialect, XattrName};
pub use links::Links;
pub use oci::{OPAQUE_NAME, OciMarker, WHITEOUT_PREFIX};
pub use origin::Origin;
pub use override_stat::{
    FUSE_OVERLAYFS_OVERRIDE_XATTR, OVERRIDE_XATTR, OverrideStat, PRIVILEGED_OVERRIDE_XATTR,
};
pub use redirect::Redirect;

/// The mark of an opaque directory that fuse-overlayfs makes beside the kernel's.
pub const FUSE_OVERLAYFS_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";

/// Under which names fuse-overlayfs keeps its marks.
pub const FUSE_OVERLAYFS_NAMES: &[u8] = b"user.fuseoverlayfs.";

/// Under which names it keeps what only root may set (`xattr_permissions=1`).
pub const PRIVILEGED_FUSE_OVERLAYFS_NAMES: &[u8] = b"security.fuseoverlayfs.";

/// Under which names containers/storage, and `xattr_permissions=2`, keep what cannot be set on disk.
pub const CONTAINERS_NAMES: &[u8] = b"user.containers.override_";

/// Value of the metacopy attribute of a copy of which some blocks are still in the lowers
/// (`lazy_copy_up`). Its first byte is a version to the kernel, which knows 0 alone and so refuses
/// the file; before Linux 6.6, which took any value for a metacopy, it shows the lower's.
pub const INCOMPLETE: &[u8] = b"stratafs-incomplete";
