//! The writable layer: handles on its directories, staging in the work directory.
//!
//! Whatever must appear at once and whole is made under a name of its own in `work/work` and
//! moved into place by one rename. What a crash leaves there is swept at the next mount.

use super::acl;
use super::error::{Doing as _, Error, Result};
use super::handle::kept_open;
use super::lower::Meta;
use super::options::{Options, Upper};
use super::origin::KernelIndex;
use super::types::Ino;
use super::wh_names::WhiteoutNames;
use crate::marker::Dialect;
use crate::sys::{
    Capabilities, Copied, Dir, Errno, File, OpenFlags, RenameFlags, SMALL, TimeSet, copy_data,
    copy_small,
};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many directory handles are kept open.
const HANDLES: usize = 512;
/// The directory below the work directory in which things are staged, as the kernel names it.
const STAGE: &[u8] = b"work";

/// Below it: what other overlays must understand before they may mount this upper.
const INCOMPAT: &[u8] = b"incompat";
/// What the names of staged things begin with.
const STAGED: &[u8] = b"stratafs-";

/// The upper and its work directory.
#[derive(Debug)]
pub(super) struct UpperLayer {
    pub(super) root: Dir,
    pub(super) stage: Dir,
    pub(super) dialect: Dialect,
    pub(super) caps: Capabilities,
    pub(super) dev: u64,
    /// Inode numbers of the upper and of the work directory.
    pub(super) roots: [u64; 2],
    pub(super) volatile: bool,
    /// Whether the file system shows a block as data only when its content is on disk.
    pub(super) holes_tell: bool,
    /// Ids of batches of an earlier mount whose copies may lack data.
    pub(super) unclean: Vec<u64>,
    /// A copy was made that could not share its blocks.
    copies: AtomicBool,
    pub(super) names: WhiteoutNames,
    /// Whether names of hard-linked lower files went in an earlier mount.
    pub(super) counts_links: bool,
    /// Whether its root says that such names went.
    noted_unlinked: AtomicBool,
    /// Whether the kernel's overlayfs has had it mounted.
    pub(super) of_the_kernel: bool,
    /// What the kernel's overlayfs noted about hard links.
    pub(super) index: Option<KernelIndex>,
    /// Its file system holds no character devices 0:0, so that whiteouts are empty files with an
    /// extended attribute, as the kernel reads them in lower layers (overlayfs.rst, "Nested
    /// overlayfs mounts").
    pub(super) whiteout_files: bool,
    counter: AtomicU64,
    swept: std::sync::Once,
    handles: Mutex<lru::LruCache<Ino, Dir>>,
    /// Name in `stage` of the whiteout that others are hard links to.
    pub(super) whiteout: Mutex<Option<Box<[u8]>>>,
}

impl UpperLayer {
    pub(super) fn open(upper: Upper, options: &Options) -> Result<UpperLayer> {
        let (dialect, volatile) = (options.dialect, options.volatile);
        let names = options.whiteout_names;
        let refuse = |why: String, errno| Error::Upper { why, errno };
        upper.work.mkdir_if_missing(STAGE, 0o700).upper("make the staging directory")?;
        let stage = upper.work.open_dir(STAGE).upper("open the staging directory")?;
        leave_nothing_to_inherit(&stage).upper("prepare the staging directory")?;
        let stat = upper.root_stat()?;
        let work = stage.stat_self().upper("look at the work directory")?;
        if work.dev != stat.dev {
            let why = "upperdir and workdir must lie on the same file system".to_owned();
            return Err(refuse(why, Errno::XDEV));
        }
        let upper_work = upper.work.stat_self().upper("look at the work directory")?.ino;
        match stage.open_dir_beneath(b"incompat/volatile") {
            Err(Errno::NOENT) => {}
            Ok(_) => {
                let why = "it was last mounted volatile and not unmounted cleanly; its content cannot be trusted. \
                           Remove workdir/work/incompat/volatile to use it all the same";
                return Err(refuse(why.to_owned(), Errno::INVAL));
            }
            Err(e) => return Err(e).upper("look for the volatile mark"),
        }
        // what a crash of ours left
        let unclean = noted_batches(&stage).upper("list the notes of unsettled copies")?;
        for left in stage.list().upper("list the staging directory")? {
            if left.name.starts_with(STAGED) {
                stage.remove_tree(&left.name).upper("sweep the staging directory")?;
            }
        }
        let caps = Capabilities::probe(&stage).upper("probe the file system")?;
        // who only looks leaves no trace
        let (atime, mtime) = (TimeSet::At(work.atime), TimeSet::At(work.mtime));
        stage.set_times_self(atime, mtime).upper("set the staging directory's times")?;
        caps.check_upper().map_err(|why| refuse(why.to_owned(), Errno::INVAL))?;
        // a name of no file: which error comes tells whether the two lie in one mount
        let nothing = [STAGED, b"none"].concat();
        if let Err(Errno::XDEV) =
            stage.rename(&nothing, &upper.dir, &nothing, RenameFlags::NoReplace)
        {
            let why = "upperdir and workdir must lie in the same mount".to_owned();
            return Err(refuse(why, Errno::XDEV));
        }
        let whiteout_files = !caps.whiteout_device && names != WhiteoutNames::Written;
        if whiteout_files {
            log::info!("the upper holds no character devices 0:0: whiteouts are marked files");
        }
        let dialect =
            dialect.unwrap_or(if caps.trusted_xattr { Dialect::Trusted } else { Dialect::User });
        let usable = match dialect {
            Dialect::Trusted => caps.trusted_xattr,
            Dialect::User => caps.user_xattr,
        };
        if !usable {
            let prefix = String::from_utf8_lossy(dialect.prefix()).into_owned();
            return Err(refuse(
                format!(
                    "its file system refuses {prefix}* attributes; use one that takes them, such \
                     as ext4, xfs, btrfs or (since Linux 6.6) tmpfs"
                ),
                Errno::OPNOTSUPP,
            ));
        }
        if volatile {
            mark_volatile(&stage).upper("mark the upper as volatile")?;
        }
        let root = upper.dir.as_node().upper("open the upper directory")?;
        let has = |key| root.get_xattr(key).map(|v| v.is_some());
        // an identity of its own, or that of the lowers for its index
        let of_the_kernel = has(dialect.uuid()).upper("read the upper's marks")?
            || has(dialect.kernel_origin()).upper("read the upper's marks")?;
        let counts_links = has(dialect.unlinked()).upper("read the upper's marks")?;
        let handles = lru::LruCache::new(kept_open(HANDLES, 8));
        Ok(UpperLayer {
            counts_links,
            noted_unlinked: AtomicBool::new(counts_links),
            holes_tell: upper.dir.holes_tell(),
            unclean,
            copies: AtomicBool::new(false),
            root: upper.dir,
            stage,
            dialect,
            caps,
            dev: stat.dev,
            roots: [stat.ino, upper_work],
            volatile,
            names,
            of_the_kernel,
            index: KernelIndex::open(&upper.work)?,
            whiteout_files,
            counter: AtomicU64::new(0),
            swept: std::sync::Once::new(),
            handles: Mutex::new(handles),
            whiteout: Mutex::new(None),
        })
    }

