use super::testing::*;
use super::*;
use crate::sys::{OpenFlags, major, makedev};
use std::io::Write as _;

fn base() -> Layer {
    let entries = [
        dir("d").mode(0o750).owner(5, 6).mtime(77).xattr("user.x", "1"),
        file("d/a", "low a"),
        file("d/b", "low b"),
        dir("d/sub"),
        file("d/sub/c", "low c"),
        file("f", "low f"),
        symlink("l", "d"),
    ];
    layer(&entries, &[]).unwrap()
}

fn upon(base: &Layer, entries: &[T]) -> Vec<String> {
    layer(entries, &[base]).unwrap().paths()
}

fn refused(entries: &[T]) -> String {
    match layer(entries, &[&base()]) {
        Err(e) => e.to_string(),
        Ok(l) => panic!("accepted: {:?}", l.paths()),
    }
}

#[test]
fn a_plain_layer_comes_out_as_it_went_in() {
    let b = base();
    assert_eq!(b.paths(), ["d", "d/a", "d/b", "d/sub", "d/sub/c", "f", "l"]);
    let d = b.node("d");
    assert_eq!((d.mode, d.uid, d.gid, d.mtime.sec, d.implied), (0o750, 5, 6, 77, false));
    assert_eq!(b.index.xattrs(d.id).collect::<Vec<_>>(), [(&b"user.x"[..], &b"1"[..])]);
    assert_eq!(b.index.symlink_target(b.node("l").id), b"d");
    assert_eq!(b.content("d/sub/c"), b"low c");
    assert_eq!(b.size, 5 * 4 + 1, "files and the symlink, no directories");
    assert_eq!(b.diff.stat(b"d").unwrap().mtime.sec, 77);
}

#[test]
fn markers_affect_lower_layers_only_in_any_order() {
    let b = base();
    assert_eq!(upon(&b, &[marker(".wh.f"), file("f", "n")]), ["f"]);
    assert_eq!(upon(&b, &[file("f", "n"), marker(".wh.f")]), ["f"]);
    for entries in [
        &[marker(".wh.d"), dir("d"), file("d/n", "")][..],
        &[dir("d"), file("d/n", ""), marker(".wh.d")],
        &[file("d/n", ""), marker("d/.wh..wh..opq"), dir("d")],
        &[marker("d/.wh..wh..opq"), marker("d/.wh.a"), file("d/n", "")],
        &[marker(".wh.d"), marker("d/.wh.a"), file("d/n", "")],
        &[marker("d/.wh.a"), marker(".wh.d"), file("d/n", "")],
    ] {
        assert_eq!(upon(&b, entries), ["!d", "d/n"]);
    }
    assert_eq!(upon(&b, &[marker("d/.wh.a"), marker(".wh.d")]), ["-d"]);
    assert_eq!(upon(&b, &[marker(".wh.f"), dir("f")]), ["f"], "nothing of f can come back");
    assert_eq!(upon(&b, &[file("d", "now"), marker("d/.wh.a")]), ["d"]);
}

#[test]
fn markers_without_anything_to_hide_are_left_out() {
    let b = base();
    let none: [&str; 0] = [];
    assert_eq!(upon(&b, &[marker(".wh.nothing")]), none);
    assert_eq!(upon(&b, &[marker("no/.wh.x"), marker("nope/.wh..wh..opq")]), none);
    assert_eq!(upon(&b, &[marker("d/.wh.nothing"), marker("f/.wh.x")]), none);
    assert_eq!(upon(&b, &[dir("d"), marker("d/.wh.nothing")]), ["d"]);
    assert_eq!(upon(&b, &[dir("new"), marker("new/.wh.x"), marker("new/.wh..wh..opq")]), ["new"]);
    let gone = layer(&[marker(".wh.d")], &[&b]).unwrap();
    assert_eq!(layer(&[marker(".wh.d")], &[&gone, &b]).unwrap().paths(), none);
    let again = layer(&[marker("d/.wh.a"), file("d/n", "")], &[&gone, &b]).unwrap();
    assert_eq!(again.paths(), ["d", "d/n"]);
}

