//! What can go wrong with the store.

use crate::id::{ChainId, ImageId};
use crate::reference::BadReference;
use crate::sys::Errno;
use std::path::PathBuf;

/// An error of the layer store. Paths in messages are full paths, with control characters escaped.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store at this place.
    #[error(
        "there is no layer store in {}: `stratafs import` makes one, --root names another place",
        .0.display()
    )]
    Missing(PathBuf),
    /// The store exists, but this user may not change it.
    #[error(
        "the layer store in {} cannot be changed by this user ({errno}): \
         use its owner's account, or another store with --root",
        root.display()
    )]
    NotWritable {
        /// Root of the store.
        root: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// A system call on a file of the store failed.
    #[error("cannot {op} {path}: {errno}")]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that something refers to is not there.
    #[error("layer {0} is not in the store")]
    NoLayer(ChainId),
    /// The image's config names layers that are not there.
    #[error("the image's layer {0} is not in the store: its layers come first")]
    ImageWithoutLayer(ChainId),
    /// No image of that name or id.
    #[error(
        "no image is called {0}, nor does an image id begin with it: \
         `stratafs images` shows what there is"
    )]
    NoImage(String),
    /// An image id that is not in the store.
    #[error("image {0} is not in the store")]
    NoImageId(ImageId),
    /// No container of that name or id.
    #[error(
        "no container is called {0}, nor does a container id begin with it: \
         `stratafs containers` shows what there is"
    )]
    NoContainer(String),
    /// The beginning of several ids.
    #[error("{text} is the beginning of several {what} ids: {}", candidates.join(", "))]
    Ambiguous {
        /// `image` or `container`.
        what: &'static str,
        /// What was asked for.
        text: String,
        /// The ids that begin so, sorted.
        candidates: Vec<String>,
    },
    /// Not the name of an image.
    #[error(transparent)]
    BadReference(#[from] BadReference),
    /// Not an image config.
    #[error("the image config is not valid: {0}")]
    BadConfig(String),
    /// Not the name of a container.
    #[error(
        "{0:?} is no container name: two or more of letters, digits, '_', '.', '-', \
         beginning with a letter or digit"
    )]
    BadContainerName(String),
    /// Another container has this name.
    #[error("the container name {name} is in use by {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Id of the container that has it.
        id: String,
    },
    /// A container's layer is mounted for writing.
    #[error(
        "container {0} is mounted read-write; unmount it first (`stratafs mounts` shows where)"
    )]
    ContainerInUse(String),
    /// A container that another program made.
    #[error("container {0} was not made by stratafs, and is left to who made it")]
    ForeignContainer(String),
    /// More layers in one chain than the store takes.
    #[error("the chain would have {0} layers; at most {max} are allowed", max = super::MAX_DEPTH)]
    TooDeep(usize),
}
