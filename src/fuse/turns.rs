//! Which of the workers wait for requests.
//!
//! Two that wait in turn cost a program that does one thing after the other a tenth of its time:
//! each request then wakes the one that has slept longest, also those that nobody waits for
//! (RELEASE, FORGET), which then compete with the program for a processor. So one worker serves,
//! and the others rest until it does not come after, or does not come back from a request.
//!
//! A worker that rests is in the middle of a request that it has answered, so the kernel does not
//! count on it.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// In nanoseconds: a request that came sooner after the one before may have been waiting already;
/// else the worker slept.
const WAITING: u64 = 3_000;
/// For how long, in nanoseconds, the first worker may be at one request before others step in.
const STUCK: u64 = 3_000_000;
/// How often who rests looks whether the first worker is at one request for long.
const LOOK: Duration = Duration::from_millis(4);
/// After so many looks at which nothing was asked nobody looks until something is.
const CALM: u32 = 16;
/// The highest load.
const FULL: u32 = 1 << 16;
/// From this load on the first worker calls another one.
const HIGH: u32 = FULL / 8 * 7;
/// Below this one another worker rests again.
const LOW: u32 = FULL / 2;

/// What the workers of a connection know of each other.
#[derive(Debug)]
pub(super) struct Turns {
    start: Instant,
    /// When the first worker took up what it is at; 0: nothing.
    since: AtomicU64,
    /// How many requests it has served.
    served: AtomicU64,
    /// Those who rest look at nothing: the next request must wake one.
    dozing: AtomicBool,
    resting: Mutex<Resting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Resting {
    called: u32,
    ended: bool,
}

/// One worker's part.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    first: bool,
    /// When its last request was answered.
    last: AtomicU64,
    /// Which thread it was from, if from one that waits for it.
    asker: AtomicU32,
    /// How many of the last requests were waiting beside another one, of [`FULL`].
    load: AtomicU32,
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns {
            start: Instant::now(),
            since: AtomicU64::new(0),
            served: AtomicU64::new(0),
            dozing: AtomicBool::new(false),
            resting: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX) | 1
    }

    /// The connection is at its end, or the first worker: nobody rests any more.
    pub(super) fn end(&self) {
        self.resting.lock().ended = true;
        self.wake.notify_all();
    }

    fn call(&self) {
        self.resting.lock().called = 1;
        self.wake.notify_one();
    }

    /// Returns when another worker is wanted.
    fn rest(&self) {
        let (mut calm, mut seen) = (0, u64::MAX);
        let mut resting = self.resting.lock();
        loop {
            if resting.ended {
                return;
            }
            if resting.called > 0 {
                resting.called = 0;
                return;
            }
            let since = self.since.load(Ordering::SeqCst);
            if since != 0 && self.now().saturating_sub(since) > STUCK {
                return;
            }
            let served = self.served.load(Ordering::Relaxed);
            calm = if since == 0 && served == seen { calm + 1 } else { 0 };
            seen = served;
            if calm < CALM {
                self.wake.wait_for(&mut resting, LOOK);
                continue;
            }
            calm = 0;
            self.dozing.store(true, Ordering::SeqCst);
            // or it began before it could see that
            if self.since.load(Ordering::SeqCst) == 0 {
                self.wake.wait(&mut resting);
            }
            self.dozing.store(false, Ordering::SeqCst);
        }
    }
}

impl Turn {
    pub(super) fn new(turns: &Arc<Turns>, first: bool) -> Turn {
        Turn {
            turns: Arc::clone(turns),
            first,
            last: AtomicU64::new(0),
            asker: AtomicU32::new(0),
            load: AtomicU32::new(0),
        }
    }

    /// Called before a request is served. `asker`: the thread that waits for it, 0 for none; or
    /// `None` where one thread asks for more before it has got an answer.
    pub(super) fn begin(&self, asker: Option<u32>) {
        let now = self.turns.now();
        let soon = now.saturating_sub(self.last.load(Ordering::Relaxed)) < WAITING;
        let other = match asker {
            None => true,
            Some(0) => false,
            // one that waits asks for nothing else
            Some(a) => self.asker.swap(a, Ordering::Relaxed) != a,
        };
        let waiting = soon && other;
        let before = self.load.load(Ordering::Relaxed);
        let load = before - before / 16 + if waiting { FULL / 16 } else { 0 };
        self.load.store(load, Ordering::Relaxed);
        if !self.first {
            return;
        }
        self.turns.since.store(now, Ordering::SeqCst);
        if self.turns.dozing.load(Ordering::SeqCst) {
            drop(self.turns.resting.lock());
            self.turns.wake.notify_one();
        }
        if load > HIGH {
            self.load.store(0, Ordering::Relaxed);
            self.turns.call();
        }
    }

    /// Called when it has been answered.
    pub(super) fn done(&self) {
        if self.first {
            self.turns.served.fetch_add(1, Ordering::Relaxed);
            self.turns.since.store(0, Ordering::Release);
        } else if self.load.load(Ordering::Relaxed) < LOW {
            self.turns.rest();
            // a few requests will tell
            self.load.store(LOW + FULL / 16, Ordering::Relaxed);
        }
        self.last.store(self.turns.now(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_each_answer_needs_one_worker() {
        let turns = Arc::new(Turns::new());
        let first = Turn::new(&turns, true);
        for asker in [7, 0].into_iter().cycle().take(1000) {
            first.begin(Some(asker));
            first.done();
        }
        assert_eq!(turns.resting.lock().called, 0);
        assert_eq!(turns.served.load(Ordering::Relaxed), 1000);
        assert_eq!(turns.since.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn several_at_a_time_call_another_worker() {
        let turns = Arc::new(Turns::new());
        let first = Turn::new(&turns, true);
        for asker in [7, 8].into_iter().cycle().take(100_000) {
            first.begin(Some(asker));
            first.done();
        }
        assert_eq!(turns.resting.lock().called, 1);
        turns.rest();
        assert_eq!(turns.resting.lock().called, 0, "the call was not answered");
    }

    #[test]
    fn another_worker_steps_in_for_one_that_does_not_come_back() {
        let turns = Arc::new(Turns::new());
        let rester = Arc::clone(&turns);
        let rests = std::thread::spawn(move || rester.rest());
        Turn::new(&turns, true).begin(Some(7));
        rests.join().unwrap();
    }

    #[test]
    fn nobody_rests_at_the_end() {
        let turns = Arc::new(Turns::new());
        let rester = Arc::clone(&turns);
        let rests = std::thread::spawn(move || rester.rest());
        turns.end();
        rests.join().unwrap();
        let other = Turn::new(&turns, false);
        other.begin(Some(1));
        other.done();
    }
}
