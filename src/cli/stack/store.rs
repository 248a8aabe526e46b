//! The layers of an image or a container of the store.

use super::{Built, Facts, common, lock, resolved, view};
use crate::cli::mount_options::MountOptions;
use crate::cli::root;
use crate::cli::{CliError, Context};
use crate::id::{CacheId, ChainId, ImageId};
use crate::image::ImageConfig;
use crate::index::Index;
use crate::indexes::{self, IndexesError};
use crate::name::printable;
use crate::overlay::{Lower, Options, Stack, Upper};
use crate::store::{Container, Layer, Store, StoreError, at_once};
use crate::sys::Identity;
use std::path::Path;
use std::sync::Arc;

/// What of the store is meant.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Target {
    /// An image or a container, as the user named it.
    pub(in crate::cli) name: String,
    /// Make a container of the image first.
    pub(in crate::cli) rw: bool,
    /// What to call that container.
    pub(in crate::cli) container: Option<String>,
}

/// What a name means.
#[derive(Debug)]
pub(in crate::cli) enum Found {
    Image(ImageId),
    Container(Box<Container>),
}

pub(in crate::cli) fn no_store(e: &StoreError) -> CliError {
    CliError::failed("the layer store", e)
}

/// Lists what a store holds; one that does not exist yet holds nothing.
pub(in crate::cli) fn listed<T>(
    context: &Context,
    list: impl FnOnce(&Store) -> Result<Vec<T>, CliError>,
) -> Result<Vec<T>, CliError> {
    match Store::open(&context.root, false) {
        Ok(store) => list(&store),
        Err(StoreError::Missing(_)) => Ok(Vec::new()),
        Err(e) => Err(no_store(&e)),
    }
}

/// Stacks what `target` names in the store in `root`.
pub(in crate::cli) fn from_store(
    root: &Path,
    target: &Target,
    o: &MountOptions,
) -> Result<Built, CliError> {
    let store = Store::open(root, false).map_err(|e| no_store(&e))?;
    let found = if target.rw {
        let image = store.find_image(&target.name).map_err(|e| no_store(&e))?;
        Found::Container(Box::new(make(&store, &image, target.container.as_deref())?))
    } else {
        find(&store, &target.name)?
    };
    match found {
        Found::Image(image) => of_image(&store, target, &image, o),
        Found::Container(container) => of_container(&store, &container, o),
    }
}

/// Makes a container of the image that `image` names, and returns it.
pub(in crate::cli) fn create(
    root: &Path,
    image: &str,
    name: Option<&str>,
) -> Result<Container, CliError> {
    let store = Store::open(root, false).map_err(|e| no_store(&e))?;
    let id = store.find_image(image).map_err(|e| no_store(&e))?;
    make(&store, &id, name)
}

fn make(store: &Store, image: &ImageId, name: Option<&str>) -> Result<Container, CliError> {
    let top = layers_of(store, image)?.pop();
    let lock = store.import_lock().map_err(|e| no_store(&e))?;
    store.create_container(&lock, image, top.as_ref(), name).map_err(|e| no_store(&e))
}

/// A container goes before an image of the same name, as `docker inspect` has it.
pub(in crate::cli) fn find(store: &Store, name: &str) -> Result<Found, CliError> {
    match store.find_container(name) {
        Ok(c) => return Ok(Found::Container(Box::new(c))),
        Err(StoreError::NoContainer(_)) => {}
        Err(e) => return Err(no_store(&e)),
    }
    match store.find_image(name) {
        Ok(image) => Ok(Found::Image(image)),
        Err(StoreError::NoImage(_) | StoreError::BadReference(_)) => Err(CliError::message(
            format!("no image and no container is called {}", printable(name.as_bytes())),
        )
        .hint("stratafs images, stratafs containers")),
        Err(e) => Err(no_store(&e)),
    }
}

/// The ChainIDs of an image's layers, bottom first.
fn layers_of(store: &Store, image: &ImageId) -> Result<Vec<ChainId>, CliError> {
    let raw = store
        .image_config(image)
        .map_err(|e| no_store(&e))?
        .ok_or_else(|| no_store(&StoreError::NoImageId(*image)))?;
    let config = ImageConfig::parse(&raw, &image.to_string())
        .map_err(|e| CliError::failed("the image cannot be used", &e))?;
    Ok(ChainId::of_stack(&config.diff_ids))
}

