//! `stratafs umount`.

use super::live::{self, Live};
use super::{CliError, Context};
use crate::fuse::{self, FS_TYPE};
use crate::sys::{self, MountInfo};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For how long to wait for the daemon after the mount has gone, where another mount namespace
/// has a copy of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long elsewhere: all that was written must come to the disk, and with `lazy_copy_up` the
/// rest of large files too.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_millis(5);

/// Unmount, and wait until everything is on disk.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The mount point
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Let it disappear at once and end with its last user
    #[arg(short, long)]
    lazy: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, _context: &Context) -> Result<(), CliError> {
    args.dirs.iter().try_for_each(|dir| unmount(dir, args.lazy))
}

fn unmount(dir: &Path, lazy: bool) -> Result<(), CliError> {
    let mount = find(dir)?;
    // looked up first: the record goes with the daemon, but its lock can still be waited for
    let live = live::find(&mount.mount_point, &mount.device);
    fuse::unmount(&mount.mount_point, lazy).map_err(|e| {
        CliError::failed(format!("cannot unmount {}", dir.display()), &e).maybe_hint(e.hint())
    })?;
    match live {
        Some(daemon) if !lazy => wait(dir, &daemon, &mount.device),
        _ => Ok(()),
    }
}

/// Finds our mount at `dir`, without touching what is mounted there: its daemon may be dead.
fn find(dir: &Path) -> Result<MountInfo, CliError> {
    let at = sys::mount_at(dir)
        .or_else(|| dir.canonicalize().ok().and_then(|real| sys::mount_at(&real)));
    match at {
        Some(m) if m.fs_type == FS_TYPE => Ok(m),
        Some(m) => Err(CliError::message(format!(
            "cannot unmount {}: a file system of type {} is mounted there, not one of ours",
            dir.display(),
            m.fs_type
        ))
        .hint(format!("umount {}", dir.display()))),
        None => Err(CliError::message(format!(
            "cannot unmount {}: nothing is mounted there",
            dir.display()
        ))
        .hint("stratafs mounts shows what is mounted")),
    }
}

fn wait(dir: &Path, daemon: &Live, device: &str) -> Result<(), CliError> {
    let began = Instant::now();
    let mut look = PATIENCE;
    while !daemon.ended() {
        let waited = began.elapsed();
        if waited > look {
            let copied = sys::mounted_elsewhere(device);
            if copied || waited > LONG_PATIENCE {
                return Err(CliError::message(format!(
                    "{} is unmounted, but its daemon (process {}) has not ended within {} seconds",
                    dir.display(),
                    daemon.record.pid,
                    waited.as_secs()
                ))
                .hint(if copied {
                    "another mount namespace holds a copy; the daemon ends when that goes"
                } else {
                    "it may still be writing, or another mount namespace holds a copy"
                }));
            }
            look += PATIENCE;
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}
