//! From a container to an image: what its writable layer changes becomes one more layer.
//!
//! The cost is that of the change: the upper's names are read once (and once more, to see that
//! nobody changed them meanwhile), the tar of what they say is made, hashed, split and unpacked in
//! one pass, and of the layers below nothing is read but the indexes, and what was moved or copied
//! without its data.
//!
//! What the upper *holds* says which entries the layer gets, and the merged view of the engine
//! what each of them is: owners that are only recorded, data that is still below, directories that
//! were moved. So an image shows what the container's mount showed.

mod changes;
mod config;
mod error;
mod instruction;
mod upper;
mod words;

pub use config::{BadCommit, NewStep};
pub use error::CommitError;
pub use instruction::{BadInstruction, Command, Instruction};

use crate::id::{ChainId, ImageId};
use crate::image::{ImageConfig, TarStream};
use crate::import::{self, Lower, Observer};
use crate::indexes;
use crate::overlay::{self, LowerChanges, Overlay};
use crate::reference::Reference;
use crate::store::{Container, ImportLock, Layer, StagedLayer, Store};
use crate::sys::Dir;
use crate::unpack::Limits;
use changes::Changes;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use upper::Upper;

/// What to make of a container.
#[derive(Debug)]
pub struct CommitOptions<'a> {
    /// The name of the new image.
    pub reference: Option<Reference>,
    /// What its history says, and what changes in its config.
    pub step: NewStep,
    /// Is told of the progress.
    pub observer: &'a dyn Observer,
}

/// An image that was made.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its id.
    pub id: ImageId,
    /// The layer that is new in it; `None` if nothing was changed.
    pub layer: Option<Layer>,
    /// The image that had the name before.
    pub replaced: Option<ImageId>,
}

/// How often a container is read that somebody changes meanwhile.
const ATTEMPTS: u32 = 3;
/// How often, and for how long each time, to wait for a live mount that is copying a file.
const WAITS: u32 = 300;
const WAIT: Duration = Duration::from_millis(200);

/// Makes an image of a container, mounted or not.
///
/// # Errors
/// [`CommitError::Changed`] if somebody changed the container whenever it was read. After an error
/// there is no new image; nor a layer, unless it was the image that could not be written.
pub fn commit(
    store: &Store,
    container: &Container,
    options: &CommitOptions<'_>,
) -> Result<Committed, CommitError> {
    let lock = store.import_lock()?;
    // nobody mounts it meanwhile; if somebody has, a second look tells what he did
    let held = store.hold_container(container)?;
    let base = Base::find(store, container)?;
    // what cannot be said of the image is to fail before the work
    config::child(&base.bytes, &options.step, None)?;
    let job = Job { store, lock: &lock, container, options };
    let (mut attempts, mut waits) = (1, 0);
    let layer = loop {
        match job.layer() {
            Err(CommitError::Changed) if attempts < ATTEMPTS => attempts += 1,
            Err(e) if e.is_incomplete() && held.is_none() && waits < WAITS => {
                waits += 1;
                std::thread::sleep(WAIT);
            }
            done => break done?,
        }
    };
    let config = config::child(&base.bytes, &options.step, layer.as_ref().map(|l| l.diff))?;
    let id = store.put_image(&lock, &config)?;
    store.record_made_of(&lock, &id, &base.id)?;
    if let Some(layer) = &layer
        && let Err(e) = indexes::prepare(store, &layer.chain)
    {
        // the image is there; who mounts it reads the layers one by one, and tells what is wrong
        log::warn!("image {id}: {e}");
    }
    let replaced = match &options.reference {
        Some(r) => store.tag(&lock, &r.without_digest(), &id)?.filter(|old| *old != id),
        None => None,
    };
    options.observer.image_ends();
    Ok(Committed { id, layer, replaced })
}

/// The image that a container is made of.
struct Base {
    id: ImageId,
    bytes: Vec<u8>,
}

