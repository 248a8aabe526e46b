//! Snapshots of lower directories, kept from one mount to the next.
//!
//! The first mount of a directory reads it as it always does, and a thread of its own takes a
//! [snapshot](crate::snapshot) meanwhile. The next mount compares that with the directory, again
//! beside its work, and from then on asks the disk for no name, attribute or link of that layer.
//! Until then, and for whatever was changed, damaged or cannot have one, the directory itself is
//! read. So nothing is ever shown that was not on the disk while this mount could see it, as long as
//! the file system's times tell all changes: others than those that are known to do so have no
//! snapshots. By word ([`Trust::Immutable`]) the root directory alone is compared.
//!
//! A file of the cache is named after the root of its directory (file system, inode), how it is to be
//! trusted, and who looks at it: what one user may read and under which ids is another thing for the
//! next one.

use crate::id::Hash;
use crate::name::printable;
use crate::snapshot::{Believed, Bounds, Compared, Slot, Snapshot, TakeError, take, unfit};
use crate::sys::{self, Dir, Errno, Mapping, OpenFlags, RenameFlags, Time, TimeSet};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A change younger than this when a directory was looked at may be followed by another one with the
/// very same time: the kernel's clock for files has steps of up to 10 ms.
const YOUNG: Duration = Duration::from_millis(20);
/// The same where times are whole seconds, or every other one.
const YOUNG_COARSE: Duration = Duration::from_secs(2);
/// After so long without use a file goes. Using one more often than daily does not count.
const KEPT: Duration = Duration::from_secs(30 * DAY);
/// So much may the files take together, in bytes; the longest unused go first.
const ROOM: u64 = 1 << 30;
const DAY: u64 = 24 * 60 * 60;
/// After so long somebody may try again what could not have a snapshot.
const UNFIT: Duration = Duration::from_secs(60 * 60);
/// After so long whoever was writing a file and has not finished it is dead.
const DEAD: Duration = Duration::from_secs(600);
/// Which part of the names may have other attributes that leave no trace before a snapshot is taken
/// anew.
const WORN: usize = 4;
/// The end of the name of a file that is being written.
const UNFINISHED: &[u8] = b".new";
/// How many threads compare: they wait for the disk more than they work.
const COMPARING: usize = 4;

/// When a snapshot is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// When all of it was compared with the directory.
    Compared,
    /// When the root directory is as it was: whoever mounts says that nobody changes a layer of his
    /// once it is made.
    Immutable,
}

/// A directory of snapshots.
#[derive(Debug)]
pub struct IndexCache {
    dir: Dir,
    trust: Trust,
    /// As whom directories are looked at.
    viewer: String,
}

/// Why a directory has no snapshot that may be believed.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error("the index cache: {0}")]
    Cache(#[from] Errno),
    #[error("it cannot be compared: {0}")]
    Compare(Errno),
    #[error("it cannot have one, as was found before")]
    Unfit,
    #[error("it was changed a moment ago")]
    Young {
        /// How long to wait before it may be tried again.
        wait: Duration,
    },
    #[error("somebody changes it")]
    Changing,
    #[error("the times of its file system do not tell all changes")]
    Foreign,
}

impl IndexCache {
    /// Keeps snapshots in `dir`, which nobody else may write.
    #[must_use]
    pub fn new(dir: Dir, trust: Trust) -> IndexCache {
        let me = sys::Identity::current();
        let groups = sys::supplementary_groups();
        let mut viewer = format!("{} {} {groups:?} {}\n", me.uid, me.gid, me.privileged);
        viewer += &String::from_utf8_lossy(&sys::id_maps());
        IndexCache { dir, trust, viewer }
    }

    /// Fills the slots of these lower directories, one after the other, and takes snapshots of those
    /// that have none. Returns soon after `stop` was set.
    ///
    /// What fails is logged: the directories themselves are read then.
    pub fn fill(&self, layers: &[(Dir, Slot)], stop: &AtomicBool) {
        let mut missing = Vec::new();
        for layer in layers {
            let (root, slot) = layer;
            match self.believed(root, stop) {
                Ok(Some((believed, worn))) => {
                    slot.get_or_init(|| believed);
                    missing.extend(worn.then_some(layer));
                }
                Ok(None) => missing.push(layer),
                Err(e) => log::debug!("no snapshot of a lower directory: {e}"),
            }
        }
        if !missing.is_empty() {
            sys::be_modest();
            self.keep_all(&missing, stop);
        }
        if !stop.load(Ordering::Relaxed) {
            self.sweep(Time::now(), ROOM)
                .unwrap_or_else(|e| log::warn!("the index cache cannot be swept: {e}"));
        }
    }