#[test]
fn parents_without_an_entry_look_as_below() {
    let b = base();
    for entries in [&[file("d/n", "")][..], &[marker("d/.wh.a")], &[marker("d/.wh..wh..opq")]] {
        let l = layer(entries, &[&b]).unwrap();
        let d = l.node("d");
        assert_eq!((d.mode, d.uid, d.gid, d.mtime.sec), (0o750, 5, 6, 77));
        assert!(d.implied && d.has_xattrs);
        let top = layer(&[file("d/m", "")], &[&l, &b]).unwrap();
        assert_eq!(top.node("d").uid, 5, "through another implied one");
    }
    let l = layer(&[file("p/q/f", "").mtime(99)], &[&b]).unwrap();
    let p = l.node("p");
    assert_eq!((p.mode, p.uid, p.gid, p.mtime.sec, p.implied), (0o755, 0, 0, 99, true));
    assert_eq!(upon(&b, &[file("l/f", "")]), ["l", "l/f"], "a link of a lower layer gives way");
}

#[test]
fn an_opaque_root_becomes_marks_on_its_names() {
    let b = base();
    assert_eq!(upon(&b, &[marker(".wh..wh..opq"), file("d/n", "")]), ["!d", "d/n", "-f", "-l"]);
}

#[test]
fn markers_reach_the_disk() {
    let b = base();
    let entries = [marker(".wh.f"), marker(".wh.d"), dir("d"), marker("d/.wh.a"), file("d/n", "")];
    let l = layer(&entries, &[&b]).unwrap();
    assert!(l.diff.stat(b"f").unwrap().is_whiteout_device());
    assert_eq!(l.diff.get_xattr(b"d", b"user.overlay.opaque").unwrap().unwrap(), b"y");
    assert_eq!(l.diff.open_dir(b"d").unwrap().list().unwrap().len(), 1);
    // the scan of the directory finds what the tar said
    let found = crate::index::scan(&l.diff, crate::index::ScanOptions::default()).unwrap();
    found.finish(&l.meta, b"scanned").unwrap();
    let scanned = Index::open(&l.meta, b"scanned").unwrap();
    assert_eq!((scanned.whiteouts(), scanned.opaque_dirs(), scanned.len()), (1, 1, 4));
}

#[test]
fn the_last_of_two_entries_wins() {
    let entries = [
        file("x", "first"),
        file("./x", "second"),
        dir("d").mode(0o700),
        file("d/in", "kept"),
        dir("d").mode(0o711),
        dir("gone"),
        file("gone/deep", "data of a file that goes"),
        file("gone", "now a file"),
        symlink("s", "x"),
        file("s", "not through the link"),
        file("t", "linked"),
        hard("h", "t"),
        file("t", "replaced"),
        dir("y"),
        file("y/a", "held"),
        hard("y", "y/a"),
        marker(".wh.w"),
        marker(".wh.w"),
    ];
    let l = layer(&entries, &[]).unwrap();
    assert_eq!(l.paths(), ["d", "d/in", "gone", "h", "s", "t", "x", "y"]);
    assert_eq!(l.content("x"), b"second");
    assert_eq!(l.content("s"), b"not through the link");
    assert_eq!((l.content("h"), l.content("t")), (b"linked".to_vec(), b"replaced".to_vec()));
    assert_eq!(l.content("y"), b"held");
    assert_eq!(l.node("d").mode, 0o711);
    // what a file hid in between stays hidden
    let b = base();
    assert_eq!(upon(&b, &[file("d", ""), dir("d")]), ["!d"]);
    assert_eq!(upon(&b, &[dir("d"), symlink("d", "f"), file("d/n", "")]), ["!d", "d/n"]);
}

#[test]
fn hard_links_stay_in_the_layer() {
    let l = layer(
        &[file("a", "x"), dir("d"), hard("d/b", "/a"), symlink("s", "a"), hard("t", "s")],
        &[],
    )
    .unwrap();
    assert_eq!(l.index.links(l.node("a").id).len(), 2);
    assert_eq!((l.node("a").nlink, l.size), (2, 1 + 1));
    assert_eq!(l.index.symlink_target(l.node("t").id), b"a", "of the link, not of what it names");
    assert!(refused(&[hard("h", "../../etc/passwd")]).contains("h: "));
    assert!(refused(&[symlink("s", "/etc"), hard("h", "s/passwd")]).contains("h: "));
    assert!(refused(&[dir("x"), hard("h", "x")]).contains("the directory x"));
    assert!(refused(&[hard("h", ".")]).contains("the directory"));
}

