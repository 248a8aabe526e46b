//! Why a path is there or not, what each layer brings, and what a container changed.
//!
//! Answers come from the merge that serves the mount ([`crate::resolve`]), fed with the same
//! indexes; this module only goes on below the point where the mount stops looking, to tell what
//! is hidden there and by what. It knows no store: whoever asks brings the layers.

mod descend;
mod diff;
mod explain;
mod form;
mod layers;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod verdict;

pub use diff::{Change, ChangeKind, diff};
pub use explain::{Explanation, LayerState, Link, Marker, State, explain};
pub use layers::{LayerInfo, layer_infos};
pub use verdict::short_step;

use crate::id::{CacheId, ChainId, DiffId, LayerIndex};
use crate::index::Index;
use crate::name::{BadName, printable};
use crate::resolve::LayerRef;
use crate::sys::Dir;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The path is none.
    #[error("{}: {} (a path begins at the root of the image, without '..')", printable(.0), .1)]
    Path(Vec<u8>, BadName),
    /// There is nothing that could have been changed.
    #[error("these layers have no writable one on top, so there is nothing to compare")]
    NoUpper,
}

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// The writable layer of a container or mount.
    Upper,
    /// A container's init layer, which counts as part of the image.
    Init,
    /// A layer of an image.
    Image,
    /// A directory that was named as a lower layer.
    Directory,
}

/// One layer, with what is known of it.
#[derive(Clone, Debug)]
pub struct LayerView {
    /// What it is.
    pub kind: LayerKind,
    /// Its identity upon those below; image layers only.
    pub chain: Option<ChainId>,
    /// SHA-256 of its tar; image layers only.
    pub diff: Option<DiffId>,
    /// Its directory in a store.
    pub cache: Option<CacheId>,
    /// Its directory, if it was named by path.
    pub path: Option<PathBuf>,
    /// Bytes of its files; counted from the index if `None`.
    pub size: Option<u64>,
    /// The step of the image's history that made it.
    pub created_by: Option<String>,
    /// Its names.
    pub index: Arc<Index>,
    /// Its files, to tell in which form markers lie there.
    pub files: Option<Dir>,
}

impl LayerView {
    /// Returns a layer of which nothing but its names is known.
    #[must_use]
    pub fn new(kind: LayerKind, index: Arc<Index>) -> LayerView {
        LayerView {
            kind,
            chain: None,
            diff: None,
            cache: None,
            path: None,
            size: None,
            created_by: None,
            index,
            files: None,
        }
    }
}

/// A stack of layers, top first.
#[derive(Clone, Debug)]
pub struct Layers(Vec<LayerView>);

impl Layers {
    /// Stacks layers, top first. An [`LayerKind::Upper`] can only be the first.
    #[must_use]
    pub fn new(top_first: Vec<LayerView>) -> Layers {
        Layers(top_first)
    }

    /// Returns the layers, top first, each with its number: 1 for the bottom one.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &LayerView)> {
        self.0.iter().enumerate().map(|(i, l)| (number(self.0.len(), i), l))
    }
}

/// The number of the layer at `position` from the top.
fn number(count: usize, position: usize) -> u32 {
    LayerIndex(below(count, position)).number()
}

/// How many layers are below the one at `position`. Stacks are never as large as a `u32`.
fn below(count: usize, position: usize) -> u32 {
    u32::try_from(count.saturating_sub(position + 1)).unwrap_or(u32::MAX)
}

fn layer_ref(layers: &[LayerView], position: usize) -> LayerRef {
    match layers.get(position).map(|l| l.kind) {
        Some(LayerKind::Upper) => LayerRef::Upper,
        _ => LayerRef::Lower(LayerIndex(below(layers.len(), position))),
    }
}

fn position_of(layers: &[LayerView], layer: LayerRef) -> usize {
    match layer {
        LayerRef::Upper => 0,
        LayerRef::Lower(i) => layers.len().saturating_sub(i.number() as usize),
    }
}
