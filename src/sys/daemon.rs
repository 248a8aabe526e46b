//! A daemon and the process that started it.
#![allow(unsafe_code, reason = "fork(2)")]

use super::Result;
use rustix::fs::{self, Mode, OFlags};
use std::os::fd::OwnedFd;

/// What [`detach`] returned into.
#[derive(Debug)]
pub enum Detached {
    /// The caller's process. The daemon has reported: ready, or the text of its error.
    Parent(std::result::Result<(), String>),
    /// The daemon, in a session of its own.
    Daemon(Readiness),
}

/// By which a daemon tells the process that started it how it went. Dropped without a word, it
/// means that the daemon died.
#[derive(Debug)]
pub struct Readiness(OwnedFd);

impl Readiness {
    /// Reports success and lets go of the terminal.
    pub fn ready(self) -> Result<()> {
        let null = fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        rustix::io::write(&self.0, b"+")?;
        Ok(())
    }

    /// Reports a failure; the parent prints `message`.
    pub fn failed(self, message: &str) -> Result<()> {
        let mut text = format!("-{message}").into_bytes();
        while !text.is_empty() {
            let n = rustix::io::write(&self.0, &text)?;
            text.drain(..n);
        }
        Ok(())
    }
}

/// Splits the process in two: the parent waits for the daemon's report, the daemon goes on in a
/// session of its own. Must be called while the process has a single thread.
pub fn detach() -> Result<Detached> {
    let (rx, tx) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the process has one thread, as this function's contract says, so the child may go
    // on to use everything that it inherits.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    if pid == 0 {
        drop(rx);
        rustix::process::setsid()?;
        return Ok(Detached::Daemon(Readiness(tx)));
    }
    drop(tx);
    let mut report = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(rx), &mut report)?;
    Ok(Detached::Parent(match report.split_first() {
        Some((b'+', _)) => Ok(()),
        Some((_, text)) => Err(String::from_utf8_lossy(text).into_owned()),
        None => Err("the daemon died before the mount was ready".to_owned()),
    }))
}
