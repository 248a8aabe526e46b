//! The indexes of a chain of layers, rebuilt where they are missing or damaged.
//!
//! An index lies beside its layer's entry in layerdb. If this user may not write there, or the
//! store is another program's, a new one is kept in a cache directory that the caller names. What
//! a mount needs of a whole chain is kept together in one more file (`kept.rs`).

mod form;
mod kept;

pub use kept::STACK_NAME;

use crate::id::ChainId;
use crate::index::{self, INDEX_NAME, Index, IndexError, Marks, ScanOptions};
use crate::name::printable;
use crate::store::{Layer, Store, StoreError};
use crate::sys::{Dir, Errno, OpenFlags};
use crate::unpack::{self, Limits, SPLIT_NAME, UnpackError};
use kept::{Keep, Kept};
use std::sync::Arc;

const LOCK: &[u8] = b"stratafs.lock";

/// Why the indexes of a chain cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IndexesError {
    /// The chain cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index of one layer is missing and cannot be made.
    #[error("layer {chain}: its index cannot be made: {source}")]
    Rebuild {
        /// The layer.
        chain: ChainId,
        /// Why.
        source: Box<RebuildError>,
    },
    /// There is no place to keep it.
    #[error(
        "layer {0} has no index, its store cannot be written by this user, and no cache directory was given"
    )]
    NoPlace(ChainId),
}

/// Why an index cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// From the layer's directory.
    #[error(transparent)]
    Scan(#[from] IndexError),
    /// From its tar-split.
    #[error(transparent)]
    Split(#[from] UnpackError),
    /// The layer's directory cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A layer of a chain with its index.
#[derive(Clone, Debug)]
pub struct IndexedLayer {
    /// The layer.
    pub layer: Layer,
    /// Its index.
    pub index: Arc<Index>,
}

/// Returns the chain whose top is `top` with its indexes, bottom first.
///
/// That the directories of the layers are as they should be is known of the uppermost one alone;
/// of the others, that none has come or gone since somebody read all of them.
///
/// # Errors
/// A layer is missing or damaged, or an index can neither be read nor made.
pub fn load(
    store: &Store,
    top: &ChainId,
    cache: Option<&Dir>,
) -> Result<Vec<IndexedLayer>, IndexesError> {
    load_and_keep(store, top, cache, Keep::IfSettled)
}

/// Makes the next [`load`] of this chain a fast one. Can take a moment longer than that.
///
/// # Errors
/// As [`load`]; that nothing could be written is none.
pub fn prepare(store: &Store, top: &ChainId) -> Result<(), IndexesError> {
    load_and_keep(store, top, None, Keep::WhenSettled).map(drop)
}

fn load_and_keep(
    store: &Store,
    top: &ChainId,
    cache: Option<&Dir>,
    keep: Keep,
) -> Result<Vec<IndexedLayer>, IndexesError> {
    let layers = match kept::read(store, top) {
        Some(Kept { layers, aged: false }) => return Ok(layers),
        Some(Kept { layers, aged: true }) => layers,
        None => one_by_one(store, top, cache)?,
    };
    kept::write(store, &layers, keep);
    Ok(layers)
}

fn one_by_one(
    store: &Store,
    top: &ChainId,
    cache: Option<&Dir>,
) -> Result<Vec<IndexedLayer>, IndexesError> {
    let mut out: Vec<IndexedLayer> = Vec::new();
    for layer in store.chain(top)? {
        let index = Arc::new(one(store, &layer, &out, cache)?);
        // a layer whose files are not there is no layer
        store.diff_dir(&layer.cache)?;
        out.push(IndexedLayer { layer, index });
    }
    Ok(out)
}

fn one(
    store: &Store,
    layer: &Layer,
    below: &[IndexedLayer],
    cache: Option<&Dir>,
) -> Result<Index, IndexesError> {
    let beside = store.layer_dir(&layer.chain)?;
    match whole(&beside, INDEX_NAME, layer) {
        Ok(index) => return Ok(index),
        Err(e) => log::debug!("layer {}: {e}", layer.chain),
    }
    // another directory under the same ChainID has another cache id
    let cached = format!("{}-{}.index", layer.chain.hex(), layer.cache);
    if let Some(dir) = cache
        && let Ok(index) = whole(dir, cached.as_bytes(), layer)
    {
        return Ok(index);
    }
    let failed = |source| IndexesError::Rebuild { chain: layer.chain, source: Box::new(source) };
    if is_ours(store) {
        match rebuild(store, layer, below, &beside, INDEX_NAME) {
            Ok(index) => return Ok(index),
            Err(e) if !is_denied(&e) => return Err(failed(e)),
            Err(e) => log::debug!("layer {}: {e}", layer.chain),
        }
    }
    let dir = cache.ok_or(IndexesError::NoPlace(layer.chain))?;
    rebuild(store, layer, below, dir, cached.as_bytes()).map_err(failed)
}

/// Opens an index that is as it was written, and of this layer: another one would show a tree that
/// never was.
fn whole(dir: &Dir, name: &[u8], layer: &Layer) -> Result<Index, IndexError> {
    let index = Index::open(dir, name)?;
    check(&index, layer)?;
    Ok(index)
}

fn check(index: &Index, layer: &Layer) -> Result<(), IndexError> {
    if index.layer() != layer.cache.mark() {
        return Err(IndexError::Damaged("it belongs to another layer"));
    }
    index.check_body()?;
    // of what the checksum has read a mount needs little
    index.let_go();
    Ok(())
}

fn rebuild(
    store: &Store,
    layer: &Layer,
    below: &[IndexedLayer],
    to: &Dir,
    name: &[u8],
) -> Result<Index, RebuildError> {
    log::info!("layer {}: making its index {}", layer.chain, printable(name));
    let diff = store.diff_dir(&layer.cache)?;
    // of an ordinary user's layer the true owners and devices are in its tar-split
    let owner = diff.stat_self().map_err(|e| IndexError::Scan(b".".to_vec(), e))?.uid;
    let split = match owner {
        0 => Err(Errno::NOENT),
        _ => store.layer_dir(&layer.chain)?.open_file(SPLIT_NAME, OpenFlags::READ, 0),
    };
    let mut builder = match split {
        Ok(file) => {
            let top_first: Vec<&Index> = below.iter().rev().map(|l| l.index.as_ref()).collect();
            let mut reader = std::io::BufReader::new(file.into_std());
            unpack::rebuild_index(&mut reader, &top_first, &Limits::OWN)?
        }
        // layers come from images, and no image has a say in where names lead
        Err(_) => {
            let believed =
                ScanOptions { override_stat: owner != 0, redirects: false, marks: Marks::All };
            index::scan(&diff, believed)?
        }
    };
    builder.tie_to(layer.cache.mark());
    builder.finish(to, name)?;
    Ok(Index::open(to, name)?)
}

/// Returns whether this program has written to the store.
fn is_ours(store: &Store) -> bool {
    Dir::open(store.root()).is_ok_and(|root| root.stat(LOCK).is_ok())
}

fn is_denied(e: &RebuildError) -> bool {
    matches!(e, RebuildError::Scan(IndexError::Write(_, Errno::ACCESS | Errno::PERM | Errno::ROFS)))
}
