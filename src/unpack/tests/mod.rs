//! Layers unpacked to disk and looked at.

mod disk;
mod forms;
mod hostile;
mod links;

use super::testing::*;
use super::*;
use crate::sys::{OpenFlags, major, makedev};
use std::io::Write as _;

fn base() -> Layer {
    let entries = [
        dir("d").mode(0o750).owner(5, 6).mtime(77).xattr("user.x", "1"),
        file("d/a", "low a"),
        file("d/b", "low b"),
        dir("d/sub"),
        file("d/sub/c", "low c"),
        file("f", "low f"),
        symlink("l", "d"),
    ];
    layer(&entries, &[]).unwrap()
}

fn upon(base: &Layer, entries: &[T]) -> Vec<String> {
    layer(entries, &[base]).unwrap().paths()
}

fn refused(entries: &[T]) -> String {
    match layer(entries, &[&base()]) {
        Err(e) => e.to_string(),
        Ok(l) => panic!("accepted: {:?}", l.paths()),
    }
}

#[test]
fn a_plain_layer_comes_out_as_it_went_in() {
    let b = base();
    assert_eq!(b.paths(), ["d", "d/a", "d/b", "d/sub", "d/sub/c", "f", "l"]);
    let d = b.node("d");
    assert_eq!((d.mode, d.uid, d.gid, d.mtime.sec, d.implied), (0o750, 5, 6, 77, false));
    assert_eq!(b.index.xattrs(d.id).collect::<Vec<_>>(), [(&b"user.x"[..], &b"1"[..])]);
    assert_eq!(b.index.symlink_target(b.node("l").id), b"d");
    assert_eq!(b.content("d/sub/c"), b"low c");
    assert_eq!(b.size, 5 * 4 + 1, "files and the symlink, no directories");
    assert_eq!(b.diff.stat(b"d").unwrap().mtime.sec, 77);
}

#[test]
fn markers_affect_lower_layers_only_in_any_order() {
    let b = base();
    assert_eq!(upon(&b, &[marker(".wh.f"), file("f", "n")]), ["f"]);
    assert_eq!(upon(&b, &[file("f", "n"), marker(".wh.f")]), ["f"]);
    for entries in [
        &[marker(".wh.d"), dir("d"), file("d/n", "")][..],
        &[dir("d"), file("d/n", ""), marker(".wh.d")],
        &[file("d/n", ""), marker("d/.wh..wh..opq"), dir("d")],
        &[marker("d/.wh..wh..opq"), marker("d/.wh.a"), file("d/n", "")],
        &[marker(".wh.d"), marker("d/.wh.a"), file("d/n", "")],
        &[marker("d/.wh.a"), marker(".wh.d"), file("d/n", "")],
    ] {
        assert_eq!(upon(&b, entries), ["!d", "d/n"]);
    }
    assert_eq!(upon(&b, &[marker("d/.wh.a"), marker(".wh.d")]), ["-d"]);
    assert_eq!(upon(&b, &[marker(".wh.f"), dir("f")]), ["f"], "nothing of f can come back");
    assert_eq!(upon(&b, &[file("d", "now"), marker("d/.wh.a")]), ["d"]);
}

#[test]
fn markers_without_anything_to_hide_are_left_out() {
    let b = base();
    let none: [&str; 0] = [];
    assert_eq!(upon(&b, &[marker(".wh.nothing")]), none);
    assert_eq!(upon(&b, &[marker("no/.wh.x"), marker("nope/.wh..wh..opq")]), none);
    assert_eq!(upon(&b, &[marker("d/.wh.nothing"), marker("f/.wh.x")]), none);
    assert_eq!(upon(&b, &[dir("d"), marker("d/.wh.nothing")]), ["d"]);
    assert_eq!(upon(&b, &[dir("new"), marker("new/.wh.x"), marker("new/.wh..wh..opq")]), ["new"]);
    let gone = layer(&[marker(".wh.d")], &[&b]).unwrap();
    assert_eq!(layer(&[marker(".wh.d")], &[&gone, &b]).unwrap().paths(), none);
    let again = layer(&[marker("d/.wh.a"), file("d/n", "")], &[&gone, &b]).unwrap();
    assert_eq!(again.paths(), ["d", "d/n"]);
}

