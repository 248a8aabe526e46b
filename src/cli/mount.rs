//! `stratafs mount`.

use super::daemon::{self, Job, What};
use super::mount_options::MountOptions;
use super::stack::{self, Target};
use super::{CliError, Context, remount};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Mount an image (read-only), a container (read-write) or directories.
///
/// An ordinary user's mount is private: only he may enter it, sees the true owners and may act as
/// root would. With --allow-other everybody may enter and the kernel enforces permissions.
///
/// With -o remount the flags of the mount that is at DIR change; what TARGET says does not matter.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to mount, unless -o lowerdir= names directories; and the mount point
    #[arg(num_args = 1..=2, required = true, value_names = ["TARGET", "DIR"])]
    paths: Vec<OsString>,
    /// Mount an image read-write: makes a container of it first
    #[arg(long)]
    rw: bool,
    /// Name of the container that --rw makes
    #[arg(long, requires = "rw", value_name = "NAME")]
    name: Option<String>,
    /// Let other users enter; permissions are enforced by the kernel
    #[arg(long)]
    allow_other: bool,
    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Write the daemon's log to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let mut options =
        MountOptions::parse(&args.options).map_err(|e| CliError::usage(e.to_string()))?;
    options.allow_other |= args.allow_other;
    let (target, mount_point) = match args.paths.as_slice() {
        [dir] => (None, dir),
        [target, dir] => (Some(target), dir),
        _ => return Err(CliError::usage("mount takes a target and a directory")),
    };
    if options.remount {
        if args.rw {
            return Err(CliError::usage("--rw makes a container, -o remount changes no layers")
                .hint("-o remount,rw makes a mount writable again that has an upper"));
        }
        return remount::remount(Path::new(mount_point), &options);
    }
    let what = what(target, &options, args)?;
    let job = Job {
        what,
        mount_point: mount_point.into(),
        options,
        foreground: args.foreground,
        log: args.log.clone(),
    };
    daemon::start(&job, context)
}

fn what(target: Option<&OsString>, options: &MountOptions, args: &Args) -> Result<What, CliError> {
    if options.names_directories() {
        if target.is_some() || args.rw {
            return Err(CliError::usage("either an image or container, or -o lowerdir="));
        }
        stack::check_directories(options)?;
        return Ok(What::Directories);
    }
    match target.map(|t| t.to_str()) {
        Some(Some(name)) => Ok(What::Store(Target {
            name: name.to_owned(),
            rw: args.rw,
            container: args.name.clone(),
        })),
        Some(None) => Err(CliError::usage("the name of an image or container is text")),
        None => {
            Err(CliError::usage("what is to be mounted: an image, a container, or directories")
                .hint("stratafs mount IMAGE DIR, or stratafs mount -o lowerdir=A:B DIR"))
        }
    }
}
