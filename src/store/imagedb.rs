//! `imagedb`: image configs by id, and the few facts that Docker keeps beside them.

use super::{ImportLock, MAX_CONFIG, Store, StoreError, clock, files, layout};
use crate::id::{ChainId, DiffId, Hash, ImageId};
use crate::reference::Reference;
use crate::sys::{Errno, Time};
use serde::Deserialize;

impl Store {
    /// Returns the ids of all images, sorted. Their configs may still prove damaged.
    pub fn image_ids(&self) -> Result<Vec<ImageId>, StoreError> {
        let names = self.names(layout::CONTENT)?;
        Ok(names.iter().filter_map(|n| Hash::from_hex(n)).map(ImageId::new).collect())
    }

    /// Returns an image's config, byte for byte, or `None` if there is no such image.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if its SHA-256 is not the id.
    pub fn image_config(&self, id: &ImageId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(dir) = self.place(layout::CONTENT)? else { return Ok(None) };
        let path = || format!("{}/{}", layout::CONTENT, id.hex());
        match files::read(&dir, &id.hex(), MAX_CONFIG) {
            Ok(Some(data)) if Hash::of(&data) != id.hash() => {
                Err(self.corrupt(&path(), "its SHA-256 is not its name"))
            }
            Ok(data) => Ok(data),
            Err(Errno::FBIG) => Err(self.corrupt(&path(), "it is too long for a config")),
            Err(e) => Err(self.io("read", &path(), e)),
        }
    }

    /// Stores an image's config; its layers must be in the store. Storing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::BadConfig`] if it is no image config, [`StoreError::ImageWithoutLayer`].
    pub fn put_image(&self, _lock: &ImportLock, config: &[u8]) -> Result<ImageId, StoreError> {
        if config.len() > MAX_CONFIG {
            return Err(StoreError::BadConfig(format!("it is longer than {MAX_CONFIG} bytes")));
        }
        let diffs = diff_ids(config).map_err(StoreError::BadConfig)?;
        for chain in ChainId::of_stack(&diffs) {
            self.layer(&chain)?.ok_or(StoreError::ImageWithoutLayer(chain))?;
        }
        let id = ImageId::new(Hash::of(config));
        let dir = self.place_to_write(layout::CONTENT)?;
        let _write = self.write_lock()?;
        if !matches!(self.image_config(&id), Ok(Some(_))) {
            files::replace(&dir, &id.hex(), config, layout::PRIVATE_MODE)
                .map_err(|e| self.io("write", &format!("{}/{}", layout::CONTENT, id.hex()), e))?;
        }
        Ok(id)
    }

    /// Returns when the image last got a name, if that was recorded.
    pub fn last_tagged(&self, id: &ImageId) -> Result<Option<Time>, StoreError> {
        let at = format!("{}/{}", layout::METADATA, id.hex());
        let Some(dir) = self.place(&at)? else { return Ok(None) };
        Ok(self.text(&dir, &at, "lastUpdated")?.and_then(|t| clock::parse(&t)))
    }

    /// Records that the image got a name now.
    pub(super) fn set_last_tagged(&self, id: &ImageId) -> Result<(), StoreError> {
        self.put_facts(id, &[("lastUpdated", clock::format(Time::now()).as_bytes())])
    }

    /// Records that an image was made here, of a container of `parent`.
    pub fn record_made_of(
        &self,
        _lock: &ImportLock,
        id: &ImageId,
        parent: &ImageId,
    ) -> Result<(), StoreError> {
        let _write = self.write_lock()?;
        self.put_facts(id, &[("parent", parent.to_string().as_bytes()), ("builtLocally", &[1])])
    }

    fn put_facts(&self, id: &ImageId, facts: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let at = |e| self.io("write", &format!("{}/{}", layout::METADATA, id.hex()), e);
        let metadata = self.place_to_write(layout::METADATA)?;
        let dir = files::make_dir(&metadata, &id.hex(), layout::IMAGE_FACTS_MODE).map_err(at)?;
        facts.iter().try_for_each(|(name, data)| {
            files::replace(&dir, name, data, layout::PRIVATE_MODE).map_err(at)
        })
    }

    /// Finds the image that a user means: `sha256:ID` or a whole id, else
    /// `NAME[:TAG][@DIGEST]` (tag `latest` if neither is given), else the beginning of an id,
    /// at least four hex digits.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], [`StoreError::Ambiguous`], [`StoreError::BadReference`].
    pub fn find_image(&self, text: &str) -> Result<ImageId, StoreError> {
        let _lock = self.read_lock()?;
        let missing = || StoreError::NoImage(crate::name::printable(text.as_bytes()));
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let ids = self.image_ids()?;
        if let Some(id) = Hash::from_hex(digits).map(ImageId::new) {
            return if ids.contains(&id) { Ok(id) } else { Err(missing()) };
        }
        let reference = text.parse::<Reference>();
        if let Ok(r) = &reference
            && let Some(id) = self.repositories_unlocked()?.get(&r.repository_key().1)
        {
            return Ok(id);
        }
        let found = super::with_prefix(ids.iter().map(ImageId::hex), digits);
        match found.as_slice() {
            [one] => Hash::from_hex(one).map(ImageId::new).ok_or_else(missing),
            [] => Err(reference.err().map_or_else(missing, StoreError::from)),
            _ => Err(StoreError::Ambiguous {
                what: "image",
                text: digits.to_owned(),
                candidates: found,
            }),
        }
    }
}

/// Returns the layers that a config names, bottom first.
fn diff_ids(config: &[u8]) -> Result<Vec<DiffId>, String> {
    // nothing else is looked at: what an importer has accepted must not fail here, behind its layers
    #[derive(Deserialize)]
    struct Config {
        rootfs: Option<Rootfs>,
    }
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Option<Vec<DiffId>>,
    }
    let config: Config = serde_json::from_slice(config).map_err(|e| e.to_string())?;
    Ok(config.rootfs.ok_or("it has no rootfs")?.diff_ids.unwrap_or_default())
}
