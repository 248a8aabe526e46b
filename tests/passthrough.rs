//! Files that the kernel reads and writes by itself: what users see must not change.

#![allow(missing_docs, unsafe_code)]

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use support::{Case, can_mount, is_root, mounters, myself, ordinary, skip, text};

/// A place of root's, who alone may register backing files.
fn roots(test: &str) -> Option<Case> {
    if !is_root() {
        skip(test, "only root has passthrough");
        return None;
    }
    can_mount(myself()).map_err(|why| skip(test, &why)).ok()?;
    Some(Case::new(myself()))
}

fn mount(c: &Case, options: &str) {
    let options = format!("lowerdir=l,upperdir=u,workdir=w,{options}");
    c.stratafs(&["-vvv", "mount", "--log", "log", "-o", &options, "m"]).ok();
}

/// Unmounts and returns how many opens were passed through.
fn unmount(c: &Case) -> u64 {
    c.stratafs(&["umount", "m"]).ok();
    let log = text(&c.path("log"));
    let line = log.lines().rfind(|l| l.contains("opens passed through")).unwrap_or_default();
    let word = line.split_whitespace().rev().nth(3).unwrap_or_default();
    word.parse().unwrap_or_else(|_| panic!("no count in the log: {log}"))
}

fn writer(path: PathBuf) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

