//! The private view: recorded owners, modes and ACLs.

use crate::support::{Form, Layers, WRITE, me, mode_of, name};
use stratafs::overlay::RenameMode::Replace;
use stratafs::overlay::{Ino, Options, SetAttr};
use stratafs::sys::{Dir, Errno, FileType};

#[test]
fn recorded_owners_in_a_private_view() {
    use stratafs::overlay::Caller;
    let l = Layers::new(&[&["f f x", "d d", "l s f", "p p"]]);
    let open = || {
        let private = Options { owner_view: true, ..Options::default() };
        l.open_with(Form::Indexed, private, true)
    };
    let v = open();
    let own = |uid, gid| SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() };
    v.symlink("target", "new").unwrap();
    let kept = v.stat("new").unwrap();
    for p in ["f", "d", "p", "new", "s"] {
        let a = v.fs.setattr(v.ino(p).unwrap(), None, &own(7, 8)).unwrap();
        assert_eq!((a.uid, a.gid), (7, 8), "{p}");
    }
    v.chmod("f", 0o000).unwrap();
    v.append("f", b"y").unwrap();
    v.chmod("d", 0o4500).unwrap();
    let f = v.fs.mknod(
        Caller { uid: 3, gid: 4 },
        Ino::ROOT,
        name("dev"),
        FileType::Block,
        0o660,
        0,
        0x700,
    );
    assert_eq!(f.unwrap().uid, 3);
    v.rename("p", "pp", Replace).unwrap();
    for v in [v, open()] {
        let f = v.stat("f").unwrap();
        assert_eq!((f.uid, f.gid, f.mode, f.kind), (7, 8, 0, FileType::File));
        assert_eq!(v.text("f"), "xy");
        assert_eq!(v.stat("d").unwrap().mode, 0o4500);
        let dev = v.stat("dev").unwrap();
        assert_eq!((dev.kind, dev.rdev, dev.mode, dev.gid), (FileType::Block, 0x700, 0o660, 4));
        assert_eq!(v.stat("pp").unwrap().kind, FileType::Fifo);
        for (link, target) in [("new", &b"target"[..]), ("s", b"f")] {
            let a = v.stat(link).unwrap();
            assert_eq!((a.kind, a.uid, a.gid), (FileType::Symlink, 7, 8));
            assert_eq!(v.fs.readlink(a.ino).unwrap(), target);
        }
        assert_eq!(v.stat("new").unwrap().mtime, kept.mtime);
        assert_eq!(v.fs.list_xattr(me(), v.ino("f").unwrap()).unwrap(), b"");
    }
    // on disk nothing is closed to the daemon, and nothing is setuid
    assert_eq!(mode_of(&l.upper().join("f")), 0o600);
    assert_eq!(mode_of(&l.upper().join("d")), 0o700);
    l.check_untouched();
}

#[test]
fn a_recorded_setgid_directory_gives_its_group_to_new_files() {
    let l = Layers::new(&[&["d d", "f f x"]]);
    let open = || {
        let private = Options { owner_view: true, ..Options::default() };
        l.open_with(Form::Indexed, private, true)
    };
    let v = open();
    let set = SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o2775), ..SetAttr::default() };
    let d = v.ino("d").unwrap();
    v.fs.setattr(d, None, &set).unwrap();
    let (f, fh) = v.fs.create(me(), d, name("f"), 0o644, 0, WRITE).unwrap();
    v.fs.release(fh);
    let sub = v.fs.mkdir(me(), d, name("sub"), 0o755, 0).unwrap();
    assert_eq!((f.gid, sub.gid, sub.mode), (8, 8, 0o2755));
    drop(v);
    let v = open();
    assert_eq!(v.stat("d/f").unwrap().gid, 8);
    assert_eq!((v.stat("d/sub").unwrap().gid, v.stat("d/sub").unwrap().mode), (8, 0o2755));
    let p = v.fs.mknod(me(), v.ino("d/sub").unwrap(), name("p"), FileType::Fifo, 0o600, 0, 0);
    assert_eq!(p.unwrap().gid, 8);
}

