//! What can go wrong, and the one place that says which errno the caller gets.

use crate::resolve::LayerRef;
use crate::sys::Errno;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing of that name is visible.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("the name exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory still shows entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The view has no upper.
    #[error("the view is read-only")]
    ReadOnly,
    /// The kernel named an inode that we do not know (any more).
    #[error("stale inode number")]
    Stale,
    /// Another file is where this one should be: somebody changes the upper behind our back.
    #[error("another file of the upper is in the place of this one")]
    Moved,
    /// Somebody has put another file in the place of this one of a plain lower.
    #[error("another file of a lower layer is in the place of this one")]
    Replaced,
    /// No file is open under that handle, or not in the mode that the call needs.
    #[error("bad file handle")]
    BadHandle,
    /// There is no extended attribute of that name.
    #[error("no such extended attribute")]
    NoData,
    /// The caller may not do that.
    #[error("operation not permitted")]
    NotPermitted,
    /// The files that are shown have nothing of the kind.
    #[error("operation not supported")]
    NotSupported,
    /// The call makes no sense with these arguments.
    #[error("invalid argument")]
    Invalid,
    /// A lower layer holds the view's own upper or work directory there.
    #[error("the view's own upper or work directory lies there")]
    Loop,
    /// The directory has lower parts and redirects are off.
    #[error("a directory of a lower layer cannot be renamed with redirect_dir=off")]
    CrossDevice,
    /// The file's data is in a layer below, which this view does not hold.
    #[error(
        "{path:?} in {layer:?} holds metadata only (overlay.metacopy); its data, {wanted:?}, should be in \
         a layer below, and that is not part of this view: mount with all the layers it was made on"
    )]
    Metacopy {
        /// Its name.
        path: String,
        /// The layer that holds the metadata.
        layer: LayerRef,
        /// The name or path at which the data was looked for.
        wanted: String,
    },
    /// A crash left the file incomplete, and it is in a layer that is not changed.
    #[error(
        "{path:?} in {layer:?} holds a part of its data: a mount with lazy_copy_up had it as its upper \
         and did not end well; mount it once more as the upper, with the layers of then, and unmount"
    )]
    Incomplete {
        /// Its name.
        path: String,
        /// The layer that holds it.
        layer: LayerRef,
    },
    /// A system call on a layer failed.
    #[error("cannot {doing} in {layer:?}: {errno}")]
    Layer {
        /// The layer.
        layer: LayerRef,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The upper or work directory cannot serve.
    #[error("the upper directory cannot be used: {why}")]
    Upper {
        /// What is wrong and what would help.
        why: String,
        /// The error number behind it.
        errno: Errno,
    },
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns the error number for the caller of the file system. Decided here and nowhere else.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Error::NotFound => Errno::NOENT,
            Error::Exists => Errno::EXIST,
            Error::NotDirectory => Errno::NOTDIR,
            Error::NotSupported => Errno::OPNOTSUPP,
            Error::IsDirectory => Errno::ISDIR,
            Error::NotEmpty => Errno::NOTEMPTY,
            Error::ReadOnly => Errno::ROFS,
            Error::Stale | Error::Moved | Error::Replaced => Errno::STALE,
            Error::BadHandle => Errno::BADF,
            Error::NoData => Errno::NODATA,
            Error::NotPermitted => Errno::PERM,
            Error::Invalid => Errno::INVAL,
            Error::Loop => Errno::LOOP,
            Error::CrossDevice => Errno::XDEV,
            Error::Metacopy { .. } | Error::Incomplete { .. } => Errno::IO,
            Error::Layer { errno, .. } | Error::Upper { errno, .. } => *errno,
        }
    }

    /// Returns the level at which this belongs in the log: only what a healthy mount never says
    /// is a warning.
    #[must_use]
    pub fn level(&self) -> log::Level {
        match self.errno() {
            // the kernel looks the name up anew then, and nobody notices
            _ if matches!(self, Error::Replaced) => log::Level::Debug,
            Errno::IO | Errno::STALE | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                log::Level::Warn
            }
            _ => log::Level::Debug,
        }
    }
}

/// Adds to a failed system call what was tried, and where.
pub(super) trait Doing<T> {
    /// In the upper or its work directory.
    fn upper(self, doing: &'static str) -> Result<T>;
    /// In any layer.
    fn layer(self, layer: LayerRef, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for crate::sys::Result<T> {
    fn upper(self, doing: &'static str) -> Result<T> {
        self.layer(LayerRef::Upper, doing)
    }

    fn layer(self, layer: LayerRef, doing: &'static str) -> Result<T> {
        self.map_err(|errno| Error::Layer { layer, doing, errno })
    }
}
