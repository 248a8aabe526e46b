//! Inode numbers over layers on several file systems.

use crate::support::{Form, Layers, View};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

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
    for form in [Form::Plain, Form::Indexed] {
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
        drop(v);
        assert_eq!(numbers(&l.open(form), &backwards), first, "after a remount");
        for d in ["u", "w"] {
            std::fs::remove_dir_all(l.tmp.path().join(d)).unwrap();
            std::fs::create_dir(l.tmp.path().join(d)).unwrap();
        }
    }
}

/// As with the kernel's `index=off`: to know better, the file would have to be copied up for the
/// sake of a name that goes, and with it into an image made of the upper.
#[test]
fn a_name_that_goes_is_counted_off_until_the_remount() {
    let l = Layers::new(&[&["f a data", "h b a", "h c a"]]);
    for form in [Form::Plain, Form::Indexed] {
        let v = l.open(form);
        v.unlink("b").unwrap();
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        drop(v);
        let v = l.open(form);
        assert_eq!(v.stat("a").unwrap().nlink, 3);
        v.append("a", b"+").unwrap();
        assert_eq!((v.stat("a").unwrap().nlink, v.stat("c").unwrap().nlink), (3, 3));
        drop(v);
        for d in ["u", "w"] {
            std::fs::remove_dir_all(l.tmp.path().join(d)).unwrap();
            std::fs::create_dir(l.tmp.path().join(d)).unwrap();
        }
    }
}
