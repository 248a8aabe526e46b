//! Changes: copy-up, deletion for good, rename, handles that survive.

use crate::support::{
    Form, Layers, READ, View, WRITE, errno, me, mode_of, name, opaque_key, redirect_key,
};
use stratafs::overlay::{Ino, OpenMode, Options, RenameMode, SetAttr};
use stratafs::sys::{Dir, Errno, FileType};

const FORMS: [Form; 3] = [Form::Plain, Form::Indexed, Form::Known];
use RenameMode::{Exchange, NoReplace, Replace};

/// Runs a check on both forms of lowers, and again after opening the same directories anew.
fn each(lowers: &[&[&str]], change: impl Fn(&View), check: impl Fn(&View)) {
    for form in FORMS {
        let l = Layers::new(lowers);
        let v = l.open(form);
        change(&v);
        check(&v);
        let tree = v.tree();
        v.fs.sync().unwrap();
        l.check_work_empty();
        drop(v);
        let again = l.open(form);
        check(&again);
        assert_eq!(again.tree(), tree, "after remount");
        l.check_untouched();
    }
}

#[test]
fn writing_copies_up_and_keeps_number_and_names() {
    for form in FORMS {
        let l = Layers::new(&[&["f a hello", "h b a", "d d"]]);
        let v = l.open(form);
        let before = v.stat("a").unwrap().ino;
        assert_eq!(v.stat("b").unwrap().ino, before);
        v.append("a", b" you").unwrap();
        assert_eq!((v.text("a"), v.text("b")), ("hello you".into(), "hello you".into()));
        let (a, b) = (v.stat("a").unwrap(), v.stat("b").unwrap());
        assert_eq!((a.ino, b.ino, a.nlink), (before, before, 2));
        drop(v);
        let v = l.open(form);
        assert_eq!(v.stat("a").unwrap().ino, before, "after remount");
        assert_eq!(v.text("b"), "hello you");
        l.check_untouched();
    }
}

#[test]
fn truncating_opens_copy_up_even_when_read_only() {
    // fuse-overlayfs 2.0 wrote into the lower here
    for form in FORMS {
        let l = Layers::new(&[&["f f 0123456789"]]);
        let v = l.open(form);
        let ino = v.ino("f").unwrap();
        let first = v.fs.open(ino, OpenMode { truncate: true, ..READ }).unwrap();
        let second = v.fs.open(ino, OpenMode { truncate: true, ..WRITE }).unwrap();
        v.fs.write(second, 0, b"HELLO", false).unwrap();
        v.fs.release(first);
        v.fs.release(second);
        assert_eq!(v.text("f"), "HELLO");
        l.check_untouched();
    }
}

#[test]
fn a_reader_from_before_the_copy_up_sees_what_is_written_later() {
    for form in FORMS {
        let l = Layers::new(&[&["f f old"]]);
        let v = l.open(form);
        let reader = v.fs.open(v.ino("f").unwrap(), READ).unwrap();
        v.write("f", b"newer").unwrap();
        let mut buf = [0; 16];
        let n = v.fs.read(reader, 0, &mut buf).unwrap();
        assert_eq!(&buf[..n], b"newer");
        assert_eq!(errno(v.fs.write(reader, 0, b"x", false)), Errno::BADF);
    }
}

#[test]
fn copy_up_keeps_times_mode_and_content_of_every_type() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "f d/f data", "l d/s target", "p d/p"]]);
        let v = l.open(form);
        let dir = v.stat("d").unwrap();
        for n in ["f", "s", "p"] {
            let path = format!("d/{n}");
            let before = v.stat(&path).unwrap();
            v.link(&path, &format!("d/{n}2")).unwrap();
            let after = v.stat(&path).unwrap();
            assert_eq!(after.mtime, before.mtime, "{n}");
            assert_eq!((after.kind, after.mode, after.ino), (before.kind, before.mode, before.ino));
            assert_eq!(after.nlink, 2);
        }
        v.chmod("d/f", 0o600).unwrap();
        assert_eq!(v.text("d/f2"), "data");
        // a new name changes the directory's time, a copy-up alone does not
        assert_ne!(v.stat("d").unwrap().mtime, dir.mtime);
        l.check_untouched();
    }
    for form in FORMS {
        let l = Layers::new(&[&["d d", "f d/f data"]]);
        let v = l.open(form);
        let before = v.stat("d").unwrap().mtime;
        v.append("d/f", b"x").unwrap();
        assert_eq!(v.stat("d").unwrap().mtime, before);
    }
}

