//! Small layers for tests.

use super::{LayerKind, LayerView, Layers};
use crate::index::{Builder, INDEX_NAME, Index, Kind, Meta};
use crate::marker::Redirect;
use crate::sys::Dir;
use std::sync::Arc;

/// Makes a layer of a list of words: `d/` a directory, `d/!` an opaque one, `-x` a whiteout,
/// `x=TEXT` a file of that content's length, `x@TARGET` a symlink, `d/>FROM` a directory with a
/// redirect.
pub(super) fn layer(kind: LayerKind, words: &str) -> LayerView {
    let mut b = Builder::new();
    for word in words.split_whitespace() {
        let put = |b: &mut Builder, path: &str, m: Meta| b.add_path(path.as_bytes(), &m).unwrap();
        if let Some(path) = word.strip_prefix('-') {
            put(&mut b, path, Meta::new(Kind::Whiteout));
        } else if let Some(path) = word.strip_suffix("/!") {
            put(&mut b, path, Meta { opaque: true, ..Meta::new(Kind::Dir) });
        } else if let Some((path, from)) = word.split_once("/>") {
            let id = put(&mut b, path, Meta::new(Kind::Dir));
            let redirect = Redirect::parse(from.as_bytes()).unwrap();
            b.set_xattrs(id, Vec::new(), Some(&redirect)).unwrap();
        } else if let Some(path) = word.strip_suffix('/') {
            put(&mut b, path, Meta::new(Kind::Dir));
        } else if let Some((path, target)) = word.split_once('@') {
            let id = put(&mut b, path, Meta::new(Kind::Symlink));
            b.set_target(id, target.as_bytes()).unwrap();
        } else if let Some((path, text)) = word.split_once('=') {
            put(&mut b, path, Meta { size: text.len() as u64, ..Meta::new(Kind::File) });
        } else {
            panic!("{word}: no word of this language");
        }
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = Dir::open(tmp.path()).unwrap();
    b.finish(&dir, INDEX_NAME).unwrap();
    LayerView::new(kind, Arc::new(Index::open(&dir, INDEX_NAME).unwrap()))
}

/// A stack of image layers, top first.
pub(super) fn image(words: &[&str]) -> Layers {
    Layers::new(words.iter().map(|w| layer(LayerKind::Image, w)).collect())
}

/// The same with an upper, which comes first.
pub(super) fn container(words: &[&str]) -> Layers {
    let kind = |i| if i == 0 { LayerKind::Upper } else { LayerKind::Image };
    Layers::new(words.iter().enumerate().map(|(i, w)| layer(kind(i), w)).collect())
}
