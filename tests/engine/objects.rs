//! Objects that come and go: forgotten files, hard links nobody has looked up, many threads.

use crate::support::{Form, Layers, READ, WRITE, name};
use std::sync::atomic::{AtomicBool, Ordering};
use stratafs::overlay::{Caller, Ino, RenameMode, SetAttr};

const FORMS: [Form; 2] = [Form::Plain, Form::Indexed];

/// As many lookups as any test here makes of one file.
const ALL: u64 = 1000;

#[test]
fn a_copied_up_file_that_is_forgotten_is_still_the_copy() {
    for form in FORMS {
        let l = Layers::new(&[&["f f lower", "f g lower"]]);
        let v = l.open(form);
        let ino = v.ino("f").unwrap();
        v.write("f", b"upper").unwrap();
        v.chmod("g", 0o600).unwrap();
        v.fs.forget(ino, ALL);
        v.fs.forget(v.ino("g").unwrap(), ALL);
        assert_eq!(v.text("f"), "upper");
        assert_eq!(v.ino("f").unwrap(), ino);
        assert_eq!(v.stat("g").unwrap().mode, 0o600);
        l.check_untouched();
    }
}

#[test]
fn a_lower_file_that_has_lost_a_name_and_is_forgotten_still_has_lost_it() {
    for form in FORMS {
        let l = Layers::new(&[&["f a text", "h b a"]]);
        let v = l.open(form);
        assert_eq!(v.stat("a").unwrap().nlink, 2);
        let ino = v.ino("b").unwrap();
        v.unlink("b").unwrap();
        v.fs.forget(ino, ALL);
        assert_eq!(v.stat("a").unwrap().nlink, 1);
        l.check_untouched();
    }
}

#[test]
fn a_listing_shows_a_file_once_though_it_is_copied_up_meanwhile() {
    for form in FORMS {
        let l = Layers::new(&[&["f a 1", "f b 2", "f c 3"]]);
        let v = l.open(form);
        let mut seen = Vec::new();
        let mut cookie = 0;
        loop {
            let mut next = None;
            v.fs.readdir(Ino::ROOT, cookie, &mut |e| {
                let first = next.is_none();
                next.get_or_insert((e.cookie, String::from_utf8(e.name.to_vec()).unwrap()));
                first
            })
            .unwrap();
            let Some((after, n)) = next else { break };
            cookie = after;
            if !n.starts_with('.') {
                v.append(&n, b"x").unwrap();
            }
            seen.push(n);
        }
        assert_eq!(seen, [".", "..", "a", "b", "c"]);
    }
}

#[test]
fn a_name_nobody_looked_up_keeps_the_file_alive() {
    for form in FORMS {
        let l = Layers::new(&[&["d d"]]);
        let v = l.open(form);
        v.write("a", b"text").unwrap();
        v.link("a", "d/b").unwrap();
        drop(v);
        // after a remount only one of the two names is known
        let v = l.open(form);
        let ino = v.ino("a").unwrap();
        let fh = v.fs.open(ino, READ).unwrap();
        v.unlink("a").unwrap();
        assert_eq!(v.fs.getattr(ino, Some(fh)).unwrap().nlink, 1);
        v.fs.link(ino, Ino::ROOT, name("c")).unwrap();
        assert_eq!(v.stat("d/b").unwrap().nlink, 2);
        assert_eq!(v.stat("c").unwrap().ino, ino);
        v.unlink("c").unwrap();
        v.unlink("d/b").unwrap();
        assert_eq!(v.fs.getattr(ino, Some(fh)).unwrap().nlink, 0);
        assert!(v.fs.link(ino, Ino::ROOT, name("e")).is_err());
        v.fs.release(fh);
    }
}

#[test]
fn a_hard_link_in_the_place_of_its_own_directory_is_found() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "f d/x 1", "h d/y d/x"]]);
        let v = l.open(form);
        v.rename("d/x", "t", RenameMode::Replace).unwrap();
        v.unlink("d/y").unwrap();
        v.rmdir("d").unwrap();
        v.rename("t", "d", RenameMode::Replace).unwrap();
        assert_eq!(v.text("d"), "1");
        drop(v);
        // asking for the file's other names must not come back to the file itself
        let v = l.open(form);
        assert_eq!((v.text("d"), v.stat("d").unwrap().nlink), ("1".into(), 1));
    }
}