#[test]
fn deleted_names_stay_gone() {
    each(
        &[&["f h low", "d d", "f d/in in", "d r", "f r/x x"]],
        |v| {
            // peers brought these back: mv h h2; mkdir h; rmdir h
            v.rename("h", "h2", Replace).unwrap();
            v.mkdir("h").unwrap();
            v.rmdir("h").unwrap();
            v.unlink("d/in").unwrap();
            v.rmdir("d").unwrap();
            v.write("d", b"file").unwrap();
            v.unlink("d").unwrap();
            v.unlink("r/x").unwrap();
            v.rmdir("r").unwrap();
            v.mkdir("r").unwrap();
        },
        |v| {
            assert_eq!(v.ls("").unwrap(), ["h2", "r"]);
            assert_eq!(v.ls("r").unwrap(), Vec::<String>::new());
            assert_eq!(errno(v.stat("h")), Errno::NOENT);
            assert_eq!(v.text("h2"), "low");
        },
    );
}

#[test]
fn no_whiteout_where_nothing_is_hidden() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "f d/x x"]]);
        let v = l.open(form);
        v.write("own", b"1").unwrap();
        v.unlink("own").unwrap();
        v.unlink("d/x").unwrap();
        v.rmdir("d").unwrap();
        v.mkdir("d").unwrap();
        v.write("d/x", b"2").unwrap();
        v.unlink("d/x").unwrap();
        assert_eq!(std::fs::read_dir(l.upper()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(l.upper().join("d")).unwrap().count(), 0);
        let up = Dir::open(l.upper()).unwrap();
        assert_eq!(up.get_xattr(b"d", opaque_key()).unwrap().as_deref(), Some(&b"y"[..]));
    }
}

#[test]
fn errors_are_those_of_posix() {
    let l = Layers::new(&[&["f f x", "d d", "f d/x x", "d e", "l s f"]]);
    let v = l.open(Form::Plain);
    assert_eq!(errno(v.mkdir("f")), Errno::EXIST);
    assert_eq!(errno(v.rmdir("d")), Errno::NOTEMPTY);
    assert_eq!(errno(v.rmdir("f")), Errno::NOTDIR);
    assert_eq!(errno(v.unlink("d")), Errno::ISDIR);
    assert_eq!(errno(v.unlink("nope")), Errno::NOENT);
    assert_eq!(errno(v.rename("f", "d", Replace)), Errno::ISDIR);
    assert_eq!(errno(v.rename("e", "f", Replace)), Errno::NOTDIR);
    assert_eq!(errno(v.rename("e", "d", Replace)), Errno::NOTEMPTY);
    assert_eq!(errno(v.rename("f", "s", NoReplace)), Errno::EXIST);
    assert_eq!(errno(v.rename("f", "nope", Exchange)), Errno::NOENT);
    assert_eq!(errno(v.rename("d", "d/sub", Replace)), Errno::INVAL);
    assert_eq!(errno(v.link("d", "d2")), Errno::PERM);
    assert_eq!(errno(v.truncate("d", 0)), Errno::ISDIR);
    let char00 =
        v.fs.mknod(super::support::me(), Ino::ROOT, name("w"), FileType::Char, 0o600, 0, 0);
    assert_eq!(errno(char00), Errno::PERM);
}

#[test]
fn renames_over_whiteouts_succeed() {
    each(
        &[&["f f0 0", "f a 1", "d dir", "f dir/x x"]],
        |v| {
            v.rename("f0", "x", Replace).unwrap();
            v.rename("a", "f0", NoReplace).unwrap();
            v.unlink("dir/x").unwrap();
            v.rmdir("dir").unwrap();
            v.mkdir("other").unwrap();
            v.write("other/y", b"y").unwrap();
            v.rename("other", "dir", NoReplace).unwrap();
        },
        |v| {
            assert_eq!(v.ls("").unwrap(), ["dir", "f0", "x"]);
            assert_eq!(v.ls("dir").unwrap(), ["y"]);
            assert_eq!((v.text("f0"), v.text("x")), ("1".into(), "0".into()));
        },
    );
}

