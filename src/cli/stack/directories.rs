//! A stack of directories, named by `-o lowerdir=` and the like.

use super::apart::Apart;
use super::{Built, Facts, Known, common, lock, resolved, view};
use crate::cli::CliError;
use crate::cli::mount_options::MountOptions;
use crate::marker::Dialect;
use crate::overlay::{Lower, LowerChanges, Options, Stack, Upper, WhiteoutNames};
use crate::snapshot::Slot;
use crate::sys::{Dir, Errno, Identity};
use std::path::{Path, PathBuf};

/// Checks what can be checked before a daemon is started.
pub(in crate::cli) fn check_directories(o: &MountOptions) -> Result<(), CliError> {
    if o.lowers.is_empty() {
        return Err(CliError::usage("lowerdir= is missing")
            .hint("-o lowerdir=TOP:..:BOTTOM[,upperdir=UPPER,workdir=WORK]"));
    }
    match (&o.upper, &o.work, o.read_only) {
        (Some(_), None, None | Some(false)) => Err(CliError::usage("workdir= is missing")
            .hint("an empty directory on the file system of the upper")),
        (None, None, Some(false)) | (None, None, None) | (_, _, Some(true)) => Ok(()),
        (None, Some(_), _) => Err(CliError::usage("workdir= without upperdir=")),
        (Some(_), Some(_), _) => Ok(()),
    }
}

/// Stacks directories.
pub(in crate::cli) fn directories(o: &MountOptions) -> Result<Built, CliError> {
    check_directories(o)?;
    let me = Identity::current();
    let open = |what: &str, path: &Path| {
        Dir::open(path).map_err(|e| {
            let error = CliError::message(format!("{what} {}: {e}", path.display()));
            if e == Errno::NOENT { error.hint(format!("mkdir {}", path.display())) } else { error }
        })
    };
    let mut stack = Stack { lowers: Vec::new(), data_only: Vec::new(), upper: None };
    let (mut locks, mut locked) = (Vec::new(), Vec::new());
    let mut apart = Apart::default();
    let mut layers: Vec<(PathBuf, Dir)> = Vec::new();
    let real: Vec<PathBuf> = o.lowers.iter().chain(&o.data_only).map(|p| resolved(p)).collect();
    if let Some(upper) = &o.upper {
        let dir = open("upper directory", upper)?;
        match &o.work {
            Some(work) if o.read_only != Some(true) => {
                let work_dir = open("work directory", work)?;
                let (u, w) = (resolved(upper), resolved(work));
                check_pair((upper, &dir, &u), (work, &work_dir, &w))?;
                check_lowers(o, &real, &[(upper, &u), (work, &w)])?;
                let (dir, work_dir) = apart.pair((&u, dir), (&w, work_dir), o.atime == Some(false));
                locks = vec![lock(&dir, upper)?, lock(&work_dir, work)?];
                locked = vec![u, w];
                stack.upper = Some(Upper { dir, work: work_dir });
            }
            // nothing is written: one more layer to read
            _ => layers.push((resolved(upper), dir)),
        }
    }
    let above = layers.len();
    for (path, real) in o.lowers.iter().zip(&real) {
        layers.push((real.clone(), open("lower directory", path)?));
    }
    for (path, real) in o.data_only.iter().zip(&real[o.lowers.len()..]) {
        layers.push((real.clone(), open("data-only directory", path)?));
    }
    let mut known = o.index_cache.map(|trust| Known { layers: Vec::new(), trust });
    let mut lowers = apart.layers(layers).into_iter().map(|dir| match &mut known {
        Some(known) => known.add(dir),
        None => Lower::Plain(dir),
    });
    stack.lowers = lowers.by_ref().take(above + o.lowers.len()).collect();
    stack.data_only = lowers.collect();
    let blind = known.is_some() || o.writeback && stack.upper.is_some();
    let dialect = o.userxattr.then_some(Dialect::User);
    let options = Options {
        dialect,
        // in a user namespace the kernel keeps owners that can be set; without one they cannot
        owner_view: o.records.is_some()
            || !me.privileged && !crate::sys::effective_capability_sys_admin(),
        layers_apart: apart.all(),
        // what other tools read: whole files, unless asked for
        metacopy: o.metacopy.unwrap_or(false),
        redirect_dir: o.redirect_dir.unwrap_or_else(|| {
            // the kernel follows redirects by default only where it trusts who wrote them
            me.privileged && !o.userxattr && !o.upper.as_deref().is_some_and(belongs_to_a_store)
        }),
        rename_by_copy: o.rename_by_copy,
        whiteout_names: match o.whiteout_names {
            WhiteoutNames::Ordinary if of_a_store(&real, o) => WhiteoutNames::Read,
            told => told,
        },
        lower_changes: o.lower_changes.unwrap_or(match blind {
            true => LowerChanges::Ignore,
            false => LowerChanges::Watch,
        }),
        max_watches: o.max_watches,
        ..common(o)
    };
    let here = std::env::current_dir().unwrap_or_default();
    let absolute = |p: &PathBuf| std::path::absolute(here.join(p)).unwrap_or_else(|_| p.clone());
    let facts = Facts {
        source: o.fs_name.clone().unwrap_or_else(|| "stratafs".into()),
        lowers: o.lowers.iter().map(absolute).collect(),
        upper: o.upper.as_ref().map(absolute),
        locked,
        ..Facts::default()
    };
    Ok(Built { overlay: view(stack, options)?, facts, locks, exclusive: false, known })
}

