//! The layers of one image: unpacked side by side, finished in order.

use super::{ImportError, ImportOptions, LayerError, Observer};
use crate::id::{ChainId, DiffId, Digest};
use crate::image::{ImageError, SourceImage};
use crate::index::{INDEX_NAME, Index};
use crate::indexes::{self, IndexedLayer};
use crate::store::{ImportLock, Layer, LayerTxn, StagedLayer as Staged, Store};
use crate::sys::{Dir, Identity};
use crate::unpack::{self, Limits, LowerLayer, StagedLayer, Target, UnpackError};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Imports the layers above `shared`, which the store has, and returns all of them, bottom first.
pub(super) fn import(
    store: &Store,
    lock: &ImportLock,
    image: &SourceImage,
    shared: &[Layer],
    options: &ImportOptions<'_>,
) -> Result<Vec<Layer>, ImportError> {
    let mut all = shared.to_vec();
    if shared.len() == image.layers.len() {
        return Ok(all);
    }
    let parent = shared.last().map(|l| l.chain);
    let mut below = lowers(store, parent.as_ref())?;
    let job = Job { store, lock, image, options, first: shared.len() };
    let staged = job.run(&mut below)?;
    options.observer.committing();
    // before the commit, whose sync they share; a record too many says nothing wrong
    for (blob, staged) in image.layers[shared.len()..].iter().zip(&staged) {
        // an uncompressed blob needs no record: its digest is the DiffID
        if let Some(digest) = blob.digest.as_ref().filter(|d| **d != Digest::from(staged.diff)) {
            store.record_blob(lock, digest, &staged.diff)?;
        }
    }
    all.extend(store.commit_layers(parent.as_ref(), staged)?);
    Ok(all)
}

/// A finished layer: its index and its directory.
pub(crate) type Lower = (Arc<Index>, Dir);

/// Returns the layers of a chain, bottom first.
pub(crate) fn lowers(store: &Store, top: Option<&ChainId>) -> Result<Vec<Lower>, ImportError> {
    let Some(top) = top else { return Ok(Vec::new()) };
    let layers = indexes::load(store, top, None)?.into_iter();
    layers.map(|IndexedLayer { layer, index }| Ok((index, store.diff_dir(&layer.cache)?))).collect()
}

/// Unpacks one layer upon `below` (bottom first). It is not in the store before it is committed.
///
/// # Errors
/// The stream cannot be read, or is no layer; `what` names it.
pub(crate) fn stage(
    store: &Store,
    lock: &ImportLock,
    stream: impl Read,
    what: &str,
    below: &[Lower],
    limits: &Limits,
) -> Result<Staged, LayerError> {
    Unpacked::read(store, lock, stream, what, limits)?.finish(below).map(|(staged, _)| staged)
}

struct Job<'a> {
    store: &'a Store,
    lock: &'a ImportLock,
    image: &'a SourceImage,
    options: &'a ImportOptions<'a>,
    /// Index of the lowest layer to import.
    first: usize,
}

/// A layer between unpacking and finishing.
struct Unpacked {
    txn: LayerTxn,
    staged: StagedLayer,
    identity: Identity,
}

impl Unpacked {
    fn read(
        store: &Store,
        lock: &ImportLock,
        mut stream: impl Read,
        what: &str,
        limits: &Limits,
    ) -> Result<Unpacked, LayerError> {
        let identity = Identity::current();
        let txn = store.begin_layer(lock)?;
        let staged = match unpack::unpack_layer(&mut stream, &target(&txn, identity), limits) {
            Ok(staged) => staged,
            Err(e) => return Err(blame(e, stream)),
        };
        // the reader checks size and digest at its end, which the unpacker need not have seen
        io::copy(&mut stream, &mut io::sink())
            .map_err(|e| ImageError::from_reader(e, &format!("read {what}")))?;
        Ok(Unpacked { txn, staged, identity })
    }

    fn finish(self, below: &[Lower]) -> Result<(Staged, Lower), LayerError> {
        let Unpacked { txn, staged, identity } = self;
        let diff: DiffId = staged.diff_id;
        let top_first: Vec<LowerLayer<'_>> =
            below.iter().rev().map(|(index, diff)| LowerLayer { index, diff }).collect();
        let size = staged.finish(&target(&txn, identity), &top_first)?.size;
        let lower = (Arc::new(Index::open(txn.meta(), INDEX_NAME)?), txn.diff().clone());
        Ok((Staged { txn, diff, size }, lower))
    }
}

fn target(txn: &LayerTxn, identity: Identity) -> Target<'_> {
    Target { diff: txn.diff(), meta: txn.meta(), identity, layer: txn.cache().mark() }
}

type Outcome = (usize, Result<Unpacked, LayerError>);

/// What the threads share: which layer is next, and how far ahead they may go.
struct Queue {
    state: Mutex<State>,
    moved: Condvar,
    stop: AtomicBool,
    window: usize,
    end: usize,
}

