//! Copies that get their name before they are on disk, and copies that take long.

use crate::support::{Form, Layers, View, armed, dialect_key, name, skip};
use std::sync::Arc;
use stratafs::marker::Origin;
use stratafs::overlay::failpoint::Failpoints;
use stratafs::overlay::{Ino, OpenMode, Options, RenameMode, SetAttr};
use stratafs::sys::{Dir, OpenFlags};

const PAGE: usize = 4096;
const NOTES: &str = "w/work/incompat";

fn big() -> String {
    (0..8 * PAGE).map(|i| char::from(b'a' + (i / PAGE) as u8)).collect()
}

fn layers() -> Layers {
    let of = |n| format!("f {n} {}", big());
    Layers::new(&[&[&of("f"), &of("g"), &of("h"), "d d", "f d/x x", "f e e"]])
}

/// Returns a view that lets copies wait, if the file system here allows it.
fn waiting(l: &Layers, form: Form, options: Options) -> Option<View> {
    let v = l.open_with(form, options, true);
    let able = v.fs.settle_later();
    if !able {
        skip("a crash may leave anything on this file system");
    }
    able.then_some(v)
}

type Change = fn(&View);

/// The id of the batch with which a copy is to settle: at the end of our record, wherever that is.
fn mark(l: &Layers, file: &str) -> Option<[u8; 8]> {
    let upper = Dir::open(l.upper()).unwrap();
    let get = |key| upper.get_xattr(file.as_bytes(), &dialect_key(key)).unwrap();
    let behind = |v: Vec<u8>| Origin::beyond(&v)?.get(1 + 8 + 8 + 2..)?.try_into().ok();
    let apart = |v: Vec<u8>| v.get(24..)?.try_into().ok();
    get("origin").and_then(behind).or_else(|| get("stratafs.origin").and_then(apart))
}

/// How many batches are noted; the kernel's overlayfs mounts no upper that has any.
fn notes(l: &Layers) -> usize {
    std::fs::read_dir(l.tmp.path().join(NOTES)).map_or(0, Iterator::count)
}

#[test]
fn what_a_crash_lost_of_a_copy_is_copied_again_and_what_was_written_stays() {
    for form in [Form::Plain, Form::Indexed] {
        for (metacopy, linked) in [(false, false), (true, false), (false, true)] {
            let mut l = layers();
            if linked {
                // as between layers that share their files: no name of the view
                let outside = l.tmp.path().join("outside");
                std::fs::hard_link(l.lowers[0].join("f"), outside).unwrap();
                l.remember();
            }
            let options = Options { metacopy, ..Options::default() };
            let Some(v) = waiting(&l, form, options.clone()) else { return };
            if metacopy {
                v.chmod("f", 0o640).unwrap();
            }
            v.append("f", b"more").unwrap();
            v.append("g", b"more").unwrap();
            let before = v.stat("f").unwrap();
            assert!(mark(&l, "f").is_some());
            assert_eq!((mark(&l, "g"), notes(&l)), (mark(&l, "f"), 1));
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
            assert_eq!(notes(&l), 0);
            let after = v.stat("f").unwrap();
            assert_eq!((after.ino, after.mode), (before.ino, before.mode));
            assert_eq!(after.mtime, stat.mtime);
            l.check_untouched();
        }
    }
}

#[test]
fn a_hole_made_after_a_batch_has_settled_stays_one() {
    let l = layers();
    let Some(v) = waiting(&l, Form::Plain, Options::default()) else { return };
    // as many as are synced together: then no copy is written to, the note alone goes
    for i in 0..9 {
        v.write(&format!("d/n{i}"), b"x").unwrap();
    }
    for name in ["f", "g", "h", "d/x"] {
        v.append(name, b"more").unwrap();
    }
    v.fs.settle_all();
    assert_eq!(notes(&l), 0);
    let mode = OpenMode { write: true, ..OpenMode::default() };
    let fh = v.fs.open(v.ino("f").unwrap(), mode).unwrap();
    v.fs.fallocate(fh, 3, 0, PAGE as u64).unwrap();
    // of another batch, which the crash finds unsettled
    v.chmod("e", 0o600).unwrap();
    assert_eq!(notes(&l), 1);
    drop(v);
    let text = l.open_with(Form::Plain, Options::default(), true).text("f");
    assert!(text.starts_with(&"\0".repeat(PAGE)) && text.ends_with("more"));
    assert_eq!(notes(&l), 0);
}

#[test]
fn what_cannot_be_completed_is_refused_and_stays_noted() {
    let l = layers();
    let Some(v) = waiting(&l, Form::Plain, Options::default()) else { return };
    v.append("f", b"more").unwrap();
    drop(v);
    let lower = l.tmp.path().join("l0/f");
    let kept = std::fs::read(&lower).unwrap();
    std::fs::remove_file(&lower).unwrap();
    let v = l.open(Form::Plain);
    assert!(v.fs.open(v.ino("f").unwrap(), OpenMode::default()).is_err());
    assert_eq!(notes(&l), 1);
    drop(v);
    std::fs::write(&lower, kept).unwrap();
    assert_eq!(l.open(Form::Plain).text("f"), big() + "more");
    assert_eq!(notes(&l), 0);
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
        assert!(mark(&l, at).is_none() || notes(&l) == 0, "{what}");
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