#[test]
fn aufs_leftovers_are_never_seen() {
    let b = base();
    let entries = [
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "pseudo link").mode(0o640),
        hard("one", ".wh..wh.plnk/1.2"),
        hard("two", ".wh..wh.plnk/1.2"),
        hard(".wh.f", ".wh..wh.aufs"),
        file("d/.wh.a", "not empty"),
    ];
    let l = layer(&entries, &[&b]).unwrap();
    assert_eq!(l.paths(), ["d", "-d/a", "-f", "one", "two"]);
    assert_eq!((l.content("one"), l.node("two").nlink), (b"pseudo link".to_vec(), 2));
    assert_eq!(l.node("one").mode, 0o640);
}

#[test]
fn names_cannot_leave_the_layer() {
    for bad in ["../x", "a/../../x", "..", "d/.wh...", ".wh..", ".wh."] {
        assert!(refused(&[file(bad, "")]).contains(bad), "{bad}");
    }
    assert!(refused(&[file("a\x1b[2J/..", "")]).contains("\\u{1b}"));
    let long = "n".repeat(256);
    assert!(refused(&[file(&long, "")]).contains("255"));
    assert!(refused(&[file(".wh.x/y", "")]).contains("whiteout"));
    assert!(refused(&[file(".", "")]).contains("root"));
    assert!(refused(&[file("x", "").pax("path", b"a\0b")]).contains("NUL"));
    let l = layer(&[file("//abs/./f", "1"), file(format!(".wh.{}", &long[1..]), "")], &[]).unwrap();
    assert_eq!(l.paths(), ["abs", "abs/f"]);
}

#[test]
fn a_symlink_of_the_layer_is_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let l = layer(&[symlink("out", target), file("out/f", "x"), symlink("up", "..")], &[]).unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(l.paths(), ["out", "out/f", "up"]);
    // whatever becomes of a name that is a symlink on disk, its target stays
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let v = victim.to_str().unwrap();
    layer(&[symlink("v", v), file("v", "evil"), symlink("w", v).xattr("user.a", "b")], &[])
        .unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"safe");
}

#[test]
fn forged_attributes_mean_nothing() {
    let b = base();
    let forged = dir("d")
        .xattr("user.overlay.opaque", "y")
        .xattr("trusted.overlay.redirect", "/etc")
        .xattr("user.fuseoverlayfs.opaque", "y")
        .xattr("user.containers.override_stat", "0:0:4777:file");
    let entries = [forged, file("w", "").xattr("user.overlay.whiteout", "")];
    let l = layer(&entries, &[&b]).unwrap();
    let d = l.node("d");
    assert!(!d.opaque && !d.has_redirect);
    let names: Vec<_> = l.index.xattrs(d.id).map(|x| x.0.to_vec()).collect();
    assert_eq!(names, [&b"trusted.overlay.redirect"[..], b"user.overlay.opaque"]);
    assert_eq!(l.diff.get_xattr(b"d", b"user.overlay.opaque").unwrap(), None);
    assert_eq!(l.diff.get_xattr(b"d", b"user.overlay.overlay.opaque").unwrap().unwrap(), b"y");
    assert_eq!(l.diff.get_xattr(b"d", b"user.fuseoverlayfs.opaque").unwrap(), None);
}

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

#[test]
fn every_compression_gives_the_same_layer() {
    let plain = tar(&[file("f", "data".repeat(1000)), file("g", "more".repeat(100_000))]);
    let gz = |d: &[u8]| {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(d).unwrap();
        e.finish().unwrap()
    };
    let zst = |d: &[u8]| zstd::encode_all(d, 1).unwrap();
    let skip = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
    let (a, b) = plain.split_at(3000);
    for blob in [
        plain.clone(),
        gz(&plain),
        [gz(a), gz(b)].concat(),
        zst(&plain),
        [&skip[..], &zst(a), skip, &zst(b), skip].concat(),
    ] {
        let limits = Limits::default();
        unpack_blob(&blob, Some(&plain), &[], ordinary(), &limits).unwrap();
        // half a blob is no layer, whatever the form
        let half = &blob[..blob.len() * 2 / 3];
        assert!(unpack_blob(half, None, &[], ordinary(), &limits).is_err());
    }
    for (blob, name) in [(&b"\xfd7zXZ\0.."[..], "xz"), (b"BZh91AY", "bzip2")] {
        let e = unpack_blob(blob, None, &[], ordinary(), &Limits::default()).err().unwrap();
        assert!(e.to_string().contains(name));
    }
}

