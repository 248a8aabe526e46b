//! A directory tree as a layer: read as a deterministic tar that is made on the fly, names sorted
//! by their bytes. A directory in overlay form comes out in the form of the image-spec:
//! whiteouts as `.wh.` names, opaque directories with `.wh..wh..opq`. Layers cannot express
//! redirects and metadata-only copies, so what those mean is taken from the layers below and
//! written whole: a moved directory becomes an opaque one with all of its content.

use super::ImageError;
use super::lower::Stack;
use super::stream::TarStream;
use super::walk::Walk;
use crate::sys::{Dir, File, FileType, OpenFlags, Stat};

/// A directory that is one layer, and those below it.
#[derive(Debug)]
pub(super) struct TreeLayer {
    /// The layer's directory, and behind it those below.
    pub(super) stack: Stack,
    /// Device and inode of a directory to leave out: the store, should it lie within the tree.
    pub(super) skip: Option<(u64, u64)>,
}

impl TreeLayer {
    /// Opens the layer as a tar stream.
    pub(super) fn open(&self) -> TarStream<Walk> {
        TarStream::new(Walk::new(self.stack.clone(), self.skip))
    }
}

pub(super) fn open_content(
    dir: &Dir,
    name: &[u8],
    path: &[u8],
) -> Result<(File, Stat), ImageError> {
    let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
    let file = dir.open_file(name, flags, 0).map_err(|e| ImageError::bad_tree(path, e))?;
    let stat = file.stat().map_err(|e| ImageError::bad_tree(path, e))?;
    if stat.file_type() != FileType::File {
        return Err(ImageError::bad_tree(path, "it is no regular file any more"));
    }
    Ok((file, stat))
}
