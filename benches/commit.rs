//! Commit of small and large changes in containers of a small and a large image, beside `tar` of
//! the same changes through `sha256sum`: the time is that of the change, whatever the image.
//!
//!     cargo bench --bench commit
//!
//! `STRATAFS_BENCH_ROUNDS` says how often (5); `TMPDIR` says on which file system. The runs are
//! interleaved, and each commit ends with a sync of the file system, so that each begins with
//! nothing left to write.

#![allow(clippy::print_stdout)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use stratafs::commit::{CommitOptions, NewStep, commit};
use stratafs::image::{Input, SourceOptions, open_source};
use stratafs::import::{ImportOptions, Imported, Silent, import};
use stratafs::store::{Container, Store};
use stratafs::sys::{Dir, Time};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How many files the images hold.
const IMAGES: [usize; 2] = [1000, 40_000];

/// What is changed: a name, how many files, and the length of each in bytes.
const CHANGES: [(&str, usize, usize); 3] = [
    ("one file", 1, 100),
    ("2,000 files of 4 KiB", 2000, 4096),
    ("one file of 64 MiB", 1, 64 << 20),
];

fn image(tmp: &Path, files: usize) -> Result<(Store, Imported)> {
    let layout = tmp.join(format!("layout-{files}"));
    support::layout(&layout, std::iter::once(support::layer(0, files, 200)?))?;
    let store = Store::open(&tmp.join(format!("store-{files}")), true)?;
    let options = SourceOptions::new(Dir::open(store.root())?);
    let source = open_source(Input::Path(layout), &options)?;
    let mut report = import(&store, source.images, &ImportOptions::new(&Silent))?;
    match (report.failed.pop(), report.imported.pop()) {
        (Some(e), _) => Err(e.into()),
        (None, image) => Ok((store, image.ok_or("no image")?)),
    }
}

/// Makes a container with these changes; returns it with the directory of its writable layer.
fn container(
    (store, image): &(Store, Imported),
    files: usize,
    len: usize,
) -> Result<(Container, PathBuf)> {
    let lock = store.import_lock()?;
    let c = store.create_container(&lock, &image.id, image.layers.last(), None)?;
    let upper = store.root().join("overlay2").join(c.mount.as_str()).join("diff");
    for i in 0..files {
        std::fs::write(upper.join(format!("new-{i}")), vec![i as u8; len])?;
    }
    Ok((c, upper))
}

fn ours(store: &Store, container: &Container) -> Result<Duration> {
    store.sync()?;
    let step = NewStep {
        created: Time::now(),
        created_by: "bench".to_owned(),
        author: None,
        message: None,
        changes: Vec::new(),
    };
    let options = CommitOptions { reference: None, step, observer: &Silent };
    let begin = Instant::now();
    commit(store, container, &options)?;
    Ok(begin.elapsed())
}

fn tar(upper: &Path) -> Result<Duration> {
    let script = "tar c . | sha256sum";
    let begin = Instant::now();
    let done = Command::new("sh").args(["-c", script]).current_dir(upper).output()?;
    if done.status.success() { Ok(begin.elapsed()) } else { Err("tar failed".into()) }
}

fn main() -> Result<()> {
    if !std::env::args().any(|a| a == "--bench") {
        println!("commit: a bench; run it with `cargo bench --bench commit`");
        return Ok(());
    }
    let tmp = tempfile::tempdir()?;
    let images: Vec<(Store, Imported)> =
        IMAGES.iter().map(|files| image(tmp.path(), *files)).collect::<Result<_>>()?;
    println!(
        "{:<24} {:>8} {:>16} {:>16} {:>16}",
        "change", "image", "commit, best ms", "middle", "tar|sha256"
    );
    for (name, files, len) in CHANGES {
        let mut times = vec![(Vec::new(), Vec::new()); images.len()];
        for _ in 0..support::rounds(5) {
            for (image, (commits, tars)) in images.iter().zip(&mut times) {
                // a layer that is there already would not be made again
                let (c, upper) = container(image, files, len)?;
                std::fs::write(upper.join("round"), tars.len().to_string())?;
                commits.push(ours(&image.0, &c)?);
                tars.push(tar(&upper)?);
            }
        }
        for (size, (mut commits, mut tars)) in IMAGES.iter().zip(times) {
            let ((best, middle), (tar, _)) =
                (support::summary(&mut commits), support::summary(&mut tars));
            println!("{name:<24} {size:>8} {best:>16.1} {middle:>16.1} {tar:>16.1}");
        }
    }
    Ok(())
}
