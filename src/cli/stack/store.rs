//! The layers of an image or a container of the store.

use super::apart::StoreFiles;
use super::{Built, Facts, common, lock, resolved, view};
use crate::cli::mount_options::MountOptions;
use crate::cli::root;
use crate::cli::{CliError, Context};
use crate::id::{CacheId, ChainId, ImageId};
use crate::image::ImageConfig;
use crate::index::{Kind, NodeId};
use crate::indexes::{self, IndexedLayer, IndexesError};
use crate::name::printable;
use crate::overlay::{LayerDir, Lower, Options, Stack, Upper};
use crate::store::{Container, Layer, Store, StoreError};
use crate::sys::{self, Dir, Errno, Identity, Node};
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
    store.read_ahead();
    if target.rw {
        let image = store.find_image(&target.name).map_err(|e| no_store(&e))?;
        let (container, layers) = make(&store, &image, target.container.as_deref())?;
        return of_container(&store, &container, layers, o);
    }
    match find(&store, &target.name)? {
        Found::Image(image) => of_image(&store, target, &image, o),
        Found::Container(container) => {
            let layers = chain(&store, container.parent.as_ref())?;
            of_container(&store, &container, layers, o)
        }
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
    make(&store, &id, name).map(|(container, _)| container)
}

/// Makes a container, and returns it with the layers of its image, bottom first.
fn make(
    store: &Store,
    image: &ImageId,
    name: Option<&str>,
) -> Result<(Container, Vec<IndexedLayer>), CliError> {
    let lock = store.import_lock().map_err(|e| no_store(&e))?;
    let layers = chain(store, top_layer(store, image)?.as_ref())?;
    let find = |path: &str| find_dir(store, &layers, path);
    let top = layers.last().map(|l| &l.layer);
    let container =
        store.create_container_upon(&lock, image, top, &find, name).map_err(|e| no_store(&e))?;
    Ok((container, layers))
}

/// Finds the topmost directory at `path` of an image, as the indexes tell: a whiteout, a file or an
/// opaque directory hides what is below. Layers of a store hold no redirects.
fn find_dir(
    store: &Store,
    layers: &[IndexedLayer],
    path: &str,
) -> Result<Option<Node>, StoreError> {
    'layers: for IndexedLayer { layer, index } in layers.iter().rev() {
        let mut at = NodeId::ROOT;
        for part in path.split('/') {
            match index.child(at, part.as_bytes()).and_then(|id| index.node(id)) {
                Some(node) if node.kind == Kind::Dir => at = node.id,
                Some(_) => return Ok(None),
                None if at != NodeId::ROOT && index.node(at).is_some_and(|n| n.opaque) => {
                    return Ok(None);
                }
                // a layer below may have it
                None => continue 'layers,
            }
        }
        return store.dir_of_layer(&layer.cache, path);
    }
    Ok(None)
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

fn top_layer(store: &Store, image: &ImageId) -> Result<Option<ChainId>, CliError> {
    let raw = store
        .image_config(image)
        .map_err(|e| no_store(&e))?
        .ok_or_else(|| no_store(&StoreError::NoImageId(*image)))?;
    let config = ImageConfig::parse(&raw, &image.to_string())
        .map_err(|e| CliError::failed("the image cannot be used", &e))?;
    Ok(ChainId::of_stack(&config.diff_ids).pop())
}

/// The layers of a chain, bottom first; none if there is no chain.
fn chain(store: &Store, top: Option<&ChainId>) -> Result<Vec<IndexedLayer>, CliError> {
    top.map_or(Ok(Vec::new()), |top| indexed(store, top))
}

