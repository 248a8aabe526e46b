//! The program's own pages in memory (dl_iterate_phdr(3)).
#![allow(unsafe_code, reason = "the loader's tables, and madvise(2) on what they name")]

use rustix::fs::Advice;
use std::num::NonZeroU64;

const PROGRAM: &str = "/proc/self/exe";

/// How many bytes are asked for at once.
const PIECE: u64 = 128 << 10;

/// What a process is about to run of the program. Counts the parts of it that are code, in the order
/// in which `start.ld` puts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// A mount of directories: what requests run and what a start runs.
    Mount,
    /// A mount of an image or a container: the command line's grammar and the store too.
    MountFromStore,
    /// Any other command: those three, and who knows what else.
    Anything,
}

impl Runs {
    fn code_parts(self) -> usize {
        match self {
            Runs::Mount => 2,
            Runs::MountFromStore | Runs::Anything => 3,
        }
    }
}

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

/// Has the kernel read from disk at once what the process is about to run of the program, where it would
/// read it piece by piece as the code runs. Without effect on what is in memory already.
///
/// For a mount, which others wait for, no more is read than that until [`keep_what_requests_run`]: of a
/// file that is read in order the kernel takes ever larger pieces, which what is wanted next then
/// waits behind.
pub fn read_program_ahead(runs: Runs) {
    let parts = parts();
    let code = || parts.iter().filter(|p| p.own && p.code);
    let Some(end) = code().take(runs.code_parts()).last().map(|p| p.file_end) else { return };
    let Ok(file) = std::fs::File::open(PROGRAM) else { return };
    // of a larger piece most disks' queues would cut off the end
    for at in (0..end).step_by(PIECE as usize) {
        if rustix::fs::fadvise(&file, at, NonZeroU64::new(PIECE), Advice::WillNeed).is_err() {
            return;
        }
    }
    if runs != Runs::Anything && is_laid_out(&parts) {
        for p in parts.iter().filter(|p| p.own && p.unchanged) {
            advise(p, libc::MADV_RANDOM);
        }
    }
}

/// Lets go of code and constants of this process: what start-up alone needs does not come back, the
/// rest is found in the page cache again. For who starts and then runs for long. What requests run
/// (the first part that is code) stays mapped, so that it is among the last to go when the page cache
/// is needed for other things; nothing is locked.
pub fn keep_what_requests_run() {
    let parts = parts();
    let kept = parts.iter().position(|p| p.own && p.code).filter(|_| is_laid_out(&parts));
    for (i, p) in parts.iter().enumerate().filter(|(_, p)| p.unchanged) {
        advise(p, libc::MADV_NORMAL);
        if kept == Some(i) {
            advise(p, libc::MADV_POPULATE_READ);
        } else {
            advise(p, libc::MADV_DONTNEED);
        }
    }
}

/// Returns whether the program was linked as `start.ld` says: the code is in several parts then.
fn is_laid_out(parts: &[Part]) -> bool {
    parts.iter().filter(|p| p.own && p.code).count() > 1
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
        read_program_ahead(Runs::Mount);
        keep_what_requests_run();
        assert_eq!("7 8".split(' ').map(|w| w.parse::<i32>().unwrap()).sum::<i32>(), 15);
    }

    #[test]
    fn a_program_that_is_in_one_part_is_read_as_ever() {
        read_program_ahead(Runs::Mount);
        // "rr": no read-ahead
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(maps.lines().any(|l| l.starts_with("VmFlags:")));
        assert!(!maps.lines().any(|l| l.starts_with("VmFlags:") && l.contains(" rr ")));
    }
}
