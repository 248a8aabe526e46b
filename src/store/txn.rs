//! Adding layers: stage, make durable, show by one rename.
//!
//! The steps for one image, and what a kill after each leaves for the sweep:
//!
//! 1. `layerdb/tmp/write-set-stratafs-CACHE-ID/` with `cache-id` in it: an empty write set.
//! 2. `overlay2/CACHE-ID/diff`, filled by the caller; found by the write set's name.
//! 3. `link`, `l/LINK`, `work`, `lower`, and the files of layerdb: the same.
//! 4. syncfs: once for all layers that are committed together.
//! 5. If the layer below has no `committed` yet, an empty journal file
//!    `write-set-stratafs-PARENT-CHAIN.parent`: the sweep finishes step 7, if step 6 was reached.
//! 6. The write set becomes `sha256/CHAIN`, bottom first. This is the commit.
//! 7. `sha256/` is fsynced, `committed` written in the parent, the journal removed.

use super::{
    DOCKER_MAX_DEPTH, ImportLock, Layer, MAX_DEPTH, Store, StoreError, files, layout, sweep,
};
use crate::id::{CacheId, ChainId, DiffId};
use crate::sys::{Dir, Errno, RenameFlags};
use std::sync::Once;

/// A layer in the making. Dropped without [`LayerTxn::commit`], it was never there.
///
/// It holds the import lock, so that nobody sweeps it away: one that is forgotten
/// ([`std::mem::forget`]) keeps the lock until the process ends.
#[derive(Debug)]
pub struct LayerTxn {
    store: Store,
    _lock: ImportLock,
    cache: CacheId,
    write_set: String,
    meta: Dir,
    cache_dir: Dir,
    diff: Dir,
    armed: bool,
}

/// A filled [`LayerTxn`] with what is known of its content, for [`Store::commit_layers`].
#[derive(Debug)]
pub struct StagedLayer {
    /// The staged files.
    pub txn: LayerTxn,
    /// SHA-256 of the layer's tar stream.
    pub diff: DiffId,
    /// Bytes of its files, as [`Layer::size`].
    pub size: u64,
}

impl Store {
    /// Begins a layer. Any number can be in the making at once.
    pub fn begin_layer(&self, lock: &ImportLock) -> Result<LayerTxn, StoreError> {
        let cache = CacheId::random();
        let write_set = format!("{}{cache}", layout::WRITE_SET);
        let made = self.make_write_set(&write_set, &cache).and_then(|meta| {
            let (cache_dir, diff) = self.make_cache(&cache)?;
            Ok((meta, cache_dir, diff))
        });
        match made {
            Ok((meta, cache_dir, diff)) => Ok(LayerTxn {
                store: self.clone(),
                _lock: lock.clone(),
                cache,
                write_set,
                meta,
                cache_dir,
                diff,
                armed: true,
            }),
            Err(e) => {
                sweep::discard(self, &write_set);
                Err(e)
            }
        }
    }

    fn make_write_set(&self, name: &str, cache: &CacheId) -> Result<Dir, StoreError> {
        let at = |e| self.io("make", &format!("{}/{name}", layout::TMP), e);
        let tmp = self.place_to_write(layout::TMP)?;
        let meta = files::new_dir(&tmp, name, layout::LAYER_MODE).map_err(at)?;
        files::put(&meta, "cache-id", cache.as_str().as_bytes(), layout::FILE_MODE).map_err(at)?;
        Ok(meta)
    }

