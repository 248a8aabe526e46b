//! The layer store: Docker's data root for the overlay2 graph driver, as dockerd writes it.
//!
//! `layout.rs` draws the tree. What a store promises:
//!
//! 1. *A name has its image, an image its layers, a layer its parents*: they are written in the
//!    order layers, config, name, and each becomes visible by one rename.
//! 2. *Killed at any moment, nothing is half*: what is in the making has a write set in
//!    `layerdb/tmp` whose name tells which `overlay2/` directory belongs to it; the next
//!    [`Store::import_lock`] removes both. Nothing of dockerd's is ever removed.
//! 3. *Durable before visible*: contents are synced before the rename that shows them.
//!
//! Two locks, taken in this order (`lock.rs`): the import lock, held by whoever adds to the store
//! for as long as that takes; the store lock, shared by readers and exclusive for the moments in
//! which something becomes visible. Reading needs no permission to write and makes no file, so
//! that the root of a dockerd can be read too. Writing into the root of a *running* dockerd is
//! safe for the layers, but dockerd keeps names and images in memory and will not see new ones,
//! and overwrites `repositories.json` with its own.
//!
//! Everything read back is hostile until checked: ids are parsed, ChainIDs are compared with the
//! parent and DiffID that they are made of, configs with their names.

mod clock;
mod container;
mod distribution;
mod error;
mod files;
mod imagedb;
mod init_layer;
mod layerdb;
mod layout;
mod lock;
mod overlay2;
mod repositories;
mod stamps;
mod sweep;
#[cfg(test)]
mod tests;
mod txn;

pub use clock::parse as parse_time;
pub use container::Container;
pub use error::StoreError;
pub use init_layer::FindDir;
pub use layerdb::Layer;
pub use lock::{ImportLock, ReadLock};
pub use repositories::Repositories;
pub use stamps::{Stamp, Stamps};
pub use txn::{LayerTxn, StagedLayer};

use crate::name::printable;
use crate::sys::{Dir, Errno};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most layers in one chain. Docker refuses to mount or load more than [`DOCKER_MAX_DEPTH`].
pub const MAX_DEPTH: usize = 500;

/// The most layers that Docker takes in one chain.
pub const DOCKER_MAX_DEPTH: usize = 125;

/// The longest config in bytes.
const MAX_CONFIG: usize = 16 << 20;

/// How many names of a directory are read before anybody wants them: of a large one few blocks are
/// wanted.
const LISTED_AHEAD: usize = 1 << 10;

/// An open store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<PathBuf>,
    dir: Dir,
}

