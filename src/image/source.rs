//! Opens a source of images, whatever form it has.

use super::archive::Archive;
use super::blob::{Content, FileRange, LayerBlob};
use super::compress::{self, Compression};
use super::config::NewConfig;
use super::error::source_name;
use super::lower::Stack;
use super::oci::{self, Layout, Wanted};
use super::tree::TreeLayer;
use super::{ImageError, Platform, SourceConfig, SourceImage, docker, printable_path};
use crate::name::printable;
use crate::reference::Reference;
use crate::sys::{Dir, Errno, File, Time};
use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where images are to be read from.
#[derive(Debug)]
pub enum Input {
    /// A file or a directory.
    Path(PathBuf),
    /// An open file or pipe, such as standard input.
    Stream(std::fs::File),
    /// Directories in overlay form, top first: one image, one layer each.
    LowerDirs(Vec<PathBuf>),
}

/// The form of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Found out from the content.
    #[default]
    Auto,
    /// `docker save`.
    DockerArchive,
    /// An OCI layout, as a directory or in a tar.
    Oci,
    /// A root file system, as a directory or in a tar.
    Rootfs,
}

/// How a source is read.
#[derive(Debug)]
pub struct SourceOptions {
    /// The form of the source.
    pub form: Form,
    /// The platform to choose; this machine's if `None`.
    pub platform: Option<Platform>,
    /// The one image to take of several: its name, its tag, `@` and its number counted from 0, or
    /// its manifest's digest.
    pub reference: Option<String>,
    /// Where archives that cannot be read in place are kept meanwhile, in files without a name: the
    /// store's directory. It is left out of trees that hold it.
    pub spool: Dir,
    /// The most bytes to keep there.
    pub spool_limit: u64,
    /// The time that configs get which are made here.
    pub created: Time,
}

impl SourceOptions {
    /// Returns the usual options; temporary files are made in `spool`.
    #[must_use]
    pub fn new(spool: Dir) -> SourceOptions {
        SourceOptions {
            form: Form::Auto,
            platform: None,
            reference: None,
            spool,
            spool_limit: 1 << 40,
            created: Time::now(),
        }
    }
}

/// One image of a source, or why it cannot be read.
pub(super) type Found = Result<SourceImage, ImageError>;

/// The images of a source.
#[derive(Debug)]
pub struct Source {
    /// Those that can be read as far as their documents say.
    pub images: Vec<SourceImage>,
    /// Why others cannot be read.
    pub broken: Vec<ImageError>,
}

/// Opens `input` and returns the images in it. Nothing but documents is read yet, unless the
/// archive comes through a pipe or is compressed as a whole.
///
/// # Errors
/// The source cannot be read or is of no known form, or it has no image but one, in which what it
/// says is not consistent. Where there are several, such a one is in [`Source::broken`].
pub fn open_source(input: Input, options: &SourceOptions) -> Result<Source, ImageError> {
    let found = match input {
        Input::LowerDirs(dirs) => vec![Ok(lower_dirs(&dirs, options)?)],
        Input::Stream(file) => open_file(File::from_std(file), None, options)?,
        Input::Path(path) => match Dir::open(&path) {
            Ok(dir) => open_dir(dir, &path, options)?,
            Err(Errno::NOTDIR) => {
                let file = std::fs::File::open(&path)
                    .map_err(|e| ImageError::path("open", &path)(e.into()))?;
                open_file(File::from_std(file), Some(path), options)?
            }
            Err(e) => return Err(ImageError::path("open", &path)(e)),
        },
    };
    let mut found = match &options.reference {
        Some(wanted) => vec![Ok(pick(found, wanted)?)],
        None => found,
    };
    if found.len() == 1
        && let Some(one) = found.pop()
    {
        return Ok(Source { images: vec![one?], broken: Vec::new() });
    }
    let mut source = Source { images: Vec::with_capacity(found.len()), broken: Vec::new() };
    for one in found {
        match one {
            Ok(image) => source.images.push(image),
            Err(e) => source.broken.push(e),
        }
    }
    Ok(source)
}

fn open_dir(dir: Dir, path: &Path, options: &SourceOptions) -> Result<Vec<Found>, ImageError> {
    let layout = oci::looks_like(|name| dir.stat(name).is_ok());
    match options.form {
        Form::DockerArchive => {
            Err(ImageError::NotAnImage(printable_path(path), "a docker-archive is a file"))
        }
        Form::Oci => open_layout(&Layout::Dir(&dir), Some(path), options),
        Form::Auto if layout => open_layout(&Layout::Dir(&dir), Some(path), options),
        Form::Auto | Form::Rootfs => {
            let stack = Stack { roots: vec![dir], overlay: false };
            let skip = store_of(options)?;
            let content = Content::Tree(Arc::new(TreeLayer { stack, skip }));
            Ok(vec![Ok(made(vec![(printable_path(path), content)], options))])
        }
    }
}

