//! Collecting a layer's entries, in any order, before they become an index.

use super::format::{NO_EXTRA, decode_extra, encode_extra};
use super::{IndexError, Kind};
use crate::marker::Redirect;
use crate::name::{Name, components};
use crate::sys::Time;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

/// An entry's number within one [`Builder`]; not the [`NodeId`](super::NodeId) that it will get.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct EntryId(pub(super) u32);

impl EntryId {
    /// The layer's root directory.
    pub const ROOT: EntryId = EntryId(0);
}

/// The attributes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a regular file in bytes. A symlink's follows from its target.
    pub size: u64,
    /// Allocated blocks of 512 bytes, of a regular file.
    pub blocks: u64,
    /// Device number of a device.
    pub rdev: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Hides what the layers below hold. Counts for directories only, and stays with the name
    /// while its entry is something else.
    pub opaque: bool,
    /// A directory that the layer has no entry for.
    pub implied: bool,
}

impl Meta {
    /// Returns a file of this kind that belongs to root, with the usual permissions.
    #[must_use]
    pub fn new(kind: Kind) -> Meta {
        let mode = match kind {
            Kind::Dir => 0o755,
            Kind::Symlink => 0o777,
            Kind::Whiteout => 0,
            _ => 0o644,
        };
        Meta {
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            rdev: 0,
            mtime: Time::default(),
            opaque: false,
            implied: false,
        }
    }

    /// Returns a directory that no entry of the layer describes.
    #[must_use]
    pub fn implied() -> Meta {
        Meta { implied: true, ..Meta::new(Kind::Dir) }
    }
}

/// An entry as it is kept: 64 bytes and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) name_at: u32,
    pub(super) parent: u32,
    pub(super) name_len: u8,
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) opaque: bool,
    pub(super) implied: bool,
    pub(super) removed: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whose attributes and content this name shows: itself, or an earlier entry of the file.
    pub(super) same_as: u32,
    pub(super) mtime: Time,
    pub(super) size: u64,
    /// Blocks or device number.
    pub(super) word: u64,
    /// Where the xattr record or the symlink's target begins in the pool, and its length.
    pub(super) extra: u32,
    pub(super) target: u32,
}

/// Collects a layer's entries and writes them as an index ([`Builder::finish`]).
///
/// Takes about 90 bytes of memory per entry.
#[derive(Debug)]
pub struct Builder {
    pub(super) slots: Vec<Slot>,
    pub(super) names: Vec<u8>,
    /// Encoded xattr records and symlink targets, each once.
    pub(super) pool: Vec<Box<[u8]>>,
    pool_ids: HashTable<u32>,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub(super) layer: [u8; 32],
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Makes a builder that holds an implied root, 0755 0:0.
    #[must_use]
    pub fn new() -> Builder {
        let mut b = Builder {
            slots: Vec::new(),
            names: Vec::new(),
            pool: Vec::new(),
            pool_ids: HashTable::new(),
            by_name: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            layer: [0; 32],
        };
        b.slots.push(Builder::slot(0, 0, 0, 0, &Meta::implied()));
        b
    }

    /// Ties the index to one layer directory: [`Index::layer`](super::Index::layer) tells it from
    /// that of another. Source of the mark: [`CacheId::mark`](crate::id::CacheId::mark).
    pub fn tie_to(&mut self, layer: [u8; 32]) {
        self.layer = layer;
    }

    fn slot(name_at: u32, name_len: u8, parent: u32, id: u32, m: &Meta) -> Slot {
        let word = if m.kind == Kind::File { m.blocks } else { m.rdev };
        Slot {
            name_at,
            parent,
            name_len,
            kind: m.kind,
            mode: (m.mode & 0o7777) as u16,
            opaque: m.opaque,
            implied: m.implied,
            removed: false,
            uid: m.uid,
            gid: m.gid,
            same_as: id,
            mtime: m.mtime,
            size: if m.kind == Kind::File { m.size } else { 0 },
            word,
            extra: NO_EXTRA,
            target: NO_EXTRA,
        }
    }

