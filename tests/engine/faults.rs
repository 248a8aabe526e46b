//! Failures between the steps of a change: the old state or the new one, never half.

use crate::support::{Form, Layers, armed};
use std::sync::Arc;
use stratafs::overlay::RenameMode::{Exchange, Replace};
use stratafs::overlay::failpoint::{COPY_UP, CREATE, Failpoints, REMOVE, RENAME};
use stratafs::sys::Errno;

type Change = fn(&crate::support::View) -> stratafs::overlay::Result<()>;

const LOWERS: &[&[&str]] =
    &[&["f f data", "h g f", "d d", "f d/x x", "d d/s", "f d/s/y y", "d e", "l s f", "f w w"]];

#[test]
fn every_step_of_every_change_leaves_the_old_or_the_new_state() {
    let changes: &[(&str, Change)] = &[
        ("append", |v| v.append("f", b"more")),
        ("chmod deep", |v| v.chmod("d/s/y", 0o600).map(drop)),
        ("create", |v| v.write("d/new", b"new")),
        ("mkdir over whiteout", |v| v.mkdir("w").map(drop)),
        ("unlink", |v| v.unlink("d/x")),
        ("rmdir", |v| v.rmdir("e")),
        ("rename file", |v| v.rename("f", "d/s/f", Replace)),
        ("rename over", |v| v.rename("f", "d/x", Replace)),
        ("rename directory", |v| v.rename("d", "e/d", Replace)),
        ("exchange", |v| v.rename("d", "s", Exchange)),
        ("link", |v| v.link("s", "e/s2").map(drop)),
    ];
    let points = [COPY_UP, REMOVE, RENAME, CREATE].concat();
    let mut passed = std::collections::BTreeSet::new();
    for form in [Form::Plain, Form::Indexed] {
        for (what, change) in changes {
            let (old, new) = {
                let l = Layers::new(LOWERS);
                let v = l.open(form);
                v.unlink("w").unwrap();
                let old = v.tree_in(form);
                change(&v).unwrap();
                (old, v.tree_in(form))
            };
            for point in &points {
                let l = Layers::new(LOWERS);
                let armory = Arc::new(Failpoints::default());
                let v = l.open_with(form, armed(&armory), true);
                v.unlink("w").unwrap();
                armory.arm(point, Errno::NOSPC);
                let result = change(&v);
                let now = v.tree_in(form);
                if armory.is_armed(point) {
                    result.unwrap();
                    continue;
                }
                passed.insert(*point);
                let err = result.expect_err("a failed step fails the call");
                assert_eq!(err.errno(), Errno::NOSPC, "{what} at {point}");
                let sane = now == old || now == new || only_extra_copies(&now, &old);
                assert!(sane, "{what} at {point}: {now:#?}\nold {old:#?}\nnew {new:#?}");
                drop(v);
                let again = l.open(form);
                assert_eq!(again.tree_in(form), now, "{what} at {point}, after remount");
                if now != new {
                    change(&again).unwrap();
                }
                assert_eq!(again.tree_in(form), new, "{what} at {point}, done again");
                again.fs.sync().unwrap();
                l.check_work_empty();
                l.check_untouched();
            }
        }
    }
    let missed: Vec<_> = points.iter().filter(|p| !passed.contains(*p)).collect();
    assert!(missed.is_empty(), "no change passes {missed:?}");
}

/// A created file whose first write failed is there, empty: as on any file system.
fn only_extra_copies(
    now: &std::collections::BTreeMap<String, String>,
    old: &std::collections::BTreeMap<String, String>,
) -> bool {
    old.iter().all(|(k, v)| now.get(k) == Some(v)) && now.len() == old.len() + 1
}

#[test]
fn what_a_crash_left_in_the_work_directory_is_swept() {
    let l = Layers::new(LOWERS);
    drop(l.open(Form::Plain));
    let work = l.tmp.path().join("w/work");
    std::fs::create_dir_all(work.join("#7/deep")).unwrap();
    std::fs::write(work.join("#8"), b"half a file").unwrap();
    let v = l.open(Form::Plain);
    v.append("f", b"x").unwrap();
    v.fs.sync().unwrap();
    l.check_work_empty();
}

/// There is no moment at which others see the copy with the lower file's attributes, and a crash
/// finds none.
#[test]
fn a_copy_made_for_new_attributes_appears_with_them() {
    for form in [Form::Plain, Form::Indexed] {
        let l = Layers::new(LOWERS);
        let points = Arc::new(Failpoints::default());
        let v = l.open_with(form, armed(&points), true);
        let (w, f) = (v.stat("w").unwrap(), v.stat("f").unwrap());
        for (point, shown) in [("copy-up:commit", w.mode), ("copy-up:committed", 0o604)] {
            points.arm(point, Errno::NOSPC);
            assert!(v.chmod("w", 0o604).is_err());
            let now = v.stat("w").unwrap();
            assert_eq!((now.mode, now.mtime), (shown, w.mtime), "{form:?} {point}");
        }
        // several names come one by one: there the attributes go last
        points.arm("copy-up:committed", Errno::NOSPC);
        assert!(v.chmod("f", 0o604).is_err());
        assert_eq!(v.stat("f").unwrap().mode, f.mode, "{form:?}");
    }
}
