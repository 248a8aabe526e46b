//! `stratafs images`.

use super::output::{self, Table};
use super::{CliError, Context, human, stack, target};
use crate::id::{ChainId, ImageId};
use crate::name::printable;
use crate::store::{Repositories, Store, StoreError};
use crate::sys::Time;
use serde::Serialize;

/// List images.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
}

/// One image. The names of the JSON fields are those of Docker's API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    /// Its id, with prefix.
    id: String,
    /// Its names with tags, sorted.
    repo_tags: Vec<String>,
    /// Its names with digests, sorted.
    repo_digests: Vec<String>,
    /// When it was made, in seconds since 1970; 0 if its config does not say.
    created: i64,
    /// Bytes of the files of all its layers.
    size: u64,
    /// How many layers it has.
    layers: usize,
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
    output::print(&table(&lines, args.no_trunc, Time::now()))
}

fn lines(store: &Store) -> Result<Vec<Line>, CliError> {
    let failed = |e: StoreError| stack::no_store(&e);
    let names = store.repositories().map_err(failed)?;
    let mut out = Vec::new();
    for id in store.image_ids().map_err(failed)? {
        // one damaged image must not hide the others
        match line(store, &names, &id) {
            Ok(line) => out.push(line),
            Err(e) => log::warn!("image {id} is left out: {e}"),
        }
    }
    out.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
    Ok(out)
}

fn line(store: &Store, names: &Repositories, id: &ImageId) -> Result<Line, CliError> {
    let config = target::config(store, id)?;
    let size = match ChainId::of_stack(&config.diff_ids).pop() {
        Some(top) => {
            let chain = store.chain(&top).map_err(|e| stack::no_store(&e))?;
            chain.iter().fold(0, |n, l| l.size.saturating_add(n))
        }
        None => 0,
    };
    let all = names.of_image(id).map(|n| printable(n.as_bytes()));
    let (repo_digests, repo_tags) = all.partition(|n| n.contains('@'));
    let created = config.created.as_deref().and_then(human::time);
    Ok(Line {
        id: id.to_string(),
        repo_tags,
        repo_digests,
        created: created.map_or(0, |t| t.sec),
        size,
        layers: config.diff_ids.len(),
    })
}

fn table(lines: &[Line], whole: bool, now: Time) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for l in lines {
        let digits = l.id.trim_start_matches("sha256:");
        let id = if whole { l.id.as_str() } else { stack::short(digits) };
        let created = match l.created {
            0 => "N/A".to_owned(),
            sec => human::age(Time { sec, nsec: 0 }, now),
        };
        let mut row = |name: &str, tag: &str| {
            table.row([name, tag, id, &created, &human::size(l.size)]);
        };
        for name in &l.repo_tags {
            let (name, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            row(name, tag);
        }
        if l.repo_tags.is_empty() {
            let name = l.repo_digests.first().and_then(|n| n.split('@').next());
            row(name.unwrap_or("<none>"), "<none>");
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let line = |tags: &[&str]| Line {
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: Vec::new(),
            created: 1000,
            size: 7_049_000,
            layers: 1,
        };
        let lines = [line(&["host:5000/a/b:1", "a:latest"]), line(&[])];
        let text = table(&lines, false, Time { sec: 1010, nsec: 0 });
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        assert_eq!(rows[1], ["host:5000/a/b", "1", "0123456789ab", "10 seconds ago", "7.05MB"]);
        assert_eq!(rows[2][..2], ["a", "latest"]);
        assert_eq!(rows[3][..2], ["<none>", "<none>"]);
        let json = serde_json::to_value(&lines[0]).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["Id", "RepoTags", "RepoDigests", "Created", "Size", "Layers"]);
    }
}
