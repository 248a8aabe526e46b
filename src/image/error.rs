//! What can be wrong with a source of images.

use crate::id::Digest;
use crate::name::printable;
use crate::sys::Errno;
use std::path::PathBuf;

/// Why an image could not be read. Names that come from the source are escaped.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Opening or reading the source failed.
    #[error("{what}: {errno}")]
    Io {
        /// What was done to what.
        what: String,
        /// Why it failed.
        errno: Errno,
    },
    /// The source is of no known form.
    #[error("{0} is no image: {1}")]
    NotAnImage(String, &'static str),
    /// The archive breaks off.
    #[error("the archive breaks off in member {0:?} (truncated or still being written?)")]
    TruncatedArchive(String),
    /// The archive is damaged or of a form that no image archive has.
    #[error("the archive is damaged at byte {offset}: {why}")]
    BadArchive {
        /// Offset in the uncompressed archive.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A file that the image needs is not there.
    #[error("{0} is missing from the image source")]
    Missing(String),
    /// A JSON document does not say what it should.
    #[error("{what}: {why}")]
    BadDocument {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A size is over a limit.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// There are more of something than is sane.
    #[error("{what}: more than {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A blob has another length than its descriptor says.
    #[error("blob {digest} has {found} bytes or more, its descriptor says {expected}")]
    WrongSize {
        /// The blob.
        digest: String,
        /// What the descriptor says.
        expected: u64,
        /// What was found, counted up to the first byte too many.
        found: u64,
    },
    /// A blob has another digest than its name.
    #[error("blob {expected} is damaged: its digest is {found}")]
    WrongDigest {
        /// What the descriptor says.
        expected: Digest,
        /// What the bytes give.
        found: Digest,
    },
    /// Nothing in an index fits the platform.
    #[error("no image for {wanted}; there is {offered} (choose with --platform)")]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What the index has.
        offered: String,
    },
    /// The reference that was asked for is not in the source.
    #[error("no image {wanted:?} in the source; it has {offered}")]
    NoSuchReference {
        /// What was asked for.
        wanted: String,
        /// What the source has.
        offered: String,
    },
    /// One image of several cannot be read.
    #[error("image {image}: {source}")]
    OneOfSeveral {
        /// What tells it from the others, printable.
        image: String,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// A live mount holds only a part of a file's data so far.
    #[error("{path:?} is being copied (lazy_copy_up), and a part of its data is still below")]
    Incomplete {
        /// Path below the tree's root, printable.
        path: String,
    },
    /// A file of a directory tree cannot be put into a layer.
    #[error("{path:?}: {why}")]
    BadTree {
        /// Path below the tree's root, printable.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl ImageError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(Errno) -> ImageError {
        let what = what.into();
        move |errno| ImageError::Io { what, errno }
    }

    pub(crate) fn path(verb: &str, path: &std::path::Path) -> impl FnOnce(Errno) -> ImageError {
        ImageError::io(format!("{verb} {}", printable_path(path)))
    }

    /// Says of which image the error is, where there are several.
    pub(crate) fn of_image(self, image: &str, of: usize) -> ImageError {
        match of {
            0 | 1 => self,
            _ => ImageError::OneOfSeveral {
                image: printable(image.as_bytes()),
                source: Box::new(self),
            },
        }
    }

    pub(crate) fn bad_tree(path: &[u8], why: impl ToString) -> ImageError {
        ImageError::BadTree { path: printable(path), why: why.to_string() }
    }

    pub(crate) fn document(what: impl Into<String>, why: impl ToString) -> ImageError {
        // serde's messages quote the document, which is hostile
        let why = printable(why.to_string().as_bytes());
        ImageError::BadDocument { what: what.into(), why }
    }
}

/// Returns a path for people.
#[must_use]
pub fn printable_path(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    printable(path.as_os_str().as_bytes())
}

/// Returns the display form of a source's path: `-` is standard input.
#[must_use]
pub(crate) fn source_name(path: &Option<PathBuf>) -> String {
    path.as_deref().map_or_else(|| "standard input".to_owned(), printable_path)
}

impl From<ImageError> for std::io::Error {
    /// Carries the error through a reader; [`ImageError::from_reader`] gets it out again.
    fn from(e: ImageError) -> std::io::Error {
        std::io::Error::other(e)
    }
}

impl ImageError {
    /// Takes an error of a layer's reader apart: either ours, or one of the system.
    pub fn from_reader(e: std::io::Error, what: &str) -> ImageError {
        match e.downcast::<ImageError>() {
            Ok(own) => own,
            Err(e) => ImageError::Io { what: what.to_owned(), errno: e.into() },
        }
    }
}
