//! `repositories.json`: which names the images have.

use super::{ImportLock, Store, StoreError, files, layout};
use crate::id::ImageId;
use crate::reference::Reference;
use crate::sys::Errno;
use serde::Serialize;
use std::collections::BTreeMap;

/// The longest `repositories.json` in bytes.
const MAX_FILE: usize = 64 << 20;

/// The names of all images: repository, to reference (`NAME:TAG` or `NAME@DIGEST`), to image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repositories {
    #[serde(rename = "Repositories")]
    by_name: BTreeMap<String, BTreeMap<String, ImageId>>,
}

impl Repositories {
    /// Parses the file's content. Every reference must belong to the repository that it is under.
    pub fn parse(json: &[u8]) -> Result<Repositories, String> {
        // a map first: serde would take an array for a struct
        let mut all: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let by_name: Option<BTreeMap<String, BTreeMap<String, ImageId>>> =
            serde_json::from_value(all.remove("Repositories").unwrap_or_default())
                .map_err(|e| e.to_string())?;
        let by_name = by_name.unwrap_or_default();
        for (name, references) in &by_name {
            let of_name = |r: &String| {
                r.strip_prefix(name.as_str()).is_some_and(|s| s.starts_with([':', '@']))
            };
            if name.is_empty() || !references.keys().all(of_name) {
                return Err("a reference does not belong to its repository".to_owned());
            }
        }
        Ok(Repositories { by_name })
    }

    /// Returns the file's content: one line, keys sorted, as Go writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // maps of strings always have a JSON form
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns the image that a whole reference (`NAME:TAG`, `NAME@DIGEST`) names.
    #[must_use]
    pub fn get(&self, reference: &str) -> Option<ImageId> {
        let after_slash = reference.rfind('/').map_or(0, |i| i + 1);
        let end = match reference.find('@') {
            Some(at) => at,
            None => after_slash + reference[after_slash..].find(':')?,
        };
        self.by_name.get(&reference[..end])?.get(reference).copied()
    }

    /// Returns all repositories with their references, sorted. The texts may be hostile.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &ImageId)>)> {
        self.by_name.iter().map(|(n, refs)| (n.as_str(), refs.iter().map(|(r, i)| (r.as_str(), i))))
    }

    /// Returns all references of an image, sorted. The texts may be hostile.
    pub fn of_image<'a>(&'a self, id: &'a ImageId) -> impl Iterator<Item = &'a str> {
        self.by_name.values().flatten().filter(move |(_, i)| *i == id).map(|(r, _)| r.as_str())
    }

    fn set(&mut self, name: &str, reference: String, id: ImageId) -> Option<ImageId> {
        self.by_name.entry(name.to_owned()).or_default().insert(reference, id)
    }
}

impl Store {
    /// Returns the names of all images. A missing file means none.
    pub fn repositories(&self) -> Result<Repositories, StoreError> {
        let _lock = self.read_lock()?;
        self.repositories_unlocked()
    }

    pub(super) fn repositories_unlocked(&self) -> Result<Repositories, StoreError> {
        let Some(dir) = self.place(layout::IMAGE)? else { return Ok(Repositories::default()) };
        let path = format!("{}/{}", layout::IMAGE, layout::REPOSITORIES);
        match files::read(&dir, layout::REPOSITORIES, MAX_FILE) {
            Ok(None) => Ok(Repositories::default()),
            Ok(Some(json)) => Repositories::parse(&json).map_err(|why| self.corrupt(&path, why)),
            Err(Errno::FBIG) => Err(self.corrupt(&path, "it is too long")),
            Err(e) => Err(self.io("read", &path, e)),
        }
    }

    /// Gives an image a name; returns the image that had it before.
    ///
    /// # Errors
    /// [`StoreError::NoImageId`] if the image is not in the store.
    pub fn tag(
        &self,
        _lock: &ImportLock,
        reference: &Reference,
        id: &ImageId,
    ) -> Result<Option<ImageId>, StoreError> {
        self.image_config(id)?.ok_or(StoreError::NoImageId(*id))?;
        let dir = self.place_to_write(layout::IMAGE)?;
        let _write = self.write_lock()?;
        let mut all = self.repositories_unlocked()?;
        let (name, key) = reference.repository_key();
        let old = all.set(&name, key, *id);
        if old != Some(*id) {
            let path = format!("{}/{}", layout::IMAGE, layout::REPOSITORIES);
            files::replace(&dir, layout::REPOSITORIES, &all.encode(), layout::PRIVATE_MODE)
                .map_err(|e| self.io("write", &path, e))?;
        }
        self.set_last_tagged(id)?;
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // as dockerd 20.10 wrote it
    const DOCKERS: &str = r#"{"Repositories":{"127.0.0.1:5000/core":{"127.0.0.1:5000/core:l8":"sha256:4bf66c50d58aa55d82b25316c9526e4791aa03608cd757b5d4a178e4236afdd0"},"busybox-like":{"busybox-like:latest":"sha256:4bf66c50d58aa55d82b25316c9526e4791aa03608cd757b5d4a178e4236afdd0"}}}"#;

    #[test]
    fn dockers_file_comes_back_byte_for_byte() {
        let r = Repositories::parse(DOCKERS.as_bytes()).unwrap();
        assert_eq!(r.encode(), DOCKERS.as_bytes());
        let id = r.get("127.0.0.1:5000/core:l8").unwrap();
        assert_eq!(
            r.of_image(&id).collect::<Vec<_>>(),
            ["127.0.0.1:5000/core:l8", "busybox-like:latest"]
        );
        assert_eq!(r.get("127.0.0.1:5000/core"), None);
    }

    #[test]
    fn hostile_files_are_errors() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "null",
            "[]",
            "{",
            r#"{"Repositories":[]}"#,
            r#"{"Repositories":{"a":{"a:b":"sha256:../../etc/passwd"}}}"#,
            r#"{"Repositories":{"a":{"b:b":"sha256:4bf66c50d58aa55d82b25316c9526e4791aa03608cd757b5d4a178e4236afdd0"}}}"#,
            r#"{"Repositories":{"a":{"a:b":7}}}"#,
            &deep,
        ] {
            assert!(Repositories::parse(bad.as_bytes()).is_err(), "{bad:.60}");
        }
        assert_eq!(Repositories::parse(b"{}").unwrap(), Repositories::default());
    }
}
