//! The other names of a hard-linked file of a lower layer. In a plain one nothing but a walk can
//! find them.

use super::Overlay;
use super::error::{Error, Result};
use super::inode::{DirInode, Object, Place};
use super::listing::Found;
use super::lower::At;
use super::plain::PlainLayer;
use super::types::Ino;
use crate::index::{Kind, NodeId};
use crate::sys::{Errno, FileType};
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many entries of a layer are walked in search of names. In a larger layer only the names
/// that were looked up are known.
const ENTRIES: usize = 1_000_000;

/// The files of a layer that have several names in it.
#[derive(Debug, Default)]
pub(super) struct LinkGroups(HashMap<Ino, Vec<NodeId>>);

impl LinkGroups {
    /// Walks the whole layer: one getdents for each directory that was not read yet.
    pub(super) fn walk(layer: &PlainLayer) -> Result<LinkGroups> {
        let mut files: Vec<(Ino, NodeId)> = Vec::new();
        let mut dirs = vec![NodeId::ROOT];
        let mut seen = 0;
        while let Some(dir) = dirs.pop() {
            let read = layer.for_children(dir, &mut |_, node, kind| {
                seen += 1;
                match kind {
                    Kind::Dir => dirs.push(node),
                    Kind::Whiteout => {}
                    _ => files.push((layer.ino(node), node)),
                }
            });
            match read {
                // what lies there cannot be reached through this view either
                Err(e) if e.errno() == Errno::ACCESS => {}
                read => read?,
            }
            if seen > ENTRIES {
                log::warn!("hard links of a layer of over {ENTRIES} entries are not searched for");
                return Ok(LinkGroups::default());
            }
        }
        files.sort_unstable();
        let groups = files.chunk_by(|a, b| a.0 == b.0).filter(|g| g.len() > 1);
        Ok(LinkGroups(groups.map(|g| (g[0].0, g.iter().map(|(_, n)| *n).collect())).collect()))
    }

    /// Returns the nodes of all names of the file `ino`, of which `node` is one.
    pub(super) fn of(&self, ino: Ino, node: NodeId) -> Vec<NodeId> {
        self.0.get(&ino).cloned().unwrap_or_else(|| vec![node])
    }
}

/// Where in the view a directory of a layer is.
enum Seen {
    /// It is part of this directory.
    In(Arc<DirInode>),
    /// Something hides it: the last directory on the way to it, and the names from there.
    Hidden(Arc<DirInode>, Vec<Box<[u8]>>),
}

impl Overlay {
    /// Returns the names under which the view shows a file of an indexed layer.
    pub(super) fn names_of(&self, number: Ino, at: At) -> Result<Vec<Place>> {
        let layer = self.lower(at)?;
        let mut out = Vec::new();
        for node in layer.links(at.node)? {
            let part = At { layer: at.layer, node: layer.parent(node) };
            let Seen::In(dir) = self.whereabouts(part)? else { continue };
            let name: Arc<[u8]> = layer.with_name(node, |n| Arc::from(n));
            let found = self.listing(&dir)?.find(&self.lowers, &name);
            if let Some(found @ Found::Base(_)) = found
                && self.number_of(&found)? == number
            {
                out.push(Place { parent: dir.ino, name });
            }
        }
        Ok(out)
    }

    /// Returns how many links of a lower file are left, of `links` that its layer counts, of which
    /// this mount has removed so many names.
    pub(super) fn links_left(&self, at: At, links: u32, removed: u32) -> Result<u32> {
        let before = if links > 1 { self.gone_before(at)? } else { 0 };
        Ok(links.saturating_sub(before).saturating_sub(removed))
    }

    /// Returns how many names of a lower file earlier mounts of the upper have removed. Found once,
    /// before this mount removes the first ([`keep_other_names`](Self::keep_other_names) asks too).
    pub(super) fn gone_before(&self, at: At) -> Result<u32> {
        if !self.upper.as_ref().is_some_and(|u| u.counts_links) {
            return Ok(0);
        }
        let number = self.lower(at)?.ino(at.node);
        if let Some(known) = self.gone_before.read().get(&number) {
            return Ok(*known);
        }
        let gone = match self.names_gone(number, at) {
            Err(e) if !is_passing(&e) => {
                log::debug!("names of a file that went cannot be counted: {e}");
                0
            }
            counted => counted?,
        };
        // who was first had counted before any name went
        Ok(*self.gone_before.write().entry(number).or_insert(gone))
    }

