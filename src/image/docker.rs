//! docker-archive: what `docker save`, podman and skopeo write. All three generations have a
//! `manifest.json` that names the config and the layers; nothing else of them is needed.

use super::archive::Archive;
use super::blob::{self, Content, LayerBlob};
use super::config::CONFIG_MAX;
use super::manifest::{LAYERS_MAX, MANIFEST_MAX};
use super::source::Found;
use super::{ImageConfig, ImageError, SourceConfig, SourceImage};
use crate::id::Digest;
use crate::name::printable;
use crate::reference::Reference;
use serde::Deserialize;

const MANIFEST: &str = "manifest.json";
const IMAGES_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads all images of the archive; one that cannot be read does not stop the others.
pub(super) fn open(archive: &Archive) -> Result<Vec<Found>, ImageError> {
    archive.check_count()?;
    let entries = entries(archive)?;
    let name = |e: &Entry| e.repo_tags.iter().flatten().next().unwrap_or(&e.config).clone();
    let one = |e: &Entry| image(archive, e).map_err(|x| x.of_image(&name(e), entries.len()));
    Ok(entries.iter().map(one).collect())
}

/// Returns, for each image, the digest under which its config lies and its names: for archives
/// that hold an OCI layout too.
pub(super) fn names(archive: &Archive) -> Result<Vec<(Digest, Vec<Reference>)>, ImageError> {
    let mut out = Vec::new();
    for e in entries(archive)? {
        if let Some(digest) = blob_digest(e.config.as_bytes()) {
            out.push((digest, references(&e)?));
        }
    }
    Ok(out)
}

fn entries(archive: &Archive) -> Result<Vec<Entry>, ImageError> {
    let (_, range) = archive
        .file(MANIFEST.as_bytes())
        .ok_or_else(|| ImageError::Missing(MANIFEST.to_owned()))?;
    let bytes = range.read_small(MANIFEST, MANIFEST_MAX)?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|e| ImageError::document(MANIFEST, e))?;
    if entries.len() > IMAGES_MAX {
        return Err(ImageError::TooMany { what: "images of the archive", limit: IMAGES_MAX });
    }
    Ok(entries)
}

fn references(entry: &Entry) -> Result<Vec<Reference>, ImageError> {
    let tags = entry.repo_tags.iter().flatten().filter(|t| *t != "<none>:<none>");
    tags.map(|t| match t.parse::<Reference>() {
        Ok(r) => Ok(r.or_latest()),
        Err(e) => Err(ImageError::document(format!("{MANIFEST}, RepoTags"), e)),
    })
    .collect()
}

fn image(archive: &Archive, entry: &Entry) -> Result<SourceImage, ImageError> {
    let what = printable(entry.config.as_bytes());
    let (at, range) = archive
        .file(entry.config.as_bytes())
        .ok_or_else(|| ImageError::Missing(format!("the config {what}")))?;
    let bytes = range.read_small(&what, CONFIG_MAX)?;
    if let Some(digest) = blob_digest(&at) {
        blob::check(&bytes, &digest, range.len)?;
    } else if let Some(digest) = named_digest(&at)
        && !digest.matches(&bytes)
    {
        // Docker takes such an image too: its id is what the bytes give
        log::warn!("{what} was edited: its content has another digest than its name says");
    }
    let parsed = ImageConfig::parse(&bytes, &what)?;
    let names = entry.layers.as_deref().unwrap_or_default();
    if names.len() > LAYERS_MAX {
        return Err(ImageError::TooMany { what: "layers", limit: LAYERS_MAX });
    }
    if names.len() != parsed.diff_ids.len() {
        return Err(ImageError::document(
            MANIFEST,
            format!("{} layers, but the config has {}", names.len(), parsed.diff_ids.len()),
        ));
    }
    let layers = names.iter().zip(&parsed.diff_ids).map(|(name, diff_id)| {
        let found = archive.file(name.as_bytes());
        LayerBlob {
            diff_id: Some(*diff_id),
            digest: found.as_ref().and_then(|(at, _)| blob_digest(at)),
            size: found.as_ref().map(|(_, range)| range.len),
            name: printable(name.as_bytes()),
            content: found.map_or(Content::Absent, |(_, range)| Content::Range(range)),
        }
    });
    Ok(SourceImage {
        references: references(entry)?,
        layers: layers.collect(),
        label: what,
        config: SourceConfig::Received { bytes, parsed },
        manifest_digest: None,
        ref_name: None,
    })
}

/// Returns the digest of a member that lies where an OCI layout keeps its blobs.
fn blob_digest(name: &[u8]) -> Option<Digest> {
    let text = std::str::from_utf8(name).ok()?;
    let (algorithm, hex) = text.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Returns the digest of a config that lies under its own, `HEX.json`.
fn named_digest(name: &[u8]) -> Option<Digest> {
    let hex = std::str::from_utf8(name).ok()?.strip_suffix(".json")?;
    format!("sha256:{hex}").parse().ok()
}
