//! Copy-up: bringing a file of the lowers into the upper.
//!
//! First a plan, which only reads (`copy_plan`); then its run: the copy is staged in the work
//! directory and appears under its name by one rename. A failure or crash at any point leaves the
//! lower file visible, or the whole copy. It is as the lower file was, but for attributes that are
//! to change. Names of one file in a lower layer stay names of one file.

use super::Overlay;
use super::copy_plan::{Data, Plan};
use super::error::{Doing as _, Result};
use super::inode::{Backing, FileInode, Place};
use super::listing::{Below, Found, OwnEntry};
use super::make::Spec;
use super::settle::Later;
use super::types::SetAttr;
use super::upper::{Staged, UpperLayer};
use crate::sys::{File, FileType, Node, OpenFlags, RenameFlags};
use std::sync::Arc;

/// A copy that was just made.
pub(super) struct Fresh {
    /// A handle on it.
    pub(super) node: Arc<Node>,
    /// Whether it has the new attributes that the caller named.
    pub(super) is_set: bool,
    /// How many names it has beside those in the upper, if it says so.
    links: Option<i64>,
}

/// What a copy is in the upper.
#[derive(Clone, Copy)]
struct Copy {
    /// Inode number in the upper's file system.
    real: u64,
    kind: FileType,
    /// Whether the copy holds metadata only.
    metacopy: bool,
}

impl Overlay {
    /// Brings a file into the upper, if it is not there yet.
    pub(super) fn copy_up(&self, file: &Arc<FileInode>, data: Data) -> Result<()> {
        self.copy_up_for(file, data, None).map(drop)
    }

    /// Brings a file into the upper, if it is not there yet, where it can be at once with the
    /// attributes that the caller wants it to have. Returns the copy if it was just made.
    pub(super) fn copy_up_for(
        &self,
        file: &Arc<FileInode>,
        data: Data,
        set: Option<&SetAttr>,
    ) -> Result<Option<Fresh>> {
        self.writable()?;
        if !file.state.read().is_incomplete() {
            return Ok(None);
        }
        let _one_at_a_time = file.copy_up.lock();
        let fresh = self.make_complete(file, data, set);
        if fresh.is_err() && set.is_some() && file.in_upper() {
            // an error tells the kernel nothing of what was set
            self.copied.add(file.ino);
        }
        fresh
    }

    fn make_complete(
        &self,
        file: &Arc<FileInode>,
        data: Data,
        set: Option<&SetAttr>,
    ) -> Result<Option<Fresh>> {
        let at = file.state.read().lower();
        let mut fresh = None;
        if let Some(at) = at {
            let mut plan = self.plan(file, at, data)?;
            let is_set = set.is_some_and(|s| self.may_own(s) && plan.adopt(s));
            fresh = Some(Fresh { is_set, ..self.run(file, plan)? });
        }
        self.link_names_left(file)?;
        let written = fresh.as_ref().and_then(|f| f.links);
        if written.is_none_or(|n| n != file.state.read().uncopied_names) {
            self.keep_links(file)?;
        }
        Ok(fresh)
    }

    /// Returns whether a new file gets the owner that is asked for, or fails to be made.
    fn may_own(&self, set: &SetAttr) -> bool {
        let chown = set.uid.is_some() || set.gid.is_some();
        let may = self.identity.privileged && !self.options.ids.squashes();
        !chown || self.options.owner_view || may
    }

    /// Gives a copy the names that it has not got yet: because they were looked up while it was
    /// made, or because of an error then. Without them, what is written would be lost to them.
    fn link_names_left(&self, file: &FileInode) -> Result<()> {
        let (left, real) = {
            let state = file.state.read();
            (state.lower_names.clone(), state.real)
        };
        if left.is_empty() {
            return Ok(());
        }
        let metacopy = self.is_metacopy(file)?;
        let copy = Copy { real, kind: self.file_attr(file)?.kind, metacopy };
        for place in &left {
            self.commit_name(file, place, &mut None, copy)?;
        }
        Ok(())
    }

