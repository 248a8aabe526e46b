//! `stratafs explain`.

use super::output::{self, Table};
use super::{CliError, Context, layers, target};
use crate::inspect::{Explanation, LayerState, State, explain, short_step};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Say why a path is there or not: what each layer holds, top first, and what hides it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// An image, a container, or a mount point, unless -o lowerdir= names directories; and a path
    /// in it. The path of a file in a live mount is enough. Symlinks are not followed
    #[arg(num_args = 1..=2, required = true, value_names = ["TARGET", "PATH"])]
    words: Vec<OsString>,
    /// Directories instead: lowerdir=TOP:..:BOTTOM[,upperdir=UPPER]
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,
    /// Show layers too that hold nothing there
    #[arg(long)]
    all: bool,
}

/// Runs the command. The JSON is an [`Explanation`].
///
/// # Errors
/// What failed, with what may help. That a path is not there is no failure.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let inside = match args.words.as_slice() {
        [path] if args.options.is_empty() => target::split_mounted(Path::new(path)),
        _ => None,
    };
    let (name, path) = match (args.words.as_slice(), &inside) {
        (_, Some((point, rest))) => (Some(point.as_os_str()), rest.as_os_str()),
        ([path], None) => (None, path.as_os_str()),
        ([name, path], None) => (Some(name.as_os_str()), path.as_os_str()),
        _ => return Err(CliError::usage("explain takes a target and a path")),
    };
    let target = target::resolve(name, &args.options, context)?;
    let e = explain(&target.layers, path.as_bytes()).map_err(|e| CliError::usage(e.to_string()))?;
    if context.json {
        return output::json(&e);
    }
    output::print(&text(&target.title, &e, args.all))
}

fn text(title: &str, e: &Explanation, all: bool) -> String {
    let mut table = Table::new(&["LAYER", "STATE", "HOLDS", "WHY"]);
    let silent = |l: &&LayerState| l.state == State::Absent && l.marker.is_none();
    let (mut shown, mut left_out) = (0, 0);
    for l in &e.layers {
        if !all && silent(&l) {
            left_out += 1;
            continue;
        }
        shown += 1;
        table.row([layers::label(l.layer, l.kind), l.state.word().to_owned(), holds(l), why(e, l)]);
    }
    let mut out = format!("{} in {title}\n", e.path);
    if shown > 0 {
        out.push_str(&table.render());
    }
    match left_out {
        0 => {}
        n => out.push_str(&format!("({n} of {} layers hold nothing there)\n", e.layers.len())),
    }
    out.push_str(&e.verdict);
    out.push('\n');
    out
}

/// What a layer holds, in the manner of ls.
fn holds(l: &LayerState) -> String {
    let Some(kind) = l.file_type else { return "-".to_owned() };
    let mut parts = vec![kind.to_owned()];
    parts.extend(l.metacopy.as_ref().map(|_| "(metacopy)".to_owned()));
    if let (Some(mode), Some(uid), Some(gid)) = (&l.mode, l.uid, l.gid) {
        parts.push(format!("{mode} {uid}:{gid}"));
    }
    parts.extend(l.device.clone());
    match (&l.target, l.size) {
        (Some(target), _) => parts.push(format!("-> {target}")),
        (None, Some(size)) => parts.push(format!("{size} bytes")),
        (None, None) => {}
    }
    parts.extend(l.stored_at.as_ref().map(|p| format!("at {p}")));
    parts.join(" ")
}

fn why(e: &Explanation, l: &LayerState) -> String {
    let mut parts = Vec::new();
    if let (Some(by), Some(at)) = (l.hidden_by, &l.hidden_at) {
        let place = if *at == e.path { String::new() } else { format!(" at {at}") };
        parts.push(format!("by layer {by}{place}"));
    }
    if let Some(m) = &l.marker {
        let place = if m.at == e.path { String::new() } else { format!(" {}", m.at) };
        if m.form.is_some() || m.at != e.path {
            let form = m.form.as_ref().map(|f| format!(": {f}")).unwrap_or_default();
            let tar = m.tar.as_ref().map(|t| format!(", in the tar {t}")).unwrap_or_default();
            parts.push(format!("{}{place}{form}{tar}", m.what));
        }
    }
    parts.extend(l.metacopy.as_ref().map(|m| format!("metacopy: {m}")));
    if let Some(step) = &l.created_by {
        parts.push(format!("[{}]", short_step(step, 50)));
    }
    parts.join("; ")
}
