//! What is written into the upper for other overlays, and read from theirs.

use crate::support::{
    Form, Layers, armed, dialect_key, opaque_key, redirect_key, skip, without_links,
};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use stratafs::marker::Origin;
use stratafs::overlay::RenameMode::{Exchange, NoReplace, Replace};
use stratafs::overlay::failpoint::Failpoints;
use stratafs::overlay::{OpenMode, Options};
use stratafs::sys::{Dir, Errno};

const FORMS: [Form; 3] = [Form::Plain, Form::Indexed, Form::Known];

fn copying() -> Options {
    Options { redirect_dir: false, rename_by_copy: true, ..Options::default() }
}

#[test]
fn copies_name_their_origin_as_the_kernel_does() {
    for form in FORMS {
        let l = Layers::new(&[&["d d", "d d/e", "f d/e/f data", "f g g", "d z"]]);
        let v = l.open(form);
        v.chmod("d/e/f", 0o600).unwrap();
        v.rename("g", "z/moved", Replace).unwrap();
        let root = Dir::open(l.upper()).unwrap();
        let lower = Dir::open(&l.lowers[0]).unwrap();
        let Ok(handle) = lower.handle_of(b"g") else {
            skip("this file system gives no handles");
            return;
        };
        let key = dialect_key("origin");
        let z = root.open_dir(b"z").unwrap();
        let value = z.get_xattr(b"moved", &key).unwrap().unwrap();
        let origin = Origin::parse(&value).unwrap();
        assert_eq!(origin.handle, handle);
        assert_eq!(origin.uuid, lower.file_system_uuid().unwrap_or_default());
        // each directory with such an entry says so, whether that is a file or a directory
        let impure = dialect_key("impure");
        let d = root.open_dir(b"d").unwrap();
        for node in [root.as_node(), d.as_node(), d.node(b"e"), z.as_node()] {
            assert_eq!(node.unwrap().get_xattr(&impure).unwrap().as_deref(), Some(&b"y"[..]));
        }
    }
}

#[test]
fn a_private_view_writes_one_mark_into_a_copy() {
    let l = Layers::new(&[&["f a data"]]);
    let v = l.open_with(Form::Plain, Options { owner_view: true, ..Options::default() }, true);
    v.chmod("a", 0o600).unwrap();
    let root = Dir::open(l.upper()).unwrap();
    let mut keys = root.list_xattr(b"a").unwrap();
    // a record is needed only where the file cannot be made the owner's
    keys.retain(|k| !k.starts_with(b"user.containers."));
    assert_eq!(keys, [dialect_key("stratafs.origin")]);
}

#[test]
fn a_copy_bears_one_record_which_fits_into_its_inode() {
    for form in FORMS {
        let l = Layers::new(&[&["f a data", "f b data"]]);
        let v = l.open(form);
        let plain = std::fs::metadata(l.lowers[0].join("a")).unwrap();
        v.chmod("a", 0o600).unwrap();
        let waits = v.fs.settle_later();
        v.append("b", b"!").unwrap();
        let root = Dir::open(l.upper()).unwrap();
        if root.get_xattr(b"a", &dialect_key("origin")).unwrap().is_none() {
            skip("this file system gives no handles");
            return;
        }
        for (name, batch) in [("a", false), ("b", waits)] {
            let mut keys = root.list_xattr(name.as_bytes()).unwrap();
            // a security module may label files
            keys.retain(|k| !k.starts_with(b"security."));
            assert_eq!(keys, [dialect_key("origin")]);
            let value = root.get_xattr(name.as_bytes(), &dialect_key("origin")).unwrap().unwrap();
            let own = Origin::beyond(&value).unwrap().len();
            assert_eq!(own, 19 + 8 * usize::from(batch), "{name}");
            std::fs::File::open(l.upper().join(name)).unwrap().sync_all().unwrap();
            let copy = std::fs::metadata(l.upper().join(name)).unwrap();
            assert_eq!(copy.blocks(), plain.blocks(), "{name}: a block for its attributes alone");
        }
        let before = ["a", "b"].map(|n| v.stat(n).unwrap().ino);
        drop(v);
        let v = l.open(form);
        assert_eq!(["a", "b"].map(|n| v.stat(n).unwrap().ino), before);
    }
}

