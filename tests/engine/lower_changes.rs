//! Lowers that somebody edits while the view is in use.

use crate::support::{Form, Layers, READ, View, dialect_key, opaque_key, skip};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::PathBuf;
use stratafs::overlay::{Change, Ino, LowerChanges, Options};
use stratafs::sys::{Dir, FileType};

fn watching() -> Options {
    Options { lower_changes: LowerChanges::Watch, ..Options::default() }
}

fn open(l: &Layers) -> View {
    l.open_with(Form::Plain, watching(), true)
}

impl View {
    /// Takes in what was changed.
    fn follow(&self) -> Vec<Change> {
        self.fs.changes().unwrap()
    }
}

fn at(l: &Layers, layer: usize, path: &str) -> PathBuf {
    l.lowers[layer].join(path)
}

fn names(parent: Ino, n: &str) -> Change {
    Change::Name { parent, name: n.as_bytes().into() }
}

/// Compares with a view that was made after the changes.
fn same_as_fresh(l: &Layers, v: &View) {
    let now = v.tree();
    let fresh = l.open_with(Form::Plain, Options::default(), false);
    assert_eq!(now, fresh.tree());
    let look = |v: &View, path: &str| {
        let a = v.stat(path).unwrap();
        (a.size, a.blocks, a.mode, a.nlink, a.mtime, a.ctime)
    };
    for path in now.keys() {
        assert_eq!(look(v, path), look(&fresh, path), "{path}");
    }
}

#[test]
fn content_and_attributes_are_told_by_number() {
    let l = Layers::new(&[&["d d", "f d/a one"]]);
    let v = open(&l);
    let ino = v.ino("d/a").unwrap();
    assert!(v.follow().is_empty());
    std::fs::write(at(&l, 0, "d/a"), "longer").unwrap();
    assert_eq!(v.follow(), [Change::Inode(ino)]);
    assert_eq!(v.text("d/a"), "longer");
    assert_eq!(v.ino("d/a").unwrap(), ino);
    std::fs::set_permissions(at(&l, 0, "d/a"), PermissionsExt::from_mode(0o604)).unwrap();
    assert_eq!(v.follow(), [Change::Inode(ino)]);
    assert_eq!(v.stat("d/a").unwrap().mode, 0o604);
}

/// What it looked like is kept when its names are read.
#[test]
fn a_directory_whose_names_are_known_looks_as_it_does_now() {
    let l = Layers::new(&[&["d d", "d d/e", "f d/e/f f", "d other"]]);
    let v = open(&l);
    v.tree();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(at(&l, 0, path), PermissionsExt::from_mode(mode)).unwrap();
    };
    for (path, bits) in [("d", 0o700), ("d/e", 0o1777), ("d", 0o705)] {
        v.ls(path).unwrap();
        mode(path, bits);
        v.follow();
        assert_eq!(v.stat(path).unwrap().mode, bits, "{path}");
        same_as_fresh(&l, &v);
    }
    v.ls("d/e").unwrap();
    std::fs::create_dir(at(&l, 0, "d/e/sub")).unwrap();
    v.follow();
    assert_eq!(v.stat("d/e").unwrap().nlink, 3);
    same_as_fresh(&l, &v);
    v.ls("d/e").unwrap();
    mode("other", 0o750);
    std::fs::rename(at(&l, 0, "d/e"), at(&l, 0, "gone")).unwrap();
    std::fs::rename(at(&l, 0, "other"), at(&l, 0, "d/e")).unwrap();
    v.follow();
    assert_eq!(v.stat("d/e").unwrap().mode, 0o750);
    same_as_fresh(&l, &v);
    // the upper's own from now on
    v.chmod("d", 0o711).unwrap();
    mode("d", 0o700);
    v.follow();
    assert_eq!(v.stat("d").unwrap().mode, 0o711);
}

