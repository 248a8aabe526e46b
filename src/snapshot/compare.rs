//! Comparing a snapshot with the directory that it was taken of.

use super::read::{Fresh, RecordId, Seen, Snapshot};
use crate::sys::{self, Dir, Errno, Stat};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many directories wait with an open handle, at the most. The others are opened by their paths.
const OPEN: u64 = 256;
/// Which part of what this process may open that is at the most.
const SHARE: u64 = 16;

/// What comparing has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All is as it was, but for these.
    Same(HashMap<RecordId, Fresh>),
    /// Here it is not, as a path from the root.
    Differs(Vec<u8>),
    /// That cannot be told now.
    Unknown(Errno),
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
            open: AtomicU64::new(0),
            may_open: (sys::open_files() / SHARE).min(OPEN),
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
        match found.end {
            Some(end) => end,
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
    open: AtomicU64,
    may_open: u64,
}

/// Directories to be looked into.
struct Queue {
    waiting: Vec<(RecordId, Option<Dir>)>,
    /// How many threads may still add some.
    busy: usize,
}

/// A thread that looks into a directory, and what it adds when it has, also by a panic.
struct Busy<'w, 'a> {
    work: &'w Work<'a>,
    below: Vec<(RecordId, Option<Dir>)>,
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        let mut queue = self.work.queue.lock();
        queue.busy -= 1;
        queue.waiting.append(&mut self.below);
        drop(queue);
        self.work.more.notify_all();
    }
}

#[derive(Default)]
struct Found {
    fresh: HashMap<RecordId, Fresh>,
    /// What there is to say without looking further.
    end: Option<Compared>,
}

impl Work<'_> {
    fn run(&self) {
        while let Some((id, dir)) = self.next() {
            let mut busy = Busy { work: self, below: Vec::new() };
            self.open.fetch_sub(u64::from(dir.is_some()), Ordering::Relaxed);
            busy.below = self.look_into(id, dir);
        }
    }

    /// Waits for a directory; `None`: there will be none any more.
    fn next(&self) -> Option<(RecordId, Option<Dir>)> {
        let mut queue = self.queue.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || self.found.lock().end.is_some() {
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
        self.try_look_into(&seen, dir).unwrap_or_else(|end| {
            self.found.lock().end = Some(end);
            Vec::new()
        })
    }

    fn try_look_into(
        &self,
        seen: &Seen<'_>,
        dir: Option<Dir>,
    ) -> Result<Vec<(RecordId, Option<Dir>)>, Compared> {
        let mut fresh = Vec::new();
        let dir = match dir {
            Some(dir) => dir,
            None => {
                let opened = match seen.id() {
                    RecordId::ROOT => Ok(self.root.clone()),
                    _ => self.root.open_dir_beneath(&seen.path()),
                };
                let dir = opened.map_err(|e| failed(seen, e))?;
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
            let opened = dir.open_dir_here(child.name()).map_err(|e| failed(&child, e))?;
            same(&child, opened.stat_self(), &mut fresh)?;
            let keep = self.open.fetch_add(1, Ordering::Relaxed) < self.may_open;
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

fn same(
    seen: &Seen<'_>,
    now: Result<Stat, Errno>,
    fresh: &mut Vec<(RecordId, Fresh)>,
) -> Result<(), Compared> {
    let now = now.map_err(|e| failed(seen, e))?;
    if !seen.is_as(&now) {
        return Err(Compared::Differs(seen.path()));
    }
    if Fresh::of(&now) != Fresh::of(&seen.stat()) {
        fresh.push((seen.id(), Fresh::of(&now)));
    }
    Ok(())
}

/// Says what it means that a name cannot be looked at.
fn failed(seen: &Seen<'_>, e: Errno) -> Compared {
    match e {
        // gone, or something else, or covered by a mount
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE => {
            Compared::Differs(seen.path())
        }
        e => Compared::Unknown(e),
    }
}