/// Stacks layers, which come bottom first; returns them top first.
fn stacked(store: &Store, layers: &[Layer]) -> Result<Vec<Lower>, CliError> {
    let indexes = indexes(store, layers)?;
    let diffs = at_once(layers, |layer| store.diff_dir(&layer.cache).map_err(|e| no_store(&e)));
    let lowers = indexes.into_iter().zip(diffs).rev();
    lowers.map(|(index, diff)| Ok(Lower::Indexed { index, diff: diff? })).collect()
}

/// The indexes of the layers of one stack, bottom first as those are. Those of another program's
/// store are kept in this user's cache.
pub(in crate::cli) fn indexes(
    store: &Store,
    layers: &[Layer],
) -> Result<Vec<Arc<Index>>, CliError> {
    let failed = |e: IndexesError| CliError::failed("the layers cannot be read", &e);
    match indexes::load_all(store, layers, None) {
        Err(IndexesError::NoPlace(_)) => {
            let cache = root::cache_dir()?;
            indexes::load_all(store, layers, Some(&cache)).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

fn options(o: &MountOptions) -> Options {
    Options {
        // true owners are in the index, and in the upper an ordinary user can only record them
        owner_view: o.records.is_some() || !Identity::current().privileged,
        redirect_dir: o.redirect_dir.unwrap_or(true),
        rename_by_copy: o.rename_by_copy,
        // nobody but this program reads these uppers, as a rule
        metacopy: o.metacopy.unwrap_or(true),
        ..common(o)
    }
}

fn of_image(
    store: &Store,
    target: &Target,
    image: &ImageId,
    o: &MountOptions,
) -> Result<Built, CliError> {
    // `rw` is what mount(8) adds by itself: it means nothing to an image
    let layers = store.stack(&layers_of(store, image)?).map_err(|e| no_store(&e))?;
    let lowers = stacked(store, &layers)?;
    if lowers.is_empty() {
        return Err(CliError::message(format!("image {image} has no layers")));
    }
    let facts = Facts {
        source: format!("image:{}", target.name).into(),
        root: Some(store.root().to_owned()),
        image: Some(image.to_string()),
        ..Facts::default()
    };
    let overlay = view(Stack { lowers, data_only: Vec::new(), upper: None }, options(o))?;
    Ok(Built { overlay, facts, locks: Vec::new(), exclusive: true })
}

fn of_container(store: &Store, c: &Container, o: &MountOptions) -> Result<Built, CliError> {
    let diff = |cache: &CacheId| store.diff_dir(cache).map_err(|e| no_store(&e));
    let upper = diff(&c.mount)?;
    let mut lowers = Vec::new();
    let (mut locks, mut locked) = (Vec::new(), Vec::new());
    let mut writable = None;
    if o.read_only == Some(true) {
        lowers.push(Lower::Plain(upper));
    } else {
        let path = store.root().join("overlay2").join(c.mount.as_str()).join("work");
        let work = store
            .cache_dir(&c.mount)
            .map_err(|e| no_store(&e))?
            .open_dir(b"work")
            .map_err(|e| CliError::message(format!("{}: {e}", path.display())))?;
        locks.push(lock(&work, &path).map_err(|_| in_use(c))?);
        locked.push(resolved(&path));
        writable = Some(Upper { dir: upper, work });
    }
    if let Some(init) = &c.init {
        lowers.push(Lower::Plain(diff(init)?));
    }
    lowers.extend(stacked(store, &below(store, c)?)?);
    let facts = Facts {
        source: format!("container:{}", short(&c.id)).into(),
        root: Some(store.root().to_owned()),
        image: c.image.map(|i| i.to_string()),
        container: Some(c.id.clone()),
        locked,
        ..Facts::default()
    };
    let overlay = view(Stack { lowers, data_only: Vec::new(), upper: writable }, options(o))?;
    Ok(Built { overlay, facts, locks, exclusive: true })
}

/// The layers below a container's own, bottom first.
fn below(store: &Store, c: &Container) -> Result<Vec<Layer>, CliError> {
    let Some(top) = c.parent else { return Ok(Vec::new()) };
    // its image may have gone since
    let known = c.image.and_then(|image| layers_of(store, &image).ok());
    let layers = match known.filter(|chains| chains.last() == Some(&top)) {
        Some(chains) => store.stack(&chains),
        None => store.chain(&top),
    };
    layers.map_err(|e| no_store(&e))
}

fn in_use(c: &Container) -> CliError {
    let name = c.name.as_deref().unwrap_or_else(|| short(&c.id));
    CliError::message(format!("container {name} is mounted read-write already"))
        .hint("stratafs mounts shows where; -o ro mounts it once more to read")
}

/// The part of an id that people see.
pub(in crate::cli) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