fn both(path: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn at(f: &File, offset: u64) -> u8 {
    let mut byte = [0];
    f.read_exact_at(&mut byte, offset).unwrap();
    byte[0]
}

#[test]
fn files_of_the_upper_are_passed_through_and_those_of_lowers_never() {
    let Some(c) = roots("which files") else { return };
    c.sh("head -c 1000000 /dev/zero >l/low && head -c 1000000 /dev/zero >u/up").ok();
    mount(&c, "");
    c.sh("cat m/low m/low >m/null").ok();
    c.sh("cat m/up >/dev/null && echo x >m/new && echo y 1<>m/low && echo z >>m/new").ok();
    assert_eq!(unmount(&c), 4, "null, up, new, and low when it was copied up");
    mount(&c, "passthrough=off");
    c.sh("cat m/up >/dev/null && echo x >m/new && echo y >>m/low").ok();
    assert_eq!(unmount(&c), 0);
}

#[test]
fn who_appends_to_a_large_lower_file_leaves_its_pages_in_memory() {
    let Some(c) = roots("appending to lowers") else { return };
    c.sh("head -c 9000000 /dev/zero >l/large && head -c 1000000 /dev/zero >l/small").ok();
    c.sh("cp l/large l/other").ok();
    mount(&c, "");
    c.sh("cat m/large m/small m/other >/dev/null").ok();
    let f = OpenOptions::new().append(true).open(c.path("m/large")).unwrap();
    std::io::Write::write_all(&mut &f, b"x").unwrap();
    // others follow it, and see the end as the pages from before
    let during = File::open(c.path("m/large")).unwrap();
    assert_eq!((at(&during, 8_999_999), at(&during, 9_000_000)), (0, b'x'));
    drop((f, during));
    c.sh("test $(stat -c %s m/large) = 9000001 && echo y >>m/small").ok();
    c.sh("echo z 1<>m/other && cat m/other >/dev/null && echo more >>m/large").ok();
    let f = File::open(c.path("m/large")).unwrap();
    assert_eq!((at(&f, 8_999_999), at(&f, 9_000_000), at(&f, 9_000_001)), (0, b'x', b'm'));
    drop(f);
    assert_eq!(unmount(&c), 3, "other twice, large once after it was closed; nothing to append");
}

#[test]
fn what_is_written_is_read_by_whatever_way_a_file_is_open() {
    let Some(c) = roots("mixed opens") else { return };
    c.sh("head -c 300000 /dev/zero >l/low && echo small >u/small").ok();
    mount(&c, "timeout=1000");
    // a lower file that is open for reading stays as it was opened when it is copied up
    let reader = File::open(c.path("m/low")).unwrap();
    assert_eq!(at(&reader, 0), 0);
    let w = both(c.path("m/low"));
    w.write_all_at(b"a", 0).unwrap();
    assert_eq!((at(&reader, 0), at(&w, 0)), (b'a', b'a'));
    drop(reader);
    assert_eq!(at(&File::open(c.path("m/low")).unwrap(), 0), b'a');
    drop(w);
    // a writer first: a reader of a small file follows it, and finds no old pages afterwards
    for round in b'0'..b'6' {
        let w = writer(c.path("m/small"));
        let during = File::open(c.path("m/small")).unwrap();
        w.write_all_at(&[round], 0).unwrap();
        assert_eq!(at(&during, 0), round);
        drop((w, during));
        assert_eq!(at(&File::open(c.path("m/small")).unwrap(), 0), round);
    }
    assert!(unmount(&c) > 6);
}

#[test]
fn lengths_and_times_are_those_of_the_backing_file() {
    let Some(c) = roots("attributes") else { return };
    mount(&c, "timeout=1000");
    let f = File::create(c.path("m/f")).unwrap();
    let len = || std::fs::metadata(c.path("m/f")).unwrap().len();
    f.write_all_at(b"12345", 0).unwrap();
    assert_eq!((len(), f.metadata().unwrap().len()), (5, 5));
    f.set_len(3).unwrap();
    assert_eq!(len(), 3);
    c.sh("printf 678 >>m/f && truncate -s +1 m/f && fallocate -l 100 m/f").ok();
    assert_eq!((len(), c.sh("head -c 7 m/f | od -An -c").ok().out.trim().len()), (100, 25));
    assert_eq!(text(&c.path("m/f")).trim_end_matches('\0'), "123678");
    std::fs::rename(c.path("m/f"), c.path("m/g")).unwrap();
    std::fs::remove_file(c.path("m/g")).unwrap();
    f.write_all_at(b"x", 200).unwrap();
    assert_eq!((f.metadata().unwrap().len(), f.metadata().unwrap().nlink()), (201, 0));
    assert!(unmount_busy(&c, f) > 0);
}

fn unmount_busy(c: &Case, f: File) -> u64 {
    drop(f);
    unmount(c)
}

#[test]
fn a_mapping_and_the_file_are_one_even_after_the_last_close() {
    let Some(c) = roots("mappings") else { return };
    c.sh("head -c 300000 /dev/zero >u/f").ok();
    mount(&c, "timeout=1000");
    let f = both(c.path("m/f"));
    // SAFETY: nobody cuts the file while it is mapped
    let mut map = unsafe { memmap2::MmapMut::map_mut(&f) }.unwrap();
    map[0] = b'm';
    assert_eq!(at(&f, 0), b'm');
    f.write_all_at(b"w", 1).unwrap();
    assert_eq!(map[1], b'w');
    drop(f);
    // not to be passed through, so that its pages are the kernel's own again
    c.sh("chmod 4644 m/f").ok();
    let cached = File::open(c.path("m/f")).unwrap();
    assert_eq!(at(&cached, 2), 0);
    drop(cached);
    map[2] = b'l';
    assert_eq!(at(&File::open(c.path("m/f")).unwrap(), 2), b'l');
    map.flush().unwrap();
    let mtime = |p: &str| {
        let m = std::fs::metadata(c.path(p)).unwrap();
        (m.mtime(), m.mtime_nsec())
    };
    assert_eq!(mtime("m/f"), mtime("u/f"));
    drop(map);
    assert_eq!(unmount(&c), 1);
}

#[test]
fn writes_of_an_ordinary_user_take_set_id_bits_away() {
    let Some(c) = roots("set-id bits") else { return };
    let user = match ordinary() {
        Ok(u) => u,
        Err(why) => return skip("set-id bits", &why),
    };
    c.sh(
        "echo before >u/before && echo while >u/while && chmod 6777 u/before && chmod 777 u/while",
    )
    .ok();
    mount(&c, "timeout=1000");
    let write_as_user = |f: File| {
        let mut echo = Command::new("echo");
        echo.arg("x").uid(user.uid).gid(user.gid).stdout(f);
        assert!(echo.status().unwrap().success());
    };
    let mode = |p: &str| std::fs::metadata(c.path(p)).unwrap().mode() & 0o7777;
    for name in ["before", "while"] {
        let f = writer(c.path(&format!("m/{name}")));
        std::fs::set_permissions(c.path(&format!("m/{name}")), PermissionsExt::from_mode(0o6777))
            .unwrap();
        write_as_user(f);
        assert_eq!(mode(&format!("u/{name}")), 0o777, "{name}");
        assert_eq!(mode(&format!("m/{name}")), 0o777, "{name}");
    }
    // root's do not
    c.sh("chmod 6777 m/while && echo y >>m/while").ok();
    assert_eq!(mode("u/while"), 0o6777);
    assert_eq!(unmount(&c), 1, "a file that has them is never passed through");
}

#[test]
fn who_may_not_register_backing_files_sees_no_difference() {
    for user in mounters("without the privilege") {
        let c = Case::new(user);
        c.sh("head -c 300000 /dev/zero >l/low").ok();
        mount(&c, "passthrough=on");
        c.sh("echo x >>m/low && echo y >m/new && cat m/new m/low >/dev/null").ok();
        let passed = unmount(&c);
        assert_eq!(passed > 0, user.uid == 0, "{passed}");
    }
}

#[test]
fn an_executable_that_was_written_runs_and_is_not_written_while_it_runs() {
    let Some(c) = roots("executables") else { return };
    mount(&c, "");
    c.sh("cp $(command -v sleep) m/sleep && m/sleep 0").ok();
    let busy = c.sh("m/sleep 100 & pid=$!; sleep 0.2; echo x >>m/sleep; kill $pid; wait");
    assert!(busy.err.contains("Text file busy"), "{busy:?}");
    assert!(unmount(&c) > 0);
}

#[test]
fn a_read_only_view_of_store_layers_passes_large_files_through() {
    let Some(c) = roots("read-only store") else { return };
    c.sh("head -c 20000000 /dev/urandom >l/big && echo small >l/small").ok();
    c.stratafs(&["--root", "s", "import", "-q", "--lowerdir", "l", "--name", "img"]).ok();
    let with = |option: &str| {
        let args = ["-vvv", "--root", "s", "mount", "--log", "log", "-o", option, "img", "m"];
        c.stratafs(&args).ok();
        c.sh("cmp l/big m/big && cmp l/small m/small && cat m/big m/big >/dev/null").ok();
        unmount(&c)
    };
    // cmp and two times cat; never the small one
    assert_eq!(with("ro"), 3, "most of it is in large files: opens are worth it");
    assert_eq!(with("passthrough=on"), 3);
    assert_eq!(with("passthrough=off"), 0);
}

#[test]
fn a_read_only_view_of_a_store_changes_no_access_times() {
    let Some(c) = roots("access times in a store") else { return };
    c.sh("mkdir l2 && for f in l/low l2/top; do head -c 5000000 /dev/urandom >$f; done").ok();
    c.stratafs(&["--root", "s", "import", "-q", "--lowerdir", "l2:l", "--name", "img"]).ok();
    c.stratafs(&["--root", "s", "create", "img", "--name", "box"]).ok();
    c.stratafs(&["--root", "s", "mount", "box", "m"]).ok();
    c.sh("head -c 5000000 /dev/urandom >m/new").ok();
    c.stratafs(&["umount", "m"]).ok();
    c.sh(
        "touch -a -d 2001-01-01 s/overlay2/*/diff/low s/overlay2/*/diff/top s/overlay2/*/diff/new",
    )
    .ok();
    for (target, files, opens) in [("img", "m/low m/top", 2), ("box", "m/low m/top m/new", 3)] {
        let args = ["-vvv", "--root", "s", "mount", "--log", "log", "-o", "ro,passthrough=on"];
        c.stratafs(&[&args[..], &[target, "m"]].concat()).ok();
        c.sh(&format!("cat {files} >/dev/null")).ok();
        assert_eq!(unmount(&c), opens, "{target}");
        let times =
            c.sh("stat -c %X s/overlay2/*/diff/low s/overlay2/*/diff/top s/overlay2/*/diff/new");
        assert_eq!(times.ok().out, "978307200\n".repeat(3), "{target}");
    }
}