#[test]
fn new_directories_get_the_setgid_bit_that_is_shown() {
    let l = Layers::new(&[&["d d", "d e"]]);
    let open = || {
        let private = Options { owner_view: true, ..Options::default() };
        l.open_with(Form::Indexed, private, true)
    };
    let v = open();
    // recorded only, though the group is the mounter's own
    let set = SetAttr { uid: Some(7), mode: Some(0o2775), ..SetAttr::default() };
    v.fs.setattr(v.ino("d").unwrap(), None, &set).unwrap();
    assert_eq!(mode_of(&l.upper().join("d")) & 0o2000, 0);
    // on disk only
    v.chmod("e", 0o2755).unwrap();
    drop(v);
    let up = Dir::open(l.upper()).unwrap();
    let record = format!("{}:{}:0755:dir", me().uid, me().gid);
    up.set_xattr(b"e", b"user.containers.override_stat", record.as_bytes()).unwrap();
    let v = open();
    for (parent, mode) in [("d", 0o2755), ("e", 0o755)] {
        let parent_ino = v.ino(parent).unwrap();
        let sub = v.fs.mkdir(me(), parent_ino, name("x"), 0o755, 0).unwrap();
        assert_eq!((sub.mode, sub.gid), (mode, me().gid), "{parent}");
        let below = v.fs.mkdir(me(), sub.ino, name("y"), 0o755, 0).unwrap();
        assert_eq!(below.mode, mode, "{parent}/x");
    }
    for v in [v, open()] {
        for (path, mode) in [("d/x", 0o2755), ("d/x/y", 0o2755), ("e/x", 0o755), ("e/x/y", 0o755)] {
            assert_eq!(v.stat(path).unwrap().mode, mode, "{path}");
        }
    }
}

#[test]
fn an_access_acl_and_a_recorded_mode_say_the_same() {
    let l = Layers::new(&[&["f f x"]]);
    let private = Options { owner_view: true, ..Options::default() };
    let v = l.open_with(Form::Indexed, private, true);
    let set = SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o644), ..SetAttr::default() };
    let f = v.ino("f").unwrap();
    v.fs.setattr(f, None, &set).unwrap();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(1_u16, 6_u16), (4, 7), (0x10, 5), (0x20, 1)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(u32::MAX.to_le_bytes());
    }
    match v.fs.set_xattr(f, b"system.posix_acl_access", &acl, false, false) {
        Err(e) if e.errno() == stratafs::sys::Errno::OPNOTSUPP => return, // not on this file system
        r => r.unwrap(),
    }
    let a = v.stat("f").unwrap();
    assert_eq!((a.mode, a.uid, a.gid), (0o651, 7, 8));
    v.append("f", b"y").unwrap();
    assert_eq!(v.text("f"), "xy");
    // nor does the ACL show what the disk must allow to the daemon
    v.chmod("f", 0o040).unwrap();
    assert_eq!(v.stat("f").unwrap().mode, 0o040);
    for (i, permissions) in [0_u16, 7, 4, 0].into_iter().enumerate() {
        acl[4 + 8 * i + 2..][..2].copy_from_slice(&permissions.to_le_bytes());
    }
    assert_eq!(v.fs.get_xattr(f, b"system.posix_acl_access").unwrap(), acl);
}

/// An access ACL of owner, group, mask and others; `named`: with an entry for a user.
fn access_acl(permissions: [u16; 4], named: bool, mask: bool) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let [owner, group, masked, others] = permissions;
    let mut put = |tag: u16, permissions: u16, id: u32| {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    };
    put(1, owner, u32::MAX);
    if named {
        put(2, 4, 7);
    }
    put(4, group, u32::MAX);
    if mask {
        put(0x10, masked, u32::MAX);
    }
    put(0x20, others, u32::MAX);
    acl
}

