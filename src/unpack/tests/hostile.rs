//! What must be refused, or comes out harmless.

use super::*;

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
