//! The threads that serve a connection.
//!
//! Each worker is a fuser session of one thread, with a device of its own on the same connection,
//! rather than one session of several threads. The reason: fuser 0.18 panics on some requests
//! that any user can send (a time of `i64::MIN` seconds), before our code is asked. Here such a
//! panic costs one request, which the kernel ends with `ECONNABORTED` when the worker's device
//! closes, and the worker is replaced. Within one session it would cost a thread for good, and
//! with the last of them the mount.

use super::adapter::Adapter;
use super::platform;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

type Session = fuser::Session<Adapter>;

/// The running workers.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Workers {
    /// Agrees with the kernel on how to speak and starts `count` workers.
    pub(super) fn start(
        adapter: &Adapter,
        connection: OwnedFd,
        count: usize,
    ) -> io::Result<Workers> {
        // never read from: only the origin of devices for workers to come
        let origin = platform::clone_device(connection.as_fd()).map(Arc::new);
        let first =
            Session::from_fd(adapter.clone(), connection, adapter.who_is_served(), config())?;
        let origin = origin.ok();
        // on a device of its own: it would keep a worker's from closing
        let own = origin.as_ref().map(|o| join_connection(adapter, o)).transpose()?;
        adapter.connected(own.as_ref().unwrap_or(&first).notifier());
        let start = |i: usize, session: Session| {
            let (adapter, origin) = (adapter.clone(), origin.clone());
            Builder::new()
                .name(format!("worker-{i}"))
                .spawn(move || work(&adapter, session, origin.as_deref()))
        };
        // the first one answers while the others are made ready
        let mut threads = vec![start(0, first)?];
        if let Some(origin) = &origin {
            for i in 1..count {
                // the first one serves already, and can alone
                match join_connection(adapter, origin).and_then(|session| start(i, session)) {
                    Ok(thread) => threads.push(thread),
                    Err(e) => log::warn!("one thread less serves requests: {e}"),
                }
            }
        }
        Ok(Workers { threads })
    }

    /// Waits until the connection has ended, or one worker has failed for good.
    pub(super) fn join(self) -> io::Result<()> {
        self.threads.into_iter().try_for_each(|t| {
            t.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
        })
    }
}

fn config() -> fuser::Config {
    let mut config = fuser::Config::default();
    config.n_threads = Some(1);
    config
}

fn work(adapter: &Adapter, mut session: Session, origin: Option<&OwnedFd>) -> io::Result<()> {
    loop {
        match (session.run(), origin) {
            (Err(e), Some(origin)) if is_panic(&e) => {
                log::error!("a request could not be decoded; its caller gets an error");
                session = join_connection(adapter, origin)?;
            }
            (done, _) => return done,
        }
    }
}

/// fuser says so in words only.
fn is_panic(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::Other && e.to_string().contains("panicked")
}

/// Makes one more session on a connection that exists already.
fn join_connection(adapter: &Adapter, origin: &OwnedFd) -> io::Result<Session> {
    let device = platform::clone_device(origin.as_fd())?;
    // A session begins by reading the kernel's greeting, which came long ago: it gets one from us.
    let (stand_in, _answer) = platform::greeting()?;
    let session = Session::from_fd(adapter.resumed(), stand_in, adapter.who_is_served(), config())?;
    platform::replace_device(session.as_fd(), device)?;
    Ok(session)
}