    /// Returns an unused name in the staging directory.
    pub(super) fn stage_name(&self) -> Box<[u8]> {
        // another program's leftovers go with the first change: who only reads changes nothing
        self.swept.call_once(|| match self.stage.list() {
            Ok(all) => all
                .iter()
                .filter(|e| e.name[..] != *INCOMPAT && !e.name.starts_with(STAGED))
                .for_each(|e| self.discard(&e.name)),
            Err(e) => log::warn!("cannot list the work directory: {e}"),
        });
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        [STAGED, format!("{n:x}").as_bytes()].concat().into()
    }

    /// Returns a guard for a new staged thing: dropped, it is removed.
    pub(super) fn staged(&self) -> Staged<'_> {
        Staged { upper: self, name: self.stage_name(), live: true }
    }

    /// Copies the content of a lower file with these attributes; returns whether the blocks are
    /// shared.
    pub(super) fn copy(&self, from: &File, to: &File, len: u64, meta: &Meta) -> Result<bool> {
        let whole = meta.blocks.saturating_mul(512) >= len;
        if len <= SMALL && whole && self.copies.load(Ordering::Relaxed) {
            copy_small(from, to, len).upper("copy a file's data")?;
            return Ok(false);
        }
        let shared = copy_data(from, to, len).upper("copy a file's data")? == Copied::Cloned;
        if !shared {
            self.copies.store(true, Ordering::Relaxed);
        }
        Ok(shared)
    }

    /// Notes that a name of a hard-linked lower file is about to go: the next mount counts what is
    /// left. Without the note it shows the lower's count, as the kernel with `index=off`.
    pub(super) fn note_unlinked(&self) {
        if self.noted_unlinked.swap(true, Ordering::Relaxed) {
            return;
        }
        let key = self.dialect.unlinked();
        let noted = self.root.as_node().and_then(|n| n.set_xattr(key, b"y", false, false));
        if let Err(e) = noted {
            log::debug!("link counts are of this mount only: {e}");
            // perhaps there is room for it when the next name goes
            self.noted_unlinked.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that copies of a batch may lack data, so that no other overlay takes them for whole.
    pub(super) fn note_batch(&self, id: u64) -> Result<()> {
        let doing = "note that copies are not on disk";
        self.stage.mkdir_if_missing(INCOMPAT, 0o700).upper(doing)?;
        let incompat = self.stage.open_dir(INCOMPAT).upper(doing)?;
        incompat.mkdir(&batch_name(id), 0o700).upper(doing)
    }

    /// Takes such a note away.
    pub(super) fn forget_batch(&self, id: u64) -> Result<()> {
        let doing = "take away the note of unsettled copies";
        let gone = |r| match r {
            Err(Errno::NOENT) => Ok(()),
            r => r,
        };
        let incompat = match self.stage.open_dir(INCOMPAT) {
            Err(Errno::NOENT) => return Ok(()),
            r => r.upper(doing)?,
        };
        gone(incompat.rmdir(&batch_name(id))).upper(doing)
    }

    pub(super) fn cached(&self, ino: Ino) -> Option<Dir> {
        self.handles.lock().get(&ino).cloned()
    }

    pub(super) fn cache(&self, ino: Ino, dir: Dir) {
        self.handles.lock().put(ino, dir);
    }

    pub(super) fn uncache(&self, ino: Ino) {
        self.handles.lock().pop(&ino);
    }

    /// Removes the directory `name`; `empty`: it most probably holds nothing, else whiteouts.
    pub(super) fn remove_dir(&self, dir: &Dir, name: &[u8], empty: bool) -> Result<()> {
        match if empty { dir.rmdir(name) } else { Err(Errno::NOTEMPTY) } {
            Err(Errno::NOTEMPTY | Errno::EXIST) => self.discard_dir(dir, name),
            r => r.upper("remove a directory"),
        }
    }

    /// Moves the directory `name` away and removes it. It holds whiteouts at most; what cannot be
    /// removed stays in the staging directory, where the next mount sweeps it.
    pub(super) fn discard_dir(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        let away = self.stage_name();
        dir.rename(name, &self.stage, &away, RenameFlags::NoReplace)
            .upper("move a removed directory away")?;
        self.discard(&away);
        Ok(())
    }

    /// Removes something from the staging directory.
    pub(super) fn discard(&self, name: &[u8]) {
        if let Err(e) = self.stage.remove_tree(name) {
            log::warn!("cannot clean the work directory: {e}; the next mount will sweep it");
        }
    }

    /// Removes what was kept staged for reuse.
    pub(super) fn close(&self) -> Result<()> {
        if let Some(name) = self.whiteout.lock().take() {
            self.discard(&name);
        }
        self.root.sync_file_system().upper("sync the upper")?;
        match self.stage.rmdir(INCOMPAT) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            r => r.upper("clean the staging directory")?,
        }
        if self.volatile {
            // all of it is on disk now, so that it may be trusted again
            self.stage.remove_tree(INCOMPAT).upper("take the volatile mark away")?;
        }
        Ok(())
    }
}

