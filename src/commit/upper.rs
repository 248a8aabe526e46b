//! A container's writable layer, as it is at one moment.

use super::CommitError;
use crate::index::{Index, IndexError, Marks, NodeId, ScanOptions, scan_once};
use crate::marker::{CONTAINERS_NAMES, Dialect, OVERRIDE_XATTR, PRIVILEGED_OVERRIDE_XATTR};
use crate::overlay::Records;
use crate::store::{Container, Store};
use crate::sys::{Dir, Errno, Identity, Stat};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// What an upper holds, and how its mounts have written it.
#[derive(Debug)]
pub(super) struct Upper {
    pub(super) names: Index,
    pub(super) dialect: Dialect,
    /// Where owners are recorded, if they are.
    pub(super) records: Option<Records>,
    /// Whether there are records that anybody in the container may have set.
    pub(super) unbelieved: bool,
    /// What differs as soon as any file of it has been changed.
    state: u64,
}

impl Upper {
    /// Reads all names and attributes below `dir`.
    pub(super) fn read(dir: &Dir) -> Result<Upper, IndexError> {
        let me = Identity::current();
        let owner = dir.stat_self().map_err(|e| IndexError::Scan(b".".to_vec(), e))?.uid;
        let dialect = Dialect::of_upper(owner, me.privileged);
        let mut state = DefaultHasher::new();
        let (mut recorded, mut by_root, mut by_containers) = (false, false, false);
        let mut anybodys = false;
        let mut each = |name: &[u8], stat: &Stat, keys: &[Vec<u8>]| {
            note(&mut state, name, stat);
            // on a file of root's anybody in the container may have set it, on the root he may not
            let believed = owner != 0 || name == b".";
            for key in keys {
                recorded |= believed && key == OVERRIDE_XATTR;
                anybodys |= key == OVERRIDE_XATTR;
                by_root |= key == PRIVILEGED_OVERRIDE_XATTR;
                by_containers |= key != OVERRIDE_XATTR && key.starts_with(CONTAINERS_NAMES);
            }
        };
        // redirects are believed: only mounts write to an upper
        let options = ScanOptions { marks: Marks::Of(dialect), ..ScanOptions::default() };
        let names = scan_once(dir, options, &mut each)?;
        let records = match (by_root, by_containers) {
            (true, _) => Some(Records::Privileged),
            (false, true) if recorded || !me.privileged => Some(Records::Containers),
            _ if recorded || !me.privileged => Some(Records::Own),
            _ => None,
        };
        let unbelieved = anybodys && records.is_none();
        Ok(Upper { names, dialect, records, unbelieved, state: state.finish() })
    }

    /// Returns whether nobody has changed anything between the two.
    pub(super) fn is_as(&self, other: &Upper) -> bool {
        self.state == other.state
    }

    /// Returns whether somebody changed the attributes of the container's root directory: it was
    /// made as the init layer's.
    pub(super) fn root_changed(&self, store: &Store, c: &Container) -> Result<bool, CommitError> {
        let init = match &c.init {
            Some(cache) => Some(Upper::read(&store.diff_dir(cache)?)?.names),
            None => None,
        };
        let root = |names: &Index| {
            let node = names.node(NodeId::ROOT)?;
            let xattrs = names.xattrs(NodeId::ROOT).map(|(k, v)| (k.to_vec(), v.to_vec()));
            Some(((node.mode, node.uid, node.gid), xattrs.collect::<Vec<_>>()))
        };
        let as_made = || Some(((0o755, 0, 0), Vec::new()));
        Ok(root(&self.names) != init.as_ref().map_or_else(as_made, root))
    }
}

/// Returns whether an upper could not be read because a file of it went away meanwhile.
pub(super) fn is_gone(e: &IndexError) -> bool {
    matches!(e, IndexError::Scan(_, Errno::NOENT | Errno::NOTDIR))
}

/// Not the number of blocks: that changes when the file system writes them.
fn note(state: &mut DefaultHasher, name: &[u8], s: &Stat) {
    name.hash(state);
    (s.dev, s.ino, s.mode, s.nlink, s.uid, s.gid, s.rdev, s.size).hash(state);
    (s.mtime.sec, s.mtime.nsec, s.ctime.sec, s.ctime.nsec).hash(state);
}
