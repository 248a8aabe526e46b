//! From a source to the store: layers are unpacked in parallel, finished from the bottom up and
//! shown together when all of them are right. An image that fails leaves nothing; an import that
//! is killed leaves what the next import lock sweeps away.
//!
//! The order of one image's steps: layers whose ChainID the store has are skipped unread; the
//! others are unpacked into transactions, a bounded number of them ahead of the lowest unfinished
//! one; each is finished upon the indexes of the layers below it and compared with its DiffID and
//! blob digest; then one sync, the layers' renames, the config, the names.

mod error;
mod layers;
mod observer;

pub use error::{ImportError, LayerError};
pub(crate) use layers::{Lower, lowers, stage};
pub use observer::{Observer, Silent};

use crate::id::{ChainId, DiffId, Digest, ImageId};
use crate::image::{SourceConfig, SourceImage};
use crate::indexes;
use crate::reference::Reference;
use crate::store::{ImportLock, Store};
use crate::unpack::Limits;
use serde::Serialize;

/// How images are imported.
#[derive(Debug)]
pub struct ImportOptions<'a> {
    /// The name to give instead of the source's own; only for a single image.
    pub name: Option<Reference>,
    /// What a layer may hold.
    pub limits: Limits,
    /// How many layers are unpacked at once.
    pub threads: usize,
    /// Is told of the progress.
    pub observer: &'a dyn Observer,
}

impl<'a> ImportOptions<'a> {
    /// Returns the usual options: as many threads as there are processors, at least two, since
    /// decompressing and writing wait for different things.
    #[must_use]
    pub fn new(observer: &'a dyn Observer) -> ImportOptions<'a> {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 16));
        ImportOptions { name: None, limits: Limits::default(), threads, observer }
    }
}

/// An image that is now in the store.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The image's id.
    pub id: ImageId,
    /// The names that it got.
    pub references: Vec<Reference>,
    /// The digest of the manifest that it came with.
    pub manifest_digest: Option<Digest>,
    /// Its layers, bottom first.
    pub layers: Vec<ChainId>,
    /// How many of them, from the bottom, the store had before.
    pub shared_layers: usize,
    /// Names that meant other images before, and which.
    pub replaced: Vec<Replaced>,
}

/// What became of the images of a source.
#[derive(Debug, Default)]
pub struct Report {
    /// The images that are in the store.
    pub imported: Vec<Imported>,
    /// Why the others are not.
    pub failed: Vec<ImportError>,
}

/// A name that was moved from another image.
#[derive(Clone, Debug, Serialize)]
pub struct Replaced {
    /// The name.
    pub reference: Reference,
    /// The image that it meant before.
    pub old: ImageId,
}

/// Imports all of `images`, one after the other. If one fails, the others are imported all the
/// same; its error, in the report, names image, layer and entry.
///
/// # Errors
/// None of the images could be tried.
pub fn import(
    store: &Store,
    mut images: Vec<SourceImage>,
    options: &ImportOptions<'_>,
) -> Result<Report, ImportError> {
    if let Some(name) = &options.name {
        if name.digest().is_some() {
            return Err(ImportError::DigestAsName(name.clone()));
        }
        match &mut images[..] {
            [one] => one.references = vec![name.clone().or_latest()],
            [] => {}
            several => return Err(ImportError::OneNameForSeveral(several.len())),
        }
    }
    let lock = store.import_lock()?;
    let mut report = Report::default();
    for image in &images {
        match import_image(store, &lock, image, options) {
            Ok(imported) => report.imported.push(imported),
            Err(e) => report.failed.push(e),
        }
    }
    Ok(report)
}

fn import_image(
    store: &Store,
    lock: &ImportLock,
    image: &SourceImage,
    options: &ImportOptions<'_>,
) -> Result<Imported, ImportError> {
    let shared = shared_layers(store, image)?;
    // the sizes are what the manifest says, which may be anything
    let bytes = image.layers[shared.len()..].iter().map(|l| l.size);
    let bytes = bytes.reduce(|a, b| Some(a?.saturating_add(b?))).unwrap_or(Some(0));
    options.observer.image_begins(&image.display_name(), image.layers.len(), shared.len(), bytes);
    let layers = layers::import(store, lock, image, &shared, options)?;
    let diff_ids: Vec<DiffId> = layers.iter().map(|l| l.diff).collect();
    let id = match &image.config {
        SourceConfig::Received { bytes, .. } => store.put_image(lock, bytes)?,
        SourceConfig::New(new) => store.put_image(lock, &new.encode(&diff_ids))?,
    };
    if let Some(top) = layers.last()
        && let Err(e) = indexes::prepare(store, &top.chain)
    {
        // the image is there; who mounts it reads the layers one by one, and tells what is wrong
        log::warn!("image {id}: {e}");
    }
    let mut replaced = Vec::new();
    for reference in &image.references {
        if reference.tag().is_none() {
            continue;
        }
        let old = store.tag(lock, &reference.without_digest(), &id)?;
        if let Some(old) = old.filter(|old| *old != id) {
            replaced.push(Replaced { reference: reference.clone(), old });
        }
    }
    options.observer.image_ends();
    Ok(Imported {
        id,
        references: image.references.clone(),
        manifest_digest: image.manifest_digest.clone(),
        layers: layers.iter().map(|l| l.chain).collect(),
        shared_layers: shared.len(),
        replaced,
    })
}

/// Returns the layers, bottom first, that the store has already.
fn shared_layers(
    store: &Store,
    image: &SourceImage,
) -> Result<Vec<crate::store::Layer>, ImportError> {
    let mut shared = Vec::new();
    let mut below = None;
    for blob in &image.layers {
        let Some(diff) = &blob.diff_id else { break };
        let chain = ChainId::next(below.as_ref(), diff);
        match store.layer(&chain)? {
            Some(layer) => shared.push(layer),
            None => break,
        }
        below = Some(chain);
    }
    Ok(shared)
}
