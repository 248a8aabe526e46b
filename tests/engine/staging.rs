//! What files have from the place where they are staged: nothing.

use crate::support::{Form, Layers, me};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use stratafs::overlay::{Options, SetAttr};
use stratafs::sys::{Dir, Errno, Identity};

/// `user::rwx, user:1000:rwx, group::rwx, mask::rwx, other::rwx`
fn open_acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in [(1_u16, !0), (2, 1000), (4, !0), (0x10, !0), (0x20, !0_u32)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(7_u16.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn the_work_directory_gives_nothing_to_what_is_staged_in_it() {
    let l = Layers::new(&[&["f f low", "d d", "f d/g low", "l s f"]]);
    let work = l.tmp.path().join("w");
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o2777)).unwrap();
    if Identity::current().privileged {
        std::os::unix::fs::chown(&work, None, Some(7)).unwrap();
    }
    let key = b"system.posix_acl_default";
    match Dir::open(&work).unwrap().set_xattr_self(key, &open_acl()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(e) => panic!("{e}"),
    }
    for private in [false, true] {
        let options = Options { owner_view: private, ..Options::default() };
        let v = l.open_with(Form::Plain, options, true);
        v.append("d/g", b"+").unwrap();
        v.append("f", b"+").unwrap();
        let own = SetAttr { uid: Some(me().uid), ..SetAttr::default() };
        v.fs.setattr(v.ino("s").unwrap(), None, &own).unwrap();
        // over a whiteout it is staged
        v.unlink("f").unwrap();
        v.mkdir("f").unwrap();
        for path in ["f", "d", "d/g", "s"] {
            let listed = v.fs.list_xattr(me(), v.ino(path).unwrap()).unwrap();
            assert_eq!(listed, b"", "{path}: {}", listed.escape_ascii());
            let disk = std::fs::symlink_metadata(l.upper().join(path)).unwrap();
            assert_eq!(disk.mode() & 0o2000, 0, "{path}");
            assert_eq!(disk.gid(), me().gid, "{path}");
        }
        drop(v);
        for d in ["u", "w/work"] {
            std::fs::remove_dir_all(l.tmp.path().join(d)).unwrap();
        }
        std::fs::create_dir(l.upper()).unwrap();
    }
}