struct State {
    next: usize,
    finished: usize,
}

impl Queue {
    /// Takes the next layer, once it is not too far ahead of the lowest unfinished one: each open
    /// layer holds its entries in memory.
    fn take(&self) -> Option<usize> {
        let mut s = self.state.lock();
        while !self.stopped() && s.next < self.end && s.next >= s.finished + self.window {
            self.moved.wait(&mut s);
        }
        if self.stopped() || s.next >= self.end {
            return None;
        }
        s.next += 1;
        Some(s.next - 1)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.moved.notify_all();
    }
}

/// Lets the threads end whatever way their scope is left.
struct StopOnDrop<'a>(&'a Queue);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        // under the lock, so that nobody begins to wait meanwhile
        self.0.update(|_| self.0.stop.store(true, Ordering::Relaxed));
    }
}

impl Job<'_> {
    /// Unpacks and finishes the layers; `below` are those under them, bottom first.
    fn run(&self, below: &mut Vec<Lower>) -> Result<Vec<Staged>, ImportError> {
        let end = self.image.layers.len();
        let threads = self.options.threads.clamp(1, end - self.first);
        let queue = Queue {
            state: Mutex::new(State { next: self.first, finished: self.first }),
            moved: Condvar::new(),
            stop: AtomicBool::new(false),
            window: 2 * threads,
            end,
        };
        let (send, receive) = mpsc::channel::<Outcome>();
        std::thread::scope(|scope| {
            let stop = StopOnDrop(&queue);
            for _ in 0..threads {
                let (send, queue) = (send.clone(), &queue);
                scope.spawn(move || {
                    while let Some(i) = queue.take() {
                        if send.send((i, self.unpack(i, queue))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            let done = self.finish_all(&queue, &receive, below);
            // results that are still under way are dropped with the channel, and their files too
            drop(stop);
            drop(receive);
            done
        })
    }

    fn finish_all(
        &self,
        queue: &Queue,
        receive: &mpsc::Receiver<Outcome>,
        below: &mut Vec<Lower>,
    ) -> Result<Vec<Staged>, ImportError> {
        let mut waiting = BTreeMap::new();
        let mut done = Vec::with_capacity(queue.end - self.first);
        while self.first + done.len() < queue.end {
            let i = self.first + done.len();
            let Some(outcome) = waiting.remove(&i) else {
                // a thread can only end early by a panic, which the scope hands on
                let Ok((j, outcome)) = receive.recv() else { return Ok(done) };
                waiting.insert(j, outcome.map_err(|e| self.failed(j, e))?);
                continue;
            };
            let (staged, lower) = outcome.finish(below).map_err(|e| self.failed(i, e))?;
            below.push(lower);
            done.push(staged);
            self.options.observer.layer_ends(i + 1);
            queue.update(|s| s.finished = i + 1);
        }
        Ok(done)
    }

    fn failed(&self, i: usize, source: LayerError) -> ImportError {
        ImportError::Layer {
            image: self.image.display_name(),
            number: i + 1,
            count: self.image.layers.len(),
            name: self.image.layers[i].name.clone(),
            source: Box::new(source),
        }
    }

    fn unpack(&self, i: usize, queue: &Queue) -> Result<Unpacked, LayerError> {
        let blob = &self.image.layers[i];
        let observer = self.options.observer;
        observer.layer_begins(i + 1, blob.size);
        let reader = Counted { inner: blob.open()?, observer, number: i + 1, queue };
        let limits = &self.options.limits;
        let unpacked = Unpacked::read(self.store, self.lock, reader, &blob.name, limits)?;
        let found = unpacked.staged.diff_id;
        match blob.diff_id {
            Some(expected) if expected != found => Err(LayerError::WrongDiffId { expected, found }),
            _ => Ok(unpacked),
        }
    }
}

/// Finds the true cause of a failure: a blob that is damaged or cut short may fail in any way, and
/// that it has the wrong digest says more than what the unpacker stumbled over.
fn blame(e: UnpackError, mut reader: impl Read) -> LayerError {
    let e = match e {
        UnpackError::Read(e) => match e.downcast::<ImageError>() {
            Ok(own) => return own.into(),
            Err(e) => UnpackError::Read(e),
        },
        e => e,
    };
    match io::copy(&mut reader, &mut io::sink()).map_err(io::Error::downcast::<ImageError>) {
        Err(Ok(own @ (ImageError::WrongDigest { .. } | ImageError::WrongSize { .. }))) => {
            own.into()
        }
        _ => e.into(),
    }
}

struct Counted<'a> {
    inner: Box<dyn Read + Send>,
    observer: &'a dyn Observer,
    number: usize,
    queue: &'a Queue,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.queue.stopped() {
            return Err(io::Error::other("another layer failed"));
        }
        let n = self.inner.read(buf)?;
        self.observer.layer_read(self.number, n as u64);
        Ok(n)
    }
}