#[test]
fn merged_directories_of_plain_layers_are_read_by_many_threads() {
    // threads that read one layer's names while another adds to them once waited for each other
    let lines: Vec<String> = (0..60)
        .flat_map(|d| {
            let files = (0..40).map(move |f| format!("f {d}/file-{f} x"));
            std::iter::once(format!("d {d}")).chain(files)
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let l = Layers::new(&[&lines, &lines]);
    for _ in 0..10 {
        let v = l.open(Form::Plain);
        std::thread::scope(|s| {
            for t in 0..4 {
                let v = &v;
                s.spawn(move || {
                    for d in 0..60 {
                        assert_eq!(v.ls(&((d + t * 7) % 60).to_string()).unwrap().len(), 40);
                    }
                });
            }
        });
    }
}

#[test]
fn a_handle_is_never_another_file_while_names_are_swapped() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "d e"]]);
        let v = l.open(form);
        v.write("a", b"a").unwrap();
        v.write("b", b"bb").unwrap();
        let (a, b) = (v.ino("a").unwrap(), v.ino("b").unwrap());
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..3000 {
                    v.rename("a", "b", RenameMode::Exchange).unwrap();
                }
                stop.store(true, Ordering::Relaxed);
            });
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(v.fs.getattr(a, None).unwrap().size, 1);
                    assert_eq!(v.fs.getattr(b, None).unwrap().size, 2);
                    let fh = v.fs.open(a, WRITE).unwrap();
                    v.fs.write(fh, 0, b"A", false).unwrap();
                    v.fs.release(fh);
                }
            });
        });
        assert_eq!((v.text("a"), v.text("b")), ("A".into(), "bb".into()));
    }
}

#[test]
fn closing_a_reader_while_another_thread_copies_up_loses_nothing() {
    for i in 0..300 {
        let lines = ["f f lower"];
        let l = Layers::new(&[&lines]);
        let v = l.open(Form::Indexed);
        let ino = v.ino("f").unwrap();
        let fh = v.fs.open(ino, READ).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| v.fs.release(fh));
            s.spawn(|| {
                let mode = Some(0o600);
                v.fs.setattr(ino, None, &SetAttr { mode, ..Default::default() }).unwrap();
            });
        });
        assert_eq!(v.fs.getattr(ino, None).unwrap().mode, 0o600, "round {i}");
    }
}

#[test]
fn numbers_that_the_file_system_uses_again_are_no_ones_twice() {
    use stratafs::overlay::{Options, SetAttr};
    let l = Layers::new(&[&["d d"]]);
    let private = Options { owner_view: true, ..Options::default() };
    let v = l.open_with(Form::Plain, private, true);
    // a symlink of another owner is a stand-in file: its old inode is free, its number is not
    for i in 0..20 {
        let link = v.symlink("target", &format!("link{i}")).unwrap();
        let own = SetAttr { uid: Some(7), gid: Some(8), ..SetAttr::default() };
        v.fs.setattr(link.ino, None, &own).unwrap();
        v.write(&format!("file{i}"), b"text").unwrap();
        let file = v.stat(&format!("file{i}")).unwrap();
        assert_ne!((file.uid, file.ino), (7, link.ino));
        v.mkdir(&format!("dir{i}")).unwrap();
        assert_eq!(v.text(&format!("file{i}")), "text");
        assert_eq!(v.fs.readlink(link.ino).unwrap(), b"target");
    }
}

#[test]
fn a_hard_link_looked_up_after_the_copy_up_loses_no_write() {
    for form in FORMS {
        let l = Layers::new(&[&["f a low", "h b a", "h c a"]]);
        let v = l.open(form);
        let ino = v.ino("a").unwrap();
        let fh = v.fs.open(ino, WRITE).unwrap();
        v.fs.write(fh, 0, b"LOW", false).unwrap();
        v.append("b", b"-b").unwrap();
        v.unlink("a").unwrap();
        v.append("c", b"-c").unwrap();
        let (b, c) = (v.text("b"), v.text("c"));
        assert!(b.contains("-b") && c.contains("-c"), "{b} {c}");
        v.fs.release(fh);
        drop(v);
        let v = l.open(form);
        assert_eq!((v.text("b"), v.text("c")), (b, c), "{form:?}");
        l.check_untouched();
    }
}

