//! Handles on the layers through which no other mount is seen.
//!
//! The kernel's overlayfs looks at its layers through private copies of their mounts. Who may do
//! that does it here too; an ordinary user's view takes care by itself
//! ([`Options::layers_apart`](crate::overlay::Options)).

use crate::id::CacheId;
use crate::store::{Store, StoreError};
use crate::sys::{self, Dir, Errno};
use std::path::Path;

/// Moves handles to private copies of their mounts, as long as that works.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// One handle at least could not be moved.
    failed: bool,
}

impl Apart {
    /// Returns whether all handles were moved.
    pub(super) fn all(&self) -> bool {
        !self.failed
    }

    /// Returns a handle for reading a lower layer: nothing can be written through it.
    pub(super) fn layer(&mut self, dir: Dir) -> Dir {
        match sys::open_apart(&dir, true, true) {
            Ok(d) => d,
            Err(e) => self.stay(dir, e),
        }
    }

    /// Returns handles for the upper and the work directory. Both must lie in one copy, for the
    /// kernel moves and links nothing between two mounts: so their common parent is copied. The
    /// paths are without symlinks.
    /// With `noatime`, reading changes no access time.
    pub(super) fn pair(
        &mut self,
        upper: (&Path, Dir),
        work: (&Path, Dir),
        noatime: bool,
    ) -> (Dir, Dir) {
        match pair(&upper, &work, noatime) {
            Ok(pair) => pair,
            Err(e) => (self.stay(upper.1, e), work.1),
        }
    }

    fn stay(&mut self, dir: Dir, e: Errno) -> Dir {
        log::debug!("no private copy of a layer's mount: {e}");
        self.failed = true;
        dir
    }
}

/// Opens the files of a store's layers.
#[derive(Debug)]
pub(super) struct StoreFiles {
    store: Store,
    /// `overlay2` in a private copy of its mount, for all layers: what copies cost is paid once.
    copy: Option<Dir>,
}

impl StoreFiles {
    /// Of a view that may write: the kernel reads no lower file of it by itself, and the handles
    /// keep access times.
    pub(super) fn plain(store: &Store) -> StoreFiles {
        StoreFiles { store: store.clone(), copy: None }
    }

    /// Of a read-only view, whose large files the kernel may read by itself (passthrough): it
    /// opens them anew, so that only their mount can keep access times.
    pub(super) fn apart(store: &Store) -> Result<StoreFiles, StoreError> {
        let copy = sys::open_apart(&store.caches_dir()?, true, true);
        let copy = copy.inspect_err(|e| log::debug!("no private copy of the store's mount: {e}"));
        Ok(StoreFiles { copy: copy.ok(), ..StoreFiles::plain(store) })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Opens the directory of a layer's files.
    pub(super) fn diff(&self, cache: &CacheId) -> Result<Dir, StoreError> {
        let dir = self.store.diff_dir(cache)?;
        let Some(copy) = &self.copy else { return Ok(dir) };
        let path = format!("{cache}/diff");
        let found = copy.open_dir_beneath(path.as_bytes()).and_then(|new| same(new, &dir));
        // a mount of its own, which is not in the copy
        Ok(found.or_else(|_| sys::open_apart(&dir, true, true)).unwrap_or(dir))
    }
}

/// Returns `new` if it is the same directory as `old`: else another mount lies on the way, and what
/// is in the copy is what that mount covers.
fn same(new: Dir, old: &Dir) -> sys::Result<Dir> {
    let (a, b) = (new.stat_self()?, old.stat_self()?);
    if (a.dev, a.ino) == (b.dev, b.ino) { Ok(new) } else { Err(Errno::XDEV) }
}

fn pair(upper: &(&Path, Dir), work: &(&Path, Dir), noatime: bool) -> sys::Result<(Dir, Dir)> {
    let (u, w) = (upper.0, work.0);
    let common = u.ancestors().find(|a| w.starts_with(a)).ok_or(Errno::XDEV)?;
    let top = sys::open_apart(&Dir::open(common)?, false, noatime)?;
    let find = |path: &Path, old: &Dir| {
        use std::os::unix::ffi::OsStrExt as _;
        let rest = path.strip_prefix(common).map_err(|_| Errno::XDEV)?;
        same(top.open_dir_beneath(rest.as_os_str().as_bytes())?, old)
    };
    Ok((find(u, &upper.1)?, find(w, &work.1)?))
}
