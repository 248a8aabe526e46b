//! `stratafs layers`.

use super::output::{self, Table};
use super::{CliError, Context, human, stack, target};
use crate::inspect::{LayerInfo, LayerKind, layer_infos, short_step};
use std::ffi::OsString;

/// How much of a build step the table shows, in characters.
const STEP: usize = 60;

/// List the layers of an image, a container, a live mount point, or directories, top first.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// An image, a container, or a mount point
    target: Option<OsString>,
    /// Directories instead: lowerdir=TOP:..:BOTTOM[,upperdir=UPPER]
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,
    /// Print whole ids and build steps
    #[arg(long)]
    no_trunc: bool,
}

/// Runs the command. The JSON is a list of [`LayerInfo`].
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let target = target::resolve(args.target.as_deref(), &args.options, context)?;
    let infos = layer_infos(&target.layers);
    if context.json {
        return output::json(&infos);
    }
    output::print(&table(&infos, args.no_trunc))
}

fn table(infos: &[LayerInfo], whole: bool) -> String {
    let by_path = infos.iter().all(|i| i.directory.is_some());
    let head = ["LAYER", "SIZE", "ENTRIES", "WHITEOUTS", "OPAQUE"];
    let rest: &[&str] =
        if by_path { &["DIRECTORY"] } else { &["DIFF ID", "CHAIN ID", "CACHE ID", "CREATED BY"] };
    let mut table = Table::new(&[&head[..], rest].concat());
    for i in infos {
        let id = |id: &Option<String>| {
            let text = id.as_deref().unwrap_or("-");
            let text = if whole { text } else { stack::short(text.trim_start_matches("sha256:")) };
            text.to_owned()
        };
        let mut row = vec![
            label(i.layer, i.kind),
            human::size(i.size),
            i.entries.to_string(),
            i.whiteouts.to_string(),
            i.opaque_dirs.to_string(),
        ];
        if by_path {
            row.extend(i.directory.clone());
        } else {
            row.extend([id(&i.diff_id), id(&i.chain_id), id(&i.cache_id)]);
            let step = i.created_by.as_deref().unwrap_or("-");
            row.push(if whole { step.to_owned() } else { short_step(step, STEP) });
        }
        table.row(row);
    }
    table.render()
}

/// A layer's number, and what it is if it is none of an image.
pub(super) fn label(number: u32, kind: LayerKind) -> String {
    match kind {
        LayerKind::Upper => format!("{number} upper"),
        LayerKind::Init => format!("{number} init"),
        LayerKind::Image | LayerKind::Directory => number.to_string(),
    }
}