    /// Commits layers that lie upon each other, the first upon `parent`, with one sync for all.
    /// Returns them as they are in the store: where a layer exists by now, the new one is dropped
    /// and the old returned.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] if `parent` is missing, [`StoreError::TooDeep`]; on any error the
    /// layers not yet shown are removed, and those below remain, which is a whole store.
    pub fn commit_layers(
        &self,
        parent: Option<&ChainId>,
        staged: Vec<StagedLayer>,
    ) -> Result<Vec<Layer>, StoreError> {
        let below = match parent {
            Some(p) => self.chain_unlocked(p)?,
            None => Vec::new(),
        };
        check_depth(below.len() + staged.len())?;
        let first = below.into_iter().next_back();

        let mut plan: Vec<(Layer, Option<LayerTxn>)> = Vec::with_capacity(staged.len());
        for StagedLayer { txn, diff, size } in staged {
            let parent = plan.last().map(|(l, _)| l).or(first.as_ref());
            let chain = ChainId::next(parent.map(|l| &l.chain), &diff);
            if let Some(old) = self.layer(&chain)? {
                plan.push((old, None));
                continue;
            }
            let layer = Layer {
                chain,
                diff,
                parent: parent.map(|l| l.chain),
                cache: txn.cache.clone(),
                size,
            };
            txn.furnish(&layer, parent.map(|l| &l.cache))?;
            if plan.last().is_some_and(|(_, below)| below.is_some()) {
                // the layer below is as new as this one, so nobody sees it yet
                self.mark_committed(&plan[plan.len() - 1].0.cache)?;
            }
            plan.push((layer, Some(txn)));
        }
        if plan.iter().all(|(_, txn)| txn.is_none()) {
            return Ok(plan.into_iter().map(|(l, _)| l).collect());
        }
        self.sync()?;
        self.show(first, plan)
    }

    /// Steps 5 to 7: makes prepared layers visible, bottom first.
    pub(super) fn show(
        &self,
        first: Option<Layer>,
        plan: Vec<(Layer, Option<LayerTxn>)>,
    ) -> Result<Vec<Layer>, StoreError> {
        let lock = self.write_lock()?;
        let layers = self.place_to_write(layout::LAYERS)?;
        let tmp = self.place_to_write(layout::TMP)?;
        let mut shown: Vec<Layer> = Vec::with_capacity(plan.len());
        let mut journals = Vec::new();
        let mut rest = plan.into_iter();
        for (layer, txn) in rest.by_ref() {
            let Some(txn) = txn else {
                shown.push(layer);
                continue;
            };
            if let Some(parent) = shown.last().or(first.as_ref()) {
                journals.extend(self.open_journal(&tmp, parent)?);
            }
            match txn.rename(&tmp, &layers, &layer.chain)? {
                true => shown.push(layer),
                false => {
                    // dockerd was faster: what we staged above lies upon the wrong directory
                    let old = self.layer(&layer.chain)?.ok_or(StoreError::NoLayer(layer.chain))?;
                    shown.push(old);
                    break;
                }
            }
        }
        layers.sync().map_err(|e| self.io("sync", layout::LAYERS, e))?;
        for j in journals {
            self.close_journal(&tmp, j)?;
        }
        drop(lock);
        let above: Vec<StagedLayer> = rest
            .filter_map(|(l, txn)| txn.map(|txn| StagedLayer { txn, diff: l.diff, size: l.size }))
            .collect();
        if !above.is_empty() {
            let parent = shown.last().map(|l| l.chain);
            shown.extend(self.commit_layers(parent.as_ref(), above)?);
        }
        Ok(shown)
    }

    /// Step 5: notes that `parent` is about to get its first child, unless it has one.
    pub(super) fn open_journal(
        &self,
        tmp: &Dir,
        parent: &Layer,
    ) -> Result<Option<Journal>, StoreError> {
        if self.is_committed(&parent.cache)? {
            return Ok(None);
        }
        let name = format!("{}{}{}", layout::WRITE_SET, parent.chain.hex(), layout::JOURNAL);
        files::put(tmp, &name, b"", layout::PRIVATE_MODE)
            .map_err(|e| self.io("write", &format!("{}/{name}", layout::TMP), e))?;
        Ok(Some(Journal { name, cache: parent.cache.clone() }))
    }

    /// Step 7.
    pub(super) fn close_journal(&self, tmp: &Dir, journal: Journal) -> Result<(), StoreError> {
        self.mark_committed(&journal.cache)?;
        tmp.unlink(journal.name.as_bytes())
            .map_err(|e| self.io("remove", &format!("{}/{}", layout::TMP, journal.name), e))
    }
}

