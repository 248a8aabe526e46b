//! The layer index: one immutable, memory-mapped file per layer that answers every question about
//! the layer's names without a system call on the layer directory.
//!
//! Nodes are numbered breadth first, the children of a directory lie together sorted by their
//! bytes, so the same layer always gives the same numbers and a lookup is a binary search.
//! A file that is missing, old or damaged is rebuilt, never trusted: reading past an end or
//! around a loop gives "absent", not a panic.

mod build;
mod format;
mod read;
mod scan;
mod write;

pub use build::{Builder, EntryId, Meta};
pub use read::{Index, Node};
pub use scan::{Each, Marks, ScanOptions, scan, scan_now, scan_once};

use crate::name::printable;
use crate::sys::{Errno, FileType};

/// Name of the index file beside a layer's layerdb entry.
pub const INDEX_NAME: &[u8] = b"stratafs.index";

/// A node's number within one layer.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The layer's root directory.
    pub const ROOT: NodeId = NodeId(0);
}

/// What a name of a layer is.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Unix socket.
    Socket,
    /// Deletes the name in the layers below.
    Whiteout,
}

impl Kind {
    /// Returns the file type, or `None` for a whiteout, which is no file.
    #[must_use]
    pub fn file_type(self) -> Option<FileType> {
        Some(match self {
            Kind::File => FileType::File,
            Kind::Dir => FileType::Dir,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Char => FileType::Char,
            Kind::Block => FileType::Block,
            Kind::Socket => FileType::Socket,
            Kind::Whiteout => return None,
        })
    }

    /// Returns the kind of a file of this type.
    #[must_use]
    pub fn of(file_type: FileType) -> Kind {
        match file_type {
            FileType::File => Kind::File,
            FileType::Dir => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Char => Kind::Char,
            FileType::Block => Kind::Block,
            FileType::Socket => Kind::Socket,
        }
    }

    fn to_byte(self) -> u8 {
        self as u8
    }

    fn from_byte(b: u8) -> Option<Kind> {
        use Kind::{Block, Char, Dir, Fifo, File, Socket, Symlink, Whiteout};
        [File, Dir, Symlink, Fifo, Char, Block, Socket, Whiteout].get(usize::from(b)).copied()
    }
}

/// Why an index cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be opened or mapped.
    #[error("cannot read the layer index {}: {}", printable(.0), .1)]
    Open(Vec<u8>, Errno),
    /// Others may write to the file, so its content proves nothing.
    #[error("the layer index {} is writable by everybody; rebuild it", printable(.0))]
    Untrusted(Vec<u8>),
    /// It is no index, or one of another version.
    #[error(
        "the layer index is of another version (found {found}, this program reads {expected}); rebuild it"
    )]
    Version {
        /// Version of the file.
        found: u32,
        /// Version of this program.
        expected: u32,
    },
    /// It is damaged.
    #[error("the layer index is damaged ({0}); rebuild it")]
    Damaged(&'static str),
    /// The layer holds more than the form can say.
    #[error("the layer holds too many {0} for an index")]
    TooLarge(&'static str),
    /// An entry's name cannot be in an index.
    #[error("{}: {}", printable(.0), .1)]
    Name(Vec<u8>, crate::name::BadName),
    /// An entry's parent is no directory.
    #[error("{}: its parent is not a directory", printable(.0))]
    NotADirectory(Vec<u8>),
    /// The index cannot be written.
    #[error("cannot write the layer index {}: {}", printable(.0), .1)]
    Write(Vec<u8>, Errno),
    /// The layer directory cannot be read.
    #[error("cannot read {} in the layer directory: {}", printable(.0), .1)]
    Scan(Vec<u8>, Errno),
}

#[cfg(test)]
mod tests;
