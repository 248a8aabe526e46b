//! A layer tar into a layer directory, its index and its `tar-split.json.gz`.
//!
//! Two steps, so that the layers of an image can be unpacked in parallel: [`unpack_layer`] needs
//! the tar alone; [`StagedLayer::finish`] needs the layers below and writes the markers, the
//! directories' attributes and the index.
//!
//! Nothing is made durable here: the caller syncs the file system (or removes both
//! directories) before it commits the layer.
//!
//! The tar is hostile: every name is resolved beneath the layer directory, what an entry replaces
//! is moved away rather than written through, and nothing is allocated from a size field. Two
//! entries of one name, which the image-spec forbids, are accepted: the last wins, and
//! `tar-split.json.gz` holds the content of the first.

mod disk;
mod error;
mod feed;
mod header;
mod lower_link;
mod pax;
mod place;
mod settle;
mod sparse;
mod split;
mod tree;
mod xattr;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::{Limits, Refusal, UnpackError};
pub use lower_link::LowerLayer;
pub use split::{SPLIT_NAME, assemble};

use crate::id::DiffId;
use crate::index::{Builder, EntryId, INDEX_NAME, Index, Kind};
use crate::sys::{Dir, Identity};
use disk::Disk;
use feed::{BUFFERS, Channel, Feed};
use header::Walker;
use lower_link::LowerLink;
use split::{Headers, SplitReader, SplitWriter};
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use tree::Tree;

/// Where a layer goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The layer directory: empty, and entered by nobody else until the layer is committed.
    pub diff: &'a Dir,
    /// Where `tar-split.json.gz` and the index go.
    pub meta: &'a Dir,
    /// Who unpacks. A privileged one sets true owners, devices and attributes and writes markers
    /// of the `trusted.` dialect; any other records them and writes those of the `user.` one.
    pub identity: Identity,
    /// The mark of the layer directory, which its index carries.
    pub layer: [u8; 32],
}

/// A layer whose files are in place, but which does not know the layers below yet.
pub struct StagedLayer {
    /// Digest of the whole uncompressed stream. The caller compares it with the config's.
    pub diff_id: DiffId,
    /// Length of the uncompressed stream in bytes.
    pub tar_size: u64,
    builder: Builder,
    ghosts: HashSet<EntryId>,
    links: Vec<LowerLink>,
    limits: Limits,
}

impl fmt::Debug for StagedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedLayer")
            .field("diff_id", &self.diff_id)
            .field("tar_size", &self.tar_size)
            .finish_non_exhaustive()
    }
}

/// What a finished layer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names, the root and whiteouts included.
    pub entries: u64,
    /// Docker's size of the layer: lengths of its files, each inode once, without directories.
    pub size: u64,
    /// Whiteouts that hide something.
    pub whiteouts: u64,
    /// Opaque directories that hide something.
    pub opaque_dirs: u64,
}

/// Unpacks one layer. `blob` is the layer as it is transported: gzip, zstd or plain, told apart
/// by their first bytes, read to the end by the calling thread while another one unpacks.
///
/// # Errors
/// [`UnpackError`] names the entry. `target` then holds a part of the layer and is to be removed.
pub fn unpack_layer(
    blob: &mut dyn Read,
    target: &Target<'_>,
    limits: &Limits,
) -> Result<StagedLayer, UnpackError> {
    let (full_tx, full_rx) = std::sync::mpsc::sync_channel(BUFFERS);
    let (empty_tx, empty_rx) = std::sync::mpsc::channel();
    let feed = Channel { full: full_rx, empty: empty_tx, now: Vec::new(), at: 0 };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| unpack_stream(feed, target, limits));
        let diff_id = feed::produce(blob, limits, &full_tx, &empty_rx);
        drop(full_tx);
        let mut staged = match worker.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        staged.diff_id = diff_id;
        Ok(staged)
    })
}

