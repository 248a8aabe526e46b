//! OCI layouts, as a directory or in a tar: `index.json` and `blobs/ALGORITHM/HEX`.
//!
//! Source: OCI image-spec `image-layout.md`.

use super::archive::Archive;
use super::blob::{self, Content, FileRange, LayerBlob, open_regular};
use super::config::CONFIG_MAX;
use super::manifest::{
    Descriptor, Document, INDEX_DEPTH_MAX, Index, MANIFEST_MAX, Manifest, MediaType,
};
use super::source::Found;
use super::{ImageConfig, ImageError, Platform, SourceConfig, SourceImage};
use crate::id::Digest;
use crate::name::printable;
use crate::reference::Reference;
use crate::sys::Dir;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const DOCUMENTS_MAX: usize = 10_000;

/// Where a layout lies.
#[derive(Debug)]
pub(super) enum Layout<'a> {
    Dir(&'a Dir),
    Archive(&'a Archive),
}

/// What is wanted of a layout.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The platform that was asked for, or this machine's.
    pub(super) platform: &'a Platform,
    /// Whether it was asked for.
    pub(super) strict: bool,
    /// The name to give to images that are known by a tag only.
    pub(super) stem: Option<&'a str>,
    /// How many documents were read, so that nested indexes cannot multiply without end.
    pub(super) documents: Cell<usize>,
}

/// Reads the images of the layout. If `index.json` lists one image for several platforms, only
/// the best of them counts.
pub(super) fn open(layout: &Layout<'_>, wanted: &Wanted<'_>) -> Result<Vec<Found>, ImageError> {
    layout.check_version()?;
    let bytes = layout
        .small(INDEX.as_bytes(), MANIFEST_MAX)?
        .ok_or_else(|| ImageError::Missing(INDEX.to_owned()))?;
    let Document::Index(index) = Document::parse(&bytes, INDEX, "")? else {
        return Err(ImageError::document(INDEX, "it is a manifest, not an index"));
    };
    let mut out: Vec<Found> = Vec::new();
    let mut unfit = None;
    let chosen = choose(&index, wanted.platform);
    for descriptor in &chosen {
        let broken = |e: ImageError| {
            let digest = descriptor.digest.to_string();
            e.of_image(raw_name(descriptor).unwrap_or(&digest), chosen.len())
        };
        match layout.resolve(descriptor, wanted, 0) {
            Ok(Some((digest, manifest))) => {
                let name = name_of(descriptor, wanted.stem);
                let mut whole = out.iter_mut().flatten();
                match whole.find(|i| i.manifest_digest.as_ref() == Some(&digest)) {
                    Some(same) => same.references.extend(name),
                    None => {
                        let image = layout.image(digest, &manifest, descriptor, name, wanted);
                        out.push(image.map_err(broken));
                    }
                }
            }
            Ok(None) => {}
            Err(e @ ImageError::NoPlatform { .. }) => unfit = Some(e),
            Err(e) => out.push(Err(broken(e))),
        }
    }
    match unfit {
        Some(e) if out.is_empty() => Err(e),
        None if out.is_empty() && index.manifests.iter().any(Descriptor::may_be_image) => {
            Err(no_platform(&index, wanted.platform))
        }
        _ => Ok(out),
    }
}

/// Returns the descriptors to read: of those with one name that tell their platform only the best.
fn choose<'a>(index: &'a Index, platform: &Platform) -> Vec<&'a Descriptor> {
    let mut best: HashMap<Option<&str>, (u32, usize)> = HashMap::new();
    let images = || index.manifests.iter().enumerate().filter(|(_, d)| d.may_be_image());
    for (i, d) in images() {
        if let Some(rank) = d.platform.as_ref().and_then(|p| platform.rank(p)) {
            let slot = best.entry(raw_name(d)).or_insert((rank, i));
            *slot = (*slot).min((rank, i));
        }
    }
    let kept = |i: usize, d: &Descriptor| {
        d.platform.is_none() || best.get(&raw_name(d)).is_some_and(|(_, b)| *b == i)
    };
    images().filter(|(i, d)| kept(*i, d)).map(|(_, d)| d).collect()
}

fn raw_name(d: &Descriptor) -> Option<&str> {
    [CONTAINERD_NAME, REF_NAME].iter().find_map(|k| d.annotations.get(*k)).map(String::as_str)
}

/// Returns the reference that a descriptor's annotations give; one that is no valid name is
/// ignored, for the image can still be had under another.
fn name_of(d: &Descriptor, stem: Option<&str>) -> Option<Reference> {
    let text = raw_name(d)?;
    let parsed = if text.contains(['/', ':']) {
        text.parse::<Reference>()
    } else {
        match stem {
            // skopeo users write the image's name where the tag belongs
            Some(stem) if stem != text => stem.parse::<Reference>().and_then(|r| r.with_tag(text)),
            _ => text.parse::<Reference>(),
        }
    };
    match parsed {
        Ok(r) => Some(r.or_latest()),
        Err(e) => {
            log::warn!("{INDEX}: {e}");
            None
        }
    }
}

fn no_platform(index: &Index, wanted: &Platform) -> ImageError {
    ImageError::NoPlatform { wanted: wanted.to_string(), offered: index.platforms() }
}

