//! Copies of which the blocks come later (`lazy_copy_up`), with real mounts.

#![allow(missing_docs, reason = "nobody links with a test")]

mod support;

use std::path::Path;
use stratafs::sys::Dir;
use support::{Case, eventually, is_root, lives, mounters};

const LAZILY: &str = "lowerdir=l,upperdir=u,workdir=w,lazy_copy_up";
const EAGERLY: &str = "lowerdir=l,upperdir=u,workdir=w";

/// Writes at three places of `$F/big`, one of them its end.
const WRITE: &str = "printf first | dd of=$F/big bs=1 seek=3000000 conv=notrunc status=none &&
    head -c 300000 /dev/zero | dd of=$F/big bs=100k seek=50 conv=notrunc status=none &&
    printf end >>$F/big";

fn for_each_place(test: &str, f: impl Fn(&Case)) {
    for user in mounters(test) {
        let c = Case::new(user);
        c.sh("head -c 9000001 /dev/urandom >l/big && mkdir want && cp l/big want/").ok();
        c.sh(&format!("F=want; {WRITE}")).ok();
        f(&c);
    }
}

fn mark(c: &Case) -> Option<Vec<u8>> {
    let key: &[u8] =
        if c.user.uid == 0 { b"trusted.overlay.metacopy" } else { b"user.overlay.metacopy" };
    Dir::open(c.path("u")).unwrap().get_xattr(b"big", key).unwrap()
}

/// Returns whether the file system lets copies wait at all.
fn waits(c: &Case) -> bool {
    let u = Dir::open(c.path("u")).unwrap();
    let probe = |name: &str| std::fs::File::create(c.path(name)).unwrap();
    let (from, to) = (probe("probe-from"), probe("probe-to"));
    from.set_len(4096).unwrap();
    let file = stratafs::sys::File::from_std;
    u.holes_tell() && !stratafs::sys::clone_data(&file(from), &file(to), 4096).unwrap()
}

fn same(c: &Case, a: &str, b: &str) {
    c.sh(&format!("cmp {a} {b}")).ok();
}

/// What the kernel's overlayfs makes of the upper: `None` if it refuses the file.
fn under_the_kernel(c: &Case, options: &str) -> Option<Vec<u8>> {
    c.sh("rm -rf kw && mkdir -p kw km").ok();
    let said = c.sh(&format!(
        "mount -t overlay overlay -o lowerdir=$PWD/l,upperdir=$PWD/u,workdir=$PWD/kw,{options} km"
    ));
    said.ok();
    let read = std::fs::read(c.path("km/big")).ok();
    c.sh("umount km").ok();
    read
}

fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap()) * 512
}

#[test]
fn a_file_that_was_incomplete_when_the_daemon_was_killed_is_completed_by_any_mount() {
    for_each_place("lazy and killed", |c| {
        if !waits(c) {
            return support::skip("lazy and killed", "a crash may leave anything here");
        }
        c.stratafs(&["-o", LAZILY, "m"]).ok();
        let pid = c.daemon().unwrap();
        // less than the time after which it is completed
        c.sh(&format!("F=m; {WRITE} && cmp m/big want/big && kill -KILL {pid}")).ok();
        eventually("the daemon dies", || !lives(pid));
        c.stratafs(&["umount", "m"]).ok();
        assert!(mark(c).is_some_and(|m| m.first() != Some(&0)));
        assert!(blocks(&c.path("u/big")) < 2 << 20, "more than was written came up");
        if is_root() && c.user.uid == 0 {
            let old = std::fs::read(c.path("l/big")).unwrap();
            for options in ["metacopy=off", "metacopy=on"] {
                let seen = under_the_kernel(c, options);
                assert!(seen.is_none_or(|s| s == old), "the kernel shows half a file");
            }
            let said = c.sh("mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w km");
            assert_ne!(said.code, Some(0), "the kernel takes the upper for whole");
        }
        let import = ["--root", "s", "import", "-q", "--lowerdir", "u:l", "--name", "t"];
        let said = c.stratafs(&import);
        assert!(said.code != Some(0) && said.err.contains("a part of a file"), "{}", said.err);
        c.stratafs(&["-o", EAGERLY, "m"]).ok();
        same(c, "m/big", "want/big");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(mark(c), None);
        same(c, "u/big", "want/big");
        if is_root() && c.user.uid == 0 {
            let want = std::fs::read(c.path("want/big")).unwrap();
            assert!(under_the_kernel(c, "metacopy=off").is_some_and(|s| s == want));
        }
    });
}

#[test]
fn a_clean_end_and_time_complete_a_file() {
    for_each_place("lazy and whole", |c| {
        if !waits(c) {
            return support::skip("lazy and whole", "a crash may leave anything here");
        }
        let before = c.sh("stat -c '%Y %s' l/big; sha256sum l/big").ok().out;
        c.stratafs(&["-o", LAZILY, "m"]).ok();
        c.sh(&format!("F=m; {WRITE} && touch -d @1600000000 m/big")).ok();
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(mark(c), None);
        same(c, "u/big", "want/big");
        assert_eq!(c.sh("stat -c %Y u/big").ok().out, "1600000000\n");

        c.sh("rm u/big").ok();
        c.stratafs(&["-o", LAZILY, "m"]).ok();
        c.sh(&format!("F=m; {WRITE} && touch -d @1600000000 m/big")).ok();
        eventually("it is completed", || mark(c).is_none());
        same(c, "u/big", "want/big");
        same(c, "m/big", "want/big");
        assert_eq!(c.sh("stat -c %Y m/big").ok().out, "1600000000\n");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(c.sh("stat -c '%Y %s' l/big; sha256sum l/big").ok().out, before);
    });
}
