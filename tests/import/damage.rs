//! What was damaged on disk is made again or named, never shown.

use super::archive::Image;
use super::support::Bench;
use std::os::unix::fs::FileExt;
use stratafs::index::{Node, NodeId};
use stratafs::indexes;

/// A flipped bit anywhere in an index must not change the tree that is shown.
#[test]
fn a_damaged_index_is_made_again() {
    let b = Bench::new();
    let done = b.import(&b.write("a.tar", &Image::new("a", super::forms::layers()).docker_v1()));
    let top = done.unwrap()[0].layers.last().copied().unwrap();
    let path = b.store.root().join("image/overlay2/layerdb/sha256").join(top.hex());
    let path = path.join("stratafs.index");
    let shown = || {
        let index = indexes::load(&b.store, &top, None).unwrap().pop().unwrap().index;
        index.verify().unwrap();
        let nodes = (0..index.len() as u32).filter_map(|i| index.node(NodeId(i)));
        let line =
            |n: Node<'_>| format!("{:?} {:?} {:o} {}", index.path(n.id), n.kind, n.mode, n.size);
        nodes.map(line).collect::<Vec<_>>()
    };
    let good = shown();
    let len = std::fs::metadata(&path).unwrap().len();
    for at in (0..len).step_by(7) {
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert_eq!(shown(), good, "byte {at}");
    }
}

/// An index that is whole, but another layer's, would show another tree.
#[test]
fn an_index_of_another_layer_is_made_again() {
    let b = Bench::new();
    let done = b.import(&b.write("a.tar", &Image::new("a", super::forms::layers()).docker_v1()));
    let layers = done.unwrap()[0].layers.clone();
    let (bottom, top) = (layers[0], *layers.last().unwrap());
    assert_ne!(bottom, top);
    let path = |chain: &stratafs::id::ChainId| {
        let dir = b.store.root().join("image/overlay2/layerdb/sha256").join(chain.hex());
        dir.join("stratafs.index")
    };
    let names = || {
        let index = indexes::load(&b.store, &top, None).unwrap().pop().unwrap().index;
        (0..index.len() as u32).map(|i| index.path(NodeId(i))).collect::<Vec<_>>()
    };
    let good = names();
    std::fs::copy(path(&bottom), path(&top)).unwrap();
    assert_eq!(names(), good);
}
