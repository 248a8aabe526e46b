//! A live mount: from mount to the end.

use super::adapter::Adapter;
use super::changes;
use super::counters::Counters;
use super::error::MountError;
use super::options::{Facts, MountSettings, Plan};
use super::platform;
use super::workers::Workers;
use crate::overlay::{LowerChanges, Overlay};
use crate::sys::{self, Dir, Errno, SignalSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a mount that has left our table of mounts may live on in another namespace without a
/// request and without an open file.
const SILENCE: Duration = Duration::from_secs(5);
/// For how long no copy may come before those gathered are written out together.
const GATHER: Duration = Duration::from_millis(700);
/// After how many such times they are written out though more come.
const GATHERINGS: u32 = 15;
/// How long users of the mount may keep a daemon that was told to end.
const GRACE: Duration = Duration::from_secs(5);

/// A mounted view that is being served.
#[derive(Debug)]
pub struct Session {
    workers: Workers,
    overlay: Arc<Overlay>,
    counters: Arc<Counters>,
    adapter: Adapter,
    mount_point: PathBuf,
    device: Option<String>,
    /// Whether copies may wait for [`Overlay::settle_all`].
    settles: bool,
}

/// Why a mount ended.
#[derive(Debug)]
pub enum Ended {
    /// It was unmounted from outside.
    Unmounted,
    /// A signal of this number told us to unmount.
    Signal(i32),
    /// Gone from our namespace and unused for long, though another namespace holds a copy.
    Abandoned,
    /// The connection broke.
    Broken(std::io::Error),
}

#[derive(Debug)]
enum Event {
    /// The connection has ended.
    Ended(std::io::Result<()>),
    Signal(i32),
    /// The table of mounts shows the mount no more.
    Gone,
    /// The kernel has written back what it held.
    WrittenBack,
}

impl Session {
    /// Mounts `overlay` at `mount_point` and starts the threads that serve it. Requests are
    /// answered when this returns.
    ///
    /// # Errors
    /// A [`MountError`]; nothing is mounted then.
    pub fn mount(
        overlay: Arc<Overlay>,
        mount_point: &Path,
        settings: &MountSettings,
    ) -> Result<Session, MountError> {
        let target = resolve(mount_point)?;
        let mut settings = settings.clone();
        settings.attributes.read_only |= overlay.read_only();
        let facts = Facts {
            read_only: overlay.read_only(),
            immutable: settings.exclusive
                || overlay.immutable_lowers()
                || overlay.lower_changes() == LowerChanges::Ignore,
            watched: overlay.lower_changes() == LowerChanges::Watch,
            xattrs: overlay.has_xattrs(),
            privileged: sys::Identity::current().privileged,
            large_files: overlay.is_mostly_large_files(),
        };
        let plan = Plan::new(facts, &settings);
        if settings.writeback && !plan.writeback && !facts.read_only {
            log::warn!(
                "writeback has no effect where others may edit lower directories: it takes \
                 lower_changes=ignore"
            );
        }
        let counters = Arc::new(Counters::default());
        let adapter = Adapter::new(Arc::clone(&overlay), Arc::clone(&counters), plan);

        let connection = platform::mount(&target, &settings)?;
        // from here on, what fails must unmount
        let threads = platform::threads(settings.thread_count());
        // before the first request: else who is quick waits for the disk
        let settles = overlay.settle_later();
        Workers::start(&adapter, connection, threads)
            .map(|workers| {
                if facts.watched {
                    changes::follow(&overlay, &adapter);
                }
                if !facts.read_only {
                    changes::follow_copies(&overlay, &adapter);
                }
                let device = sys::mount_at(&target).map(|m| m.device);
                if let Some(device) = device.as_deref().filter(|_| facts.privileged) {
                    platform::raise_read_ahead(device);
                }
                Session {
                    workers,
                    overlay,
                    counters,
                    adapter: adapter.clone(),
                    mount_point: target.clone(),
                    device,
                    settles,
                }
            })
            .map_err(|e| {
                if let Err(e) = platform::unmount(&target, true) {
                    log::warn!("after a failed mount: {e}");
                }
                MountError::Connection(e)
            })
    }

    /// Returns the mount point: absolute, symlinks resolved.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Returns the device number of the mount as `major:minor`, where the platform has a table.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Returns the counters of this mount's requests.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Returns the view that is served, for questions.
    #[must_use]
    pub fn view(&self) -> Weak<Overlay> {
        Arc::downgrade(&self.overlay)
    }

    /// Returns what was agreed on with the kernel, by name.
    #[must_use]
    pub fn agreed(&self) -> Vec<(&'static str, String)> {
        self.adapter.agreed().named()
    }

    /// Serves until the mount ends: unmounted from outside, by a signal of `signals` (which all
    /// threads must have blocked), or by a broken connection. Then makes everything durable.
    ///
    /// # Errors
    /// What could not be made durable.
    pub fn run(self, signals: SignalSet) -> Result<Ended, crate::overlay::Error> {
        let Session { workers, overlay, counters, adapter, mount_point, device, settles } = self;
        let (events, incoming) = channel();
        spawn("join", &events, move || Event::Ended(workers.join()));
        watch_signals(signals, events.clone());
        if settles {
            settle_in_background(&overlay);
        }
        // Then all that start-up needs has run; what requests need is for them to find. Sooner, and
        // the first look would bring much of it back.
        let looks = device.clone().is_some_and(|d| {
            let f = move || wait_until_gone(&d, sys::keep_what_requests_run);
            spawn("mounts", &events, f)
        });
        if !looks {
            sys::keep_what_requests_run();
        }
        let write_back = || {
            let (adapter, holds) = (adapter.clone(), adapter.agreed().writeback);
            if holds {
                spawn("write back", &events, move || {
                    adapter.write_back();
                    Event::WrittenBack
                });
            }
            holds
        };
        let detach = || detach(&mount_point, device.as_deref());
        let break_off = || break_off(&mount_point, device.as_deref());
        let copied = || device.as_deref().is_some_and(sys::mounted_elsewhere);
        let ended = wait(&incoming, &counters, &detach, &break_off, &write_back, &copied);

        for (op, n) in counters.seen() {
            log::debug!("{n} {}", op.name());
        }
        overlay.stop_watching();
        log::debug!("{} opens passed through", counters.passthrough());
        overlay.sync()?;
        Ok(ended)
    }
}

/// Returns the mount point as the table of mounts will name it.
fn resolve(mount_point: &Path) -> Result<PathBuf, MountError> {
    let failed = |errno: Errno| match errno {
        Errno::NOTCONN | Errno::CONNABORTED => MountError::DeadMount(mount_point.into()),
        errno => MountError::MountPoint { path: mount_point.into(), errno },
    };
    let target = std::fs::canonicalize(mount_point).map_err(|e| failed(e.into()))?;
    let found = std::fs::symlink_metadata(&target).map_err(|e| failed(e.into()))?;
    if found.is_dir() { Ok(target) } else { Err(failed(Errno::NOTDIR)) }
}

/// Runs `f` in a thread and sends the event that it returns.
/// Returns whether there is such a thread now.
fn spawn(name: &str, events: &Sender<Event>, f: impl FnOnce() -> Event + Send + 'static) -> bool {
    let events = events.clone();
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // the receiver has gone when the mount has ended otherwise: nobody wants to know
        events.send(f()).unwrap_or_default();
    });
    if let Err(e) = &started {
        log::error!("thread {name}: {e}");
    }
    started.is_ok()
}