#[test]
fn a_record_apart_from_the_kernels_is_read_too() {
    for form in FORMS {
        let l = Layers::new(&[&["f a data", "f b data"]]);
        let v = l.open(form);
        let before = v.stat("a").unwrap().ino;
        v.chmod("a", 0o600).unwrap();
        v.rename("a", "moved", Replace).unwrap();
        drop(v);
        let root = Dir::open(l.upper()).unwrap();
        let node = root.node(b"moved").unwrap();
        let key = dialect_key("origin");
        let Some(value) = node.get_xattr(&key).unwrap() else {
            skip("this file system gives no handles");
            return;
        };
        // number, fingerprint, position of 2 bytes; apart the last two change places
        let [number, print, layer] =
            [1..9, 9..17, 17..19].map(|r| Origin::beyond(&value).unwrap()[r].to_vec());
        node.remove_xattr(&key).unwrap();
        let own = [number, layer, vec![0; 6], print].concat();
        node.set_xattr(&dialect_key("stratafs.origin"), &own, true, false).unwrap();
        let v = l.open(form);
        assert_eq!(v.stat("moved").unwrap().ino, before);
        v.link("moved", "another").unwrap();
        drop(v);
        assert_eq!(l.open(form).stat("another").unwrap().ino, before);
    }
}

/// Takes our own record off copies, as if the kernel had made them. Returns false if they have none
/// of the kernel's.
fn as_if_the_kernels(root: &Dir, names: &[&str]) -> bool {
    let key = dialect_key("origin");
    for name in names {
        let Some(value) = root.get_xattr(name.as_bytes(), &key).unwrap() else {
            skip("this file system gives no handles");
            return false;
        };
        let kernels = Origin::parse(&value).unwrap().encode().unwrap();
        assert_ne!(kernels, value);
        root.set_xattr(name.as_bytes(), &key, &kernels).unwrap();
    }
    true
}

#[test]
fn the_kernels_origin_keeps_numbers() {
    let l = Layers::new(&[&["f a a", "f b b", "f c c"]]);
    let v = l.open(Form::Plain);
    let before = ["a", "b"].map(|n| v.stat(n).unwrap().ino);
    v.chmod("a", 0o600).unwrap();
    v.rename("b", "moved", Replace).unwrap();
    v.chmod("c", 0o600).unwrap();
    drop(v);
    let root = Dir::open(l.upper()).unwrap();
    if !as_if_the_kernels(&root, &["a", "moved", "c"]) {
        return;
    }
    let key = dialect_key("origin");
    root.set_xattr(b"c", &key, b"\0\xfbnonsense").unwrap();
    let v = l.open(Form::Plain);
    assert_eq!(v.stat("a").unwrap().ino, before[0]);
    assert_eq!(v.text("c"), "c");
    let lower = Dir::open(&l.lowers[0]).unwrap();
    let handle = lower.handle_of(b"b").unwrap();
    match lower.stat_handle(&handle) {
        Ok(_) => assert_eq!(v.stat("moved").unwrap().ino, before[1]),
        Err(e) => skip(&format!("handles are not opened here: {e}")),
    }
}

#[test]
fn links_that_were_not_copied_count_after_a_remount() {
    // a layer above hides one name
    let lowers: &[&[&str]] = &[&["w gone"], &["f a x", "h b a", "h gone a"]];
    let l = Layers::new(lowers);
    let v = l.open(Form::Plain);
    v.append("a", b"!").unwrap();
    assert_eq!(v.stat("b").unwrap().nlink, 3);
    drop(v);
    let v = l.open(Form::Plain);
    assert_eq!(v.stat("b").unwrap().nlink, 3);
    v.unlink("a").unwrap();
    assert_eq!(v.stat("b").unwrap().nlink, 2);
    v.link("b", "c").unwrap();
    drop(v);
    let v = l.open(Form::Plain);
    assert_eq!((v.stat("b").unwrap().nlink, v.stat("c").unwrap().nlink), (3, 3));
    let root = Dir::open(l.upper()).unwrap();
    let value = root.get_xattr(b"b", &dialect_key("nlink")).unwrap();
    assert_eq!(value.as_deref(), Some(&b"U+1"[..]));
    l.check_untouched();
}

