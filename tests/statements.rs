//! What FUSE has and lacks here, as `src/semantics.rs` states it, seen through real mounts.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod support;

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use support::{Case, can_mount, mounters, myself, ordinary, skip};

/// A mount that this process may enter.
fn own(test: &str) -> Option<Case> {
    match can_mount(myself()) {
        Ok(()) => Some(Case::new(myself())),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

#[test]
fn nameless_files_are_refused_and_what_needs_them_has_another_way() {
    let Some(c) = own("O_TMPFILE") else { return };
    let m = c.mount();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let said = rustix::fs::open(c.path("m"), flags, Mode::from_raw_mode(0o600));
    assert_eq!(said.unwrap_err(), Errno::OPNOTSUPP);
    // the way that open(2) tells of
    let temporary = tempfile::tempfile_in(c.path("m")).unwrap();
    temporary.write_all_at(b"x", 0).unwrap();
    assert_eq!(temporary.metadata().unwrap().nlink(), 0);
    drop(temporary);
    m.unmount();
}

#[test]
fn holes_are_seen_made_and_kept_and_blocks_are_not_shared() {
    let Some(c) = own("holes") else { return };
    c.sh("truncate -s 1M l/f && printf end >>l/f && printf x >l/small").ok();
    let m = c.mount();
    let low = File::open(c.path("m/f")).unwrap();
    assert_eq!(rustix::fs::seek(&low, SeekFrom::Hole(0)), Ok(0));
    let data = rustix::fs::seek(&low, SeekFrom::Data(0)).unwrap();
    assert!(data > 0 && data <= 1 << 20, "{data}");
    let f = File::options().read(true).write(true).open(c.path("m/f")).unwrap();
    f.write_all_at(b"END", 1 << 20).unwrap();
    assert_eq!(rustix::fs::seek(&f, SeekFrom::Data(0)), Ok(data), "the copy has the same holes");
    assert!(f.metadata().unwrap().blocks() < 512);
    let does = |how, from, len| rustix::fs::fallocate(&f, how, from, len);
    assert_eq!(does(FallocateFlags::empty(), 0, 8192), Ok(()));
    assert_eq!(does(FallocateFlags::ZERO_RANGE, 0, 4096), Ok(()));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(does(punch, 0, 4096), Ok(()));
    for other in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(does(other, 0, 4096), Err(Errno::OPNOTSUPP));
    }
    let small = File::open(c.path("m/small")).unwrap();
    assert_eq!(rustix::fs::ioctl_ficlone(&f, &small), Err(Errno::OPNOTSUPP));
    drop((f, low, small));
    m.unmount();
}

/// Locks are the kernel's own business, by inode: also over a copy-up.
#[test]
fn locks_hold_from_the_lower_file_to_its_copy() {
    let Some(c) = own("locks") else { return };
    c.sh("echo low >l/f").ok();
    let m = c.mount();
    let reader = File::open(c.path("m/f")).unwrap();
    rustix::fs::flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    let writer = File::options().append(true).open(c.path("m/f")).unwrap();
    writer.write_all_at(b"up\n", 0).unwrap();
    let exclusive = || rustix::fs::flock(&writer, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(exclusive(), Err(Errno::WOULDBLOCK));
    rustix::fs::flock(&reader, FlockOperation::Unlock).unwrap();
    assert_eq!(exclusive(), Ok(()));
    assert_eq!(c.sh("flock -n m/f true").code, Some(1), "another process");
    drop((reader, writer));
    m.unmount();
}

/// The kernel looks at the owner that is shown before it asks (`set_posix_acl` in
/// fs/posix_acl.c), and knows nothing of what a private mount allows.
#[test]
fn in_a_private_mount_acls_are_for_the_owner_that_is_shown() {
    let user = match ordinary().and_then(|u| can_mount(u).map(|()| u)) {
        Ok(u) => u,
        Err(why) => return skip("ACLs in a private mount", &why),
    };
    let c = Case::new(user);
    if c.sh("setfacl --version").code != Some(0) {
        return skip("ACLs in a private mount", "setfacl is not installed");
    }
    c.sh("echo x >l/f").ok();
    let m = c.mount();
    c.sh("setfacl -m u:7:rw m/f && getfacl -n m/f | grep user:7:rw").ok();
    c.sh("chown 0:0 m/f && getfacl -n m/f | grep user:7:rw").ok();
    let refused = c.sh("setfacl -m u:8:r m/f");
    assert!(refused.err.contains("Operation not permitted"), "{refused:?}");
    // who wants it takes the file for as long
    c.sh("chown $(id -u) m/f && setfacl -m u:8:r m/f && chown 0:0 m/f").ok();
    let shown = c.sh("getfacl -n m/f; stat -c %u m/f").ok().out;
    assert!(shown.contains("user:8:r--") && shown.ends_with("0\n"), "{shown}");
    m.unmount();
    let m = c.mount();
    assert!(c.sh("getfacl -n m/f").ok().out.contains("user:8:r--"));
    m.unmount();
}

/// statfs(2) is the upper's, and says that names may have 255 bytes.
#[test]
fn the_room_that_is_told_is_the_uppers() {
    for user in mounters("statfs") {
        let c = Case::new(user);
        let m = c.mount();
        assert_eq!(
            c.sh("stat -f -c '%l %S %b' m").ok().out,
            c.sh("stat -f -c '255 %S %b' u").ok().out
        );
        let long = "n".repeat(255);
        c.sh(&format!("touch m/{long} && ! touch m/{long}n 2>err && grep -q 'too long' err")).ok();
        m.unmount();
    }
}
