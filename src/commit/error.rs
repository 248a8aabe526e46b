//! Why a container cannot be made an image.

use super::BadCommit;
use crate::id::ImageId;
use crate::image::ImageError;
use crate::import::{ImportError, LayerError};
use crate::index::IndexError;
use crate::overlay;
use crate::store::StoreError;

/// Why a commit failed. Nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody changed the container while it was read.
    #[error(
        "it was changed while it was read: stop what writes to it, or unmount it, and try again"
    )]
    Changed,
    /// The image of the container is not in the store any more, or is another one.
    #[error("its image {0} is not in the store as it was: bring it back with `stratafs import`")]
    NoBase(ImageId),
    /// The container's image is not known.
    #[error(
        "it was not made by stratafs, and {0} images of the store have just its layers, not one"
    )]
    UnknownBase(usize),
    /// What was asked for does not fit the image.
    #[error(transparent)]
    Config(#[from] BadCommit),
    /// The image's own config cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The container's files cannot be read, or not be put into a layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The container's names cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Its layers cannot be read.
    #[error(transparent)]
    Lowers(#[from] ImportError),
    /// Its layers cannot be stacked.
    #[error("the layers cannot be stacked: {0}")]
    View(#[from] overlay::Error),
    /// The store cannot be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// Returns whether a file is only a part of one, because a live mount is at copying it or one
    /// did not end well.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        matches!(self, CommitError::Layer(LayerError::Source(ImageError::Incomplete { .. })))
    }
}
