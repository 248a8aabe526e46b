//! Taking a snapshot.

use super::format::{HEADER, Header, NO_EXTRA, RECORD, Record};
use crate::bytes::{Checksum, checksum, put_xattrs};
use crate::name::printable;
use crate::sys::{Dir, DirEntry, Errno, File, FileType, Stat, Time};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicBool, Ordering};

/// How large a snapshot may become, and so the memory that taking it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Names, the root included.
    pub records: usize,
    /// Bytes of all names, targets of symlinks and extended attributes.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { records: 1 << 19, bytes: 64 << 20 }
    }
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// None would be a true picture of this tree, nor soon.
    #[error("{}: {why}", printable(path))]
    Unfit {
        /// Where, from the root.
        path: Vec<u8>,
        /// What is there.
        why: &'static str,
    },
    /// The tree cannot be read now.
    #[error("{}: {errno}", printable(path))]
    Read {
        /// What, from the root.
        path: Vec<u8>,
        /// Why.
        errno: Errno,
    },
    /// The caller wants it no more.
    #[error("stopped")]
    Stopped,
}

const TOO_LONG: &str = "too many bytes in names and attributes";

/// A snapshot that is not yet written.
#[derive(Debug)]
pub struct Taken {
    records: Vec<Record>,
    names: Vec<u8>,
    extra: Vec<u8>,
    /// The time of the youngest change of any inode.
    pub youngest: Time,
}

/// Looks at all that is in `root`. Follows no symlink and opens nothing but directories. As long as
/// something is mounted in the tree it cannot be read (`EXDEV`).
///
/// Whoever changes the tree meanwhile may make a picture of it that it never was: the caller
/// compares the two before he believes it.
///
/// # Errors
/// [`TakeError::Stopped`] soon after `stop` was set; the others as they say.
pub fn take(root: &Dir, bounds: Bounds, stop: &AtomicBool) -> Result<Taken, TakeError> {
    let stat = root.stat_self().map_err(|e| read_error(b"", e))?;
    let mut taken = Taken {
        records: Vec::new(),
        names: Vec::new(),
        extra: Vec::new(),
        youngest: Time { sec: i64::MIN, nsec: 0 },
    };
    taken.put(0, b"", &stat, &bounds).map_err(|why| unfit_at(b"", why))?;
    let xattrs = xattrs_of_dir(root, bounds.bytes).map_err(|e| read_error(b"", e))?;
    taken.put_xattrs(0, &xattrs.ok_or_else(|| unfit_at(b"", TOO_LONG))?);
    let mut next = 0;
    while next < taken.records.len() {
        if stop.load(Ordering::Relaxed) {
            return Err(TakeError::Stopped);
        }
        if taken.records[next].stat.is_dir() {
            let path = taken.path(next);
            let dir = root.open_dir_beneath(&path).map_err(|e| read_error(&path, e))?;
            taken.put_children(next, (&dir, &path), &bounds, stop)?;
        }
        next += 1;
    }
    Ok(taken)
}

