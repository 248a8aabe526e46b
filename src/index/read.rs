//! Reading an index.

use super::format::{
    HEADER, Header, IMPLIED, LINKED, NO_EXTRA, NODE, OPAQUE, REDIRECT, Record, XATTRS, decode_extra,
};
use super::{IndexError, Kind, NodeId};
use crate::bytes::{checksum, u32_at};
use crate::marker::Redirect;
use crate::name::Name;
use crate::sys::{Dir, Mapping, OpenFlags, Time};
use std::ops::Range;

/// A mapped index. Cheap to open, nothing is parsed ahead.
#[derive(Debug)]
pub struct Index {
    map: Mapping,
    header: Header,
}

/// What a layer says of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its number.
    pub id: NodeId,
    /// The directory that holds it; the root's is the root.
    pub parent: NodeId,
    /// Its name there; the root's is empty.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names in this layer; of a directory 2 and its subdirectories.
    pub nlink: u32,
    /// Length in bytes of a file or of a symlink's target.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Device number, 0 for all that is no device.
    pub rdev: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// A directory that hides what the layers below hold.
    pub opaque: bool,
    /// It has extended attributes.
    pub has_xattrs: bool,
    /// It has a redirect.
    pub has_redirect: bool,
    /// A directory that the layer has no entry for, only entries below it.
    pub implied: bool,
}

impl Index {
    /// Maps the index `name` in `dir`. Takes the same time for any size: the body's checksum is
    /// for [`Index::check_body`].
    pub fn open(dir: &Dir, name: &[u8]) -> Result<Index, IndexError> {
        let fail = |e| IndexError::Open(name.to_vec(), e);
        let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
        let file = dir.open_file(name, flags, 0).map_err(fail)?;
        if file.stat().map_err(fail)?.mode & 0o002 != 0 {
            return Err(IndexError::Untrusted(name.to_vec()));
        }
        // whoever opens an index checks or searches it next
        file.read_ahead();
        Index::of(Mapping::of(&file).map_err(fail)?)
    }

    /// Reads an index that lies in memory already.
    pub fn of(map: Mapping) -> Result<Index, IndexError> {
        let header = Header::decode(&map)?;
        Ok(Index { map, header })
    }

    /// Returns the bytes of the index file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Returns the mark of the layer directory that this index was made for.
    #[must_use]
    pub fn layer(&self) -> [u8; 32] {
        self.header.layer
    }

    /// Compares the body with its checksum, at some gigabytes a second: what was damaged after it
    /// was written.
    pub fn check_body(&self) -> Result<(), IndexError> {
        if checksum(self.map.get(HEADER..).unwrap_or(&[])) != self.header.body_crc {
            return Err(IndexError::Damaged("wrong checksum"));
        }
        Ok(())
    }

    /// Gives back the memory into which it was read.
    pub fn let_go(&self) {
        self.map.let_go();
    }

    /// Checks all of it, in time proportional to its size.
    pub fn verify(&self) -> Result<(), IndexError> {
        use IndexError::Damaged;
        self.check_body()?;
        let mut next = 1;
        for i in 0..self.header.nodes {
            let n = self.node(NodeId(i)).ok_or(Damaged("a node of no known kind"))?;
            let named = i == 0 || (Name::new(n.name).is_ok() && n.parent.0 < i);
            if !named || (i == 0 && n.kind != Kind::Dir) {
                return Err(Damaged("a node without a valid name or parent"));
            }
            if n.kind == Kind::Dir {
                let kids = self.children(n.id);
                if !kids.is_empty() && kids.start != next {
                    return Err(Damaged("children that are not in order"));
                }
                next += kids.len() as u32;
                let names = kids.clone().map(|k| self.name(NodeId(k)));
                if !names.is_sorted_by(|a, b| a < b) {
                    return Err(Damaged("names that are not sorted"));
                }
                let parent = |k| self.record(NodeId(k)).map(|r| r.parent);
                if kids.clone().any(|k| parent(k) != Some(i)) {
                    return Err(Damaged("children of another directory"));
                }
            }
        }
        if next != self.header.nodes {
            return Err(Damaged("nodes that no directory holds"));
        }
        Ok(())
    }

    fn record(&self, id: NodeId) -> Option<Record> {
        if id.0 >= self.header.nodes {
            return None;
        }
        let at = HEADER + id.0 as usize * NODE;
        self.map.get(at..)?.first_chunk().map(Record::decode)
    }

    fn pool(&self, base: u64, at: u32, len: usize) -> &[u8] {
        let start = usize::try_from(base).unwrap_or(usize::MAX).saturating_add(at as usize);
        self.map.get(start..start.saturating_add(len)).unwrap_or(&[])
    }

    /// The name alone, without decoding the rest: what a binary search reads.
    fn name(&self, id: NodeId) -> &[u8] {
        let at = HEADER + id.0 as usize * NODE;
        match self.map.get(at..at + NODE) {
            Some(r) => self.pool(self.header.names_at, u32_at(r, 0), usize::from(r[8])),
            None => &[],
        }
    }

