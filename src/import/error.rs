//! Why an import failed.

use crate::id::DiffId;
use crate::image::ImageError;
use crate::index::IndexError;
use crate::indexes::IndexesError;
use crate::reference::Reference;
use crate::store::StoreError;
use crate::unpack::UnpackError;

/// Why images could not be imported. The image that failed left nothing in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A layer is refused.
    #[error("image {image}: layer {number} of {count} ({name}): {source}")]
    Layer {
        /// The image, by its name or what else tells it.
        image: String,
        /// The layer's number, 1 for the bottom one.
        number: usize,
        /// How many layers the image has.
        count: usize,
        /// The layer, as the source names it.
        name: String,
        /// What is wrong with it.
        source: Box<LayerError>,
    },
    /// The store cannot be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The indexes of layers that the store has already cannot be had.
    #[error(transparent)]
    Indexes(#[from] IndexesError),
    /// One name cannot be given to several images.
    #[error("the source holds {0} images, which cannot all get one name; choose one with --ref")]
    OneNameForSeveral(usize),
    /// A digest is no name to give.
    #[error("{0} names an image by its digest, which is not to be given; use NAME or NAME:TAG")]
    DigestAsName(Reference),
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source does not give it, or not the right one.
    #[error(transparent)]
    Source(#[from] ImageError),
    /// It cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Its content is not what the config says.
    #[error("its content has the digest {found}, but the image's config says {expected}")]
    WrongDiffId {
        /// What the config says.
        expected: DiffId,
        /// What the content gives.
        found: DiffId,
    },
    /// Its index cannot be read back.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
