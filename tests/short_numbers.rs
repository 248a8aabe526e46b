//! `xino=off`: inode numbers below 2^32, seen through real mounts.

#![allow(missing_docs)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use support::{Case, eventually, mounters, myself, skip};

const STACK: &str = "lowerdir=t:l,upperdir=u,workdir=w,xino=off";

/// The number of each path below `at`, as stat(2) says it; checks what listings say.
fn numbers(at: &Path) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    let mut dirs = vec![at.to_owned()];
    while let Some(dir) = dirs.pop() {
        let listed: Vec<_> = std::fs::read_dir(&dir).unwrap().map(Result::unwrap).collect();
        for e in listed {
            let m = e.metadata().unwrap();
            assert_eq!(e.ino(), m.ino(), "d_ino and st_ino of {:?}", e.path());
            assert!((2..1 << 32).contains(&m.ino()), "{:?}: {}", e.path(), m.ino());
            let path = e.path().strip_prefix(at).unwrap().to_str().unwrap().to_owned();
            out.insert(path, m.ino());
            if m.is_dir() {
                dirs.push(e.path());
            }
        }
    }
    out
}

/// Everything that is not a name of one file has a number of its own.
fn assert_unique(all: &BTreeMap<String, u64>) {
    let mut owners: HashMap<u64, &str> = HashMap::new();
    for (path, n) in all.iter().filter(|(p, _)| !p.ends_with("-link")) {
        assert_eq!(owners.insert(*n, path), None, "{path} has the number of another");
    }
}

/// What every mount shows, whatever its layers lie on.
fn check(c: &Case) {
    c.sh("mkdir -p t/d l/d/sub && for i in $(seq 300); do echo $i >l/d/$i; done; echo t >t/d/t")
        .ok();
    c.sh("ln l/d/1 l/d/one-link; echo r >l/d/sub/r; for i in $(seq 40); do echo $i >t/$i; done")
        .ok();
    c.stratafs(&["-o", STACK, "m"]).ok();
    let m = c.path("m");
    let before = numbers(&m);
    assert_unique(&before);
    assert_eq!(before["d/1"], before["d/one-link"]);
    // copy-up, rename, and files that are made here
    c.sh("echo more >>m/d/2 && echo more >>m/d/1 && chmod 700 m/d/sub && mv m/d/3 m/d/sub/three")
        .ok();
    c.sh("mkdir m/made && echo x >m/made/x && ln m/made/x m/made/x-link && rm m/d/4").ok();
    c.sh("cat m/d/2 m/made/x m/d/sub/three >/dev/null && touch m/made/x").ok();
    let after = numbers(&m);
    assert_unique(&after);
    assert_eq!(after["d/2"], before["d/2"]);
    assert_eq!(after["d/sub"], before["d/sub"]);
    assert_eq!(after["d/sub/three"], before["d/3"]);
    assert_eq!((after["d/1"], after["d/one-link"]), (before["d/1"], before["d/1"]));
    assert_eq!(after["made/x"], after["made/x-link"]);
    assert!(!after.contains_key("d/4"));
    c.stratafs(&["umount", "m"]).ok();
    c.stratafs(&["-o", STACK, "m"]).ok();
    assert_eq!(numbers(&m), after, "after a remount");
    // what the kernel is told of edits goes by these numbers too
    c.sh("cat m/d/7 m/40 && echo edited >l/d/7 && echo edited >t/40 && echo new >l/d/new").ok();
    eventually("edits become visible", || {
        c.sh("cat m/d/7 m/40 m/d/new").out == "edited\nedited\nnew\n"
    });
    c.stratafs(&["umount", "m"]).ok();
}

#[test]
fn short_inode_numbers_are_what_everybody_sees() {
    for user in mounters("xino=off") {
        let c = Case::new(user);
        if user == myself() {
            check(&c);
            continue;
        }
        // his mount is private; so as he sees it
        c.sh("mkdir -p t l/d && echo one >l/d/one && ln l/d/one l/d/two && echo t >t/t").ok();
        c.stratafs(&["-o", STACK, "m"]).ok();
        let script = "for p in t d d/one d/two; do stat -c %i m/$p; done";
        let before = c.sh(script).ok().out;
        let n: Vec<u64> = before.lines().map(|l| l.parse().unwrap()).collect();
        assert!(n.len() == 4 && n.iter().all(|n| (2..1 << 32).contains(n)), "{n:?}");
        assert_eq!(n[2], n[3]);
        c.sh("chown 7:7 m/d/one && echo more >>m/t").ok();
        assert_eq!(c.sh(script).ok().out, before);
        c.stratafs(&["umount", "m"]).ok();
    }
}

#[test]
fn short_inode_numbers_over_several_file_systems_do_not_meet() {
    if !support::is_root() {
        return skip("xino=off over several file systems", "only root can mount a tmpfs");
    }
    let c = Case::new(myself());
    c.sh("mkdir t && mount -t tmpfs none t && mount -t tmpfs none l").ok();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&c)));
    c.stratafs(&["umount", "--lazy", "m"]);
    c.sh("umount l; umount t").ok();
    if let Err(e) = done {
        std::panic::resume_unwind(e);
    }
}
