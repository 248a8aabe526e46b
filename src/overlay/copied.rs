//! Objects whose attributes have changed by a copy-up that nobody asked for by their name.
//!
//! Whoever changes a file copies up the directories that lead to it. From then on they are merged,
//! with another number of links (1, as in the kernel's `ovl_getattr`), and a copy has other blocks
//! and another ctime than its lower file. The answer to the request says nothing of that.

use super::types::Ino;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was copied up since it was last told.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Whether `which` is not empty: nearly no request has to take the lock.
    any: AtomicBool,
    which: Mutex<Vec<Ino>>,
}

impl Copied {
    pub(super) fn add(&self, ino: Ino) {
        let mut which = self.which.lock();
        which.push(ino);
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
        let copied = Copied::default();
        let tell = || {
            let mut told = Vec::new();
            copied.tell(&mut |ino| told.push(ino.0));
            told
        };
        assert!(tell().is_empty());
        copied.add(Ino(5));
        copied.add(Ino(7));
        assert_eq!(tell(), [5, 7]);
        assert!(tell().is_empty());
        copied.add(Ino(5));
        assert_eq!(tell(), [5]);
    }
}