#[test]
fn hard_links_of_a_kernels_index_are_one_file_from_every_name() {
    let lowers: &[&[&str]] = &[&["d d", "f d/a x", "h b d/a", "h c d/a"]];
    for first in ["b", "c", "d/a"] {
        let l = Layers::new(lowers);
        let lower = Dir::open(&l.lowers[0]).unwrap();
        let Ok(handle) = lower.handle_of(b"b") else {
            skip("this file system gives no handles");
            return;
        };
        let uuid = lower.file_system_uuid().unwrap_or_default();
        let origin = Origin { uuid, handle }.encode().unwrap();
        // what the kernel leaves with index=on after a write to "b"
        std::fs::write(l.upper().join("b"), "new").unwrap();
        let root = Dir::open(l.upper()).unwrap();
        root.set_xattr(b"b", &dialect_key("origin"), &origin).unwrap();
        root.set_xattr(b"b", &dialect_key("nlink"), b"U+1").unwrap();
        root.as_node().unwrap().set_xattr(&dialect_key("impure"), b"y", false, false).unwrap();
        let index = l.tmp.path().join("w/index");
        std::fs::create_dir(&index).unwrap();
        let hex: String = origin.iter().map(|b| format!("{b:02x}")).collect();
        std::fs::hard_link(l.upper().join("b"), index.join(&hex)).unwrap();
        let v = l.open(Form::Plain);
        let seen = v.stat(first).unwrap();
        assert_eq!(seen.nlink, 3, "{first}");
        for n in ["b", "c", "d/a"] {
            let now = v.stat(n).unwrap();
            assert_eq!((v.text(n), now.ino, now.nlink), ("new".into(), seen.ino, 3), "{n}");
        }
        v.append(first, b"er").unwrap();
        for n in ["b", "c", "d/a"] {
            assert_eq!((v.text(n), v.stat(n).unwrap().nlink), ("newer".into(), 3), "{n}");
        }
        v.unlink("c").unwrap();
        assert_eq!(v.stat("d/a").unwrap().nlink, 2);
        drop(v);
        let v = l.open(Form::Plain);
        assert_eq!((v.stat("b").unwrap().nlink, v.text("d/a")), (2, "newer".into()), "{first}");
        assert!(index.join(&hex).exists());
        l.check_untouched();
    }
}

#[test]
fn regression_a_metacopy_that_only_the_kernels_index_holds_has_its_data() {
    let l = Layers::new(&[&["f a data", "h b a"]]);
    let lower = Dir::open(&l.lowers[0]).unwrap();
    let Ok(handle) = lower.handle_of(b"b") else {
        skip("this file system gives no handles");
        return;
    };
    let uuid = lower.file_system_uuid().unwrap_or_default();
    let origin = Origin { uuid, handle }.encode().unwrap();
    let index = l.tmp.path().join("w/index");
    std::fs::create_dir(&index).unwrap();
    let hex: String = origin.iter().map(|b| format!("{b:02x}")).collect();
    std::fs::File::create(index.join(&hex)).unwrap().set_len(4).unwrap();
    let dir = Dir::open(&index).unwrap();
    for (key, value) in [("origin", &origin[..]), ("metacopy", &b""[..]), ("nlink", &b"U+0"[..])] {
        dir.set_xattr(hex.as_bytes(), &dialect_key(key), value).unwrap();
    }
    let v = l.open(Form::Plain);
    assert_eq!((v.text("a"), v.stat("b").unwrap().nlink), ("data".into(), 1));
    v.append("b", b"!").unwrap();
    assert_eq!(v.text("a"), "data!");
}

#[test]
fn regression_a_link_in_a_directory_that_the_kernel_did_not_mark_impure_is_the_same_file() {
    for first in ["a", "d/b"] {
        let l = Layers::new(&[&["f a x", "d d"]]);
        let v = l.open(Form::Plain);
        let number = v.stat("a").unwrap().ino;
        v.chmod("a", 0o600).unwrap();
        v.link("a", "d/b").unwrap();
        drop(v);
        let root = Dir::open(l.upper()).unwrap();
        if !as_if_the_kernels(&root, &["a"]) {
            return;
        }
        root.set_xattr_self(&dialect_key("uuid"), &[1; 16]).unwrap();
        root.node(b"d").unwrap().remove_xattr(&dialect_key("impure")).unwrap();
        let v = l.open(Form::Plain);
        assert_eq!(v.stat(first).unwrap().ino, number);
        assert_eq!((v.stat("d/b").unwrap().ino, v.stat("a").unwrap().ino), (number, number));
    }
}

const TREE: &[&[&str]] = &[
    &["d t", "d t/sub", "f t/sub/top 1", "w t/gone"],
    &[
        "d t",
        "d t/sub",
        "f t/sub/low 2",
        "f t/gone x",
        "f t/h y",
        "h t/sub/h2 t/h",
        "d to",
        "f to/old z",
    ],
];

