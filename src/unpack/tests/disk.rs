//! Owners, devices and holes on disk.

use super::*;
use std::io::Write as _;

#[test]
fn devices_are_recorded_and_never_whiteouts() {
    let b = base();
    let entries = [other("f", b'3', (0, 0)), other("blk", b'4', (7, 1)), other("p", b'6', (0, 0))];
    for identity in [ordinary(), Identity::current()] {
        let plain = tar(&entries);
        let l = unpack_blob(&plain, Some(&plain), &[&b], identity, &Limits::default()).unwrap();
        assert_eq!((l.node("f").kind, l.node("f").rdev), (Kind::Char, 0));
        assert!(!l.diff.stat(b"f").unwrap().is_whiteout_device());
        assert_eq!((l.node("blk").kind, l.node("blk").rdev), (Kind::Block, makedev(7, 1)));
        assert_eq!(l.node("p").kind, Kind::Fifo);
        let shown = crate::index::scan(&l.diff, crate::index::ScanOptions::default()).unwrap();
        let blk = shown.child(EntryId::ROOT, b"blk").unwrap();
        assert_eq!((shown.meta(blk).kind, major(shown.meta(blk).rdev)), (Kind::Block, 7));
    }
}

#[test]
fn an_ordinary_user_records_what_he_cannot_set() {
    let entries = [
        file("suid", "#!").mode(0o4711).owner(7, 8).xattr("security.capability", "cap"),
        file("none", "x").mode(0).xattr("user.a", "1"),
        dir("closed").mode(0),
        file("closed/f", "x"),
    ];
    let l = layer(&entries, &[]).unwrap();
    let suid = l.node("suid");
    assert_eq!((suid.mode, suid.uid, suid.gid), (0o4711, 7, 8));
    assert_eq!(l.index.xattrs(suid.id).count(), 1);
    let key = crate::marker::OVERRIDE_XATTR;
    assert_eq!(l.diff.get_xattr(b"suid", key).unwrap().unwrap(), b"7:8:4711:file");
    assert_eq!(l.diff.stat(b"suid").unwrap().permissions(), 0o711);
    assert_eq!(l.diff.stat(b"none").unwrap().permissions(), 0o600);
    assert_eq!(l.diff.get_xattr(b"none", b"user.a").unwrap().unwrap(), b"1");
    assert_eq!(l.diff.stat(b"closed").unwrap().permissions(), 0o700);
    assert_eq!(l.node("closed").mode, 0);
}

#[test]
#[allow(clippy::print_stderr)]
fn root_sets_everything() {
    let identity = Identity::current();
    if !identity.privileged {
        writeln!(std::io::stderr(), "\nSKIPPED (1 so far): needs root").unwrap();
        return;
    }
    let entries = [
        dir("./").mode(0o711).owner(1, 2).mtime(5),
        file("suid", "#!").mode(0o4711).owner(7, 8).mtime(-3),
        symlink("l", "x").owner(9, 9).xattr("trusted.t", "1"),
        other("null", b'3', (1, 3)).owner(3, 4),
        dir("d").mode(0o2555).owner(5, 5),
        file("d/f", ""),
        file("noperm", "").mode(0o666),
    ];
    let plain = tar(&entries);
    let l = unpack_blob(&plain, Some(&plain), &[], identity, &Limits::default()).unwrap();
    let stat = |n: &[u8]| {
        let s = l.diff.stat(n).unwrap();
        (s.permissions(), s.uid, s.gid, s.mtime.sec)
    };
    assert_eq!(stat(b"."), (0o711, 1, 2, 5));
    assert_eq!(stat(b"suid"), (0o4711, 7, 8, -3));
    assert_eq!(stat(b"d").0, 0o2555);
    assert_eq!(stat(b"noperm").0, 0o666);
    assert_eq!(l.diff.stat(b"l").unwrap().uid, 9);
    assert_eq!(l.diff.stat(b"null").unwrap().rdev, makedev(1, 3));
    assert_eq!(l.diff.get_xattr(b"suid", crate::marker::OVERRIDE_XATTR).unwrap(), None);
    let up = tar(&[marker("d/.wh..wh..opq")]);
    let up = unpack_blob(&up, Some(&up), &[&l], identity, &Limits::default()).unwrap();
    assert_eq!(up.diff.get_xattr(b"d", b"trusted.overlay.opaque").unwrap().unwrap(), b"y");
    assert_eq!(up.diff.stat(b"d").unwrap().permissions(), 0o2555);
}

#[test]
fn sparse_files_have_holes() {
    let real = 1 << 20;
    let map = format!("2\n4096\n512\n{}\n3\n", real - 3);
    let mut data = map.into_bytes();
    data.resize(512, 0);
    data.extend([7; 512]);
    data.extend(b"end");
    let v1 = file("GNUSparseFile.0/s", &data)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "s")
        .pax("GNU.sparse.realsize", real.to_string());
    let v0 = file("o", "ab").pax("GNU.sparse.size", "9000").pax("GNU.sparse.map", "1,1,8000,1");
    let l = layer(&[v1, v0.clone()], &[]).unwrap();
    let got = l.content("s");
    assert_eq!((got.len(), &got[4096..4098], &got[real - 3..]), (real, &[7, 7][..], &b"end"[..]));
    assert_eq!((l.node("s").size, l.node("s").blocks), (real as u64, 16));
    assert_eq!((l.content("o").len(), l.content("o")[8000]), (9000, b'b'));
    let lie = file("o", "ab").pax("GNU.sparse.size", "9000").pax("GNU.sparse.map", "1,1,8000,2");
    assert!(refused(&[lie]).contains("sparse"));
}
