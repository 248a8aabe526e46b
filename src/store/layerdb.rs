//! `layerdb/sha256`: the layers, by ChainID.

use super::{MAX_DEPTH, Store, StoreError, files, layout};
use crate::id::{CacheId, ChainId, DiffId, Hash};
use crate::sys::{Dir, Errno};
use std::collections::{HashMap, HashSet};

/// A layer upon the layers below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its identity.
    pub chain: ChainId,
    /// SHA-256 of its tar stream.
    pub diff: DiffId,
    /// The layer below, unless this is a bottom layer.
    pub parent: Option<ChainId>,
    /// Its directory under `overlay2/`.
    pub cache: CacheId,
    /// Bytes of its files alone: directories not counted, each inode once.
    pub size: u64,
}

impl Store {
    /// Returns a layer, or `None` if it is not in the store.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a file is missing or malformed, or if the ChainID is not that
    /// of the recorded parent and DiffID.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>, StoreError> {
        match self.place(layout::LAYERS)? {
            Some(dir) => self.read_layer(&dir, chain),
            None => Ok(None),
        }
    }

    fn read_layer(&self, layers: &Dir, chain: &ChainId) -> Result<Option<Layer>, StoreError> {
        let hex = chain.hex();
        let at = format!("{}/{hex}", layout::LAYERS);
        let dir = match layers.open_dir(hex.as_bytes()) {
            Ok(d) => d,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.io("open", &at, e)),
        };
        let missing = |name| self.corrupt(&format!("{at}/{name}"), "it is missing");
        let diff: DiffId = self.parsed(&dir, &at, "diff")?.ok_or_else(|| missing("diff"))?;
        let size = self.parsed(&dir, &at, "size")?.ok_or_else(|| missing("size"))?;
        let cache = self.parsed(&dir, &at, "cache-id")?.ok_or_else(|| missing("cache-id"))?;
        let parent: Option<ChainId> = self.parsed(&dir, &at, "parent")?;
        if ChainId::next(parent.as_ref(), &diff) != *chain {
            return Err(self.corrupt(&at, "its ChainID is not that of its parent and DiffID"));
        }
        Ok(Some(Layer { chain: *chain, diff, parent, cache, size }))
    }

    /// Returns a layer and all below it, bottom first.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] if one is missing, [`StoreError::TooDeep`] beyond
    /// [`MAX_DEPTH`]. A cycle cannot pass the check of [`Store::layer`].
    pub fn chain(&self, top: &ChainId) -> Result<Vec<Layer>, StoreError> {
        let _lock = self.read_lock()?;
        self.chain_unlocked(top)
    }

    pub(super) fn chain_unlocked(&self, top: &ChainId) -> Result<Vec<Layer>, StoreError> {
        let dir = self.place(layout::LAYERS)?.ok_or(StoreError::NoLayer(*top))?;
        let mut out = Vec::new();
        let mut next = Some(*top);
        while let Some(chain) = next {
            if out.len() == MAX_DEPTH {
                return Err(StoreError::TooDeep(out.len() + 1));
            }
            let layer = self.read_layer(&dir, &chain)?.ok_or(StoreError::NoLayer(chain))?;
            next = layer.parent;
            out.push(layer);
        }
        out.reverse();
        Ok(out)
    }

    /// Returns all layers whose files and parents are whole, sorted by ChainID. Others are
    /// skipped with a debug message, as dockerd does.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let _lock = self.read_lock()?;
        let Some(dir) = self.place(layout::LAYERS)? else { return Ok(Vec::new()) };
        let mut read = HashMap::new();
        for name in self.names(layout::LAYERS)? {
            let Some(chain) = Hash::from_hex(&name).map(ChainId::new) else { continue };
            match self.read_layer(&dir, &chain) {
                Ok(Some(layer)) => {
                    read.insert(chain, layer);
                }
                Ok(None) => {}
                Err(e) => log::debug!("layer {chain} is skipped: {e}"),
            }
        }
        let mut whole = HashSet::new();
        for start in read.keys() {
            let mut walked = Vec::new();
            let mut next = Some(*start);
            while let Some(layer) = next.and_then(|c| read.get(&c)) {
                if whole.contains(&layer.chain) {
                    next = None;
                    break;
                }
                walked.push(layer.chain);
                next = layer.parent;
            }
            match next {
                None => whole.extend(walked),
                Some(missing) => {
                    log::debug!("layer {start} is skipped: layer {missing} below it is missing");
                }
            }
        }
        let mut out: Vec<Layer> = read.into_values().filter(|l| whole.contains(&l.chain)).collect();
        out.sort_by_key(|l| l.chain);
        Ok(out)
    }

    /// Returns the name of a layer's directory under `overlay2/`, which is all that a chain known
    /// before leaves to be read.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`], [`StoreError::Corrupt`].
    pub fn cache_of(&self, chain: &ChainId) -> Result<CacheId, StoreError> {
        let at = format!("{}/{}", layout::LAYERS, chain.hex());
        let dir = self.layer_dir(chain)?;
        self.parsed(&dir, &at, "cache-id")?
            .ok_or_else(|| self.corrupt(&format!("{at}/cache-id"), "it is missing"))
    }

    /// Writes a file of ours beside a layer's entry, in one step for everybody who runs now. After
    /// a crash it may be empty or cut short: only for what can be lost.
    ///
    /// # Errors
    /// The layer is missing, or this user may not write there.
    pub fn keep_beside(&self, chain: &ChainId, name: &str, data: &[u8]) -> Result<(), StoreError> {
        let at = |e| self.io("write", &format!("{}/{}/{name}", layout::LAYERS, chain.hex()), e);
        let dir = self.layer_dir(chain)?;
        for left in dir.list().map_err(at)?.iter().filter(|e| files::is_our_temporary(&e.name)) {
            // of one who was killed; one who still writes it has lost nothing but the writing
            dir.unlink(&left.name).map_err(at)?;
        }
        files::replace_in_cache(&dir, name, data, layout::FILE_MODE).map_err(at)
    }

    /// Opens a layer's directory in layerdb, where `tar-split.json.gz` and `stratafs.index` are.
    pub fn layer_dir(&self, chain: &ChainId) -> Result<Dir, StoreError> {
        let path = format!("{}/{}", layout::LAYERS, chain.hex());
        self.place(&path)?.ok_or(StoreError::NoLayer(*chain))
    }
}
