//! Writing an index: numbering, then one pass over the nodes, then the pools.

use super::build::{Builder, EntryId};
use super::format::{
    HEADER, Header, IMPLIED, LARGE, LINKED, NO_EXTRA, OPAQUE, REDIRECT, Record, XATTRS,
    decode_extra,
};
use super::{Index, IndexError, Kind};
use crate::bytes::Checksum;
use crate::sys::{Dir, Errno, File, Mapping, OpenFlags, RenameFlags};

/// The entries of a builder in the order of their node numbers.
pub(super) struct Order {
    /// The entry of each node.
    pub(super) entries: Vec<u32>,
    /// First child and number of children of each node.
    pub(super) children: Vec<(u32, u32)>,
    /// Parent of each node.
    pub(super) parents: Vec<u32>,
}

impl Builder {
    /// Numbers all entries that can be reached from the root, breadth first, siblings by name.
    pub(super) fn order(&self) -> Order {
        // the children of each entry, grouped by a counting sort
        let n = self.slots.len();
        let mut ends = vec![0u32; n + 1];
        let live = |i: usize| i != 0 && !self.slots[i].removed;
        for i in (0..n).filter(|i| live(*i)) {
            ends[self.slots[i].parent as usize + 1] += 1;
        }
        for i in 0..n {
            ends[i + 1] += ends[i];
        }
        let mut next = ends.clone();
        let mut kids = vec![0u32; ends[n] as usize];
        for i in (0..n).filter(|i| live(*i)) {
            let p = self.slots[i].parent as usize;
            kids[next[p] as usize] = i as u32;
            next[p] += 1;
        }
        let mut o = Order { entries: vec![0], children: Vec::new(), parents: vec![0] };
        let mut at = 0;
        while at < o.entries.len() {
            let e = o.entries[at] as usize;
            let group = &mut kids[ends[e] as usize..ends[e + 1] as usize];
            if self.slots[e].kind != Kind::Dir {
                o.children.push((0, 0));
                at += 1;
                continue;
            }
            group.sort_unstable_by(|a, b| {
                let name = |i: u32| self.slot_name(&self.slots[i as usize]);
                name(*a).cmp(name(*b))
            });
            o.children.push((o.entries.len() as u32, group.len() as u32));
            o.entries.extend_from_slice(group);
            o.parents.resize(o.entries.len(), at as u32);
            at += 1;
        }
        o
    }

    /// Returns all entries that the index will hold, parents before their children, siblings by
    /// name: the order of their node numbers.
    #[must_use]
    pub fn entries(&self) -> Vec<EntryId> {
        self.order().entries.into_iter().map(EntryId).collect()
    }

    /// Writes the index as `name` in `dir`: staged beside it, made durable, then renamed over an
    /// older one.
    pub fn finish(self, dir: &Dir, name: &[u8]) -> Result<(), IndexError> {
        let tmp = format!(".index-{:016x}", u64::from_ne_bytes(crate::sys::random_bytes()));
        let tmp = tmp.as_bytes();
        let fail = |e| IndexError::Write(name.to_vec(), e);
        let file = dir.open_file(tmp, OpenFlags::CREATE_NEW, 0o644).map_err(fail)?;
        let done = self.write(&file, name).and_then(|()| {
            file.sync(false).map_err(fail)?;
            dir.rename(tmp, dir, name, RenameFlags::Replace).map_err(fail)?;
            dir.sync().map_err(fail)
        });
        if done.is_err() {
            // best effort: the first error is the one to tell
            dir.unlink(tmp).unwrap_or_default();
        }
        done
    }

    /// Writes the index as the new file `name` into a directory that nobody reads yet. Not made
    /// durable: the caller syncs the file system for all of such a directory at once.
    pub fn stage(self, dir: &Dir, name: &[u8]) -> Result<(), IndexError> {
        let fail = |e| IndexError::Write(name.to_vec(), e);
        let file = dir.open_file(name, OpenFlags::CREATE_NEW, 0o644).map_err(fail)?;
        self.write(&file, name)
    }

    /// Writes the index into a file that nobody else has, and opens it.
    pub fn open_in(self, file: &File) -> Result<Index, IndexError> {
        let name = b"in a temporary file";
        self.write(file, name)?;
        Index::of(Mapping::of(file).map_err(|e| IndexError::Open(name.to_vec(), e))?)
    }