#[test]
fn an_access_acl_closes_no_file_to_a_private_view() {
    const ACCESS: &[u8] = b"system.posix_acl_access";
    let l = Layers::new(&[&["f other x", "f own y", "d d", "d e"]]);
    let open = || {
        let private = Options { owner_view: true, ..Options::default() };
        l.open_with(Form::Indexed, private, true)
    };
    let v = open();
    let set = SetAttr { uid: Some(5), gid: Some(5), ..SetAttr::default() };
    v.fs.setattr(v.ino("other").unwrap(), None, &set).unwrap();
    let closed = access_acl([0, 0, 4, 0], true, true);
    match v.fs.set_xattr(v.ino("own").unwrap(), ACCESS, &closed, false, false) {
        Err(e) if e.errno() == Errno::OPNOTSUPP => return, // not on this file system
        r => r.unwrap(),
    }
    for path in ["other", "d"] {
        v.fs.set_xattr(v.ino(path).unwrap(), ACCESS, &closed, false, false).unwrap();
    }
    // inherited
    let e = v.ino("e").unwrap();
    v.fs.set_xattr(e, b"system.posix_acl_default", &closed, false, false).unwrap();
    let (_, fh) = v.fs.create(me(), e, name("new"), 0o666, 0, WRITE).unwrap();
    v.fs.release(fh);
    v.fs.mkdir(me(), e, name("sub"), 0o777, 0).unwrap();
    for v in [v, open()] {
        for path in ["other", "own", "d", "e/new", "e/sub"] {
            let a = v.stat(path).unwrap();
            assert_eq!((a.mode, a.uid == 5), (0o040, path == "other"), "{path}");
            assert_eq!(v.fs.get_xattr(a.ino, ACCESS).unwrap(), closed, "{path}");
            let least = if a.kind == FileType::Dir { 0o700 } else { 0o400 };
            assert_eq!(mode_of(&l.upper().join(path)) & least, least, "{path}");
        }
    }
}

#[test]
fn an_access_acl_that_is_refused_changes_no_recorded_mode() {
    const ACCESS: &[u8] = b"system.posix_acl_access";
    let l = Layers::new(&[&["f recorded x", "f plain y"]]);
    let private = Options { owner_view: true, ..Options::default() };
    let v = l.open_with(Form::Indexed, private.clone(), true);
    v.chmod("recorded", 0o007).unwrap();
    v.chmod("plain", 0o644).unwrap();
    // a named user wants a mask
    let broken = access_acl([0, 4, 0, 0], true, false);
    for path in ["recorded", "plain"] {
        v.fs.set_xattr(v.ino(path).unwrap(), ACCESS, &broken, false, false).unwrap_err();
    }
    for v in [v, l.open_with(Form::Indexed, private, true)] {
        assert_eq!(v.stat("recorded").unwrap().mode, 0o007);
        assert_eq!(v.stat("plain").unwrap().mode, 0o644);
        assert_eq!(v.fs.list_xattr(me(), v.ino("plain").unwrap()).unwrap(), b"");
    }
    let up = Dir::open(l.upper()).unwrap();
    assert_eq!(up.get_xattr(b"plain", b"user.containers.override_stat").unwrap(), None);
}

#[test]
fn owners_that_a_namespace_does_not_know_are_shown_as_the_mounters() {
    use stratafs::overlay::KnownIds;
    let l = Layers::new(&[&["f f x"]]);
    let recorded = Options { owner_view: true, ..Options::default() };
    let v = l.open_with(Form::Indexed, recorded.clone(), true);
    let set = SetAttr { uid: Some(33), gid: Some(5), ..SetAttr::default() };
    v.fs.setattr(v.ino("f").unwrap(), None, &set).unwrap();
    drop(v);
    let ids = KnownIds { uids: vec![(0, 0)], gids: vec![(0, 9)], uid: 0, gid: 0 };
    let v = l.open_with(Form::Indexed, Options { known_ids: Some(ids), ..recorded.clone() }, true);
    let a = v.stat("f").unwrap();
    assert_eq!((a.uid, a.gid), (0, 5));
    v.chmod("f", 0o600).unwrap();
    drop(v);
    let a = l.open_with(Form::Indexed, recorded, true).stat("f").unwrap();
    assert_eq!((a.uid, a.gid, a.mode), (33, 5, 0o600), "the record stays");
}
