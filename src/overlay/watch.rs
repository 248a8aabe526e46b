//! Which directories of plain lowers are watched for changes that others make.

use super::lower::At;
use super::options::LowerChanges;
use super::types::{Change, Ino};
use crate::sys::{self, Dir, DirEvent, DirWatcher, Time, WatchId};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many directories one view watches at the most, and which part of what the user may watch.
const WATCHES: usize = 1 << 16;
const SHARE: usize = 4;

/// Changes younger than this when a directory was read may be followed by others with the very
/// same time: the kernel's clock for files has steps of up to 10 ms.
const SAME_TIME: i128 = 20_000_000;

/// What a directory's times were when its names were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(Time, Time)>);

impl Stamp {
    /// Returns the stamp of a directory that is about to be read.
    pub(super) fn of(dir: &Dir) -> sys::Result<Stamp> {
        // the clock first: whoever is held up in between must not take the stamp for an old one
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_nanos().cast_signed());
        let s = dir.stat_self()?;
        let changed = i128::from(s.ctime.sec) * 1_000_000_000 + i128::from(s.ctime.nsec);
        Ok(Stamp((now - changed > SAME_TIME).then_some((s.mtime, s.ctime))))
    }

    /// Returns whether a directory with this stamp has the same names as one with `earlier`.
    pub(super) fn is_as(self, earlier: Stamp) -> bool {
        self.0.is_some() && self == earlier
    }
}

/// The nodes of a watched directory: one, unless layers share it.
#[derive(Debug)]
struct Nodes {
    first: At,
    more: Box<[At]>,
}

impl Nodes {
    fn iter(&self) -> impl Iterator<Item = At> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }

    fn add(&mut self, at: At) {
        if !self.iter().any(|known| known == at) {
            self.more = self.more.iter().copied().chain([at]).collect();
        }
    }

    /// Leaves out those that are gone; false: none is left.
    fn retain(&mut self, gone: &HashSet<At>) -> bool {
        let mut left = self.iter().filter(|at| !gone.contains(at));
        let Some(first) = left.next() else { return false };
        let more = left.collect();
        *self = Nodes { first, more };
        true
    }
}

/// What watches the plain lowers of a view.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) watcher: DirWatcher,
    nodes: Mutex<HashMap<WatchId, Nodes>>,
    bound: usize,
    /// Directories that are not watched because there were no watches left.
    pub(super) unwatched: Mutex<HashMap<At, Stamp>>,
    pub(super) any_unwatched: AtomicBool,
    /// Held by who brings the view up to date.
    pub(super) applying: Mutex<()>,
    /// What the kernel is still to be told.
    pub(super) pending: Mutex<Vec<Change>>,
    pub(super) stopped: AtomicBool,
    /// Directories of the view that were put together while the layers changed.
    pub(super) anew: Mutex<Vec<Ino>>,
    /// Counts changes, so that who has put an object together from layers can tell that they
    /// changed meanwhile.
    pub(super) epoch: AtomicU64,
}

impl Watch {
    /// Returns what watches, or why nothing can.
    pub(super) fn new(mode: LowerChanges, bound: Option<usize>) -> Option<sys::Result<Watch>> {
        if mode != LowerChanges::Watch {
            return None;
        }
        let share = || sys::max_watches().map_or(WATCHES, |n| (n / SHARE).min(WATCHES));
        Some(DirWatcher::new().map(|watcher| Watch {
            watcher,
            nodes: Mutex::default(),
            bound: bound.unwrap_or_else(share),
            unwatched: Mutex::default(),
            any_unwatched: AtomicBool::new(false),
            applying: Mutex::default(),
            pending: Mutex::default(),
            stopped: AtomicBool::new(false),
            anew: Mutex::default(),
            epoch: AtomicU64::new(0),
        }))
    }

    /// Watches a directory that is about to be read; false: there are no watches left.
    pub(super) fn add(&self, at: At, dir: &Dir) -> bool {
        // held over the call, so that no event comes before its number is known
        let mut nodes = self.nodes.lock();
        if nodes.len() >= self.bound {
            return false;
        }
        match self.watcher.add(dir) {
            Ok(id) => {
                nodes.entry(id).or_insert(Nodes { first: at, more: Box::default() }).add(at);
                true
            }
            Err(e) => {
                log::debug!("a lower directory cannot be watched: {e}");
                false
            }
        }
    }

    /// Notes that a directory is read without being watched.
    pub(super) fn goes_without(&self, at: At, stamp: Stamp) {
        if !self.any_unwatched.swap(true, Ordering::AcqRel) {
            log::warn!(
                "no watches are left (fs.inotify.max_user_watches): changes made to lower \
                 directories that are read from now on are seen after a second"
            );
        }
        self.unwatched.lock().insert(at, stamp);
    }

    /// Notes that a directory is read that is watched.
    pub(super) fn is_read(&self, at: At) {
        if self.any_unwatched.load(Ordering::Acquire) {
            self.unwatched.lock().remove(&at);
        }
    }

    /// Returns the directories that an event speaks of; forgets a watch that has ended.
    pub(super) fn nodes_of(&self, event: &DirEvent) -> Vec<At> {
        let mut nodes = self.nodes.lock();
        match event {
            DirEvent::Ended(id) => nodes.remove(id).iter().flat_map(Nodes::iter).collect(),
            DirEvent::Names(id, _) | DirEvent::Content(id, _) | DirEvent::Itself(id) => {
                nodes.get(id).into_iter().flat_map(Nodes::iter).collect()
            }
            DirEvent::Lost => nodes.values().flat_map(Nodes::iter).collect(),
        }
    }

    /// Ends watching directories that are no part of the view any more.
    pub(super) fn forget(&self, gone: &HashSet<At>) {
        self.unwatched.lock().retain(|at, _| !gone.contains(at));
        self.nodes.lock().retain(|id, of_this| {
            let left = of_this.retain(gone);
            if !left && let Err(e) = self.watcher.remove(*id) {
                log::debug!("a watch cannot be ended: {e}");
            }
            left
        });
    }

    /// Returns the number of changes so far.
    pub(super) fn now(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Has a directory looked at that was put together at `then`, if layers changed since.
    pub(super) fn made(&self, dir: Ino, then: u64) {
        if self.now() != then {
            self.anew.lock().push(dir);
            self.wake();
        }
    }

    /// Tells the kernel of `changes` as soon as possible.
    pub(super) fn announce(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.pending.lock().extend(changes);
        self.wake();
    }

    fn wake(&self) {
        if let Err(e) = self.watcher.wake() {
            log::error!("the thread that watches the lowers cannot be woken: {e}");
        }
    }
}
