//! The process itself: signals, umask, limits, random bytes.
#![allow(unsafe_code)]

use super::{Errno, Result};

/// The signals that end a mount cleanly.
#[derive(Clone, Copy, Debug)]
pub struct SignalSet(libc::sigset_t);

fn ending_signals() -> libc::sigset_t {
    // SAFETY: a zeroed sigset_t is valid memory for sigemptyset to fill, and the signal numbers
    // are constants of the platform.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for s in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, s);
        }
        set
    }
}

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it will start, so that
/// [`wait_signal`] can take them.
pub fn block_signals() -> Result<SignalSet> {
    let set = ending_signals();
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    let rc =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if rc == 0 { Ok(SignalSet(set)) } else { Err(Errno::from_raw(rc)) }
}

/// Unblocks them again in this thread, for a child program that expects the usual.
pub fn unblock_signals(set: SignalSet) -> Result<()> {
    // SAFETY: as above.
    let rc =
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set.0, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(Errno::from_raw(rc)) }
}

/// Waits for one of the blocked signals and returns its number.
pub fn wait_signal(set: SignalSet) -> Result<i32> {
    let mut got = 0;
    loop {
        // SAFETY: both pointers are to live, initialised locals.
        match unsafe { libc::sigwait(&raw const set.0, &raw mut got) } {
            0 => return Ok(got),
            libc::EINTR => {}
            e => return Err(Errno::from_raw(e)),
        }
    }
}

/// Sets the process' umask to zero, so that modes are what the engine says. Returns the old one.
pub fn clear_umask() -> u32 {
    #[allow(clippy::useless_conversion, reason = "the type is narrower on macOS")]
    u32::from(rustix::process::umask(rustix::fs::Mode::empty()).as_raw_mode())
}

/// Sends SIGTERM to a process.
pub fn terminate(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::INVAL)?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

/// Returns whether a process of that number exists.
#[must_use]
pub fn pid_alive(pid: i32) -> bool {
    match rustix::process::Pid::from_raw(pid) {
        Some(p) => rustix::process::test_kill_process(p) != Err(rustix::io::Errno::SRCH),
        None => false,
    }
}

/// Returns how many files this process may have open.
#[must_use]
pub fn open_files() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files to the hard limit; returns the limit in force.
#[must_use]
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => now.maximum.unwrap_or(u64::MAX),
        Err(_) => now.current.unwrap_or(u64::MAX),
    }
}

/// Tells the allocator to give large blocks back to the system when they are freed, and to keep few
/// pools. To be called before any thread is started.
///
/// glibc otherwise raises its limit for what is mapped by itself to the largest block ever freed
/// (mallopt(3), `M_MMAP_THRESHOLD`): after the first connection's buffer of 16 MiB all further
/// ones would come from the heap, be filled with zeros and stay in memory.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: i32 = 256 << 10;
        // SAFETY: mallopt takes two numbers and is called while there is one thread. A refusal
        // (0) costs memory, nothing else.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
}

/// Returns bytes from the system's random source.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    super::platform::fill_random(&mut out);
    out
}
