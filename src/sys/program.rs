//! The program's own pages in memory (dl_iterate_phdr(3)).
#![allow(unsafe_code, reason = "the loader's tables, and madvise(2) on what they name")]

use rustix::fs::Advice;
use std::num::NonZeroU64;

const PROGRAM: &str = "/proc/self/exe";

/// A part of the program or of one of its libraries, as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: usize,
    len: usize,
    /// Where it ends in its file.
    file_end: u64,
    /// Nobody writes to it, not even the loader.
    unchanged: bool,
    /// Code, not data.
    code: bool,
    /// Of the program itself, not of a library.
    own: bool,
}

/// Returns what is mapped of the program and of its libraries.
fn parts() -> Vec<Part> {
    extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a valid description for the time of the call, and on the
        // vector that it was given.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<(bool, Vec<Part>)>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // the program comes first
        let own = !std::mem::replace(&mut found.0, true);
        // SAFETY: the table has as many entries as it says, and lives as long as the object.
        let table =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        #[allow(clippy::cast_possible_truncation, reason = "addresses of this process")]
        found.1.extend(table.iter().filter(|h| h.p_type == libc::PT_LOAD).map(|h| Part {
            start: (info.dlpi_addr as usize).wrapping_add(h.p_vaddr as usize),
            len: h.p_memsz as usize,
            #[allow(clippy::useless_conversion, reason = "32 bits wide on some machines")]
            file_end: u64::from(h.p_offset) + u64::from(h.p_filesz),
            unchanged: h.p_flags & libc::PF_W == 0,
            code: h.p_flags & libc::PF_X != 0,
            own,
        }));
        0
    }
    let mut found = (false, Vec::<Part>::new());
    // SAFETY: the function above takes what is passed here, and keeps nothing of it.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut found).cast()) };
    found.1
}

/// Has the kernel read the program from disk at once, up to the end of so many of its parts that are
/// code (`start.ld` tells what is in which), where it would read it piece by piece as the code runs;
/// and no more of it than that until [`forget_code`]: of a file that is read in order it takes ever
/// larger pieces, which what is wanted next then waits behind. Without effect on what is in memory
/// already, and if it fails.
pub fn read_program_ahead(code_parts: usize) {
    let parts = parts();
    let code = parts.iter().filter(|p| p.own && p.code);
    let end = code.take(code_parts).last().map(|p| p.file_end);
    let Some(len) = end.and_then(NonZeroU64::new) else { return };
    for p in parts.iter().filter(|p| p.own && p.unchanged) {
        advise(p, libc::MADV_RANDOM);
    }
    let Ok(file) = std::fs::File::open(PROGRAM) else { return };
    // a wish, no more
    rustix::fs::fadvise(&file, 0, Some(len), Advice::WillNeed).unwrap_or_default();
}

/// Lets go of code and constants of this process: what start-up alone needs does not come back, the
/// rest is found in the page cache again. For who starts and then runs for long. The first of several
/// parts that are code (`start.ld`) is what requests run: it stays, so that nobody waits for it to
/// come from disk when the page cache was needed for other things.
pub fn forget_code() {
    let parts = parts();
    for p in parts.iter().filter(|p| p.unchanged) {
        advise(p, libc::MADV_NORMAL);
        advise(p, libc::MADV_DONTNEED);
    }
    let mut code = parts.iter().filter(|p| p.own && p.code);
    if let (Some(first), Some(_)) = (code.next(), code.next()) {
        advise(first, libc::MADV_POPULATE_READ);
    }
}

/// Tells the kernel how a part that nobody writes to will be used.
fn advise(part: &Part, advice: libc::c_int) {
    // SAFETY: this asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Some(page) = usize::try_from(page).ok().filter(|n| n.is_power_of_two()) else { return };
    debug_assert!(part.unchanged, "pages that were written to would be lost");
    let start = part.start & !(page - 1);
    // SAFETY: nobody writes to these pages, so each is the same when it is read from its file
    // again: that of a running program cannot be changed (ETXTBSY), and who changes a library
    // in its place changes it for all that use it, pages that were never read included. A
    // refusal changes nothing.
    unsafe {
        libc::madvise(start as *mut libc::c_void, part.start + part.len - start, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_tells_what_is_code() {
        let here = the_loader_tells_what_is_code as fn() as usize;
        let parts = parts();
        let of = |address: usize| {
            parts.iter().find(|p| (p.start..p.start + p.len).contains(&address)).copied()
        };
        let code = of(here).unwrap();
        assert!(code.own && code.code && code.unchanged);
        let size = std::fs::metadata(PROGRAM).unwrap().len();
        assert!(parts.iter().filter(|p| p.own).all(|p| p.file_end <= size));
        let in_libc = of(libc::malloc as *const () as usize).unwrap();
        assert!(!in_libc.own && in_libc.unchanged);
        static VARIABLE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
        let data = of((&raw const VARIABLE) as usize).unwrap();
        assert!(!data.unchanged && !data.code);
    }

    #[test]
    fn code_runs_on_after_it_was_forgotten() {
        read_program_ahead(2);
        forget_code();
        assert_eq!("7 8".split(' ').map(|w| w.parse::<i32>().unwrap()).sum::<i32>(), 15);
    }
}