#[test]
fn new_and_removed_names_are_told() {
    let l = Layers::new(&[&["d d", "f d/a one"], &["d d", "f d/b two"]]);
    let v = open(&l);
    assert!(v.stat("d/new").is_err());
    let d = v.ino("d").unwrap();
    std::fs::write(at(&l, 1, "d/new"), "n").unwrap();
    let told = v.follow();
    assert!(told.contains(&names(d, "new")) && told.contains(&Change::Inode(d)), "{told:?}");
    assert_eq!(v.text("d/new"), "n");
    assert_eq!(v.ls("d").unwrap(), ["a", "b", "new"]);
    std::fs::remove_file(at(&l, 0, "d/a")).unwrap();
    assert!(v.follow().contains(&names(d, "a")));
    assert_eq!(v.ls("d").unwrap(), ["b", "new"]);
    assert!(v.stat("d/a").is_err());
    same_as_fresh(&l, &v);
}

#[test]
fn a_file_replaced_by_rename_is_another_one_and_who_has_it_open_reads_on() {
    let l = Layers::new(&[&["f a old"]]);
    let v = open(&l);
    let before = v.ino("a").unwrap();
    let fh = v.fs.open(before, READ).unwrap();
    std::fs::write(at(&l, 0, "a~"), "new").unwrap();
    std::fs::rename(at(&l, 0, "a~"), at(&l, 0, "a")).unwrap();
    assert!(v.follow().contains(&names(Ino::ROOT, "a")));
    assert_ne!(v.ino("a").unwrap(), before);
    assert_eq!(v.text("a"), "new");
    let mut buf = [0; 8];
    assert_eq!(v.fs.read(fh, 0, &mut buf).unwrap(), 3);
    assert_eq!(&buf[..3], b"old");
    let still = v.fs.getattr(before, None).unwrap();
    assert_eq!((still.nlink, still.size), (0, 3));
    let again = v.fs.open(before, READ).unwrap();
    assert_eq!(v.fs.read(again, 0, &mut buf).unwrap(), 3);
    v.fs.release(again);
    v.fs.release(fh);
    v.fs.forget(before, 1);
}

#[test]
fn a_file_is_never_another_one_even_before_the_change_is_told() {
    let l = Layers::new(&[&["f a old"]]);
    let v = open(&l);
    let before = v.ino("a").unwrap();
    std::fs::write(at(&l, 0, "a~"), "new").unwrap();
    std::fs::rename(at(&l, 0, "a~"), at(&l, 0, "a")).unwrap();
    // the kernel looks the name up again then
    assert_eq!(crate::support::errno(v.fs.open(before, READ)), stratafs::sys::Errno::STALE);
    assert_eq!(v.text("a"), "new");
    assert!(v.follow().contains(&names(Ino::ROOT, "a")));
    std::fs::remove_file(at(&l, 0, "a")).unwrap();
    assert!(v.stat("a").is_err());
}

#[test]
fn a_file_that_was_open_before_is_not_taken_for_the_one_in_its_place() {
    let l = Layers::new(&[&["f a old", "f b other"]]);
    let v = open(&l);
    let before = v.ino("a").unwrap();
    // opened, closed, and opened by means of what stayed open
    for _ in 0..2 {
        assert_eq!(v.text("a"), "old");
    }
    let held = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let of_it =
            |p: &PathBuf| p.to_string_lossy().starts_with(&*at(&l, 0, "a").to_string_lossy());
        all.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(of_it).count()
    };
    assert_eq!(held(), 1);
    std::fs::write(at(&l, 0, "c"), "new").unwrap();
    std::fs::rename(at(&l, 0, "c"), at(&l, 0, "a")).unwrap();
    assert_eq!(crate::support::errno(v.fs.open(before, READ)), stratafs::sys::Errno::STALE);
    assert_eq!(held(), 0, "the file that went is not kept on the disk");
    assert_eq!(v.text("a"), "new");
    assert_eq!(v.text("b"), "other");
    same_as_fresh(&l, &v);
}

