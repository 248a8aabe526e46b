//! Extended attributes: found by the differential test.

use crate::support::{Form, Layers, me};
use stratafs::overlay::{Caller, Options, Records, SetAttr};
use stratafs::sys::{Dir, FileType, Identity};

#[test]
fn trusted_names_are_listed_to_root_alone() {
    if !Identity::current().privileged {
        return; // nobody else can set one
    }
    let l = Layers::new(&[&["f low low", "f up up"]]);
    let lower = Dir::open(&l.lowers[0]).unwrap();
    lower.node(b"low").unwrap().set_xattr(b"trusted.t", b"v", false, false).unwrap();
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        v.fs.set_xattr(v.ino("up").unwrap(), b"trusted.t", b"v", false, false).unwrap();
        for path in ["low", "up"] {
            let listed = |who| v.fs.list_xattr(who, v.ino(path).unwrap()).unwrap();
            assert_eq!(listed(me()), b"trusted.t\0", "{path}");
            assert_eq!(listed(Caller { uid: 1000, gid: 1000 }), b"", "{path}");
        }
    }
}

#[test]
fn what_is_listed_and_cannot_be_read_is_listed_all_the_same() {
    if !Identity::current().privileged {
        return;
    }
    let l = Layers::new(&[&["f f low"]]);
    // no header: the kernel takes it, and answers EINVAL to those who read it
    let lower = Dir::open(&l.lowers[0]).unwrap();
    let node = lower.node(b"f").unwrap();
    if node.set_xattr(b"security.capability", b"", false, false).is_ok() {
        let v = l.open(Form::Plain);
        let names = v.fs.list_xattr(me(), v.ino("f").unwrap()).unwrap();
        assert_eq!(names, b"security.capability\0");
    }
}

#[test]
fn user_names_of_what_cannot_have_any_are_not_listed() {
    let l = Layers::new(&[&["f link target", "f file text"]]);
    let lower = Dir::open(&l.lowers[0]).unwrap();
    for (path, record) in [("link", "0:0:0777:symlink"), ("file", "0:0:0644:file")] {
        let node = lower.node(path.as_bytes()).unwrap();
        for (key, value) in [("user.containers.override_stat", record), ("user.k", "v")] {
            if node.set_xattr(key.as_bytes(), value.as_bytes(), false, false).is_err() {
                return; // not on this file system
            }
        }
    }
    let v = l.open_with(Form::Plain, Options { owner_view: true, ..Options::default() }, true);
    let listed = |path| v.fs.list_xattr(me(), v.ino(path).unwrap()).unwrap();
    assert_eq!(v.stat("link").unwrap().kind, FileType::Symlink);
    assert_eq!(listed("link"), b"");
    assert_eq!(listed("file"), b"user.k\0");
}

#[test]
fn what_gets_a_stand_in_takes_its_attributes_along() {
    if !Identity::current().privileged {
        return; // nobody else can give a fifo one
    }
    let l = Layers::new(&[&["p pipe"]]);
    let recorded = Options { owner_view: true, records: Records::Privileged, ..Options::default() };
    let v = l.open_with(Form::Plain, recorded, true);
    let pipe = v.ino("pipe").unwrap();
    for key in [&b"trusted.t"[..], b"trusted.overlay.opaque"] {
        v.fs.set_xattr(pipe, key, b"v", false, false).unwrap();
    }
    let change = SetAttr { uid: Some(5), gid: Some(6), ..SetAttr::default() };
    v.fs.setattr(pipe, None, &change).unwrap();
    assert_eq!(v.stat("pipe").unwrap().kind, FileType::Fifo);
    for key in [&b"trusted.t"[..], b"trusted.overlay.opaque"] {
        assert_eq!(v.fs.get_xattr(pipe, key).unwrap(), b"v");
    }
}
