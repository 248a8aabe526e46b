//! An import that is killed at any moment leaves a store that the next import makes whole.

use super::archive::{Image, Tar};
use super::support::{Bench, assert_same, snapshot};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stratafs::store::Store;

const STORE: &str = "STRATAFS_TEST_KILL_STORE";
const ARCHIVE: &str = "STRATAFS_TEST_KILL_ARCHIVE";

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let (Some(store), Some(archive)) = (std::env::var_os(STORE), std::env::var_os(ARCHIVE)) else {
        return;
    };
    import(Path::new(&store), Path::new(&archive));
}

fn import(root: &Path, archive: &Path) {
    use stratafs::image::{Input, SourceOptions, open_source};
    use stratafs::import::{ImportOptions, Silent, import};
    let store = Store::open(root, true).unwrap();
    let options = SourceOptions::new(stratafs::sys::Dir::open(root).unwrap());
    let source = open_source(Input::Path(archive.to_owned()), &options).unwrap();
    let report = import(&store, source.images, &ImportOptions::new(&Silent)).unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

fn spawn(store: &Path, archive: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--quiet"])
        .env(STORE, store)
        .env(ARCHIVE, archive)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_next_import_makes_it_whole() {
    let layers = (0..8u8).map(|i| {
        let mut tar = Tar::new().dir("d/").file("d/same", vec![i; 5000]);
        for f in 0..120 {
            tar = tar.file(&format!("d/{i}-{f}"), vec![i; 2000]);
        }
        tar.file(&format!("d/.wh.{}-1", i.wrapping_sub(1)), "").end()
    });
    let image = Image::new("killed", layers.collect());
    let b = Bench::new();
    let archive = b.write("a.tar", &image.docker_skopeo());
    import(&b.path("whole"), &archive);
    let whole = snapshot(&b.path("whole"));

    let begin = Instant::now();
    assert!(spawn(&b.path("timed"), &archive).wait().unwrap().success());
    let usual = begin.elapsed();
    let rounds = 24;
    let mut unfinished = 0;
    for i in 0..rounds {
        let root = b.path(&format!("store-{i}"));
        let mut child = spawn(&root, &archive);
        std::thread::sleep(usual.mul_f64(f64::from(i) / f64::from(rounds)));
        child.kill().unwrap();
        child.wait().unwrap();
        // what is visible now is whole, without any repair
        if root.exists() && Store::open(&root, false).is_ok() {
            let store = Store::open(&root, false).unwrap();
            for id in store.image_ids().unwrap() {
                assert!(store.image_config(&id).unwrap().is_some());
            }
            for layer in store.layers().unwrap() {
                store.diff_dir(&layer.cache).unwrap();
            }
        }
        unfinished += u32::from(!root.exists() || snapshot(&root) != whole);
        import(&root, &archive);
        assert_same(&snapshot(&root), &whole, &format!("killed after {i}/{rounds}"));
    }
    // else the child was always too fast, and nothing was shown
    assert!(unfinished > 0);
    assert!(usual > Duration::ZERO);
}
