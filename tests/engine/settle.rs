//! Copies that get their name before they are on disk, and copies that take long.

use crate::support::{Form, Layers, View, armed, dialect_key, name};
use std::sync::Arc;
use stratafs::overlay::failpoint::Failpoints;
use stratafs::overlay::{Ino, OpenMode, Options, RenameMode, SetAttr};
use stratafs::sys::{Dir, OpenFlags};

const PAGE: usize = 4096;
const NOTE: &str = "w/work/stratafs.unsettled";

fn big() -> String {
    (0..8 * PAGE).map(|i| char::from(b'a' + (i / PAGE) as u8)).collect()
}

fn layers() -> Layers {
    let of = |n| format!("f {n} {}", big());
    Layers::new(&[&[&of("f"), &of("g"), &of("h"), "d d", "f d/x x"]])
}

/// Returns a view that lets copies wait, if the file system here allows it.
fn waiting(l: &Layers, form: Form, options: Options) -> Option<View> {
    let v = l.open_with(form, options, true);
    let able = v.fs.settle_later();
    if !able {
        skipped("a crash may leave anything on this file system");
    }
    able.then_some(v)
}

#[allow(clippy::print_stdout)]
fn skipped(why: &str) {
    println!("skipped: {why}");
}

type Change = fn(&View);

fn mark(l: &Layers, file: &str) -> Option<Vec<u8>> {
    let upper = Dir::open(l.upper()).unwrap();
    upper.get_xattr(file.as_bytes(), &dialect_key("metacopy")).unwrap()
}

#[test]
fn what_a_crash_lost_of_a_copy_is_copied_again_and_what_was_written_stays() {
    for form in [Form::Plain, Form::Indexed] {
        for metacopy in [false, true] {
            let l = layers();
            let options = Options { metacopy, ..Options::default() };
            let Some(v) = waiting(&l, form, options.clone()) else { return };
            if metacopy {
                v.chmod("f", 0o640).unwrap();
            }
            v.append("f", b"more").unwrap();
            v.append("g", b"more").unwrap();
            let before = v.stat("f").unwrap();
            assert!(mark(&l, "f").is_some_and(|m| m.first() != Some(&0)));
            assert!(l.tmp.path().join(NOTE).exists());
            assert_eq!(v.text("f"), big() + "more");
            // no end in good order, and two pages that never came to the disk
            drop(v);
            let upper = Dir::open(l.upper()).unwrap();
            let f = upper.open_file(b"f", OpenFlags::READ_WRITE, 0).unwrap();
            f.fallocate(3, 2 * PAGE as u64, 2 * PAGE as u64).unwrap();
            f.write_at(b"written", PAGE as u64).unwrap();
            let stat = f.stat().unwrap();
            drop(f);

            let v = l.open_with(form, options, true);
            let mut want = big() + "more";
            want.replace_range(PAGE..PAGE + 7, "written");
            assert_eq!(v.text("f"), want);
            assert_eq!(v.text("g"), big() + "more");
            assert_eq!((mark(&l, "f"), mark(&l, "g")), (None, None));
            assert!(!l.tmp.path().join(NOTE).exists());
            let after = v.stat("f").unwrap();
            assert_eq!((after.ino, after.mode), (before.ino, before.mode));
            assert_eq!(after.mtime, stat.mtime);
            l.check_untouched();
        }
    }
}

#[test]
fn a_marked_copy_that_no_note_tells_of_is_completed_when_it_is_opened() {
    let l = layers();
    let Some(v) = waiting(&l, Form::Plain, Options::default()) else { return };
    v.append("f", b"more").unwrap();
    drop(v);
    std::fs::remove_file(l.tmp.path().join(NOTE)).unwrap();
    let upper = Dir::open(l.upper()).unwrap();
    let f = upper.open_file(b"f", OpenFlags::READ_WRITE, 0).unwrap();
    f.fallocate(3, 0, 8 * PAGE as u64).unwrap();
    assert_eq!(l.open(Form::Plain).text("f"), big() + "more");
    assert_eq!(mark(&l, "f"), None);
}

#[test]
fn syncing_renaming_linking_cutting_and_punching_settle_a_copy() {
    let changes: &[(&str, Change)] = &[
        ("fsync", |v| {
            let fh =
                v.fs.open(v.ino("f").unwrap(), OpenMode { write: true, ..OpenMode::default() });
            v.fs.fsync(fh.unwrap(), true).unwrap();
        }),
        ("rename", |v| v.rename("f", "d/f", RenameMode::Replace).unwrap()),
        ("link", |v| v.link("f", "d/l").map(drop).unwrap()),
        ("truncate", |v| {
            let set = SetAttr { size: Some(9), ..SetAttr::default() };
            v.fs.setattr(v.ino("f").unwrap(), None, &set).map(drop).unwrap();
        }),
        ("punch", |v| {
            let fh =
                v.fs.open(v.ino("f").unwrap(), OpenMode { write: true, ..OpenMode::default() });
            v.fs.fallocate(fh.unwrap(), 3, 0, PAGE as u64).unwrap();
        }),
        ("settle", |v| v.fs.settle_all()),
        ("end", |v| v.fs.sync().unwrap()),
    ];
    for (what, change) in changes {
        let l = layers();
        let Some(v) = waiting(&l, Form::Plain, Options::default()) else { return };
        v.append("f", b"more").unwrap();
        // the kernel may have forgotten it meanwhile
        v.fs.forget(v.ino("f").unwrap(), 1000);
        assert!(mark(&l, "f").is_some(), "{what}");
        change(&v);
        let at = if *what == "rename" { "d/f" } else { "f" };
        assert_eq!(mark(&l, at), None, "{what}");
        v.fs.sync().unwrap();
        l.check_work_empty();
    }
}

#[test]
fn a_strict_view_leaves_no_marks() {
    let l = layers();
    let v = l.open_with(Form::Plain, Options { strict_sync: true, ..Options::default() }, true);
    assert!(!v.fs.settle_later());
    v.append("f", b"more").unwrap();
    assert_eq!(mark(&l, "f"), None);
}

#[test]
fn a_long_copy_up_keeps_nobody_else_waiting() {
    let l = layers();
    let points = Arc::new(Failpoints::default());
    let v = l.open_with(Form::Plain, armed(&points), true);
    points.hold("copy-up:data");
    std::thread::scope(|s| {
        let copier = s.spawn(|| v.append("f", b"more"));
        points.wait_for_comer("copy-up:data");
        // the same directory, other files, and the file itself for readers
        assert_eq!(v.text("g"), big());
        assert_eq!(v.text("f"), big());
        v.write("new", b"new").unwrap();
        v.chmod("d", 0o700).unwrap();
        v.unlink("h").unwrap();
        let mut names = Vec::new();
        v.fs.readdir(Ino::ROOT, 0, &mut |e| {
            names.push(String::from_utf8_lossy(e.name).into_owned());
            true
        })
        .unwrap();
        assert!(names.contains(&"new".to_owned()) && !names.contains(&"h".to_owned()));
        v.fs.lookup(Ino::ROOT, name("f")).unwrap();
        points.let_go("copy-up:data");
        copier.join().unwrap().unwrap();
    });
    assert_eq!(v.text("f"), big() + "more");
}