#[test]
fn a_record_that_makes_a_file_something_else_is_seen_whenever_it_comes() {
    let l = Layers::new(&[&["d d", "f d/a x", "f d/b y", "f d/c z"]]);
    let private = Options { owner_view: true, ..watching() };
    let v = l.open_with(Form::Plain, private, true);
    let set = |name: &str, value: &str| {
        let dir = Dir::open(at(&l, 0, "d")).unwrap();
        dir.set_xattr(name.as_bytes(), b"user.containers.override_stat", value.as_bytes()).unwrap();
    };
    let kind = |name: &str| v.stat(name).unwrap().kind;
    set("a", "0:0:0600:pipe");
    assert_eq!(v.ls("d").unwrap(), ["a", "b", "c"]);
    assert_eq!((kind("d/a"), kind("d/b")), (FileType::Fifo, FileType::File));
    // one that was looked at, and one that was not
    set("b", "0:0:0600:socket");
    set("c", "1:2:0640:pipe");
    v.follow();
    assert_eq!((kind("d/b"), kind("d/c")), (FileType::Socket, FileType::Fifo));
    set("a", "0:0:0600:file");
    v.follow();
    assert_eq!(kind("d/a"), FileType::File);
    let d = v.ino("d").unwrap();
    let mut listed = Vec::new();
    v.fs.readdir(d, 0, &mut |e| {
        listed.push((String::from_utf8_lossy(e.name).into_owned(), e.kind));
        true
    })
    .unwrap();
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    let listed: Vec<_> = listed.into_iter().skip(2).map(|(_, kind)| kind).collect();
    assert_eq!(listed, [FileType::File, FileType::Socket, FileType::Fifo]);
}

#[test]
fn a_moved_file_keeps_its_number_and_a_moved_directory_too() {
    let l = Layers::new(&[&["d d", "f d/a one", "d e"]]);
    let v = open(&l);
    let (file, dir) = (v.ino("d/a").unwrap(), v.ino("d").unwrap());
    std::fs::rename(at(&l, 0, "d/a"), at(&l, 0, "d/b")).unwrap();
    v.follow();
    assert_eq!((v.ino("d/b").unwrap(), &*v.text("d/b")), (file, "one"));
    std::fs::rename(at(&l, 0, "d"), at(&l, 0, "e/f")).unwrap();
    v.follow();
    assert_eq!(v.ino("e/f").unwrap(), dir);
    assert_eq!(v.text("e/f/b"), "one");
    assert!(v.stat("d").is_err());
    // what happens in it at its new place is seen as well
    std::fs::write(at(&l, 0, "e/f/c"), "x").unwrap();
    v.follow();
    assert_eq!(v.ls("e/f").unwrap(), ["b", "c"]);
    std::fs::rename(at(&l, 0, "e/f"), at(&l, 0, "d")).unwrap();
    v.follow();
    assert_eq!((v.ino("d").unwrap(), v.ls("d").unwrap().len()), (dir, 2));
    same_as_fresh(&l, &v);
}

#[test]
fn files_become_directories_and_directories_files() {
    let l = Layers::new(&[&["f a one", "d d", "d d/s", "f d/s/x y"]]);
    let v = open(&l);
    v.tree();
    std::fs::remove_file(at(&l, 0, "a")).unwrap();
    std::fs::create_dir(at(&l, 0, "a")).unwrap();
    std::fs::write(at(&l, 0, "a/in"), "in").unwrap();
    std::fs::remove_dir_all(at(&l, 0, "d")).unwrap();
    std::fs::write(at(&l, 0, "d"), "file").unwrap();
    v.follow();
    assert_eq!((v.text("a/in"), v.text("d")), ("in".to_owned(), "file".to_owned()));
    same_as_fresh(&l, &v);
}

