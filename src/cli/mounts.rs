//! `stratafs mounts`.

use super::live::{self, Record};
use super::output::{self, Table};
use super::{CliError, Context};
use crate::fuse::FS_TYPE;
use crate::name::printable;
use crate::sys;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

/// List live mounts.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Line {
    mount_point: String,
    source: String,
    read_only: bool,
    pid: Option<u32>,
    /// What its daemon wrote down; unknown for mounts of other users.
    record: Option<Record>,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(_args: &Args, context: &Context) -> Result<(), CliError> {
    let mut records = live::list();
    let lines: Vec<Line> = sys::mounts()
        .into_iter()
        .filter(|m| m.fs_type == FS_TYPE)
        .map(|m| {
            let own = records.iter().position(|l| {
                l.record.mount_point == m.mount_point
                    && l.record.device.as_deref() == Some(m.device.as_str())
            });
            let record = own.map(|i| records.swap_remove(i).record);
            Line {
                mount_point: printable(m.mount_point.as_os_str().as_bytes()),
                source: printable(m.source.as_bytes()),
                read_only: m.options.split(',').any(|o| o == "ro"),
                pid: record.as_ref().map(|r| r.pid),
                record,
            }
        })
        .collect();
    if context.json {
        return output::json(&lines);
    }
    let mut table = Table::new(&["MOUNT POINT", "SOURCE", "MODE", "PID"]);
    for l in &lines {
        let mode = if l.read_only { "ro" } else { "rw" };
        let pid = l.pid.map_or_else(|| "-".to_owned(), |p| p.to_string());
        table.row([l.mount_point.as_str(), &l.source, mode, &pid]);
    }
    output::print(&table.render())
}
