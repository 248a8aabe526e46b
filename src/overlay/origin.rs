//! The kernel's records of where copied-up files come from: `overlay.origin` on each, and of hard
//! links the `index` directory beside the work directory (overlayfs.rst, "Inode properties" and
//! "Index").
//!
//! Our own record is kept behind it (see `own_origin`): it names files of store layers, which a
//! handle cannot lead to, and needs no privilege to be followed.

use super::error::{Doing as _, Result};
use super::inode::{FileInode, Object};
use super::listing::Listing;
use super::lower::{At, LowerLayer};
use super::types::Ino;
use super::{Backing, Error, Overlay};
use crate::id::LayerIndex;
use crate::index::Kind;
use crate::marker::{Links, Origin};
use crate::sys::{Dir, Errno, FileType, Node, Stat};
use hashbrown::HashMap;
use std::sync::Arc;

/// The directory in which the kernel keeps its index.
const INDEX: &[u8] = b"index";

/// The copies that the kernel's index knows, by what they were copied from.
#[derive(Debug)]
pub(super) struct KernelIndex {
    dir: Dir,
    names: HashMap<Origin, Box<[u8]>>,
}

impl KernelIndex {
    /// Reads the index, if the work directory has one that is not empty.
    pub(super) fn open(work: &Dir) -> Result<Option<KernelIndex>> {
        let dir = match work.open_dir(INDEX) {
            Ok(d) => d,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(e).upper("open the kernel's index"),
        };
        let mut names = HashMap::new();
        for e in dir.list().upper("list the kernel's index")? {
            let value = from_hex(&e.name);
            if let Some(origin) = value.as_deref().and_then(Origin::parse) {
                names.insert(origin, e.name);
            }
        }
        Ok((!names.is_empty()).then_some(KernelIndex { dir, names }))
    }

    fn copy(&self, origin: &Origin) -> Result<Option<(Node, Stat)>> {
        let Some(name) = self.names.get(origin) else { return Ok(None) };
        let node = match self.dir.node(name) {
            Ok(n) => n,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e).upper("open a file of the kernel's index"),
        };
        let stat = node.stat().upper("look at a file of the kernel's index")?;
        let file = !matches!(stat.file_type(), FileType::Dir) && !stat.is_whiteout_device();
        Ok(file.then_some((node, stat)))
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

impl Overlay {
    fn origin(&self, layer: &LowerLayer, at: At) -> Option<Origin> {
        let handle = layer.handle(at.node)?;
        Some(Origin { uuid: self.uuid_of(layer, at.layer)?, handle })
    }

    /// Returns the UUID of a layer's file system; zeros if it has none.
    fn uuid_of(&self, layer: &LowerLayer, number: LayerIndex) -> Option<[u8; 16]> {
        let known = self.uuids.get(number.0 as usize)?;
        if let Some(uuid) = known.get() {
            return Some(*uuid);
        }
        let root = layer.root().ok()?;
        Some(*known.get_or_init(|| root.file_system_uuid().unwrap_or_default()))
    }

    /// Returns whether copies name their lower file as the kernel's do, so that its overlayfs shows
    /// them under that file's number.
    ///
    /// Not in a private view that the kernel never had: what such a view records the kernel does
    /// not read, and on ext4 the attribute would not fit into the inode any more, which makes a
    /// copy half as slow again.
    pub(super) fn marks_for_the_kernel(&self) -> bool {
        !self.options.owner_view || self.upper.as_ref().is_some_and(|u| u.of_the_kernel)
    }

    /// Returns the kernel's record of a lower file, for its copy.
    pub(super) fn kernel_record(&self, at: At) -> Option<Vec<u8>> {
        if !self.marks_for_the_kernel() {
            return None;
        }
        self.origin(self.lower(at).ok()?, at)?.encode()
    }

    /// Writes into the copy of a directory which one of the lowers it was made from. A copy that
    /// cannot carry that is a whole copy all the same.
    pub(super) fn mark_kernel_origin(&self, node: &Node, at: At) {
        if let Some(value) = self.kernel_record(at)
            && let Err(e) = node.set_xattr(self.dialect.kernel_origin(), &value, false, false)
        {
            log::debug!("a copy keeps no origin: {e}");
        }
    }

