//! Times that the kernel keeps by itself, because it holds writes back.

use crate::support::{Form, Layers, READ, View, WRITE, me, name};
use std::os::unix::fs::MetadataExt;
use stratafs::overlay::{Error, Ino, OpenMode, Options, SetAttr};
use stratafs::sys::{Time, TimeSet};

const THEN: Time = Time { sec: 981_173_106, nsec: 789_012_345 };
const LATER: Time = Time { sec: 981_173_107, nsec: 1 };
const BOTH: OpenMode = OpenMode { read: true, ..WRITE };

/// The time of the last write that the upper has.
fn on_disk(l: &Layers, name: &str) -> Time {
    let m = std::fs::metadata(l.upper().join(name)).unwrap();
    Time { sec: m.mtime(), nsec: u32::try_from(m.mtime_nsec()).unwrap() }
}

fn each(check: impl Fn(&Layers, &View)) {
    for form in [Form::Plain, Form::Indexed] {
        let l = Layers::new(&[&["f f 0123456789", "f g other"]]);
        for lazy_from in [None, Some(1)] {
            let options = Options { lazy_from, ..Options::default() };
            check(&l, &l.open_with(form, options, true));
            std::fs::remove_dir_all(l.upper()).unwrap();
            std::fs::create_dir(l.upper()).unwrap();
        }
        l.check_untouched();
    }
}

#[test]
fn the_disk_gets_the_kernels_time_at_the_last_close() {
    each(|l, v| {
        let before = v.stat("f").unwrap();
        let (first, second) = (v.fs.open(before.ino, BOTH), v.fs.open(before.ino, BOTH));
        let (first, second) = (first.unwrap(), second.unwrap());
        v.fs.hold_mtime(first, before.mtime);
        v.fs.hold_mtime(second, before.mtime);
        v.fs.write_mapped(first, 3, b"x").unwrap();
        // the kernel has said nothing of it so far
        assert_eq!(v.stat("f").unwrap().mtime, before.mtime);
        v.fs.release(first);
        assert_eq!(v.stat("f").unwrap().mtime, before.mtime);
        assert_eq!(v.fs.keep_mtime(before.ino, Some(second), THEN).unwrap().mtime, THEN);
        v.fs.write_mapped(second, 4, b"y").unwrap();
        assert_eq!(v.stat("f").unwrap().mtime, THEN);
        v.fs.release(second);
        assert_eq!((v.stat("f").unwrap().mtime, v.text("f").as_str()), (THEN, "012xy56789"));
        v.fs.sync().unwrap();
        assert_eq!(on_disk(l, "f"), THEN);
        // one that is closed is what the disk says
        let now = SetAttr { mtime: Some(TimeSet::At(before.mtime)), ..SetAttr::default() };
        v.fs.setattr(before.ino, None, &now).unwrap();
        assert_eq!(v.stat("f").unwrap().mtime, before.mtime);
    });
}

#[test]
fn a_handle_that_does_not_write_holds_no_time() {
    each(|_, v| {
        let (made, h) = v.fs.create(me(), Ino::ROOT, name("new"), 0o644, 0, READ).unwrap();
        v.fs.hold_mtime(h, THEN);
        assert_eq!(v.stat("new").unwrap().mtime, made.mtime);
        v.fs.release(h);
        // the last that writes lets it go
        let h = v.fs.open(made.ino, BOTH).unwrap();
        v.fs.hold_mtime(h, THEN);
        v.fs.release(h);
        v.append("new", b"x").unwrap();
        assert_ne!(v.stat("new").unwrap().mtime, THEN);
    });
}

#[test]
fn a_time_that_a_file_has_already_copies_nothing_up() {
    each(|l, v| {
        let g = v.stat("g").unwrap();
        assert_eq!(v.fs.keep_mtime(g.ino, None, g.mtime).unwrap(), g);
        assert!(!l.upper().join("g").exists());
        // somebody sets another one
        assert_eq!(v.fs.keep_mtime(g.ino, None, THEN).unwrap().mtime, THEN);
        assert_eq!(on_disk(l, "g"), THEN);
    });
}

#[test]
fn who_writes_what_is_known() {
    let l = Layers::new(&[&["f f 0123456789", "f g other"]]);
    let v = l.open(Form::Plain);
    let look = |n| v.fs.lookup(Ino::ROOT, name(n)).unwrap().ino;
    let (f, g) = (look("f"), look("g"));
    let open = [(f, BOTH), (f, WRITE), (g, READ)];
    let open = open.map(|(ino, mode)| v.fs.open(ino, mode).unwrap());
    assert_eq!(v.fs.written(), [f]);
    open.into_iter().for_each(|h| v.fs.release(h));
    assert!(v.fs.written().is_empty());
}

/// A handle that never held a time, one that failed, and one that others close meanwhile leave
/// everybody else's as it is.
#[test]
fn a_time_is_held_by_those_who_took_it() {
    each(|l, v| {
        let f = v.stat("f").unwrap();
        let hold = || v.fs.holding_mtime(f.ino, || v.fs.open(f.ino, WRITE)).unwrap();
        let first = hold();
        v.fs.keep_mtime(f.ino, Some(first), THEN).unwrap();
        v.fs.release(v.fs.open(f.ino, WRITE).unwrap());
        let failed = v.fs.holding_mtime(f.ino, || Err::<_, Error>(Error::NotPermitted));
        assert!(failed.is_err());
        assert_eq!(v.stat("f").unwrap().mtime, THEN, "the first still holds it");
        // a time set and a close while another is being opened
        let second =
            v.fs.holding_mtime(f.ino, || {
                v.fs.keep_mtime(f.ino, Some(first), LATER)?;
                v.fs.release(first);
                v.fs.open(f.ino, WRITE)
            })
            .unwrap();
        v.fs.release(second);
        assert_eq!((on_disk(l, "f"), v.stat("f").unwrap().mtime), (LATER, LATER));
    });
}