#[test]
fn a_whiteout_in_a_middle_layer_comes_and_goes() {
    let l = Layers::new(&[
        &["d d", "f d/top t"],
        &["d d", "f d/middle m"],
        &["d d", "f d/bottom b", "d d/s", "f d/s/x x"],
    ]);
    let v = open(&l);
    assert_eq!(v.ls("d").unwrap(), ["bottom", "middle", "s", "top"]);
    v.ls("d/s").unwrap();
    let dir = Dir::open(at(&l, 1, "d")).unwrap();
    dir.mknod_whiteout(b"bottom").unwrap();
    dir.mknod_whiteout(b"s").unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["middle", "top"]);
    assert!(v.stat("d/bottom").is_err() && v.stat("d/s/x").is_err());
    dir.unlink(b"bottom").unwrap();
    dir.unlink(b"s").unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["bottom", "middle", "s", "top"]);
    assert_eq!(v.text("d/s/x"), "x");
    // the directory itself
    let root = Dir::open(&l.lowers[1]).unwrap();
    root.remove_tree(b"d").unwrap();
    root.mknod_whiteout(b"d").unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["top"]);
    root.unlink(b"d").unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["bottom", "s", "top"]);
    same_as_fresh(&l, &v);
}

#[test]
fn an_opaque_mark_set_by_hand_hides_what_is_below() {
    let l = Layers::new(&[&["d d", "f d/top t"], &["d d", "f d/bottom b"]]);
    let v = open(&l);
    assert_eq!(v.ls("d").unwrap(), ["bottom", "top"]);
    let ino = v.ino("d").unwrap();
    let node = Dir::open(at(&l, 0, "d")).unwrap().as_node().unwrap();
    node.set_xattr(opaque_key(), b"y", false, false).unwrap();
    assert!(v.follow().contains(&names(ino, "bottom")));
    assert_eq!(v.ls("d").unwrap(), ["top"]);
    assert!(v.stat("d/bottom").is_err());
    node.remove_xattr(opaque_key()).unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["bottom", "top"]);
    same_as_fresh(&l, &v);
    // whiteouts in the form of attributes
    node.set_xattr(opaque_key(), b"x", false, false).unwrap();
    std::fs::write(at(&l, 0, "d/bottom"), "").unwrap();
    let mark = Dir::open(at(&l, 0, "d")).unwrap().node(b"bottom").unwrap();
    mark.set_xattr(&dialect_key("whiteout"), b"", false, false).unwrap();
    v.follow();
    assert!(v.stat("d/bottom").is_err());
}

#[test]
fn a_directory_that_appears_in_a_layer_merges_with_what_is_there() {
    let l = Layers::new(&[&["f t t"], &["d d", "d d/s", "f d/s/x x"]]);
    let v = open(&l);
    let (d, s) = (v.ino("d").unwrap(), v.ino("d/s").unwrap());
    v.ls("d/s").unwrap();
    std::fs::create_dir_all(at(&l, 0, "d/s")).unwrap();
    std::fs::write(at(&l, 0, "d/s/new"), "n").unwrap();
    v.follow();
    assert_eq!(v.ls("d/s").unwrap(), ["new", "x"]);
    // directories that are in use stay what they are
    assert_eq!((v.ino("d").unwrap(), v.ino("d/s").unwrap()), (d, s));
    std::fs::remove_dir_all(at(&l, 1, "d/s")).unwrap();
    v.follow();
    assert_eq!(v.ls("d/s").unwrap(), ["new"]);
}