/// The layers of a chain, bottom first. Indexes of another program's store are kept in this user's
/// cache.
pub(in crate::cli) fn indexed(store: &Store, top: &ChainId) -> Result<Vec<IndexedLayer>, CliError> {
    let failed = |e: IndexesError| CliError::failed("the layers cannot be read", &e);
    match indexes::load(store, top, None) {
        Err(IndexesError::NoPlace(_)) => {
            let cache = root::cache_dir()?;
            indexes::load(store, top, Some(&cache)).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

/// The layers for the engine, top first.
fn lowers(files: StoreFiles, layers: Vec<IndexedLayer>) -> Result<Vec<Lower>, CliError> {
    let mut top_first = layers.into_iter().rev();
    let Some(top) = top_first.next() else { return Ok(Vec::new()) };
    // of the others is known that they are there; this one tells the state of the file system
    let diff = files.diff(&top.layer.cache).map_err(|e| no_store(&e))?;
    let files = Arc::new(files);
    let mut out = vec![Lower::Indexed { index: top.index, diff: diff.into() }];
    out.extend(top_first.map(|IndexedLayer { layer, index }| {
        let files = files.clone();
        Lower::Indexed { index, diff: LayerDir::later(move || open_later(&files, &layer)) }
    }));
    Ok(out)
}

/// Opens the files of a layer long after its index was read: it may have been replaced since.
fn open_later(files: &StoreFiles, layer: &Layer) -> sys::Result<Dir> {
    let opened = files.store().cache_of(&layer.chain).and_then(|cache| {
        if cache == layer.cache {
            files.diff(&cache)
        } else {
            Err(StoreError::NoLayer(layer.chain))
        }
    });
    opened.map_err(|e| {
        log::error!("layer {}: its files are not those that were mounted: {e}", layer.chain);
        match e {
            StoreError::Io { errno, .. } if errno != Errno::NOENT => errno,
            _ => Errno::STALE,
        }
    })
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
    let layers = chain(store, top_layer(store, image)?.as_ref())?;
    if layers.is_empty() {
        return Err(CliError::message(format!("image {image} has no layers")));
    }
    let lowers = lowers(StoreFiles::apart(store).map_err(|e| no_store(&e))?, layers)?;
    let facts = Facts {
        source: format!("image:{}", target.name).into(),
        root: Some(store.root().to_owned()),
        image: Some(image.to_string()),
        ..Facts::default()
    };
    let overlay = view(Stack { lowers, data_only: Vec::new(), upper: None }, options(o))?;
    Ok(Built { overlay, facts, locks: Vec::new(), exclusive: true, known: None })
}

fn of_container(
    store: &Store,
    c: &Container,
    layers: Vec<IndexedLayer>,
    o: &MountOptions,
) -> Result<Built, CliError> {
    let read_only = o.read_only == Some(true);
    let files = if read_only {
        StoreFiles::apart(store).map_err(|e| no_store(&e))?
    } else {
        StoreFiles::plain(store)
    };
    let diff = |cache: &CacheId| files.diff(cache).map_err(|e| no_store(&e));
    let upper = diff(&c.mount)?;
    let mut stack = Vec::new();
    let (mut locks, mut locked) = (Vec::new(), Vec::new());
    let mut writable = None;
    if read_only {
        stack.push(Lower::Plain(upper));
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
        stack.push(Lower::Plain(diff(init)?));
    }
    stack.extend(lowers(files, layers)?);
    let facts = Facts {
        source: format!("container:{}", short(&c.id)).into(),
        root: Some(store.root().to_owned()),
        image: c.image.map(|i| i.to_string()),
        container: Some(c.id.clone()),
        locked,
        ..Facts::default()
    };
    let options = Options { foreign_marks: false, ..options(o) };
    let overlay = view(Stack { lowers: stack, data_only: Vec::new(), upper: writable }, options)?;
    Ok(Built { overlay, facts, locks, exclusive: true, known: None })
}

fn in_use(c: &Container) -> CliError {
    let name = c.name.as_deref().unwrap_or_else(|| short(&c.id));
    CliError::message(format!("container {name} is mounted read-write already"))
        .hint("stratafs mounts shows where; -o ro mounts it once more to read")
        .hint("if it is mounted nowhere, an image is being made of it (stratafs commit)")
}

/// The part of an id that people see.
pub(in crate::cli) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
