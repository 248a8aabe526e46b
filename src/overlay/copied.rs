//! Objects whose attributes a copy-up has changed in passing.
//!
//! Whoever changes a file copies up the directories that lead to it. From then on they are merged,
//! with another number of links (1, as in the kernel's `ovl_getattr`); the directory that receives a
//! copy has another ctime, and a copy has other blocks and another ctime than its lower file. The
//! answer to the request says nothing of that.

use super::types::Ino;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What has changed so and was not told yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// Whether `which` is not empty: nearly no request has to take the lock.
    any: AtomicBool,
    which: Mutex<Vec<Ino>>,
}

impl Untold {
    pub(super) fn add(&self, ino: Ino) {
        let mut which = self.which.lock();
        if which.last() != Some(&ino) {
            which.push(ino);
        }
        self.any.store(true, Ordering::Release);
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
}