fn watch_signals(signals: SignalSet, events: Sender<Event>) {
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(n) = sys::wait_signal(signals) {
            if events.send(Event::Signal(n)).is_err() {
                return;
            }
        }
    });
    if let Err(e) = started {
        log::error!("thread signals: {e}");
    }
}

/// Writes copies out a while after they have got their names, many at a time.
fn settle_in_background(overlay: &Arc<Overlay>) {
    let view = Arc::clone(overlay);
    let started = std::thread::Builder::new().name("settle".to_owned()).spawn(move || {
        while view.wait_for_unsettled() {
            // after a storm of them: to write during it would slow it down
            let mut seen = 0;
            for _ in 0..GATHERINGS {
                std::thread::sleep(GATHER);
                let now = view.unsettled();
                if now == seen {
                    break;
                }
                seen = now;
            }
            view.settle_all();
        }
    });
    if let Err(e) = started {
        log::error!("thread settle: {e}");
    }
}

/// Returns when no mount of this device is left in our namespace. Calls `looked` when it has looked once.
fn wait_until_gone(device: &str, looked: impl FnOnce()) -> Event {
    let gone = || !sys::mounts().iter().any(|m| m.device == device);
    let Ok(watch) = sys::MountWatch::new() else {
        looked();
        // without a table the connection alone tells
        loop {
            std::thread::park();
        }
    };
    let mut is_gone = gone();
    looked();
    loop {
        if is_gone {
            return Event::Gone;
        }
        if let Err(e) = watch.wait() {
            log::warn!("watching the table of mounts: {e}");
            std::thread::sleep(SILENCE);
        }
        is_gone = gone();
    }
}

/// What the loop of [`wait`] waits for besides events.
enum Phase {
    Serving,
    /// Told to end by this signal; until then.
    Ending(i32, std::time::Instant),
    /// What was written in the meantime is written back; until then.
    Leaving(i32, std::time::Instant),
    /// The same, and nothing but a second signal breaks it off.
    Held(i32),
    /// Gone from our namespace; requests seen at the last look.
    Lingering(u64),
}

