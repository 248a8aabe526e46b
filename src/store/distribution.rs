//! `distribution`: which layer a downloaded blob was. Losing it costs a download, no more.

use super::{ImportLock, Store, StoreError, files, layout};
use crate::id::{DiffId, Digest};

impl Store {
    /// Records that the blob `blob` holds the layer `diff`. Made durable by the next
    /// [`Store::commit_layers`].
    pub fn record_blob(
        &self,
        _lock: &ImportLock,
        blob: &Digest,
        diff: &DiffId,
    ) -> Result<(), StoreError> {
        let path = format!("{}/{}/{}", layout::DIFFID_BY_DIGEST, blob.algorithm(), blob.hex());
        let at = |e| self.io("write", &path, e);
        let by_digest = self.place_to_write(layout::DIFFID_BY_DIGEST)?;
        let dir = files::make_dir(&by_digest, blob.algorithm(), layout::DIGEST_MODE).map_err(at)?;
        if self.diff_of_blob(blob).is_ok_and(|known| known == Some(*diff)) {
            return Ok(());
        }
        files::replace_in_cache(&dir, &blob.hex(), diff.to_string().as_bytes(), layout::FILE_MODE)
            .map_err(at)
    }

    /// Returns which layer a blob holds, if that was recorded.
    pub fn diff_of_blob(&self, blob: &Digest) -> Result<Option<DiffId>, StoreError> {
        let at = format!("{}/{}", layout::DIFFID_BY_DIGEST, blob.algorithm());
        match self.place(&at)? {
            Some(dir) => self.parsed(&dir, &at, &blob.hex()),
            None => Ok(None),
        }
    }
}