/// An entry of the journal: a layer that lacks `committed` and is getting its first child.
#[derive(Debug)]
pub(super) struct Journal {
    name: String,
    cache: CacheId,
}

impl LayerTxn {
    /// Returns the layer's directory, mode 0755, which the caller fills.
    #[must_use]
    pub fn diff(&self) -> &Dir {
        &self.diff
    }

    /// Returns the write set, where the caller puts `tar-split.json.gz` and `stratafs.index`.
    /// Their permissions become 0644 at commit.
    #[must_use]
    pub fn meta(&self) -> &Dir {
        &self.meta
    }

    /// Returns the name of the layer's directory under `overlay2/`.
    #[must_use]
    pub fn cache(&self) -> &CacheId {
        &self.cache
    }

    /// Makes the layer durable and visible upon `parent`; `size` as [`Layer::size`]. If the
    /// layer exists by now, the new one is dropped and the old returned.
    ///
    /// Several layers of one image are committed faster by [`Store::commit_layers`]. Docker
    /// refuses chains of more than [`DOCKER_MAX_DEPTH`] layers; this warns once.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] if `parent` is missing, [`StoreError::TooDeep`] beyond
    /// [`MAX_DEPTH`] layers.
    pub fn commit(
        self,
        parent: Option<&ChainId>,
        diff: &DiffId,
        size: u64,
    ) -> Result<Layer, StoreError> {
        let store = self.store.clone();
        let chain = ChainId::next(parent, diff);
        let mut layers =
            store.commit_layers(parent, vec![StagedLayer { txn: self, diff: *diff, size }])?;
        layers.pop().ok_or(StoreError::NoLayer(chain))
    }

    /// Step 3.
    pub(super) fn furnish(
        &self,
        layer: &Layer,
        parent: Option<&CacheId>,
    ) -> Result<(), StoreError> {
        let at = |e| self.store.io("write", &format!("{}/{}", layout::TMP, self.write_set), e);
        self.store.furnish_cache(&self.cache_dir, &self.cache, parent)?;
        let put = |name, text: String| {
            files::put(&self.meta, name, text.as_bytes(), layout::FILE_MODE).map_err(at)
        };
        put("diff", layer.diff.to_string())?;
        put("size", layer.size.to_string())?;
        if let Some(p) = layer.parent {
            put("parent", p.to_string())?;
        }
        for entry in self.meta.list().map_err(at)? {
            // the caller's files came with the umask
            let node = self.meta.node(&entry.name).map_err(at)?;
            if node.stat().map_err(at)?.permissions() != layout::FILE_MODE {
                node.chmod(layout::FILE_MODE).map_err(at)?;
            }
        }
        Ok(())
    }

    /// Step 6; false if the layer is there already.
    fn rename(mut self, tmp: &Dir, layers: &Dir, chain: &ChainId) -> Result<bool, StoreError> {
        let (from, to) = (self.write_set.clone(), chain.hex());
        // a plain rename: onto a directory that holds something it fails
        match tmp.rename(from.as_bytes(), layers, to.as_bytes(), RenameFlags::Replace) {
            Ok(()) => {
                self.armed = false;
                Ok(true)
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(e) => Err(self.store.io("commit", &format!("{}/{to}", layout::LAYERS), e)),
        }
    }

    /// Leaves everything as a killed process would.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.armed = false;
    }
}

impl Drop for LayerTxn {
    fn drop(&mut self) {
        if self.armed {
            sweep::discard(&self.store, &self.write_set);
        }
    }
}

pub(super) fn check_depth(depth: usize) -> Result<(), StoreError> {
    static WARNED: Once = Once::new();
    if depth > MAX_DEPTH {
        return Err(StoreError::TooDeep(depth));
    }
    if depth > DOCKER_MAX_DEPTH {
        WARNED.call_once(|| {
            log::warn!(
                "an image of {depth} layers: Docker refuses more than {DOCKER_MAX_DEPTH}, \
                 so dockerd could not use this one"
            );
        });
    }
    Ok(())
}