#[test]
fn the_end_may_be_missing_or_followed_by_junk() {
    let body = file("f", "x").bytes();
    let long_end = [&body[..], &[0; 1024], &[0x5a; 3_000_001]].concat();
    for plain in
        [Vec::new(), body.clone(), body[..513].to_vec(), [&body[..], &[0; 512]].concat(), long_end]
    {
        unpack_blob(&plain, Some(&plain), &[], ordinary(), &Limits::default()).unwrap();
    }
    for cut in [100, 511, 512] {
        let e = unpack_blob(&body[..cut], None, &[], ordinary(), &Limits::default());
        assert!(matches!(e, Err(UnpackError::Truncated(_))), "{cut}");
    }
    let mut broken = tar(&[file("f", "x"), file("g", "y")]);
    broken[1024] ^= 1;
    let e = unpack_blob(&broken, None, &[], ordinary(), &Limits::default()).err().unwrap();
    assert!(e.to_string().contains("byte 1024") && e.to_string().ends_with("after f"), "{e}");
}

#[test]
fn limits_hold() {
    let with = |entries: &[T], limits: Limits| {
        let r = unpack_blob(&tar(entries), None, &[], ordinary(), &limits);
        r.err().map(|e| e.to_string()).unwrap_or_default()
    };
    let l = Limits::default();
    let big = [file("f", vec![0; 100_000])];
    assert!(with(&big, Limits { bytes: 90_000, ..l }).contains("90000 bytes"));
    let many: Vec<T> = (0..50).map(|i| dir(format!("{i}"))).collect();
    assert!(with(&many, Limits { entries: 40, ..l }).contains("40 entries"));
    let deep = [file("a/".repeat(20), "")];
    assert!(with(&deep, Limits { entries: 10, ..l }).contains("10 entries"));
    assert!(with(&deep, Limits { depth: 10, ..l }).contains("10 directories"));
    let pax = [file("f", "").pax("comment", vec![b'c'; 2000])];
    assert!(with(&pax, Limits { header: 1000, ..l }).contains("1000 bytes"));
    let huge = [file("f", "").pax("size", "9223372036854775808")];
    assert!(!with(&huge, l).is_empty());
    let lie = [file("f", "x").size(1 << 32)];
    assert!(with(&lie, l).contains("ends in the middle of f"));
    let bomb = zstd::encode_all(&tar(&[file("f", vec![0; 4 << 20])])[..], 3).unwrap();
    let limits = Limits { ratio_free: 1 << 20, ..l };
    let e = unpack_blob(&bomb, None, &[], ordinary(), &limits).err().unwrap();
    assert!(e.to_string().contains("200 uncompressed bytes for each"), "{e}");
}

#[test]
fn paths_longer_than_the_system_allows_work() {
    let deep = vec!["d".repeat(200); 60].join("/");
    let l = layer(&[file(format!("{deep}/f"), "far down"), file(format!("{deep}/g"), "")], &[]);
    let l = l.unwrap();
    assert_eq!(l.content(&format!("{deep}/f")), b"far down");
    let up = layer(&[marker(format!("{deep}/.wh.f"))], &[&l]).unwrap();
    assert_eq!(up.index.whiteouts(), 1);
}

#[test]
fn a_changed_file_does_not_come_out_as_if_it_were_the_layer() {
    let l = layer(&[file("f", "content")], &[]).unwrap();
    let f = l.diff.open_file(b"f", OpenFlags::READ_WRITE, 0).unwrap();
    f.write_at(b"C", 0).unwrap();
    let split = l.meta.open_file(SPLIT_NAME, OpenFlags::READ, 0).unwrap();
    let e = assemble(&mut split.into_std(), &l.diff, &mut Vec::new()).unwrap_err();
    assert!(e.to_string().contains("f was changed"));
}

