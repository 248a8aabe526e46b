//! A read-only mapping of an immutable file.
#![allow(unsafe_code)]

use super::{Errno, File, Result};
use std::os::fd::AsFd;

/// A private, read-only memory mapping of a whole file.
#[derive(Debug)]
pub struct Mapping {
    map: Option<memmap2::Mmap>,
}

impl Mapping {
    /// Maps all of `file`. The caller vouches that nobody but this program writes such files,
    /// and that this program replaces them by rename and never writes to them in place.
    pub fn of(file: &File) -> Result<Mapping> {
        if file.stat()?.size == 0 {
            return Ok(Mapping { map: None });
        }
        // SAFETY: a mapped file that another process cuts short would raise SIGBUS, and one that
        // it writes would change under a shared slice. Index files are written once into a
        // temporary name and renamed; whoever can write them owns the store and this process.
        let map = unsafe { memmap2::Mmap::map(&file.as_fd()) }.map_err(Errno::from)?;
        Ok(Mapping { map: Some(map) })
    }
}

impl std::ops::Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}
