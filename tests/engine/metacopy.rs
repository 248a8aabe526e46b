//! Files whose metadata and data are in different layers.

use crate::support::{Form, Layers, READ, dialect_key, errno, me, name};
use stratafs::overlay::{
    Ino, Lower, OpenMode, Options, Overlay, RenameMode, SetAttr, Stack, Upper,
};
use stratafs::sys::{Dir, Errno, Time, TimeSet};

const BIG: &str = "0123456789abcdef0123456789abcdef";

fn metacopy() -> Options {
    Options { metacopy: true, ..Options::default() }
}

/// Makes the file an upper of the kernel's would hold: its size, no data, the marks.
fn mark(dir: &std::path::Path, file: &str, size: u64, redirect: Option<&str>) {
    let f = std::fs::File::create(dir.join(file)).unwrap();
    f.set_len(size).unwrap();
    let node = Dir::open(dir).unwrap();
    node.set_xattr(file.as_bytes(), &dialect_key("metacopy"), b"").unwrap();
    if let Some(r) = redirect {
        node.set_xattr(file.as_bytes(), &dialect_key("redirect"), r.as_bytes()).unwrap();
    }
}

#[test]
fn changed_attributes_copy_no_data_until_the_first_write() {
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let l =
            Layers::new(&[&[&format!("f f {BIG}"), &format!("f g {BIG}"), &format!("f h {BIG}")]]);
        let v = l.open_with(form, metacopy(), true);
        let before = v.stat("f").unwrap();
        for f in ["f", "g", "h"] {
            v.chmod(f, 0o600).unwrap();
        }
        let old = TimeSet::At(Time { sec: 1_400_000_000, nsec: 5 });
        let set = SetAttr { mtime: Some(old), ..SetAttr::default() };
        v.fs.setattr(v.ino("f").unwrap(), None, &set).unwrap();
        v.fs.set_xattr(v.ino("f").unwrap(), b"user.k", b"v", false, false).unwrap();
        let on_disk = Dir::open(l.upper()).unwrap();
        let raw = on_disk.stat(b"f").unwrap();
        assert_eq!(raw.size, BIG.len() as u64);
        assert!(on_disk.get_xattr(b"f", &dialect_key("metacopy")).unwrap().is_some());
        drop(v);

        let v = l.open_with(form, metacopy(), true);
        assert_eq!(v.text("f"), BIG);
        let after = v.stat("f").unwrap();
        assert_eq!((after.mode, after.ino, after.size), (0o600, before.ino, before.size));
        assert_eq!(after.mtime.sec, 1_400_000_000);
        let reader = v.fs.open(v.ino("f").unwrap(), READ).unwrap();
        v.append("f", b"more").unwrap();
        let mut buf = [0; 64];
        let n = v.fs.read(reader, 0, &mut buf).unwrap();
        assert_eq!(&buf[..n], format!("{BIG}more").as_bytes());
        assert_eq!(on_disk.get_xattr(b"f", &dialect_key("metacopy")).unwrap(), None);
        v.rename("g", "gg", RenameMode::Replace).unwrap();
        v.link("h", "hh").unwrap();
        assert_eq!((v.text("gg"), v.text("hh")), (BIG.into(), BIG.into()));
        drop(v);
        let v = l.open(form);
        assert_eq!(v.text("f"), format!("{BIG}more"));
        assert_eq!((v.text("gg"), v.text("h")), (BIG.into(), BIG.into()));
        l.check_untouched();
    }
}

#[test]
fn bringing_up_the_data_takes_no_rights_away() {
    if !stratafs::sys::Identity::current().privileged {
        return; // capabilities are root's to give
    }
    let l = Layers::new(&[&[&format!("f f {BIG}"), &format!("f g {BIG}")]]);
    let v = l.open_with(Form::Plain, metacopy(), true);
    let mut capability = vec![1, 0, 0, 2, 2];
    capability.resize(20, 0);
    for (path, mode) in [("f", 0o6755), ("g", 0o644)] {
        v.chmod(path, mode).unwrap();
        let ino = v.ino(path).unwrap();
        v.fs.set_xattr(ino, b"security.capability", &capability, false, false).unwrap();
        // opened for writing, and closed
        let mode = OpenMode { write: true, ..OpenMode::default() };
        let fh = v.fs.open(ino, mode).unwrap();
        v.fs.release(fh);
        let on_disk = Dir::open(l.upper()).unwrap();
        assert_eq!(on_disk.get_xattr(path.as_bytes(), &dialect_key("metacopy")).unwrap(), None);
        assert_eq!(v.fs.get_xattr(ino, b"security.capability").unwrap(), capability, "{path}");
        assert_eq!(v.text(path), BIG);
    }
    assert_eq!(v.stat("f").unwrap().mode, 0o6755);
}

