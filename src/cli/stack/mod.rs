//! From what the user names to a view: directories, or an image or container of the store.

mod apart;
mod directories;
mod store;

pub(super) use directories::{check_directories, directories};
pub(super) use store::{Found, Target, create, find, from_store, indexed, listed, no_store, short};

use super::mount_options::MountOptions;
use super::{CliError, live, root};
use crate::index_cache::{IndexCache, Trust};
use crate::overlay::{
    AccessTimes, DirLinks, IdMap, IdRange, IdView, KnownIds, Options, Overlay, Stack,
};
use crate::snapshot::Slot;
use crate::sys::{self, Dir};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A view that is ready to be mounted, and what else must live as long as it does.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) overlay: Arc<Overlay>,
    pub(super) facts: Facts,
    /// Held so that nobody else mounts the same upper.
    pub(super) locks: Vec<Dir>,
    /// Nobody else changes the layers, whatever kind they are.
    pub(super) exclusive: bool,
    /// Lower directories of which snapshots are kept.
    pub(super) known: Option<Known>,
}

/// Lower directories of which the index cache keeps snapshots.
#[derive(Debug)]
pub(super) struct Known {
    layers: Vec<(Dir, Slot)>,
    trust: Trust,
}

impl Known {
    /// Reads and writes the index cache, on a thread of its own, until `stop` is set or all is done.
    /// Without one the directories are read.
    pub(super) fn fill(self, stop: Arc<AtomicBool>) {
        let run = move || match root::cache_part("lowers") {
            Ok(dir) => IndexCache::new(dir, self.trust).fill(&self.layers, &stop),
            Err(e) => log::warn!("there is no index cache: {e}"),
        };
        let started = std::thread::Builder::new().name("index-cache".to_owned()).spawn(run);
        if let Err(e) = started {
            log::warn!("there is no index cache: {e}");
        }
    }
}

/// What the record of a live mount says about its layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) source: OsString,
    pub(super) root: Option<PathBuf>,
    pub(super) image: Option<String>,
    pub(super) container: Option<String>,
    pub(super) lowers: Vec<PathBuf>,
    pub(super) upper: Option<PathBuf>,
    /// What was locked, symlinks resolved.
    pub(super) locked: Vec<PathBuf>,
}

/// What the options say of every view, whatever it is made of.
fn common(o: &MountOptions) -> Options {
    let map = |ranges: &[IdRange], squash: Option<u32>| IdMap {
        ranges: ranges.to_vec(),
        squash: squash.or(o.squash_to_root.then_some(0)),
        overflow: OVERFLOW_ID,
    };
    let defaults = Options::default();
    Options {
        records: o.records.unwrap_or_default(),
        ids: IdView { uids: map(&o.uids, o.squash_to_uid), gids: map(&o.gids, o.squash_to_gid) },
        dir_links: if o.static_nlink { DirLinks::One } else { o.dir_links },
        follow_redirects: o.follow_redirects.unwrap_or(defaults.follow_redirects),
        access_times: match (o.atime, o.diratime) {
            (Some(false), _) => AccessTimes::Kept,
            (_, Some(false)) => AccessTimes::NotOfDirectories,
            _ => AccessTimes::Upper,
        },
        volatile: o.volatile,
        strict_sync: o.strict_sync,
        lazy_from: o.lazy_from,
        ..defaults
    }
}

fn view(stack: Stack, mut options: Options) -> Result<Arc<Overlay>, CliError> {
    let me = sys::Identity::current();
    if me.user_namespace {
        let (uids, gids) = sys::known_ids();
        options.known_ids = Some(KnownIds { uids, gids, uid: me.uid, gid: me.gid });
    }
    Overlay::new(stack, options)
        .map(Arc::new)
        .map_err(|e| CliError::failed("the layers cannot be stacked", &e))
}

/// Who has what nobody has: `/proc/sys/kernel/overflowuid` unless somebody changed it.
const OVERFLOW_ID: u32 = 65534;

/// How long a daemon whose mount is gone already may take to write out what it has.
const ENDING: Duration = Duration::from_secs(20);

/// Makes sure that nobody else writes there. After an unmount the last daemon may still be
/// writing: that is waited for.
fn lock(dir: &Dir, path: &Path) -> Result<Dir, CliError> {
    lock_within(dir, path, ENDING)
}

fn lock_within(dir: &Dir, path: &Path, patience: Duration) -> Result<Dir, CliError> {
    let own = dir.reopen().map_err(|e| CliError::message(format!("{}: {e}", path.display())))?;
    let give_up = Instant::now() + patience;
    loop {
        match own.try_lock() {
            Ok(true) => return Ok(own),
            Ok(false) if Instant::now() < give_up && !is_mounted(path) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(false) => {
                return Err(CliError::message(format!(
                    "{} is in use by another read-write mount",
                    path.display()
                ))
                .hint("stratafs mounts shows which; two writers would destroy each other's work"));
            }
            // some network file systems have no locks: go on without
            Err(e) => {
                log::warn!("{} cannot be locked: {e}", path.display());
                return Ok(own);
            }
        }
    }
}

/// A path as it stands in records.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns whether a live mount of ours has locked this directory, rather than a daemon that is
/// about to end.
fn is_mounted(path: &Path) -> bool {
    let path = resolved(path);
    live::list().iter().any(|l| {
        l.record.locked.contains(&path)
            && sys::mount_at(&l.record.mount_point)
                .is_some_and(|m| Some(&m.device) == l.record.device.as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_has_one_writer() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let first = lock(&d, tmp.path()).unwrap();
        assert!(lock_within(&d, tmp.path(), Duration::ZERO).is_err());
        drop(first);
        assert!(lock(&d, tmp.path()).is_ok());
    }
}
