//! In which form a marker lies in a layer: for people who see two tools disagree.

use super::{LayerKind, LayerView};
use crate::index::NodeId;
use crate::marker::{Dialect, FUSE_OVERLAYFS_OPAQUE};
use crate::name::printable;
use crate::overlay::data_is_here;

/// Returns how the whiteout `node` lies on disk.
pub(super) fn whiteout(layer: &LayerView, node: NodeId) -> String {
    on_disk(layer, node).unwrap_or_else(|| "whiteout".to_owned())
}

fn on_disk(layer: &LayerView, node: NodeId) -> Option<String> {
    let files = layer.files.as_ref()?;
    let handle = files.node_beneath(&layer.index.path(node)).ok()?;
    if handle.stat().ok()?.is_whiteout_device() {
        return Some("character device 0:0".to_owned());
    }
    let marks = [Dialect::Trusted.whiteout(), Dialect::User.whiteout()];
    let mark = marks.into_iter().find(|k| handle.get_xattr(k).is_ok_and(|v| v.is_some()))?;
    Some(format!("empty file with {}", printable(mark)))
}

/// Returns how the directory `node` is marked as opaque on disk.
pub(super) fn opaque(layer: &LayerView, node: NodeId) -> String {
    let marks = [Dialect::Trusted.opaque(), Dialect::User.opaque(), FUSE_OVERLAYFS_OPAQUE];
    let handle = layer.files.as_ref().and_then(|f| f.node_beneath(&layer.index.path(node)).ok());
    let set = |key: &[u8]| {
        handle.as_ref().is_some_and(|h| h.get_xattr(key).is_ok_and(|v| v.as_deref() == Some(b"y")))
    };
    match marks.into_iter().find(|k| set(k)) {
        Some(mark) => format!("{}=y", printable(mark)),
        // trusted.* cannot be seen without privilege
        None => "opaque mark".to_owned(),
    }
}

/// Returns the name that the whiteout `node` had in the layer's tar.
pub(super) fn whiteout_in_tar(layer: &LayerView, node: NodeId) -> Option<String> {
    if layer.kind != LayerKind::Image {
        return None;
    }
    let path = layer.index.path(node);
    let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    Some(printable(&[&path[..cut], b".wh.", &path[cut..]].concat()))
}

/// Returns the name that the opaque mark of `node` had in the layer's tar. A whiteout and a new
/// directory of the same name give an opaque directory too.
pub(super) fn opaque_in_tar(layer: &LayerView, node: NodeId) -> Option<String> {
    if layer.kind != LayerKind::Image {
        return None;
    }
    let path = layer.index.path(node);
    let whiteout = whiteout_in_tar(layer, node)?;
    Some(format!("{} or {whiteout}", printable(&[&path[..], b"/.wh..wh..opq"].concat())))
}

/// Returns the redirect of the directory `node`.
pub(super) fn redirect(layer: &LayerView, node: NodeId) -> String {
    match layer.index.redirect(node) {
        Some(to) => format!("overlay.redirect={}", printable(&to.encode())),
        None => "overlay.redirect".to_owned(),
    }
}

/// Returns the mark by which the file `node` holds attributes alone, with where it says that its
/// data is; `None` for an ordinary file. Layers of images are not believed such marks.
pub(super) fn metacopy(layer: &LayerView, node: NodeId) -> Option<String> {
    if !matches!(layer.kind, LayerKind::Upper | LayerKind::Directory) {
        return None;
    }
    let handle = layer.files.as_ref()?.node_beneath(&layer.index.path(node)).ok()?;
    if data_is_here(&handle.stat().ok()?) {
        return None;
    }
    let dialect = [Dialect::Trusted, Dialect::User]
        .into_iter()
        .find(|d| handle.get_xattr(d.metacopy()).is_ok_and(|v| v.is_some()))?;
    let mark = printable(dialect.metacopy());
    Some(match handle.get_xattr(dialect.redirect()) {
        Ok(Some(to)) => format!("{mark}, with overlay.redirect={}", printable(&to)),
        _ => mark,
    })
}