#[test]
fn cutting_a_metacopy_needs_no_data() {
    let l = Layers::new(&[&[&format!("f f {BIG}"), &format!("f g {BIG}")]]);
    let v = l.open_with(Form::Plain, metacopy(), true);
    v.chmod("f", 0o600).unwrap();
    v.chmod("g", 0o600).unwrap();
    let fh = v.fs.open(v.ino("f").unwrap(), OpenMode { truncate: true, ..READ }).unwrap();
    v.fs.release(fh);
    v.truncate("g", 4).unwrap();
    assert_eq!((v.text("f"), v.text("g")), (String::new(), "0123".into()));
    drop(v);
    let v = l.open(Form::Plain);
    assert_eq!((v.text("f"), v.text("g")), (String::new(), "0123".into()));
}

#[test]
fn metacopies_made_elsewhere_lead_to_their_data() {
    let l = Layers::new(&[
        &["d d"],
        &["d d", &format!("f d/same {BIG}"), &format!("f other {BIG}"), &format!("f moved {BIG}")],
    ]);
    let n = BIG.len() as u64;
    mark(&l.lowers[0].join("d"), "same", n, None);
    mark(&l.lowers[0].join("d"), "abs", n, Some("/other"));
    mark(&l.upper(), "renamed", n, Some("moved"));
    mark(&l.upper(), "up", n, Some("/d/abs"));
    mark(&l.upper(), "lost", n, Some("/nowhere"));
    let v = l.open(Form::Plain);
    for f in ["d/same", "d/abs", "renamed", "up"] {
        assert_eq!(v.text(f), BIG, "{f}");
    }
    assert_eq!(errno(v.read("lost")), Errno::IO);
    let lost = v.fs.open(v.ino("lost").unwrap(), READ).unwrap_err().to_string();
    // which file of which layer, and what it wants
    for part in ["lost", "Upper", "/nowhere"] {
        assert!(lost.contains(part), "{lost}");
    }
    assert_eq!(v.fs.list_xattr(me(), v.ino("d/abs").unwrap()).unwrap(), b"");
    v.append("d/abs", b"!").unwrap();
    v.append("up", b"!").unwrap();
    assert_eq!((v.text("d/abs"), v.text("up")), (format!("{BIG}!"), format!("{BIG}!")));
    let ro = l.open_with(Form::Plain, Options::default(), false);
    let mut buf = [0; 64];
    let got = ro.fs.read_ino(ro.ino("d/same").unwrap(), 0, &mut buf).unwrap();
    assert_eq!(&buf[..got], BIG.as_bytes());
}

#[test]
fn data_only_layers_show_no_names() {
    let l = Layers::new(&[&["d d"], &["d blobs", &format!("f blobs/1 {BIG}")]]);
    mark(&l.lowers[0].join("d"), "f", BIG.len() as u64, Some("/blobs/1"));
    let dir = |p: &std::path::Path| Lower::Plain(Dir::open(p).unwrap());
    let upper = Upper {
        dir: Dir::open(l.upper()).unwrap(),
        work: Dir::open(l.tmp.path().join("w")).unwrap(),
    };
    let stack = Stack {
        lowers: vec![dir(&l.lowers[0])],
        data_only: vec![dir(&l.lowers[1])],
        upper: Some(upper),
    };
    let fs = Overlay::new(stack, Options::default()).unwrap();
    assert_eq!(errno(fs.lookup(Ino::ROOT, name("blobs"))), Errno::NOENT);
    let d = fs.lookup(Ino::ROOT, name("d")).unwrap().ino;
    let f = fs.lookup(d, name("f")).unwrap().ino;
    let fh = fs.open(f, READ).unwrap();
    let mut buf = [0; 64];
    let n = fs.read(fh, 0, &mut buf).unwrap();
    assert_eq!(&buf[..n], BIG.as_bytes());
    fs.release(fh);
    let fh = fs.open(f, OpenMode { write: true, ..READ }).unwrap();
    fs.write(fh, 0, b"X", false).unwrap();
    fs.release(fh);
    assert_eq!(std::fs::read(l.upper().join("d/f")).unwrap(), format!("X{}", &BIG[1..]).as_bytes());
}