/// The note of a batch in [`INCOMPAT`].
fn batch_name(id: u64) -> Vec<u8> {
    [STAGED, format!("{id:016x}").as_bytes()].concat()
}

fn noted_batches(stage: &Dir) -> crate::sys::Result<Vec<u64>> {
    let incompat = match stage.open_dir(INCOMPAT) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        r => r?,
    };
    let id = |name: &[u8]| {
        let hex = std::str::from_utf8(name.strip_prefix(STAGED)?).ok()?;
        u64::from_str_radix(hex, 16).ok()
    };
    Ok(incompat.list()?.iter().filter_map(|e| id(&e.name)).collect())
}

/// Takes from the staging directory what it has from the work directory's setgid bit and default
/// ACL: what is made in it would have it too.
fn leave_nothing_to_inherit(stage: &Dir) -> crate::sys::Result<()> {
    let node = stage.as_node()?;
    for key in [acl::DEFAULT, acl::ACCESS] {
        match node.remove_xattr(key) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
    }
    let mode = node.stat()?.permissions();
    if mode & 0o2000 != 0 { node.chmod(mode & !0o2000) } else { Ok(()) }
}

/// Marks the upper so that no overlay takes it for whole after a crash. The kernel's overlayfs
/// leaves the same mark: a directory that is not empty, two levels below its staging directory.
fn mark_volatile(stage: &Dir) -> crate::sys::Result<()> {
    stage.mkdir_if_missing(INCOMPAT, 0o700)?;
    let incompat = stage.open_dir(INCOMPAT)?;
    incompat.mkdir(b"volatile", 0o700)?;
    let volatile = incompat.open_dir(b"volatile")?;
    volatile.open_file(b"dirty", OpenFlags::CREATE_NEW, 0o600)?;
    // the mark alone must survive, or it would be of no use
    volatile.sync()?;
    incompat.sync()?;
    stage.sync()
}

impl Upper {
    fn root_stat(&self) -> Result<crate::sys::Stat> {
        self.dir.stat_self().upper("look at the upper directory")
    }
}

/// Something under a name of its own in the staging directory. Dropped, it is removed;
/// committed, it has moved to its place.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    upper: &'a UpperLayer,
    pub(super) name: Box<[u8]>,
    live: bool,
}

impl Staged<'_> {
    /// Moves the staged thing to its place. With `Exchange`, what was there is removed after.
    pub(super) fn commit(
        mut self,
        dir: &Dir,
        name: &[u8],
        how: RenameFlags,
    ) -> crate::sys::Result<()> {
        self.upper.stage.rename(&self.name, dir, name, how)?;
        // after an exchange the old thing lies under the staged name: drop removes it
        self.live = how == RenameFlags::Exchange;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.live {
            self.upper.discard(&self.name);
        }
    }
}
