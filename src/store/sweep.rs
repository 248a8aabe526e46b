//! Removing what a killed importer left, and nothing else.
//!
//! Ours are: names in `layerdb/tmp` that begin with `write-set-stratafs-`; the `overlay2/`
//! directories that these name, unless a layer or a container uses them; short names that lead to
//! those; temporary files with our mark. All are made under the import lock, so whoever holds it
//! knows that their makers are gone. dockerd takes no such lock, but none of its names match.

use super::{ImportLock, Store, StoreError, files, layout};
use crate::id::{CacheId, ChainId, Hash};
use crate::sys::{Dir, Errno};
use std::collections::HashSet;

/// Sweeps the store. `_lock` proves that no importer is at work.
pub(super) fn sweep(store: &Store, _lock: &ImportLock) -> Result<(), StoreError> {
    sweep_write_sets(store)?;
    sweep_temporaries(store, layout::IMAGE)?;
    sweep_temporaries(store, layout::CONTENT)?;
    for place in [layout::METADATA, layout::DIFFID_BY_DIGEST] {
        for name in store.names(place)? {
            sweep_temporaries(store, &format!("{place}/{name}"))?;
        }
    }
    Ok(())
}

fn sweep_write_sets(store: &Store) -> Result<(), StoreError> {
    let ours: Vec<String> = store
        .names(layout::TMP)?
        .into_iter()
        .filter(|n| n.starts_with(layout::WRITE_SET))
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let Some(tmp) = store.place(layout::TMP)? else { return Ok(()) };
    let used = used_caches(store)?;
    for name in ours {
        log::debug!("removing {name}, which a killed import left");
        match journal_chain(&name) {
            Some(parent) => finish(store, &tmp, &name, &parent)?,
            None => remove_write_set(store, &tmp, &name, &used)?,
        }
    }
    Ok(())
}

/// Removes a write set and what belongs to it, when its transaction ends without a commit. A
/// failure is only logged: the next sweep tries again.
pub(super) fn discard(store: &Store, write_set: &str) {
    let removed = store.place(layout::TMP).and_then(|tmp| match tmp {
        Some(tmp) => remove_write_set(store, &tmp, write_set, &HashSet::new()),
        None => Ok(()),
    });
    if let Err(e) = removed {
        log::warn!("the next import will remove what this one leaves: {e}");
    }
}

/// The write set goes last, since it is what names the rest.
fn remove_write_set(
    store: &Store,
    tmp: &Dir,
    name: &str,
    used: &HashSet<String>,
) -> Result<(), StoreError> {
    for cache in caches_of(store, tmp, name) {
        if used.contains(cache.as_str()) {
            log::warn!("{name} names overlay2/{cache}, which is in use and stays");
        } else {
            store.remove_cache(&cache)?;
        }
    }
    tmp.remove_tree(name.as_bytes())
        .map_err(|e| store.io("remove", &format!("{}/{name}", layout::TMP), e))
}

/// Returns the directories under `overlay2/` that a write set of ours names: by its own name,
/// which cannot be torn by a crash, and by its files.
fn caches_of(store: &Store, tmp: &Dir, name: &str) -> Vec<CacheId> {
    let mut ids = HashSet::new();
    if let Some(id) = name.strip_prefix(layout::WRITE_SET) {
        ids.insert(id.to_owned());
        ids.insert(format!("{id}-init"));
    }
    if let Ok(set) = tmp.open_dir(name.as_bytes()) {
        for file in ["cache-id", "mount-id", "init-id"] {
            ids.extend(store.text(&set, name, file).ok().flatten());
        }
    }
    let of_ours = |id: &String| Hash::from_hex(id.strip_suffix("-init").unwrap_or(id)).is_some();
    let mut caches: Vec<CacheId> =
        ids.into_iter().filter(of_ours).filter_map(|id| id.parse().ok()).collect();
    caches.sort();
    caches
}

/// Returns what layers and containers use, damaged ones and those being removed included.
fn used_caches(store: &Store) -> Result<HashSet<String>, StoreError> {
    let mut used = HashSet::new();
    for (place, names) in
        [(layout::LAYERS, &["cache-id"][..]), (layout::MOUNTS, &["mount-id", "init-id"])]
    {
        for entry in store.names(place)? {
            let at = format!("{place}/{entry}");
            let dir = match store.place(&at) {
                Ok(Some(d)) => d,
                // gone since, or no directory
                Ok(None) | Err(StoreError::Io { errno: Errno::NOTDIR | Errno::LOOP, .. }) => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            for name in names {
                match store.text(&dir, &at, name) {
                    Ok(text) => used.extend(text),
                    // names nothing that could be ours
                    Err(StoreError::Corrupt { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(used)
}

fn journal_chain(name: &str) -> Option<ChainId> {
    let hex = name.strip_prefix(layout::WRITE_SET)?.strip_suffix(layout::JOURNAL)?;
    Hash::from_hex(hex).map(ChainId::new)
}

/// Finishes a commit that was interrupted after its rename: its parent gets `committed`.
fn finish(store: &Store, tmp: &Dir, name: &str, parent: &ChainId) -> Result<(), StoreError> {
    let has_child = store.layers()?.iter().any(|l| l.parent.as_ref() == Some(parent))
        || store.containers()?.iter().any(|c| c.parent.as_ref() == Some(parent));
    if let (true, Some(layer)) = (has_child, store.layer(parent)?) {
        store.mark_committed(&layer.cache)?;
    }
    tmp.unlink(name.as_bytes())
        .map_err(|e| store.io("remove", &format!("{}/{name}", layout::TMP), e))
}

fn sweep_temporaries(store: &Store, place: &str) -> Result<(), StoreError> {
    let dir = match store.place(place) {
        Ok(Some(d)) => d,
        Ok(None) | Err(StoreError::Io { errno: Errno::NOTDIR | Errno::LOOP, .. }) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in dir.list().map_err(|e| store.io("list", place, e))? {
        if files::is_our_temporary(&entry.name) {
            dir.unlink(&entry.name).map_err(|e| store.io("sweep", place, e))?;
        }
    }
    Ok(())
}