#[test]
fn lower_directories_move_by_redirect_again_and_again() {
    let lowers: &[&[&str]] =
        &[&["d a", "d a/b", "f a/b/x x"], &["d a", "d a/b", "f a/b/y y", "d c"]];
    each(
        lowers,
        |v| {
            v.rename("a/b", "a/b2", Replace).unwrap();
            v.rename("a/b2", "c/b3", Replace).unwrap();
            v.write("c/b3/own", b"own").unwrap();
            v.rename("a", "aa", Replace).unwrap();
            v.rename("c/b3", "aa/b", Replace).unwrap();
        },
        |v| {
            assert_eq!(v.ls("").unwrap(), ["aa", "c"]);
            assert_eq!(v.ls("aa/b").unwrap(), ["own", "x", "y"]);
            assert_eq!(v.text("aa/b/y"), "y");
        },
    );
    let l = Layers::new(lowers);
    let v = l.open(Form::Plain);
    v.rename("a/b", "c/b", Replace).unwrap();
    let c = Dir::open(l.upper().join("c")).unwrap();
    assert_eq!(c.get_xattr(b"b", redirect_key()).unwrap().as_deref(), Some(&b"/a/b"[..]));
    let off = Options { redirect_dir: false, ..Options::default() };
    let l = Layers::new(lowers);
    let v = l.open_with(Form::Plain, off, true);
    assert_eq!(errno(v.rename("a", "z", Replace)), Errno::XDEV);
}

#[test]
fn exchange_of_lower_files_and_directories() {
    each(
        &[&["f a A", "p b", "d d", "f d/x x", "d e", "f e/y y"]],
        |v| {
            v.rename("a", "b", Exchange).unwrap();
            v.rename("d", "e", Exchange).unwrap();
            v.rename("b", "d", Exchange).unwrap();
        },
        |v| {
            assert_eq!(v.stat("a").unwrap().kind, FileType::Fifo);
            assert_eq!(v.text("d"), "A");
            assert_eq!(v.ls("b").unwrap(), ["y"]);
            assert_eq!(v.ls("e").unwrap(), ["x"]);
        },
    );
}

#[test]
fn a_directory_replaces_one_that_only_holds_whiteouts() {
    each(
        &[&["d t", "f t/a a", "f t/b b", "d s", "f s/x x"]],
        |v| {
            v.unlink("t/a").unwrap();
            v.unlink("t/b").unwrap();
            v.rename("s", "t", Replace).unwrap();
        },
        |v| {
            assert_eq!(v.ls("").unwrap(), ["t"]);
            assert_eq!(v.ls("t").unwrap(), ["x"]);
        },
    );
}

#[test]
fn handles_survive_unlink_rename_and_rmdir() {
    for form in FORMS {
        let l = Layers::new(&[&["f f low", "d d"]]);
        let v = l.open(form);
        for (path, fresh) in [("f", false), ("n", true)] {
            if fresh {
                v.write(path, b"new").unwrap();
            }
            let ino = v.ino(path).unwrap();
            let fh = v.fs.open(ino, WRITE).unwrap();
            v.unlink(path).unwrap();
            assert_eq!(v.fs.getattr(ino, Some(fh)).unwrap().nlink, 0);
            assert_eq!(v.fs.getattr(ino, None).unwrap().nlink, 0);
            v.fs.write(fh, 0, b"still here", false).unwrap();
            let set = SetAttr { mode: Some(0o640), size: Some(5), ..SetAttr::default() };
            assert_eq!(v.fs.setattr(ino, Some(fh), &set).unwrap().size, 5);
            v.fs.set_xattr(ino, b"user.k", b"v", false, false).unwrap();
            assert_eq!(v.fs.get_xattr(ino, b"user.k").unwrap(), b"v");
            v.fs.fsync(fh, false).unwrap();
            v.fs.release(fh);
        }
        let d = v.ino("d").unwrap();
        v.rmdir("d").unwrap();
        assert_eq!(v.fs.getattr(d, None).unwrap().nlink, 0);
        assert_eq!(errno(v.fs.lookup(d, name("x"))), Errno::NOENT);
        assert_eq!(errno(v.fs.mkdir(super::support::me(), d, name("x"), 0o755, 0)), Errno::NOENT);
        let m = v.mkdir("m").unwrap().ino;
        v.rmdir("m").unwrap();
        assert_eq!(v.fs.getattr(m, None).unwrap().nlink, 0);
        l.check_untouched();
    }
}

#[test]
fn a_removed_directory_lists_nothing() {
    let l = Layers::new(&[&["d low", "d both"]]);
    let v = l.open(Form::Plain);
    v.mkdir("new").unwrap();
    v.chmod("both", 0o700).unwrap();
    for path in ["low", "both", "new"] {
        let ino = v.ino(path).unwrap();
        v.rmdir(path).unwrap();
        let mut names = 0;
        v.fs.readdir(ino, 0, &mut |_| {
            names += 1;
            true
        })
        .unwrap();
        assert_eq!(names, 0, "{path}");
    }
}

