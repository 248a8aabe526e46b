//! The stack file of a chain: what a mount needs of all its layers, in one place.
//!
//! It lies as [`STACK_NAME`] in the layerdb entry of the chain's uppermost layer and goes with it.
//! Nothing needs it: whoever finds it missing, damaged, another chain's or older than the store
//! reads the layers one by one and writes a new one, if the store is ours to write. dockerd knows
//! no such file.
//!
//! Without it a mount reads six small files of each layer, each in its own block of the disk and
//! each known only when the one before has been read: 7 reads a layer from a cold disk, 0.1 ms
//! and more each.
//!
//! It is believed as long as no layer has come or gone since ([`Stamps`]); the uppermost layer's
//! cache id is read and compared. Each index in it must bear the mark of its layer's cache id and
//! have the right checksum, as in a file of its own.

use super::form::{self, Form};
use super::{IndexedLayer, is_ours};
use crate::id::ChainId;
use crate::index::{INDEX_NAME, Index, IndexError};
use crate::store::{Layer, Stamps, Store, StoreError};
use crate::sys::{Errno, Mapping, OpenFlags, Time};
use std::sync::Arc;

/// Name of the stack file.
pub const STACK_NAME: &str = "stratafs.stack";

/// The fewest layers that get one.
const FEWEST: usize = 2;

/// Of how many indexes the reading begins early: whoever opens them all does the same again.
const READ_AHEAD: usize = 16;

/// How a file is opened that may be anything.
const UNTRUSTED: OpenFlags = OpenFlags { nonblock: true, ..OpenFlags::READ };

/// A chain as it was kept.
pub(super) struct Kept {
    pub(super) layers: Vec<IndexedLayer>,
    /// Other layers have come or gone since: the next one who reads it must look closer.
    pub(super) aged: bool,
}

/// Why a stack file is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read: {0}")]
    Read(#[from] Errno),
    #[error("writable by everybody")]
    Untrusted,
    #[error("damaged, or of another version or chain")]
    Damaged,
    #[error("the store has changed")]
    Changed,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Returns a chain from its stack file; `None` if there is none that tells the truth.
pub(super) fn read(store: &Store, top: &ChainId) -> Option<Kept> {
    match try_read(store, top) {
        Ok(kept) => Some(kept),
        Err(e) => {
            log::debug!("layer {top}: {STACK_NAME} is not used: {e}");
            None
        }
    }
}

fn try_read(store: &Store, top: &ChainId) -> Result<Kept, Unusable> {
    let _lock = store.read_lock()?;
    let file = store.layer_dir(top)?.open_file(STACK_NAME.as_bytes(), UNTRUSTED, 0)?;
    if file.stat()?.mode & 0o002 != 0 {
        return Err(Unusable::Untrusted);
    }
    file.read_ahead();
    let map = Mapping::of(&file)?;
    let form = form::decode(&map).ok_or(Unusable::Damaged)?;
    let uppermost = form.layers.last().filter(|l| l.chain == *top).ok_or(Unusable::Damaged)?;
    let aged = std::thread::scope(|s| {
        let mut started = Ok(());
        if form.indexes.contains(&None) {
            let read = || read_ahead(store, &form);
            let thread = std::thread::Builder::new().name("indexes ahead".to_owned());
            started = thread.spawn_scoped(s, read).map(drop);
        }
        if let Err(e) = started {
            log::debug!("no index is read ahead: {e}");
        }
        compare_with_store(store, &form, uppermost)
    })?;
    let mut layers = Vec::with_capacity(form.layers.len());
    for (layer, place) in form.layers.into_iter().zip(form.indexes) {
        let index = match place {
            Some(place) => Index::of(map.part(place).ok_or(Unusable::Damaged)?)?,
            None => Index::open(&store.layer_dir(&layer.chain)?, INDEX_NAME)?,
        };
        layers.push(IndexedLayer { layer, index: Arc::new(index) });
    }
    // all files are on their way from the disk by now
    for IndexedLayer { layer, index } in &layers {
        super::check(index, layer)?;
    }
    Ok(Kept { layers, aged })
}

/// Has the indexes that are not in the stack file read from disk: the store is looked at meanwhile.
/// What cannot be read is for those who want it to find.
fn read_ahead(store: &Store, form: &Form) {
    let apart = form.layers.iter().zip(&form.indexes).filter(|(_, place)| place.is_none());
    for (layer, _) in apart.take(READ_AHEAD) {
        if let Ok(dir) = store.layer_dir(&layer.chain)
            && let Ok(file) = dir.open_file(INDEX_NAME, UNTRUSTED, 0)
        {
            file.read_ahead();
        }
    }
}

/// Returns whether other layers have come or gone since this was written.
///
/// # Errors
/// The chain itself is not as it was kept.
fn compare_with_store(store: &Store, form: &Form, uppermost: &Layer) -> Result<bool, Unusable> {
    let Some(same) = store.is_as_stamped(&form.layers, &form.stamps)? else {
        return Err(Unusable::Changed);
    };
    if store.cache_of(&uppermost.chain)? != uppermost.cache {
        return Err(Unusable::Changed);
    }
    // of the others it is known to be there
    store.diff_dir(&uppermost.cache)?;
    Ok(!same)
}

/// When a stack file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Unless the store has changed a moment ago.
    IfSettled,
    /// After a moment's wait, if need be.
    WhenSettled,
}

/// Writes the stack file of a chain, if the store is ours. A failure is only logged.
pub(super) fn write(store: &Store, layers: &[IndexedLayer], when: Keep) {
    let Some(top) = layers.last().filter(|_| layers.len() >= FEWEST) else { return };
    match try_write(store, &top.layer.chain, layers, when) {
        Ok(true) => {}
        Ok(false) => log::debug!("layer {}: {STACK_NAME} is not written now", top.layer.chain),
        Err(e) => log::debug!("layer {}: no {STACK_NAME}: {e}", top.layer.chain),
    }
}

fn try_write(
    store: &Store,
    top: &ChainId,
    layers: &[IndexedLayer],
    when: Keep,
) -> Result<bool, StoreError> {
    if !is_ours(store) {
        return Ok(false);
    }
    let chain: Vec<_> = layers.iter().map(|l| l.layer.clone()).collect();
    let take = || Ok::<_, StoreError>((Time::now(), store.stamps(&chain)?));
    let (mut taken, mut stamps) = take()?;
    if when == Keep::WhenSettled && !stamps.are_settled(taken) {
        Stamps::settle();
        (taken, stamps) = take()?;
    }
    // behind the stamps: a change after this look shows in them
    if !stamps.are_settled(taken) || store.chain(top)? != chain {
        return Ok(false);
    }
    let parts: Vec<_> = layers.iter().map(|l| (&l.layer, l.index.bytes())).collect();
    store.keep_beside(top, STACK_NAME, &form::encode(&parts, &stamps))?;
    Ok(true)
}
