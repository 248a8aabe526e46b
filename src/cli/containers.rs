//! `stratafs containers`.

use super::output::{self, Table};
use super::{CliError, Context, human, live, stack};
use crate::name::printable;
use crate::store::Store;
use crate::sys::Time;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

/// List containers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
}

/// One container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    /// Its id.
    id: String,
    /// Its name, if it has one.
    name: Option<String>,
    /// A name of its image, or the image's id, if it is known.
    image: Option<String>,
    /// Its image's id, with prefix.
    image_id: Option<String>,
    /// When it was made, in seconds since 1970.
    created: i64,
    /// Where it is mounted by this user.
    mounts: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let lines = stack::listed(context, lines)?;
    if context.json {
        return output::json(&lines);
    }
    let now = Time::now();
    let mut table = Table::new(&["CONTAINER ID", "IMAGE", "CREATED", "MOUNTED ON", "NAME"]);
    for l in &lines {
        let id = if args.no_trunc { l.id.as_str() } else { stack::short(&l.id) };
        let age = human::age(Time { sec: l.created, nsec: 0 }, now);
        let mounts = if l.mounts.is_empty() { "-".to_owned() } else { l.mounts.join(" ") };
        let image = l.image.as_deref().unwrap_or("<unknown>");
        table.row([id, image, &age, &mounts, l.name.as_deref().unwrap_or("-")]);
    }
    output::print(&table.render())
}

fn lines(store: &Store) -> Result<Vec<Line>, CliError> {
    let names = store.repositories().map_err(|e| stack::no_store(&e))?;
    let mounts = live::list();
    let mut all = store.containers().map_err(|e| stack::no_store(&e))?;
    all.sort_by_key(|c| std::cmp::Reverse((c.created.sec, c.created.nsec)));
    let line = |c: crate::store::Container| {
        let image = c.image.map(|id| {
            let name = names.of_image(&id).next().map(|n| printable(n.as_bytes()));
            name.unwrap_or_else(|| stack::short(&id.hex()).to_owned())
        });
        let here = mounts.iter().filter(|l| l.record.container.as_deref() == Some(&c.id));
        Line {
            image,
            image_id: c.image.map(|i| i.to_string()),
            created: c.created.sec,
            mounts: here.map(|l| printable(l.record.mount_point.as_os_str().as_bytes())).collect(),
            id: printable(c.id.as_bytes()),
            name: c.name,
        }
    };
    Ok(all.into_iter().map(line).collect())
}
