//! Merged directories whose parts somebody has edited: they take over what the layers hold now.

use super::Overlay;
use super::changes::Seen;
use super::inode::{DirInode, Removed};
use super::listing::{Below, Found, OwnEntry};
use super::lower::At;
use super::plain_names::NameChange;
use super::types::{Change, Ino};
use crate::sys::FileType;
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The directories of the view, found by place.
#[derive(Debug, Default)]
struct Tree {
    by_parent: HashMap<Ino, Vec<Arc<DirInode>>>,
}

impl Tree {
    fn new(dirs: &[Arc<DirInode>]) -> Tree {
        let mut by_parent: HashMap<Ino, Vec<Arc<DirInode>>> = HashMap::new();
        for d in dirs.iter().filter(|d| d.ino != Ino::ROOT && !d.is_removed()) {
            by_parent.entry(d.place.read().parent).or_default().push(d.clone());
        }
        Tree { by_parent }
    }

    fn below(&self, dir: Ino) -> &[Arc<DirInode>] {
        self.by_parent.get(&dir).map_or(&[], Vec::as_slice)
    }

    fn at(&self, parent: Ino, name: &[u8]) -> Option<&Arc<DirInode>> {
        self.below(parent).iter().find(|d| !d.is_removed() && *d.place.read().name == *name)
    }
}

impl Overlay {
    /// Brings all directories of the view up to date. `Overlay::tree` must be held.
    pub(super) fn follow_dirs(
        &self,
        dirs: &[Arc<DirInode>],
        seen: &Seen,
        changes: &HashMap<At, Vec<NameChange>>,
        out: &mut Vec<Change>,
    ) {
        let tree = Tree::new(dirs);
        let mut names = Vec::new();
        let mut anew: Vec<Arc<DirInode>> = Vec::new();
        for d in dirs.iter().filter(|d| !d.is_removed()) {
            let parts = d.lowers();
            let changed = || parts.iter().filter_map(|at| changes.get(at)).flatten();
            if parts.iter().any(|at| seen.again.contains(at)) {
                out.push(Change::Inode(d.ino));
            }
            if changed().next().is_some() {
                self.rebase(d, &tree, &mut names);
                anew.extend(changed().filter_map(|c| tree.at(d.ino, &c.name)).cloned());
            }
            let touched = parts.iter().any(|at| seen.themselves.contains(at) || self.is_gone(*at));
            if touched || seen.all || seen.anew.contains(&d.ino) {
                anew.push(d.clone());
            }
        }
        for d in anew {
            self.put_together(&d, &tree, &mut names, out);
        }
        for (parent, name) in names {
            // a directory that is still the same one stays
            if tree.at(parent, &name).is_none() {
                out.push(Change::Name { parent, name });
            }
        }
    }

    /// Lets a directory's listing take over what its parts hold now.
    fn rebase(&self, dir: &DirInode, tree: &Tree, names: &mut Vec<(Ino, Box<[u8]>)>) {
        let mut guard = dir.listing.write();
        let Some(listing) = &mut *guard else { return };
        // a directory's copy-up changes no listing: while the lowers show it that says enough
        for child in tree.below(dir.ino).iter().filter(|c| c.in_upper() && !c.is_removed()) {
            let name = child.place.read().name.clone();
            if let Some(Found::Base(_)) = listing.find(&self.lowers, &name) {
                let real = child.real.load(Ordering::Acquire);
                let (ino, kind, below) = (child.ino, FileType::Dir, Below::SameName);
                listing.copied_up(&self.lowers, OwnEntry { name, ino, real, kind, below });
            }
        }
        match listing.rebase(&self.lowers, &dir.lowers()) {
            Ok(found) => names.extend(found.into_iter().map(|n| (dir.ino, n))),
            Err(e) => log::warn!("a directory whose lowers were changed cannot be read: {e}"),
        }
    }

    /// Looks anew which lower directories a directory is merged from.
    fn put_together(
        &self,
        dir: &Arc<DirInode>,
        tree: &Tree,
        names: &mut Vec<(Ino, Box<[u8]>)>,
        out: &mut Vec<Change>,
    ) {
        if dir.ino == Ino::ROOT || dir.is_removed() {
            return;
        }
        let place = dir.place.read().clone();
        let old = dir.lowers();
        let new = match self.parts_at(&place) {
            Ok(p) => p,
            Err(e) => {
                log::warn!("a directory whose lowers were changed cannot be merged: {e}");
                return;
            }
        };
        let same_one = |new: &[At]| dir.in_upper() || new.iter().any(|at| old.contains(at));
        let Some(new) = new.filter(|n| same_one(n)) else {
            self.lose(dir, tree);
            out.push(Change::Name { parent: place.parent, name: place.name[..].into() });
            return;
        };
        out.push(Change::Inode(dir.ino));
        if *new == *old {
            return;
        }
        {
            let mut part_of = self.part_of.write();
            for at in old.iter() {
                if part_of.get(at) == Some(&dir.ino) {
                    part_of.remove(at);
                }
            }
            for at in &new {
                part_of.entry(*at).or_insert(dir.ino);
            }
        }
        dir.set_lowers(&new);
        self.rebase(dir, tree, names);
        for child in tree.below(dir.ino) {
            self.put_together(child, tree, names, out);
        }
    }

    /// A directory of the lowers alone is not there any more, nor what is below it.
    fn lose(&self, dir: &DirInode, tree: &Tree) {
        if dir.is_removed() {
            return;
        }
        self.dir_gone(dir, None);
        *dir.removed.write() = Some(Removed { dir: None, elsewhere: true });
        for child in tree.below(dir.ino) {
            self.lose(child, tree);
        }
    }
}