    /// Returns a node, or `None` if there is none of that number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<Node<'_>> {
        let r = self.record(id)?;
        let kind = Kind::from_byte(r.kind)?;
        let flag = |f| r.flags & f != 0;
        Some(Node {
            id,
            parent: NodeId(if r.parent < id.0 { r.parent } else { 0 }),
            name: self.pool(self.header.names_at, r.name_at, usize::from(r.name_len)),
            kind,
            mode: u32::from(r.mode) & 0o7777,
            uid: r.uid,
            gid: r.gid,
            nlink: r.nlink,
            size: r.size,
            blocks: if kind == Kind::File { r.word } else { 0 },
            rdev: if matches!(kind, Kind::Char | Kind::Block) { r.word } else { 0 },
            mtime: Time { sec: r.sec, nsec: r.nsec.min(999_999_999) },
            opaque: kind == Kind::Dir && flag(OPAQUE),
            has_xattrs: flag(XATTRS),
            has_redirect: flag(REDIRECT),
            implied: flag(IMPLIED),
        })
    }

    /// Returns the node that a directory holds under a name; whiteouts included.
    #[must_use]
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let Range { mut start, mut end } = self.children(dir);
        while start < end {
            let mid = start + (end - start) / 2;
            match self.name(NodeId(mid)).cmp(name) {
                std::cmp::Ordering::Less => start = mid + 1,
                std::cmp::Ordering::Greater => end = mid,
                std::cmp::Ordering::Equal => return Some(NodeId(mid)),
            }
        }
        None
    }

    /// Returns the numbers of a directory's nodes, sorted by name; whiteouts included. Empty for
    /// all that is no directory.
    #[must_use]
    pub fn children(&self, dir: NodeId) -> Range<u32> {
        match self.record(dir) {
            Some(r) if Kind::from_byte(r.kind) == Some(Kind::Dir) => {
                let (first, count) = ((r.word >> 32) as u32, r.word as u32);
                let end = first.saturating_add(count).min(self.header.nodes);
                // children come behind their directory: a damaged file cannot make a loop
                if first > dir.0 { first..end.max(first) } else { 0..0 }
            }
            _ => 0..0,
        }
    }

    /// Returns a symlink's target; empty for all that is none.
    #[must_use]
    pub fn symlink_target(&self, id: NodeId) -> &[u8] {
        match self.record(id) {
            Some(r) if Kind::from_byte(r.kind) == Some(Kind::Symlink) => {
                self.pool(self.header.extra_at, (r.word >> 32) as u32, r.word as u32 as usize)
            }
            _ => &[],
        }
    }

    fn extra(&self, id: NodeId) -> &[u8] {
        let end = self.map.len() as u64 - self.header.extra_at;
        match self.record(id) {
            Some(r) if r.extra != NO_EXTRA && u64::from(r.extra) < end => {
                let len = usize::try_from(end - u64::from(r.extra)).unwrap_or(0);
                self.pool(self.header.extra_at, r.extra, len)
            }
            _ => &[],
        }
    }

    /// Returns where the layers below hold a renamed directory.
    #[must_use]
    pub fn redirect(&self, id: NodeId) -> Option<Redirect> {
        let (redirect, _) = decode_extra(self.extra(id));
        if redirect.is_empty() { None } else { Redirect::parse(redirect).ok() }
    }

    /// Returns the extended attributes as users see them.
    pub fn xattrs(&self, id: NodeId) -> impl Iterator<Item = (&[u8], &[u8])> {
        decode_extra(self.extra(id)).1
    }

    /// Returns the path from the layer's root, `/` between names, empty for the root: where the
    /// content lies below the layer directory.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(n) = self.node(at).filter(|n| n.id != NodeId::ROOT) {
            names.push(n.name);
            at = n.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Returns the first name of a node's hard-link group, or itself.
    #[must_use]
    pub fn canonical(&self, id: NodeId) -> NodeId {
        match self.record(id) {
            Some(r) if r.flags & LINKED != 0 && r.canonical < self.header.nodes => {
                NodeId(r.canonical)
            }
            _ => id,
        }
    }

    /// Returns all names of a node's hard-link group, itself included, in order.
    #[must_use]
    pub fn links(&self, id: NodeId) -> Vec<NodeId> {
        let first = self.canonical(id);
        if self.record(id).is_none_or(|r| r.flags & LINKED == 0) {
            return vec![id];
        }
        let pair = |i: u32| {
            let at = self.header.links_at() as usize + i as usize * 8;
            let b = self.map.get(at..).unwrap_or(&[]);
            (u32_at(b, 0), u32_at(b, 4))
        };
        let (mut start, mut end) = (0, self.header.links);
        while start < end {
            let mid = start + (end - start) / 2;
            if pair(mid).0 < first.0 { start = mid + 1 } else { end = mid }
        }
        let group = (start..self.header.links).map(pair).take_while(|p| p.0 == first.0);
        group.map(|p| NodeId(p.1)).filter(|n| n.0 < self.header.nodes).collect()
    }

    /// Returns the number of nodes, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.nodes as usize
    }

    /// Returns whether the layer holds nothing but its root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.nodes <= 1
    }

    /// Returns whether any node has extended attributes.
    #[must_use]
    pub fn has_xattrs(&self) -> bool {
        self.header.xattr_nodes != 0
    }

    /// Returns how many MiB are in files of 8 MiB and more; 0 if an older version wrote the index.
    #[must_use]
    pub fn large_mib(&self) -> u32 {
        self.header.large_mib
    }

    /// Returns the number of whiteouts.
    #[must_use]
    pub fn whiteouts(&self) -> usize {
        self.header.whiteouts as usize
    }

    /// Returns the number of opaque directories.
    #[must_use]
    pub fn opaque_dirs(&self) -> usize {
        self.header.opaque_dirs as usize
    }

    /// Returns the length of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.header.len
    }
}
