//! From what the user names to layers that can be inspected: an image, a container, a live mount
//! point, or directories.

use super::live::{self, Live, Record};
use super::mount_options::MountOptions;
use super::stack::{self, Found};
use super::{CliError, Context};
use crate::fuse::FS_TYPE;
use crate::id::{CacheId, ChainId, ImageId};
use crate::image::ImageConfig;
use crate::index::{Marks, ScanOptions, scan_now};
use crate::indexes::IndexedLayer;
use crate::inspect::{LayerKind, LayerView, Layers};
use crate::marker::Dialect;
use crate::name::printable;
use crate::store::{Container, Store, StoreError};
use crate::sys::{self, Dir, Identity};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layers that a TARGET means.
#[derive(Debug)]
pub(super) struct Target {
    /// What it is, for a heading.
    pub(super) title: String,
    pub(super) layers: Layers,
}

/// Finds the layers of `name`, or of the directories that `-o` names.
pub(super) fn resolve(
    name: Option<&OsStr>,
    options: &[OsString],
    context: &Context,
) -> Result<Target, CliError> {
    let o = MountOptions::parse(options).map_err(|e| CliError::usage(e.to_string()))?;
    let name = match (name, o.names_directories()) {
        (Some(_), true) => {
            return Err(CliError::usage("either an image, container or mount, or -o lowerdir="));
        }
        (None, true) => return directories(o.upper.as_deref(), &o.lowers),
        (None, false) => {
            return Err(CliError::usage("what is meant: an image, a container or a mount point")
                .hint("or directories: -o lowerdir=TOP:..:BOTTOM[,upperdir=UPPER]"));
        }
        (Some(name), false) => name,
    };
    if let Some(target) = mounted(Path::new(name))? {
        return Ok(target);
    }
    let text = name.to_str().ok_or_else(|| {
        CliError::message(format!("{}: not mounted by us", printable(name.as_bytes())))
    })?;
    if text.contains('/') && Path::new(name).is_dir() {
        return Err(CliError::message(format!(
            "nothing of ours is mounted on {}",
            printable(name.as_bytes())
        ))
        .hint("stratafs mounts shows what is; -o lowerdir= takes plain directories"));
    }
    let store = Store::open(&context.root, false).map_err(|e| stack::no_store(&e))?;
    match stack::find(&store, text)? {
        Found::Image(id) => of_image(&store, text, &id),
        Found::Container(c) => of_container(&store, &c),
    }
}

/// Splits the path of a file in one of our mounts into the mount point and the rest.
pub(super) fn split_mounted(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let path = std::path::absolute(path).ok()?;
    let ours = |p: &&Path| sys::mount_at(p).is_some_and(|m| m.fs_type == FS_TYPE);
    let point = path.ancestors().find(ours)?;
    Some((point.to_owned(), path.strip_prefix(point).ok()?.to_owned()))
}

/// Finds what our mount at `path` is made of; `None` if none of ours is there.
fn mounted(path: &Path) -> Result<Option<Target>, CliError> {
    live_at(path)?.map(|live| of_record(&live.record)).transpose()
}

/// Finds the record of our mount at `path`; `None` if none of ours is there.
fn live_at(path: &Path) -> Result<Option<Live>, CliError> {
    // a name without a slash can be a directory too, so the table of mounts decides
    let at = sys::mount_at(path)
        .or_else(|| path.canonicalize().ok().and_then(|real| sys::mount_at(&real)));
    let Some(mount) = at.filter(|m| m.fs_type == FS_TYPE) else { return Ok(None) };
    let live = live::find(&mount.mount_point, &mount.device).ok_or_else(|| {
        CliError::message(format!(
            "{}: what is mounted there is known only to the user who mounted it",
            path.display()
        ))
    })?;
    Ok(Some(live))
}

fn of_record(record: &Record) -> Result<Target, CliError> {
    let Some(root) = &record.root else {
        return directories(record.upper.as_deref(), &record.lowers);
    };
    let store = Store::open(root, false).map_err(|e| stack::no_store(&e))?;
    match (&record.container, &record.image) {
        (Some(id), _) => {
            let c = store.find_container(id).map_err(|e| stack::no_store(&e))?;
            of_container(&store, &c)
        }
        (None, Some(id)) => {
            let id: ImageId = id.parse().map_err(|e| CliError::failed("the live mount", &e))?;
            of_image(&store, record.source.trim_start_matches("image:"), &id)
        }
        (None, None) => Err(CliError::message("the record of the live mount names no layers")),
    }
}

/// Finds the layers of a container by its name or id, or of what is mounted there.
pub(super) fn container(name: &OsStr, context: &Context) -> Result<Target, CliError> {
    if let Some(target) = mounted(Path::new(name))? {
        return Ok(target);
    }
    let (store, c) = stored_container(name, context)?;
    of_container(&store, &c)
}

