//! Building an index from a layer directory on disk.

use super::{Builder, EntryId, Index, IndexError, Kind, Meta};
use crate::marker::{
    Dialect, FUSE_OVERLAYFS_OPAQUE, OVERRIDE_XATTR, OverrideStat, Redirect, XattrName,
};
use crate::sys::{Dir, Errno, File, FileType, Stat};
use std::collections::HashMap;

/// How [`scan`] reads a layer directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Believe `user.containers.override_stat`.
    pub override_stat: bool,
    /// Believe `overlay.redirect`: only in layers that this program or the kernel wrote.
    pub redirects: bool,
    /// Whose marks are believed.
    pub marks: Marks,
}

/// Whose marks a layer directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Those of any overlay: nobody knows who made it.
    All,
    /// Those of one name space. What the other one holds is a user's own.
    Of(Dialect),
}

/// Is told of each entry: its name, its attributes on disk, and the names of its extended ones.
/// Whiteouts and further names of a file come without the latter.
pub type Each<'a> = &'a mut dyn FnMut(&[u8], &Stat, &[Vec<u8>]);

impl Default for ScanOptions {
    fn default() -> ScanOptions {
        ScanOptions { override_stat: true, redirects: true, marks: Marks::All }
    }
}

/// How often a directory is read again that others change meanwhile.
const ATTEMPTS: usize = 3;

/// Reads the layer directory `diff` into a builder. Follows no symlink and opens nothing but
/// directories.
pub fn scan(diff: &Dir, options: ScanOptions) -> Result<Builder, IndexError> {
    scan_each(diff, options, &mut |_, _, _| {})
}

fn scan_each(diff: &Dir, options: ScanOptions, each: Each<'_>) -> Result<Builder, IndexError> {
    let mut b = Builder::new();
    let mut files: HashMap<(u64, u64), EntryId> = HashMap::new();
    // paths rather than handles wait here, so that no depth runs out of descriptors
    let root = Attrs::read(diff, b".", &options).map_err(|e| IndexError::Scan(Vec::new(), e))?;
    let stat = diff.stat_self().map_err(|e| IndexError::Scan(Vec::new(), e))?;
    each(b".", &stat, &root.keys);
    root.store(&mut b, EntryId::ROOT, &stat)?;
    let mut waiting = vec![(EntryId::ROOT, root.holds_xattr_whiteouts)];
    while let Some((id, xattr_whiteouts)) = waiting.pop() {
        let path = b.path(id);
        let at = |name: &[u8]| [&path[..], b"/", name].concat();
        let dir = diff.open_dir_beneath(&path).map_err(|e| IndexError::Scan(path.clone(), e))?;
        for entry in dir.list().map_err(|e| IndexError::Scan(path.clone(), e))? {
            let fail = |e| IndexError::Scan(at(&entry.name), e);
            let stat = dir.stat(&entry.name).map_err(fail)?;
            if stat.is_whiteout_device() {
                each(&entry.name, &stat, &[]);
                b.add(id, &entry.name, &Meta { mtime: stat.mtime, ..Meta::new(Kind::Whiteout) })?;
                continue;
            }
            let key = (stat.dev, stat.ino);
            let shared = stat.nlink > 1 && !stat.is_dir();
            if shared && let Some(first) = files.get(&key) {
                each(&entry.name, &stat, &[]);
                b.add_link(id, &entry.name, *first)?;
                continue;
            }
            let attrs = Attrs::read(&dir, &entry.name, &options).map_err(fail)?;
            each(&entry.name, &stat, &attrs.keys);
            if xattr_whiteouts && attrs.whiteout && stat.file_type() == FileType::File {
                b.add(id, &entry.name, &Meta { mtime: stat.mtime, ..Meta::new(Kind::Whiteout) })?;
                continue;
            }
            let new = b.add(id, &entry.name, &Meta::new(Kind::of(stat.file_type())))?;
            attrs.store(&mut b, new, &stat)?;
            match stat.file_type() {
                FileType::Symlink => {
                    b.set_target(new, &dir.readlink(&entry.name).map_err(fail)?)?;
                }
                FileType::Dir => waiting.push((new, attrs.holds_xattr_whiteouts)),
                _ => {}
            }
            if shared {
                files.insert(key, new);
            }
        }
    }
    Ok(b)
}

