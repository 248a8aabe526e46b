//! macOS has no such handles that a program may ask for.

use super::FileHandle;
use crate::sys::{Errno, Result, Stat};
use std::os::fd::BorrowedFd;

pub(super) fn handle(_: BorrowedFd<'_>, _: &[u8]) -> Result<FileHandle> {
    Err(Errno::OPNOTSUPP)
}

pub(super) fn stat_handle(_: BorrowedFd<'_>, _: &FileHandle) -> Result<Stat> {
    Err(Errno::OPNOTSUPP)
}

pub(super) fn file_system_uuid(_: BorrowedFd<'_>) -> Option<[u8; 16]> {
    None
}
