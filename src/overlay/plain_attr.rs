//! What the files of a plain layer are like: attributes, extended attributes, targets, and the records
//! that put others in their place. Read when asked for, from the snapshot or the disk.

use super::error::{Doing as _, Error, Result};
use super::lower::Meta;
use super::plain::{PlainLayer, is_covered};
use super::xattr::{disk_name, shown_name};
use crate::index::{Kind, NodeId};
use crate::marker::{OverrideStat, Redirect};
use crate::name::printable;
use crate::snapshot::Seen;
use crate::sys::{self, Dir, Errno, FileType, Node, OpenFlags, Stat};

/// What is recorded about a regular file.
pub(super) struct FileRecord(pub(super) Option<OverrideStat>);

impl FileRecord {
    /// Returns what the file stands in for. A directory is none that has files.
    pub(super) fn kind_of(&self, on_disk: Kind) -> Kind {
        let recorded = self.0.as_ref().and_then(|o| o.kind).filter(|k| *k != FileType::Dir);
        recorded.map_or(on_disk, Kind::of)
    }
}

/// A directory at which one looks several times.
enum Held<'a> {
    Open(Dir),
    Found(Node),
    Known(Seen<'a>),
}

impl Held<'_> {
    fn stat(&self) -> sys::Result<Stat> {
        match self {
            Held::Open(dir) => dir.stat_self(),
            Held::Found(node) => node.stat(),
            Held::Known(seen) => Ok(seen.stat()),
        }
    }

    fn get_xattr(&self, key: &[u8]) -> sys::Result<Option<Vec<u8>>> {
        match self {
            Held::Open(dir) => dir.get_xattr_self(key),
            Held::Found(node) => node.get_xattr(key),
            Held::Known(seen) => Ok(seen.xattr(key)),
        }
    }
}

impl PlainLayer {
    /// Reads what is recorded about a file, and remembers what it stands in for.
    pub(super) fn record_of_file(&self, node: NodeId) -> Result<FileRecord> {
        let parent = self.parent(node);
        let version = self.with(parent, |e| e.version)?;
        let record = match self.known(node) {
            Some(known) => self.recorded.read(|key| Ok(known.xattr(key))),
            None => {
                let (dir, name) = self.place(node)?;
                self.recorded.read(|key| dir.get_xattr(&name, key))
            }
        };
        let record = FileRecord(record.layer(self.at(), "read the recorded attributes")?);
        if self.with(node, |e| e.state.may_stand_in())? {
            let mut all = self.entries.write();
            // else somebody may have changed it since
            let same = all.get(parent.0 as usize).is_some_and(|e| e.version == version);
            if let Some(e) = all.get_mut(node.0 as usize).filter(|_| same) {
                e.kind = record.kind_of(e.kind);
                e.state = e.state.standing_in(false);
            }
        }
        Ok(record)
    }

    pub(super) fn redirect(&self, node: NodeId) -> Result<Option<Redirect>> {
        if self.kind_on_disk(node) == Kind::Dir && !self.marks(node)?.redirect {
            return Ok(None);
        }
        let Some(value) = self.get_xattr_of(node, self.dialect.redirect(), "read a redirect")?
        else {
            return Ok(None);
        };
        match Redirect::parse(&value) {
            Ok(r) => Ok(Some(r)),
            Err(e) => {
                log::warn!("{:?}: redirect {:?} is not valid: {e}", self.at(), printable(&value));
                Err(Error::Invalid)
            }
        }
    }

    pub(super) fn meta(&self, node: NodeId) -> Result<Meta> {
        let (stat, seen) = if let Some(known) = self.known(node) {
            (Ok(known.stat()), Some(Held::Known(known)))
        } else if node == NodeId::ROOT || self.is_watched_for_mounts(node) {
            match self.hold(node) {
                Err(e) if is_covered(&e) => return self.covered_meta(),
                held => {
                    let held = held?;
                    (held.stat(), Some(held))
                }
            }
        } else {
            let (dir, name) = self.place(node)?;
            (dir.stat(&name), None)
        };
        let mut meta = Meta::from(&stat.layer(self.at(), "look at a file")?);
        if self.recorded.any() && matches!(meta.kind, FileType::File | FileType::Dir) {
            let record = match (meta.kind, seen) {
                (FileType::File, _) => self.record_of_file(node)?.0,
                (_, Some(held)) => self.record_of_dir(&held)?,
                (_, None) => self.record_of_dir(&self.hold(node)?)?,
            };
            if let Some(o) = record {
                meta.apply(&o);
            }
        }
        Ok(meta)
    }

