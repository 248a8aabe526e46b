//! Inode numbers over layers on several file systems, and link counts over remounts.

use crate::support::{Form, Layers, View, armed, redirect_key};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use stratafs::overlay::RenameMode;
use stratafs::overlay::failpoint::Failpoints;
use stratafs::sys::{Dir, Errno};

/// The number of each name, as stat(2) and as the listing of its directory say.
fn numbers(v: &View, order: &[&str]) -> BTreeMap<String, (u64, u64)> {
    let mut out = BTreeMap::new();
    for path in order {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut listed = None;
        v.fs.readdir(v.ino(dir).unwrap(), 0, &mut |e| {
            if e.name == name.as_bytes() {
                listed = Some(e.ino.0);
            }
            true
        })
        .unwrap();
        out.insert((*path).to_owned(), (v.stat(path).unwrap().ino.0, listed.unwrap()));
    }
    out
}

#[test]
fn numbers_of_several_file_systems_are_unique_listed_and_stay() {
    let mut l = Layers::new(&[&["f a top", "d d", "f d/x top"], &["f b low", "d d", "f d/y low"]]);
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let there = |p: &std::path::Path| std::fs::metadata(p).unwrap().dev();
    if there(other.path()) == there(l.tmp.path()) {
        return; // only one file system here
    }
    for (name, text) in [("c", "shm"), ("d/z", "shm"), ("e", "shm")] {
        std::fs::create_dir_all(other.path().join("d")).unwrap();
        std::fs::write(other.path().join(name), text).unwrap();
    }
    l.lowers.insert(1, other.path().to_owned());
    let order = ["a", "b", "c", "d", "d/x", "d/y", "d/z", "e"];
    let backwards: Vec<_> = order.iter().rev().copied().collect();
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        let first = numbers(&v, &order);
        for (path, (stat, listed)) in &first {
            assert_eq!(stat, listed, "{path}");
        }
        let mut all: Vec<_> = first.values().map(|n| n.0).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), order.len(), "{first:?}");
        // also when they are copied up, and asked for in another order after a remount
        for path in ["b", "d/z", "e"] {
            v.append(path, b"+").unwrap();
        }
        assert_eq!(numbers(&v, &backwards), first, "copied up");
        let v = l.again(v, form);
        assert_eq!(numbers(&v, &backwards), first, "after a remount");
        l.forget(v);
    }
}

/// As with the kernel's `index=on`, which copies such a file up first: here the upper's whiteouts say
/// which names went.
#[test]
fn a_name_that_goes_is_counted_off_over_remounts() {
    let l = Layers::new(&[&["f a data", "h b a", "h c a"]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        v.unlink("b").unwrap();
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        let v = l.again(v, form);
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        v.append("a", b"+").unwrap();
        let v = l.again(v, form);
        assert_eq!((v.stat("a").unwrap().nlink, v.stat("c").unwrap().nlink), (2, 2));
        v.unlink("c").unwrap();
        assert_eq!(v.stat("a").unwrap().nlink, 1);
        let v = l.again(v, form);
        assert_eq!(v.stat("a").unwrap().nlink, 1);
        l.forget(v);
    }
}

#[test]
fn names_that_went_with_their_directories_are_counted_off_over_remounts() {
    let l = Layers::new(&[&[
        "f a data",
        "d gone",
        "d gone/in",
        "h gone/in/b a",
        "d anew",
        "h anew/c a",
        "d moved",
        "d moved/in",
        "h moved/in/d a",
        "h moved/in/e a",
    ]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        for file in ["gone/in/b", "anew/c", "moved/in/e"] {
            v.unlink(file).unwrap();
        }
        for dir in ["gone/in", "gone", "anew"] {
            v.rmdir(dir).unwrap();
        }
        v.mkdir("anew").unwrap();
        v.write("anew/c", b"another").unwrap();
        v.rename("moved", "there", RenameMode::Replace).unwrap();
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        let v = l.again(v, form);
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        assert_eq!(v.stat("there/in/d").unwrap().nlink, 2);
        assert_eq!(v.stat("anew/c").unwrap().nlink, 1);
        v.chmod("a", 0o600).unwrap();
        let v = l.again(v, form);
        assert_eq!(v.stat("there/in/d").unwrap().nlink, 2);
        assert_eq!(v.stat("there/in/d").unwrap().ino, v.stat("a").unwrap().ino);
        l.forget(v);
    }
}

/// What a lower layer hides is none of the upper's doing: the kernel counts it too.
#[test]
fn names_that_a_lower_layer_hides_are_counted() {
    let l = Layers::new(&[&["w b", "o d"], &["f a data", "h b a", "d d", "h d/c a", "h e a"]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        assert_eq!(v.stat("a").unwrap().nlink, 4);
        v.unlink("e").unwrap();
        let v = l.again(v, form);
        assert_eq!(v.stat("a").unwrap().nlink, 3);
        l.forget(v);
    }
}

#[test]
fn a_copy_gets_its_names_in_directories_that_were_moved() {
    let l = Layers::new(&[&["f a data", "d d", "h d/b a", "d d/sub", "h d/sub/c a"]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        for remount in [false, true] {
            let mut v = l.open(form);
            v.mkdir("new").unwrap();
            v.rename("d/sub", "new/sub", RenameMode::Replace).unwrap();
            v.rename("d", "new/d", RenameMode::Replace).unwrap();
            v.rename("new", "newer", RenameMode::Replace).unwrap();
            if remount {
                v = l.again(v, form);
            }
            v.append("a", b"+").unwrap();
            for name in ["newer/d/b", "newer/sub/c"] {
                assert_eq!(v.text(name), "data+", "{name}, {form:?}, remount {remount}");
            }
            let v = l.again(v, form);
            for name in ["newer/d/b", "newer/sub/c"] {
                assert_eq!(v.text(name), "data+", "{name}, {form:?}, remount {remount}");
                assert_eq!(v.stat(name).unwrap().nlink, 3);
            }
            l.forget(v);
        }
    }
}

/// As an edge of the same: a name that the copy-up did not come to still is a name.
#[test]
fn a_name_without_its_copy_is_counted_after_a_remount() {
    let l = Layers::new(&[&["f a data", "h b a", "h c a"]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        v.unlink("c").unwrap();
        drop(v);
        let points = Arc::new(Failpoints::default());
        let v = l.open_with(form, armed(&points), true);
        points.arm("copy-up:committed", Errno::NOSPC);
        assert!(v.append("a", b"+").is_err());
        drop(v);
        let v = l.open(form);
        assert_eq!(v.stat("b").unwrap().nlink, 2, "{form:?}");
        l.forget(v);
    }
}

/// What cannot be entered in the upper is no reason to show nothing of other files.
#[test]
fn a_directory_that_leads_nowhere_spoils_no_link_count() {
    let l = Layers::new(&[&["f a data", "h b a", "d d", "h d/c a"]]);
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        v.unlink("d/c").unwrap();
        v.rmdir("d").unwrap();
        v.mkdir("bad").unwrap();
        v.mkdir("bad/worse").unwrap();
        drop(v);
        let bad = Dir::open(l.upper().join("bad")).unwrap();
        bad.node(b"worse").unwrap().set_xattr(redirect_key(), b"a/../b", false, false).unwrap();
        let v = l.open(form);
        assert!(v.ls("bad").is_err());
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        v.append("a", b"+").unwrap();
        assert_eq!(v.text("b"), "data+");
        l.forget(v);
    }
}