impl Layout<'_> {
    /// Returns the content of a small file of the layout, or `None` if there is none.
    fn small(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let what = printable(path);
        match self {
            Layout::Archive(a) => a.file(path).map(|(_, r)| r.read_small(&what, limit)).transpose(),
            Layout::Dir(d) => {
                let Some(file) = open_regular(d, path)? else { return Ok(None) };
                let len = file.stat().map_err(ImageError::io(&what))?.size;
                FileRange { file: Arc::new(file), offset: 0, len }
                    .read_small(&what, limit)
                    .map(Some)
            }
        }
    }

    fn check_version(&self) -> Result<(), ImageError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            image_layout_version: String,
        }
        let Some(bytes) = self.small(LAYOUT.as_bytes(), MANIFEST_MAX)? else {
            return Err(ImageError::Missing(LAYOUT.to_owned()));
        };
        let v: Version =
            serde_json::from_slice(&bytes).map_err(|e| ImageError::document(LAYOUT, e))?;
        if !v.image_layout_version.starts_with("1.") {
            let why = format!("version {:?}, only 1.x is known", v.image_layout_version);
            return Err(ImageError::document(LAYOUT, why));
        }
        Ok(())
    }

    /// Reads a blob that is to be parsed, and checks it.
    fn document(&self, d: &Descriptor, limit: u64) -> Result<Vec<u8>, ImageError> {
        let what = d.digest.to_string();
        if d.size > limit {
            return Err(ImageError::TooLarge { what, limit });
        }
        if let Some(bytes) = self.small(&blob_path(&d.digest), limit)? {
            blob::check(&bytes, &d.digest, d.size)?;
            return Ok(bytes);
        }
        d.embedded()?.ok_or_else(|| ImageError::Missing(format!("blob {what}")))
    }

    /// Follows a descriptor to a manifest; `None` if it leads to no image.
    fn resolve(
        &self,
        d: &Descriptor,
        wanted: &Wanted<'_>,
        depth: u32,
    ) -> Result<Option<(Digest, Manifest)>, ImageError> {
        if depth > INDEX_DEPTH_MAX {
            return Err(ImageError::TooMany {
                what: "indexes within each other",
                limit: INDEX_DEPTH_MAX as usize,
            });
        }
        wanted.documents.set(wanted.documents.get() + 1);
        if wanted.documents.get() > DOCUMENTS_MAX {
            return Err(ImageError::TooMany {
                what: "manifests and indexes",
                limit: DOCUMENTS_MAX,
            });
        }
        let bytes = self.document(d, MANIFEST_MAX)?;
        match Document::parse(&bytes, &format!("manifest {}", d.digest), &d.media_type)? {
            Document::Manifest(m) => Ok(m.is_image.then(|| (d.digest.clone(), *m))),
            Document::Index(index) => {
                for inner in index.select(wanted.platform) {
                    if let Some(found) = self.resolve(inner, wanted, depth + 1)? {
                        return Ok(Some(found));
                    }
                }
                Err(no_platform(&index, wanted.platform))
            }
        }
    }

    fn image(
        &self,
        digest: Digest,
        manifest: &Manifest,
        top: &Descriptor,
        name: Option<Reference>,
        wanted: &Wanted<'_>,
    ) -> Result<SourceImage, ImageError> {
        let what = format!("config {}", manifest.config.digest);
        let bytes = self.document(&manifest.config, CONFIG_MAX)?;
        let parsed = ImageConfig::parse(&bytes, &what)?;
        if wanted.strict
            && !parsed.os.is_empty()
            && wanted.platform.rank(&parsed.platform()).is_none()
        {
            return Err(ImageError::NoPlatform {
                wanted: wanted.platform.to_string(),
                offered: printable(parsed.platform().to_string().as_bytes()),
            });
        }
        let count = manifest.layers.len();
        if count != parsed.diff_ids.len() {
            let why = format!("{count} layers, but the config has {}", parsed.diff_ids.len());
            return Err(ImageError::document(format!("manifest {digest}"), why));
        }
        let mut layers = Vec::with_capacity(count);
        for (d, diff_id) in manifest.layers.iter().zip(&parsed.diff_ids) {
            if !d.media_type.is_empty() && MediaType::of(&d.media_type) != MediaType::Layer {
                let why = format!("a layer of the unknown media type {:?}", d.media_type);
                return Err(ImageError::document(format!("manifest {digest}"), why));
            }
            layers.push(LayerBlob {
                diff_id: Some(*diff_id),
                digest: Some(d.digest.clone()),
                size: Some(d.size),
                name: d.digest.to_string(),
                content: self.content(d)?,
            });
        }
        Ok(SourceImage {
            references: name.into_iter().collect(),
            config: SourceConfig::Received { bytes, parsed },
            layers,
            label: digest.to_string(),
            manifest_digest: Some(digest),
            ref_name: raw_name(top).map(str::to_owned),
        })
    }

    fn content(&self, d: &Descriptor) -> Result<Content, ImageError> {
        let path = blob_path(&d.digest);
        Ok(match self {
            Layout::Archive(a) => match a.file(&path) {
                Some((_, range)) => Content::Range(range),
                None => match d.embedded()? {
                    Some(bytes) => Content::Embedded(bytes.into()),
                    None => Content::Absent,
                },
            },
            Layout::Dir(dir) => match d.embedded()? {
                Some(bytes) => Content::Embedded(bytes.into()),
                None => Content::InLayout((*dir).clone(), path),
            },
        })
    }
}

fn blob_path(d: &Digest) -> Vec<u8> {
    format!("blobs/{}/{}", d.algorithm(), d.hex()).into_bytes()
}

/// Returns whether a directory or archive that answers `has` looks like a layout.
pub(super) fn looks_like(has: impl Fn(&[u8]) -> bool) -> bool {
    has(LAYOUT.as_bytes()) && has(INDEX.as_bytes())
}