    fn record_of_dir(&self, held: &Held<'_>) -> Result<Option<OverrideStat>> {
        let record = self.recorded.read(|key| held.get_xattr(key));
        record.layer(self.at(), "read the recorded attributes")
    }

    /// Returns a directory as it is open already, or finds it.
    fn hold(&self, node: NodeId) -> Result<Held<'_>> {
        let open = match node {
            NodeId::ROOT => Some(self.root().clone()),
            _ => self.handles.lock().get(&node).cloned(),
        };
        match open {
            Some(dir) => Ok(Held::Open(dir)),
            None => self.handle(node).map(Held::Found),
        }
    }

    /// What is shown of a directory that a mount covers.
    fn covered_meta(&self) -> Result<Meta> {
        let meta = self.meta(NodeId::ROOT)?;
        Ok(Meta { mode: 0o555, nlink: 2, size: 0, blocks: 0, ..meta })
    }

    pub(super) fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        if let Some(known) = self.known(node)
            && known.stat().file_type() == FileType::Symlink
        {
            return Ok(known.target().to_vec());
        }
        let (dir, name) = self.place(node)?;
        match dir.readlink(&name) {
            // a regular file that stands in for a symlink
            Err(Errno::INVAL) if self.recorded.any() => {
                let flags = OpenFlags { nonblock: true, noatime: true, ..OpenFlags::READ };
                let file = dir.open_file(&name, flags, 0).layer(self.at(), "open a stand-in")?;
                let mut target = vec![0; 4096];
                let n = file.read_at(&mut target, 0).layer(self.at(), "read a stand-in")?;
                target.truncate(n);
                Ok(target)
            }
            r => r.layer(self.at(), "read a symlink"),
        }
    }

    pub(super) fn xattrs(&self, node: NodeId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if let Some(known) = self.known(node) {
            let shown = |key: &[u8]| shown_name(self.dialect, self.recorded.private(), key);
            return Ok(known.xattrs().filter_map(|(k, v)| Some((shown(k)?, v.to_vec()))).collect());
        }
        let handle = match self.handle(node) {
            Err(e) if is_covered(&e) => return Ok(Vec::new()),
            handle => handle?,
        };
        let mut out = Vec::new();
        for key in handle.list_xattr().layer(self.at(), "list extended attributes")? {
            if let Some(name) = shown_name(self.dialect, self.recorded.private(), &key)
                && let Some(value) =
                    handle.get_xattr(&key).layer(self.at(), "read an extended attribute")?
            {
                out.push((name, value));
            }
        }
        Ok(out)
    }

    pub(super) fn xattr_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        let all = if let Some(known) = self.known(node) {
            Ok(known.xattrs().map(|(key, _)| key.to_vec()).collect())
        } else if self.kind(node) == Kind::File {
            let (dir, name) = self.place(node)?;
            dir.list_xattr(&name)
        } else {
            match self.handle(node) {
                Err(e) if is_covered(&e) => return Ok(Vec::new()),
                handle => handle?.list_xattr(),
            }
        }
        .layer(self.at(), "list extended attributes")?;
        let visible = |key: &Vec<u8>| shown_name(self.dialect, self.recorded.private(), key);
        Ok(all.iter().filter_map(visible).collect())
    }

    pub(super) fn xattr(&self, node: NodeId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        const DOING: &str = "read an extended attribute";
        let disk = disk_name(self.dialect, self.recorded.private(), key);
        // of a regular file a name is enough
        if self.known(node).is_none() && self.kind(node) == Kind::File {
            let (dir, name) = self.place(node)?;
            return dir.get_xattr(&name, &disk).layer(self.at(), DOING);
        }
        self.get_xattr_of(node, &disk, DOING)
    }

    /// Reads an extended attribute; of what a mount covers there is none.
    fn get_xattr_of(
        &self,
        node: NodeId,
        key: &[u8],
        doing: &'static str,
    ) -> Result<Option<Vec<u8>>> {
        if let Some(known) = self.known(node) {
            return Ok(known.xattr(key));
        }
        match self.handle(node) {
            Err(e) if is_covered(&e) => Ok(None),
            handle => handle?.get_xattr(key).layer(self.at(), doing),
        }
    }
}
