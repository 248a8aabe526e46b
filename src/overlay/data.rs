//! Where a file's data is, when it is not where its metadata are: metacopy files (overlayfs.rst,
//! "Metadata only copy up" and "Data-only lower layers").

use super::Overlay;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{Backing, FileInode};
use super::io::{CAPABILITY, keeping_rights};
use super::lower::At;
use super::settle::Later;
use crate::id::LayerIndex;
use crate::index::Kind;
use crate::marker::{INCOMPLETE, Redirect};
use crate::name::printable;
use crate::resolve::LayerRef;
use crate::sys::{Errno, File, FileType, OpenFlags, Stat, copy_data};
use std::sync::Arc;

/// How long a chain of metacopy files may be.
const CHAIN: usize = 500;

/// The most that a file system counts as blocks of a file for its extended attributes, in bytes.
const XATTR_BLOCKS: u64 = 64 << 10;

/// Returns whether a file's blocks alone say that it is no metacopy: as many as it has bytes, and
/// more than its extended attributes may take.
pub(crate) fn data_is_here(stat: &Stat) -> bool {
    let allocated = stat.blocks.saturating_mul(512);
    stat.size == 0 || allocated >= stat.size && allocated > XATTR_BLOCKS
}

/// Where a metacopy file says that its data is.
struct Trail {
    /// The directories in which its name is looked for, top first.
    parents: Vec<At>,
    name: Box<[u8]>,
    redirect: Option<Redirect>,
    /// Only layers under this number are asked.
    below: u32,
    /// How many lowers there are.
    lowers: usize,
}

impl Trail {
    /// The layer that holds the metadata.
    fn layer(&self) -> LayerRef {
        if self.below as usize >= self.lowers {
            LayerRef::Upper
        } else {
            LayerRef::Lower(LayerIndex(self.below))
        }
    }
}

impl Overlay {
    /// Opens the content of a lower file, wherever it is.
    pub(super) fn open_lower(&self, at: At) -> Result<File> {
        let layer = self.lower(at)?;
        if let Some(file) = layer.open_data(at.node)? {
            return Ok(file);
        }
        let part = At { layer: at.layer, node: layer.parent(at.node) };
        let dir = self.dir_of_part(part)?.ok_or(Error::Stale)?;
        let data = self.follow(Trail {
            parents: dir.lowers().to_vec(),
            name: layer.with_name(at.node, |n| Box::from(n)),
            redirect: layer.redirect(at.node)?,
            below: at.layer.0,
            lowers: self.lowers.len(),
        })?;
        self.lower(data)?.open(data.node)
    }

    /// Returns whether the upper holds only a file's metadata.
    pub(super) fn is_metacopy(&self, file: &FileInode) -> Result<bool> {
        let known = file.state.read().metacopy;
        if let Some(known) = known {
            return Ok(known);
        }
        let node = self.upper_node(file)?;
        let stat = node.stat().upper("look at a file")?;
        self.find_again(file, &node, stat.ino)?;
        let found = stat.file_type() == FileType::File
            && !data_is_here(&stat)
            && match node.get_xattr(self.dialect.metacopy()).upper("read the metacopy mark")? {
                // the note that led to it is gone, with its work directory perhaps
                Some(v) if v == INCOMPLETE => {
                    self.mend(file, &node)?;
                    false
                }
                mark => mark.is_some(),
            };
        file.state.write().metacopy = Some(found);
        Ok(found)
    }

    /// Opens the lower data of a file of which the upper holds only the metadata.
    pub(super) fn open_data_below(&self, file: &FileInode) -> Result<File> {
        let place = match (file.state.read().upper_names.first().cloned(), file.below) {
            (Some(place), _) => place,
            // known to the kernel's index alone, by the lower file
            (None, Some(at)) => return self.open_lower(at),
            (None, None) => return Err(Error::Stale),
        };
        let node = self.upper_node(file)?;
        let value = node.get_xattr(self.dialect.redirect()).upper("read a redirect")?;
        let redirect = match value.map(|v| Redirect::parse(&v)) {
            None => None,
            Some(Ok(r)) => Some(r),
            Some(Err(_)) => {
                return Err(Error::Layer {
                    layer: LayerRef::Upper,
                    doing: "follow a metacopy's redirect that is not valid",
                    errno: Errno::IO,
                });
            }
        };
        let data = self.follow(Trail {
            parents: self.dir(place.parent)?.lowers().to_vec(),
            name: place.name[..].into(),
            redirect,
            below: self.lowers.len() as u32,
            lowers: self.lowers.len(),
        })?;
        self.lower(data)?.open(data.node)
    }