fn open_file(
    file: File,
    path: Option<PathBuf>,
    options: &SourceOptions,
) -> Result<Vec<Found>, ImageError> {
    let what = source_name(&path);
    let range = in_place(file, &what, options)?;
    let archive = Archive::index(range, &what)?;
    let is_layout = oci::looks_like(|name| archive.has(name));
    let is_docker = archive.has(b"manifest.json");
    let layout = || open_layout(&Layout::Archive(&archive), path.as_deref(), options);
    match options.form {
        Form::DockerArchive => docker::open(&archive),
        Form::Oci => layout(),
        Form::Auto if is_layout => {
            archive.check_count()?;
            let mut images = layout()?;
            if is_docker {
                add_docker_names(&mut images, &archive)?;
            }
            Ok(images)
        }
        Form::Auto if is_docker => docker::open(&archive),
        Form::Auto | Form::Rootfs => {
            Ok(vec![Ok(made(vec![(what, Content::Range(archive.whole()))], options))])
        }
    }
}

/// Returns the archive as a piece of a plain file: the given one, or what it unpacks to.
fn in_place(file: File, what: &str, options: &SourceOptions) -> Result<FileRange, ImageError> {
    use std::io::Seek as _;
    let mut std_file = file.into_std();
    // somebody may have read a part of standard input before
    let offset = std_file.stream_position().ok();
    let file = File::from_std(std_file);
    let read = || ImageError::io(format!("read {what}"));
    if let (Some(offset), true) = (offset, file.is_regular().map_err(read())?) {
        let mut head = [0; 6];
        let n = file.read_at(&mut head, offset).map_err(read())?;
        if n == 0 {
            return Err(ImageError::NotAnImage(what.to_owned(), "it is empty"));
        }
        if Compression::of(&head[..n]) == Compression::None {
            let len = file.stat().map_err(read())?.size.saturating_sub(offset);
            return Ok(FileRange { file: Arc::new(file), offset, len });
        }
    }
    let range = compress::spool(file.into_std(), &options.spool, options.spool_limit, what)?;
    if range.len == 0 {
        return Err(ImageError::NotAnImage(what.to_owned(), "it is empty"));
    }
    Ok(range)
}

fn open_layout(
    layout: &Layout<'_>,
    path: Option<&Path>,
    options: &SourceOptions,
) -> Result<Vec<Found>, ImageError> {
    let host = Platform::host();
    let stem = path.and_then(stem);
    let wanted = Wanted {
        platform: options.platform.as_ref().unwrap_or(&host),
        strict: options.platform.is_some(),
        stem: stem.as_deref(),
        documents: Cell::new(0),
    };
    oci::open(layout, &wanted)
}

/// Adds the names that an archive's `manifest.json` has and its `index.json` has not.
fn add_docker_names(images: &mut [Found], archive: &Archive) -> Result<(), ImageError> {
    for (config, names) in docker::names(archive)? {
        let same = |i: &&mut SourceImage| match &i.config {
            SourceConfig::Received { bytes, .. } => config.matches(bytes),
            SourceConfig::New(_) => false,
        };
        if let Some(image) = images.iter_mut().flatten().find(same) {
            // they are whole names, and what the index has may be a mere tag
            if !names.is_empty() {
                image.references.retain(|r| names.contains(r) || r.domain() != "docker.io");
            }
            for name in names {
                if !image.references.contains(&name) {
                    image.references.push(name);
                }
            }
        }
    }
    Ok(())
}

/// Returns device and inode of the directory that is written to while a tree is read.
fn store_of(options: &SourceOptions) -> Result<Option<(u64, u64)>, ImageError> {
    let stat = options.spool.stat_self().map_err(ImageError::io("stat the store"))?;
    Ok(Some((stat.dev, stat.ino)))
}

fn lower_dirs(dirs: &[PathBuf], options: &SourceOptions) -> Result<SourceImage, ImageError> {
    if dirs.len() > super::LAYERS_MAX {
        return Err(ImageError::TooMany { what: "layers", limit: super::LAYERS_MAX });
    }
    let mut roots = Vec::with_capacity(dirs.len());
    for path in dirs {
        roots.push(Dir::open(path).map_err(ImageError::path("open", path))?);
    }
    let skip = store_of(options)?;
    let layers = (0..dirs.len()).rev().map(|i| {
        let stack = Stack { roots: roots[i..].to_vec(), overlay: true };
        (printable_path(&dirs[i]), Content::Tree(Arc::new(TreeLayer { stack, skip })))
    });
    Ok(made(layers.collect(), options))
}