impl Taken {
    fn put(
        &mut self,
        parent: usize,
        name: &[u8],
        stat: &Stat,
        bounds: &Bounds,
    ) -> Result<(), &'static str> {
        if self.records.len() >= bounds.records {
            return Err("the tree has too many names");
        }
        if self.names.len() + name.len() + self.extra.len() > bounds.bytes {
            return Err(TOO_LONG);
        }
        self.youngest = self.youngest.max(stat.ctime);
        self.records.push(Record {
            parent: parent as u32,
            name_at: self.names.len() as u32,
            name_len: name.len() as u32,
            first: 0,
            count: 0,
            extra: NO_EXTRA,
            stat: *stat,
        });
        self.names.extend(name);
        Ok(())
    }

    fn put_xattrs(&mut self, number: usize, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        if !xattrs.is_empty() {
            self.records[number].extra = self.extra.len() as u32;
            put_xattrs(&mut self.extra, xattrs);
        }
    }

    fn put_children(
        &mut self,
        parent: usize,
        (dir, path): (&Dir, &[u8]),
        bounds: &Bounds,
        stop: &AtomicBool,
    ) -> Result<(), TakeError> {
        let mut listed = Vec::new();
        let mut bytes = self.names.len() + self.extra.len();
        let mut room = true;
        dir.for_each_until(|entry| {
            bytes += entry.name.len();
            listed.push(entry);
            room = self.records.len() + listed.len() <= bounds.records && bytes <= bounds.bytes;
            if room && !stop.load(Ordering::Relaxed) { Continue(()) } else { Break(()) }
        })
        .map_err(|e| read_error(path, e))?;
        if !room {
            return Err(unfit_at(path, "it has too many names"));
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let first = self.records.len();
        for entry in &listed {
            let at = || if path.is_empty() { entry.name.to_vec() } else { join(path, &entry.name) };
            let fail = |e| read_error(&at(), e);
            if stop.load(Ordering::Relaxed) {
                return Err(TakeError::Stopped);
            }
            let room = bounds.bytes.saturating_sub(self.names.len() + self.extra.len());
            // what is mounted there must not be asked: it might be who asks
            let (stat, xattrs) = if is_dir(dir, entry).map_err(fail)? {
                let below = dir.open_dir_here(&entry.name).map_err(fail)?;
                (below.stat_self().map_err(fail)?, xattrs_of_dir(&below, room).map_err(fail)?)
            } else {
                let stat = dir.stat(&entry.name).map_err(fail)?;
                (stat, xattrs_of(dir, &entry.name, room).map_err(fail)?)
            };
            let xattrs = xattrs.ok_or_else(|| unfit_at(&at(), TOO_LONG))?;
            if stat.dev != self.records[0].stat.dev {
                return Err(read_error(&at(), Errno::XDEV));
            }
            // a layer of another overlay, for one: what it lists is not what it shows
            if stat.ino != entry.ino {
                return Err(unfit_at(&at(), "its directory lists another inode number"));
            }
            self.put(parent, &entry.name, &stat, bounds).map_err(|why| unfit_at(&at(), why))?;
            let number = self.records.len() - 1;
            if stat.file_type() == FileType::Symlink {
                let target = dir.readlink(&entry.name).map_err(fail)?;
                self.records[number].first = self.extra.len() as u32;
                self.records[number].count = target.len() as u32;
                self.extra.extend(target);
            }
            self.put_xattrs(number, &xattrs);
        }
        self.records[parent].first = first as u32;
        self.records[parent].count = listed.len() as u32;
        Ok(())
    }

    /// Returns whether a directory of this inode number is in the tree.
    #[must_use]
    pub fn holds_dir(&self, ino: u64) -> bool {
        self.records.iter().any(|r| r.stat.is_dir() && r.stat.ino == ino)
    }

    fn path(&self, number: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = number;
        while at != 0 {
            let r = &self.records[at];
            names.push(&self.names[r.name_at as usize..(r.name_at + r.name_len) as usize]);
            at = r.parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    /// It cannot be written, or not all of it (`ENOSPC`).
    pub fn write(&self, file: &File) -> Result<(), Errno> {
        let mut crc = Checksum::new();
        let mut at = HEADER;
        let mut put = |data: &[u8]| {
            crc.write(data);
            file.write_all_at(data, at as u64)?;
            at += data.len();
            Ok::<_, Errno>(())
        };
        let mut chunk = Vec::with_capacity(CHUNK * RECORD);
        for records in self.records.chunks(CHUNK) {
            chunk.clear();
            records.iter().for_each(|r| chunk.extend(r.encode()));
            put(&chunk)?;
        }
        put(&self.names)?;
        put(&self.extra)?;
        let header = Header {
            records: self.records.len() as u32,
            names_len: self.names.len() as u32,
            extra_len: self.extra.len() as u32,
            body_crc: crc.sum64(),
        };
        file.write_all_at(&header.encode(), 0)
    }
}

/// Writes into a new file that there is no snapshot to be had.
///
/// # Errors
/// It cannot be written.
pub fn unfit(file: &File) -> Result<(), Errno> {
    let header = Header { body_crc: checksum(&[]), ..Header::default() };
    file.write_all_at(&header.encode(), 0)
}

/// How many records are written at once.
const CHUNK: usize = 1 << 11;

fn is_dir(dir: &Dir, entry: &DirEntry) -> Result<bool, Errno> {
    match entry.file_type {
        Some(known) => Ok(known == FileType::Dir),
        // some file systems tell no types
        None => Ok(dir.stat(&entry.name)?.is_dir()),
    }
}

type XattrList = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads the attributes of these names, as long as there is room for them: one file may have more
/// than any memory. `None`: there is not.
fn read_xattrs(
    keys: Vec<Vec<u8>>,
    mut room: usize,
    read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, Errno>,
) -> Result<Option<XattrList>, Errno> {
    let mut out = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(value) = read(&key)? else { continue };
        let Some(left) = room.checked_sub(key.len() + value.len()) else { return Ok(None) };
        room = left;
        out.push((key, value));
    }
    Ok(Some(out))
}

fn xattrs_of(dir: &Dir, name: &[u8], room: usize) -> Result<Option<XattrList>, Errno> {
    read_xattrs(dir.list_xattr(name)?, room, |key| dir.get_xattr(name, key))
}

fn xattrs_of_dir(dir: &Dir, room: usize) -> Result<Option<XattrList>, Errno> {
    let keys = dir.list_xattr_self()?.unwrap_or_default();
    read_xattrs(keys, room, |key| dir.get_xattr_self(key))
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

fn unfit_at(path: &[u8], why: &'static str) -> TakeError {
    TakeError::Unfit { path: path.to_vec(), why }
}

fn read_error(path: &[u8], errno: Errno) -> TakeError {
    match errno {
        Errno::ACCESS | Errno::PERM => unfit_at(path, "this user may not read it"),
        // an empty security.capability, for one: it is listed, and who reads it gets an error
        Errno::INVAL => unfit_at(path, "it has an extended attribute that cannot be read"),
        errno => TakeError::Read { path: path.to_vec(), errno },
    }
}
