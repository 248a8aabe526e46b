//! Handles on the layers through which no other mount is seen.
//!
//! The kernel's overlayfs looks at its layers through private copies of their mounts. Who may do
//! that does it here too; an ordinary user's view takes care by itself
//! ([`Options::layers_apart`](crate::overlay::Options)).

use crate::id::CacheId;
use crate::store::{Store, StoreError};
use crate::sys::{self, Dir, Errno};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Moves handles to private copies of their mounts, as long as that works.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// One handle at least could not be moved.
    failed: bool,
    /// This user may not move any.
    refused: bool,
}

impl Apart {
    /// Returns whether all handles were moved.
    pub(super) fn all(&self) -> bool {
        !self.failed
    }

    /// Returns handles for reading lower layers: nothing can be written through them. The paths are
    /// without symlinks.
    ///
    /// What many layers have in common above them is copied once, where it is one mount: a copy for
    /// each would be most of what a mount of hundreds costs.
    pub(super) fn layers(&mut self, layers: Vec<(PathBuf, Dir)>) -> Vec<Dir> {
        let copy = match &layers[..] {
            [] | [_] => None,
            [(first, _), others @ ..] => {
                let above = |a: &&Path| others.iter().all(|(path, _)| path.starts_with(a));
                first.ancestors().find(above).and_then(|common| Copy::of(common, true, true).ok())
            }
        };
        let of_copy = |path: &Path, dir: &Dir| copy.as_ref()?.find(path, dir).ok();
        let open =
            |(path, dir): (PathBuf, Dir)| of_copy(&path, &dir).unwrap_or_else(|| self.layer(dir));
        layers.into_iter().map(open).collect()
    }

    fn layer(&mut self, dir: Dir) -> Dir {
        if self.refused {
            return dir;
        }
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
        self.refused = matches!(e, Errno::PERM | Errno::NOSYS);
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

/// A private copy of the mount that a directory lies in, from that directory on.
struct Copy {
    of: PathBuf,
    mount: u64,
    copy: Dir,
}

impl Copy {
    fn of(path: &Path, read_only: bool, noatime: bool) -> sys::Result<Copy> {
        let dir = Dir::open(path)?;
        let copy = sys::open_apart(&dir, read_only, noatime)?;
        Ok(Copy { of: path.to_owned(), mount: sys::mount_id(&dir)?, copy })
    }

    /// Finds the directory that lies at `path` and that `old` is a handle of. What is of another
    /// mount is not in the copy, or without that mount's own ways (owners, access times).
    fn find(&self, path: &Path, old: &Dir) -> sys::Result<Dir> {
        if sys::mount_id(old)? != self.mount {
            return Err(Errno::XDEV);
        }
        let rest = path.strip_prefix(&self.of).map_err(|_| Errno::XDEV)?;
        same(self.copy.open_dir_beneath(rest.as_os_str().as_bytes())?, old)
    }
}

fn pair(upper: &(&Path, Dir), work: &(&Path, Dir), noatime: bool) -> sys::Result<(Dir, Dir)> {
    let common = upper.0.ancestors().find(|a| work.0.starts_with(a)).ok_or(Errno::XDEV)?;
    let copy = Copy::of(common, false, noatime)?;
    Ok((copy.find(upper.0, &upper.1)?, copy.find(work.0, &work.1)?))
}
