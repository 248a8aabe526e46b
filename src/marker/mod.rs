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
