//! Index, manifest and descriptor: the documents of the OCI image-spec and of Docker's
//! distribution, which differ in media types only. Parsing takes bytes; nothing here opens a file.

use super::{ImageError, Platform};
use crate::id::Digest;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Longest index or manifest in bytes.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// Most layers of an image.
pub const LAYERS_MAX: usize = 500;
/// How deep indexes may lie within each other.
pub const INDEX_DEPTH_MAX: u32 = 8;

/// What a media type says a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// A list of manifests.
    Index,
    /// One image.
    Manifest,
    /// An image's config.
    Config,
    /// A layer; which compression it has is told by its content.
    Layer,
    /// Docker's manifest of schema 1, which no one should use any more.
    Legacy,
    /// Anything else: an artifact, an attestation.
    Other,
}

impl MediaType {
    /// Returns what `text` means, in either family of names.
    #[must_use]
    pub fn of(text: &str) -> MediaType {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => MediaType::Manifest,
            "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json" => MediaType::Config,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => MediaType::Legacy,
            t if is_layer(t) => MediaType::Layer,
            _ => MediaType::Other,
        }
    }
}

fn is_layer(text: &str) -> bool {
    let suffix = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ]
    .iter()
    .find_map(|base| text.strip_prefix(base));
    // an encrypted layer has one suffix more, and is none that can be unpacked
    matches!(suffix, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

/// A reference to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// The platform of the image, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Free annotations; names of images stand here.
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Set if this is no image.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The content itself, in base64.
    #[serde(default)]
    pub data: Option<String>,
}

/// A list of manifests.
#[derive(Clone, Debug)]
pub struct Index {
    /// The manifests and indexes that it lists, in its order.
    pub manifests: Vec<Descriptor>,
}

/// One image: its config and its layers, bottom first.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The config's blob.
    pub config: Descriptor,
    /// The layers' blobs, bottom first.
    pub layers: Vec<Descriptor>,
    /// Whether this describes an image, and not an artifact in an image's clothes.
    pub is_image: bool,
}

/// Either of the two.
#[derive(Clone, Debug)]
pub enum Document {
    /// An index.
    Index(Index),
    /// A manifest.
    Manifest(Box<Manifest>),
}

fn size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let n = u64::deserialize(d)?;
    if n > i64::MAX as u64 {
        return Err(serde::de::Error::custom("the size is beyond 2^63"));
    }
    Ok(n)
}

/// `null` is the same as nothing, as Go writes empty lists and maps.
pub(super) fn or_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a document. `what` names it in errors; `claimed` is the media type that its
    /// descriptor gives, empty if unknown.
    ///
    /// # Errors
    /// It is no JSON, lacks what it needs, is both an index and a manifest, contradicts its media
    /// type, or is a manifest of schema 1.
    pub fn parse(bytes: &[u8], what: &str, claimed: &str) -> Result<Document, ImageError> {
        let bad = |why: &str| ImageError::document(what, why);
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(ImageError::TooLarge { what: what.to_owned(), limit: MANIFEST_MAX });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| ImageError::document(what, e))?;
        let said = [raw.media_type.as_str(), claimed].map(MediaType::of);
        if said.contains(&MediaType::Legacy)
            || raw.schema_version == Some(1)
            || raw.fs_layers.is_some()
        {
            return Err(bad("a Docker manifest of schema 1, which is not supported; \
                            push or save the image again with a newer tool"));
        }
        let has_manifest_fields = raw.config.is_some() || raw.layers.is_some();
        if raw.manifests.is_some() && has_manifest_fields {
            return Err(bad("it is an index and a manifest at once"));
        }
        if let Some(manifests) = raw.manifests {
            if said.contains(&MediaType::Manifest) {
                return Err(bad("it lists manifests, but its media type is that of a manifest"));
            }
            return Ok(Document::Index(Index { manifests }));
        }
        if said.contains(&MediaType::Index) {
            return Err(bad("its media type is that of an index, but it lists no manifests"));
        }
        let Some(config) = raw.config else { return Err(bad("it has no config")) };
        let layers = raw.layers.unwrap_or_default();
        if layers.len() > LAYERS_MAX {
            return Err(ImageError::TooMany { what: "layers", limit: LAYERS_MAX });
        }
        let config_is_ours =
            config.media_type.is_empty() || MediaType::of(&config.media_type) == MediaType::Config;
        let artifact = raw.artifact_type.is_some_and(|t| !t.is_empty());
        Ok(Document::Manifest(Box::new(Manifest {
            is_image: config_is_ours && !artifact,
            config,
            layers,
        })))
    }
}

impl Descriptor {
    /// Returns whether this describes how an image was built rather than an image.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(Platform::is_unknown)
    }

    /// Returns whether this can lead to an image at all.
    #[must_use]
    pub fn may_be_image(&self) -> bool {
        // a layout whose descriptors lack the type is read by what the document itself says
        let kind = MediaType::of(&self.media_type);
        let known = self.media_type.is_empty()
            || matches!(kind, MediaType::Index | MediaType::Manifest | MediaType::Legacy);
        known && !self.is_attestation() && self.artifact_type.as_deref().unwrap_or("").is_empty()
    }

    /// Returns the content that the descriptor itself carries, if it does.
    ///
    /// # Errors
    /// It is no base64, or not of the descriptor's size and digest.
    pub fn embedded(&self) -> Result<Option<Vec<u8>>, ImageError> {
        use base64::Engine as _;
        let Some(data) = &self.data else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data)
            .map_err(|e| ImageError::document(format!("data of {}", self.digest), e))?;
        super::blob::check(&bytes, &self.digest, self.size)?;
        Ok(Some(bytes))
    }
}