#[test]
fn copying_renames_move_directories_where_redirects_are_off() {
    for form in FORMS {
        let l = Layers::new(TREE);
        let v = l.open_with(form, copying(), true);
        v.unlink("t/sub/top").unwrap();
        let held =
            v.fs.open(v.ino("t/sub/low").unwrap(), OpenMode { read: true, ..OpenMode::default() });
        let held = held.unwrap();
        let numbers = ["t/sub/low", "t/h"].map(|p| v.stat(p).unwrap().ino);
        let dir = v.stat("t/sub").unwrap().ino;
        v.rename("t", "to/t2", NoReplace).unwrap();
        let after = ["to/t2/sub/low", "to/t2/h"].map(|p| v.stat(p).unwrap().ino);
        assert_eq!((after, v.stat("to/t2/sub").unwrap().ino), (numbers, dir));
        assert_eq!(v.stat("to/t2/h").unwrap().nlink, 2);
        let mut buf = [0; 8];
        assert_eq!(v.fs.read(held, 0, &mut buf).unwrap(), 1);
        v.fs.release(held);
        // nothing hides anything in there, and nothing leads anywhere
        v.unlink("to/t2/sub/low").unwrap();
        v.mkdir("to/t2/sub/low").unwrap();
        v.rename("to/t2/sub/low", "to/t2/gone", Replace).unwrap();
        v.rename("to/t2/sub", "s", Replace).unwrap();
        assert_eq!(v.ls("").unwrap(), ["s", "to"]);
        assert_eq!(v.ls("to/t2").unwrap(), ["gone", "h"]);
        assert_eq!(v.ls("s").unwrap(), ["h2"]);
        for (parent, name) in [(l.upper().join("to"), "t2"), (l.upper(), "s")] {
            let parent = Dir::open(parent).unwrap();
            let mark = |key| parent.get_xattr(name.as_bytes(), key).unwrap();
            assert_eq!(mark(redirect_key()), None);
            assert_eq!(mark(opaque_key()).as_deref(), Some(&b"y"[..]));
            let inside = parent.open_dir(name.as_bytes()).unwrap();
            for e in inside.list().unwrap() {
                assert!(!inside.stat(&e.name).unwrap().is_whiteout_device(), "{name}");
            }
        }
        let tree = without_links(v.tree());
        v.fs.sync().unwrap();
        l.check_work_empty();
        drop(v);
        let again = l.open_with(form, copying(), true);
        assert_eq!(without_links(again.tree()), tree, "after remount");
        again.rename("to", "s2", Replace).unwrap();
        again.rename("s", "s2", Exchange).unwrap();
        assert_eq!(again.ls("s").unwrap(), ["old", "t2"]);
        assert_eq!(again.text("s2/h2"), "y");
        l.check_untouched();
    }
}

#[test]
fn a_copying_rename_that_fails_changes_nothing() {
    for form in FORMS {
        for point in
            ["rename:copy", "rename:opaque", "rename:commit", "copy-up:data", "copy-up:commit"]
        {
            let l = Layers::new(TREE);
            let armory = Arc::new(Failpoints::default());
            let options = Options { failpoints: armed(&armory).failpoints, ..copying() };
            let v = l.open_with(form, options, true);
            let old = v.tree_in(form);
            armory.arm(point, Errno::NOSPC);
            assert_eq!(v.rename("t", "to/t2", Replace).unwrap_err().errno(), Errno::NOSPC);
            assert_eq!(v.tree_in(form), old, "{point}");
            drop(v);
            let v = l.open_with(form, copying(), true);
            assert_eq!(v.tree_in(form), old, "{point}, after remount");
            v.rename("t", "to/t2", Replace).unwrap();
            assert_eq!(v.ls("to/t2").unwrap(), ["h", "sub"]);
            l.check_untouched();
        }
    }
}

#[test]
fn metacopies_move_with_their_data_in_a_copying_rename() {
    let l = Layers::new(&[&["d t", "f t/f data"]]);
    let options = Options { metacopy: true, ..copying() };
    let v = l.open_with(Form::Plain, options, true);
    v.chmod("t/f", 0o600).unwrap();
    v.rename("t", "u", Replace).unwrap();
    assert_eq!(v.text("u/f"), "data");
    assert_eq!(std::fs::read(l.upper().join("u/f")).unwrap(), b"data");
    drop(v);
    assert_eq!(l.open(Form::Plain).text("u/f"), "data");
}

#[test]
fn every_choice_of_redirects() {
    // the upper's directory leads elsewhere already
    let redirected = |follow| {
        let l = Layers::new(&[&["d a", "f a/f f", "d b"]]);
        let v = l.open(Form::Plain);
        v.rename("a", "moved", Replace).unwrap();
        drop(v);
        (l, Options { follow_redirects: follow, ..Options::default() })
    };
    for (write, copy, follow) in [
        (true, false, true),
        (false, false, true),
        (false, false, false),
        (false, true, true),
        (false, true, false),
    ] {
        let (l, base) = redirected(follow);
        let options = Options { redirect_dir: write, rename_by_copy: copy, ..base };
        let v = l.open_with(Form::Plain, options, true);
        let shown: &[&str] = if follow { &["f"] } else { &[] };
        assert_eq!(v.ls("moved").unwrap(), shown);
        let again = v.rename("moved", "third", Replace);
        let fresh = v.rename("b", "b2", Replace);
        if write || copy {
            again.unwrap();
            fresh.unwrap();
            assert_eq!(v.ls("third").unwrap(), shown);
        } else {
            assert_eq!(fresh.unwrap_err().errno(), Errno::XDEV);
            // without its lower parts it is a directory of the upper like any other
            assert_eq!(again.is_ok(), !follow);
        }
        l.check_untouched();
    }
}
