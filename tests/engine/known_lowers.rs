//! Lower directories of which a snapshot is asked in the place of the disk.

use crate::support::{Form, Layers, View};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stratafs::overlay::{Attr, Ino, Lower, LowerChanges, Options, Overlay, Stack, Upper};
use stratafs::snapshot::{Believed, Slot};
use stratafs::sys::Dir;

fn layers() -> Layers {
    Layers::new(&[&["d d", "f d/f low", "d d/sub", "f d/sub/g g", "l link d/f"]])
}

/// A view of the layer `l0` that finds its snapshot in `slot`.
fn over(l: &Layers, slot: &Slot, lower_changes: LowerChanges) -> View {
    let dir = |n: &str| Dir::open(l.tmp.path().join(n)).unwrap();
    let lowers = vec![Lower::Known { dir: dir("l0"), snapshot: slot.clone() }];
    let upper = Some(Upper { dir: dir("u"), work: dir("w") });
    let stack = Stack { lowers, data_only: Vec::new(), upper };
    View { fs: Overlay::new(stack, Options { lower_changes, ..Options::default() }).unwrap() }
}

fn fill(slot: &Slot, believed: Believed) {
    assert!(slot.set(believed).is_ok());
}

/// Names, types, targets and attributes of all that a view shows.
fn tree(v: &View) -> Vec<String> {
    let mut out: Vec<String> = ["d", "d/f", "d/sub", "d/sub/g", "link"]
        .iter()
        // whoever looks at a link may move its time of access
        .map(|path| v.stat(path).map(|a| Attr { atime: a.mtime, ..a }))
        .map(|attr| format!("{attr:?}"))
        .collect();
    out.push(format!("{:?}", v.fs.readlink(v.ino("link").unwrap())));
    out
}

#[test]
fn names_and_attributes_are_not_read_from_the_disk() {
    let l = layers();
    let v = l.open(Form::Known);
    let wanted = tree(&l.open_with(Form::Plain, Options::default(), false));
    // nobody does this to a layer in use; but so it shows who is asked
    std::fs::rename(l.tmp.path().join("l0/d"), l.tmp.path().join("away")).unwrap();
    std::fs::remove_file(l.tmp.path().join("l0/link")).unwrap();
    assert_eq!(tree(&v), wanted);
    assert_eq!(v.fs.known_lowers(), 1);
    assert!(v.read("d/f").is_err(), "content comes from the disk alone");
}

#[test]
fn who_began_without_a_snapshot_goes_on_with_it() {
    for first in ["", "d", "d/sub/g", "link"] {
        let l = layers();
        let slot = Slot::default();
        let v = over(&l, &slot, LowerChanges::Ignore);
        assert_eq!(v.fs.known_lowers(), 0);
        let before = v.stat(first).unwrap();
        fill(&slot, Believed::compared(l.take_snapshot(0)));
        assert_eq!(v.fs.known_lowers(), 1);
        assert_eq!(v.stat(first).unwrap(), before, "{first:?}");
        assert_eq!(tree(&v), tree(&l.open_with(Form::Plain, Options::default(), false)));
        v.append("d/f", b"er").unwrap();
        assert_eq!(v.text("d/f"), "lower");
        l.check_untouched();
    }
}

#[test]
fn who_watches_the_lowers_asks_the_disk() {
    for mode in [LowerChanges::Watch, LowerChanges::Timeout] {
        let l = layers();
        let slot = Slot::default();
        fill(&slot, Believed::compared(l.take_snapshot(0)));
        let v = over(&l, &slot, mode);
        std::fs::write(l.lowers[0].join("d/new"), "new").unwrap();
        assert_eq!(v.text("d/new"), "new", "{mode:?}");
        assert_eq!(v.fs.known_lowers(), 0);
    }
}

#[test]
fn by_word_an_opened_file_must_be_as_it_was() {
    let l = layers();
    let told = Arc::new(AtomicUsize::new(0));
    let slot = Slot::default();
    let tell = told.clone();
    let count = move || {
        tell.fetch_add(1, Ordering::Relaxed);
    };
    fill(&slot, Believed::by_word(l.take_snapshot(0), count));
    let v = over(&l, &slot, LowerChanges::Ignore);
    assert_eq!(v.text("d/f"), "low");
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let (g, before) = (l.lowers[0].join("d/sub/g"), inode(&l.lowers[0].join("d/sub/g")));
    std::fs::write(&g, "longer").unwrap();
    assert_eq!(inode(&g), before);
    for _ in 0..2 {
        assert_eq!(v.text("d/sub/g"), format!("E{}", stratafs::sys::Errno::STALE.raw()));
        assert_eq!(told.load(Ordering::Relaxed), 1, "told once");
    }
    // nor is it copied up
    assert!(v.append("d/sub/g", b"x").is_err());
    assert!(!l.upper().join("d/sub/g").exists());
    assert_eq!(v.text("d/f"), "low");
    assert!(v.stat("").unwrap().ino == Ino::ROOT);
}