impl Known {
    fn add(&mut self, dir: Dir) -> Lower {
        let snapshot = Slot::default();
        self.layers.push((dir.clone(), snapshot.clone()));
        Lower::Known { dir, snapshot }
    }
}

/// Returns whether any layer is one of containers/storage, which leaves whiteouts in the form of
/// layer archives for its mount program to understand.
fn of_a_store(lowers: &[PathBuf], o: &MountOptions) -> bool {
    lowers.iter().take(o.lowers.len()).any(|p| belongs_to_a_store(p))
        || o.upper.as_ref().is_some_and(|p| belongs_to_a_store(&resolved(p)))
}

/// Returns whether the upper is a layer of containers/storage or Docker (`ID/diff` with `ID/link`
/// beside it): those tools archive the directory itself and know nothing of redirects, so that a
/// renamed directory would be empty in their image.
fn belongs_to_a_store(upper: &Path) -> bool {
    upper.file_name() == Some("diff".as_ref()) && upper.with_file_name("link").is_file()
}

/// A directory that is written: as the user named it, its handle, and where it really is.
type Written<'a> = (&'a Path, &'a Dir, &'a Path);

/// Upper and work must be two directories of one file system, neither inside the other.
fn check_pair(upper: Written<'_>, work: Written<'_>) -> Result<(), CliError> {
    let stat = |(path, dir, _): Written<'_>| {
        dir.stat_self().map_err(|e| CliError::message(format!("{}: {e}", path.display())))
    };
    let (us, ws) = (stat(upper)?, stat(work)?);
    if us.dev != ws.dev {
        return Err(CliError::message(format!(
            "the work directory {} is not on the file system of the upper directory {}",
            work.0.display(),
            upper.0.display()
        )));
    }
    if upper.2.starts_with(work.2) || work.2.starts_with(upper.2) {
        return Err(CliError::message(format!(
            "the upper directory {} and the work directory {} must not contain each other",
            upper.0.display(),
            work.0.display()
        )));
    }
    Ok(())
}

/// No lower may be, or lie in, what is written. The kernel's overlayfs refuses it too (`ELOOP`).
/// `lowers` says where those of the options really are, and `written` what is written: as named,
/// and where it really is.
fn check_lowers(
    o: &MountOptions,
    lowers: &[PathBuf],
    written: &[(&Path, &Path)],
) -> Result<(), CliError> {
    for (dir, place) in written {
        let named = o.lowers.iter().chain(&o.data_only);
        if let Some((lower, _)) = named.zip(lowers).find(|(_, real)| real.starts_with(place)) {
            return Err(CliError::message(format!(
                "the lower directory {} lies in {}, which this mount would write to",
                lower.display(),
                dir.display()
            ))
            .hint("a lower is never written: choose an upperdir and workdir apart from it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), CliError> {
        check_directories(&MountOptions::parse(&[text]).unwrap())
    }

    #[test]
    fn incomplete_stacks_are_refused_before_anything_happens() {
        assert!(check("lowerdir=/a").is_ok());
        assert!(check("lowerdir=/a,upperdir=/u,workdir=/w").is_ok());
        assert!(check("lowerdir=/a,upperdir=/u,ro").is_ok());
        for bad in ["upperdir=/u,workdir=/w", "lowerdir=/a,upperdir=/u", "lowerdir=/a,workdir=/w"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
