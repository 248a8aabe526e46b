//! The command line: the only place that reads the environment, knows the home directory and
//! prints.
//!
//! One file per command, each with `Args` and `run`. A command line without a command is the
//! drop-in form, see `compat`.

pub mod commit;
pub mod compat;
pub mod containers;
pub mod create;
mod daemon;
pub mod demo;
pub mod diff;
pub mod error;
pub mod explain;
mod human;
pub mod images;
pub mod import;
pub mod layers;
mod live;
mod logging;
pub mod mount;
pub mod mount_options;
pub mod mounts;
pub mod output;
mod progress;
mod remount;
pub mod rm;
mod root;
mod stack;
pub mod stats;
mod target;
pub mod umount;

pub use error::CliError;
pub use live::Record;

use crate::name::printable;
use crate::sys::{Runs, Time};
use clap::{Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::cell::OnceCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// What every command is told.
#[derive(Clone, Debug)]
pub struct Context {
    /// Root of the layer store; need not exist.
    pub root: PathBuf,
    /// Print JSON.
    pub json: bool,
    /// Print nothing but errors and what was asked for.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

#[derive(Debug, Parser)]
#[command(
    name = "stratafs",
    version,
    about = "Mount, change and explain stacks of image layers",
    after_help = "Without a command, stratafs takes the options of fuse-overlayfs:\n  \
                  stratafs -o lowerdir=A:B,upperdir=U,workdir=W DIR",
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Default, clap::Args)]
struct Global {
    /// The layer store [default: $STRATAFS_ROOT, else the user's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice, everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount an image, a container, or directories
    Mount(mount::Args),
    /// Unmount, and wait until everything is on disk
    Umount(umount::Args),
    /// List live mounts
    Mounts(mounts::Args),
    /// Show what a live mount has been asked
    Stats(stats::Args),
    /// Make a container of an image
    Create(create::Args),
    /// Make an image of a container
    Commit(commit::Args),
    /// Bring an image into the store
    Import(import::Args),
    /// List images
    Images(images::Args),
    /// List the layers of an image, a container or a mount
    Layers(layers::Args),
    /// Say why a path is there or not, layer by layer
    Explain(explain::Args),
    /// List what a container changed, as docker diff does
    Diff(diff::Args),
    /// List containers
    Containers(containers::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Show with a small image of its own how layers work
    Demo(demo::Args),
}

/// Runs the command line `args`, the program's name first, and returns its exit status.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    crate::sys::read_program_ahead(about_to_run(&args));
    crate::sys::tune_allocator();
    match try_run(args) {
        Ok(code) => code,
        Err(e) => {
            e.print();
            e.exit_code()
        }
    }
}

/// Guesses, before anything is parsed, what of the program will run.
fn about_to_run(args: &[OsString]) -> Runs {
    let directories = |a: &OsString| {
        let options = a.as_bytes().strip_prefix(b"-o").unwrap_or(a.as_bytes());
        options.split(|b| *b == b',').any(|o| o.starts_with(b"lowerdir="))
    };
    // as a command it takes directories too, and wants the grammar
    let command = args.iter().any(|a| a == "mount");
    // as mount(8) calls it: mount.fuse.stratafs
    let name = args.first().and_then(|a| a.as_bytes().rsplit(|b| *b == b'/').next());
    match args.iter().any(directories) {
        true if !command => Runs::Mount,
        _ if command || name.is_some_and(|n| n.starts_with(b"mount.")) => Runs::MountFromStore,
        _ => Runs::Anything,
    }
}

// apart, so that what runs before the program is read ahead is small (`start.ld`)
#[inline(never)]
fn try_run(args: Vec<OsString>) -> Result<ExitCode, CliError> {
    // to make it takes a while, and a mount in the drop-in form does without
    let command = OnceCell::new();
    let is_command = |word: &str| {
        command.get_or_init(Cli::command).get_subcommands().any(|c| c.get_name() == word)
    };
    if let Some(form) = compat::recognize(&args, is_command) {
        return compat::run(&form).map(|()| ExitCode::SUCCESS);
    }
    let matches = match command.into_inner().unwrap_or_else(Cli::command).try_get_matches_from(args)
    {
        Ok(m) => m,
        Err(e) => {
            // help and version are no errors to clap either: it knows the stream
            e.print().map_err(|e| CliError::failed("output", &e))?;
            return Ok(ExitCode::from(if e.use_stderr() { 2 } else { 0 }));
        }
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|e| CliError::usage(e.to_string()))?;
    let context = cli.global.context()?;
    dispatch(cli.command, &context).map(|()| ExitCode::SUCCESS)
}

fn dispatch(command: Command, context: &Context) -> Result<(), CliError> {
    // mount starts its own log, in the daemon
    if !matches!(command, Command::Mount(_)) {
        logging::to_stderr(context);
    }
    match command {
        Command::Mount(args) => mount::run(&args, context),
        Command::Umount(args) => umount::run(&args, context),
        Command::Mounts(args) => mounts::run(&args, context),
        Command::Stats(args) => stats::run(&args, context),
        Command::Create(args) => create::run(&args, context),
        Command::Commit(args) => commit::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Images(args) => images::run(&args, context),
        Command::Layers(args) => layers::run(&args, context),
        Command::Explain(args) => explain::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Containers(args) => containers::run(&args, context),
        Command::Rm(args) => rm::run(&args, context),
        Command::Demo(args) => demo::run(&args, context),
    }
}

/// The time that what is made here bears: now, or what builds ask for that must give the same bytes
/// again (`SOURCE_DATE_EPOCH`, in seconds).
fn creation_time() -> Result<Time, CliError> {
    // of the years that RFC 3339 can write
    const LAST: i64 = 253_402_300_799;
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(Time::now()) };
    match text.to_str().and_then(|t| t.parse().ok()).filter(|sec| (0..=LAST).contains(sec)) {
        Some(sec) => Ok(Time { sec, nsec: 0 }),
        None => Err(CliError::usage(format!(
            "SOURCE_DATE_EPOCH is {}, which is no number of seconds from 1970 to 9999",
            printable(text.as_bytes())
        ))),
    }
}

impl Global {
    fn context(self) -> Result<Context, CliError> {
        Ok(Context {
            root: root::choose(self.root)?,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
        })
    }

    /// Returns the options that stand before the command, each with whether it takes a value.
    fn options() -> Vec<(String, bool)> {
        let command = Global::augment_args(clap::Command::new("global"));
        let mut out = Vec::new();
        for a in command.get_arguments() {
            let value = a.get_action().takes_values();
            out.extend(a.get_long().map(|l| (format!("--{l}"), value)));
            out.extend(a.get_short().map(|s| (format!("-{s}"), value)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