#[test]
fn a_removed_lower_file_that_is_open_can_still_change() {
    for form in FORMS {
        let l = Layers::new(&[&["f f low"]]);
        let v = l.open(form);
        let ino = v.ino("f").unwrap();
        let fh = v.fs.open(ino, READ).unwrap();
        v.unlink("f").unwrap();
        assert_eq!(v.fs.getattr(ino, Some(fh)).unwrap().nlink, 0);
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        assert_eq!(v.fs.setattr(ino, Some(fh), &set).unwrap().mode, 0o600);
        let mut buf = [0; 8];
        assert_eq!(v.fs.read(fh, 0, &mut buf).unwrap(), 3);
        v.fs.release(fh);
        assert_eq!(v.ls("").unwrap(), Vec::<String>::new());
        l.check_untouched();
    }
}

#[test]
fn umask_and_setgid_directories_are_honoured() {
    let l = Layers::new(&[&["d d"]]);
    let v = l.open(Form::Plain);
    let me = super::support::me();
    let root = Ino::ROOT;
    let d = v.fs.mkdir(me, root, name("m"), 0o777, 0o077).unwrap();
    assert_eq!(d.mode, 0o700);
    let (f, fh) = v.fs.create(me, root, name("f"), 0o666, 0o077, WRITE).unwrap();
    assert_eq!(f.mode, 0o600);
    v.fs.release(fh);
    v.chmod("d", 0o2777).unwrap();
    assert_eq!(v.fs.mkdir(me, v.ino("d").unwrap(), name("x"), 0o755, 0).unwrap().mode, 0o2755);
    assert_eq!(mode_of(&l.upper().join("d/x")), 0o2755);
    assert_eq!(v.fs.mkdir(me, root, name("sticky"), 0o1777, 0o022).unwrap().mode, 0o1755);
}

#[test]
fn names_of_255_bytes_are_usable_everywhere() {
    let long = "n".repeat(255);
    for form in FORMS {
        let l = Layers::new(&[&[&format!("f {long} x")]]);
        let v = l.open(form);
        v.append(&long, b"y").unwrap();
        v.rename(&long, "short", Replace).unwrap();
        v.rename("short", &long, Replace).unwrap();
        assert_eq!(v.text(&long), "xy");
        v.unlink(&long).unwrap();
        v.mkdir(&long).unwrap();
        assert_eq!(v.ls("").unwrap(), [long.as_str()]);
    }
}

#[test]
fn overlay_attributes_are_hidden_and_users_own_are_escaped() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "f d/f x", "o o"]]);
        let v = l.open(form);
        v.append("d/f", b"x").unwrap();
        for p in ["d", "d/f", "o"] {
            assert_eq!(v.fs.list_xattr(me(), v.ino(p).unwrap()).unwrap(), b"", "{p}");
        }
        let f = v.ino("d/f").unwrap();
        assert_eq!(errno(v.fs.get_xattr(f, opaque_key())), Errno::NODATA);
        assert_eq!(errno(v.fs.remove_xattr(f, b"user.none")), Errno::NODATA);
        v.fs.set_xattr(v.ino("d").unwrap(), opaque_key(), b"y", false, false).unwrap();
        assert_eq!(v.fs.get_xattr(v.ino("d").unwrap(), opaque_key()).unwrap(), b"y");
        drop(v);
        assert_eq!(l.open(form).ls("d").unwrap(), ["f"], "a user's attribute is no mark");
    }
}

#[test]
fn lookups_and_forgets_balance() {
    for form in FORMS {
        let l = Layers::new(&[&["f a 1", "f b 2"]]);
        let v = l.open(form);
        let rest = v.fs.objects();
        for n in ["a", "b"] {
            let ino = v.ino(n).unwrap();
            v.append(n, b"x").unwrap();
            let count = 2;
            v.unlink(n).unwrap();
            v.fs.forget(ino, count);
        }
        assert_eq!(v.fs.objects(), rest);
    }
}

#[test]
fn hard_links_that_nobody_looked_up_follow_the_copy_after_a_remount() {
    for form in FORMS {
        let l =
            Layers::new(&[&["f f1 x", "d d", "h d/hl f1", "d e", "h e/gone f1"], &["f other o"]]);
        let v = l.open(form);
        v.unlink("e/gone").unwrap();
        v.append("f1", b"+").unwrap();
        drop(v);
        let v = l.open(form);
        assert_eq!(v.text("d/hl"), "x+");
        assert_eq!(v.stat("d/hl").unwrap().ino, v.stat("f1").unwrap().ino);
        assert_eq!(v.ls("e").unwrap(), Vec::<String>::new());
        l.check_untouched();
    }
}