#[test]
fn the_split_file_has_the_form_that_docker_reads() {
    let l = layer(&[file("b/new", "n"), file(b"\xff", "x"), marker(".wh.gone")], &[]).unwrap();
    let gz = l.meta.open_file(SPLIT_NAME, OpenFlags::READ, 0).unwrap().into_std();
    let mut text = String::new();
    flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"type":2,"payload":""#) && lines[0].ends_with(r#","position":0}"#)
    );
    // CRC-64 ISO of "n", big-endian
    assert_eq!(
        lines[1],
        r#"{"type":1,"name":"b/new","size":1,"payload":"PbAAAAAAAAA=","position":1}"#
    );
    assert!(lines[3].starts_with(r#"{"type":1,"name_raw":"/w==","size":1,"#));
    assert_eq!(lines[5], r#"{"type":1,"name":".wh.gone","payload":null,"position":5}"#);
}

/// A stream in memory, handed out in small pieces.
struct Pieces<'t>(&'t [u8]);

impl Feed for Pieces<'_> {
    fn chunk(&mut self, max: usize) -> Result<&[u8], UnpackError> {
        let (now, later) = self.0.split_at(self.0.len().min(max).min(700));
        self.0 = later;
        Ok(now)
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((0..9000usize, proptest::num::u8::ANY), 0..12),
        fix in proptest::bool::ANY,
        cut in 0..9000usize,
    ) {
        let mut t = tar(&[
            dir("d").xattr("user.a", "b"),
            file("d/f", "x".repeat(600)).pax("mtime", "-1.5"),
            file("s", "1\n0\n1\n").pax("GNU.sparse.major", "1").pax("GNU.sparse.realsize", "9"),
            hard("h", "d/f"),
            marker("d/.wh.x"),
            other("S", b'S', (0, 0)),
            other("L", b'L', (0, 0)),
            file("d/f", ""),
        ]);
        for (at, to) in changes {
            let at = at % t.len();
            t[at] = to;
            let block = at / 512 * 512;
            if fix {
                t[block + 148..block + 156].fill(b' ');
                let sum: u32 = t[block..block + 512].iter().map(|b| u32::from(*b)).sum();
                let text = format!("{sum:06o}\0 ");
                t[block + 148..block + 156].copy_from_slice(text.as_bytes());
            }
        }
        t.truncate(t.len().min(cut + 512));
        let limits = Limits { entries: 1000, ..Limits::default() };
        let mut tree = Tree::new(None, &limits);
        let mut walker = Walker::new(Pieces(&t), None, &limits);
        if tree.read(&mut walker).is_ok() {
            settle::settle(&mut tree.b, &tree.ghosts, &[]).unwrap();
        }
    }
}

#[test]
fn a_link_to_a_lower_file_is_a_copy_of_it() {
    let b = layer(
        &[
            dir("d"),
            file("d/a", "content").mode(0o4751).owner(7, 8).mtime(99).xattr("user.k", "v"),
            hard("d/b", "d/a"),
            symlink("s", "d"),
        ],
        &[],
    )
    .unwrap();
    let middle = layer(&[marker("d/.wh.b"), dir("x")], &[&b]).unwrap();
    // two names, a link to one of these, a target's other name, and one that is replaced
    let entries = [
        hard("one", "d/a").mode(0o600).owner(1, 1),
        hard("two", "./one"),
        file("three", "old"),
        hard("three", "/d/a"),
        hard("gone", "d/a"),
        file("gone", "new"),
        marker("d/.wh.a"),
    ];
    let l = layer(&entries, &[&middle, &b]).unwrap();
    assert_eq!(l.paths(), ["d", "-d/a", "gone", "one", "three", "two"]);
    for name in ["one", "two", "three"] {
        let n = l.node(name);
        assert_eq!((n.mode, n.uid, n.gid, n.mtime.sec, n.size), (0o4751, 7, 8, 99, 7), "{name}");
        assert_eq!(l.index.canonical(n.id), l.index.canonical(l.node("one").id), "{name}");
        assert_eq!(l.index.xattrs(n.id).collect::<Vec<_>>(), [(&b"user.k"[..], &b"v"[..])]);
        assert_eq!(l.content(name), b"content", "{name}");
        let stat = l.diff.stat(name.as_bytes()).unwrap();
        assert_eq!((stat.nlink, stat.mtime.sec, stat.mode & 0o777), (3, 99, 0o751), "{name}");
    }
    assert_eq!(l.content("gone"), b"new");
    assert_eq!(l.size, 7 + 3, "the copy once, and the file");
    // two lower names of one file become one file again
    let l = layer(&[hard("p", "d/a"), hard("q", "d/b")], &[&b]).unwrap();
    assert_eq!(l.diff.stat(b"q").unwrap().ino, l.diff.stat(b"p").unwrap().ino);
    assert_eq!((l.index.canonical(l.node("q").id), l.size), (l.node("p").id, 7));
}

