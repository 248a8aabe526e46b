//! Import beside `tar xzf`, and `umoci unpack` if it is installed, of the same layers.
//!
//!     cargo bench --bench import
//!
//! Nothing from outside is needed: five layers are made up. With
//! `STRATAFS_BENCH_IMAGE=DIR[:TAG]`, an OCI layout directory, its image is used instead;
//! `STRATAFS_BENCH_ROUNDS` says how often (5); `TMPDIR` says on which file system.
//!
//! The runs are interleaved, and each begins with nothing left to write. Importing ends with a
//! sync of the file system: it is timed with and without, and so is tar. MB are those of the
//! uncompressed layers.

#![allow(clippy::print_stdout)]

mod support;

use parking_lot::Mutex;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stratafs::image::{Input, SourceOptions, open_source};
use stratafs::import::{ImportOptions, Observer, import};
use stratafs::store::Store;
use stratafs::sys::Dir;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Notes when nothing but the commit is left.
#[derive(Debug, Default)]
struct Watch(Mutex<Option<Instant>>);

impl Observer for Watch {
    fn committing(&self) {
        *self.0.lock() = Some(Instant::now());
    }
}

fn ours(layout: &Path, tag: Option<&str>, to: &Path) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let store = Store::open(&to.join("store"), true)?;
    let reference = tag.map(str::to_owned);
    let options = SourceOptions { reference, ..SourceOptions::new(Dir::open(store.root())?) };
    let source = open_source(Input::Path(layout.to_owned()), &options)?;
    let images = source.images.into_iter().take(1).collect();
    let watch = Watch::default();
    if let Some(e) = import(&store, images, &ImportOptions::new(&watch))?.failed.pop() {
        return Err(e.into());
    }
    let end = Instant::now();
    let unsynced = watch.0.lock().unwrap_or(end);
    Ok((unsynced - begin, end - begin))
}

fn tar(blobs: &[PathBuf], to: &Path) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    for (i, blob) in blobs.iter().enumerate() {
        let dir = to.join(i.to_string());
        std::fs::create_dir(&dir)?;
        let status = Command::new("tar").arg("xzf").arg(blob).arg("-C").arg(&dir).status()?;
        if !status.success() {
            return Err("tar failed".into());
        }
    }
    let unsynced = begin.elapsed();
    Dir::open(to)?.sync_file_system()?;
    Ok((unsynced, begin.elapsed()))
}

/// Returns nothing if umoci is not installed.
fn umoci(layout: &Path, tag: &str, to: &Path) -> Result<Option<Duration>> {
    let begin = Instant::now();
    let mut image = layout.as_os_str().to_owned();
    image.push(format!(":{tag}"));
    let mut command = Command::new("umoci");
    command.args(["unpack", "--rootless", "--image"]).arg(image).arg(to.join("bundle"));
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(Some(begin.elapsed())),
        Ok(_) => Err("umoci failed".into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// An empty directory, and nothing to write on its file system. All are kept to the end: ext4 is
/// slow to make files where others were deleted a short time before, and that would be timed.
fn fresh(tmp: &Path) -> Result<PathBuf> {
    let dir = tempfile::tempdir_in(tmp)?.keep();
    Dir::open(tmp)?.sync_file_system()?;
    Ok(dir)
}

fn uncompressed(blobs: &[PathBuf]) -> Result<u64> {
    let mut sum = 0;
    for blob in blobs {
        let file = std::io::BufReader::new(std::fs::File::open(blob)?);
        let mut gz = flate2::bufread::MultiGzDecoder::new(file);
        sum += std::io::copy(&mut gz.by_ref(), &mut std::io::sink())?;
    }
    Ok(sum)
}

fn main() -> Result<()> {
    if !std::env::args().any(|a| a == "--bench") {
        println!("import: a bench; run it with `cargo bench --bench import`");
        return Ok(());
    }
    let tmp = tempfile::tempdir()?;
    let (layout, tag) = match std::env::var("STRATAFS_BENCH_IMAGE") {
        Ok(given) => match given.rsplit_once(':') {
            Some((dir, tag)) => (PathBuf::from(dir), Some(tag.to_owned())),
            None => (PathBuf::from(given), None),
        },
        Err(_) => {
            let made = tmp.path().join("layout");
            let sizes = [(2400, 12_000), (1200, 12_000), (40, 6_000), (5, 500), (400, 12_000)];
            let layers = sizes.iter().enumerate().map(|(i, (n, len))| support::layer(i, *n, *len));
            let layers: std::io::Result<Vec<_>> = layers.collect();
            support::layout(&made, layers?.into_iter())?;
            (made, Some(support::REF.to_owned()))
        }
    };
    let tag = tag.as_deref();
    let blobs = support::blobs(&layout, tag)?;
    let bytes = uncompressed(&blobs)?;
    let (mut a, mut a_sync, mut b, mut b_sync, mut c) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..support::rounds(5) {
        let (plain, synced) = ours(&layout, tag, &fresh(tmp.path())?)?;
        a.push(plain);
        a_sync.push(synced);
        let (plain, synced) = tar(&blobs, &fresh(tmp.path())?)?;
        b.push(plain);
        b_sync.push(synced);
        if let Some(tag) = tag {
            c.extend(umoci(&layout, tag, &fresh(tmp.path())?)?);
        }
    }
    println!("{} layers, {:.1} MB; the best and the middle run", blobs.len(), bytes as f64 / 1e6);
    for (what, mut times) in [
        ("stratafs import, before its sync", a),
        ("stratafs import", a_sync),
        ("tar xzf, one after the other", b),
        ("tar xzf, then sync -f", b_sync),
        ("umoci unpack --rootless", c),
    ] {
        if times.is_empty() {
            println!("{what:<34} not measured: not installed, or no tag given");
            continue;
        }
        let (best, middle) = support::summary(&mut times);
        let speed = |ms: f64| bytes as f64 / 1e3 / ms;
        println!(
            "{what:<34} {best:>7.0} ms {:>6.0} MB/s   {middle:>7.0} ms {:>6.0} MB/s",
            speed(best),
            speed(middle)
        );
    }
    Ok(())
}