    /// Takes snapshots of these directories, and a moment later of those among them that were changed
    /// a moment ago.
    fn keep_all(&self, layers: &[&(Dir, Slot)], stop: &AtomicBool) {
        let mut young = Vec::new();
        let mut wait = Duration::ZERO;
        let mut done = HashSet::new();
        for layer in layers {
            // one directory may be several layers
            if self.name_of(&layer.0).is_ok_and(|name| !done.insert(name)) {
                continue;
            }
            if let Err(Unknown::Young { wait: longer }) = self.keep_for(layer, stop) {
                wait = wait.max(longer);
                young.push(layer);
            }
        }
        if young.is_empty() || !sleep(wait, stop) {
            return;
        }
        for layer in young {
            if let Err(Unknown::Young { .. } | Unknown::Changing) = self.keep_for(layer, stop) {
                self.give_up(&layer.0);
            }
        }
    }

    /// Takes a snapshot and fills its slot. A failure is logged.
    fn keep_for(&self, (root, slot): &(Dir, Slot), stop: &AtomicBool) -> Result<(), Unknown> {
        let kept = self.keep(root, stop);
        let kept = kept.inspect_err(|e| log::debug!("no snapshot of a lower directory: {e}"))?;
        slot.get_or_init(|| kept);
        Ok(())
    }

    /// Notes that a directory cannot have a snapshot, so that not every mount reads all of it.
    fn give_up(&self, root: &Dir) {
        let noted = self.name_of(root).map_err(Unknown::from);
        let noted = noted.and_then(|name| self.put(&name, |file| Ok(unfit(file)?)));
        noted.unwrap_or_else(|e| log::debug!("the index cache: {e}"));
    }

    /// Returns the snapshot of a directory that may be believed, and whether a new one would be a
    /// better picture; `None`: one is to be taken.
    fn believed(&self, root: &Dir, stop: &AtomicBool) -> Result<Option<(Believed, bool)>, Unknown> {
        if !root.keeps_true_times()? {
            return Err(Unknown::Foreign);
        }
        let name = self.name_of(root)?;
        let Some(snapshot) = self.find(&name, root)? else { return Ok(None) };
        let found = match self.trust {
            Trust::Immutable => {
                let (dir, name) = (self.dir.clone(), name.clone());
                (Believed::by_word(snapshot, move || forget(&dir, &name)), false)
            }
            Trust::Compared => match snapshot.compare(root, COMPARING, stop) {
                Compared::Same(fresh) => {
                    // what is fresh is in this process' own memory
                    let worn = fresh.len() > snapshot.names() / WORN;
                    (Believed::compared(snapshot.with_fresh(fresh)), worn)
                }
                Compared::Differs(path) => {
                    log::info!("a lower directory has changed: {}", printable(&path));
                    return Ok(None);
                }
                Compared::Unknown(e) => return Err(Unknown::Compare(e)),
                Compared::Stopped => return Err(TakeError::Stopped.into()),
            },
        };
        // else it may go too early
        self.note_use(&name).unwrap_or_else(|e| log::debug!("the index cache: {e}"));
        Ok(Some(found))
    }

    /// Returns the snapshot of a directory whose root is as it was; `None`: there is none.
    fn find(&self, name: &[u8], root: &Dir) -> Result<Option<Snapshot>, Unknown> {
        let (map, written) = match self.map(name) {
            Ok(found) => found,
            Err(e) => {
                if e != Errno::NOENT {
                    log::debug!("a snapshot cannot be read: {e}");
                }
                return Ok(None);
            }
        };
        let now = root.stat_self()?;
        if Snapshot::is_unfit(&map) {
            let again = age(written, Time::now()) > UNFIT || written < now.ctime;
            return if again { Ok(None) } else { Err(Unknown::Unfit) };
        }
        Ok(Snapshot::of(map, now.dev).filter(|s| s.is_of(&now)))
    }

    /// Returns the bytes of a file of the cache, and when it was last used.
    fn map(&self, name: &[u8]) -> Result<(Mapping, Time), Errno> {
        let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
        let file = self.dir.open_file(name, flags, 0)?;
        file.read_ahead();
        Ok((Mapping::of(&file)?, file.stat()?.mtime))
    }

