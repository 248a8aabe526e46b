//! What an image is, and where it comes from. Knows no store: it gives configs and layer streams,
//! and checks what can be checked before a layer is unpacked.
//!
//! A source is untrusted. Documents are limited in size and parsed strictly; the names of an
//! archive's members never become paths; files of a layout directory are opened beneath its
//! handle, following no symlink; `urls` of layers are never fetched.

mod archive;
mod blob;
mod compress;
mod config;
mod docker;
mod error;
mod lower;
mod manifest;
mod oci;
mod platform;
mod source;
mod stream;
mod tarball;
mod tree;
mod walk;

pub use blob::LayerBlob;
pub use config::{CONFIG_MAX, History, ImageConfig, NewConfig, rfc3339};
pub use error::{ImageError, printable_path};
pub use manifest::{
    Descriptor, Document, INDEX_DEPTH_MAX, Index, LAYERS_MAX, MANIFEST_MAX, Manifest, MediaType,
};
pub use platform::{BadPlatform, Platform};
pub(crate) use stream::{Content, Entries, Source as ContentSource, TarStream, holes};
pub(crate) use tarball::{Entry, can_be_stored, is_of_this_machine, warn_of_socket};

pub use source::{Form, Input, Source, SourceOptions, open_source, split_lowerdir};

use crate::id::Digest;
use crate::reference::Reference;

/// An image as a source gives it.
#[derive(Clone, Debug)]
pub struct SourceImage {
    /// Its names, with tags; possibly none.
    pub references: Vec<Reference>,
    /// Its config.
    pub config: SourceConfig,
    /// Its layers, bottom first.
    pub layers: Vec<LayerBlob>,
    /// The digest of its manifest, if it came with one.
    pub manifest_digest: Option<Digest>,
    /// What the image is called in messages when it has no name.
    pub label: String,
    /// The name under which an OCI layout lists it, as it stands there.
    pub(crate) ref_name: Option<String>,
}

/// The config of a source image.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// It came with the image.
    Received {
        /// Its bytes, whose hash is the image's id.
        bytes: Vec<u8>,
        /// What they say.
        parsed: ImageConfig,
    },
    /// It is made when the layers' digests are known.
    New(NewConfig),
}

impl SourceImage {
    /// Returns the image's first name, or what else tells it from others; printable.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.references.first().map_or_else(|| self.label.clone(), Reference::to_string)
    }
}
