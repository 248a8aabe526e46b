//! Comparing a snapshot with the directory that it was taken of.

use super::read::{Fresh, RecordId, Seen, Snapshot};
use crate::sys::{Dir, Errno, Stat};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many directories wait with an open handle. The others are opened by their paths.
const OPEN: usize = 256;

/// What comparing has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All is as it was, but for these.
    Same(HashMap<RecordId, Fresh>),
    /// Here it is not, as a path from the root.
    Differs(Vec<u8>),
    /// The caller wants to know no more.
    Stopped,
}

impl Snapshot {
    /// Looks at all that is in `root`, by so many threads, and returns whether it is as the snapshot
    /// says. Each inode is looked at: its attributes themselves are compared, names by the times of
    /// their directories, targets and extended attributes by the times of their inodes. So what was
    /// changed is found as long as the clock has moved on since the snapshot was taken.
    #[must_use]
    pub fn compare(&self, root: &Dir, threads: usize, stop: &AtomicBool) -> Compared {
        let work = Work {
            snapshot: self,
            root,
            stop,
            queue: Mutex::new(Queue { waiting: vec![(RecordId::ROOT, None)], busy: 0 }),
            more: Condvar::new(),
            found: Mutex::new(Found::default()),
            open: AtomicUsize::new(0),
        };
        std::thread::scope(|scope| {
            let run = || work.run();
            for _ in 1..threads {
                // with fewer threads it takes longer, no more
                if std::thread::Builder::new().spawn_scoped(scope, run).is_err() {
                    break;
                }
            }
            work.run();
        });
        let found = work.found.into_inner();
        match found.differs {
            Some(path) => Compared::Differs(path),
            None if stop.load(Ordering::Relaxed) => Compared::Stopped,
            None => Compared::Same(found.fresh),
        }
    }
}

struct Work<'a> {
    snapshot: &'a Snapshot,
    root: &'a Dir,
    stop: &'a AtomicBool,
    queue: Mutex<Queue>,
    more: Condvar,
    found: Mutex<Found>,
    open: AtomicUsize,
}

/// Directories to be looked into.
struct Queue {
    waiting: Vec<(RecordId, Option<Dir>)>,
    /// How many threads may still add some.
    busy: usize,
}

#[derive(Default)]
struct Found {
    fresh: HashMap<RecordId, Fresh>,
    differs: Option<Vec<u8>>,
}

impl Work<'_> {
    fn run(&self) {
        while let Some((id, dir)) = self.next() {
            self.open.fetch_sub(usize::from(dir.is_some()), Ordering::Relaxed);
            let below = self.look_into(id, dir);
            let mut queue = self.queue.lock();
            queue.busy -= 1;
            queue.waiting.extend(below);
            drop(queue);
            self.more.notify_all();
        }
    }

    /// Waits for a directory; `None`: there will be none any more.
    fn next(&self) -> Option<(RecordId, Option<Dir>)> {
        let mut queue = self.queue.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || self.found.lock().differs.is_some() {
                queue.waiting.clear();
            }
            if let Some(next) = queue.waiting.pop() {
                queue.busy += 1;
                return Some(next);
            }
            if queue.busy == 0 {
                return None;
            }
            self.more.wait(&mut queue);
        }
    }

    /// Compares a directory and its names, and returns the directories among these.
    fn look_into(&self, id: RecordId, dir: Option<Dir>) -> Vec<(RecordId, Option<Dir>)> {
        let Some(seen) = self.snapshot.get(id) else { return Vec::new() };
        match self.try_look_into(&seen, dir) {
            Ok(below) => below,
            Err(Different(id)) => {
                let path = self.snapshot.get(id).map_or_else(Vec::new, |at| at.path());
                self.found.lock().differs = Some(path);
                Vec::new()
            }
        }
    }

    fn try_look_into(
        &self,
        seen: &Seen<'_>,
        dir: Option<Dir>,
    ) -> Result<Vec<(RecordId, Option<Dir>)>, Different> {
        let mut fresh = Vec::new();
        let dir = match dir {
            Some(dir) => dir,
            None => {
                let opened = match seen.id() {
                    RecordId::ROOT => Ok(self.root.clone()),
                    _ => self.root.open_dir_beneath(&seen.path()),
                };
                let dir = opened.map_err(|_| Different(seen.id()))?;
                same(seen, dir.stat_self(), &mut fresh)?;
                dir
            }
        };
        let mut below = Vec::new();
        for child in seen.children() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if !child.stat().is_dir() {
                same(&child, dir.stat(child.name()), &mut fresh)?;
                continue;
            }
            // what is mounted there must not be asked: it might be who asks
            let opened = dir.open_dir_here(child.name()).map_err(|_| Different(child.id()))?;
            same(&child, opened.stat_self(), &mut fresh)?;
            let keep = self.open.fetch_add(1, Ordering::Relaxed) < OPEN;
            if !keep {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
            below.push((child.id(), keep.then_some(opened)));
        }
        if !fresh.is_empty() {
            self.found.lock().fresh.extend(fresh);
        }
        Ok(below)
    }
}

/// A name that is not as it was.
struct Different(RecordId);

fn same(
    seen: &Seen<'_>,
    now: Result<Stat, Errno>,
    fresh: &mut Vec<(RecordId, Fresh)>,
) -> Result<(), Different> {
    match now {
        Ok(now) if seen.is_as(&now) => {
            if Fresh::of(&now) != Fresh::of(&seen.stat()) {
                fresh.push((seen.id(), Fresh::of(&now)));
            }
            Ok(())
        }
        _ => Err(Different(seen.id())),
    }
}