#[test]
fn the_upper_has_the_last_word() {
    let l = Layers::new(&[&["d d", "f d/a one", "f d/b two", "f d/c three"]]);
    let v = open(&l);
    v.append("d/a", b"!").unwrap();
    v.unlink("d/b").unwrap();
    v.write("d/own", b"mine").unwrap();
    v.mkdir("d/new").unwrap();
    let a = v.ino("d/a").unwrap();
    v.follow();
    std::fs::write(at(&l, 0, "d/a"), "changed").unwrap();
    assert!(!v.follow().contains(&Change::Inode(a)), "a copied-up file is not affected");
    for n in ["a", "b", "c"] {
        std::fs::remove_file(at(&l, 0, &format!("d/{n}"))).unwrap();
    }
    std::fs::write(at(&l, 0, "d/own"), "theirs").unwrap();
    std::fs::create_dir(at(&l, 0, "d/new")).unwrap();
    v.follow();
    assert_eq!((v.text("d/a"), v.text("d/own")), ("one!".to_owned(), "mine".to_owned()));
    assert_eq!(v.ls("d").unwrap(), ["a", "new", "own"]);
    std::fs::write(at(&l, 0, "d/b"), "back").unwrap();
    v.follow();
    assert!(v.stat("d/b").is_err(), "a whiteout hides it");
    // removing what a lower shows by now writes a whiteout
    v.unlink("d/own").unwrap();
    drop(v);
    let v = open(&l);
    assert_eq!(v.ls("d").unwrap(), ["a", "new"]);
}

#[test]
fn a_lower_directory_that_goes_leaves_the_uppers_part() {
    let l = Layers::new(&[&["d d", "f d/a one", "d d/s", "f d/s/x x"]]);
    let v = open(&l);
    v.write("d/s/mine", b"m").unwrap();
    let s = v.ino("d/s").unwrap();
    std::fs::remove_dir_all(at(&l, 0, "d")).unwrap();
    v.follow();
    assert_eq!(v.ls("d").unwrap(), ["s"]);
    assert_eq!((v.ls("d/s").unwrap(), v.ino("d/s").unwrap()), (vec!["mine".to_owned()], s));
    v.write("d/s/more", b"m").unwrap();
    v.rename("d/s", "moved", stratafs::overlay::RenameMode::Replace).unwrap();
    assert_eq!(v.ls("moved").unwrap(), ["mine", "more"]);
}

#[test]
fn a_hard_link_made_or_removed_is_told_of_its_other_names() {
    let l = Layers::new(&[&["f a one", "d d"]]);
    let v = open(&l);
    v.ls("d").unwrap();
    let a = v.ino("a").unwrap();
    std::fs::hard_link(at(&l, 0, "a"), at(&l, 0, "d/b")).unwrap();
    assert!(v.follow().contains(&Change::Inode(a)));
    assert_eq!((v.ino("d/b").unwrap(), v.stat("a").unwrap().nlink), (a, 2));
    std::fs::remove_file(at(&l, 0, "a")).unwrap();
    v.follow();
    assert_eq!((v.text("d/b"), v.fs.getattr(a, None).unwrap().nlink), ("one".to_owned(), 1));
}

#[test]
fn a_listing_goes_on_after_a_change() {
    let files: Vec<String> = (0..50).map(|i| format!("f d/{i:02} x")).collect();
    let mut lines = vec!["d d"];
    lines.extend(files.iter().map(String::as_str));
    let l = Layers::new(&[&lines]);
    let v = open(&l);
    let d = v.ino("d").unwrap();
    let (mut seen, mut cookie) = (Vec::new(), 0);
    let mut list = |seen: &mut Vec<String>, n: usize| {
        let mut left = n;
        v.fs.readdir(d, cookie, &mut |e| {
            if left == 0 {
                return false;
            }
            left -= 1;
            cookie = e.cookie;
            seen.push(String::from_utf8(e.name.to_vec()).unwrap());
            true
        })
        .unwrap();
    };
    list(&mut seen, 22);
    for n in ["05", "30"] {
        std::fs::remove_file(at(&l, 0, &format!("d/{n}"))).unwrap();
    }
    std::fs::write(at(&l, 0, "d/000"), "").unwrap();
    v.follow();
    list(&mut seen, 1000);
    let mut counts = BTreeMap::new();
    seen.iter().for_each(|n| *counts.entry(n.as_str()).or_insert(0) += 1);
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    assert!(
        !counts.contains_key("30")
            && (0..50).all(|i| { i == 30 || counts.contains_key(format!("{i:02}").as_str()) })
    );
}

