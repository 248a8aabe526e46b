use super::*;
use crate::marker::Redirect;
use crate::sys::{Dir, OpenFlags, Time, makedev};
use proptest::prelude::*;

fn built(b: Builder) -> (tempfile::TempDir, Index) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = Dir::open(tmp.path()).unwrap();
    b.finish(&dir, INDEX_NAME).unwrap();
    assert_eq!(dir.list().unwrap().len(), 1, "nothing staged stays behind");
    let i = Index::open(&dir, INDEX_NAME).unwrap();
    i.verify().unwrap();
    (tmp, i)
}

fn at(i: &Index, path: &str) -> Option<NodeId> {
    path.split('/')
        .filter(|p| !p.is_empty())
        .try_fold(NodeId::ROOT, |n, p| i.child(n, p.as_bytes()))
}

fn sample() -> Builder {
    let mut b = Builder::new();
    let f = b.add_path(b"d/sub/f", &Meta { size: 7, blocks: 8, ..Meta::new(Kind::File) }).unwrap();
    b.set_xattrs(f, vec![(b"user.b".to_vec(), vec![]), (b"user.a".to_vec(), vec![0, 1])], None)
        .unwrap();
    let d = b.add_path(b"d", &Meta { opaque: true, uid: 5, ..Meta::new(Kind::Dir) }).unwrap();
    let moved = Redirect::Absolute(vec![b"old"[..].into(), b"name"[..].into()]);
    b.set_xattrs(d, Vec::new(), Some(&moved)).unwrap();
    b.add_path(b"d/gone", &Meta::new(Kind::Whiteout)).unwrap();
    let l = b.add_path(b"a link", &Meta::new(Kind::Symlink)).unwrap();
    b.set_target(l, b"../where/ever").unwrap();
    let dev = Meta { rdev: makedev(8, 1), ..Meta::new(Kind::Block) };
    b.add_path(b"dev", &dev).unwrap();
    b.add_link(EntryId::ROOT, b"z", f).unwrap();
    b.add_link(EntryId::ROOT, b"b", f).unwrap();
    b
}

#[test]
fn everything_comes_back() {
    let (_tmp, i) = built(sample());
    assert_eq!((i.len(), i.whiteouts(), i.opaque_dirs(), i.has_xattrs()), (9, 1, 1, true));
    let d = i.node(at(&i, "d").unwrap()).unwrap();
    assert!(d.opaque && !d.implied && d.has_redirect && !d.has_xattrs);
    assert_eq!((d.uid, d.nlink), (5, 3));
    assert_eq!(i.redirect(d.id).unwrap().encode(), b"/old/name");
    let sub = i.node(at(&i, "d/sub").unwrap()).unwrap();
    assert!(sub.implied);
    let f = i.node(at(&i, "d/sub/f").unwrap()).unwrap();
    assert_eq!((f.size, f.blocks, f.nlink, f.name), (7, 8, 3, &b"f"[..]));
    let xattrs: Vec<_> = i.xattrs(f.id).collect();
    assert_eq!(xattrs, [(&b"user.a"[..], &[0, 1][..]), (b"user.b", b"")]);
    assert_eq!(i.path(f.id), b"d/sub/f");
    assert_eq!(i.path(NodeId::ROOT), b"");
    let names: Vec<_> = i.links(f.id).into_iter().map(|n| i.path(n)).collect();
    assert_eq!(names, [&b"b"[..], b"z", b"d/sub/f"]);
    assert_eq!(i.canonical(f.id), at(&i, "b").unwrap());
    assert_eq!(i.canonical(d.id), d.id);
    assert_eq!(i.links(d.id), [d.id]);
    assert_eq!(i.node(at(&i, "z").unwrap()).unwrap().size, 7);
    let l = at(&i, "a link").unwrap();
    assert_eq!(i.symlink_target(l), b"../where/ever");
    assert_eq!(i.node(l).unwrap().size, 13);
    assert_eq!(i.node(at(&i, "dev").unwrap()).unwrap().rdev, makedev(8, 1));
    assert_eq!(i.node(at(&i, "d/gone").unwrap()).unwrap().kind, Kind::Whiteout);
    assert_eq!(at(&i, "d/nothing"), None);
    assert!(i.node(NodeId(9)).is_none());
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let mut b = Builder::new();
    b.add_path(b"x/in", &Meta::new(Kind::File)).unwrap();
    b.add_path(b"x", &Meta::new(Kind::File)).unwrap();
    b.add_path(b"y/in", &Meta::new(Kind::File)).unwrap();
    b.add_path(b"y", &Meta { mode: 0o700, ..Meta::new(Kind::Dir) }).unwrap();
    let t = b.add_path(b"t", &Meta { size: 1, ..Meta::new(Kind::File) }).unwrap();
    b.add_link(EntryId::ROOT, b"l", t).unwrap();
    b.add_path(b"t", &Meta { size: 2, ..Meta::new(Kind::File) }).unwrap();
    assert!(b.add_path(b"t/below", &Meta::new(Kind::File)).is_err());
    let (_tmp, i) = built(b);
    assert_eq!(i.len(), 6);
    assert_eq!(i.node(at(&i, "x").unwrap()).unwrap().kind, Kind::File);
    assert!(at(&i, "y/in").is_some());
    let size = |p| i.node(at(&i, p).unwrap()).map(|n| (n.size, n.nlink));
    assert_eq!((size("t"), size("l")), (Some((2, 1)), Some((1, 1))));
}

