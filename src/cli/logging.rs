//! Where the log goes: standard error, or a file for a daemon.

use super::{CliError, Context};
use std::fs::File;
use std::path::Path;

fn builder(context: &Context) -> env_logger::Builder {
    let ours = match (context.quiet, context.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    // fuser tells of every request at the debug level, and of unmounts at the info level
    let fuser = if context.verbose > 2 { "debug" } else { "error" };
    let filter = format!("{ours},fuser={fuser}");
    let mut b = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter));
    b.format_timestamp_millis();
    b
}

/// Logs to standard error.
pub(super) fn to_stderr(context: &Context) {
    // a second call changes nothing, which is right
    builder(context).try_init().unwrap_or_default();
}

/// Logs to a file.
pub(super) fn to_file(context: &Context, file: File) {
    builder(context)
        .target(env_logger::Target::Pipe(Box::new(file)))
        .try_init()
        .unwrap_or_default();
}

/// Opens a log file, to append to it.
pub(super) fn open(path: &Path) -> Result<File, CliError> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|e| CliError::failed(format!("log file {}", path.display()), &e))
}
