//! From the start of `stratafs mount` until it returns, which is when the mount is ready: images
//! of 12, 60 and 400 layers from the store, and the same layers as plain directories.
//!
//!     cargo bench --bench mount
//!
//! At the end, of the first two, how much of the program comes from disk before a mount is ready where
//! nothing of it is in memory: what `src/start.ld` keeps small.
//!
//! The images are made up and imported into a temporary store. `STRATAFS_BENCH_ROUNDS` says how
//! often each is mounted (15).

#![allow(clippy::print_stdout)]

mod support;

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use stratafs::id::ChainId;
use stratafs::image::{Input, SourceOptions, open_source};
use stratafs::import::{ImportOptions, Silent, import};
use stratafs::store::Store;
use stratafs::sys::{Dir, raise_open_files};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stratafs");
const FILES: usize = 50;

/// Imports an image of so many layers and returns the top one.
fn image(tmp: &Path, store: &Store, layers: usize) -> Result<Option<ChainId>> {
    let layout = tmp.join(format!("layout-{layers}"));
    let made: std::io::Result<Vec<_>> =
        (0..layers).map(|i| support::layer(i, FILES, 100)).collect();
    support::layout(&layout, made?.into_iter())?;
    let source = open_source(Input::Path(layout), &SourceOptions::new(Dir::open(store.root())?))?;
    let name = Some(format!("bench:{layers}").parse()?);
    let options = ImportOptions { name, ..ImportOptions::new(&Silent) };
    let mut report = import(store, source.images, &options)?;
    match report.failed.pop() {
        Some(e) => Err(e.into()),
        None => Ok(report.imported.pop().and_then(|i| i.layers.last().copied())),
    }
}

fn run(program: &Path, args: &[OsString]) -> Result<Output> {
    // the daemon keeps what it is not told to close: pipes would wait for its end
    Ok(Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).output()?)
}

/// Mounts and unmounts again and again; `None`, with a printed reason, where it cannot be done.
fn measure(what: &str, args: &[OsString], at: &Path) -> Result<Option<Vec<Duration>>> {
    let mut times = Vec::new();
    for _ in 0..support::rounds(15) {
        let begin = Instant::now();
        let done = run(PROGRAM.as_ref(), args)?;
        let took = begin.elapsed();
        if !done.status.success() {
            println!("{what}: not measured: {}", String::from_utf8_lossy(&done.stderr).trim());
            return Ok(None);
        }
        times.push(took);
        let ready = at.join("shared").is_dir();
        let done = run(PROGRAM.as_ref(), &["umount".into(), at.into()])?;
        if !ready || !done.status.success() {
            return Err(format!("{what}: the mount was not ready or did not end").into());
        }
    }
    Ok(Some(times))
}

/// Returns how many bytes of a file are in the page cache; `None` without util-linux's fincore.
fn in_page_cache(file: &Path) -> Option<u64> {
    let args = ["--bytes", "--noheadings", "--output", "RES"];
    let told = Command::new("fincore").args(args).arg(file).output().ok()?;
    String::from_utf8(told.stdout).ok()?.trim().parse().ok()
}

/// Mounts with a copy of the program of which nothing is in the page cache, and prints how much is then.
fn read_of_program(what: &str, args: &[OsString], at: &Path, copy: &Path) -> Result<()> {
    std::fs::copy(PROGRAM, copy)?;
    let file = File::open(copy)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    if in_page_cache(copy) != Some(0) {
        println!("{what}: no fincore, or a file system that is always in memory");
        return Ok(());
    }
    let done = run(copy, args)?;
    let read = in_page_cache(copy).unwrap_or_default();
    let ended = run(copy, &["umount".into(), at.into()])?;
    if !done.status.success() || !ended.status.success() {
        return Err(format!("{what}: the mount failed or did not end").into());
    }
    println!("{what:<26} {:>5} of {} KiB", read >> 10, file.metadata()?.len() >> 10);
    Ok(())
}

fn main() -> Result<()> {
    if !std::env::args().any(|a| a == "--bench") {
        println!("mount: a bench; run it with `cargo bench --bench mount`");
        return Ok(());
    }
    let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(e) = fuse {
        println!("mount: not measured: /dev/fuse: {e}");
        return Ok(());
    }
    println!("open files: {}", raise_open_files());
    let tmp = tempfile::tempdir()?;
    let root = tmp.path().join("store");
    let store = Store::open(&root, true)?;
    let at = tmp.path().join("m");
    std::fs::create_dir(&at)?;
    println!("from process start to a ready mount; {FILES} files in each layer");
    let mut first = Vec::new();
    for layers in [12, 60, 400] {
        let Some(top) = image(tmp.path(), &store, layers)? else { continue };
        let chain = store.chain(&top)?;
        let diff = |l: &stratafs::store::Layer| {
            root.join("overlay2").join(l.cache.as_str()).join("diff").into_os_string()
        };
        let dirs: Vec<OsString> = chain.iter().rev().map(diff).collect();
        let mut lowerdir = OsString::from("lowerdir=");
        lowerdir.push(dirs.join(":".as_ref()));
        let name = format!("bench:{layers}");
        let from_store: Vec<OsString> = vec![
            "--root".into(),
            root.clone().into(),
            "mount".into(),
            name.into(),
            at.clone().into(),
        ];
        let from_dirs: Vec<OsString> = vec!["-o".into(), lowerdir, at.clone().into()];
        for (form, args) in [("store image", from_store), ("-o lowerdir", from_dirs)] {
            let what = format!("{layers:>3} layers, {form}");
            if layers == 12 {
                first.push((what.clone(), args.clone()));
            }
            if let Some(mut times) = measure(&what, &args, &at)? {
                let (best, middle) = support::summary(&mut times);
                println!("{what:<26} best {best:>6.1} ms   middle {middle:>6.1} ms");
            }
        }
    }
    println!("the program from disk, until the mount is ready");
    for (what, args) in first {
        read_of_program(&what, &args, &at, &tmp.path().join("stratafs"))?;
    }
    Ok(())
}