    /// Returns the number of the lower file that the kernel's record on the entry `name` of the
    /// upper names. Of hard-linked files only those are one with their lower file that the index
    /// knows: others were parted from it by the copy.
    pub(super) fn follow_kernel_origin(
        &self,
        value: &[u8],
        listing: &Listing,
        name: &[u8],
        real: u64,
    ) -> Result<Option<Ino>> {
        let Some(origin) = Origin::parse(value) else { return Ok(None) };
        let indexed = |origin| -> Result<bool> {
            let Some(index) = &self.writable()?.index else { return Ok(false) };
            Ok(index.copy(origin)?.is_some_and(|(_, stat)| stat.ino == real))
        };
        // mostly it still has the name of the lower file: no privilege is needed to see that
        let below = listing.base.find(&self.lowers, name).and_then(|pos| listing.base.get(pos));
        if let Some(e) = below
            && e.kind != FileType::Dir
            && let Ok(layer) = self.lower(e.at)
            && self.origin(layer, e.at).as_ref() == Some(&origin)
        {
            let one = layer.meta(e.at.node)?.nlink == 1 || indexed(&origin)?;
            return Ok(one.then(|| layer.ino(e.at.node)));
        }
        for (number, layer) in self.lowers.iter().enumerate().rev() {
            let LowerLayer::Plain(plain) = layer else { continue };
            let root = plain.root();
            if self.uuid_of(layer, LayerIndex(number as u32)) != Some(origin.uuid) {
                continue;
            }
            // ESTALE: not of this file system, or gone; EPERM: as the kernel without privilege
            let Ok(stat) = root.stat_handle(&origin.handle) else { continue };
            let one = stat.nlink == 1 || indexed(&origin)?;
            return Ok((one && !stat.is_dir()).then(|| self.devices.ino(stat.dev, stat.ino)));
        }
        Ok(None)
    }

    /// Returns the copy that the kernel's index has of a hard-linked file of a plain layer: names
    /// that the upper does not hold lead to it too.
    pub(super) fn indexed_copy(&self, at: At) -> Result<Option<(Node, Stat)>> {
        let Some(index) = self.upper.as_ref().and_then(|u| u.index.as_ref()) else {
            return Ok(None);
        };
        let layer = self.lower(at)?;
        if layer.kind_on_disk(at.node) == Kind::Dir || layer.meta(at.node)?.nlink < 2 {
            return Ok(None);
        }
        match self.origin(layer, at) {
            Some(origin) => index.copy(&origin),
            None => Ok(None),
        }
    }

    /// Returns whether a number is known to be that of a file in the upper.
    #[must_use]
    pub(super) fn is_upper_file(&self, number: Ino) -> bool {
        matches!(self.inodes.peek(number), Some(Object::File(f)) if f.in_upper())
    }

    /// Returns how many names more than the upper's copy there are, if the upper says so.
    pub(super) fn names_beside(&self, node: &Node) -> Result<Option<i64>> {
        let value = node.get_xattr(self.dialect.links()).upper("read a link count")?;
        let Some(links) = value.and_then(|v| Links::parse(&v)) else { return Ok(None) };
        let stat = node.stat().upper("look at a file")?;
        let lower = match links {
            Links::Upper(_) => 0,
            Links::Lower(_) => match self.lower_links(node)? {
                Some(n) => n,
                None => return Ok(None),
            },
        };
        Ok(Some(links.beside_upper(lower, stat.nlink)))
    }

    /// Returns the link count of the lower file that a copy's record names.
    fn lower_links(&self, node: &Node) -> Result<Option<u32>> {
        let value = node.get_xattr(self.dialect.kernel_origin()).upper("read an origin")?;
        let Some(origin) = value.and_then(|v| Origin::parse(&v)) else { return Ok(None) };
        let stat = self.lowers.iter().find_map(|l| l.root().ok()?.stat_handle(&origin.handle).ok());
        Ok(stat.map(|s| s.nlink))
    }

    /// Writes down how many names of a copy are not the upper's, for the next mount.
    pub(super) fn keep_links(&self, file: &FileInode) -> Result<()> {
        let (mut more, counted) = {
            let state = file.state.read();
            if state.backing != Backing::Upper {
                return Ok(());
            }
            (state.uncopied_names, state.counted)
        };
        if more == 0 && !counted {
            return Ok(());
        }
        let node: Arc<Node> = match self.upper_node(file) {
            Ok(n) => n,
            Err(Error::NotFound | Error::Stale | Error::Moved) => return Ok(()),
            Err(e) => return Err(e),
        };
        while self.write_links(&node, more) {
            let mut state = file.state.write();
            state.counted = true;
            // else another thread has written what it is now, before this one what it was
            if state.uncopied_names == more {
                break;
            }
            more = state.uncopied_names;
        }
        Ok(())
    }

    /// Writes on a copy how many names more than it has are there; returns whether it could.
    pub(super) fn write_links(&self, copy: &Node, more: i64) -> bool {
        let value = Links::Upper(i32::try_from(more).unwrap_or(i32::MAX)).encode();
        let key = self.dialect.links();
        let written = self.as_its_owner(copy, || copy.set_xattr(key, &value, false, false));
        // a symlink, say, of an ordinary user: the count is of this mount only
        written.inspect_err(|e| log::debug!("a copy keeps no link count: {e}")).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_index_are_hex() {
        assert_eq!(from_hex(b"00fb1d").unwrap(), [0, 0xfb, 0x1d]);
        assert_eq!(from_hex(b"00f"), None);
        assert_eq!(from_hex(b"#4"), None);
    }
}