#[test]
fn after_more_events_than_fit_everything_is_looked_at() {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let limit: usize = limit.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(16384);
    let l = Layers::new(&[&["d d", "f d/a one", "d e"]]);
    let v = open(&l);
    v.tree();
    let a = v.ino("d/a").unwrap();
    for i in 0..limit / 2 + 10 {
        let p = at(&l, 0, &format!("e/{}", i % 7));
        std::fs::write(&p, "").unwrap();
        std::fs::remove_file(&p).unwrap();
    }
    std::fs::write(at(&l, 0, "d/a"), "last").unwrap();
    std::fs::write(at(&l, 0, "d/new"), "n").unwrap();
    let told = v.follow();
    assert!(told.contains(&Change::Inode(a)), "{}", told.len());
    assert!(told.contains(&names(v.ino("d").unwrap(), "new")));
    same_as_fresh(&l, &v);
}

#[test]
fn directories_without_a_watch_are_looked_at_when_asked_for() {
    let l = Layers::new(&[&["d d", "f d/a one", "d e", "f e/b two"]]);
    // the root and one more
    let o = Options { max_watches: Some(2), ..watching() };
    let v = l.open_with(Form::Plain, o, true);
    let a = v.ino("d/a").unwrap();
    let (d, b) = (v.ino("d").unwrap(), v.ino("e/b").unwrap());
    let e = v.ino("e").unwrap();
    assert!(v.fs.names_last(Ino::ROOT) && v.fs.names_last(d) && v.fs.attributes_last(a));
    assert!(!v.fs.names_last(e) && !v.fs.attributes_last(b) && !v.fs.attributes_last(e));
    std::fs::write(at(&l, 0, "e/b"), "changed").unwrap();
    std::fs::write(at(&l, 0, "e/new"), "n").unwrap();
    assert_eq!(v.text("e/b"), "changed");
    assert_eq!(v.text("e/new"), "n");
    let told = v.follow();
    assert!(told.contains(&names(e, "new")) && told.contains(&Change::Inode(e)), "{told:?}");
    v.append("e/b", b"!").unwrap();
    assert!(v.fs.attributes_last(v.ino("e/b").unwrap()));
}

#[test]
fn a_directory_is_watched_before_anybody_reads_it() {
    let l = Layers::new(&[&["d d", "d d/x"], &["d d", "d d/y"]]);
    let v = open(&l);
    let d = v.ino("d").unwrap();
    assert!(v.fs.attributes_last(d));
    std::fs::write(at(&l, 1, "d/new"), "n").unwrap();
    let told = v.follow();
    assert!(told.contains(&Change::Inode(d)), "{told:?}");
    assert_eq!(v.text("d/new"), "n");
    let x = v.ino("d/x").unwrap();
    assert!(v.fs.attributes_last(d) && v.fs.attributes_last(x));
    std::fs::remove_dir(at(&l, 0, "d/x")).unwrap();
    let told = v.follow();
    assert!(told.contains(&names(d, "x")), "{told:?}");
    assert!(v.ino("d/x").is_err());
}

#[test]
fn a_directory_that_nobody_read_becomes_opaque() {
    let l = Layers::new(&[&["d d"], &["d d", "f d/below one"]]);
    let v = open(&l);
    let d = v.ino("d").unwrap();
    let mark = Dir::open(at(&l, 0, "d")).unwrap().as_node().unwrap();
    mark.set_xattr(opaque_key(), b"y", false, false).unwrap();
    let told = v.follow();
    assert!(told.contains(&Change::Inode(d)), "{told:?}");
    assert!(v.ino("d/below").is_err());
}