    fn write(&self, file: &File, name: &[u8]) -> Result<(), IndexError> {
        let o = self.order();
        let n = o.entries.len();
        let mut header = Header { nodes: n as u32, layer: self.layer, ..Header::default() };
        let links = self.link_groups(&o);
        header.links = links.len() as u32;

        let mut pool_at = Vec::with_capacity(self.pool.len());
        let mut pool_len = 0usize;
        for p in &self.pool {
            pool_at.push(pool_len as u32);
            pool_len += p.len();
            u32::try_from(pool_len).map_err(|_| IndexError::TooLarge("bytes in attributes"))?;
        }
        let names_len: u64 =
            o.entries.iter().map(|e| u64::from(self.slots[*e as usize].name_len)).sum();
        u32::try_from(names_len).map_err(|_| IndexError::TooLarge("bytes in names"))?;
        header.names_at = header.links_at() + links.len() as u64 * 8;
        header.extra_at = header.names_at + names_len;
        header.len = header.extra_at + pool_len as u64;

        let fail = |e| IndexError::Write(name.to_vec(), e);
        let mut out = Out::new(file);
        let (mut name_at, mut large) = (0, 0_u64);
        for i in 0..n {
            let mut r = self.record(&o, i, &pool_at);
            r.name_at = name_at;
            name_at += u32::from(r.name_len);
            if let Some(at) =
                links.binary_search_by_key(&(i as u32), |l| l.1).ok().map(|x| links[x])
            {
                r.flags |= LINKED;
                r.canonical = at.0;
                r.nlink = at.2;
            }
            header.whiteouts += u32::from(r.kind == Kind::Whiteout.to_byte());
            header.opaque_dirs += u32::from(r.flags & OPAQUE != 0);
            if r.kind == Kind::File.to_byte() && r.size >= LARGE {
                large = large.saturating_add(r.size >> 20);
            }
            header.xattr_nodes += u32::from(r.flags & XATTRS != 0);
            out.put(&r.encode()).map_err(fail)?;
        }
        header.large_mib = u32::try_from(large).unwrap_or(u32::MAX);
        let mut pairs: Vec<(u32, u32)> = links.iter().map(|l| (l.0, l.1)).collect();
        pairs.sort_unstable();
        for (a, b) in pairs {
            out.put(&a.to_le_bytes()).map_err(fail)?;
            out.put(&b.to_le_bytes()).map_err(fail)?;
        }
        for e in &o.entries {
            out.put(self.slot_name(&self.slots[*e as usize])).map_err(fail)?;
        }
        for p in &self.pool {
            out.put(p).map_err(fail)?;
        }
        header.body_crc = out.finish().map_err(fail)?;
        file.write_all_at(&header.encode(), 0).map_err(fail)
    }

    fn record(&self, o: &Order, i: usize, pool_at: &[u32]) -> Record {
        let named = &self.slots[o.entries[i] as usize];
        let s = &self.slots[named.same_as as usize];
        let (first, count) = o.children[i];
        let is_dir = s.kind == Kind::Dir;
        let record = self.pool.get(s.extra as usize);
        let (redirect, mut xattrs) = decode_extra(record.map_or(&[], |r| r));
        let mut flags = 0;
        let mut flag = |f, on| flags |= if on { f } else { 0 };
        flag(OPAQUE, is_dir && named.opaque);
        flag(IMPLIED, is_dir && s.implied);
        flag(XATTRS, xattrs.next().is_some());
        flag(REDIRECT, !redirect.is_empty());
        let pair = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
        let subdirs = |from: u32, n: u32| {
            let kids = &o.entries[from as usize..(from + n) as usize];
            kids.iter().filter(|e| self.slots[**e as usize].kind == Kind::Dir).count() as u32
        };
        Record {
            name_at: 0,
            parent: o.parents[i],
            name_len: named.name_len,
            kind: s.kind.to_byte(),
            mode: s.mode,
            flags,
            uid: s.uid,
            gid: s.gid,
            nlink: if is_dir { 2 + subdirs(first, count) } else { 1 },
            nsec: s.mtime.nsec,
            sec: s.mtime.sec,
            size: s.size,
            word: match s.kind {
                Kind::Dir => pair(first, count),
                Kind::Symlink => {
                    let at = pool_at.get(s.target as usize).copied().unwrap_or(0);
                    pair(at, self.pool.get(s.target as usize).map_or(0, |t| t.len() as u32))
                }
                _ => s.word,
            },
            extra: pool_at.get(s.extra as usize).copied().unwrap_or(NO_EXTRA),
            canonical: i as u32,
        }
    }

    /// Returns canonical node, node and group size of every name of a file that has several,
    /// sorted by node.
    fn link_groups(&self, o: &Order) -> Vec<(u32, u32, u32)> {
        let mut by_file: Vec<(u32, u32)> = Vec::new();
        let mut many = vec![false; self.slots.len()];
        for e in &o.entries {
            let same_as = self.slots[*e as usize].same_as;
            if same_as != *e {
                many[same_as as usize] = true;
            }
        }
        for (i, e) in o.entries.iter().enumerate() {
            let same_as = self.slots[*e as usize].same_as;
            if many[same_as as usize] {
                by_file.push((same_as, i as u32));
            }
        }
        by_file.sort_unstable();
        let mut out = Vec::with_capacity(by_file.len());
        for group in by_file.chunk_by(|a, b| a.0 == b.0).filter(|g| g.len() > 1) {
            out.extend(group.iter().map(|m| (group[0].1, m.1, group.len() as u32)));
        }
        out.sort_unstable_by_key(|l| l.1);
        out
    }
}

/// A buffered writer behind the header that counts the checksum.
struct Out<'f> {
    file: &'f File,
    at: u64,
    buf: Vec<u8>,
    crc: Checksum,
}

impl<'f> Out<'f> {
    const FULL: usize = 1 << 18;

    fn new(file: &'f File) -> Out<'f> {
        Out { file, at: HEADER as u64, buf: Vec::with_capacity(Out::FULL), crc: Checksum::new() }
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Errno> {
        self.buf.extend_from_slice(data);
        if self.buf.len() >= Out::FULL { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Errno> {
        self.crc.write(&self.buf);
        self.file.write_all_at(&self.buf, self.at)?;
        self.at += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<u64, Errno> {
        self.flush()?;
        Ok(self.crc.sum64())
    }
}