/// Reads a layer directory that others may change meanwhile into an index without a name.
///
/// # Errors
/// It cannot be read, or changes whenever it is; there is no room for temporary files.
pub fn scan_now(diff: &Dir, options: ScanOptions) -> Result<Index, IndexError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match scan_once(diff, options, &mut |_, _, _| {}) {
            // a file that went away while the directory was being read
            Err(IndexError::Scan(_, Errno::NOENT)) if attempt < ATTEMPTS => {}
            done => return done,
        }
    }
}

/// As [`scan_now`], and tells of each entry; fails if one goes away meanwhile.
///
/// # Errors
/// As [`scan_now`].
pub fn scan_once(diff: &Dir, options: ScanOptions, each: Each<'_>) -> Result<Index, IndexError> {
    let builder = scan_each(diff, options, each)?;
    let file = tempfile::tempfile()
        .map_err(|e| IndexError::Write(b"in a temporary file".to_vec(), e.into()))?;
    builder.open_in(&File::from_std(file))
}

/// What the extended attributes of one file say.
#[derive(Default)]
struct Attrs {
    keys: Vec<Vec<u8>>,
    visible: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
    holds_xattr_whiteouts: bool,
    whiteout: bool,
    redirect: Option<Redirect>,
    over: Option<OverrideStat>,
}

impl Attrs {
    fn read(dir: &Dir, name: &[u8], options: &ScanOptions) -> Result<Attrs, Errno> {
        let mut a = Attrs { keys: dir.list_xattr(name)?, ..Attrs::default() };
        for key in &a.keys {
            // the host's label, not the image's
            if key == b"security.selinux" {
                continue;
            }
            let Some(value) = dir.get_xattr(name, key)? else { continue };
            if key == OVERRIDE_XATTR {
                a.over = OverrideStat::parse(&value).filter(|_| options.override_stat);
                continue;
            }
            if key == FUSE_OVERLAYFS_OPAQUE {
                a.opaque |= value == b"y" && options.marks == Marks::All;
                continue;
            }
            let dialect = if let Marks::Of(dialect) = options.marks {
                dialect
            } else if key.starts_with(Dialect::Trusted.prefix()) {
                Dialect::Trusted
            } else {
                Dialect::User
            };
            match dialect.from_disk(key) {
                XattrName::Visible(shown) => a.visible.push((shown, value)),
                XattrName::Own if key == dialect.opaque() => {
                    a.opaque |= value == b"y";
                    a.holds_xattr_whiteouts |= value == b"x";
                }
                XattrName::Own if key == dialect.whiteout() => a.whiteout = true,
                XattrName::Own if key == dialect.redirect() && options.redirects => {
                    a.redirect = Redirect::parse(&value).ok();
                }
                XattrName::Own => {}
            }
        }
        Ok(a)
    }

    fn store(&self, b: &mut Builder, id: EntryId, stat: &Stat) -> Result<(), IndexError> {
        let over = self.over;
        let kind = over.and_then(|o| o.kind).map_or(Kind::of(stat.file_type()), Kind::of);
        // a directory stays one whatever an attribute says, and nothing else becomes one
        let kind = if stat.is_dir() || kind == Kind::Dir || kind == Kind::Symlink {
            Kind::of(stat.file_type())
        } else {
            kind
        };
        let meta = Meta {
            kind,
            mode: over.map_or(stat.permissions(), |o| o.mode),
            uid: over.map_or(stat.uid, |o| o.uid),
            gid: over.map_or(stat.gid, |o| o.gid),
            size: stat.size,
            blocks: stat.blocks,
            rdev: over.filter(|o| o.kind.is_some()).map_or(stat.rdev, |o| o.rdev),
            mtime: stat.mtime,
            opaque: self.opaque && stat.is_dir(),
            implied: false,
        };
        b.set(id, &meta);
        b.set_xattrs(id, self.visible.clone(), self.redirect.as_ref())
    }
}
