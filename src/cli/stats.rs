//! `stratafs stats`: what a live mount has been asked, and what it agreed on with the kernel. The
//! daemon answers whoever connects to a socket beside its record.

use super::live;
use super::output::{self, Table};
use super::{CliError, Context};
use crate::fuse::Session;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show what a live mount has been asked, and what it agreed on with the kernel.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The mount point
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// The daemon's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// How often each kind of request has come.
    pub requests: BTreeMap<String, u64>,
    /// What was agreed on with the kernel.
    pub agreed: BTreeMap<String, String>,
    /// How many files and directories the daemon keeps count of.
    pub objects: usize,
    /// How many of them are unchanged files that nobody uses.
    #[serde(default)]
    pub at_rest: usize,
    /// Of how many lower directories the index cache knows all (`index_cache`).
    #[serde(default)]
    pub known_lowers: usize,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let failed = |e: std::io::Error| {
        CliError::failed(format!("asking the daemon of {}", args.dir.display()), &e)
    };
    let mount = sys::mount_at(&args.dir)
        .or_else(|| args.dir.canonicalize().ok().and_then(|real| sys::mount_at(&real)))
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let live = live::find(&mount.mount_point, &mount.device)
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let stats = ask(&live.socket).map_err(failed)?;
    if context.json {
        return output::json(&stats);
    }
    let mut table = Table::new(&["WHAT", "VALUE"]);
    for (what, value) in &stats.agreed {
        table.row([what, value]);
    }
    table.row(["objects".to_owned(), stats.objects.to_string()]);
    table.row(["at rest".to_owned(), stats.at_rest.to_string()]);
    table.row(["known lowers".to_owned(), stats.known_lowers.to_string()]);
    for (op, n) in &stats.requests {
        table.row([op.clone(), n.to_string()]);
    }
    output::print(&table.render())
}

fn ask(socket: &Path) -> std::io::Result<Stats> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Answers at `socket` from a thread of its own, as long as this process lives.
pub(super) fn answer(socket: &Path, session: &Session) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let (counters, view, agreed) = (session.counters(), session.view(), session.agreed());
    let stats = move || Stats {
        requests: counters.seen().into_iter().map(|(op, n)| (op.name().to_owned(), n)).collect(),
        agreed: agreed.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        objects: view.upgrade().map_or(0, |v| v.objects()),
        at_rest: view.upgrade().map_or(0, |v| v.at_rest()),
        known_lowers: view.upgrade().map_or(0, |v| v.known_lowers()),
    };
    std::thread::Builder::new().name("stats".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let done = stream.and_then(|mut s| {
                s.set_write_timeout(Some(PATIENCE))?;
                s.write_all(&serde_json::to_vec(&stats())?)
            });
            if let Err(e) = done {
                log::debug!("stats: {e}");
                // out of descriptors, perhaps
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    })?;
    Ok(())
}