#[test]
fn a_link_to_nothing_of_the_lower_layers_is_refused() {
    for (entries, why) in [
        (&[hard("h", "none")][..], "refused entry h: a hard link to none, which neither"),
        (&[hard("h", "l/a")], "refused entry h: a hard link to l/a, which neither"),
        (&[hard("h", "d/sub")], "to the directory d/sub"),
        (&[hard("h", "l")], "no regular file"),
        (&[hard("h", "../f")], "refused entry h: "),
        (&[hard("h", ".wh.f")], "refused entry h: "),
        (&[hard("h", "none"), file("h", "")], "refused entry h: "),
    ] {
        assert!(refused(entries).contains(why), "{why}: {}", refused(entries));
    }
    let b = base();
    let hides =
        layer(&[marker(".wh.f"), marker("d/.wh..wh..opq"), file("d/n", "")], &[&b]).unwrap();
    for target in ["f", "d/a"] {
        assert!(layer(&[hard("h", target)], &[&hides, &b]).is_err(), "{target} is hidden");
    }
    assert!(layer(&[hard("h", "d/n")], &[&hides, &b]).is_ok());
}

#[test]
fn copies_count_against_the_limit_of_bytes() {
    let b = layer(&[file("big", [1; 9000])], &[]).unwrap();
    let limits = Limits { bytes: 10_000, ..Limits::default() };
    let plain = tar(&[hard("h", "big")]);
    let done = unpack_blob(&plain, None, &[&b], ordinary(), &limits);
    assert!(matches!(done, Err(UnpackError::Limit { limit: 10_000, .. })));
}

/// mknod keeps 12 and 20 bits: a larger number would make another device, or a whiteout.
#[test]
fn device_numbers_that_do_not_fit_are_refused() {
    for dev in [(0x1000, 0), (0, 0x10_0000), (0x1000, 0x10_0000), (0x1001, 3), (0x1f_ffff, 0)] {
        for flag in [b'3', b'4'] {
            let pax = refused(&[other("dev", flag, dev)]);
            assert!(pax.contains("dev") && pax.contains("device number"), "{dev:?} {pax}");
        }
    }
    let l = layer(&[other("dev", b'4', (0xfff, 0xf_ffff))], &[]).unwrap();
    assert_eq!(l.node("dev").rdev, makedev(0xfff, 0xf_ffff));
}

/// As an owner the last number means "leave it as it is" to the system.
#[test]
fn the_owner_that_is_none_is_refused() {
    assert!(refused(&[file("f", "").pax("uid", "4294967295")]).contains("owner"));
    assert!(refused(&[file("f", "").pax("gid", "4294967295")]).contains("group"));
    let l = layer(&[file("f", "").pax("uid", "4294967294")], &[]).unwrap();
    assert_eq!(l.node("f").uid, u32::MAX - 1);
}

#[test]
fn the_names_of_attributes_are_bounded() {
    let with =
        |n: usize| (0..n).fold(file("f", ""), |f, i| f.xattr(&format!("user.{i:0>60}"), "v"));
    assert!(refused(&[with(1000)]).contains("xattr names"));
    assert!(layer(&[with(900)], &[]).is_ok());
}

#[test]
fn a_broken_sparse_map_names_its_entry() {
    let map = |text: &str| {
        let mut data = text.as_bytes().to_vec();
        data.resize(512, 0);
        let f = file("holes", data).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        refused(&[file("before", ""), f.pax("GNU.sparse.realsize", "5")])
    };
    for text in ["99999999999999999\n", "x\n", "1\n5\n"] {
        let e = map(text);
        assert!(e.contains("holes") && e.contains("sparse map"), "{e}");
    }
}

#[test]
fn an_extension_header_must_have_an_entry() {
    let mut t = tar(&[file("a", "").pax("path", "b")]);
    // the entry itself becomes the end of the archive
    let entry = t.len() - 1024 - 512;
    t[entry..].fill(0);
    let e = unpack_blob(&t, None, &[], ordinary(), &Limits::default()).err().unwrap();
    assert!(e.to_string().contains("extension header"), "{e}");
}

#[test]
fn long_names_are_neither_kept_nor_shown_whole() {
    let long = "n".repeat(100_000);
    for name in [long.clone(), format!(".wh..wh.plnk/{long}"), format!("../{long}")] {
        let e = refused(&[file(&name, "")]);
        assert!(e.len() < 1000 && e.contains("nnn"), "{e}");
    }
}
