//! Which times of access change by reading.

use crate::support::{Form, Layers, View};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use stratafs::overlay::{AccessTimes, Options};

/// A time before which no file system would leave a time of access as it is (`relatime`).
const OLD: i64 = 946_684_800;

fn age(path: &Path) {
    let old = rustix::fs::Timespec { tv_sec: OLD, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// Whether somebody's reading was noted since [`age`].
fn noted(path: &Path) -> bool {
    std::fs::metadata(path).unwrap().atime() != OLD
}

fn open(l: &Layers, access_times: AccessTimes) -> View {
    l.open_with(Form::Plain, Options { access_times, ..Options::default() }, true)
}

#[test]
fn reading_notes_an_access_in_the_upper_as_the_options_have_it() {
    let l = Layers::new(&[&["d low", "f low/f lower"]]);
    let (dir, file) = (l.upper().join("d"), l.upper().join("d/f"));
    let v = open(&l, AccessTimes::Upper);
    v.mkdir("d").unwrap();
    v.write("d/f", b"text").unwrap();
    drop(v);
    for (times, of_dirs, of_files) in [
        (AccessTimes::Upper, true, true),
        (AccessTimes::NotOfDirectories, false, true),
        (AccessTimes::Kept, false, false),
    ] {
        [&dir, &file].into_iter().for_each(|p| age(p));
        let v = open(&l, times);
        // looking for a name is no reading of its directory
        v.stat("d/f").unwrap();
        assert!(!noted(&dir) && !noted(&file), "{times:?}");
        v.ls("d").unwrap();
        assert_eq!((noted(&dir), noted(&file)), (of_dirs, false), "{times:?}");
        assert_eq!(v.text("d/f"), "text");
        assert_eq!(noted(&file), of_files, "{times:?}");
    }
}

/// Also through handles that no private mount keeps from it, as those of an ordinary user are.
#[test]
fn reading_leaves_the_times_of_a_lower() {
    let l = Layers::new(&[&["d low", "f low/f lower"]]);
    let lower = &l.lowers[0];
    let all = [lower.clone(), lower.join("low"), lower.join("low/f")];
    for form in [Form::Plain, Form::Indexed, Form::Known] {
        let v = l.open(form);
        all.iter().for_each(|p| age(p));
        v.ls("").unwrap();
        v.ls("low").unwrap();
        assert_eq!(v.text("low/f"), "lower");
        v.write("low/new", b"upper").unwrap();
        v.append("low/f", b"+").unwrap();
        for path in &all {
            assert!(!noted(path), "{form:?}: {}", path.display());
        }
        l.forget(v);
    }
}
