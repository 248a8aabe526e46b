//! Lookup through a stack of overlay-form directories: whiteouts in every form, opaque marks,
//! redirects and metacopy files, as the kernel follows them.
//!
//! Source: the kernel's `overlayfs.rst`.

use super::ImageError;
use crate::marker::{
    Dialect, FUSE_OVERLAYFS_OPAQUE, INCOMPLETE, OPAQUE_NAME, OVERRIDE_XATTR, OverrideStat,
    Redirect, WHITEOUT_PREFIX,
};
use crate::name::printable;
use crate::sys::{Dir, Errno, FileType, Stat};

const DIALECTS: [Dialect; 2] = [Dialect::Trusted, Dialect::User];

/// The directories of a stack, top first, and how their names are read.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    pub(super) roots: Vec<Dir>,
    /// Whether markers count; if not, the directory is a plain tree.
    pub(super) overlay: bool,
}

/// A directory of one layer that takes part in a merged one.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which of the stack's directories it is in.
    pub(super) layer: usize,
    pub(super) dir: Dir,
    /// Whether it may hold whiteouts in extended-attribute form (`opaque` is `x`).
    pub(super) xattr_whiteouts: bool,
}

/// What one layer holds under a name.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    Whiteout(Stat),
    Leaf { stat: Stat, metacopy: bool, redirect: Option<Redirect> },
    Dir { stat: Stat, part: Part, opaque: bool, redirect: Option<Redirect> },
}

/// What a merged directory holds under a name.
#[derive(Debug)]
pub(super) enum Merged {
    Nothing,
    /// A file, and where its content lies if it is a metacopy.
    Leaf {
        part: Part,
        name: Box<[u8]>,
        stat: Stat,
        data: Option<(Dir, Box<[u8]>)>,
    },
    Dir {
        stat: Stat,
        parts: Vec<Part>,
    },
}

fn at(name: &[u8]) -> impl FnOnce(Errno) -> ImageError {
    let path = printable(name);
    move |e| ImageError::BadTree { path, why: e.to_string() }
}

impl Stack {
    /// Returns the root of a layer.
    pub(super) fn root(&self, layer: usize) -> Result<Part, ImageError> {
        let dir = self.roots[layer].clone();
        let xattr_whiteouts = self.overlay
            && opaque_value(|k| dir.get_xattr(b".", k)).map_err(at(b"."))? == Opaque::Partly;
        Ok(Part { layer, dir, xattr_whiteouts })
    }

