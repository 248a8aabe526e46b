//! Where the layer store lies when nobody says.

use super::CliError;
use crate::sys::{Dir, Errno, Identity};
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Returns `given`, else `$STRATAFS_ROOT`, else the place for this user.
pub(super) fn choose(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let root = default_root(given, &var, Identity::current().privileged).ok_or_else(|| {
        CliError::usage("there is no place for the layer store: HOME is not set")
            .hint("name one with --root or STRATAFS_ROOT")
    })?;
    // a daemon leaves the working directory
    std::path::absolute(&root).map_err(|e| CliError::failed(root.display(), &e))
}

/// Opens this user's directory for what can be made again: `$STRATAFS_CACHE`, or the place for this
/// user; makes it when missing.
pub(super) fn cache_dir() -> Result<Dir, CliError> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(told) = var("STRATAFS_CACHE").map(PathBuf::from) {
        if !told.is_absolute() {
            return Err(CliError::message(format!(
                "STRATAFS_CACHE={}: not an absolute path",
                told.display()
            )));
        }
        return open_cache(&told, closed);
    }
    let home = var("HOME").map(PathBuf::from);
    let base = if Identity::current().privileged {
        Some(PathBuf::from("/var/cache"))
    } else if cfg!(target_os = "macos") {
        home.map(|h| h.join("Library/Caches"))
    } else {
        var("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| home.map(|h| h.join(".cache")))
    };
    let base = base.ok_or_else(|| {
        CliError::message("there is no place for a cache: HOME is not set")
            .hint("name one with STRATAFS_CACHE")
    })?;
    open_cache(&base.join("stratafs"), own)
}

/// Opens a directory in [`cache_dir`]; makes it when missing.
pub(super) fn cache_part(name: &str) -> Result<Dir, CliError> {
    let cache = cache_dir()?;
    cache
        .mkdir_if_missing(name.as_bytes(), 0o700)
        .and_then(|()| cache.open_dir(name.as_bytes()))
        .and_then(closed)
        .map_err(|e| CliError::failed(format!("{name} in the cache directory"), &e))
}

/// Opens the directory at `path` if `check` lets it pass; makes it when missing.
fn open_cache(path: &Path, check: fn(Dir) -> Result<Dir, Errno>) -> Result<Dir, CliError> {
    let said = |e: Errno| CliError::message(format!("{}: {e}", path.display()));
    // a daemon has no umask
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Errno::from)
        .and_then(|()| Dir::open(path))
        .and_then(check)
        .map_err(|e| match e {
            Errno::PERM => said(e)
                .hint("it must belong to the user who mounts, and nobody else may write there"),
            e => said(e),
        })
}

/// Makes sure that nobody else can write in a cache: what is there decides what mounts show.
///
/// # Errors
/// `EPERM` if others can, or if it is another user's.
fn closed(dir: Dir) -> Result<Dir, Errno> {
    let found = dir.stat_self()?;
    let closed = found.uid == Identity::current().uid && found.permissions() & 0o022 == 0;
    if closed { Ok(dir) } else { Err(Errno::PERM) }
}

/// As [`closed`], of the place that is this program's alone. One that was open to others (versions
/// before 2026-11-22 made it so) is closed and emptied.
///
/// # Errors
/// `EPERM` if it is another user's.
fn own(dir: Dir) -> Result<Dir, Errno> {
    let found = dir.stat_self()?;
    if found.uid == Identity::current().uid && found.permissions() & 0o022 != 0 {
        dir.as_node()?.chmod(0o700)?;
        dir.list()?.iter().try_for_each(|e| dir.remove_tree(&e.name))?;
    }
    closed(dir)
}

fn default_root(
    given: Option<PathBuf>,
    var: &dyn Fn(&str) -> Option<OsString>,
    privileged: bool,
) -> Option<PathBuf> {
    if let Some(root) = given.or_else(|| var("STRATAFS_ROOT").map(PathBuf::from)) {
        return Some(root);
    }
    if privileged {
        return Some(PathBuf::from("/var/lib/stratafs"));
    }
    let home = var("HOME").map(PathBuf::from);
    let data = if cfg!(target_os = "macos") {
        home.map(|h| h.join("Library/Application Support"))
    } else {
        // the XDG base directory specification: relative paths are to be ignored
        var("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| home.map(|h| h.join(".local/share")))
    };
    data.map(|d| d.join("stratafs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_was_open_to_others_is_closed_and_emptied() {
        use std::os::unix::fs::PermissionsExt as _;
        let tmp = tempfile::tempdir().unwrap();
        let mode = |mode| {
            std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let write = || std::fs::write(tmp.path().join("an.index"), b"planted").unwrap();
        write();
        mode(0o755);
        assert!(!own(Dir::open(tmp.path()).unwrap()).unwrap().is_empty().unwrap());
        mode(0o777);
        let dir = own(Dir::open(tmp.path()).unwrap()).unwrap();
        assert!(dir.is_empty().unwrap());
        assert_eq!(dir.stat_self().unwrap().permissions(), 0o700);
    }

    #[test]
    fn a_place_that_was_named_is_never_emptied() {
        use std::os::unix::fs::PermissionsExt as _;
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("mine"), b"precious").unwrap();
        for (mode, passes) in [(0o755, true), (0o775, false), (0o777, false), (0o700, true)] {
            std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_cache(tmp.path(), closed).is_ok(), passes, "{mode:o}");
            assert_eq!(tmp.path().metadata().unwrap().permissions().mode() & 0o777, mode);
            assert!(tmp.path().join("mine").exists());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_nearest_wish_wins() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        let root = |given: Option<&str>, var: &dyn Fn(&str) -> Option<OsString>, p| {
            default_root(given.map(PathBuf::from), var, p).map(|p| p.display().to_string())
        };
        assert_eq!(root(None, &env, false).unwrap(), "/home/u/.local/share/stratafs");
        assert_eq!(root(None, &env, true).unwrap(), "/var/lib/stratafs");
        let set = |name: &str| (name == "STRATAFS_ROOT").then(|| "/s".into());
        assert_eq!(root(None, &set, true).unwrap(), "/s");
        assert_eq!(root(Some("/r"), &set, true).unwrap(), "/r");
        assert_eq!(root(None, &|_| None, false), None);
    }
}
