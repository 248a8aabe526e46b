//! What a container's init layer holds: the places that a container runtime mounts things on.
//!
//! Docker lays this layer between image and container, so that neither `diff` nor `commit` sees
//! these names. A directory that the image has already is left to it; where something new goes
//! into one, the directory is copied up with its owner, mode and attributes. A file or link is
//! always new, as Docker removes the image's own first.

use super::{Layer, Store, StoreError};
use crate::marker::OVERRIDE_XATTR;
use crate::sys::{Dir, Errno, FileType, Identity, Node, OpenFlags, Result};

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

/// Finds the directory that an image shows at a path: `None` if it has none there, an error if a
/// layer cannot be looked at.
pub type FindDir<'a> = dyn Fn(&str) -> std::result::Result<Option<Node>, StoreError> + 'a;

/// Returns what finds the directories of an image of these layers (bottom first).
pub(super) fn find_in(
    store: &Store,
    chain: &[Layer],
) -> std::result::Result<impl Fn(&str) -> std::result::Result<Option<Node>, StoreError>, StoreError>
{
    let mut image = Vec::with_capacity(chain.len());
    for layer in chain.iter().rev() {
        image.push((layer.cache.clone(), store.diff_dir(&layer.cache)?));
    }
    Ok(move |path: &str| {
        for (cache, dir) in &image {
            match find_dir(dir, path).map_err(|e| store.io_in_layer(cache, path, e))? {
                Found::Dir(node) => return Ok(Some(node)),
                Found::Hidden => return Ok(None),
                Found::Nothing => {}
            }
        }
        Ok(None)
    })
}

/// Fills the init layer's empty `diff` for a container of the image whose directories `find`
/// finds.
pub(super) fn fill(
    store: &Store,
    diff: &Dir,
    find: &FindDir<'_>,
) -> std::result::Result<(), StoreError> {
    let at = |e| store.io("write", "the init layer", e);
    record_owner(diff).map_err(at)?;
    for (path, kind) in CONTENT {
        let (parent, name) = path.rsplit_once('/').map_or(("", *path), |(p, n)| (p, n));
        if matches!(kind, Kind::Dir) && find(path)?.is_some() {
            continue;
        }
        let parent = if parent.is_empty() {
            diff.clone()
        } else {
            match diff.open_dir(parent.as_bytes()) {
                Err(Errno::NOENT) => copy_up(find(parent)?.as_ref(), diff, parent),
                opened => opened,
            }
            .map_err(at)?
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
            record(|v| file.set_xattr(OVERRIDE_XATTR, v), 0o755, "file")
        }
        Kind::Link(target) => dir.symlink(target.as_bytes(), name.as_bytes()),
    }
}

/// Makes the directory `name` of the init layer's root as the image has it.
fn copy_up(lower: Option<&Node>, diff: &Dir, name: &str) -> Result<Dir> {
    let new = super::files::new_dir(diff, name, 0o755)?;
    let Some(lower) = lower else {
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
    record(|v| to.set_xattr(OVERRIDE_XATTR, v, false, false), stat.permissions(), "dir")?;
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

/// What one layer says of a path.
enum Found {
    Dir(Node),
    /// Neither it nor a layer below shows a directory there.
    Hidden,
    /// A layer below may have it.
    Nothing,
}

/// Finds the directory at `path` of a layer. A whiteout, a file or an opaque directory hides what is
/// below. Layers of a store hold no redirects.
fn find_dir(layer: &Dir, path: &str) -> Result<Found> {
    let mut dir = layer.clone();
    let (mut parts, mut opaque) = (path.split('/').peekable(), false);
    while let Some(part) = parts.next() {
        let node = match dir.node(part.as_bytes()) {
            Ok(node) => node,
            Err(Errno::NOENT | Errno::NOTDIR) if opaque => return Ok(Found::Hidden),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Found::Nothing),
            Err(e) => return Err(e),
        };
        if node.stat()?.file_type() != FileType::Dir {
            return Ok(Found::Hidden);
        }
        if parts.peek().is_none() {
            return Ok(Found::Dir(node));
        }
        opaque |= is_opaque(&node);
        dir = node.open_dir()?;
    }
    Ok(Found::Nothing)
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
    record(|v| node.set_xattr(OVERRIDE_XATTR, v, false, false), 0o755, "dir")
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
