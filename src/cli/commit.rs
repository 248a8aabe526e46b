//! `stratafs commit`.

use super::progress::Progress;
use super::{CliError, Context, creation_time, live, output, stack, target};
use crate::commit::{CommitError, CommitOptions, Committed, Instruction, NewStep, commit};
use crate::reference::Reference;
use crate::store::Container;
use crate::sys::{Dir, raise_open_files};
use serde::Serialize;
use std::ffi::OsString;

/// Make an image of a container: what was changed in it becomes one more layer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A container, or where one is mounted; while it is mounted nobody may write to it
    container: OsString,
    /// The name of the new image
    #[arg(value_name = "NAME[:TAG]")]
    reference: Option<Reference>,
    /// Who made it
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// What is in it, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// A line of a Dockerfile that says how a container of it is run: CMD, ENTRYPOINT, ENV, EXPOSE,
    /// LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long = "change", value_name = "LINE")]
    changes: Vec<Instruction>,
}

/// What was made, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
    reference: Option<String>,
    parent: Option<String>,
    /// What is new; none if nothing was changed.
    layer: Option<MadeLayer>,
    /// The image that had the name before.
    replaced: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MadeLayer {
    diff_id: String,
    chain_id: String,
    /// Bytes of its files.
    size: u64,
}

/// Runs the command; prints the image's id, as docker commit does.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let reference = args.reference.clone().map(Reference::or_latest);
    if reference.as_ref().is_some_and(|r| r.digest().is_some()) {
        return Err(CliError::usage("a digest cannot be given to an image; use NAME or NAME:TAG"));
    }
    log::debug!("open files: {}", raise_open_files());
    let (store, container) = target::stored_container(&args.container, context)?;
    let title = container.name.clone().unwrap_or_else(|| stack::short(&container.id).to_owned());
    write_back(&container)?;
    let progress = Progress::new(context);
    let options = CommitOptions {
        reference: reference.clone(),
        step: NewStep {
            created: creation_time()?,
            created_by: format!("stratafs commit {title}"),
            author: args.author.clone(),
            message: args.message.clone(),
            changes: args.changes.clone(),
        },
        observer: &progress,
    };
    let made = commit(&store, &container, &options);
    progress.clear();
    let made = made.map_err(|e| failed(&title, &e))?;
    if context.json {
        return output::json(&shown(&made, &container, reference.as_ref()));
    }
    if let (Some(old), Some(name)) = (&made.replaced, &reference) {
        log::warn!("the name {name} now means this image; before it meant {old}");
    }
    output::print(&format!("{}\n", made.id))
}

/// Brings to the upper what the kernel holds back of a live mount's writes.
fn write_back(container: &Container) -> Result<(), CliError> {
    for live in live::list() {
        let record = &live.record;
        if record.container.as_ref() == Some(&container.id) && !record.read_only {
            let at = record.mount_point.display();
            Dir::open(&record.mount_point)
                .and_then(|dir| dir.sync_file_system())
                .map_err(|e| CliError::failed(format!("cannot sync {at}"), &e))?;
        }
    }
    Ok(())
}

fn failed(title: &str, e: &CommitError) -> CliError {
    let error = CliError::failed(format!("commit {title}"), e);
    match e {
        CommitError::Changed => error.hint("stratafs mounts shows where it is mounted"),
        _ if e.is_incomplete() => error.hint("mount it once more, and unmount: that completes it"),
        _ => error,
    }
}

fn shown(made: &Committed, container: &Container, reference: Option<&Reference>) -> Made {
    Made {
        id: made.id.to_string(),
        reference: reference.map(Reference::to_string),
        parent: container.image.map(|i| i.to_string()),
        layer: made.layer.as_ref().map(|l| MadeLayer {
            diff_id: l.diff.to_string(),
            chain_id: l.chain.to_string(),
            size: l.size,
        }),
        replaced: made.replaced.map(|i| i.to_string()),
    }
}
