//! Objects whose attributes a copy-up has changed in passing.
//!
//! Whoever changes a file copies up the directories that lead to it. From then on they are merged,
//! with another number of links (1, as in the kernel's `ovl_getattr`), and a copy has other blocks
//! and another ctime than its lower file. The answer to the request says nothing of that, so that
//! the kernel is told before.
//!
//! The directory that receives a copy has another ctime and perhaps another size, and these alone.
//! It is told a moment later: the kernel asks again for a directory that it must forget, and would
//! do so for each file of a `chmod -R`.

use super::types::Ino;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};

/// What has changed so and was not told yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// Whether `which` is not empty: nearly no request has to take the lock.
    any: AtomicBool,
    which: Mutex<Vec<Ino>>,
    receivers: Mutex<Receivers>,
    came: Condvar,
}

/// Directories that have received copies.
#[derive(Debug, Default)]
struct Receivers {
    which: hashbrown::HashSet<Ino>,
    closed: bool,
}

impl Untold {
    pub(super) fn add(&self, ino: Ino) {
        let mut which = self.which.lock();
        if which.last() != Some(&ino) {
            which.push(ino);
        }
        self.any.store(true, Ordering::Release);
    }

    /// Adds a directory that has received a copy, and shows its times of before.
    pub(super) fn add_receiver(&self, ino: Ino) {
        let mut r = self.receivers.lock();
        if r.which.insert(ino) && r.which.len() == 1 {
            self.came.notify_one();
        }
    }

    /// Waits for directories that have received copies; false when there will be no more.
    pub(super) fn wait_for_receivers(&self) -> bool {
        let mut r = self.receivers.lock();
        while r.which.is_empty() && !r.closed {
            self.came.wait(&mut r);
        }
        !r.closed
    }

    /// Takes out the directories that have received copies.
    pub(super) fn take_receivers(&self) -> Vec<Ino> {
        self.receivers.lock().which.drain().collect()
    }

    /// Lets nobody wait any more.
    pub(super) fn close(&self) {
        self.receivers.lock().closed = true;
        self.came.notify_all();
    }

    /// Tells all of them. Returns when those are told, too, that another thread has begun with.
    pub(super) fn tell(&self, told: &mut dyn FnMut(Ino)) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut which = self.which.lock();
        which.drain(..).for_each(told);
        self.any.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once() {
        let copied = Untold::default();
        let tell = || {
            let mut told = Vec::new();
            copied.tell(&mut |ino| told.push(ino.0));
            told
        };
        assert!(tell().is_empty());
        copied.add(Ino(5));
        copied.add(Ino(5));
        copied.add(Ino(7));
        assert_eq!(tell(), [5, 7]);
        assert!(tell().is_empty());
        copied.add(Ino(5));
        assert_eq!(tell(), [5]);
    }

    #[test]
    fn receivers_are_told_once_each_and_nobody_waits_after_the_end() {
        let copied = Untold::default();
        for ino in [5, 7, 5] {
            copied.add_receiver(Ino(ino));
        }
        assert!(copied.wait_for_receivers());
        let mut told = copied.take_receivers();
        told.sort_unstable();
        assert_eq!(told, [Ino(5), Ino(7)]);
        assert!(copied.take_receivers().is_empty());
        copied.close();
        assert!(!copied.wait_for_receivers());
    }
}
