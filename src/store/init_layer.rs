//! What a container's init layer holds: the places that a container runtime mounts things on.
//!
//! Docker lays this layer between image and container, so that neither `diff` nor `commit` sees
//! these names. A directory that the image has already is left to it; where something new goes
//! into one, the directory is copied up with its owner, mode and attributes. A file or link is
//! always new, as Docker removes the image's own first.

use super::{Layer, Store, StoreError};
use crate::sys::{Dir, Errno, FileType, Identity, Node, OpenFlags, Result};

/// Owner and mode where they could not be set on the file (containers/storage's attribute).
const OVERRIDE: &[u8] = b"user.containers.override_stat";

enum Kind {
    Dir,
    File,
    Link(&'static str),
}

const CONTENT: &[(&str, Kind)] = &[
    ("dev/pts", Kind::Dir),
    ("dev/shm", Kind::Dir),
    ("proc", Kind::Dir),
    ("sys", Kind::Dir),
    (".dockerenv", Kind::File),
    ("etc/resolv.conf", Kind::File),
    ("etc/hosts", Kind::File),
    ("etc/hostname", Kind::File),
    ("dev/console", Kind::File),
    ("etc/mtab", Kind::Link("/proc/mounts")),
];

/// Returns what finds the directories of an image of these layers (bottom first).
pub(super) fn find_in(
    store: &Store,
    chain: &[Layer],
) -> std::result::Result<impl Fn(&str) -> Option<Node>, StoreError> {
    let mut image = Vec::with_capacity(chain.len());
    for layer in chain.iter().rev() {
        image.push(store.diff_dir(&layer.cache)?);
    }
    Ok(move |path: &str| find_dir(&image, path))
}

/// Fills the init layer's empty `diff` for a container of the image whose directories `find`
/// finds.
pub(super) fn fill(
    store: &Store,
    diff: &Dir,
    find: &dyn Fn(&str) -> Option<Node>,
) -> std::result::Result<(), StoreError> {
    let at = |e| store.io("write", "the init layer", e);
    record_owner(diff).map_err(at)?;
    for (path, kind) in CONTENT {
        let (parent, name) = path.rsplit_once('/').map_or(("", *path), |(p, n)| (p, n));
        if matches!(kind, Kind::Dir) && find(path).is_some() {
            continue;
        }
        let parent = if parent.is_empty() {
            diff.clone()
        } else {
            copy_up(find, diff, parent).map_err(at)?
        };
        make(&parent, name, kind).map_err(at)?;
    }
    Ok(())
}

fn make(dir: &Dir, name: &str, kind: &Kind) -> Result<()> {
    match kind {
        Kind::Dir => record_owner(&super::files::new_dir(dir, name, 0o755)?),
        Kind::File => {
            super::files::create(dir, name, b"", 0o755)?;
            let file = dir.open_file(name.as_bytes(), OpenFlags::READ_WRITE, 0)?;
            record(|v| file.set_xattr(OVERRIDE, v), 0o755, "file")
        }
        Kind::Link(target) => dir.symlink(target.as_bytes(), name.as_bytes()),
    }
}

/// Makes the directory `name` of the init layer's root as the image has it.
fn copy_up(find: &dyn Fn(&str) -> Option<Node>, diff: &Dir, name: &str) -> Result<Dir> {
    match diff.open_dir(name.as_bytes()) {
        Err(Errno::NOENT) => {}
        r => return r,
    }
    let new = super::files::new_dir(diff, name, 0o755)?;
    let Some(lower) = find(name) else {
        record_owner(&new)?;
        return Ok(new);
    };
    let (stat, to) = (lower.stat()?, new.as_node()?);
    if Identity::current().uid == 0 {
        match to.chown(Some(stat.uid), Some(stat.gid)) {
            // ids outside of this user namespace
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(e) => return Err(e),
        }
    }
    to.chmod(stat.permissions())?;
    record(|v| to.set_xattr(OVERRIDE, v, false, false), stat.permissions(), "dir")?;
    for key in lower.list_xattr()? {
        if is_marker(&key) {
            continue;
        }
        if let Some(value) = lower.get_xattr(&key)? {
            match to.set_xattr(&key, &value, false, false) {
                // one that this user or file system cannot hold
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(new)
}

/// Finds the topmost directory at `path` of an image, layer by layer from the top; a whiteout or
/// a file above it hides it. Layers of a store hold no redirects.
fn find_dir(image: &[Dir], path: &str) -> Option<Node> {
    for layer in image {
        let mut dir = layer.clone();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            // absent here: a layer below may have it
            let Ok(node) = dir.node(part.as_bytes()) else { break };
            if node.stat().is_ok_and(|s| s.file_type() != FileType::Dir) {
                return None;
            }
            if parts.peek().is_none() {
                return Some(node);
            }
            let opaque = is_opaque(&node);
            match node.open_dir() {
                Ok(d) => dir = d,
                Err(_) => break,
            }
            if opaque && dir.node(parts.peek()?.as_bytes()).is_err() {
                return None;
            }
        }
    }
    None
}

fn is_opaque(node: &Node) -> bool {
    [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"]
        .iter()
        .any(|key| node.get_xattr(key).is_ok_and(|v| v.as_deref() == Some(b"y")))
}

fn is_marker(key: &[u8]) -> bool {
    key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.")
}

/// Records that a directory of ours belongs to root, where its true owner is an ordinary user.
pub(super) fn record_owner(dir: &Dir) -> Result<()> {
    let node = dir.as_node()?;
    record(|v| node.set_xattr(OVERRIDE, v, false, false), 0o755, "dir")
}

fn record(set: impl FnOnce(&[u8]) -> Result<()>, mode: u32, kind: &str) -> Result<()> {
    if Identity::current().uid == 0 {
        return Ok(());
    }
    match set(format!("0:0:{mode:04o}:{kind}").as_bytes()) {
        // a file system without such attributes: the owner shows as it is
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(e),
    }
}
