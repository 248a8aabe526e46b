//! What is visible: stacking, whiteouts, opaque directories, redirects, type changes.

use crate::support::{Form, Layers, errno};
use std::collections::BTreeMap;
use stratafs::overlay::{Ino, Options, RenameMode};
use stratafs::sys::{Errno, FileType};

const FORMS: [Form; 2] = [Form::Plain, Form::Indexed];

#[test]
fn the_topmost_layer_wins_and_directories_merge() {
    for form in FORMS {
        let l = Layers::new(&[
            &["f a top", "d d", "f d/new new"],
            &["f a low", "f b low", "d d", "f d/old old", "d d/s", "f d/s/x x"],
        ]);
        let v = l.open(form);
        assert_eq!(v.ls("").unwrap(), ["a", "b", "d"]);
        assert_eq!((v.text("a"), v.text("b")), ("top".into(), "low".into()));
        assert_eq!(v.ls("d").unwrap(), ["new", "old", "s"]);
        assert_eq!(v.text("d/s/x"), "x");
        assert_eq!(errno(v.stat("nope")), Errno::NOENT);
        assert_eq!(errno(v.stat("a/x")), Errno::NOTDIR);
        l.check_untouched();
    }
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    for form in FORMS {
        let l = Layers::new(&[
            &["w gone", "o d", "f d/new new", "w ghost"],
            &["f gone g", "d d", "f d/old old", "f kept k"],
        ]);
        let v = l.open(form);
        assert_eq!(v.ls("").unwrap(), ["d", "kept"]);
        assert_eq!(v.ls("d").unwrap(), ["new"]);
        assert_eq!(errno(v.stat("gone")), Errno::NOENT);
        assert_eq!(errno(v.stat("d/old")), Errno::NOENT);
    }
}

#[test]
fn a_file_between_two_directories_ends_the_merge() {
    for form in FORMS {
        let l = Layers::new(&[&["d x", "f x/top t"], &["f x file"], &["d x", "f x/low l"]]);
        assert_eq!(l.open(form).ls("x").unwrap(), ["top"]);
    }
}

#[test]
fn redirects_lead_to_the_lower_directory() {
    for form in FORMS {
        let l = Layers::new(&[
            &["r new old", "w old", "d deep", "r deep/far /a/b", "f new/own o"],
            &["d old", "f old/x x", "d a", "d a/b", "f a/b/y y"],
        ]);
        let v = l.open(form);
        assert_eq!(v.ls("").unwrap(), ["a", "deep", "new"]);
        assert_eq!(v.ls("new").unwrap(), ["own", "x"]);
        assert_eq!(v.text("new/x"), "x");
        assert_eq!(v.text("deep/far/y"), "y");
        let off = Options { follow_redirects: false, ..Options::default() };
        assert_eq!(l.open_with(form, off, true).ls("new").unwrap(), ["own"]);
    }
}

#[test]
fn hard_links_of_a_layer_are_one_inode() {
    for form in FORMS {
        let l = Layers::new(&[&["f a x", "d d", "h d/b a"]]);
        let v = l.open(form);
        let (a, b) = (v.stat("a").unwrap(), v.stat("d/b").unwrap());
        assert_eq!(a.ino, b.ino);
        assert_eq!((a.nlink, b.nlink), (2, 2));
    }
}

#[test]
fn listings_go_on_from_any_cookie_while_names_change() {
    for form in FORMS {
        let l = Layers::new(&[&["f a 1", "f c 1"], &["f b 1", "f d 1"]]);
        let v = l.open(form);
        let mut seen = Vec::new();
        let mut cookie = 0;
        loop {
            let mut got = None;
            v.fs.readdir(Ino::ROOT, cookie, &mut |e| {
                if got.is_some() {
                    return false;
                }
                got = Some((String::from_utf8(e.name.to_vec()).unwrap(), e.cookie));
                true
            })
            .unwrap();
            let Some((name, next)) = got else { break };
            cookie = next;
            if name == "a" {
                v.write("z", b"new").unwrap();
            }
            if name == "b" || name == "c" {
                v.unlink(&name).unwrap();
            }
            seen.push(name);
        }
        assert_eq!(seen[..2], [".", ".."]);
        let mut rest = seen[2..].to_vec();
        rest.sort();
        // what comes during a walk may be missing in it
        assert_eq!(rest, ["a", "b", "c", "d"]);
        assert_eq!(v.ls("").unwrap(), ["a", "d", "z"]);
    }
}