#[test]
fn who_does_not_watch_is_told_nothing() {
    let l = Layers::new(&[&["f a one"]]);
    for mode in [LowerChanges::Timeout, LowerChanges::Ignore] {
        let o = Options { lower_changes: mode, ..Options::default() };
        let v = l.open_with(Form::Plain, o, true);
        assert_eq!(v.fs.lower_changes(), mode);
        v.tree();
        std::fs::write(at(&l, 0, "a"), "changed").unwrap();
        assert!(v.follow().is_empty());
        assert_eq!(v.fs.wait_for_changes().unwrap(), None);
    }
}

#[test]
fn waiting_ends_when_it_is_to_stop() {
    let l = Layers::new(&[&["f a one"]]);
    let v = open(&l);
    v.tree();
    std::thread::scope(|s| {
        let waiting = s.spawn(|| {
            let mut n = 0;
            while let Some(c) = v.fs.wait_for_changes().unwrap() {
                n += c.len();
            }
            n
        });
        std::fs::write(at(&l, 0, "b"), "new").unwrap();
        v.fs.stop_watching();
        waiting.join().unwrap();
    });
}

/// Makes a file at `path` whose inode number is one that was free just now; false: the disk does not
/// give it again.
fn with_number(path: &std::path::Path, beside: &std::path::Path, number: u64) -> bool {
    let spare = |i: u32| beside.join(format!("spare-{i}"));
    let is_it = |p: &PathBuf| std::fs::metadata(p).unwrap().ino() == number;
    let make = |p: &PathBuf| std::fs::write(p, "").unwrap();
    let found = (0..5000).map(spare).inspect(make).find(is_it);
    let got = found.is_some_and(|p| std::fs::rename(p, path).is_ok());
    (0..5000).map(spare).take_while(|p| std::fs::remove_file(p).is_ok()).for_each(drop);
    got
}

/// Seed 58 of the random edits, sometimes: two directories went from the top layer and stay in use
/// for what is below, and the disk gave their numbers to two files of one name.
#[test]
fn files_that_came_by_the_numbers_of_directories_in_use_are_told_apart() {
    let l = Layers::new(&[&["d a", "d b", "d c"], &["d a", "d b", "d c"]]);
    let v = open(&l);
    let number = |p: PathBuf| std::fs::metadata(p).unwrap().ino();
    for (name, layer) in [("b", 1), ("c", 0)] {
        v.tree();
        let before = (v.ino(name).unwrap(), number(at(&l, 0, name)));
        std::fs::remove_dir(at(&l, 0, name)).unwrap();
        v.follow();
        let path = at(&l, layer, "a/d");
        if !with_number(&path, l.tmp.path(), before.1) {
            return skip("the disk does not give the number of a removed directory again");
        }
        std::fs::write(&path, format!("of layer {layer}")).unwrap();
        v.follow();
        assert_eq!(v.text("a/d"), format!("of layer {layer}"));
        assert_eq!(v.ino(name).unwrap(), before.0);
    }
    same_as_fresh(&l, &v);
}

/// Seed 331 of the random edits, sometimes: nobody looks at a directory that is not watched, from
/// which a file went whose number another one has by now.
#[test]
fn a_file_that_came_by_the_number_of_one_that_went_unnoticed_is_found() {
    let l = Layers::new(&[&["d a"], &["d b", "f b/c old"]]);
    let v = l.open_with(Form::Plain, Options { max_watches: Some(0), ..watching() }, true);
    assert_eq!(v.text("b/c"), "old");
    let number = std::fs::metadata(at(&l, 1, "b/c")).unwrap().ino();
    std::fs::remove_file(at(&l, 1, "b/c")).unwrap();
    if !with_number(&at(&l, 0, "a/n"), l.tmp.path(), number) {
        return skip("the disk does not give the number of a removed file again");
    }
    std::fs::write(at(&l, 0, "a/n"), "new").unwrap();
    assert_eq!(v.text("a/n"), "new");
    let n = v.ino("a/n").unwrap();
    assert!(v.follow().contains(&Change::Inode(n)), "what the kernel keeps is of the other file");
    assert!(v.stat("b/c").is_err());
    same_as_fresh(&l, &v);
}

