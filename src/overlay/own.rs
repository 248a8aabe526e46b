//! The upper's own entries: what a directory's listing has beside those of the lowers.

use super::Overlay;
use super::base::Base;
use super::error::{Doing as _, Error, Result};
use super::inode::DirInode;
use super::listing::{Below, Listing, OwnEntry};
use super::wh_names::marks_opaque;
use crate::marker::{OverrideStat, Redirect};
use crate::name::printable;
use crate::resolve::LayerRef;
use crate::sys::{Dir, DirEntry, Errno, FileType};
use parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLockReadGuard, RwLockWriteGuard,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reads an extended attribute of one entry.
type ReadMark<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Vec<u8>>>;

/// What a directory of the upper says about its entries.
#[derive(Clone, Copy)]
struct Marks {
    /// It holds entries that were copied up or moved.
    impure: bool,
    /// Its entries may be whiteouts in extended-attribute form.
    xattr_whiteouts: bool,
}

impl Overlay {
    /// Returns the directory's listing, reading it if that was not done yet.
    pub(super) fn listing<'a>(
        &self,
        dir: &'a DirInode,
    ) -> Result<MappedRwLockReadGuard<'a, Listing>> {
        loop {
            if let Ok(g) = RwLockReadGuard::try_map(dir.listing.read(), Option::as_ref) {
                return Ok(g);
            }
            self.load(&mut dir.listing.write(), dir)?;
        }
    }

    /// Returns the directory's listing for a change.
    pub(super) fn listing_mut<'a>(
        &self,
        dir: &'a DirInode,
    ) -> Result<MappedRwLockWriteGuard<'a, Listing>> {
        let mut guard = dir.listing.write();
        self.load(&mut guard, dir)?;
        RwLockWriteGuard::try_map(guard, Option::as_mut).map_err(|_| Error::Stale)
    }

    fn load(&self, slot: &mut Option<Listing>, dir: &DirInode) -> Result<()> {
        if slot.is_some() {
            return Ok(());
        }
        if dir.is_removed() {
            *slot = Some(Listing::new(Base::default()));
            return Ok(());
        }
        self.ahead.read(&self.lowers, &dir.lowers(), None);
        let mut listing = Listing::new(Base::merge(&self.lowers, &dir.lowers())?);
        if dir.in_upper() {
            let handle = self.upper_dir(dir)?;
            let node = handle.as_node().upper("open a directory of the upper")?;
            let mark = |key| node.get_xattr(key).upper("read a directory's marks");
            let marks = Marks {
                impure: mark(self.dialect.impure())?.is_some(),
                xattr_whiteouts: self.writable()?.whiteout_files
                    || mark(self.dialect.opaque())?.as_deref() == Some(b"x"),
            };
            dir.impure.store(marks.impure, Ordering::Relaxed);
            let entries = handle.list().upper("list a directory of the upper")?;
            for e in self.writable()?.settle_marks(&handle, entries)? {
                if let Some(name) = self.options.whiteout_names.hidden(&e.name) {
                    listing.remove(&self.lowers, name, true);
                    continue;
                }
                match self.own_entry(dir, &handle, &e, &listing, marks)? {
                    Some(entry) => listing.put(&self.lowers, entry),
                    None => listing.remove(&self.lowers, &e.name, true),
                }
            }
        }
        *slot = Some(listing);
        Ok(())
    }

    /// Returns what an entry of the upper's directory is in the view; `None` for a whiteout.
    fn own_entry(
        &self,
        dir: &DirInode,
        handle: &Dir,
        e: &DirEntry,
        listing: &Listing,
        marks: Marks,
    ) -> Result<Option<OwnEntry>> {
        let upper = self.writable()?;
        let mut kind = match e.file_type {
            Some(t) if t != FileType::Char => t,
            _ => {
                let s = handle.stat(&e.name).upper("look at a file of the upper")?;
                if s.is_whiteout_device() {
                    return Ok(None);
                }
                s.file_type()
            }
        };
        // through a handle, for on a directory this view itself may be mounted
        let node = match kind {
            FileType::Dir => match handle.node_here(&e.name) {
                Err(Errno::XDEV) => None,
                node => Some(node.upper("open a directory of the upper")?),
            },
            _ => None,
        };
        let xattr = |key: &[u8]| {
            match (&node, kind) {
                (Some(node), _) => node.get_xattr(key),
                // it cannot be entered, so that nothing below it is shown either
                (None, FileType::Dir) => Ok((key == self.dialect.opaque()).then(|| b"y".to_vec())),
                (None, _) => handle.get_xattr(&e.name, key),
            }
            .upper("read a mark in the upper")
        };
        let mut below = Below::Nothing;
        let mut ino = None;
        if kind == FileType::Dir {
            below = if self.options.whiteout_names.heeded()
                && node.is_some()
                && self.is_marked(handle, &e.name)?
            {
                Below::Nothing
            } else {
                self.below(&xattr)?
            };
            let parts = match &below {
                Below::Nothing => Vec::new(),
                Below::SameName if !listing.in_lowers(&self.lowers, &e.name) => Vec::new(),
                other => self.parts_below(dir, &e.name, other)?,
            };
            if let Some(at) = parts.first() {
                ino = Some(self.lower(*at)?.ino(at.node));
            }
        } else {
            if marks.xattr_whiteouts
                && kind == FileType::File
                && xattr(self.dialect.whiteout())?.is_some()
            {
                return Ok(None);
            }
            // the kernel marks no directory that a copied-up file is linked to
            let linked = || -> Result<bool> {
                let stat = handle.stat(&e.name).upper("look at a file of the upper")?;
                Ok(stat.nlink > 1)
            };
            if marks.impure || upper.of_the_kernel && linked()? {
                let record = self.copy_record(xattr)?;
                ino = record.own.and_then(|own| self.recorded_number(own));
                if ino.is_none()
                    && let Some(value) = &record.kernel
                {
                    ino = self.follow_kernel_origin(value, listing, &e.name, e.ino)?;
                }
            }
            if self.options.owner_view && kind == FileType::File {
                let key = self.options.records.stat_key();
                let recorded = xattr(key)?.and_then(|v| OverrideStat::parse(&v));
                kind = recorded.and_then(|o| o.kind).unwrap_or(kind);
            }
        }
        let ino = ino.unwrap_or_else(|| self.devices.ino(upper.dev, e.ino));
        Ok(Some(OwnEntry { name: Arc::from(&e.name[..]), ino, real: e.ino, kind, below }))
    }

    /// Returns whether a directory of the upper holds the name that makes it opaque.
    fn is_marked(&self, parent: &Dir, name: &[u8]) -> Result<bool> {
        let dir = parent.open_dir_here(name).upper("open a directory of the upper")?;
        marks_opaque(|name| dir.stat(name)).upper("look for the opaque mark")
    }

    /// Returns which lower directories lie below an upper directory.
    fn below(&self, xattr: ReadMark<'_>) -> Result<Below> {
        if xattr(self.dialect.opaque())?.as_deref() == Some(b"y") {
            return Ok(Below::Nothing);
        }
        let redirect =
            if self.options.follow_redirects { xattr(self.dialect.redirect())? } else { None };
        let Some(value) = redirect else { return Ok(Below::SameName) };
        match Redirect::parse(&value) {
            Ok(r) => Ok(Below::Redirected(r)),
            Err(why) => {
                log::warn!("upper: redirect {:?} is not valid: {why}", printable(&value));
                Err(Error::Layer {
                    layer: LayerRef::Upper,
                    doing: "follow a redirect that is not valid",
                    errno: Errno::IO,
                })
            }
        }
    }
}