/// Finds a container of a store by its name or id, or by its live mount point.
pub(super) fn stored_container(
    name: &OsStr,
    context: &Context,
) -> Result<(Store, Container), CliError> {
    let text = printable(name.as_bytes());
    let (root, id) = match live_at(Path::new(name))?.map(|live| live.record) {
        None => (context.root.clone(), text),
        Some(Record { root: Some(root), container: Some(id), .. }) => (root, id),
        Some(_) => {
            return Err(CliError::message(format!(
                "{text}: what is mounted there is no container"
            ))
            .hint("stratafs containers shows what there is"));
        }
    };
    let store = Store::open(&root, false).map_err(|e| stack::no_store(&e))?;
    let container = store.find_container(&id).map_err(|e| stack::no_store(&e))?;
    Ok((store, container))
}

fn directories(upper: Option<&Path>, lowers: &[PathBuf]) -> Result<Target, CliError> {
    let kinds = std::iter::once(LayerKind::Upper).take(usize::from(upper.is_some()));
    let kinds = kinds.chain(std::iter::repeat(LayerKind::Directory));
    let paths = upper.into_iter().chain(lowers.iter().map(|p| p.as_path()));
    let layers = kinds.zip(paths).map(|(kind, path)| {
        let dir = Dir::open(path)
            .map_err(|e| CliError::message(format!("cannot open {}: {e}", path.display())))?;
        let name = || printable(path.as_os_str().as_bytes());
        let layer = scanned(kind, dir, ScanOptions::default(), name)?;
        Ok(LayerView { path: Some(path.to_owned()), ..layer })
    });
    let layers = layers.collect::<Result<Vec<_>, CliError>>()?;
    Ok(Target { title: "directories".to_owned(), layers: Layers::new(layers) })
}

/// Reads a directory in overlay form, however large it is.
fn scanned(
    kind: LayerKind,
    files: Dir,
    options: ScanOptions,
    name: impl Fn() -> String,
) -> Result<LayerView, CliError> {
    let index = scan_now(&files, options).map_err(|e| CliError::failed(name(), &e))?;
    Ok(LayerView { files: Some(files), ..LayerView::new(kind, Arc::new(index)) })
}

/// Returns what an image's config says.
pub(super) fn config(store: &Store, id: &ImageId) -> Result<ImageConfig, CliError> {
    let raw = store
        .image_config(id)
        .map_err(|e| stack::no_store(&e))?
        .ok_or_else(|| stack::no_store(&StoreError::NoImageId(*id)))?;
    ImageConfig::parse(&raw, &id.to_string())
        .map_err(|e| CliError::failed("the image cannot be used", &e))
}

fn of_image(store: &Store, name: &str, id: &ImageId) -> Result<Target, CliError> {
    let config = config(store, id)?;
    let top = ChainId::of_stack(&config.diff_ids).pop();
    let layers = chain(store, top.as_ref(), Some(&config))?;
    let title = format!("image {} ({})", printable(name.as_bytes()), stack::short(&id.hex()));
    Ok(Target { title, layers: Layers::new(layers) })
}

fn of_container(store: &Store, c: &Container) -> Result<Target, CliError> {
    let one = |kind, cache: &CacheId| {
        let dir = store.diff_dir(cache).map_err(|e| stack::no_store(&e))?;
        let name = || format!("overlay2/{cache}/diff");
        let owner = dir.stat_self().map_err(|e| CliError::failed(name(), &e))?.uid;
        // what looks like a mark of another kind was set by who used the container
        let marks = Marks::Of(Dialect::of_upper(owner, Identity::current().privileged));
        let layer = scanned(kind, dir, ScanOptions { marks, ..ScanOptions::default() }, name)?;
        Ok(LayerView { cache: Some(cache.clone()), ..layer })
    };
    let mut layers = vec![one(LayerKind::Upper, &c.mount)?];
    if let Some(init) = &c.init {
        layers.push(one(LayerKind::Init, init)?);
    }
    // a container outlives its image, and one of dockerd's does not name it
    let config = match &c.image {
        Some(id) => config(store, id)
            .inspect_err(|e| log::info!("container {}: {e}", c.id))
            .ok()
            .filter(|k| ChainId::of_stack(&k.diff_ids).pop() == c.parent),
        None => None,
    };
    layers.extend(chain(store, c.parent.as_ref(), config.as_ref())?);
    let title = match &c.name {
        Some(name) => format!("container {name} ({})", stack::short(&c.id)),
        None => format!("container {}", stack::short(&c.id)),
    };
    Ok(Target { title, layers: Layers::new(layers) })
}

/// The layers of an image, top first.
fn chain(
    store: &Store,
    top: Option<&ChainId>,
    config: Option<&ImageConfig>,
) -> Result<Vec<LayerView>, CliError> {
    let Some(top) = top else { return Ok(Vec::new()) };
    let layers = stack::indexed(store, top)?;
    let views = layers.into_iter().enumerate().map(|(i, IndexedLayer { layer, index })| {
        let created_by = config.and_then(|c| c.history_of(i)).and_then(|h| h.created_by.clone());
        // only the form of marks is asked of it, which may stay unknown
        let files = store.diff_dir(&layer.cache).ok();
        LayerView {
            chain: Some(layer.chain),
            diff: Some(layer.diff),
            cache: Some(layer.cache),
            size: Some(layer.size),
            created_by,
            files,
            ..LayerView::new(LayerKind::Image, index)
        }
    });
    let mut views: Vec<LayerView> = views.collect();
    views.reverse();
    Ok(views)
}