#[test]
fn a_hard_link_nobody_looked_up_is_the_copy_when_its_other_name_has_gone() {
    for form in FORMS {
        let l = Layers::new(&[&["f a low", "h b a"]]);
        let v = l.open(form);
        let ino = v.ino("a").unwrap();
        let fh = v.fs.open(ino, WRITE).unwrap();
        v.fs.write(fh, 0, b"LOW", false).unwrap();
        v.unlink("a").unwrap();
        v.append("b", b"-b").unwrap();
        assert_eq!(v.text("b"), "LOW-b");
        v.fs.release(fh);
        drop(v);
        assert_eq!(l.open(form).text("b"), "LOW-b", "{form:?}");
    }
}

#[test]
fn a_hard_link_that_showed_the_copy_shows_it_when_the_copys_name_has_gone() {
    for form in FORMS {
        for replaced in [false, true] {
            let l = Layers::new(&[&["f a low", "h b a", "f c c"]]);
            let v = l.open(form);
            v.append("a", b"+a").unwrap();
            assert_eq!(v.text("b"), "low+a");
            if replaced {
                v.rename("c", "a", RenameMode::Replace).unwrap();
            } else {
                v.unlink("a").unwrap();
            }
            drop(v);
            assert_eq!(l.open(form).text("b"), "low+a", "{form:?}");
        }
    }
}

#[test]
fn files_of_plain_layers_rest_while_nobody_uses_them() {
    let l = Layers::new(&[&["f a 1", "f b 2", "h c b", "d d"], &["d d", "f d/x 3"]]);
    let v = l.open(Form::Plain);
    let resting = |expected: usize, when: &str| assert_eq!(v.fs.at_rest(), expected, "{when}");
    let [a, b, x] = ["a", "b", "d/x"].map(|n| v.ino(n).unwrap());
    resting(3, "looked up");
    let fh = v.fs.open(a, READ).unwrap();
    resting(2, "one is open");
    v.fs.release(fh);
    resting(3, "closed");
    v.fs.getattr(a, None).unwrap();
    v.fs.list_xattr(Caller { uid: 0, gid: 0 }, a).unwrap();
    resting(3, "asked for");
    assert_eq!(v.ino("c").unwrap(), b);
    resting(2, "a second name is known");
    v.append("c", b"+").unwrap();
    assert_eq!(v.text("b"), "2+", "both names lead to the copy");
    v.unlink("a").unwrap();
    assert_eq!(v.fs.getattr(a, None).unwrap().nlink, 0, "the file that was at rest");
    resting(1, "one is left");
    v.fs.forget(x, ALL);
    resting(0, "forgotten");
    l.check_untouched();
}

#[test]
fn a_file_at_rest_moves_with_its_directory() {
    let l = Layers::new(&[&["d d", "f d/a lower"]]);
    let v = l.open(Form::Plain);
    let ino = v.ino("d/a").unwrap();
    v.rename("d", "e", RenameMode::Replace).unwrap();
    assert_eq!(v.fs.at_rest(), 1);
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    v.fs.setattr(ino, None, &set).unwrap();
    assert_eq!((v.stat("e/a").unwrap().mode, v.stat("e/a").unwrap().ino), (0o600, ino));
    assert_eq!(v.text("e/a"), "lower");
    l.check_untouched();
}

#[test]
fn who_looks_a_name_up_while_it_goes_changes_no_link_count() {
    const PAIRS: usize = 1000;
    let spec: Vec<String> =
        (0..PAIRS).flat_map(|i| [format!("f a{i} text"), format!("h b{i} a{i}")]).collect();
    let spec: Vec<&str> = spec.iter().map(String::as_str).collect();
    for form in FORMS {
        let l = Layers::new(&[&spec]);
        let v = l.open(form);
        for i in 0..PAIRS {
            let (gone, stays) = (format!("a{i}"), format!("b{i}"));
            let ino = v.ino(&gone).unwrap();
            let looking = AtomicBool::new(false);
            std::thread::scope(|s| {
                s.spawn(|| {
                    while v.ino(&gone).is_ok() {
                        looking.store(true, Ordering::Relaxed);
                    }
                });
                while !looking.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                v.unlink(&gone).unwrap();
            });
            v.fs.forget(ino, 1 << 20);
            assert_eq!(v.stat(&stays).unwrap().nlink, 1, "{form:?} {i}");
        }
    }
}
