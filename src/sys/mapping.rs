//! A read-only mapping of an immutable file.
#![allow(unsafe_code)]

use super::{Errno, File, Result};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A private, read-only memory mapping of a whole file, or a part of one. Clones are the same
/// mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    map: Option<Arc<memmap2::Mmap>>,
    part: Range<usize>,
}

impl Mapping {
    /// Maps all of `file`. The caller vouches that nobody but this program writes such files,
    /// and that this program replaces them by rename and never writes to them in place.
    pub fn of(file: &File) -> Result<Mapping> {
        if file.stat()?.size == 0 {
            return Ok(Mapping { map: None, part: 0..0 });
        }
        // SAFETY: a mapped file that another process cuts short would raise SIGBUS, and one that
        // it writes would change under a shared slice. Index files are written once into a
        // temporary name and renamed; whoever can write them owns the store and this process.
        let map = unsafe { memmap2::Mmap::map(&file.as_fd()) }.map_err(Errno::from)?;
        let part = 0..map.len();
        Ok(Mapping { map: Some(Arc::new(map)), part })
    }

    /// Returns a part of this mapping, which keeps all of it mapped; `None` if it does not lie
    /// within.
    #[must_use]
    pub fn part(&self, part: Range<usize>) -> Option<Mapping> {
        self.get(part.clone())?;
        let start = self.part.start;
        Some(Mapping { map: self.map.clone(), part: start + part.start..start + part.end })
    }

    /// Gives back the memory of this part: what is read again comes from the page cache. For who has
    /// read all of it once and will read little from now on.
    pub fn let_go(&self) {
        let Some(map) = &self.map else { return };
        // SAFETY: nobody writes to this mapping, so each page is the same when it is read from the
        // file again.
        let done = unsafe {
            map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                self.part.start,
                self.part.len(),
            )
        };
        // a wish, no more
        done.unwrap_or_default();
    }
}

impl std::ops::Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.as_deref().and_then(|m| m.get(self.part.clone())).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Dir, OpenFlags};

    #[test]
    fn a_part_lies_within_or_is_none() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("f"), b"0123456789").unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        let all = Mapping::of(&dir.open_file(b"f", OpenFlags::READ, 0).unwrap()).unwrap();
        let part = all.part(2..8).unwrap();
        assert_eq!(&*part, b"234567");
        assert_eq!(&*part.part(1..3).unwrap(), b"34");
        assert!(part.part(1..7).is_none() && all.part(11..11).is_none());
        drop(all);
        part.let_go();
        assert_eq!(&*part, b"234567");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_let_go_is_in_memory_no_more() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("an index");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        let all = Mapping::of(&dir.open_file(b"an index", OpenFlags::READ, 0).unwrap()).unwrap();
        let resident = || -> u64 {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let this = maps.split(path.to_str().unwrap()).nth(1).unwrap();
            let line = this.lines().find(|l| l.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        assert!(all.iter().all(|b| *b == 7));
        assert_eq!(resident(), 1024);
        all.let_go();
        assert_eq!(resident(), 0);
        assert!(all.iter().all(|b| *b == 7));
    }
}
