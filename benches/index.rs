//! The layer index: opening, looking up, listing; sizes are printed first.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use stratafs::index::{Builder, INDEX_NAME, Index, Kind, Meta, NodeId};
use stratafs::sys::Dir;

struct Stack {
    _tmp: tempfile::TempDir,
    dirs: Vec<Dir>,
    paths: Vec<Vec<Vec<u8>>>,
}

/// `layers` layers of `files` files each, 40 in a directory, with names as long as real ones.
fn stack(layers: usize, files: usize) -> Stack {
    let tmp = tempfile::tempdir().expect("a temporary directory");
    let mut s = Stack { dirs: Vec::new(), paths: Vec::new(), _tmp: tmp };
    let mut bytes = 0;
    for l in 0..layers {
        let mut b = Builder::new();
        for f in 0..files {
            let d = f / 40;
            let path = format!("usr/lib/package-{}/dir-{d:05}/layer{l}-{f:06}.txt", d / 50);
            let m = Meta { size: f as u64, ..Meta::new(Kind::File) };
            b.add_path(path.as_bytes(), &m).expect("a good path");
            if l == 0 && f % 97 == 0 {
                s.paths.push(path.split('/').map(|p| p.as_bytes().to_vec()).collect());
            }
        }
        let path = s._tmp.path().join(l.to_string());
        std::fs::create_dir(&path).expect("a directory");
        let dir = Dir::open(&path).expect("a directory");
        b.finish(&dir, INDEX_NAME).expect("an index");
        bytes += std::fs::metadata(path.join("stratafs.index")).expect("an index").len();
        s.dirs.push(dir);
    }
    #[allow(clippy::print_stdout)]
    {
        let each = bytes as f64 / (layers * files) as f64;
        println!("{layers} layers of {files} files: {bytes} bytes, {each:.1} for each file");
    }
    s
}

fn open_all(s: &Stack) -> Vec<Index> {
    s.dirs.iter().map(|d| Index::open(d, INDEX_NAME).expect("an index")).collect()
}

fn find(i: &Index, path: &[Vec<u8>]) -> Option<NodeId> {
    path.iter().try_fold(NodeId::ROOT, |n, p| i.child(n, p))
}

fn bench(c: &mut Criterion) {
    for (name, layers, files) in
        [("60k-in-12", 12, 5_000), ("400-layers", 400, 50), ("2m-in-1", 1, 2_000_000)]
    {
        let s = stack(layers, files);
        c.bench_function(&format!("open/{name}"), |b| b.iter(|| open_all(black_box(&s))));
        let open = open_all(&s);
        let mut next = s.paths.iter().cycle();
        c.bench_function(&format!("lookup-path-in-each-layer/{name}"), |b| {
            b.iter_batched(
                || next.next().expect("paths"),
                |p| open.iter().filter(|i| find(i, p).is_some()).count(),
                BatchSize::SmallInput,
            );
        });
        let dir = find(&open[0], &s.paths[0][..4]).expect("a directory");
        c.bench_function(&format!("list-40/{name}"), |b| {
            b.iter(|| open[0].children(dir).filter_map(|k| open[0].node(NodeId(k))).count());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = bench
}
criterion_main!(benches);