    pub(super) fn slot_name(&self, s: &Slot) -> &[u8] {
        let at = s.name_at as usize;
        self.names.get(at..at + usize::from(s.name_len)).unwrap_or(&[])
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    /// Returns the entry that a directory holds under a name.
    #[must_use]
    pub fn child(&self, parent: EntryId, name: &[u8]) -> Option<EntryId> {
        let same = |id: &u32| {
            let s = &self.slots[*id as usize];
            s.parent == parent.0 && self.slot_name(s) == name
        };
        self.by_name.find(self.hash(parent.0, name), same).map(|id| EntryId(*id))
    }

    fn insert(&mut self, parent: EntryId, name: &[u8], m: &Meta) -> Result<EntryId, IndexError> {
        let name = Name::new(name).map_err(|e| IndexError::Name(name.to_vec(), e))?.bytes();
        if self.slots.get(parent.0 as usize).is_none_or(|p| p.kind != Kind::Dir) {
            return Err(IndexError::NotADirectory(name.to_vec()));
        }
        let id = u32::try_from(self.slots.len())
            .ok()
            .filter(|id| *id < u32::MAX)
            .ok_or(IndexError::TooLarge("entries"))?;
        let name_at =
            u32::try_from(self.names.len()).map_err(|_| IndexError::TooLarge("bytes in names"))?;
        self.names.extend_from_slice(name);
        self.slots.push(Builder::slot(name_at, name.len() as u8, parent.0, id, m));
        let (slots, names, hasher) = (&self.slots, &self.names, &self.hasher);
        let rehash = |id: &u32| {
            let s = &slots[*id as usize];
            let at = s.name_at as usize;
            hasher.hash_one((s.parent, &names[at..at + usize::from(s.name_len)]))
        };
        self.by_name.insert_unique(hasher.hash_one((parent.0, name)), id, rehash);
        Ok(EntryId(id))
    }

    /// Adds an entry. What the directory held under this name is replaced with all below it,
    /// except that a directory over a directory keeps its children and its opaque mark.
    pub fn add(&mut self, parent: EntryId, name: &[u8], m: &Meta) -> Result<EntryId, IndexError> {
        let mut m = *m;
        if let Some(old) = self.child(parent, name) {
            let s = &self.slots[old.0 as usize];
            m.opaque |= s.opaque;
            if s.kind == Kind::Dir && m.kind == Kind::Dir {
                self.set(old, &m);
                return Ok(old);
            }
            self.remove(old);
        }
        self.insert(parent, name, &m)
    }

    /// Adds an entry by its path from the root. Missing parents become implied directories.
    pub fn add_path(&mut self, path: &[u8], m: &Meta) -> Result<EntryId, IndexError> {
        let parts = components(path).map_err(|e| IndexError::Name(path.to_vec(), e))?;
        let Some((last, parents)) = parts.split_last() else {
            self.set(EntryId::ROOT, m);
            return Ok(EntryId::ROOT);
        };
        let mut at = EntryId::ROOT;
        for p in parents {
            at = match self.child(at, p.bytes()) {
                Some(id) => id,
                None => self.insert(at, p.bytes(), &Meta::implied())?,
            };
        }
        self.add(at, last.bytes(), m)
    }

    /// Adds another name of the file `target`.
    pub fn add_link(
        &mut self,
        parent: EntryId,
        name: &[u8],
        target: EntryId,
    ) -> Result<EntryId, IndexError> {
        let mut m = self.meta(target);
        m.opaque = false;
        let same_as = self.slots[target.0 as usize].same_as;
        let id = self.add(parent, name, &m)?;
        self.slots[id.0 as usize].same_as = same_as;
        Ok(id)
    }

    /// Removes a name, with all below it if it is a directory. Other names of the file stay.
    pub fn remove(&mut self, id: EntryId) {
        let Some(s) = self.slots.get(id.0 as usize).copied().filter(|_| id.0 != 0) else { return };
        let hash = self.hash(s.parent, self.slot_name(&s));
        if let Ok(e) = self.by_name.find_entry(hash, |x| *x == id.0) {
            e.remove();
        }
        self.slots[id.0 as usize].removed = true;
    }

    /// Returns the attributes of an entry; those of the file, if it is one of several names.
    #[must_use]
    pub fn meta(&self, id: EntryId) -> Meta {
        let named = &self.slots[id.0 as usize];
        let s = &self.slots[named.same_as as usize];
        let device = matches!(s.kind, Kind::Char | Kind::Block);
        Meta {
            kind: s.kind,
            mode: u32::from(s.mode),
            uid: s.uid,
            gid: s.gid,
            size: s.size,
            blocks: if device { 0 } else { s.word },
            rdev: if device { s.word } else { 0 },
            mtime: s.mtime,
            opaque: named.opaque,
            implied: s.implied,
        }
    }

    /// Replaces the attributes of an entry, without its xattrs, redirect and symlink target.
    pub fn set(&mut self, id: EntryId, m: &Meta) {
        let named = self.slots[id.0 as usize];
        let at = named.same_as as usize;
        let old = self.slots[at];
        self.slots[at] = Slot {
            removed: old.removed,
            opaque: old.opaque,
            same_as: old.same_as,
            extra: old.extra,
            target: old.target,
            ..Builder::slot(old.name_at, old.name_len, old.parent, old.same_as, m)
        };
        self.slots[id.0 as usize].opaque = m.opaque;
    }

    /// Marks a name as one that hides what the layers below hold, or takes the mark off.
    pub fn set_opaque(&mut self, id: EntryId, opaque: bool) {
        self.slots[id.0 as usize].opaque = opaque;
    }

    fn intern(&mut self, bytes: Vec<u8>) -> Result<u32, IndexError> {
        let hash = self.hasher.hash_one(&bytes[..]);
        let (pool, hasher) = (&self.pool, &self.hasher);
        if let Some(id) = self.pool_ids.find(hash, |id| *pool[*id as usize] == *bytes) {
            return Ok(*id);
        }
        let id = u32::try_from(self.pool.len()).map_err(|_| IndexError::TooLarge("attributes"))?;
        self.pool_ids.insert_unique(hash, id, |id| hasher.hash_one(&pool[*id as usize][..]));
        self.pool.push(bytes.into());
        Ok(id)
    }

    /// Sets a symlink's target.
    pub fn set_target(&mut self, id: EntryId, target: &[u8]) -> Result<(), IndexError> {
        let at = self.slots[id.0 as usize].same_as as usize;
        self.slots[at].target = self.intern(target.to_vec())?;
        self.slots[at].size = target.len() as u64;
        Ok(())
    }

    /// Returns a symlink's target.
    #[must_use]
    pub fn target(&self, id: EntryId) -> &[u8] {
        let s = &self.slots[self.slots[id.0 as usize].same_as as usize];
        self.pool.get(s.target as usize).map_or(&[], |t| t)
    }

    /// Sets the extended attributes, under the names that users see, and the redirect.
    pub fn set_xattrs(
        &mut self,
        id: EntryId,
        mut xattrs: Vec<(Vec<u8>, Vec<u8>)>,
        redirect: Option<&Redirect>,
    ) -> Result<(), IndexError> {
        let at = self.slots[id.0 as usize].same_as as usize;
        if xattrs.iter().any(|(k, v)| u16::try_from(k.len()).is_err() || v.len() > 1 << 30) {
            return Err(IndexError::TooLarge("bytes in one extended attribute"));
        }
        xattrs.sort();
        let redirect = redirect.map(Redirect::encode).unwrap_or_default();
        self.slots[at].extra = if xattrs.is_empty() && redirect.is_empty() {
            NO_EXTRA
        } else {
            self.intern(encode_extra(&redirect, &xattrs))?
        };
        Ok(())
    }

    /// Returns the extended attributes, under the names that users see.
    #[must_use]
    pub fn xattrs(&self, id: EntryId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let s = &self.slots[self.slots[id.0 as usize].same_as as usize];
        let record = self.pool.get(s.extra as usize).map_or(&[][..], |r| r);
        decode_extra(record).1.map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    }

    /// Returns how many entries were ever added, those replaced since included: what the memory
    /// grows with.
    #[must_use]
    pub fn added(&self) -> usize {
        self.slots.len()
    }

    /// Returns an entry's name.
    #[must_use]
    pub fn name(&self, id: EntryId) -> &[u8] {
        self.slot_name(&self.slots[id.0 as usize])
    }

    /// Returns the directory that holds an entry; the root's is the root.
    #[must_use]
    pub fn parent(&self, id: EntryId) -> EntryId {
        EntryId(self.slots[id.0 as usize].parent)
    }

    /// Returns an entry's path from the root, `/` between names, empty for the root.
    #[must_use]
    pub fn path(&self, id: EntryId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != EntryId::ROOT {
            names.push(self.name(at));
            at = self.parent(at);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Returns the entry whose attributes and content a name shows: the same for all names of one
    /// file. It may have been removed itself.
    #[must_use]
    pub fn file_of(&self, id: EntryId) -> EntryId {
        EntryId(self.slots[id.0 as usize].same_as)
    }
}