impl Store {
    /// Opens the store in `root`; with `create` makes what is missing of it first.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no store and `create` is false,
    /// [`StoreError::NotWritable`] if this user may not make one there.
    pub fn open(root: &Path, create: bool) -> Result<Store, StoreError> {
        let denied = |errno| match errno {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                StoreError::NotWritable { root: root.to_owned(), errno }
            }
            _ => StoreError::Io { op: "make the store", path: root.display().to_string(), errno },
        };
        let dir = match Dir::open(root) {
            Ok(d) => d,
            Err(Errno::NOENT) if create => make_root(root).map_err(denied)?,
            Err(Errno::NOENT) => return Err(StoreError::Missing(root.to_owned())),
            Err(errno) => {
                return Err(StoreError::Io { op: "open", path: root.display().to_string(), errno });
            }
        };
        let store = Store { root: Arc::new(root.to_owned()), dir };
        if create {
            for (path, _) in layout::TREE {
                store.make_place(path).map_err(denied)?;
            }
        } else if store.place(layout::IMAGE)?.is_none() {
            return Err(StoreError::Missing(root.to_owned()));
        }
        Ok(store)
    }

    /// Begins to read from disk what whoever opens a chain wants before it is known which chain: the
    /// names of the layers and of their directories. Starts a thread. What cannot be read is for those
    /// who want it to find.
    pub fn read_ahead(&self) {
        let root = self.dir.clone();
        let read = move || {
            for path in [layout::OVERLAY2, layout::LAYERS] {
                let Ok(dir) = root.open_dir_beneath(path.as_bytes()) else { continue };
                let mut left = LISTED_AHEAD;
                let all = dir.for_each_until(|_| {
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                all.unwrap_or_default();
            }
        };
        let started = std::thread::Builder::new().name("store ahead".to_owned()).spawn(read);
        if let Err(e) = started {
            log::debug!("the store is not read ahead: {e}");
        }
    }

    /// Returns the path that the store was opened with.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes everything that was written to the store durable (syncfs(2)).
    pub fn sync(&self) -> Result<(), StoreError> {
        let sync = |d: &Dir, path| d.sync_file_system().map_err(|e| self.io("sync", path, e));
        sync(&self.dir, "")?;
        // a volume of its own, perhaps
        match self.place(layout::OVERLAY2)? {
            Some(d) if self.dev(&d)? != self.dev(&self.dir)? => sync(&d, layout::OVERLAY2),
            _ => Ok(()),
        }
    }

    fn dev(&self, dir: &Dir) -> Result<u64, StoreError> {
        dir.stat_self().map(|s| s.dev).map_err(|e| self.io("stat", "", e))
    }

    /// Opens a directory of the tree for reading; `None` if it is missing, which means empty.
    fn place(&self, path: &str) -> Result<Option<Dir>, StoreError> {
        match self.dir.open_dir_beneath(path.as_bytes()) {
            Ok(d) => Ok(Some(d)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.io("open", path, e)),
        }
    }

    /// Opens a directory of the tree for writing: makes it, and those above it, if missing.
    fn place_to_write(&self, path: &str) -> Result<Dir, StoreError> {
        match self.place(path)? {
            Some(d) => Ok(d),
            None => self.make_place(path).map_err(|e| self.io("make", path, e)),
        }
    }

    fn make_place(&self, path: &str) -> Result<Dir, Errno> {
        let mut dir = self.dir.clone();
        for (known, mode) in layout::TREE {
            let below = path.strip_prefix(known);
            if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                let name = known.rsplit_once('/').map_or(*known, |(_, name)| name);
                dir = files::make_dir(&dir, name, *mode)?;
            }
        }
        Ok(dir)
    }

    /// Returns the names in a directory of the tree that are UTF-8 and not hidden, sorted.
    fn names(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let Some(dir) = self.place(path)? else { return Ok(Vec::new()) };
        let list = dir.list().map_err(|e| self.io("list", path, e))?;
        let mut names: Vec<String> = list
            .into_iter()
            .filter_map(|e| String::from_utf8(e.name.into_vec()).ok())
            .filter(|n| !n.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Reads a file that holds one short text; white space around it is dropped.
    fn text(&self, dir: &Dir, at: &str, name: &str) -> Result<Option<String>, StoreError> {
        // `lower` of 500 layers is the longest: 29 bytes for each
        match files::read(dir, name, 64 << 10) {
            Ok(None) => Ok(None),
            Ok(Some(data)) => match String::from_utf8(data) {
                Ok(t) => Ok(Some(t.trim().to_owned())),
                Err(_) => Err(self.corrupt(&format!("{at}/{name}"), "it is not text")),
            },
            Err(Errno::FBIG) => Err(self.corrupt(&format!("{at}/{name}"), "it is too long")),
            Err(e) => Err(self.io("read", &format!("{at}/{name}"), e)),
        }
    }

    /// Reads and parses such a file.
    fn parsed<T: std::str::FromStr>(
        &self,
        dir: &Dir,
        at: &str,
        name: &str,
    ) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text(dir, at, name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|e: T::Err| {
            self.corrupt(&format!("{at}/{name}"), printable(e.to_string().as_bytes()))
        })
    }

    fn full_path(&self, path: &str) -> String {
        printable(self.root.join(path).as_os_str().as_encoded_bytes())
    }

    fn io(&self, op: &'static str, path: &str, errno: Errno) -> StoreError {
        StoreError::Io { op, path: self.full_path(path), errno }
    }

    fn corrupt(&self, path: &str, why: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.full_path(path), why: why.into() }
    }
}

/// Makes the root directory and those above it.
fn make_root(root: &Path) -> Result<Dir, Errno> {
    let name = root.file_name().and_then(|n| n.to_str()).ok_or(Errno::NOENT)?;
    let parent = match root.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent)?;
    files::make_dir(&Dir::open(parent)?, name, layout::ROOT_MODE)
}

/// Returns the ids that begin with `prefix`, if it can be the beginning of one: at least four
/// hex digits.
fn with_prefix(ids: impl Iterator<Item = String>, prefix: &str) -> Vec<String> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if prefix.len() < 4 || !prefix.bytes().all(hex) {
        return Vec::new();
    }
    ids.filter(|id| id.starts_with(prefix)).collect()
}