impl Index {
    /// Returns the entries that may be images for `platform`, best first; of equals the first.
    #[must_use]
    pub fn select(&self, platform: &Platform) -> Vec<&Descriptor> {
        let mut fits: Vec<(u32, &Descriptor)> = self
            .manifests
            .iter()
            .filter(|d| d.may_be_image())
            .filter_map(|d| match &d.platform {
                Some(p) => Some((platform.rank(p)?, d)),
                // no platform: it may be the one, but one that says so is better
                None => Some((u32::MAX, d)),
            })
            .collect();
        fits.sort_by_key(|(rank, _)| *rank);
        fits.into_iter().map(|(_, d)| d).collect()
    }

    /// Returns the platforms on offer, for a message.
    #[must_use]
    pub fn platforms(&self) -> String {
        let mut all: Vec<String> = self
            .manifests
            .iter()
            .filter(|d| d.may_be_image())
            .filter_map(|d| d.platform.as_ref())
            .map(|p| crate::name::printable(p.to_string().as_bytes()))
            .collect();
        all.dedup();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn parse(json: &str) -> Result<Document, ImageError> {
        Document::parse(json.as_bytes(), "test", "")
    }

    fn image(json: &str) -> Manifest {
        match parse(json).unwrap() {
            Document::Manifest(m) => *m,
            Document::Index(_) => panic!("an index"),
        }
    }

    #[test]
    fn a_document_without_a_type_is_known_by_its_fields() {
        let config = format!(r#""config":{{"mediaType":"{CONFIG}","digest":"{D}","size":3}}"#);
        assert!(image(&format!("{{{config},\"layers\":null}}")).is_image);
        assert!(matches!(parse(r#"{"manifests":[]}"#), Ok(Document::Index(_))));
        assert!(parse(&format!(r#"{{"manifests":[],{config}}}"#)).is_err());
        assert!(parse(r#"{"manifests":[],"layers":[]}"#).is_err());
        assert!(parse(&format!(r#"{{"manifests":[],"mediaType":"{MANIFEST}"}}"#)).is_err());
        let artifact = format!(r#"{{"artifactType":"x/y",{config},"layers":[]}}"#);
        assert!(!image(&artifact).is_image);
        let other = format!(r#"{{"config":{{"mediaType":"x/y","digest":"{D}","size":3}}}}"#);
        assert!(!image(&other).is_image);
    }

    #[test]
    fn hostile_documents_are_refused() {
        let with = |digest: &str, size: &str| {
            format!(r#"{{"config":{{"digest":"{digest}","size":{size}}},"layers":[]}}"#)
        };
        assert!(parse(&with(D, "3")).is_ok());
        for (digest, size) in [
            (D, "-1"),
            (D, "1.5"),
            (D, "1e3"),
            (D, "\"3\""),
            (D, "null"),
            (D, "9223372036854775808"),
            ("sha256:../../../etc/passwd", "3"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "3"),
            ("", "3"),
        ] {
            assert!(parse(&with(digest, size)).is_err(), "{digest} {size}");
        }
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            "\u{feff}{}",
            &deep,
            r#"{"manifests":[],"manifests":[]}"#,
            r#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#,
        ] {
            assert!(parse(bad).is_err(), "{}", &bad[..bad.len().min(30)]);
        }
        let many = format!(r#"{{"digest":"{D}","size":0}},"#).repeat(LAYERS_MAX + 1);
        let json = format!(
            r#"{{"config":{{"digest":"{D}","size":3}},"layers":[{}]}}"#,
            many.trim_end_matches(',')
        );
        assert!(matches!(parse(&json), Err(ImageError::TooMany { .. })));
    }

    #[test]
    fn selection_skips_attestations_and_prefers_the_platform() {
        let item =
            |extra: &str| format!(r#"{{"mediaType":"{MANIFEST}","digest":"{D}","size":1{extra}}}"#);
        let json = format!(
            r#"{{"manifests":[{},{},{},{}]}}"#,
            item(
                r#","platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#
            ),
            item(r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#),
            item(r#","annotations":null"#),
            item(r#","platform":{"os":"linux","architecture":"arm64","variant":"v8"}"#),
        );
        let Document::Index(index) = parse(&json).unwrap() else { panic!("a manifest") };
        let of = |want: &str| -> Vec<String> {
            let want = want.parse().unwrap();
            let words = |d: &&Descriptor| d.platform.as_ref().map_or("-".into(), |p| p.to_string());
            index.select(&want).iter().map(words).collect()
        };
        assert_eq!(of("linux/arm64"), ["linux/arm64/v8", "linux/arm/v7", "-"]);
        assert_eq!(of("linux/amd64"), ["-"]);
    }
}
