//! The layers of one image: unpacked side by side, finished in order.

use super::{ImportError, ImportOptions, LayerError, Observer};
use crate::id::{DiffId, Digest};
use crate::image::{ImageError, LayerBlob, SourceImage};
use crate::index::{INDEX_NAME, Index};
use crate::indexes::{self, IndexedLayer};
use crate::store::{ImportLock, Layer, LayerTxn, StagedLayer as Staged, Store};
use crate::sys::{Dir, Identity};
use crate::unpack::{self, LowerLayer, StagedLayer, Target, UnpackError};
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
    let mut below: Vec<Lower> = Vec::with_capacity(image.layers.len());
    if let Some(top) = &parent {
        for IndexedLayer { layer, index } in indexes::load(store, top, None)? {
            below.push((index, store.diff_dir(&layer.cache)?));
        }
    }
    let job =
        Job { store, lock, image, options, first: shared.len(), identity: Identity::current() };
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
type Lower = (Arc<Index>, Dir);

struct Job<'a> {
    store: &'a Store,
    lock: &'a ImportLock,
    image: &'a SourceImage,
    options: &'a ImportOptions<'a>,
    /// Index of the lowest layer to import.
    first: usize,
    identity: Identity,
}

/// A layer between unpacking and finishing.
struct Unpacked {
    txn: LayerTxn,
    staged: StagedLayer,
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
            let staged = self.finish(outcome, below).map_err(|e| self.failed(i, e))?;
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
        let mut reader = Counted { inner: blob.open()?, observer, number: i + 1, queue };
        let txn = self.store.begin_layer(self.lock)?;
        let staged =
            match unpack::unpack_layer(&mut reader, &self.target(&txn), &self.options.limits) {
                Ok(staged) => staged,
                Err(e) => return Err(blame(e, reader)),
            };
        // the reader checks size and digest at its end, which the unpacker need not have seen
        io::copy(&mut reader, &mut io::sink()).map_err(|e| read_error(e, blob))?;
        if let Some(expected) = blob.diff_id
            && expected != staged.diff_id
        {
            return Err(LayerError::WrongDiffId { expected, found: staged.diff_id });
        }
        Ok(Unpacked { txn, staged })
    }

    fn target<'t>(&self, txn: &'t LayerTxn) -> Target<'t> {
        Target {
            diff: txn.diff(),
            meta: txn.meta(),
            identity: self.identity,
            layer: txn.cache().mark(),
        }
    }

    fn finish(&self, unpacked: Unpacked, below: &mut Vec<Lower>) -> Result<Staged, LayerError> {
        let Unpacked { txn, staged } = unpacked;
        let diff: DiffId = staged.diff_id;
        let top_first: Vec<LowerLayer<'_>> =
            below.iter().rev().map(|(index, diff)| LowerLayer { index, diff }).collect();
        let size = staged.finish(&self.target(&txn), &top_first)?.size;
        below.push((Arc::new(Index::open(txn.meta(), INDEX_NAME)?), txn.diff().clone()));
        Ok(Staged { txn, diff, size })
    }
}

fn read_error(e: io::Error, blob: &LayerBlob) -> LayerError {
    ImageError::from_reader(e, &format!("read {}", blob.name)).into()
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
