//! By which numbers the kernel knows the files of the one directory that is served.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stratafs::sys::{Stat, Time};

/// A file of the served directory.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) number: u64,
    pub(crate) in_upper: bool,
}

/// The files by name, and the names by number. Numbers are given once: there is no inode to keep.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    by_name: HashMap<Box<[u8]>, Node>,
    names: HashMap<u64, Box<[u8]>>,
    given: u64,
}

impl Nodes {
    /// Knows the files of a lower directory, as whoever merges directories has read their names.
    pub(crate) fn of_lower(names: impl Iterator<Item = Box<[u8]>>) -> Nodes {
        let mut nodes = Nodes { given: fuser::INodeNo::ROOT.0, ..Nodes::default() };
        names.for_each(|n| {
            nodes.add(&n, false);
        });
        nodes
    }

    pub(crate) fn add(&mut self, name: &[u8], in_upper: bool) -> u64 {
        self.given += 1;
        let node = Node { number: self.given, in_upper };
        self.by_name.insert(name.into(), node);
        self.names.insert(self.given, name.into());
        self.given
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<Node> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn by_number(&self, number: u64) -> Option<(Box<[u8]>, Node)> {
        let name = self.names.get(&number)?;
        Some((name.clone(), self.find(name)?))
    }

    pub(crate) fn copied_up(&mut self, name: &[u8]) {
        if let Some(node) = self.by_name.get_mut(name) {
            node.in_upper = true;
        }
    }

    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8]) {
        if let Some(node) = self.by_name.remove(from) {
            self.names.insert(node.number, to.into());
            self.by_name.insert(to.into(), node);
        }
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if let Some(node) = self.by_name.remove(name) {
            self.names.remove(&node.number);
        }
    }
}

/// Returns attributes as the kernel is to have them.
pub(crate) fn attr(number: u64, s: &Stat) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(number),
        size: s.size,
        blocks: s.blocks,
        atime: time(s.atime),
        mtime: time(s.mtime),
        ctime: time(s.ctime),
        kind: if s.is_dir() { fuser::FileType::Directory } else { fuser::FileType::RegularFile },
        // 12 bits
        perm: s.permissions() as u16,
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        blksize: s.blksize,
        ..absent()
    }
}

/// The files that are measured are all younger than 1970.
fn time(t: Time) -> SystemTime {
    UNIX_EPOCH + Duration::new(t.sec.max(0).unsigned_abs(), t.nsec)
}

/// Says that there is no such name, for as long as the kernel likes.
pub(crate) fn absent() -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