    fn run(&self, file: &Arc<FileInode>, mut plan: Plan) -> Result<Fresh> {
        let upper = self.writable()?;
        let spec = Spec {
            kind: plan.meta.kind,
            mode: plan.meta.mode,
            uid: plan.meta.uid,
            gid: plan.meta.gid,
            rdev: plan.meta.rdev,
            target: &plan.target,
            xattrs: plan.xattrs.clone(),
        };
        self.pass("copy-up:stage")?;
        let mut later = None;
        let staged = upper.staged();
        let dressed = self.is_dressed_when_made(&spec);
        let to = if dressed {
            let flags = OpenFlags::CREATE_NEW;
            Some(upper.stage.open_file(&staged.name, flags, spec.mode).upper("make a file")?)
        } else {
            self.make_bare(&upper.stage, &staged.name, &spec)?
        };
        if let Some(to) = to.as_ref().filter(|_| plan.metacopy) {
            to.truncate(plan.meta.size).upper("give a metacopy its size")?;
        }
        if let Some(to) = to.as_ref().filter(|_| plan.bytes > 0) {
            self.pass("copy-up:data")?;
            let from = match plan.content.take() {
                Some(f) => f,
                None => self.open_lower(plan.at)?,
            };
            later = self.copy_content(upper, &plan, &from, to)?;
        }
        self.pass("copy-up:metadata")?;
        let node = match to {
            Some(to) => Node::from(to),
            None => upper.stage.node(&staged.name).upper("open a staged file")?,
        };
        // marks first: the final mode may forbid to write any
        let batch = later.as_ref().and_then(Later::batch_to_name);
        self.mark_origin(&node, file.ino, plan.at, batch)?;
        let removed = file.state.read().removed_names;
        let left = self.links_left(plan.at, plan.meta.nlink, removed)?;
        // of a file of several names this is known when the copy has got them
        let links = (plan.is_alone() && left > 1).then(|| i64::from(left) - 1);
        let links = links.filter(|n| self.write_links(&node, *n));
        if plan.metacopy {
            let mark = node.set_xattr(self.dialect.metacopy(), b"", false, false);
            mark.upper("mark a file as metacopy")?;
        }
        let lazy = later.as_ref().and_then(|l| l.lazy.clone());
        if let (Some(later), Some(_)) = (&later, &lazy) {
            self.mark_unsettled(&node, later)?;
        }
        let recorded = if dressed {
            self.set_xattrs(&node, &spec)?;
            None
        } else {
            self.dress(&node, &spec)?
        };
        let [atime, mtime] = plan.times;
        node.set_times(atime, mtime).upper("set the times")?;
        let real = node.stat().upper("look at a staged file")?.ino;
        let node = Arc::new(node);
        let copy = Copy { real, kind: plan.meta.kind, metacopy: plan.metacopy };
        self.pass("copy-up:commit")?;
        let mut staged = Some(staged);
        // should giving it the other names fail, they still are names of this file
        {
            let mut state = file.state.write();
            // names that went since they were counted
            let since = state.removed_names - removed;
            state.uncopied_names = i64::from(left.saturating_sub(since));
            plan.names.iter().for_each(|p| state.add_lower_name(p.clone()));
            state.overridden = self.options.owner_view.then_some(recorded);
        }
        file.lazy.set(lazy);
        for place in &plan.names {
            let unnamed = staged.is_some();
            let committed = self.commit_name(file, place, &mut staged, copy);
            if committed.is_err() && !file.in_upper() {
                file.lazy.set(None);
            }
            if committed? && staged.is_none() {
                if unnamed {
                    file.state.write().counted |= links.is_some();
                    if let Some(later) = &later {
                        self.settles_later(file, later);
                    }
                }
                self.pass("copy-up:committed")?;
            }
        }
        if staged.is_some() {
            // no name is left: whoever holds the file gets a copy without one
            let mut state = file.state.write();
            state.lower_names.clear();
            state.uncopied_names = 0;
            state.orphan = Some(node.clone());
            state.backing = Backing::Upper;
            state.real = real;
            state.metacopy = Some(false);
        }
        Ok(Fresh { node, is_set: false, links })
    }

    /// Copies the content of a file; returns what of it waits.
    fn copy_content(
        &self,
        upper: &UpperLayer,
        plan: &Plan,
        from: &File,
        to: &File,
    ) -> Result<Option<Later>> {
        if plan.may_be_lazy()
            && let Some(later) = self.begin_lazy(upper, from, to, plan.bytes)?
        {
            return Ok(Some(later));
        }
        let shared = upper.copy(from, to, plan.bytes, &plan.meta)?;
        // as the kernel's overlayfs: after a power loss the name must not lead to less data.
        // The sharing of blocks needs no sync: it is in the journal before the rename
        if upper.volatile || upper.holes_tell && shared {
            return Ok(None);
        }
        let batch = if plan.is_alone() { self.may_wait(upper) } else { None };
        if batch.is_none() {
            to.sync(true).upper("sync a copied file")?;
        }
        Ok(batch.map(Later::from))
    }

    /// Gives the copy one of its names, if the view still shows the file there.
    fn commit_name(
        &self,
        file: &FileInode,
        place: &Place,
        staged: &mut Option<Staged<'_>>,
        copy: Copy,
    ) -> Result<bool> {
        let Some(parent) = self.dir(place.parent).ok().filter(|d| !d.is_removed()) else {
            file.state.write().lower_names.retain(|p| p != place);
            return Ok(false);
        };
        self.ensure_upper(&parent)?;
        let _tree = self.tree.read();
        let _names = parent.names.lock();
        let shown = self.listing(&parent)?.find(&self.lowers, &place.name);
        let number = match file.below {
            Some(at) => self.lower(at)?.ino(at.node),
            None => file.ino,
        };
        let same = match shown {
            Some(Found::Base(e)) => self.lower(e.at)?.ino(e.at.node) == number,
            _ => false,
        };
        if !same {
            // removed or replaced since the plan was made
            file.state.write().lower_names.retain(|p| p != place);
            return Ok(false);
        }
        let dir = self.upper_dir(&parent)?;
        self.mark_impure(&parent, &dir)?;
        self.keeping_times(&parent, &dir, || match staged.take() {
            Some(s) => {
                s.commit(&dir, &place.name, RenameFlags::NoReplace).upper("put a copy in place")
            }
            None => {
                let node = self.upper_node(file)?;
                node.link_to(&dir, &place.name).upper("link a copy's other name")
            }
        })?;
        {
            let mut state = file.state.write();
            state.backing = Backing::Upper;
            state.real = copy.real;
            state.metacopy = Some(copy.metacopy);
            state.one_name_less();
            state.add_upper_name(place.clone());
        }
        // the listing must say so too: the kernel may forget the file, and its object goes then
        let entry = OwnEntry {
            name: place.name.clone(),
            ino: file.ino,
            real: copy.real,
            kind: copy.kind,
            below: Below::Nothing,
        };
        self.listing_mut(&parent)?.copied_up(&self.lowers, entry);
        Ok(true)
    }
}
