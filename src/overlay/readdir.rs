//! Listings: `.`, `..`, the lowers' entries, the upper's, from any cookie on.

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::{DirInode, Object};
use super::listing::{BASE, Found};
use super::options::AccessTimes;
use super::types::{Attr, Ino, ListEntry};
use crate::sys::{Errno, FileType};
use std::sync::Arc;

/// How many entries are taken from a listing at a time, so that its lock is held briefly.
const BATCH: usize = 128;

/// Takes an entry; false: no more.
type EachItem<'a> = &'a mut dyn FnMut(&Arc<DirInode>, Item, FileType) -> Result<bool>;

struct Item {
    cookie: u64,
    name: Box<[u8]>,
    ino: Ino,
    /// What the listing says; `.` and `..` have nothing there.
    found: Option<Found>,
}

impl Overlay {
    /// Lists a directory from `cookie` on (0: from the start) until `sink` returns false; the
    /// entry that it refused is not taken.
    ///
    /// # Errors
    /// `ENOTDIR`, or what a layer's file system says.
    pub fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        sink: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<()> {
        self.walk_entries(dir, cookie, &mut |_, item, kind| {
            // the listing may not know what a file stands in for
            let kind = match &item.found {
                Some(Found::Base(e)) if kind == FileType::File => {
                    self.lower(e.at)?.kind(e.at.node).file_type().unwrap_or(kind)
                }
                _ => kind,
            };
            Ok(sink(ListEntry { ino: item.ino, cookie: item.cookie, kind, name: &item.name }))
        })
    }

    /// Lists a directory with attributes. Counts one lookup for each entry taken, but for `.`
    /// and `..`: of these two nothing is told but number and type, for the kernel takes no more
    /// (`fuse_direntplus_link` in fs/fuse/readdir.c).
    ///
    /// # Errors
    /// As [`Overlay::readdir`].
    pub fn readdir_plus(
        &self,
        dir: Ino,
        cookie: u64,
        sink: &mut dyn FnMut(ListEntry<'_>, &Attr) -> bool,
    ) -> Result<()> {
        self.walk_entries(dir, cookie, &mut |dir, item, kind| {
            let entry = ListEntry { ino: item.ino, cookie: item.cookie, kind, name: &item.name };
            let Some(found) = item.found else {
                return Ok(sink(entry, &Attr::of_listed_dir(item.ino)));
            };
            let object = match self.object_of(dir, &item.name, found) {
                Ok(o) => o,
                // removed since the listing was read
                Err(Error::NotFound | Error::Stale | Error::Replaced) => return Ok(true),
                // it cannot be entered, and must not spoil the listing
                Err(Error::Loop) => return Ok(true),
                Err(e) => return Err(e),
            };
            let attr = match self.attr_of(&object) {
                Ok(a) => self.visible(a),
                Err(e) => {
                    self.forget(object.ino(), 0);
                    let gone = matches!(e, Error::Replaced)
                        || matches!(e.errno(), Errno::NOENT | Errno::XDEV);
                    return if gone { Ok(true) } else { Err(e) };
                }
            };
            let entry = ListEntry { ino: attr.ino, ..entry };
            self.inodes.count(&object);
            self.inodes.rest(object);
            let taken = sink(entry, &attr);
            if !taken {
                self.forget(attr.ino, 1);
            }
            Ok(taken)
        })
    }

    fn walk_entries(&self, ino: Ino, mut cookie: u64, each: EachItem<'_>) -> Result<()> {
        let dir = self.dir(ino)?;
        self.freshen(&dir);
        if cookie == 0 {
            self.listing(&dir)?.begin_walk();
            // of a read-only mount no time of access changes, and the kernel does not ask
            if !dir.in_upper() && !self.read_only() {
                self.keep_meta(&dir);
            }
            let noted = self.options.access_times == AccessTimes::Upper;
            if noted && dir.in_upper() && !dir.is_removed() {
                match self.upper_dir(&dir)?.note_access() {
                    // removed this moment
                    Err(Errno::NOENT) if dir.is_removed() => {}
                    r => r.upper("list a directory of the upper")?,
                }
            }
        }
        for (i, name) in [(0, &b"."[..]), (1, b"..")] {
            if cookie > i {
                continue;
            }
            if dir.is_removed() {
                return Ok(());
            }
            let number = if i == 0 { dir.ino } else { dir.place.read().parent };
            let item = Item { cookie: i + 1, name: name.into(), ino: number, found: None };
            if !each(&dir, item, FileType::Dir)? {
                return Ok(());
            }
        }
        cookie = cookie.max(BASE);
        loop {
            let batch = self.batch(&dir, cookie)?;
            let Some(last) = batch.last() else { return Ok(()) };
            cookie = last.cookie;
            for item in batch {
                let kind = item.found.as_ref().map_or(FileType::Dir, Found::kind);
                if !each(&dir, item, kind)? {
                    return Ok(());
                }
            }
        }
    }

    fn batch(&self, dir: &DirInode, mut cookie: u64) -> Result<Vec<Item>> {
        let listing = self.listing(dir)?;
        let mut out = Vec::with_capacity(BATCH);
        while out.len() < BATCH {
            let Some((found, next)) = listing.next_from(cookie) else { break };
            if listing.is_past_walk(next) {
                break;
            }
            cookie = next;
            let (name, ino) = match &found {
                Found::Own(e) => (Box::from(&e.name[..]), e.ino),
                Found::Base(e) => {
                    let layer = self.lower(e.at)?;
                    if e.kind == FileType::Dir && self.traps.contains(&layer.ino(e.at.node)) {
                        continue;
                    }
                    (layer.with_name(e.at.node, |n| Box::from(n)), layer.ino(e.at.node))
                }
            };
            out.push(Item { cookie, name, ino, found: Some(found) });
        }
        Ok(out)
    }

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// What the upper's file system says.
    pub fn fsync_dir(&self, dir: Ino, _data_only: bool) -> Result<()> {
        let Object::Dir(dir) = self.object(dir)? else { return Err(Error::NotDirectory) };
        if dir.in_upper() && !self.options.volatile {
            self.upper_dir(&dir)?.sync().upper("sync a directory")?;
        }
        Ok(())
    }
}