    /// Returns how many names of a lower file the upper has taken away: those that the lowers show
    /// and the view does not. What a lower layer hides its own file system still counts.
    fn names_gone(&self, number: Ino, at: At) -> Result<u32> {
        let layer = self.lower(at)?;
        let mut gone = 0;
        for node in layer.links(at.node)? {
            let part = At { layer: at.layer, node: layer.parent(node) };
            let name: Box<[u8]> = layer.with_name(node, |n| Box::from(n));
            let (above, way) = match self.whereabouts(part)? {
                Seen::In(dir) => (dir, Vec::new()),
                Seen::Hidden(dir, way) => (dir, way),
            };
            if way.is_empty()
                && let Some(found) = self.listing(&above)?.find(&self.lowers, &name)
                && self.number_of(&found)? == number
            {
                continue;
            }
            gone += u32::from(self.lowers_show(number, above.lowers().to_vec(), &way, &name)?);
        }
        Ok(gone)
    }

    /// Returns the number of what a listing shows, or of the lower file that it is a copy of.
    fn number_of(&self, found: &Found) -> Result<Ino> {
        match found {
            Found::Base(e) => Ok(self.lower(e.at)?.ino(e.at.node)),
            Found::Own(e) => Ok(e.ino),
        }
    }

    /// Finds the directory of the view that a lower directory is part of.
    fn whereabouts(&self, part: At) -> Result<Seen> {
        let seen = self.known_whereabouts(part)?;
        if matches!(seen, Seen::Hidden(..)) && self.learn_moved()? {
            return self.known_whereabouts(part);
        }
        Ok(seen)
    }

    /// Returns the directory of the view that a lower directory is part of, if it is in sight.
    pub(super) fn dir_of_part(&self, part: At) -> Result<Option<Arc<DirInode>>> {
        match self.whereabouts(part)? {
            Seen::In(dir) => Ok(Some(dir)),
            Seen::Hidden(..) => Ok(None),
        }
    }

    /// As [`whereabouts`](Self::whereabouts), but of the directories that the upper holds at
    /// another place only those are known that were looked up.
    fn known_whereabouts(&self, part: At) -> Result<Seen> {
        let layer = self.lower(part)?;
        // up to a directory that was looked up
        let mut at = part;
        let mut way = Vec::new();
        let mut dir = loop {
            let known = self.part_of.read().get(&at).copied();
            if let Some(dir) = known.map(|ino| self.dir(ino)).transpose()?
                && !dir.is_removed()
            {
                break dir;
            }
            if at.node == NodeId::ROOT {
                break self.dir(Ino::ROOT)?;
            }
            way.push(at);
            at.node = layer.parent(at.node);
        };
        // and down again, where nothing hides what the layer has
        let name = |at: &At| -> Box<[u8]> { layer.with_name(at.node, |n| Box::from(n)) };
        while let Some(next) = way.pop() {
            // a file of that name is not made an object: that could ask for its names, and so for
            // this very directory again
            let found = self.listing(&dir)?.find(&self.lowers, &name(&next));
            let shown = match found.filter(|f| f.kind() == FileType::Dir) {
                Some(found) => Some(self.object_of(&dir, &name(&next), found)?.dir()?),
                None => None,
            };
            match shown.filter(|d| d.lowers().contains(&next)) {
                Some(shown) => dir = shown,
                None => {
                    let rest = std::iter::once(next).chain(way.into_iter().rev());
                    return Ok(Seen::Hidden(dir, rest.map(|at| name(&at)).collect()));
                }
            }
        }
        Ok(Seen::In(dir))
    }

    /// Looks up each directory of the upper, once: those that were moved show what their layers have
    /// elsewhere. Returns whether that was not yet done.
    fn learn_moved(&self) -> Result<bool> {
        let redirects = self.upper.is_some() && self.options.follow_redirects;
        if !redirects || self.moved_known.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut dirs = vec![self.dir(Ino::ROOT)?];
        while let Some(dir) = dirs.pop() {
            let own = match self.listing(&dir).map(|listing| listing.own_dirs()) {
                Err(e) => {
                    leads_nowhere(e)?;
                    continue;
                }
                Ok(own) => own,
            };
            for entry in own {
                match self.find(&dir, &entry.name) {
                    Ok(Object::Dir(found)) => dirs.push(found),
                    // replaced meanwhile
                    Ok(_) => {}
                    Err(e) => leads_nowhere(e)?,
                }
            }
        }
        self.moved_known.store(true, Ordering::Release);
        Ok(true)
    }
}

/// Passes over a directory that cannot be listed or entered: nobody gets through it to what is
/// below.
fn leads_nowhere(e: Error) -> Result<()> {
    if is_passing(&e) {
        return Err(e);
    }
    log::debug!("a directory of the upper leads nowhere: {e}");
    Ok(())
}

/// Returns whether an error is of want that others may not have the next moment.
fn is_passing(e: &Error) -> bool {
    matches!(e.errno(), Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}
