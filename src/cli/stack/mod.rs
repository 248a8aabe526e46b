//! From what the user names to a view: directories, or an image or container of the store.

mod directories;
mod store;

pub(super) use directories::{check_directories, directories};
pub(super) use store::{Found, Target, create, find, from_store, indexes, no_store, short};

use super::CliError;
use crate::overlay::{Options, Overlay, Stack};
use crate::sys::Dir;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A view that is ready to be mounted, and what else must live as long as it does.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) overlay: Arc<Overlay>,
    pub(super) facts: Facts,
    /// Held so that nobody else mounts the same upper.
    pub(super) locks: Vec<Dir>,
    /// Nobody else changes the layers, whatever kind they are.
    pub(super) exclusive: bool,
}

/// What the record of a live mount says about its layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) source: OsString,
    pub(super) root: Option<PathBuf>,
    pub(super) image: Option<String>,
    pub(super) container: Option<String>,
    pub(super) lowers: Vec<PathBuf>,
    pub(super) upper: Option<PathBuf>,
}

fn view(stack: Stack, options: Options) -> Result<Arc<Overlay>, CliError> {
    Overlay::new(stack, options)
        .map(Arc::new)
        .map_err(|e| CliError::failed("the layers cannot be stacked", &e))
}

/// Makes sure that nobody else writes there.
fn lock(dir: &Dir, path: &Path) -> Result<Dir, CliError> {
    let own = dir.reopen().map_err(|e| CliError::message(format!("{}: {e}", path.display())))?;
    match own.try_lock() {
        Ok(true) => Ok(own),
        Ok(false) => Err(CliError::message(format!(
            "{} is in use by another read-write mount",
            path.display()
        ))
        .hint("stratafs mounts shows which; two writers would destroy each other's work")),
        // some network file systems have no locks: go on without
        Err(e) => {
            log::warn!("{} cannot be locked: {e}", path.display());
            Ok(own)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_has_one_writer() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        let first = lock(&d, tmp.path()).unwrap();
        assert!(lock(&d, tmp.path()).is_err());
        drop(first);
        assert!(lock(&d, tmp.path()).is_ok());
    }
}