impl Base {
    fn find(store: &Store, container: &Container) -> Result<Base, CommitError> {
        let read = |id: ImageId| -> Result<Option<Base>, CommitError> {
            let Some(bytes) = store.image_config(&id)? else { return Ok(None) };
            let config = ImageConfig::parse(&bytes, &id.to_string())?;
            let top = ChainId::of_stack(&config.diff_ids).pop();
            Ok((top == container.parent).then_some(Base { id, bytes }))
        };
        if let Some(id) = container.image {
            return read(id)?.ok_or(CommitError::NoBase(id));
        }
        // nobody says of which: one of these very layers will do, if it is the only one
        let mut found = Vec::new();
        for id in store.image_ids()? {
            match read(id) {
                Ok(base) => found.extend(base),
                Err(e) => log::debug!("image {id}: {e}"),
            }
        }
        match (found.pop(), found.len()) {
            (Some(base), 0) => Ok(base),
            (last, others) => Err(CommitError::UnknownBase(others + usize::from(last.is_some()))),
        }
    }
}

/// A layer to be made of a container.
struct Job<'a> {
    store: &'a Store,
    lock: &'a ImportLock,
    container: &'a Container,
    options: &'a CommitOptions<'a>,
}

impl Job<'_> {
    /// Makes the layer and puts it into the store, if anything was changed in the container.
    fn layer(&self) -> Result<Option<Layer>, CommitError> {
        let dir = self.store.diff_dir(&self.container.mount)?;
        let upper = match Upper::read(&dir) {
            Err(e) if upper::is_gone(&e) => return Err(CommitError::Changed),
            upper => Arc::new(upper?),
        };
        let with_root = upper.root_changed(self.store, self.container)?;
        if upper.names.len() <= 1 && !with_root {
            return Ok(None);
        }
        let staged = match self.stage(&dir, &upper, with_root) {
            Err(e) if e.is_incomplete() => return Err(e),
            staged => staged,
        };
        // whatever else went wrong, that somebody writes to it is the reason to tell
        match Upper::read(&dir) {
            Ok(now) if now.is_as(&upper) => {}
            Err(e) if !upper::is_gone(&e) => return Err(e.into()),
            _ => return Err(CommitError::Changed),
        }
        let StagedLayer { txn, diff, size } = staged?;
        self.options.observer.committing();
        Ok(Some(txn.commit(self.container.parent.as_ref(), &diff, size)?))
    }

    fn stage(
        &self,
        dir: &Dir,
        upper: &Arc<Upper>,
        with_root: bool,
    ) -> Result<StagedLayer, CommitError> {
        if upper.unbelieved {
            log::warn!(
                "owners recorded in user.containers.override_stat (xattr_permissions=2) are left out: \
                 in a container of root's anybody may have set them"
            );
        }
        let (observer, reference) = (self.options.observer, &self.options.reference);
        let name =
            reference.as_ref().map_or_else(|| self.container.id.clone(), Reference::to_string);
        let below = import::lowers(self.store, self.container.parent.as_ref())?;
        let number = below.len() + 1;
        observer.image_begins(&name, number, below.len(), None);
        observer.layer_begins(number, None);
        let changes = Changes::new(self.view(dir, upper, &below)?, upper.clone(), with_root);
        let stream = Watched { inner: TarStream::new(changes), observer, number };
        let what = "the container";
        let staged = import::stage(self.store, self.lock, stream, what, &below, &Limits::OWN)?;
        observer.layer_ends(number);
        Ok(staged)
    }

    /// The merged view of the container, read-only.
    fn view(&self, dir: &Dir, upper: &Upper, below: &[Lower]) -> Result<Arc<Overlay>, CommitError> {
        let mut lowers = vec![overlay::Lower::Plain(dir.clone())];
        if let Some(init) = &self.container.init {
            lowers.push(overlay::Lower::Plain(self.store.diff_dir(init)?));
        }
        lowers.extend(below.iter().rev().map(|(index, diff)| overlay::Lower::Indexed {
            index: index.clone(),
            diff: diff.clone().into(),
        }));
        let stack = overlay::Stack { lowers, data_only: Vec::new(), upper: None };
        let options = overlay::Options {
            dialect: Some(upper.dialect),
            owner_view: upper.records.is_some(),
            records: upper.records.unwrap_or_default(),
            foreign_marks: false,
            lower_changes: LowerChanges::Ignore,
            ..overlay::Options::default()
        };
        Ok(Arc::new(Overlay::new(stack, options)?))
    }
}

/// Tells an observer how much was read.
struct Watched<'a, R> {
    inner: R,
    observer: &'a dyn Observer,
    number: usize,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.observer.layer_read(self.number, n as u64);
        Ok(n)
    }
}