#[test]
fn parents_without_an_entry_look_as_below() {
    let b = base();
    for entries in [&[file("d/n", "")][..], &[marker("d/.wh.a")], &[marker("d/.wh..wh..opq")]] {
        let l = layer(entries, &[&b]).unwrap();
        let d = l.node("d");
        assert_eq!((d.mode, d.uid, d.gid, d.mtime.sec), (0o750, 5, 6, 77));
        assert!(d.implied && d.has_xattrs);
        let top = layer(&[file("d/m", "")], &[&l, &b]).unwrap();
        assert_eq!(top.node("d").uid, 5, "through another implied one");
    }
    let l = layer(&[file("p/q/f", "").mtime(99)], &[&b]).unwrap();
    let p = l.node("p");
    assert_eq!((p.mode, p.uid, p.gid, p.mtime.sec, p.implied), (0o755, 0, 0, 99, true));
    assert_eq!(upon(&b, &[file("l/f", "")]), ["l", "l/f"], "a link of a lower layer gives way");
}

#[test]
fn an_opaque_root_becomes_marks_on_its_names() {
    let b = base();
    assert_eq!(upon(&b, &[marker(".wh..wh..opq"), file("d/n", "")]), ["!d", "d/n", "-f", "-l"]);
}

#[test]
fn markers_reach_the_disk() {
    let b = base();
    let entries = [marker(".wh.f"), marker(".wh.d"), dir("d"), marker("d/.wh.a"), file("d/n", "")];
    let l = layer(&entries, &[&b]).unwrap();
    assert!(l.diff.stat(b"f").unwrap().is_whiteout_device());
    assert_eq!(l.diff.get_xattr(b"d", b"user.overlay.opaque").unwrap().unwrap(), b"y");
    assert_eq!(l.diff.open_dir(b"d").unwrap().list().unwrap().len(), 1);
    // the scan of the directory finds what the tar said
    let found = crate::index::scan(&l.diff, crate::index::ScanOptions::default()).unwrap();
    found.finish(&l.meta, b"scanned").unwrap();
    let scanned = Index::open(&l.meta, b"scanned").unwrap();
    assert_eq!((scanned.whiteouts(), scanned.opaque_dirs(), scanned.len()), (1, 1, 4));
}

#[test]
fn the_last_of_two_entries_wins() {
    let entries = [
        file("x", "first"),
        file("./x", "second"),
        dir("d").mode(0o700),
        file("d/in", "kept"),
        dir("d").mode(0o711),
        dir("gone"),
        file("gone/deep", "data of a file that goes"),
        file("gone", "now a file"),
        symlink("s", "x"),
        file("s", "not through the link"),
        file("t", "linked"),
        hard("h", "t"),
        file("t", "replaced"),
        dir("y"),
        file("y/a", "held"),
        hard("y", "y/a"),
        marker(".wh.w"),
        marker(".wh.w"),
    ];
    let l = layer(&entries, &[]).unwrap();
    assert_eq!(l.paths(), ["d", "d/in", "gone", "h", "s", "t", "x", "y"]);
    assert_eq!(l.content("x"), b"second");
    assert_eq!(l.content("s"), b"not through the link");
    assert_eq!((l.content("h"), l.content("t")), (b"linked".to_vec(), b"replaced".to_vec()));
    assert_eq!(l.content("y"), b"held");
    assert_eq!(l.node("d").mode, 0o711);
    // what a file hid in between stays hidden
    let b = base();
    assert_eq!(upon(&b, &[file("d", ""), dir("d")]), ["!d"]);
    assert_eq!(upon(&b, &[dir("d"), symlink("d", "f"), file("d/n", "")]), ["!d", "d/n"]);
}

#[test]
fn hard_links_stay_in_the_layer() {
    let l = layer(
        &[file("a", "x"), dir("d"), hard("d/b", "/a"), symlink("s", "a"), hard("t", "s")],
        &[],
    )
    .unwrap();
    assert_eq!(l.index.links(l.node("a").id).len(), 2);
    assert_eq!((l.node("a").nlink, l.size), (2, 1 + 1));
    assert_eq!(l.index.symlink_target(l.node("t").id), b"a", "of the link, not of what it names");
    assert!(refused(&[hard("h", "../../etc/passwd")]).contains("h: "));
    assert!(refused(&[symlink("s", "/etc"), hard("h", "s/passwd")]).contains("h: "));
    assert!(refused(&[dir("x"), hard("h", "x")]).contains("the directory x"));
    assert!(refused(&[hard("h", ".")]).contains("the directory"));
}

#[test]
fn aufs_leftovers_are_never_seen() {
    let b = base();
    let entries = [
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "pseudo link").mode(0o640),
        hard("one", ".wh..wh.plnk/1.2"),
        hard("two", ".wh..wh.plnk/1.2"),
        hard(".wh.f", ".wh..wh.aufs"),
        file("d/.wh.a", "not empty"),
    ];
    let l = layer(&entries, &[&b]).unwrap();
    assert_eq!(l.paths(), ["d", "-d/a", "-f", "one", "two"]);
    assert_eq!((l.content("one"), l.node("two").nlink), (b"pseudo link".to_vec(), 2));
    assert_eq!(l.node("one").mode, 0o640);
}