fn unpack_stream(
    feed: impl Feed,
    target: &Target<'_>,
    limits: &Limits,
) -> Result<StagedLayer, UnpackError> {
    let split = SplitWriter::create(target.meta, SPLIT_NAME)?;
    let mut tree = Tree::new(Some(Disk::start(target)?), limits);
    let mut tar = Walker::new(feed, Some(split), limits);
    tree.read(&mut tar)?;
    let (tar_size, split) = tar.finish()?;
    if let Some(split) = split {
        split.finish()?;
    }
    if let Some(disk) = &mut tree.disk {
        if let Some(stash) = disk.stash_dir().filter(|_| tree.duplicates) {
            split::rewrite(target.meta, stash, &tree.replaced)?;
        }
        disk.end_stash()?;
    }
    // the reading thread knows the digest
    let diff_id = DiffId::new(crate::id::Hash([0; 32]));
    let Tree { b: builder, ghosts, lower_links: links, .. } = tree;
    Ok(StagedLayer { diff_id, tar_size, builder, ghosts, links, limits: *limits })
}

/// Sums st_size as Docker does (`daemon/internal/directory`).
fn layer_size(b: &Builder) -> u64 {
    let mut seen = HashSet::new();
    let mut sum = 0u64;
    for id in b.entries() {
        let m = b.meta(id);
        let len = match m.kind {
            Kind::File => m.size,
            Kind::Symlink => b.target(id).len() as u64,
            _ => 0,
        };
        if len > 0 && seen.insert(b.file_of(id)) {
            sum = sum.saturating_add(len);
        }
    }
    sum
}

impl StagedLayer {
    /// Makes the layer whole upon the layers below it, given top first: parents without an entry
    /// look as they do below, markers with nothing to hide are left out, files below to which
    /// there are hard links are copied. Writes the index.
    pub fn finish(
        self,
        target: &Target<'_>,
        below: &[LowerLayer<'_>],
    ) -> Result<Summary, UnpackError> {
        let StagedLayer { mut builder, ghosts, links, limits, tar_size, .. } = self;
        let indexes: Vec<&Index> = below.iter().map(|l| l.index).collect();
        let copies = lower_link::resolve(&mut builder, &links, &indexes, &limits)?;
        let to_make = settle::settle(&mut builder, &ghosts, &indexes)?;
        let b = &builder;
        let mut disk = Disk::attach(target);
        lower_link::copy(b, &mut disk, &copies, below, &limits, tar_size)?;
        for id in to_make {
            disk.mkdir(b, b.parent(id), b.name(id))?;
        }
        let entries = b.entries();
        let mut marked = HashSet::new();
        let mut summary =
            Summary { entries: entries.len() as u64, size: layer_size(b), ..Summary::default() };
        for id in &entries {
            if b.meta(*id).kind == Kind::Whiteout {
                summary.whiteouts += 1;
                if disk.whiteout(b, b.parent(*id), b.name(*id))? {
                    marked.insert(b.parent(*id));
                }
            }
        }
        // children first: a directory that is closed to its owner is not entered again
        for id in entries.iter().rev() {
            let m = b.meta(*id);
            if m.kind == Kind::Dir {
                summary.opaque_dirs += u64::from(m.opaque);
                disk.finish_dir(b, *id, &m, &b.xattrs(*id), marked.contains(id))?;
            }
        }
        builder.tie_to(target.layer);
        builder.stage(target.meta, INDEX_NAME)?;
        Ok(summary)
    }
}

/// Builds a layer's index again from its `tar-split.json.gz`: owners, devices and attributes as
/// the tar has them, also where the layer directory could not hold them. `below` are the indexes
/// of the layers below, top first.
///
/// # Errors
/// A file that is damaged, or not that of a layer unpacked by this program.
pub fn rebuild_index(
    tar_split: &mut dyn Read,
    below: &[&Index],
    limits: &Limits,
) -> Result<Builder, UnpackError> {
    let mut tree = Tree::new(None, limits);
    let mut tar = Walker::new(Headers::new(SplitReader::new(tar_split)), None, limits);
    tree.read(&mut tar)?;
    let mut builder = tree.b;
    lower_link::resolve(&mut builder, &tree.lower_links, below, limits)?;
    settle::settle(&mut builder, &tree.ghosts, below)?;
    Ok(builder)
}
