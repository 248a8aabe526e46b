//! macOS: type-checked only; a mount needs macFUSE's library loaded at run time, which is to come.

use super::error::MountError;
use super::options::MountSettings;
use crate::sys::{self, Errno};
use std::os::fd::OwnedFd;
use std::path::Path;

pub(super) const CLONE_FD: bool = false;

pub(super) fn threads(_wanted: usize) -> usize {
    1
}

pub(super) fn mount(_target: &Path, _settings: &MountSettings) -> Result<OwnedFd, MountError> {
    Err(MountError::Platform)
}

/// Unmounts the file system at `target`; with `lazy` by force.
///
/// # Errors
/// [`MountError::Busy`] if somebody uses it and `lazy` is not set.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    match sys::unmount(target, lazy) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy(target.into())),
        Err(errno) => Err(MountError::Unmount { path: target.into(), errno }),
    }
}