    /// Brings the data of a metacopy file into the upper, so that it can be written there. The mark
    /// goes last: before that the file is what it was.
    pub(super) fn complete(&self, file: &Arc<FileInode>, data: Data) -> Result<()> {
        if file.state.read().backing != Backing::Upper || !self.is_metacopy(file)? {
            return Ok(());
        }
        let upper = self.writable()?;
        let _one_at_a_time = file.copy_up.lock();
        if !self.is_metacopy(file)? {
            return Ok(());
        }
        let node = self.upper_node(file)?;
        let stat = node.stat().upper("look at a file")?;
        let to = node.open(OpenFlags::READ_WRITE).upper("open a file")?;
        let mut later = None;
        if data == Data::Nothing {
            to.truncate(0).upper("cut a file")?;
        } else {
            let from = self.open_data_below(file)?;
            let may_do_more = stat.permissions() & 0o6000 != 0
                || to.get_xattr(CAPABILITY).unwrap_or(None).is_some();
            if stat.nlink == 1 && !may_do_more {
                later = self.begin_lazy(upper, &from, &to, stat.size)?;
            }
            if later.is_none() {
                keeping_rights(&to, || {
                    copy_data(&from, &to, stat.size).upper("copy a file's data")
                })?;
            }
            self.set_times(&node, stat.atime, stat.mtime)?;
            if later.is_none() && !upper.volatile {
                later = self.may_wait(upper).map(Later::from);
            }
            match &later {
                // before the mark goes, in that order on disk too
                Some(later) => self.mark_unsettled(&node, later)?,
                None if upper.volatile => {}
                None => to.sync(true).upper("sync a copied file")?,
            }
        }
        let lazy = later.as_ref().and_then(|l| l.lazy.clone());
        // else another mark has taken its place
        if lazy.is_none() {
            match node.remove_xattr(self.dialect.metacopy()) {
                Ok(()) | Err(Errno::NODATA) => {}
                r => r.upper("take the metacopy mark off")?,
            }
        }
        file.lazy.set(lazy);
        file.state.write().metacopy = Some(false);
        if let Some(later) = &later {
            self.settles_later(file, later);
        }
        Ok(())
    }

    /// Returns the file that holds the data.
    fn follow(&self, mut trail: Trail) -> Result<At> {
        let lost = |t: &Trail| Error::Metacopy {
            path: printable(&t.name),
            layer: t.layer(),
            wanted: t
                .redirect
                .as_ref()
                .map_or_else(|| printable(&t.name), |r| printable(&r.encode())),
        };
        for _ in 0..CHAIN {
            let at = self.next_on(&trail)?.ok_or_else(|| lost(&trail))?;
            let layer = self.lower(at)?;
            if layer.kind(at.node) != Kind::File {
                return Err(lost(&trail));
            }
            // what a data-only layer holds is data
            if at.layer.0 < self.data_only || !layer.is_metacopy(at.node)? {
                log::trace!(
                    "data of {} is in {:?}",
                    printable(&trail.name),
                    LayerRef::Lower(at.layer)
                );
                return Ok(at);
            }
            if let Some(Redirect::Absolute(path)) = &trail.redirect {
                trail.parents = self.parents_of(path);
            }
            trail.name = layer.with_name(at.node, |n| Box::from(n));
            trail.redirect = layer.redirect(at.node)?;
            trail.below = at.layer.0;
        }
        Err(lost(&trail))
    }

    fn next_on(&self, trail: &Trail) -> Result<Option<At>> {
        let name = match &trail.redirect {
            Some(Redirect::Absolute(path)) => {
                return Ok(self.walk_down(path, trail.below, 0)?.map(|(at, _)| at));
            }
            Some(Redirect::Sibling(name)) => name,
            None => &trail.name,
        };
        for p in trail.parents.iter().filter(|p| p.layer.0 < trail.below) {
            if let Some(node) = self.lower(*p)?.child(p.node, name)? {
                return Ok(Some(At { layer: p.layer, node }));
            }
        }
        Ok(None)
    }
}
