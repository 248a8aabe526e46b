//! The program's own pages in memory (proc_pid_maps(5)).
#![allow(unsafe_code, reason = "madvise(2) on our own code")]

use rustix::fs::Advice;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt as _;

const PROGRAM: &str = "/proc/self/exe";

/// A part of a file that is mapped into memory.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    start: usize,
    end: usize,
    /// Read and executed, not written.
    code: bool,
    offset: u64,
    /// Inode number of the file.
    ino: u64,
}

impl Mapped {
    /// Parses `START-END PERMS OFFSET DEVICE INODE PATH`; `None` for what is no file.
    fn parse(line: &str) -> Option<Mapped> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let code = words.next()?.starts_with("r-xp");
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let ino = words.nth(1)?.parse().ok().filter(|n| *n != 0)?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok().filter(|e| *e > start)?;
        Some(Mapped { start, end, code, offset, ino })
    }
}

fn mapped() -> Vec<Mapped> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    text.lines().filter_map(Mapped::parse).collect()
}

/// Has the kernel read the program from disk at once, where it would read it piece by piece as
/// the code runs. Without effect on what is in memory already, and if it fails.
pub fn read_program_ahead() {
    let Ok(file) = std::fs::File::open(PROGRAM) else { return };
    let Ok(ino) = file.metadata().map(|m| m.ino()) else { return };
    let parts = mapped();
    let ends = parts.iter().filter(|m| m.ino == ino).map(|m| m.offset + (m.end - m.start) as u64);
    if let Some(len) = ends.max().and_then(NonZeroU64::new) {
        // a wish, no more
        rustix::fs::fadvise(&file, 0, Some(len), Advice::WillNeed).unwrap_or_default();
    }
}

/// Lets go of all code of this process: what start-up alone needs does not come back, the rest is
/// found in the page cache again. For who starts and then runs for long.
pub fn forget_code() {
    for m in mapped().iter().filter(|m| m.code) {
        // SAFETY: nobody writes to these pages, so each is the same when it is read from its file
        // again; the file of a running program cannot be changed (ETXTBSY). A refusal changes
        // nothing.
        unsafe {
            libc::madvise(m.start as *mut libc::c_void, m.end - m.start, libc::MADV_DONTNEED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_files_parse() {
        let line = "7f00a000-7f00c000 r-xp 00001000 fe:00 4711                 /lib/with space.so";
        let want =
            Mapped { start: 0x7f00_a000, end: 0x7f00_c000, code: true, offset: 4096, ino: 4711 };
        assert_eq!(Mapped::parse(line), Some(want));
        assert!(!Mapped::parse(&line.replace("r-xp", "r--p")).unwrap().code);
        for none in ["7f00a000-7f00c000 r-xp 00000000 00:00 0 [vdso]", "", "1-0 r-xp 0 0:0 1"] {
            assert_eq!(Mapped::parse(none), None);
        }
    }

    #[test]
    fn code_runs_on_after_it_was_forgotten() {
        read_program_ahead();
        assert!(mapped().iter().any(|m| m.code));
        forget_code();
        assert_eq!("7 8".split(' ').map(|w| w.parse::<i32>().unwrap()).sum::<i32>(), 15);
    }
}
