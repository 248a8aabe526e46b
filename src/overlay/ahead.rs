//! Waiting for the disk once instead of once for each layer.
//!
//! A directory of many plain layers is read layer by layer, and from a cold disk each of them is one
//! or two waits, of which several can go on at once. Nothing is decided here: what is read stays in
//! the layers, and who then reads it in order finds it there, or meets the error himself.

use super::lower::{At, LowerLayer};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// What takes as long has waited for the disk.
const SLOW: Duration = Duration::from_micros(60);
/// For fewer layers it takes as long to wake somebody as that saves.
const WORTH: usize = 32;
/// How many threads help who reads.
const HELPERS: usize = 3;

/// Threads that read directories which somebody is about to want. They start when they are first
/// needed, and end with this.
#[derive(Debug)]
pub(super) struct Ahead {
    queue: OnceLock<Sender<Arc<Batch>>>,
    slow: Duration,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { queue: OnceLock::new(), slow: SLOW }
    }
}

/// What is to be read of some directories.
#[derive(Debug)]
struct Batch {
    layers: Arc<[LowerLayer]>,
    dirs: Vec<At>,
    /// Of this directory in each of them the marks; else the names.
    child: Option<Box<[u8]>>,
    /// Position of the next one to read.
    next: AtomicUsize,
}

impl Ahead {
    /// Reads the names of `dirs`, or what the directory `child` in each says about itself. As soon as
    /// one was waited for, the others are read side by side; none of them, if they are few.
    pub(super) fn read(&self, layers: &Arc<[LowerLayer]>, dirs: &[At], child: Option<&[u8]>) {
        let mut left = dirs.iter();
        loop {
            if left.len() < WORTH {
                return;
            }
            let Some(dir) = left.next() else { return };
            let began = Instant::now();
            read(layers, *dir, child);
            if began.elapsed() >= self.slow {
                break;
            }
        }
        let batch = Arc::new(Batch {
            layers: layers.clone(),
            dirs: left.copied().collect(),
            child: child.map(Into::into),
            next: AtomicUsize::new(0),
        });
        let queue = self.queue.get_or_init(start);
        for _ in 0..HELPERS.min(batch.dirs.len() - 1) {
            // without helpers it is read here
            queue.send(batch.clone()).unwrap_or_default();
        }
        batch.work();
    }
}

impl Batch {
    fn work(&self) {
        while let Some(dir) = self.dirs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            read(&self.layers, *dir, self.child.as_deref());
        }
    }
}

fn read(layers: &[LowerLayer], dir: At, child: Option<&[u8]>) {
    let Some(layer) = layers.get(dir.layer.0 as usize) else { return };
    match child {
        Some(name) => layer.read_marks(dir.node, name),
        None => layer.read_names(dir.node),
    }
}

fn start() -> Sender<Arc<Batch>> {
    let (queue, wanted) = channel();
    let wanted = Arc::new(Mutex::new(wanted));
    for _ in 0..HELPERS {
        let wanted: Arc<Mutex<Receiver<Arc<Batch>>>> = wanted.clone();
        let help = move || {
            loop {
                // one waits for work, the others for their turn to wait
                let next = wanted.lock().recv();
                match next {
                    Ok(batch) => batch.work(),
                    Err(_) => return,
                }
            }
        };
        if let Err(e) = Builder::new().name("ahead".to_owned()).spawn(help) {
            log::debug!("layers are read one after the other: {e}");
        }
    }
    queue
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::overlay::{Attr, Ino, Lower, Options, Overlay, Stack};
    use crate::sys::Dir;
    use std::collections::BTreeMap;

    /// A view of many layers, whose directories count as slow after so long.
    fn view(root: &std::path::Path, slow: Duration) -> Overlay {
        let layer = |i: u32| Lower::Plain(Dir::open(root.join(i.to_string())).unwrap());
        let lowers = (0..60).map(layer).collect();
        let stack = Stack { lowers, data_only: Vec::new(), upper: None };
        let mut view = Overlay::new(stack, Options::default()).unwrap();
        view.ahead.slow = slow;
        view
    }

    fn names(view: &Overlay, dir: Ino) -> BTreeMap<Vec<u8>, Ino> {
        let mut names = BTreeMap::new();
        let mut take = |e: crate::overlay::ListEntry<'_>| {
            names.insert(e.name.to_vec(), e.ino);
            true
        };
        view.readdir(dir, 0, &mut take).unwrap();
        names
    }

    fn look(view: &Overlay, dir: Ino, name: &str) -> Attr {
        view.lookup(dir, Name::new(name.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_was_read_side_by_side_is_what_is_read_in_order() {
        let tmp = tempfile::tempdir().unwrap();
        for i in 0..60 {
            let at = tmp.path().join(i.to_string());
            for k in 0..5 {
                let dir = at.join(format!("d{k}/e"));
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(format!("f{i}")), i.to_string()).unwrap();
                std::fs::write(dir.join("same"), i.to_string()).unwrap();
            }
            // what is no directory ends the merge, and what lies below stays unseen
            if i == 40 {
                std::fs::remove_dir_all(at.join("d3")).unwrap();
                std::fs::write(at.join("d3"), "file").unwrap();
            }
        }
        let (one, other) = (view(tmp.path(), Duration::ZERO), view(tmp.path(), Duration::MAX));
        for k in 0..5 {
            let mut dirs = [&one, &other].map(|v| (v, look(v, Ino::ROOT, &format!("d{k}")).ino));
            for (view, dir) in &mut dirs {
                *dir = look(view, *dir, "e").ino;
            }
            let [a, b] = dirs.map(|(view, dir)| (names(view, dir), look(view, dir, "same")));
            assert_eq!(a, b);
            // two of its own, and one that all layers have
            assert_eq!(a.0.len(), 3 + if k == 3 { 40 } else { 60 });
        }
        assert!(one.ahead.queue.get().is_some() && other.ahead.queue.get().is_none());
    }
}
