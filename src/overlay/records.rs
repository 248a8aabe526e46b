//! What disks cannot hold: owners, modes and types in extended attributes.

use super::error::{Doing as _, Result};
use super::options::Options;
use crate::id::LayerIndex;
use crate::marker::{
    FUSE_OVERLAYFS_OVERRIDE_XATTR, OVERRIDE_XATTR, OverrideStat, PRIVILEGED_OVERRIDE_XATTR,
};
use crate::resolve::LayerRef;
use crate::sys::{self, Dir, Errno};

/// Where a private view records what is not set on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// Attributes in `user.containers.override_stat`, extended attributes under our own prefix.
    #[default]
    Own,
    /// All as fuse-overlayfs does with `xattr_permissions=2`: `user.containers.override_*`. On
    /// disk everything may be read and executed by everybody.
    Containers,
    /// As fuse-overlayfs does with `xattr_permissions=1`: `security.fuseoverlayfs.override_stat`,
    /// which only root of the machine may write. Extended attributes are set on disk.
    Privileged,
}

impl Records {
    /// Returns the name of the attribute that holds owner, mode and type.
    #[must_use]
    pub fn stat_key(self) -> &'static [u8] {
        match self {
            Records::Own | Records::Containers => OVERRIDE_XATTR,
            Records::Privileged => PRIVILEGED_OVERRIDE_XATTR,
        }
    }

    /// Returns what files and directories may at least be used for on disk, as a mode.
    pub(super) fn least_mode(self, dir: bool) -> u32 {
        match (self, dir) {
            // the daemon must be able to read its records, and to reach what is in a directory
            (Records::Own, false) => 0o400,
            (Records::Own, true) => 0o700,
            (Records::Containers | Records::Privileged, _) => 0o755,
        }
    }
}

/// In which attribute a lower layer records, if the view heeds such records at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    key: Option<&'static [u8]>,
    private: Option<Records>,
}

impl Recorded {
    /// Finds the attribute: the one that the layer's root has, as containers/storage and
    /// fuse-overlayfs put it there, else the one in which the view itself would record.
    pub(super) fn find(root: &Dir, options: &Options, layer: LayerIndex) -> Result<Recorded> {
        if !options.owner_view {
            return Ok(Recorded { key: None, private: None });
        }
        let at = LayerRef::Lower(layer);
        let node = root.as_node().layer(at, "open the layer's root")?;
        let mut key = options.records.stat_key();
        for known in [PRIVILEGED_OVERRIDE_XATTR, OVERRIDE_XATTR, FUSE_OVERLAYFS_OVERRIDE_XATTR] {
            if readable(node.get_xattr(known)).layer(at, "look for recorded attributes")?.is_some()
            {
                key = known;
                break;
            }
        }
        Ok(Recorded { key: Some(key), private: Some(options.records) })
    }

    /// Returns whether there may be records.
    pub(super) fn any(self) -> bool {
        self.key.is_some()
    }

    /// Returns how extended attributes are kept in the layer.
    pub(super) fn private(self) -> Option<Records> {
        self.private
    }

    /// Reads a record by means of `get`. What is no record says nothing.
    pub(super) fn read(
        self,
        get: impl FnOnce(&[u8]) -> sys::Result<Option<Vec<u8>>>,
    ) -> sys::Result<Option<OverrideStat>> {
        let Some(key) = self.key else { return Ok(None) };
        Ok(readable(get(key))?.and_then(|v| OverrideStat::parse(&v)))
    }
}

/// A record that may not be read says nothing.
fn readable(value: sys::Result<Option<Vec<u8>>>) -> sys::Result<Option<Vec<u8>>> {
    match value {
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => Ok(None),
        r => r,
    }
}
