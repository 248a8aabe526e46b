//! `stratafs import`: an image into the store.

use super::progress::Progress;
use super::{CliError, Context, creation_time, output};
use crate::image::{
    Form, Input, Platform, SourceOptions, open_source, printable_path, split_lowerdir,
};
use crate::import::{self, ImportOptions, Imported};
use crate::reference::Reference;
use crate::store::Store;
use crate::sys::{Dir, raise_open_files};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bring an image into the store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A docker-archive, an OCI archive or layout, a root file system as tar or directory, or `-`
    /// for standard input; SRC:REF takes one image of several. What it is shows by itself, or is
    /// said by `docker-archive:`, `oci:`, `oci-archive:` or `rootfs:` in front
    #[arg(value_name = "SRC", required_unless_present = "lowerdir")]
    source: Option<OsString>,

    /// Name the image so instead of by its own names
    #[arg(long, value_name = "NAME[:TAG]")]
    name: Option<Reference>,

    /// Take this one image of several: a name, a tag, a manifest's digest, or @0 for the first
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,

    /// Choose this platform from an image for several, instead of this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Make an image of these overlay-form directories, one layer each, top first
    #[arg(long, value_name = "TOP:..:BOTTOM", conflicts_with_all = ["source", "reference"])]
    lowerdir: Option<OsString>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> Result<(), CliError> {
    let place = match (&args.source, &args.lowerdir) {
        (_, Some(dirs)) => {
            let dirs = split_lowerdir(dirs);
            if dirs.is_empty() {
                return Err(CliError::usage("--lowerdir names no directory"));
            }
            Place {
                what: "--lowerdir".into(),
                form: Form::Auto,
                reference: None,
                input: Input::LowerDirs(dirs),
            }
        }
        (Some(source), None) => locate(source)?,
        (None, None) => return Err(CliError::usage("no source is given")),
    };
    let failed = |e: &dyn std::error::Error| CliError::failed(format!("import {}", place.what), e);

    // every layer in the making holds a few descriptors, and an image may have hundreds
    let limit = raise_open_files();
    log::debug!("open files: {limit}");
    let store = Store::open(&ctx.root, true).map_err(|e| failed(&e))?;
    let spool = Dir::open(store.root()).map_err(|e| failed(&e))?;
    let options = SourceOptions {
        form: place.form,
        platform: args.platform.clone(),
        reference: args.reference.clone().or(place.reference),
        created: creation_time()?,
        ..SourceOptions::new(spool)
    };
    let source = open_source(place.input, &options).map_err(|e| failed(&e))?;
    let count = source.images.len() + source.broken.len();

    let progress = Progress::new(ctx);
    let options = ImportOptions { name: args.name.clone(), ..ImportOptions::new(&progress) };
    let done = import::import(&store, source.images, &options);
    progress.clear();
    let import::Report { imported, failed: late } = done.map_err(|e| failed(&e))?;
    if ctx.json {
        output::json(&imported)?;
    } else {
        output::print(&report(&imported))?;
    }
    let mut errors: Vec<CliError> = source.broken.iter().map(|e| failed(e)).collect();
    errors.extend(late.iter().map(|e| failed(e)));
    match errors.pop() {
        None => Ok(()),
        Some(only) if count == 1 => Err(only),
        Some(last) => {
            errors.push(last);
            errors.iter().for_each(CliError::print);
            let n = errors.len();
            let what = format!("import {}: {n} of {count} images failed", place.what);
            Err(CliError::message(what))
        }
    }
}

/// The lines that `docker load` prints.
fn report(imported: &[Imported]) -> String {
    let mut out = String::new();
    for image in imported {
        for r in &image.replaced {
            out.push_str(&format!(
                "The name {} now means this image; before it meant {}\n",
                r.reference, r.old
            ));
        }
        for reference in &image.references {
            out.push_str(&format!("Loaded image: {reference}\n"));
        }
        if image.references.is_empty() {
            out.push_str(&format!("Loaded image ID: {}\n", image.id));
        }
    }
    out
}

struct Place {
    what: String,
    form: Form,
    reference: Option<String>,
    input: Input,
}

/// Takes the source argument apart.
fn locate(source: &OsStr) -> Result<Place, CliError> {
    const PREFIXES: [(&str, Form); 4] = [
        ("docker-archive:", Form::DockerArchive),
        ("oci-archive:", Form::Oci),
        ("oci:", Form::Oci),
        ("rootfs:", Form::Rootfs),
    ];
    let bytes = source.as_bytes();
    let (form, rest) = PREFIXES
        .iter()
        .filter(|_| !exists(bytes))
        .find_map(|(p, form)| Some((*form, bytes.strip_prefix(p.as_bytes())?)))
        .unwrap_or((Form::Auto, bytes));
    let (path, reference) = split_reference(rest);
    let reference = match reference.map(std::str::from_utf8) {
        Some(Ok(r)) => Some(r.to_owned()),
        Some(Err(_)) => return Err(CliError::usage("the reference behind the path is not UTF-8")),
        None => None,
    };
    if path == b"-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(CliError::usage("standard input is a terminal; redirect an archive to it"));
        }
        let fd = stdin.as_fd().try_clone_to_owned();
        let file = fd.map_err(|e| CliError::failed("standard input", &e))?;
        let what = "standard input".to_owned();
        return Ok(Place { what, form, reference, input: Input::Stream(file.into()) });
    }
    let path = PathBuf::from(OsStr::from_bytes(path));
    Ok(Place { what: printable_path(&path), form, reference, input: Input::Path(path) })
}

fn exists(path: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(path)).symlink_metadata().is_ok()
}

/// Splits `PATH:REF` at the first colon behind something that exists.
fn split_reference(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    if exists(text) {
        return (text, None);
    }
    let colons = text.iter().enumerate().filter(|(_, b)| **b == b':').map(|(i, _)| i);
    for i in colons {
        if &text[..i] == b"-" || exists(&text[..i]) {
            return (&text[..i], Some(&text[i + 1..]));
        }
    }
    (text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_name_one_image_of_several() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("a:b");
        std::fs::write(&file, b"").unwrap();
        let text = file.to_str().unwrap().to_owned();
        let of = |s: String| {
            let p = locate(OsStr::new(&s)).unwrap();
            let Input::Path(path) = p.input else { panic!("not a path") };
            (p.form, path, p.reference)
        };
        assert_eq!(of(text.clone()), (Form::Auto, file.clone(), None));
        let one = Some("n:t".to_owned());
        assert_eq!(of(format!("{text}:n:t")), (Form::Auto, file.clone(), one.clone()));
        assert_eq!(of(format!("oci:{text}:n:t")), (Form::Oci, file.clone(), one));
        let tagged = of(format!("docker-archive:{text}:@0"));
        assert_eq!(tagged, (Form::DockerArchive, file, Some("@0".to_owned())));
        assert_eq!(of("none:x".to_owned()), (Form::Auto, "none:x".into(), None));
    }
}