#[test]
fn the_same_layer_gives_the_same_bytes() {
    let read = |b: Builder| {
        let (tmp, _) = built(b);
        std::fs::read(tmp.path().join("stratafs.index")).unwrap()
    };
    let mut b = Builder::new();
    let mut c = Builder::new();
    for n in 0..200u32 {
        let put = |b: &mut Builder, n: u32| {
            b.add_path(format!("{}/{n}", n % 7).as_bytes(), &Meta::new(Kind::File)).unwrap();
        };
        put(&mut b, n);
        put(&mut c, 199 - n);
    }
    assert_eq!(read(b), read(c));
}

#[test]
fn damage_is_an_error_or_nothing_but_never_a_panic() {
    let (tmp, _) = built(sample());
    let path = tmp.path().join("stratafs.index");
    let good = std::fs::read(&path).unwrap();
    let dir = Dir::open(tmp.path()).unwrap();
    let mut found = 0;
    for at in 0..good.len() {
        for flip in [0xff, 0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            std::fs::write(tmp.path().join("bad"), &bad).unwrap();
            let Ok(i) = Index::open(&dir, b"bad") else {
                found += 1;
                continue;
            };
            assert!(i.verify().is_err(), "byte {at}");
            for n in (0..12).chain([u32::MAX]).map(NodeId) {
                let kids = i.children(n).filter(|k| i.node(NodeId(*k)).is_some()).count();
                // anything will do, as long as each of them returns
                std::hint::black_box((i.node(n), i.path(n), i.links(n), i.redirect(n), kids));
                std::hint::black_box((i.symlink_target(n), i.child(n, b"f"), i.xattrs(n).count()));
            }
        }
    }
    assert!(found >= format::HEADER * 3, "every change of the header is seen at once");
    for len in [0, 1, 50, good.len() - 1] {
        std::fs::write(tmp.path().join("bad"), &good[..len]).unwrap();
        assert!(Index::open(&dir, b"bad").is_err());
    }
    let mut other = good;
    other[8] = 9;
    std::fs::write(tmp.path().join("bad"), &other).unwrap();
    assert!(matches!(Index::open(&dir, b"bad"), Err(IndexError::Version { found: 9, .. })));
    dir.node(b"stratafs.index").unwrap().chmod(0o666).unwrap();
    assert!(matches!(Index::open(&dir, INDEX_NAME), Err(IndexError::Untrusted(_))));
}