/// Makes an image of layers without a config, bottom first.
fn made(layers: Vec<(String, Content)>, options: &SourceOptions) -> SourceImage {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let created_by = layers.iter().map(|(name, _)| format!("stratafs import {name}")).collect();
    let config = NewConfig { platform, created: options.created, created_by };
    let label = layers.last().map_or_else(String::new, |(name, _)| name.clone());
    let layers = layers
        .into_iter()
        .map(|(name, content)| {
            let size = match &content {
                Content::Range(range) => Some(range.len),
                _ => None,
            };
            LayerBlob { diff_id: None, digest: None, size, name, content }
        })
        .collect();
    SourceImage {
        references: Vec::new(),
        config: SourceConfig::New(config),
        layers,
        manifest_digest: None,
        label,
        ref_name: None,
    }
}

fn pick(mut images: Vec<Found>, wanted: &str) -> Found {
    let number = wanted.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
    if let Some(i) = number.filter(|i| images.get(*i).is_some_and(Result::is_err)) {
        return images.swap_remove(i);
    }
    let reference = wanted.parse::<Reference>().ok().map(Reference::or_latest);
    let is_wanted = |(i, image): &(usize, SourceImage)| match number {
        Some(n) => n == *i,
        None => {
            image.ref_name.as_deref() == Some(wanted)
                || image.manifest_digest.as_ref().is_some_and(|d| d.to_string() == wanted)
                || image.references.iter().any(|r| {
                    Some(r) == reference.as_ref()
                        || (r.tag() == Some(wanted) && r.digest().is_none())
                })
        }
    };
    let offered: Vec<String> = images
        .iter()
        .flatten()
        .map(|i| i.ref_name.clone().unwrap_or_else(|| i.display_name()))
        .map(|n| printable(n.as_bytes()))
        .collect();
    let mut found: Vec<SourceImage> = images
        .into_iter()
        .enumerate()
        .filter_map(|(i, image)| Some((i, image.ok()?)))
        .filter(is_wanted)
        .map(|(_, mut image)| {
            if let (Some(r), None) = (&reference, number)
                && image.references.contains(r)
            {
                // only the name that was asked for
                image.references = vec![r.clone()];
            }
            image
        })
        .collect();
    // an index may list one name twice; the last one counts, as with tags
    match found.pop() {
        Some(image) => Ok(image),
        None => {
            let offered = match offered.len() {
                0 => "none".to_owned(),
                n if n > 20 => format!("{} and {} more", offered[..20].join(", "), n - 20),
                _ => offered.join(", "),
            };
            Err(ImageError::NoSuchReference { wanted: wanted.to_owned(), offered })
        }
    }
}

/// Returns what a file or directory would be called as an image: its name without what tells the
/// form, if that is a valid name.
fn stem(path: &Path) -> Option<String> {
    let full = std::fs::canonicalize(path).ok();
    let name = full.as_deref().unwrap_or(path).file_name()?.to_str()?.to_ascii_lowercase();
    let mut stem = name.as_str();
    while let Some(cut) =
        ["tar", "gz", "tgz", "zst", "zstd", "tzst", "oci", "docker", "oci-archive"]
            .iter()
            .find_map(|e| stem.strip_suffix(e)?.strip_suffix('.'))
    {
        stem = cut;
    }
    let reference: Reference = stem.parse().ok()?;
    (reference.tag().is_none()).then(|| stem.to_owned())
}

/// Splits `TOP:…:BOTTOM` as the kernel does: a colon or a backslash in a path is written with a
/// backslash before it.
#[must_use]
pub fn split_lowerdir(text: &OsStr) -> Vec<PathBuf> {
    let mut out = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter();
    while let Some(b) = bytes.next() {
        match (b, out.last_mut()) {
            (b'\\', Some(last)) => last.extend(bytes.next()),
            (b':', _) => out.push(Vec::new()),
            (b, Some(last)) => last.push(*b),
            (_, None) => {}
        }
    }
    out.into_iter()
        .filter(|p| !p.is_empty())
        .map(|p| PathBuf::from(OsStr::from_bytes(&p)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_names() {
        for (path, name) in [
            ("/none/nginx-like.oci.tar", Some("nginx-like")),
            ("App_1.tar.gz", Some("app_1")),
            ("x.docker.tgz", Some("x")),
            ("-.tar", None),
            ("a b.tar", None),
        ] {
            assert_eq!(stem(Path::new(path)).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn lowerdirs_split_at_bare_colons() {
        let split = |t: &str| split_lowerdir(OsStr::new(t));
        assert_eq!(
            split("/a:/b\\:c:/d\\\\e"),
            [Path::new("/a"), Path::new("/b:c"), Path::new("/d\\e")]
        );
        assert_eq!(split("::"), Vec::<PathBuf>::new());
    }
}
