//! `stratafs diff`.

use super::{CliError, Context, output, target};
use crate::inspect::{ChangeKind, diff};
use crate::name::printable;
use serde::Serialize;
use std::ffi::OsString;

/// List what a container changed: A added, C changed, D deleted, as docker diff does.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A container, or where one is mounted
    #[arg(value_name = "CONTAINER")]
    target: Option<OsString>,
    /// Directories instead: lowerdir=TOP:..:BOTTOM,upperdir=UPPER
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// One change. The names of the JSON fields are those of Docker's API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    /// The path, beginning with a slash.
    path: String,
    /// 0 changed, 1 added, 2 deleted.
    kind: u8,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let target = match &args.target {
        Some(name) if args.options.is_empty() => target::container(name, context)?,
        name => target::resolve(name.as_deref(), &args.options, context)?,
    };
    let changes = diff(&target.layers).map_err(|e| CliError::failed(&target.title, &e))?;
    if context.json {
        let lines: Vec<Line> = changes
            .iter()
            .map(|c| Line {
                path: printable(&c.path),
                kind: match c.kind {
                    ChangeKind::Changed => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                },
            })
            .collect();
        return output::json(&lines);
    }
    let lines = changes.iter().map(|c| format!("{} {}\n", c.kind.letter(), printable(&c.path)));
    output::print(&lines.collect::<String>())
}
