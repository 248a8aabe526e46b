//! Reading a snapshot.

use super::format::{HEADER, Header, NO_EXTRA, RECORD, Record};
use crate::bytes::{Xattrs, checksum};
use crate::sys::{DirEntry, Mapping, Stat, Time};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Range;

/// A name of a snapshot.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct RecordId(NonZeroU32);

impl RecordId {
    /// The root directory.
    pub const ROOT: RecordId = RecordId(NonZeroU32::MIN);

    pub(super) fn of(number: u32) -> Option<RecordId> {
        NonZeroU32::new(number.checked_add(1)?).map(RecordId)
    }

    fn number(self) -> u32 {
        self.0.get() - 1
    }
}

/// A mapped snapshot. Reading past an end or around a loop of a damaged one gives "absent".
#[derive(Debug)]
pub struct Snapshot {
    map: Mapping,
    header: Header,
    dev: u64,
    /// What has changed since, of what leaves no trace in other times.
    fresh: HashMap<RecordId, Fresh>,
}

/// Those attributes of an inode that change without its time of change: by reading, and as the file
/// system finds places for what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Time of access.
    pub atime: Time,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
}

impl Fresh {
    /// Returns those of an inode.
    #[must_use]
    pub fn of(stat: &Stat) -> Fresh {
        Fresh { atime: stat.atime, blocks: stat.blocks }
    }

    fn put_into(self, stat: Stat) -> Stat {
        Stat { atime: self.atime, blocks: self.blocks, ..stat }
    }
}

/// What the snapshot has of one name.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    snapshot: &'a Snapshot,
    id: RecordId,
    record: Record,
}

impl Snapshot {
    /// Reads a snapshot whose root is on the file system `dev` now; `None` if it is damaged, of
    /// another version, or says that there is none.
    #[must_use]
    pub fn of(map: Mapping, dev: u64) -> Option<Snapshot> {
        let header = Header::decode(&map).filter(|h| h.records > 0)?;
        if checksum(map.get(HEADER..)?) != header.body_crc {
            return None;
        }
        // of what the checksum has read little is needed
        map.let_go();
        Some(Snapshot { map, header, dev, fresh: HashMap::new() })
    }

    /// Returns whether the bytes say that no snapshot is to be had ([`unfit`](super::unfit)).
    #[must_use]
    pub fn is_unfit(map: &Mapping) -> bool {
        Header::decode(map).is_some_and(|h| h.records == 0)
    }

    /// Shows these attributes in the place of the snapshot's.
    #[must_use]
    pub fn with_fresh(self, fresh: HashMap<RecordId, Fresh>) -> Snapshot {
        Snapshot { fresh, ..self }
    }

    /// Returns whether the root directory is as it was.
    #[must_use]
    pub fn is_of(&self, root: &Stat) -> bool {
        self.get(RecordId::ROOT).is_some_and(|then| then.is_as(root))
    }

    /// Returns the number of names, the root included.
    #[must_use]
    pub fn names(&self) -> usize {
        self.header.records as usize
    }

    /// Returns what is known of a name.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<Seen<'_>> {
        let number = id.number();
        if number >= self.header.records {
            return None;
        }
        let at = HEADER + number as usize * RECORD;
        let record = Record::decode(self.map.get(at..)?.first_chunk()?, self.dev);
        Some(Seen { snapshot: self, id, record })
    }

    /// The name alone, without decoding the rest: what a binary search reads.
    fn name_of(&self, number: u32) -> &[u8] {
        let record = self.map.get(HEADER + number as usize * RECORD..).unwrap_or(&[]);
        let (at, len) = Record::name(record);
        let at = self.header.names_at() + at as usize;
        self.map.get(at..at + len as usize).unwrap_or(&[])
    }

    fn extra(&self, at: u32) -> &[u8] {
        self.map.get(self.header.extra_at() + at as usize..).unwrap_or(&[])
    }
}

impl<'a> Seen<'a> {
    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Returns its name, empty for the root.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.snapshot.name_of(self.id.number())
    }

    /// Returns the directory that holds it; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Option<Seen<'a>> {
        // parents come before their names: a damaged file cannot make a loop
        let parent = RecordId::of(self.record.parent)?;
        (parent.number() < self.id.number()).then(|| self.snapshot.get(parent))?
    }

    /// Returns its path from the root, `/` between names, empty for the root.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let above = std::iter::successors(Some(*self), Seen::parent);
        let mut names: Vec<&[u8]> = above.map(|s| s.name()).collect();
        names.reverse();
        names.split_first().map_or_else(Vec::new, |(_, names)| names.join(&b'/'))
    }

    /// As stat(2).
    #[must_use]
    pub fn stat(&self) -> Stat {
        match self.snapshot.fresh.get(&self.id) {
            Some(fresh) => fresh.put_into(self.record.stat),
            None => self.record.stat,
        }
    }

    /// Returns whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.record.stat.is_dir()
    }

    /// Returns whether the inode has not been changed since ([`Fresh`] is none).
    #[must_use]
    pub fn is_as(&self, now: &Stat) -> bool {
        let then = self.stat();
        Fresh::of(&then).put_into(*now) == then
    }

    fn numbers(&self) -> Range<u32> {
        let r = &self.record;
        if r.stat.is_dir() && r.first > self.id.number() {
            r.first..r.first.saturating_add(r.count).min(self.snapshot.header.records).max(r.first)
        } else {
            0..0
        }
    }

    /// Returns the names of a directory, sorted by bytes; none of all that is no directory.
    pub fn children(&self) -> impl Iterator<Item = Seen<'a>> + use<'a> {
        let snapshot = self.snapshot;
        self.numbers().filter_map(move |n| snapshot.get(RecordId::of(n)?))
    }

    /// Returns what a directory holds under a name.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<Seen<'a>> {
        let Range { mut start, mut end } = self.numbers();
        while start < end {
            let mid = start + (end - start) / 2;
            match self.snapshot.name_of(mid).cmp(name) {
                std::cmp::Ordering::Less => start = mid + 1,
                std::cmp::Ordering::Greater => end = mid,
                std::cmp::Ordering::Equal => return self.snapshot.get(RecordId::of(mid)?),
            }
        }
        None
    }

    /// As getdents(2), for one name.
    #[must_use]
    pub fn entry(&self) -> DirEntry {
        let stat = &self.record.stat;
        DirEntry { name: self.name().into(), file_type: Some(stat.file_type()), ino: stat.ino }
    }

    /// As readlink(2); empty for all that is no symlink.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        let r = &self.record;
        if r.stat.file_type() != crate::sys::FileType::Symlink {
            return &[];
        }
        self.snapshot.extra(r.first).get(..r.count as usize).unwrap_or(&[])
    }

    /// Returns its extended attributes, as on disk, in the order of listxattr(2).
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let list = match self.record.extra {
            NO_EXTRA => &[],
            at => self.snapshot.extra(at),
        };
        Xattrs::of(list)
    }

    /// As getxattr(2).
    #[must_use]
    pub fn xattr(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.xattrs().find(|(k, _)| *k == key).map(|(_, v)| v.to_vec())
    }
}
