//! The engine without a mount: merged lookups, listings, copy-up, over plain and indexed lowers.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use stratafs::index::{self, INDEX_NAME, Index};
use stratafs::name::Name;
use stratafs::overlay::{
    Attr, Caller, Ino, Lower, OpenMode, Options, Overlay, SetAttr, Stack, Upper,
};
use stratafs::sys::Dir;

const CALLER: Caller = Caller { uid: 0, gid: 0 };

#[derive(Clone, Copy)]
enum Form {
    Plain,
    Indexed,
}

const FORMS: [(&str, Form); 2] = [("plain", Form::Plain), ("indexed", Form::Indexed)];

/// `layers` layers that share the directory `shared`, each with `files` files of its own in it.
fn layers(root: &Path, layers: usize, files: usize) {
    for l in 0..layers {
        let dir = root.join(format!("l{l}/shared"));
        std::fs::create_dir_all(&dir).expect("a directory");
        for f in 0..files {
            std::fs::write(dir.join(format!("layer{l}-file-{f:06}.txt")), b"x").expect("a file");
        }
    }
}

fn view(root: &Path, layers: usize, form: Form, writable: bool) -> Overlay {
    let lowers = (0..layers).map(|l| {
        let path = root.join(format!("l{l}"));
        let diff = Dir::open(&path).expect("a layer");
        match form {
            Form::Plain => Lower::Plain(diff),
            Form::Indexed => {
                let store = root.join(format!("index{l}"));
                if !store.exists() {
                    std::fs::create_dir(&store).expect("a directory");
                    let built = index::scan(&diff, index::ScanOptions::default());
                    let to = Dir::open(&store).expect("a directory");
                    built.expect("entries").finish(&to, INDEX_NAME).expect("an index");
                }
                let dir = Dir::open(&store).expect("a directory");
                let index = Arc::new(Index::open(&dir, INDEX_NAME).expect("an index"));
                Lower::Indexed { index, diff: diff.into() }
            }
        }
    });
    let dir = |name| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir::open(&path).expect("a directory")
    };
    let upper = writable.then(|| Upper { dir: dir("upper"), work: dir("work") });
    let stack = Stack { lowers: lowers.collect(), data_only: Vec::new(), upper };
    let o = Overlay::new(stack, Options::default()).expect("a view");
    // as in a mount with `fsync=auto`: copies wait for the disk together, not each by itself
    o.settle_later();
    o
}

fn find(o: &Overlay, path: &str) -> Attr {
    let mut at = Ino::ROOT;
    let mut found = None;
    for part in path.split('/') {
        let name = Name::new(part.as_bytes()).expect("a name");
        let attr = o.lookup(at, name).expect("an entry");
        at = attr.ino;
        found = Some(attr);
    }
    found.expect("a path")
}

/// Returns how many entries a directory has.
fn list(o: &Overlay, dir: Ino) -> usize {
    let (mut count, mut cookie) = (0, 0);
    loop {
        let before = count;
        o.readdir(dir, cookie, &mut |e| {
            cookie = e.cookie;
            count += 1;
            true
        })
        .expect("a listing");
        if count == before {
            return count;
        }
    }
}

fn merge(c: &mut Criterion) {
    for (size, count, files) in [("12", 12, 1000), ("128", 128, 100), ("400", 400, 30)] {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        layers(tmp.path(), count, files);
        for (name, form) in FORMS {
            let bottom = format!("shared/layer{}-file-000007.txt", count - 1);
            c.bench_function(&format!("first-lookup/{name}/{size}-layers"), |b| {
                b.iter_batched(
                    || view(tmp.path(), count, form, false),
                    |o| {
                        find(&o, &bottom);
                        o
                    },
                    BatchSize::PerIteration,
                );
            });
            c.bench_function(&format!("first-readdir/{name}/{size}-layers"), |b| {
                b.iter_batched(
                    || {
                        let o = view(tmp.path(), count, form, false);
                        let dir = find(&o, "shared").ino;
                        (o, dir)
                    },
                    |(o, dir)| {
                        assert_eq!(list(&o, dir), count * files + 2, "with . and ..");
                        o
                    },
                    BatchSize::PerIteration,
                );
            });
            let o = view(tmp.path(), count, form, false);
            let dir = find(&o, "shared").ino;
            c.bench_function(&format!("lookup/{name}/{size}-layers"), |b| {
                b.iter(|| find(&o, &bottom));
            });
            c.bench_function(&format!("readdir/{name}/{size}-layers"), |b| {
                b.iter(|| list(&o, dir));
            });
        }
    }
}

/// What a change of a lower file costs for the first time.
fn copy_up(c: &mut Criterion) {
    for (size, bytes, files) in [("4KiB", 4 << 10, 4000), ("16MiB", 16 << 20, 40)] {
        for (what, write) in [("write", true), ("chmod", false)] {
            let tmp = tempfile::tempdir().expect("a temporary directory");
            let dir = tmp.path().join("l0/d");
            std::fs::create_dir_all(&dir).expect("a directory");
            for f in 0..files {
                std::fs::write(dir.join(f.to_string()), vec![7; bytes]).expect("a file");
            }
            let o = view(tmp.path(), 1, Form::Plain, true);
            // each file can be copied once: when there is none left, the upper starts anew
            let (mut next, mut view_now) = (0, o);
            c.bench_function(&format!("copy-up/{what}/{size}"), |b| {
                b.iter_custom(|times| {
                    let mut total = std::time::Duration::ZERO;
                    for _ in 0..times {
                        if next == files {
                            view_now.settle_all();
                            for d in ["upper", "work"] {
                                std::fs::remove_dir_all(tmp.path().join(d)).expect("removed");
                            }
                            view_now = view(tmp.path(), 1, Form::Plain, true);
                            next = 0;
                        }
                        let ino = find(&view_now, &format!("d/{next}")).ino;
                        next += 1;
                        let start = std::time::Instant::now();
                        if write {
                            let mode = OpenMode { write: true, ..OpenMode::default() };
                            let fh = view_now.open(ino, mode).expect("open");
                            view_now.write(fh, 0, b"new", false).expect("written");
                            view_now.release(fh);
                        } else {
                            let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
                            view_now.setattr(ino, None, &set).expect("changed");
                        }
                        total += start.elapsed();
                        if next % 64 == 0 {
                            view_now.settle_all();
                        }
                    }
                    total
                });
            });
            // creation beside it, for comparison
            if write && bytes < 1 << 20 {
                let d = find(&view_now, "d").ino;
                let mut n = 0;
                c.bench_function("create-and-write/4KiB", |b| {
                    b.iter(|| {
                        n += 1;
                        let name = format!("new-{n}");
                        let name = Name::new(name.as_bytes()).expect("a name");
                        let mode = OpenMode { write: true, ..OpenMode::default() };
                        let (_, fh) =
                            view_now.create(CALLER, d, name, 0o644, 0o022, mode).expect("made");
                        view_now.write(fh, 0, &[7; 4096], false).expect("written");
                        view_now.release(fh);
                    });
                });
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = merge, copy_up
}
criterion_main!(benches);