    /// Returns what `part` itself holds under `name`.
    pub(super) fn probe(&self, part: &Part, name: &[u8]) -> Result<Found, ImageError> {
        let stat = match part.dir.stat(name) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => {
                return match self.whiteout_file(part, name)? {
                    Some(stat) => Ok(Found::Whiteout(stat)),
                    None => Ok(Found::Absent),
                };
            }
            Err(e) => return Err(at(name)(e)),
        };
        if !self.overlay {
            return Ok(match stat.file_type() {
                FileType::Dir => self.dir(part, name, stat, false, None)?,
                _ => Found::Leaf { stat, metacopy: false, redirect: None },
            });
        }
        let get = |key: &[u8]| part.dir.get_xattr(name, key);
        if stat.is_whiteout_device() {
            return Ok(Found::Whiteout(stat));
        }
        // only now: a device 0:0 that is recorded, and not made, is meant as a device
        let stat = with_override(part, name, stat)?;
        if stat.is_dir() {
            let mut opaque = opaque_value(get).map_err(at(name))?;
            if self.whiteout_file(part, name)?.is_some() {
                opaque = Opaque::Wholly;
            }
            let redirect = redirect_of(get, name)?;
            let mut found = self.dir(part, name, stat, opaque == Opaque::Wholly, redirect)?;
            if let Found::Dir { part, opaque: wholly, .. } = &mut found {
                part.xattr_whiteouts = opaque == Opaque::Partly;
                *wholly |= part.dir.stat(OPAQUE_NAME).is_ok();
            }
            return Ok(found);
        }
        if stat.file_type() != FileType::File {
            return Ok(Found::Leaf { stat, metacopy: false, redirect: None });
        }
        let has = |key: &[u8]| Ok::<bool, ImageError>(get(key).map_err(at(name))?.is_some());
        if part.xattr_whiteouts
            && stat.size == 0
            && (has(Dialect::Trusted.whiteout())? || has(Dialect::User.whiteout())?)
        {
            return Ok(Found::Whiteout(stat));
        }
        let mut metacopy = false;
        for dialect in [Dialect::Trusted, Dialect::User] {
            let mark = get(dialect.metacopy()).map_err(at(name))?;
            if mark.as_deref() == Some(INCOMPLETE) {
                return Err(ImageError::BadTree {
                    path: printable(name),
                    why: "a part of a file (lazy_copy_up): mount the directory as the upper once more, \
                          with the layers of then, and unmount"
                        .into(),
                });
            }
            metacopy |= mark.is_some();
        }
        let redirect = if metacopy { redirect_of(get, name)? } else { None };
        Ok(Found::Leaf { stat, metacopy, redirect })
    }

    fn dir(
        &self,
        part: &Part,
        name: &[u8],
        stat: Stat,
        opaque: bool,
        redirect: Option<Redirect>,
    ) -> Result<Found, ImageError> {
        let dir = part.dir.open_dir(name).map_err(at(name))?;
        let part = Part { layer: part.layer, dir, xattr_whiteouts: false };
        Ok(Found::Dir { stat, part, opaque, redirect })
    }

    /// Returns the attributes of the file `.wh.NAME`, if there is one and it counts.
    fn whiteout_file(&self, part: &Part, name: &[u8]) -> Result<Option<Stat>, ImageError> {
        if !self.overlay {
            return Ok(None);
        }
        match part.dir.stat(&[WHITEOUT_PREFIX, name].concat()) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(at(name)(e)),
        }
    }

    /// Returns what the directories `parts`, top first, together show under `name`.
    pub(super) fn child(&self, parts: &[Part], name: &[u8]) -> Result<Merged, ImageError> {
        let mut name: Box<[u8]> = name.into();
        let mut dirs: Option<(Stat, Vec<Part>)> = None;
        for (i, part) in parts.iter().enumerate() {
            match self.probe(part, &name)? {
                Found::Absent => {}
                Found::Whiteout(_) => break,
                Found::Leaf { .. } if dirs.is_some() => break,
                Found::Leaf { stat, metacopy, redirect } => {
                    let data = if metacopy {
                        Some(self.data(part, &parts[i + 1..], &name, redirect)?)
                    } else {
                        None
                    };
                    return Ok(Merged::Leaf { part: part.clone(), name, stat, data });
                }
                Found::Dir { stat, part: dir, opaque, redirect } => {
                    let layer = part.layer;
                    dirs.get_or_insert((stat, Vec::new())).1.push(dir);
                    if opaque {
                        break;
                    }
                    match redirect {
                        None => {}
                        Some(Redirect::Sibling(n)) => name = n,
                        Some(Redirect::Absolute(path)) => {
                            let rest = self.dirs_at(layer + 1, &path)?;
                            dirs.get_or_insert((stat, Vec::new())).1.extend(rest);
                            break;
                        }
                    }
                }
            }
        }
        Ok(match dirs {
            Some((stat, parts)) => Merged::Dir { stat, parts },
            None => Merged::Nothing,
        })
    }

    /// Returns the directories of the layers from `first` downwards that are merged at `path`.
    pub(super) fn dirs_at(
        &self,
        first: usize,
        path: &[Box<[u8]>],
    ) -> Result<Vec<Part>, ImageError> {
        let mut parts = Vec::new();
        for layer in first..self.roots.len() {
            parts.push(self.root(layer)?);
        }
        for name in path {
            match self.child(&parts, name)? {
                Merged::Dir { parts: next, .. } => parts = next,
                _ => return Ok(Vec::new()),
            }
        }
        Ok(parts)
    }

    /// Finds the content of the metacopy file `name` of `part` in the layers below.
    pub(super) fn data(
        &self,
        part: &Part,
        below: &[Part],
        name: &[u8],
        redirect: Option<Redirect>,
    ) -> Result<(Dir, Box<[u8]>), ImageError> {
        let (parents, name) = match redirect {
            None => (below.to_vec(), name.into()),
            Some(Redirect::Sibling(n)) => (below.to_vec(), n),
            Some(Redirect::Absolute(mut path)) => {
                let name = path.pop().unwrap_or_default();
                (self.dirs_at(part.layer + 1, &path)?, name)
            }
        };
        match self.child(&parents, &name)? {
            Merged::Leaf { data: Some(data), .. } => Ok(data),
            Merged::Leaf { part, name, stat, .. } if stat.file_type() == FileType::File => {
                Ok((part.dir, name))
            }
            _ => Err(ImageError::BadTree {
                path: printable(&name),
                why: "a metadata-only copy (metacopy) whose content is in no layer below".into(),
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opaque {
    No,
    Wholly,
    Partly,
}

fn opaque_value(
    get: impl Fn(&[u8]) -> crate::sys::Result<Option<Vec<u8>>>,
) -> crate::sys::Result<Opaque> {
    let mut found = Opaque::No;
    for key in [Dialect::Trusted.opaque(), Dialect::User.opaque(), FUSE_OVERLAYFS_OPAQUE] {
        match get(key)?.as_deref() {
            Some(b"y") => return Ok(Opaque::Wholly),
            Some(b"x") => found = Opaque::Partly,
            _ => {}
        }
    }
    Ok(found)
}

fn redirect_of(
    get: impl Fn(&[u8]) -> crate::sys::Result<Option<Vec<u8>>>,
    name: &[u8],
) -> Result<Option<Redirect>, ImageError> {
    for dialect in DIALECTS {
        if let Some(value) = get(dialect.redirect()).map_err(at(name))? {
            let bad = |e| ImageError::BadTree {
                path: printable(name),
                why: format!("its redirect {:?} is none: {e}", printable(&value)),
            };
            return Redirect::parse(&value).map(Some).map_err(bad);
        }
    }
    Ok(None)
}

/// Puts in what fuse-overlayfs and containers/storage record for files that could not be given
/// their true owner and type.
fn with_override(part: &Part, name: &[u8], mut stat: Stat) -> Result<Stat, ImageError> {
    if !matches!(stat.file_type(), FileType::File | FileType::Dir) {
        return Ok(stat);
    }
    let value = part.dir.get_xattr(name, OVERRIDE_XATTR).map_err(at(name))?;
    let Some(o) = value.as_deref().and_then(OverrideStat::parse) else { return Ok(stat) };
    let kind = match o.kind {
        // a directory stays one, and a symlink's target would have to be invented
        Some(k) if !stat.is_dir() && !matches!(k, FileType::Dir | FileType::Symlink) => k,
        _ => stat.file_type(),
    };
    (stat.uid, stat.gid, stat.mode) = (o.uid, o.gid, kind.bits() | o.mode);
    if matches!(kind, FileType::Char | FileType::Block) {
        stat.rdev = o.rdev;
    }
    Ok(stat)
}
