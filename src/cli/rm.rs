//! `stratafs rm`.

use super::{CliError, Context, output, stack};
use crate::store::Store;

/// Remove containers with everything that was changed in them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command; prints what was removed, as it was named.
///
/// # Errors
/// What failed, with what may help. Containers named before are gone then.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let store = Store::open(&context.root, false).map_err(|e| stack::no_store(&e))?;
    let lock = store.import_lock().map_err(|e| stack::no_store(&e))?;
    let mut removed = Vec::new();
    for name in &args.containers {
        let c = store.find_container(name).map_err(|e| stack::no_store(&e))?;
        store.remove_container(&lock, &c).map_err(|e| stack::no_store(&e))?;
        removed.push(c.id);
        if !context.json {
            output::print(&format!("{name}\n"))?;
        }
    }
    if context.json { output::json(&removed) } else { Ok(()) }
}