/// Waits for the end. `detach` unmounts, `break_off` does so without waiting for what is held back
/// and returns whether nobody waits for that any more, `write_back` lets the kernel begin to write
/// back what it holds and would lose with the connection, if it holds anything, `copied` tells
/// whether another namespace has the mount.
fn wait(
    incoming: &Receiver<Event>,
    counters: &Counters,
    detach: &dyn Fn(),
    break_off: &dyn Fn() -> bool,
    write_back: &dyn Fn() -> bool,
    copied: &dyn Fn() -> bool,
) -> Ended {
    let mut phase = Phase::Serving;
    loop {
        let event = match &phase {
            Phase::Serving | Phase::Held(_) => {
                incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
            }
            Phase::Ending(_, until) | Phase::Leaving(_, until) => {
                incoming.recv_timeout(until.saturating_duration_since(std::time::Instant::now()))
            }
            Phase::Lingering(_) => incoming.recv_timeout(SILENCE),
        };
        match (event, &phase) {
            (
                Ok(Event::Ended(Ok(()))),
                Phase::Ending(signal, _) | Phase::Leaving(signal, _) | Phase::Held(signal),
            ) => return Ended::Signal(*signal),
            (Ok(Event::Ended(Ok(()))), _) => return Ended::Unmounted,
            (Ok(Event::Ended(Err(e))), _) => {
                // the threads have gone, so the mount must go too, or its users would hang
                detach();
                return Ended::Broken(e);
            }
            // the second signal, or the end of the grace: those who still use it get ENOTCONN
            (
                Ok(Event::Signal(_)),
                Phase::Ending(signal, _) | Phase::Leaving(signal, _) | Phase::Held(signal),
            ) => {
                break_off();
                return Ended::Signal(*signal);
            }
            (Err(RecvTimeoutError::Timeout), Phase::Ending(signal, _)) if write_back() => {
                phase = Phase::Leaving(*signal, std::time::Instant::now() + GRACE);
            }
            (Err(RecvTimeoutError::Timeout), Phase::Leaving(signal, _)) => {
                if break_off() {
                    log::error!("ended while the upper did not answer: what was held back is lost");
                    return Ended::Signal(*signal);
                }
                log::error!(
                    "the upper does not answer: it ends when what was held back is written"
                );
                phase = Phase::Held(*signal);
            }
            (Ok(Event::WrittenBack), Phase::Leaving(signal, _) | Phase::Held(signal))
            | (Err(RecvTimeoutError::Timeout), Phase::Ending(signal, _)) => {
                detach();
                log::warn!("ended while the mount was in use");
                return Ended::Signal(*signal);
            }
            (Ok(Event::Signal(signal)), _) => {
                log::info!("signal {signal}: unmounting");
                if !write_back() {
                    detach();
                }
                phase = Phase::Ending(signal, std::time::Instant::now() + GRACE);
            }
            (Ok(Event::WrittenBack), _) => detach(),
            (Ok(Event::Gone), Phase::Ending(..) | Phase::Leaving(..) | Phase::Held(_)) => {}
            (Ok(Event::Gone), _) => phase = Phase::Lingering(counters.total()),
            (Err(RecvTimeoutError::Timeout), Phase::Lingering(seen)) => {
                let now = counters.total();
                // without a copy it was a lazy unmount, and the kernel ends it with its last user
                if now == *seen && counters.open_files() == 0 && copied() {
                    log::warn!("unmounted here; another namespace holds an unused copy");
                    return Ended::Abandoned;
                }
                phase = Phase::Lingering(now);
            }
            // the threads that send have gone: nothing more can happen
            (Err(_), _) => return Ended::Broken(std::io::Error::other("no thread is left")),
        }
    }
}

/// Returns whether the mount point still shows this mount: by now it may name another.
fn is_ours(mount_point: &Path, device: Option<&str>) -> bool {
    device.is_none() || sys::mount_at(mount_point).map(|m| m.device).as_deref() == device
}

fn told(done: Result<(), MountError>) {
    match done {
        Ok(()) => {}
        // somebody was faster
        Err(MountError::Unmount { errno: Errno::INVAL, .. }) => {}
        Err(e) => log::error!("{e}"),
    }
}

/// Unmounts in good order if nobody uses it, else so that it ends with its last user.
fn detach(mount_point: &Path, device: Option<&str>) {
    if !is_ours(mount_point, device) {
        return;
    }
    told(match platform::unmount(mount_point, false) {
        Err(MountError::Busy(_)) => platform::unmount(mount_point, true),
        done => done,
    });
}

/// Unmounts and gives up what the kernel holds back. Returns whether the connection has ended: if
/// not, a thread of ours that waits for it would keep the connection open, with no one to answer.
fn break_off(mount_point: &Path, device: Option<&str>) -> bool {
    let aborted = device.is_some_and(platform::abort);
    if !is_ours(mount_point, device) {
        return aborted;
    }
    match platform::unmount_by_force(mount_point) {
        Ok(()) => true,
        Err(_) => {
            told(platform::unmount(mount_point, true));
            aborted
        }
    }
}

/// Leaves the caller's working directory, so that the daemon keeps no file system busy.
///
/// # Errors
/// The system's, if `/` cannot be entered.
pub fn leave_working_directory() -> sys::Result<()> {
    Dir::open("/")?.enter()
}
