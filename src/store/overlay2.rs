//! `overlay2/`: the directories of layers, their short names, and what lies below each.

use super::{Store, StoreError, files, layout};
use crate::id::CacheId;
use crate::sys::{Dir, Errno, Node, random_bytes};

/// Length of a short name. Docker's reason: 128 times `l/NAME:` fit one page of mount options.
const LINK_LEN: usize = 26;

impl Store {
    /// Opens `overlay2`, in which the directories of all layers are.
    pub fn caches_dir(&self) -> Result<Dir, StoreError> {
        let path = layout::OVERLAY2;
        self.dir.open_dir_beneath(path.as_bytes()).map_err(|e| self.io("open", path, e))
    }

    /// Opens `overlay2/CACHE-ID`.
    pub fn cache_dir(&self, cache: &CacheId) -> Result<Dir, StoreError> {
        let path = format!("{}/{cache}", layout::OVERLAY2);
        self.dir.open_dir_beneath(path.as_bytes()).map_err(|e| self.io("open", &path, e))
    }

    /// Opens `overlay2/CACHE-ID/diff`, the layer's files.
    pub fn diff_dir(&self, cache: &CacheId) -> Result<Dir, StoreError> {
        let path = format!("{}/{cache}/diff", layout::OVERLAY2);
        self.dir.open_dir_beneath(path.as_bytes()).map_err(|e| self.io("open", &path, e))
    }

    /// Finds the directory at `path` of a layer's files; `None` if there is no such name.
    ///
    /// # Errors
    /// The layer's files are not there, or cannot be looked at.
    pub fn dir_of_layer(&self, cache: &CacheId, path: &str) -> Result<Option<Node>, StoreError> {
        match self.diff_dir(cache)?.node_beneath(path.as_bytes()) {
            Ok(node) => Ok(Some(node)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(self.io_in_layer(cache, path, e)),
        }
    }

    /// An error in looking for a file of a layer.
    pub(super) fn io_in_layer(&self, cache: &CacheId, path: &str, e: Errno) -> StoreError {
        self.io("open", &format!("{}/{cache}/diff/{path}", layout::OVERLAY2), e)
    }

    /// Makes `overlay2/CACHE-ID` with an empty `diff`, and opens both.
    pub(super) fn make_cache(&self, cache: &CacheId) -> Result<(Dir, Dir), StoreError> {
        let at = |e| self.io("make", &format!("{}/{cache}", layout::OVERLAY2), e);
        let overlay2 = self.place_to_write(layout::OVERLAY2)?;
        let dir = files::new_dir(&overlay2, cache.as_str(), layout::CACHE_MODE).map_err(at)?;
        let diff = files::new_dir(&dir, "diff", layout::DIFF_MODE).map_err(at)?;
        Ok((dir, diff))
    }

    /// Writes what a new layer's directory holds beside `diff`. Done twice, it is a layer upon
    /// the second parent.
    pub(super) fn furnish_cache(
        &self,
        dir: &Dir,
        cache: &CacheId,
        parent: Option<&CacheId>,
    ) -> Result<(), StoreError> {
        let at = |e| self.io("write", &format!("{}/{cache}", layout::OVERLAY2), e);
        if dir.stat(b"link") == Err(Errno::NOENT) {
            let link = random_link();
            // first the file, so that the sweep finds the symlink
            files::put(dir, "link", link.as_bytes(), layout::FILE_MODE).map_err(at)?;
            let target = format!("../{cache}/diff");
            self.place_to_write(layout::LINKS)?
                .symlink(target.as_bytes(), link.as_bytes())
                .map_err(at)?;
        }
        if let Some(parent) = parent {
            files::make_dir(dir, "work", layout::WORK_MODE).map_err(at)?;
            let lower = self.lower_upon(parent)?;
            files::put(dir, "lower", lower.as_bytes(), layout::FILE_MODE).map_err(at)?;
        }
        Ok(())
    }

    /// Returns the `lower` of a layer upon `parent`: its link, then its own `lower`, top first.
    fn lower_upon(&self, parent: &CacheId) -> Result<String, StoreError> {
        let at = format!("{}/{parent}", layout::OVERLAY2);
        let dir = self.cache_dir(parent)?;
        let link = self
            .text(&dir, &at, "link")?
            .filter(|l| is_link(l))
            .ok_or_else(|| self.corrupt(&format!("{at}/link"), "it holds no short name"))?;
        Ok(match self.text(&dir, &at, "lower")? {
            Some(lower) => format!("l/{link}:{lower}"),
            None => format!("l/{link}"),
        })
    }

    /// Writes `committed`: from now on nobody mounts this layer as an upper one.
    pub(super) fn mark_committed(&self, cache: &CacheId) -> Result<(), StoreError> {
        match files::create(&self.cache_dir(cache)?, "committed", b"", layout::PRIVATE_MODE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(self.io("write", &format!("{}/{cache}/committed", layout::OVERLAY2), e)),
        }
    }

    pub(super) fn is_committed(&self, cache: &CacheId) -> Result<bool, StoreError> {
        match self.cache_dir(cache)?.stat(b"committed") {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.io("stat", &format!("{}/{cache}/committed", layout::OVERLAY2), e)),
        }
    }

    /// Removes `overlay2/CACHE-ID` and its short name. Missing parts are no error.
    pub(super) fn remove_cache(&self, cache: &CacheId) -> Result<(), StoreError> {
        let path = format!("{}/{cache}", layout::OVERLAY2);
        let at = |e| self.io("remove", &path, e);
        let (Some(overlay2), Some(dir)) = (self.place(layout::OVERLAY2)?, self.place(&path)?)
        else {
            return Ok(());
        };
        let link = self.text(&dir, &path, "link").ok().flatten().filter(|l| is_link(l));
        if let (Some(link), Some(links)) = (link, self.place(layout::LINKS)?) {
            // only a symlink that leads to this very layer
            let target = format!("../{cache}/diff");
            if links.readlink(link.as_bytes()).is_ok_and(|t| t == target.as_bytes()) {
                links.unlink(link.as_bytes()).map_err(at)?;
            }
        }
        overlay2.remove_tree(cache.as_str().as_bytes()).map_err(at)
    }
}

fn random_link() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bytes: [u8; LINK_LEN] = random_bytes();
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect()
}

/// Returns whether a text can be a short name: never a path.
fn is_link(text: &str) -> bool {
    text.len() == LINK_LEN && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}
