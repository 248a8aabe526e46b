//! Why a layer is refused.

use crate::index::IndexError;
use crate::name::{BadName, printable};
use crate::sys::Errno;

/// Longest name in a message in bytes; a header may bring one of a megabyte.
const SHOWN_MAX: usize = 512;

/// Returns a name for people, its end only if it is very long.
fn shown(name: &[u8]) -> String {
    match name.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => printable(name),
        Some(cut) => format!("({cut} bytes)…{}", printable(&name[cut..])),
    }
}

/// Why a layer cannot be unpacked. Nothing of it is to be kept.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The blob cannot be read or decompressed.
    #[error("the layer cannot be read or decompressed: {0}")]
    Read(std::io::Error),
    /// A compression that no image may have.
    #[error(
        "the layer is compressed with {0}, which images do not use; recompress it with gzip or zstd"
    )]
    Compression(&'static str),
    /// The stream ends in the middle of something.
    #[error("the layer ends in the middle of {}; it was cut short, fetch it again", shown(.0))]
    Truncated(Vec<u8>),
    /// Something that is no tar header.
    #[error("no valid tar header at byte {offset} of the uncompressed layer ({why}), after {}", shown(.after))]
    BadHeader {
        /// Where, in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        why: &'static str,
        /// Name of the entry before it.
        after: Vec<u8>,
    },
    /// One entry is refused.
    #[error("refused entry {}: {reason}", shown(.name))]
    Entry {
        /// The entry's name as the tar has it.
        name: Vec<u8>,
        /// Why.
        reason: Refusal,
    },
    /// More than a limit allows.
    #[error("the layer holds more than {limit} {what}; if you trust it, raise the limit")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A system call on the layer directory failed.
    #[error("cannot write {}: {errno}", shown(.name))]
    Disk {
        /// The entry.
        name: Vec<u8>,
        /// What the system said.
        errno: Errno,
    },
    /// A file of a layer below, to which there is a hard link, cannot be copied.
    #[error(
        "cannot copy {} of a layer below for the hard link {}: {errno}",
        printable(.target), printable(.name)
    )]
    LowerFile {
        /// The link's name.
        name: Vec<u8>,
        /// Its target.
        target: Vec<u8>,
        /// What the system said; EIO if the store's file is not what its index says.
        errno: Errno,
    },
    /// `tar-split.json.gz` cannot be read or written.
    #[error("tar-split.json.gz: {0}")]
    Split(std::io::Error),
    /// The layer's index cannot be written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its name is no path within the layer.
    #[error("its name is no path within a layer: {0}")]
    Name(BadName),
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("a whiteout that names no entry: {0}")]
    Whiteout(BadName),
    /// Something below a name that is a marker.
    #[error("it lies below a whiteout's name")]
    BelowMarker,
    /// Too many directories deep.
    #[error("it lies more than {0} directories deep")]
    Depth(usize),
    /// The layer's root can only be a directory.
    #[error("the layer's root must be a directory")]
    Root,
    /// A hard link to something that is not there.
    #[error("a hard link to {}, which neither this layer nor those below it hold", shown(.0))]
    LinkTarget(Vec<u8>),
    /// A hard link to a directory.
    #[error("a hard link to the directory {}", shown(.0))]
    LinkToDir(Vec<u8>),
    /// A hard link to something of a lower layer that cannot be copied.
    #[error("a hard link to {}, which in the layers below is no regular file", shown(.0))]
    LinkToSpecial(Vec<u8>),
    /// A type that layers cannot hold.
    #[error("unknown entry type {}", printable(&[*.0]))]
    Type(u8),
    /// A number that is none, or does not fit.
    #[error("its {0} is not valid")]
    Number(&'static str),
    /// A pax header that is not well formed.
    #[error("its pax header is not valid")]
    Pax,
    /// A sparse map that contradicts itself.
    #[error("its sparse map is not valid")]
    Sparse,
    /// A header record, name or attribute longer than the limit.
    #[error("its {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
}

impl Refusal {
    pub(super) fn of(self, name: &[u8]) -> UnpackError {
        UnpackError::Entry { name: name.to_vec(), reason: self }
    }
}

/// How much a layer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Uncompressed bytes of the stream.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one, beyond the first `ratio_free`.
    pub ratio: u64,
    /// Uncompressed bytes for which the ratio does not count.
    pub ratio_free: u64,
    /// Names, those of implied directories and replaced entries included.
    pub entries: u64,
    /// Directories deep.
    pub depth: usize,
    /// Bytes of a pax header, a long name or a sparse map.
    pub header: usize,
    /// Bytes of one extended attribute's value.
    pub xattr: usize,
}

impl Limits {
    /// For layers that are this store's own: they were accepted before, or come from a container of
    /// it, which may be as large as the disk. What one entry may take of the memory stays limited.
    pub const OWN: Limits = Limits {
        bytes: u64::MAX,
        ratio: u64::MAX,
        ratio_free: u64::MAX,
        entries: u64::MAX,
        // as many as the longest path has
        depth: 2048,
        header: 1 << 20,
        xattr: 64 << 10,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 256 << 30,
            ratio: 200,
            ratio_free: 1 << 30,
            entries: 4_000_000,
            depth: 512,
            header: 1 << 20,
            xattr: 64 << 10,
        }
    }
}
