//! Where the demo plays: a store and mount points of its own, and a shell for its commands.

use crate::cli::{CliError, output};
use crate::fuse;
use crate::sys::{self, Capabilities, Dir};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One step of the demo. The names of the fields are those of the JSON output and stay.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// What is shown, in words.
    pub(super) explanation: String,
    /// The command, as for a shell.
    pub(super) command: String,
    /// What it printed.
    pub(super) output: String,
}

/// The demo's surroundings. Dropping it unmounts and removes everything.
#[derive(Debug)]
pub(super) struct Stage {
    store: Option<tempfile::TempDir>,
    /// Where the shell runs: mount points are named from here.
    base: PathBuf,
    /// Removed at the end, if the demo made it.
    made: Vec<PathBuf>,
    points: Vec<PathBuf>,
    program: PathBuf,
    variables: Vec<(String, PathBuf)>,
    json: bool,
    steps: Vec<Step>,
}

impl Stage {
    pub(super) fn set(json: bool) -> Result<Stage, CliError> {
        let io = |what: &'static str| move |e: std::io::Error| CliError::failed(what, &e);
        let program = std::env::current_exe().map_err(io("finding this program"))?;
        let store = store_place().map_err(io("making a temporary store"))?;
        let base = project().unwrap_or_else(|| store.path().to_owned());
        let mut stage = Stage {
            base,
            made: Vec::new(),
            points: Vec::new(),
            program,
            variables: vec![("STRATAFS_ROOT".to_owned(), store.path().join("store"))],
            store: Some(store),
            json,
            steps: Vec::new(),
        };
        for name in ["mountpoints/demo", "mountpoints/demo2"] {
            let path = stage.base.join(name);
            if sys::mount_at(&path).is_some() {
                return Err(CliError::message(format!("something is mounted on {name} already"))
                    .hint(format!("stratafs umount {}", path.display())));
            }
            if !path.is_dir() {
                std::fs::create_dir_all(&path).map_err(io("making a mount point"))?;
                stage.made.push(path.clone());
            }
            stage.points.push(path);
        }
        Ok(stage)
    }

    /// Root of the store.
    pub(super) fn root(&self) -> PathBuf {
        self.store.as_ref().map(|s| s.path().join("store")).unwrap_or_default()
    }

    /// Where the temporary files are, the store among them.
    pub(super) fn scratch(&self) -> PathBuf {
        self.store.as_ref().map(|s| s.path().to_owned()).unwrap_or_default()
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Makes a variable known to the commands that follow.
    pub(super) fn variable(&mut self, name: &str, value: PathBuf) -> Result<(), CliError> {
        if !self.json {
            output::print(&format!("$ {name}={}\n", value.display()))?;
        }
        self.variables.push((name.to_owned(), value));
        Ok(())
    }

    /// Says something.
    pub(super) fn say(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { output::print(&format!("\n{text}\n")) }
    }

    /// Says what is shown and runs the command that shows it.
    pub(super) fn show(&mut self, explanation: &str, command: &str) -> Result<(), CliError> {
        self.say(explanation)?;
        self.run(explanation, command)
    }

    /// Runs a command that needs no words.
    pub(super) fn also(&mut self, command: &str) -> Result<(), CliError> {
        self.run("", command)
    }

    fn run(&mut self, explanation: &str, command: &str) -> Result<(), CliError> {
        if !self.json {
            output::print(&format!("$ {command}\n"))?;
        }
        let script = format!("stratafs() {{ \"$STRATAFS_PROGRAM\" \"$@\"; }}\n{command}\n");
        let done = Command::new("sh")
            .arg("-ec")
            .arg(script)
            .current_dir(&self.base)
            .env("STRATAFS_PROGRAM", &self.program)
            // sorting and dates of ls as everywhere
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .envs(self.variables.iter().map(|(n, v)| (n, v)))
            .output()
            .map_err(|e| CliError::failed("running sh", &e))?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if !self.json {
            output::print(&text)?;
        }
        if !done.status.success() {
            return Err(failed(command, &String::from_utf8_lossy(&done.stderr)));
        }
        self.steps.push(Step {
            explanation: explanation.to_owned(),
            command: command.to_owned(),
            output: text,
        });
        Ok(())
    }

    /// Prints what was collected for JSON.
    pub(super) fn end(&self) -> Result<(), CliError> {
        if self.json { output::json(&self.steps) } else { Ok(()) }
    }

    /// Leaves everything as it is.
    pub(super) fn keep(mut self) {
        self.points.clear();
        self.made.clear();
        if let Some(store) = self.store.take() {
            log::debug!("kept: {}", store.keep().display());
        }
    }
}

/// A failed command, with its own words and hints.
fn failed(command: &str, stderr: &str) -> CliError {
    let mut lines = stderr.trim().lines();
    let first = lines.next().unwrap_or("it failed");
    let first = first.strip_prefix("stratafs: ").unwrap_or(first);
    let error = CliError::message(format!("the demo ended at `{command}`: {first}"));
    lines.fold(error, |e, l| e.hint(l.strip_prefix("hint: ").unwrap_or(l)))
}

impl Drop for Stage {
    fn drop(&mut self) {
        for point in self.points.iter().rev().filter(|p| sys::mount_at(p).is_some()) {
            if let Err(e) = fuse::unmount(point, false).or_else(|_| fuse::unmount(point, true)) {
                log::warn!("{} stays mounted: {e}", point.display());
            }
        }
        for dir in self.made.iter().rev() {
            std::fs::remove_dir(dir).unwrap_or_else(|e| log::warn!("{} stays: {e}", dir.display()));
        }
        if let Some(store) = self.store.take() {
            let path = store.path().to_owned();
            store.close().unwrap_or_else(|e| log::warn!("{} stays: {e}", path.display()));
        }
    }
}

/// The project's directory, if this is run from a checkout.
fn project() -> Option<PathBuf> {
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = std::env::current_dir().ok();
    by_cargo.into_iter().chain(here).find(|d| {
        let points = d.join("mountpoints");
        // a directory of somebody else may have this name too
        points.join("README.md").is_file() && writable(&points)
    })
}

fn writable(dir: &Path) -> bool {
    // FUSE lets an ordinary user mount only where he may write
    ["demo", "demo2"].iter().map(|n| dir.join(n)).all(|p| {
        let at = if p.is_dir() { &p } else { dir };
        tempfile::Builder::new().prefix(".demo-").tempfile_in(at).is_ok()
    })
}

/// A directory whose file system can hold a store: some hold no extended attributes of users.
fn store_place() -> std::io::Result<tempfile::TempDir> {
    let good = |d: &tempfile::TempDir| {
        let found = Dir::open(d.path()).and_then(|d| Capabilities::probe(&d));
        found.is_ok_and(|c| c.check_upper().is_ok())
    };
    let make = |at: PathBuf| tempfile::Builder::new().prefix("stratafs-demo-").tempdir_in(at);
    let first = make(std::env::temp_dir())?;
    if good(&first) {
        return Ok(first);
    }
    match make(PathBuf::from("/var/tmp")) {
        Ok(second) if good(&second) => Ok(second),
        _ => Ok(first),
    }
}
