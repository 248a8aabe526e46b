//! What each layer brings.

use super::{LayerKind, LayerView, Layers};
use crate::index::{Index, Kind, NodeId};
use crate::name::printable;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

/// One layer's facts. The names of the fields are those of the JSON output and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Its number, 1 for the bottom layer.
    pub layer: u32,
    /// `upper`, `init`, `image` or `directory`.
    pub kind: LayerKind,
    /// SHA-256 of its tar, with prefix; image layers only.
    pub diff_id: Option<String>,
    /// Its identity upon those below, with prefix; image layers only.
    pub chain_id: Option<String>,
    /// Its directory under `overlay2/`.
    pub cache_id: Option<String>,
    /// Its directory, if it was named by path.
    pub directory: Option<String>,
    /// Bytes of its files, each inode once, directories not counted.
    pub size: u64,
    /// Its names, without the root, with markers and with parents that no entry describes.
    pub entries: usize,
    /// Its whiteouts.
    pub whiteouts: usize,
    /// Its opaque directories.
    pub opaque_dirs: usize,
    /// The step of the image's history that made it.
    pub created_by: Option<String>,
}

/// Returns the facts of all layers, top first.
#[must_use]
pub fn layer_infos(layers: &Layers) -> Vec<LayerInfo> {
    layers.numbered().map(|(number, layer)| info(number, layer)).collect()
}

fn info(number: u32, layer: &LayerView) -> LayerInfo {
    LayerInfo {
        layer: number,
        kind: layer.kind,
        diff_id: layer.diff.map(|d| d.to_string()),
        chain_id: layer.chain.map(|c| c.to_string()),
        cache_id: layer.cache.as_ref().map(ToString::to_string),
        directory: layer.path.as_ref().map(|p| printable(p.as_os_str().as_bytes())),
        size: layer.size.unwrap_or_else(|| size_of(&layer.index)),
        entries: layer.index.len().saturating_sub(1),
        whiteouts: layer.index.whiteouts(),
        opaque_dirs: layer.index.opaque_dirs(),
        created_by: layer.created_by.as_ref().map(|c| printable(c.as_bytes())),
    }
}

fn size_of(index: &Index) -> u64 {
    let ids = (0..u32::try_from(index.len()).unwrap_or(u32::MAX)).map(NodeId);
    let counted = ids.filter(|id| index.canonical(*id) == *id).filter_map(|id| index.node(id));
    // a symlink's length counts, as it does in Docker's sum of st_size
    counted.filter(|n| matches!(n.kind, Kind::File | Kind::Symlink)).map(|n| n.size).sum()
}