/// xfstests generic/736, and what editors do: what takes the place of an entry is at that place,
/// and what is new is not in walks that have begun.
#[test]
fn a_walk_ends_though_every_entry_is_renamed_or_replaced_as_it_is_read() {
    use stratafs::overlay::RenameMode::Replace;
    for form in FORMS {
        for way in ["to and fro", "away", "replaced"] {
            let l = Layers::new(&[&["f a 1", "f c 1", "d d"], &["f b 1", "f a 2"]]);
            let v = l.open(form);
            ["x", "y", "c"].iter().for_each(|n| v.write(n, b"new").unwrap());
            let mut seen = Vec::new();
            let mut cookie = 0;
            loop {
                let mut got = None;
                v.fs.readdir(Ino::ROOT, cookie, &mut |e| {
                    let first = got.is_none();
                    got.get_or_insert((String::from_utf8(e.name.to_vec()).unwrap(), e.cookie));
                    first
                })
                .unwrap();
                let Some((name, next)) = got else { break };
                cookie = next;
                seen.push(name.clone());
                assert!(seen.len() < 20, "{way}: {seen:?}");
                match way {
                    _ if name.starts_with('.') => {}
                    "to and fro" => {
                        v.rename(&name, "t", Replace).unwrap();
                        v.rename("t", &name, Replace).unwrap();
                    }
                    "away" => v.rename(&name, &format!("{name}.bak"), Replace).unwrap(),
                    _ => {
                        // this and one that comes later
                        for n in [&name[..], "y"].into_iter().filter(|n| *n != "d") {
                            v.write(&format!("{n}.new{}", seen.len()), b"other").unwrap();
                            v.rename(&format!("{n}.new{}", seen.len()), n, Replace).unwrap();
                        }
                    }
                }
            }
            seen.sort();
            assert_eq!(seen, [".", "..", "a", "b", "c", "d", "x", "y"], "{way}");
            // a walk that begins now sees what is there now
            let now = v.ls("").unwrap();
            let bak: Vec<_> = seen[2..].iter().map(|n| format!("{n}.bak")).collect();
            assert_eq!(now, if way == "away" { bak } else { seen[2..].to_vec() }, "{way}");
        }
    }
}

#[test]
fn a_read_only_view_refuses_changes_and_reads_without_a_handle() {
    for form in FORMS {
        let l = Layers::new(&[&["f a hello", "d d", "l s a", "p p"]]);
        let v = l.open_with(form, Options::default(), false);
        assert!(v.fs.read_only());
        assert_eq!(errno(v.write("a", b"x")), Errno::ROFS);
        assert_eq!(errno(v.mkdir("n")), Errno::ROFS);
        assert_eq!(errno(v.unlink("a")), Errno::ROFS);
        assert_eq!(errno(v.chmod("a", 0o600)), Errno::ROFS);
        let mut buf = [0; 16];
        let n = v.fs.read_ino(v.ino("a").unwrap(), 1, &mut buf).unwrap();
        assert_eq!(&buf[..n], b"ello");
        assert_eq!(v.fs.readlink(v.ino("s").unwrap()).unwrap(), b"a");
        assert_eq!(v.stat("p").unwrap().kind, FileType::Fifo);
        assert_eq!(errno(v.fs.read_ino(v.ino("d").unwrap(), 0, &mut buf)), Errno::ISDIR);
    }
}

#[test]
fn each_name_is_found_however_many_have_changed() {
    // more than the changes after which a directory of one layer gets a table of its names
    let lines: Vec<String> = (0..80).map(|i| format!("f name-{i:02} {i}")).collect();
    for form in FORMS {
        let l = Layers::new(&[&lines.iter().map(String::as_str).collect::<Vec<_>>()[..]]);
        let v = l.open(form);
        let mut shown: BTreeMap<String, String> =
            (0..80).map(|i| (format!("name-{i:02}"), i.to_string())).collect();
        for i in 0..80 {
            let old = format!("name-{i:02}");
            let new = format!("new-{i}");
            match i % 4 {
                0 => {
                    v.unlink(&old).unwrap();
                    shown.remove(&old);
                }
                1 => {
                    v.rename(&old, &new, RenameMode::Replace).unwrap();
                    let text = shown.remove(&old).unwrap();
                    shown.insert(new.clone(), text);
                }
                2 => drop(v.chmod(&old, 0o600).unwrap()),
                _ => {
                    v.write(&new, b"made").unwrap();
                    shown.insert(new.clone(), "made".to_owned());
                }
            }
            for name in [&old, &new] {
                let found = v.stat(name).is_ok().then(|| v.text(name));
                assert_eq!(found.as_ref(), shown.get(name), "{name}");
            }
        }
        let text = |n: &String| (n.clone(), v.text(n));
        assert_eq!(v.ls("").unwrap().iter().map(text).collect::<BTreeMap<_, _>>(), shown);
        let v = l.again(v, form);
        assert_eq!(v.ls("").unwrap(), shown.into_keys().collect::<Vec<_>>());
        l.check_untouched();
    }
}

#[test]
fn the_listing_says_the_numbers_that_stat_says() {
    for form in FORMS {
        let l = Layers::new(&[&["f a 1", "d d", "h b a"], &["d d", "f d/x x", "l s a"]]);
        let v = l.open(form);
        v.write("up", b"1").unwrap();
        v.append("b", b"2").unwrap();
        for v in [v, l.open(form)] {
            v.fs.readdir(Ino::ROOT, 0, &mut |e| {
                let n = String::from_utf8(e.name.to_vec()).unwrap();
                if n != "." && n != ".." {
                    assert_eq!(v.ino(&n).unwrap(), e.ino, "{n}");
                }
                true
            })
            .unwrap();
        }
    }
}

#[test]
fn regression_a_redirect_through_what_is_no_directory_ends_there() {
    for form in FORMS {
        let l = Layers::new(&[
            &["r x /a/b", "r y /c/b"],
            &["d a", "d a/b", "f a/b/top t", "o c", "d c/b", "f c/b/mid m"],
            &["l a nowhere", "d c", "d c/b", "f c/b/low l"],
            &["d a", "d a/b", "f a/b/low l"],
        ]);
        let v = l.open(form);
        assert_eq!(v.ls("x").unwrap(), ["top"]);
        assert_eq!(v.ls("y").unwrap(), ["mid"]);
    }
}