    /// Takes a snapshot of a directory and keeps it.
    fn keep(&self, root: &Dir, stop: &AtomicBool) -> Result<Believed, Unknown> {
        let name = self.name_of(root)?;
        let began = Time::now();
        let taken = match take(root, Bounds::default(), stop) {
            Err(TakeError::Unfit { path, why }) => {
                log::info!("a lower directory cannot be known: {}: {why}", printable(&path));
                self.give_up(root);
                return Err(Unknown::Unfit);
            }
            taken => taken?,
        };
        let cache = self.dir.stat_self()?;
        if cache.dev == root.stat_self()?.dev && taken.holds_dir(cache.ino) {
            log::info!("a lower directory cannot be known: it holds the index cache");
            self.give_up(root);
            return Err(Unknown::Unfit);
        }
        let young = if taken.youngest.nsec == 0 { YOUNG_COARSE } else { YOUNG };
        if age(taken.youngest, began) < young {
            return Err(Unknown::Young { wait: young });
        }
        self.put(&name, |file| {
            taken.write(file)?;
            let snapshot = Snapshot::of(Mapping::of(file)?, root.stat_self()?.dev);
            let snapshot = snapshot.ok_or(Unknown::Changing)?;
            match snapshot.compare(root, 1, stop) {
                Compared::Same(fresh) => Ok(Believed::compared(snapshot.with_fresh(fresh))),
                Compared::Differs(_) => Err(Unknown::Changing),
                Compared::Unknown(e) => Err(Unknown::Compare(e)),
                Compared::Stopped => Err(TakeError::Stopped.into()),
            }
        })
    }

    /// Puts a new file under a name, when `fill` has filled it.
    fn put<T>(
        &self,
        name: &[u8],
        fill: impl FnOnce(&sys::File) -> Result<T, Unknown>,
    ) -> Result<T, Unknown> {
        // many mounts may be at it
        let mark = format!(".{:016x}", u64::from_ne_bytes(sys::random_bytes()));
        let new = [name, mark.as_bytes(), UNFINISHED].concat();
        let file = self.dir.open_file(&new, OpenFlags::CREATE_NEW, 0o600)?;
        let done = fill(&file).and_then(|filled| {
            self.dir.rename(&new, &self.dir, name, RenameFlags::Replace)?;
            Ok(filled)
        });
        if done.is_err() {
            // best effort: the first error is the one to tell
            self.dir.unlink(&new).unwrap_or_default();
        }
        done
    }

    fn name_of(&self, root: &Dir) -> Result<Vec<u8>, Errno> {
        let ino = root.stat_self()?.ino.to_le_bytes();
        let fsid = root.statvfs()?.fsid.to_le_bytes();
        // by word nothing is believed that was taken before the word was given
        let trust = [self.trust as u8];
        let what = [&ino[..], &fsid[..], &trust[..], self.viewer.as_bytes()].concat();
        Ok(Hash::of(&what).hex().into_bytes())
    }

    fn note_use(&self, name: &[u8]) -> Result<(), Errno> {
        let now = Time::now();
        if age(self.dir.stat(name)?.mtime, now).as_secs() > DAY {
            self.dir.set_times(name, TimeSet::At(now), TimeSet::At(now))?;
        }
        Ok(())
    }

    /// Removes what was not used for long, and what there is no room for.
    fn sweep(&self, now: Time, room: u64) -> Result<(), Errno> {
        let mut files = Vec::new();
        // whatever else is there is somebody else's
        for entry in self.dir.list()?.into_iter().filter(|e| is_ours(&e.name)) {
            match self.dir.stat(&entry.name) {
                Ok(s) if s.is_dir() => {}
                Ok(s) => files.push((age(s.mtime, now), s.size, entry.name)),
                // by another mount
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
        }
        files.sort_unstable();
        let mut taken = 0_u64;
        for (age, size, name) in files {
            taken = taken.saturating_add(size);
            let dead = name.ends_with(UNFINISHED) && age > DEAD;
            if dead || age > KEPT || taken > room {
                match self.dir.unlink(&name) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a name is one that [`IndexCache::name_of`] gives, finished or not.
fn is_ours(name: &[u8]) -> bool {
    let hex = match name.strip_suffix(UNFINISHED) {
        Some(marked) => marked.split(|b| *b == b'.').next().unwrap_or_default(),
        None => name,
    };
    hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit)
}

/// Lets the next mount look at the directory itself.
fn forget(dir: &Dir, name: &[u8]) {
    log::error!(
        "a lower directory was changed, though index_cache=immutable says that none is; mount it anew"
    );
    match dir.unlink(name) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => log::error!("its snapshot {} cannot be removed: {e}", printable(name)),
    }
}

/// Returns how long `then` is before `now`; nothing if it is after it.
fn age(then: Time, now: Time) -> Duration {
    let nanos = |t: Time| i128::from(t.sec) * 1_000_000_000 + i128::from(t.nsec);
    let apart = u64::try_from((nanos(now) - nanos(then)).max(0)).unwrap_or(u64::MAX);
    Duration::from_nanos(apart)
}

/// Waits; false: it was stopped.
fn sleep(time: Duration, stop: &AtomicBool) -> bool {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
    left.is_zero()
}

#[cfg(test)]
mod tests;