/// A small generator of numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// One random edit of a lower, as somebody would do it by hand; what cannot be done is not.
fn edit(l: &Layers, r: &mut Random) {
    let layer = r.below(3) as usize;
    let path = |r: &mut Random| {
        let parts: Vec<&str> =
            (0..=r.below(3)).map(|_| ["a", "b", "c", "d"][r.below(4) as usize]).collect();
        parts.join("/")
    };
    let (p, q) = (at(l, layer, &path(r)), at(l, layer, &path(r)));
    let parent = Dir::open(p.parent().unwrap());
    let n = p.file_name().unwrap().as_encoded_bytes().to_vec();
    let done = match r.below(9) {
        0 => std::fs::write(&p, format!("{}", r.below(1000))),
        1 => std::fs::create_dir(&p),
        2 => std::fs::remove_file(&p),
        3 => std::fs::remove_dir_all(&p),
        4 | 5 => std::fs::rename(&p, &q),
        6 => parent.map_or(Ok(()), |d| {
            d.mknod_whiteout(&n).map_err(|e| std::io::Error::from_raw_os_error(e.raw()))
        }),
        7 => parent.and_then(|d| d.open_dir(&n)).and_then(|d| d.as_node()).map_or(Ok(()), |d| {
            let (set, key) = (r.below(2) == 0, opaque_key());
            let done = if set { d.set_xattr(key, b"y", false, false) } else { d.remove_xattr(key) };
            done.map_err(|e| std::io::Error::from_raw_os_error(e.raw()))
        }),
        _ => std::fs::set_permissions(&p, PermissionsExt::from_mode(0o700 | r.below(64) as u32)),
    };
    drop(done);
}

/// `STRATAFS_SEEDS=FROM..TO` tries other seeds than these few.
fn seeds() -> std::ops::Range<u64> {
    let chosen = std::env::var("STRATAFS_SEEDS").ok();
    let range = chosen.as_deref().and_then(|text| text.split_once(".."));
    range.map_or(0..60, |(from, to)| from.parse().unwrap()..to.parse().unwrap())
}

#[test]
fn after_any_edits_the_view_is_what_a_new_one_would_be() {
    for seed in seeds() {
        let l = Layers::new(&[
            &["d a", "f a/b one", "d b"],
            &["d a", "d a/c", "f a/c/d x", "f c y"],
            &["d a", "d a/c", "f a/c/a z", "d b", "d b/b", "f b/b/c w"],
        ]);
        let bound = (seed % 4 == 3).then_some(4);
        let o = Options { max_watches: bound, ..watching() };
        let v = l.open_with(Form::Plain, o, false);
        let mut r = Random(seed);
        for _ in 0..40 {
            if r.below(3) == 0 {
                v.follow();
                v.tree();
            }
            for _ in 0..=r.below(4) {
                edit(&l, &mut r);
            }
            if r.below(2) == 0 {
                v.follow();
            }
            // as others go on using it before anything was told
            let p = ["a/b", "b", "a/c", "c/a"][r.below(4) as usize];
            match v.ls(p).and_then(|_| v.stat(p)) {
                Ok(a) => v.fs.forget(a.ino, r.below(2)),
                Err(e) => assert!(e.errno() != stratafs::sys::Errno::IO, "{e}"),
            }
        }
        v.follow();
        let fresh = l.open_with(Form::Plain, Options::default(), false);
        assert_eq!(v.tree(), fresh.tree(), "seed {seed}");
        v.follow();
        assert_eq!(v.tree(), fresh.tree(), "seed {seed}, the second time");
    }
}
