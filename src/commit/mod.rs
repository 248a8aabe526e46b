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

pub use config::{BadCommit, NewStep};
pub use error::CommitError;
pub use instruction::{BadInstruction, Instruction};

use crate::id::{ChainId, ImageId};
use crate::image::{ImageConfig, TarStream};
use crate::import::{self, Lower, Observer};
use crate::index::{Index, NodeId, ScanOptions, scan_now};
use crate::indexes;
use crate::overlay::{self, LowerChanges, Overlay};
use crate::reference::Reference;
use crate::store::{Container, ImportLock, Layer, Store};
use crate::sys::{Dir, Identity};
use crate::unpack::Limits;
use changes::Changes;
use std::io::{self, Read};
use std::sync::Arc;

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

/// Makes an image of a container, mounted or not.
///
/// # Errors
/// [`CommitError::Changed`] if somebody changed the container meanwhile; no image is there then,
/// nor after any other error.
pub fn commit(
    store: &Store,
    container: &Container,
    options: &CommitOptions<'_>,
) -> Result<Committed, CommitError> {
    let lock = store.import_lock()?;
    // nobody mounts it meanwhile; if somebody has, the second look tells what he did
    let _held = store.hold_container(container)?;
    let base = Base::find(store, container)?;
    let upper = store.diff_dir(&container.mount)?;
    let before = names(&upper)?;
    let with_root = root_changed(store, container, &before)?;
    let layer = if before.len() > 1 || with_root {
        let name =
            options.reference.as_ref().map_or_else(|| container.id.clone(), Reference::to_string);
        options.observer.image_begins(&name, base.layers + 1, base.layers, None);
        let what = What { container, upper: &upper, names: Arc::new(before), with_root };
        Some(stage(store, &lock, &what, options.observer)?)
    } else {
        None
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
    layers: usize,
}

impl Base {
    fn find(store: &Store, container: &Container) -> Result<Base, CommitError> {
        let read = |id: ImageId| -> Result<Option<Base>, CommitError> {
            let Some(bytes) = store.image_config(&id)? else { return Ok(None) };
            let config = ImageConfig::parse(&bytes, &id.to_string())?;
            let top = ChainId::of_stack(&config.diff_ids).pop();
            let layers = config.diff_ids.len();
            Ok((top == container.parent).then_some(Base { id, bytes, layers }))
        };
        if let Some(id) = container.image {
            return read(id)?.ok_or(CommitError::NoBase(id));
        }
        // dockerd keeps elsewhere of which image a container is: any of these very layers will do,
        // if it is the only one
        let mut found = Vec::new();
        for id in store.image_ids()? {
            match read(id) {
                Ok(base) => found.extend(base),
                Err(e) => log::debug!("image {id}: {e}"),
            }
        }
        match found.len() {
            1 => found.pop().ok_or(CommitError::UnknownBase(0)),
            n => Err(CommitError::UnknownBase(n)),
        }
    }
}

/// Reads what the upper holds. Marks of redirects are believed: only mounts write to an upper.
fn names(upper: &Dir) -> Result<Index, CommitError> {
    Ok(scan_now(upper, ScanOptions::default())?)
}

/// Returns whether somebody changed the attributes of the container's root directory: it was made
/// as the init layer's.
fn root_changed(store: &Store, container: &Container, upper: &Index) -> Result<bool, CommitError> {
    let init = match &container.init {
        Some(cache) => Some(names(&store.diff_dir(cache)?)?),
        None => None,
    };
    let root = |i: &Index| {
        let node = i.node(NodeId::ROOT)?;
        let xattrs: Vec<_> =
            i.xattrs(NodeId::ROOT).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        Some(((node.mode, node.uid, node.gid), xattrs))
    };
    let as_made = || Some(((0o755, 0, 0), Vec::new()));
    Ok(root(upper) != init.as_ref().map_or_else(as_made, root))
}

/// What a layer is to be made of.
struct What<'a> {
    container: &'a Container,
    upper: &'a Dir,
    /// What the upper holds.
    names: Arc<Index>,
    /// Whether the root directory was changed.
    with_root: bool,
}

/// Makes the layer, and commits it if nothing was changed meanwhile.
fn stage(
    store: &Store,
    lock: &ImportLock,
    what: &What<'_>,
    observer: &dyn Observer,
) -> Result<Layer, CommitError> {
    let parent = what.container.parent.as_ref();
    let below = import::lowers(store, parent)?;
    let view = view(store, what.container, what.upper, &below)?;
    let number = below.len() + 1;
    observer.layer_begins(number, None);
    let changes = Changes::new(view, what.names.clone(), what.with_root);
    let stream = Watched { inner: TarStream::new(changes), observer, number };
    // what a container of ours holds is no hostile archive, and may be as large as the disk
    let limits = Limits { bytes: u64::MAX, entries: u64::MAX, ..Limits::default() };
    let staged = import::stage(store, lock, stream, "the container", &below, &limits)?;
    if names(what.upper)?.bytes() != what.names.bytes() {
        return Err(CommitError::Changed);
    }
    observer.layer_ends(number);
    observer.committing();
    let mut layers = store.commit_layers(parent, vec![staged])?;
    // one layer was given
    layers.pop().ok_or(CommitError::Changed)
}

/// The merged view of the container, read-only.
fn view(
    store: &Store,
    container: &Container,
    upper: &Dir,
    below: &[Lower],
) -> Result<Arc<Overlay>, CommitError> {
    let mut lowers = vec![overlay::Lower::Plain(upper.clone())];
    if let Some(init) = &container.init {
        lowers.push(overlay::Lower::Plain(store.diff_dir(init)?));
    }
    lowers.extend(below.iter().rev().map(|(index, diff)| overlay::Lower::Indexed {
        index: index.clone(),
        diff: diff.clone().into(),
    }));
    let stack = overlay::Stack { lowers, data_only: Vec::new(), upper: None };
    let options = overlay::Options {
        owner_view: !Identity::current().privileged,
        lower_changes: LowerChanges::Ignore,
        ..overlay::Options::default()
    };
    Ok(Arc::new(Overlay::new(stack, options)?))
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