#[test]
fn a_directory_on_disk_becomes_an_index() {
    let tmp = tempfile::tempdir().unwrap();
    let d = Dir::open(tmp.path()).unwrap();
    d.mkdir(b"dir", 0o750).unwrap();
    let sub = d.open_dir(b"dir").unwrap();
    let f = sub.open_file(b"f", OpenFlags::CREATE_NEW, 0o600).unwrap();
    f.write_at(b"12345", 0).unwrap();
    f.set_xattr(b"user.x", b"1").unwrap();
    f.set_xattr(b"user.overlay.overlay.opaque", b"theirs").unwrap();
    f.set_xattr(b"user.containers.override_stat", b"7:8:4711:file").unwrap();
    sub.link(b"f", &d, b"g").unwrap();
    d.symlink(b"/nowhere", b"l").unwrap();
    sub.mknod(b"p", crate::sys::FileType::Fifo, 0o644, 0).unwrap();
    sub.mknod_whiteout(b"w").unwrap();
    sub.as_node().unwrap().set_xattr(b"user.overlay.opaque", b"y", false, false).unwrap();
    d.mkdir(b"xw", 0o755).unwrap();
    let xw = d.open_dir(b"xw").unwrap();
    xw.as_node().unwrap().set_xattr(b"user.overlay.opaque", b"x", false, false).unwrap();
    for name in [&b"gone"[..], b"stays"] {
        xw.open_file(name, OpenFlags::CREATE_NEW, 0o600).unwrap();
    }
    xw.set_xattr(b"gone", b"user.overlay.whiteout", b"").unwrap();

    let (_keep, i) = built(scan(&d, ScanOptions::default()).unwrap());
    let node = |p: &str| i.node(at(&i, p).unwrap_or_else(|| panic!("{p}"))).unwrap();
    assert!(node("dir").opaque && !node("xw").opaque);
    assert_eq!(node("dir/w").kind, Kind::Whiteout);
    assert_eq!((node("xw/gone").kind, node("xw/stays").kind), (Kind::Whiteout, Kind::File));
    assert_eq!(node("dir/p").kind, Kind::Fifo);
    assert_eq!(i.symlink_target(node("l").id), b"/nowhere");
    let f = node("g");
    assert_eq!((f.uid, f.gid, f.mode, f.size, f.nlink), (7, 8, 0o4711, 5, 2));
    let xattrs: Vec<_> = i.xattrs(f.id).collect();
    assert_eq!(xattrs, [(&b"user.overlay.opaque"[..], &b"theirs"[..]), (b"user.x", b"1")]);
    assert_eq!(i.canonical(node("dir/f").id), f.id);
}

proptest! {
    #[test]
    fn any_names_are_found_again(paths in prop::collection::vec("[a-c]{1,2}(/[a-c\u{e9}]{1,3}){0,3}", 1..60)) {
        let mut b = Builder::new();
        let mut model = std::collections::BTreeMap::new();
        for (n, p) in paths.iter().enumerate() {
            let parents: Vec<_> = p.match_indices('/').map(|(c, _)| p[..c].to_owned()).collect();
            for q in parents {
                model.entry(q.clone()).or_insert_with(|| { b.add_path(q.as_bytes(), &Meta::new(Kind::Dir)).unwrap(); 0 });
            }
            let m = Meta { mtime: Time { sec: n as i64, nsec: 1 }, ..Meta::new(Kind::Dir) };
            b.add_path(p.as_bytes(), &m).unwrap();
            model.insert(p.clone(), n as i64);
        }
        let (_tmp, i) = built(b);
        prop_assert_eq!(i.len(), model.len() + 1);
        for (p, sec) in &model {
            let n = i.node(at(&i, p).unwrap()).unwrap();
            prop_assert_eq!(n.mtime.sec, *sec);
            prop_assert_eq!(i.path(n.id), p.as_bytes());
        }
        prop_assert_eq!(at(&i, "zz"), None);
    }
}
