//! macOS: type-checked only; a mount needs macFUSE's library loaded at run time, which is to come.

use super::error::MountError;
use super::options::MountSettings;
use crate::sys::{self, Errno};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

pub(super) fn threads(_wanted: usize) -> usize {
    1
}

/// Nothing of the kind there.
pub(super) fn raise_read_ahead(_device: &str) {}

/// Refused: the macOS device has no second queue.
pub(super) fn clone_device(_connection: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    Err(Errno::NOSYS.into())
}

/// Never asked for without a second device.
pub(super) fn replace_device(_place: BorrowedFd<'_>, _device: OwnedFd) -> std::io::Result<()> {
    Err(Errno::NOSYS.into())
}

/// Never asked for without a second device.
pub(super) fn greeting() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Err(Errno::NOSYS.into())
}

pub(super) fn mount(_target: &Path, _settings: &MountSettings) -> Result<OwnedFd, MountError> {
    Err(MountError::Platform)
}

/// No helper there.
pub fn read_helper_ahead(_search: std::ffi::OsString) {}

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

/// As a lazy [`unmount`].
pub(super) fn unmount_by_force(target: &Path) -> Result<(), MountError> {
    unmount(target, true)
}

/// No such thing there.
pub(super) fn abort(_device: &str) -> bool {
    false
}
