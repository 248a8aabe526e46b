//! Writes that the kernel holds back (`-o writeback`): nothing is lost, and what is told is true.

#![allow(missing_docs, reason = "nobody links with a test")]
#![allow(unsafe_code, reason = "maps of files that nobody else changes")]
#![cfg(target_os = "linux")]

mod support;

use rustix::fs::{FallocateFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Stdio;
use support::{Case, User, eventually, is_root, lives, mounters, ordinary, skip, text};

const LAYERS: &str = "lowerdir=l,upperdir=u,workdir=w";

fn agreed(c: &Case, what: &str) -> bool {
    let said = c.stratafs(&["--json", "stats", "m"]).ok().out;
    let stats: serde_json::Value = serde_json::from_str(&said).unwrap();
    stats["agreed"][what] == "yes"
}

/// Mounts so, unless the kernel cannot.
fn mount(c: &Case, options: &str) {
    let options = format!("{LAYERS},writeback,{options}");
    c.stratafs(&["-vv", "mount", "--log", "log", "-o", &options, "m"]).ok();
    assert!(agreed(c, "writeback") && !agreed(c, "passthrough") && !agreed(c, "direct_writes"));
}

fn unmount(c: &Case) {
    c.stratafs(&["umount", "m"]).ok();
}

/// Runs `f` on a mount of each user, once with a single thread that serves it.
fn for_each_mount(test: &str, lowers: &str, f: impl Fn(&Case)) {
    for user in mounters(test) {
        for options in ["", "threads=1,lower_changes=ignore"] {
            let c = Case::new(user);
            c.sh(lowers).ok();
            mount(&c, options);
            f(&c);
            if c.mount_line().is_some() {
                unmount(&c);
            }
        }
    }
}

/// A mount of root's, into which this process sees if it is root's.
fn roots(test: &str, lowers: &str, f: impl Fn(&Case)) {
    if !is_root() {
        return skip(test, "an ordinary user runs the tests");
    }
    for_each_mount(test, lowers, |c| {
        if c.user.uid == 0 {
            f(c);
        }
    });
}

fn both(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// A case whose upper is on a file system of so many KiB, which is mounted there.
struct Small {
    case: Case,
}

impl Small {
    fn new(test: &str, user: User, kib: u32) -> Option<Small> {
        if !is_root() {
            skip(test, "only root can mount a small file system");
            return None;
        }
        let case = Case::new(user);
        let (uid, gid) = (user.uid, user.gid);
        let options = format!("size={kib}k,uid={uid},gid={gid},mode=755");
        let place = case.path("small");
        std::fs::create_dir(&place).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&place)
            .status()
            .unwrap();
        assert!(mounted.success());
        let small = Small { case };
        let ready = small.case.sh("mkdir small/u small/w && setfattr -n user.a -v b small/u");
        if ready.code != Some(0) {
            skip(test, "a tmpfs has no user attributes here");
            return None;
        }
        Some(small)
    }

    fn mount(&self, options: &str) {
        let options = format!("lowerdir=l,upperdir=small/u,workdir=small/w,writeback,{options}");
        self.case.stratafs(&["-vv", "mount", "--log", "log", "-o", &options, "m"]).ok();
        assert!(agreed(&self.case, "writeback"));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.case.stratafs(&["umount", "--lazy", "m"]);
        std::process::Command::new("umount")
            .arg("-l")
            .arg(self.case.path("small"))
            .status()
            .unwrap();
    }
}

#[test]
fn what_was_written_is_in_the_upper_when_it_is_closed() {
    let lowers = "echo low >l/f && touch -d 2001-02-03Z l/f";
    for_each_mount("after the close", lowers, |c| {
        c.sh("for i in 1 2 3 4 5 6 7 8; do echo $i; done >m/new && echo more >>m/f").ok();
        assert_eq!(text(&c.path("u/new")), "1\n2\n3\n4\n5\n6\n7\n8\n");
        assert_eq!(text(&c.path("u/f")), "low\nmore\n");
        // to the nanosecond: the times that the kernel shows are those of the disk
        let look = "stat -c '%s %y' m/f m/new";
        let shown = c.sh(look).ok().out;
        // the last of it comes just after the close
        eventually("the disk has the kernel's times", || {
            c.sh(&look.replace("m/", "u/")).ok().out == shown
        });
        assert!(!shown.contains("2001"), "{shown}");
        unmount(c);
        mount(c, "");
        assert_eq!(c.sh(look).ok().out, shown);
        assert_eq!(c.sh("cat m/f").ok().out, "low\nmore\n");
    });
}

#[test]
fn a_full_disk_is_told_at_the_close_and_by_fsync() {
    let test = "a full disk";
    for user in mounters(test) {
        let Some(small) = Small::new(test, user, 1024) else { return };
        let c = &small.case;
        small.mount("");
        let full = "No space left on device";
        let close = c.sh("dd if=/dev/zero of=m/a bs=4k count=600");
        assert!(close.code == Some(1) && close.err.contains(full), "{close:?}");
        c.sh("rm m/a").ok();
        let fsync = c.sh("dd if=/dev/zero of=m/a bs=4k count=600 conv=fsync");
        assert!(fsync.code == Some(1) && fsync.err.contains(full), "{fsync:?}");
        c.sh("rm m/a && echo fits >m/a && test $(cat m/a) = fits").ok();
        // in a file that was there; told to who closes first, wherever in a request it ends
        for n in 0..20 {
            let shell = c.sh("exec 3>>m/a 4>>m/a; head -c 2000000 /dev/zero >&3 && sync m/a");
            assert!(shell.code != Some(0) && shell.err.contains(full), "{n}: {shell:?}");
            c.sh("rm m/a && head -c 7 /dev/zero >m/a").ok();
        }
        unmount(c);
    }
}

/// The kernel takes a request's worth of pages for written if it is not told otherwise, however short
/// the write was.
#[test]
fn what_a_map_writes_to_a_full_disk_is_told() {
    let test = "a full disk under a map";
    for user in mounters(test).into_iter().filter(|u| u.uid == 0) {
        for options in ["writeback", "passthrough=off"] {
            let Some(small) = Small::new(test, user, 1024) else { return };
            let c = &small.case;
            let options = format!("lowerdir=l,upperdir=small/u,workdir=small/w,{options}");
            c.stratafs(&["-o", &options, "m"]).ok();
            for n in 0..5 {
                let f = both(&c.path("m/f"));
                f.set_len(2_000_000).unwrap();
                // SAFETY: nobody else changes the file
                let mut map = unsafe { memmap2::MmapMut::map_mut(&f) }.unwrap();
                map.fill(1);
                let told = map.flush().unwrap_err();
                assert_eq!(told.kind(), std::io::ErrorKind::StorageFull, "{options}, {n}");
                drop((map, f));
                c.sh("rm m/f").ok();
            }
            unmount(c);
        }
    }
}

#[test]
fn set_id_bits_go_with_a_write_that_is_held_back() {
    let test = "set-id bits with writeback";
    let Ok(user) = ordinary() else { return skip(test, "no ordinary user") };
    let lowers = "for f in write more trunc open cut root; do
        echo x >l/$f; chmod 6777 l/$f; done";
    roots(test, lowers, |c| {
        let other = Case::new(user);
        let run = |script: &str| {
            other.sh(&format!("cd {} && {script}", c.path("m").display())).ok();
        };
        c.sh("echo y >>m/root").ok();
        run("echo y >>write && truncate -s 0 trunc && : >open && truncate -s 1 cut");
        run("exec 3>>more; for i in 1 2 3 4; do echo $i >&3; done");
        let look = "stat -c %a m/write m/more m/trunc m/open m/cut m/root";
        assert_eq!(c.sh(look).ok().out, "777\n777\n777\n777\n777\n6777\n");
        // given back while there is something held back, they stay: the write was before
        c.sh("exec 3>>m/write; echo z >&3; chmod 4755 m/write; exec 3>&-").ok();
        assert_eq!(c.sh("stat -c %a m/write u/write").ok().out, "4755\n4755\n");
        run("exec 3>>more; echo z >&3");
        assert_eq!(text(&c.path("u/more")), "x\n1\n2\n3\n4\nz\n");
    });
    for_each_mount(test, "echo x >l/f && chmod 6755 l/f", |c| {
        if c.user.uid == 0 {
            return;
        }
        c.sh("echo y >>m/f && echo z >>m/f").ok();
        assert_eq!(c.sh("stat -c %a m/f && cat m/f").ok().out, "755\nx\ny\nz\n");
    });
}

#[test]
fn a_capability_goes_with_a_write_that_is_held_back() {
    let set = "setcap cap_net_raw+ep";
    roots("capabilities with writeback", "echo x >l/f && echo x >l/g", |c| {
        if c.sh(&format!("{set} m/f m/g 2>&1 || {set} m/f && {set} m/g")).code != Some(0) {
            return skip("capabilities with writeback", "setcap is not installed");
        }
        c.sh("echo y >>m/f").ok();
        assert_eq!(c.sh("getcap m/f u/f").ok().out, "");
        assert!(c.sh("getcap u/g").ok().out.contains("cap_net_raw"));
    });
}

/// The kernel keeps times by itself then, and does not ask again because of them.
#[test]
fn a_mode_that_goes_along_with_an_acl_is_seen_at_once() {
    for_each_mount("ACL with writes held back", "echo x >l/f; chmod 644 l/f", |c| {
        if c.sh("setfacl --version").code != Some(0) {
            return skip("ACL with writes held back", "setfacl is not installed");
        }
        c.sh("stat m/f && setfacl -m u:7:rw,m::rw m/f").ok();
        eventually("the mode that the ACL gives", || c.sh("stat -c %a m/f").ok().out == "664\n");
    });
}

#[test]
fn times_that_somebody_sets_stay_over_what_is_held_back() {
    for_each_mount("utimensat with writeback", "echo low >l/f && echo low >l/g", |c| {
        c.sh("exec 3>>m/f 4>m/new; echo x >&3; echo x >&4;
              touch -d '2001-02-03 04:05:06.789012345Z' m/f m/new;
              touch -m -d '1999-12-31 23:59:59.5Z' m/g; exec 3>&- 4>&-")
            .ok();
        let look = "TZ=UTC stat -c %y m/f m/new m/g u/f u/new u/g";
        let then = "2001-02-03 04:05:06.789012345 +0000\n";
        let before = "1999-12-31 23:59:59.500000000 +0000\n";
        assert_eq!(c.sh(look).ok().out, format!("{then}{then}{before}").repeat(2));
        // and go with the next write
        c.sh("echo y >>m/f").ok();
        eventually("both have another time", || {
            let now = c.sh("stat -c '%y' m/f u/f").ok().out;
            let lines: Vec<_> = now.lines().collect();
            !now.contains("2001") && lines[0] == lines[1]
        });
    });
}

#[test]
fn appends_by_several_handles_follow_each_other() {
    for_each_mount("appends with writeback", "printf 0 >l/f && ln l/f l/g", |c| {
        c.sh("exec 3>>m/f 4>>m/g 5<>m/f
              for i in 1 2 3 4; do printf a >&3; printf b >&4; done
              printf X >&5; test $(stat -c %s m/g) = 9; printf c >&3")
            .ok();
        assert_eq!(
            c.sh("cat m/f m/g u/f").ok().out,
            "Xabababab".to_owned() + "cXababababcXababababc"
        );
    });
}

#[test]
fn a_file_that_may_be_written_but_not_read_is_written() {
    for_each_mount("write-only files", "echo low >l/f", |c| {
        c.sh("echo new >m/new && chmod 200 m/f m/new && echo a >>m/f && echo a >>m/new").ok();
        c.sh("printf X | dd of=m/f bs=1 seek=1 conv=notrunc status=none").ok();
        assert_eq!(c.sh("stat -c %a m/f m/new").ok().out, "200\n200\n");
        c.sh("chmod 600 m/f m/new u/f u/new").ok();
        assert_eq!(c.sh("cat m/f m/new u/f").ok().out, "lXw\na\nnew\na\nlXw\na\n");
    });
}

#[test]
fn a_file_of_another_is_written_though_its_times_cannot_be_set() {
    let test = "files of others with writeback";
    let Ok(user) = ordinary() else { return skip(test, "no ordinary user") };
    if !is_root() || !mounters(test).contains(&user) {
        return skip(test, "it takes root to make one");
    }
    let c = Case::new(user);
    std::fs::write(c.path("u/f"), "old\n").unwrap();
    std::process::Command::new("chmod").arg("666").arg(c.path("u/f")).status().unwrap();
    mount(&c, "");
    let said = c.sh("cat m/f && dd if=/dev/zero bs=1 count=1 conv=fsync status=none >>m/f").ok();
    assert_eq!((&said.out[..], &said.err[..]), ("old\n", ""));
    // a cut and a touch come with a time of the kernel's, which only the owner may set
    c.sh("truncate -s 2 m/f && touch m/f && printf x >>m/f && test \"$(cat m/f)\" = olx").ok();
    c.sh("exec 3<>m/f; truncate -s 1 /dev/fd/3 && stat -Lc %s /dev/fd/3 m/f").ok();
    c.sh("! touch -d 2001-02-03Z m/f").ok();
    unmount(&c);
    assert_eq!(text(&c.path("u/f")), "o");
}

#[test]
fn writes_around_the_cache_go_together_with_those_that_are_held_back() {
    for_each_mount("O_DIRECT with writeback", "head -c 5000 /dev/zero >l/f", |c| {
        c.sh("exec 3>>m/f; printf abc >&3; touch -d 2001-02-03Z m/f
              head -c 8192 /dev/zero | tr '\\0' x >x
              dd if=x of=m/f bs=4096 count=2 seek=1 oflag=direct conv=notrunc status=none
              printf end >&3; dd if=m/f bs=4096 iflag=direct status=none >copy; cmp copy m/f
              test $(stat -c %s m/f) = 12291; ! stat -c %y m/f | grep 2001")
            .ok();
        let f = std::fs::read(c.path("u/f")).unwrap();
        assert!(f[..4096].iter().all(|b| *b == 0) && f[4096..12288].iter().all(|b| *b == b'x'));
        assert_eq!(&f[12288..], b"end");
    });
}

#[test]
fn what_a_map_writes_is_in_the_upper() {
    roots("maps with writeback", "head -c 20000 /dev/zero >l/f", |c| {
        let f = both(&c.path("m/f"));
        f.write_all_at(b"write", 100).unwrap();
        // SAFETY: nobody else changes the file
        let mut map = unsafe { memmap2::MmapMut::map_mut(&f) }.unwrap();
        assert_eq!(&map[100..105], b"write");
        map[100..103].copy_from_slice(b"map");
        map[19_999] = 1;
        let mut seen = [0; 5];
        f.read_exact_at(&mut seen, 100).unwrap();
        assert_eq!(&seen, b"mapte");
        drop((f, map));
        let upper = std::fs::read(c.path("u/f")).unwrap();
        assert_eq!((upper.len(), &upper[100..105], upper[19_999]), (20_000, &b"mapte"[..], 1));
    });
}

#[test]
fn nothing_is_lost_when_the_daemon_is_told_to_end() {
    for_each_mount("SIGTERM with writeback", "echo low >l/f", |c| {
        let pid = c.daemon().unwrap();
        // the shell goes on using the mount: what it writes after the signal counts too
        let script = format!(
            "exec 3>m/new 4>>m/f 5<>m/gone && rm m/gone && printf held >&3 && printf more >&4 &&
             printf x >&5 && kill -TERM {pid} &&
             while grep -q $PWD/m /proc/mounts; do sleep 0.01; done &&
             printf late >&3 && while kill -0 {pid} 2>/dev/null; do sleep 0.05; done"
        );
        let said = c.sh(&script);
        assert!(said.err.is_empty() || said.err.contains("not connected"), "{said:?}");
        assert!(!lives(pid));
        assert_eq!(text(&c.path("u/new")), "heldlate");
        assert_eq!(text(&c.path("u/f")), "low\nmore");
    });
}

/// A process that is stopped until this goes.
struct Stopped<'a>(&'a Case, u32);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.sh(&format!("kill -CONT {}", self.1));
    }
}

/// Told to end while its upper, on a mount whose daemon is stopped, does not answer.
fn end_without_an_upper(c: &Case) {
    c.sh("mkdir under other back && mv m under/m && mkdir m").ok();
    c.stratafs(&["-o", "lowerdir=l,upperdir=back,workdir=other,passthrough=off", "m"]).ok();
    let below = c.daemon().unwrap();
    let options = "lowerdir=l,upperdir=m/u,workdir=m/w,writeback";
    c.sh(&format!("mkdir m/u m/w && $STRATAFS mount --log log -o {options} under/m")).ok();
    let pid = c.daemon_at("under/m").unwrap();
    let stopped = Stopped(c, below);
    // it holds the file open and never closes it: a close would send what is held back
    let script = format!("exec >under/m/f; printf held; kill -STOP {below}; kill {pid}; read end");
    let mut user = c.command("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let shown = || text(Path::new("/proc/mounts")).contains(c.path("under/m").to_str().unwrap());
    assert!(shown());
    // what is held back has twice five seconds
    std::thread::sleep(std::time::Duration::from_secs(6));
    eventually("it is unmounted", || !shown());
    let broken_off = c.user.uid == 0
        || std::fs::read_dir("/sys/fs/fuse/connections").is_ok_and(|mut d| d.next().is_some());
    if broken_off {
        eventually("the daemon ends", || !lives(pid));
    }
    drop(stopped);
    drop(user.stdin.take());
    eventually("its user ends", || user.try_wait().unwrap().is_some());
    eventually("the daemon ends", || !lives(pid));
    if !broken_off {
        assert_eq!(text(&c.path("back/u/f")), "held");
    }
    unmount(c);
}

#[test]
fn a_daemon_whose_upper_does_not_answer_unmounts_before_it_leaves() {
    let users = mounters("an upper that does not answer");
    std::thread::scope(|s| {
        for user in users {
            s.spawn(move || end_without_an_upper(&Case::new(user)));
        }
    });
}

#[test]
fn a_lazy_unmount_waits_for_what_is_held_back() {
    for_each_mount("lazy unmounts with writeback", "", |c| {
        let pid = c.daemon().unwrap();
        c.sh("exec 3>m/new && echo one >&3 && $STRATAFS umount --lazy m && echo two >&3").ok();
        eventually("the daemon ends", || !lives(pid));
        assert_eq!(text(&c.path("u/new")), "one\ntwo\n");
    });
}

#[test]
fn sync_brings_what_is_held_back_into_the_upper() {
    for_each_mount("sync with writeback", "", |c| {
        c.sh("exec 3>m/a 4>m/b; echo a >&3; echo b >&4; sync m/a; cat u/a; sync -f m/b;
              for i in $(seq 500); do test -s u/b && break; sleep 0.01; done; cat u/b")
            .ok();
        assert_eq!(c.sh("cat u/a u/b").ok().out, "a\nb\n");
    });
}

#[test]
fn holes_and_data_are_found_while_they_are_held_back() {
    roots("lseek with writeback", "head -c 300000 /dev/zero >l/f", |c| {
        let seek = |f: &File, to| rustix::fs::seek(f, to);
        let f = both(&c.path("m/new"));
        f.write_all_at(b"data", 1 << 20).unwrap();
        assert_eq!(seek(&f, SeekFrom::Data(0)), Ok(1 << 20));
        f.write_all_at(b"more", 0).unwrap();
        assert_eq!(seek(&f, SeekFrom::Data(0)), Ok(0));
        assert_eq!(seek(&f, SeekFrom::Hole(0)), Ok(4096));
        assert_eq!(seek(&f, SeekFrom::Hole(1 << 20)), Ok((1 << 20) + 4));
        assert_eq!(seek(&f, SeekFrom::Data((1 << 20) + 4)), Err(rustix::io::Errno::NXIO));
        // also by who reads it, and of a file that was copied up
        let g = both(&c.path("m/f"));
        let reader = File::open(c.path("m/f")).unwrap();
        g.write_all_at(b"x", 400_000).unwrap();
        assert_eq!(seek(&reader, SeekFrom::Data(300_000)).unwrap() / 4096, 300_000 / 4096);
        assert_eq!(seek(&reader, SeekFrom::Data(310_000)).unwrap() / 4096, 400_000 / 4096);
        assert_eq!(seek(&reader, SeekFrom::End(0)), Ok(400_001));
    });
}

#[test]
fn copies_cuts_and_allocations_see_what_is_held_back() {
    roots("other changes with writeback", "head -c 10000 /dev/urandom >l/f", |c| {
        let f = both(&c.path("m/f"));
        f.write_all_at(b"held back", 5000).unwrap();
        // copied before it was written back
        let to = both(&c.path("m/to"));
        to.write_all_at(&[7; 6000], 0).unwrap();
        let (mut from_at, mut to_at) = (4998, 100);
        let n = rustix::fs::copy_file_range(&f, Some(&mut from_at), &to, Some(&mut to_at), 13);
        assert_eq!(n, Ok(13));
        let mut seen = [0; 15];
        to.read_exact_at(&mut seen, 99).unwrap();
        assert_eq!((&seen[3..12], seen[0], seen[14]), (&b"held back"[..], 7, 7));
        // cut within what is held back, and grown again
        let g = both(&c.path("m/g"));
        g.write_all_at(&[1; 9000], 0).unwrap();
        g.set_len(5000).unwrap();
        g.set_len(7000).unwrap();
        g.write_all_at(&[2], 8000).unwrap();
        let mut all = vec![9; 8001];
        g.read_exact_at(&mut all, 0).unwrap();
        assert!(all[..5000].iter().all(|b| *b == 1) && all[5000..8000].iter().all(|b| *b == 0));
        // emptied while another has it open
        let h = both(&c.path("m/h"));
        h.write_all_at(&[3; 9000], 0).unwrap();
        drop(OpenOptions::new().write(true).truncate(true).open(c.path("m/h")).unwrap());
        assert_eq!(h.metadata().unwrap().len(), 0);
        h.write_all_at(&[4], 10).unwrap();
        // a hole over it, and room behind it
        let i = both(&c.path("m/i"));
        i.write_all_at(&[5; 20_000], 0).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&i, hole, 4096, 8192).unwrap();
        rustix::fs::fallocate(&i, FallocateFlags::empty(), 0, 30_000).unwrap();
        i.write_all_at(&[6], 29_999).unwrap();
        let shown: Vec<_> =
            ["g", "h", "i", "to"].map(|n| std::fs::read(c.path("m").join(n)).unwrap()).into();
        assert_eq!(shown[1], [&[0; 10][..], &[4]].concat());
        let whole = [&[5; 4096][..], &[0; 8192], &[5; 7712], &[0; 9999], &[6]].concat();
        assert_eq!(shown[2], whole);
        drop((f, to, g, h, i));
        let disk: Vec<_> =
            ["g", "h", "i", "to"].map(|n| std::fs::read(c.path("u").join(n)).unwrap()).into();
        assert_eq!(disk, shown);
    });
}

#[test]
fn what_is_held_back_of_a_removed_or_renamed_file_is_not_lost() {
    roots("removed files with writeback", "echo low >l/f && echo low >l/g", |c| {
        for name in ["m/f", "m/new"] {
            let f = both(&c.path(name));
            f.write_all_at(&[1; 5000], 0).unwrap();
            std::fs::remove_file(c.path(name)).unwrap();
            f.write_all_at(b"xyz", 6000).unwrap();
            // written back and read anew
            f.sync_all().unwrap();
            rustix::fs::fadvise(&f, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let mut all = vec![9; 6003];
            f.read_exact_at(&mut all, 0).unwrap();
            assert!(all[..5000].iter().all(|b| *b == 1) && &all[6000..] == b"xyz");
            let m = f.metadata().unwrap();
            assert_eq!((m.len(), m.nlink()), (6003, 0));
            drop(f);
            assert!(!c.path(name).exists());
        }
        c.sh("exec 3>>m/g; echo a >&3; mv m/g m/h; echo b >&3; ln m/h m/i; echo c >>m/i").ok();
        assert_eq!(c.sh("cat m/h u/i").ok().out, "low\na\nb\nc\n".repeat(2));
    });
}

#[test]
fn removing_lower_files_copies_nothing() {
    let test = "removing lower files with writeback";
    for user in mounters(test) {
        let Some(small) = Small::new(test, user, 512) else { return };
        let c = &small.case;
        c.sh("mkdir l/d && head -c 2000000 /dev/zero >l/d/big && ln l/d/big l/d/other && ln l/d/big l/k
              touch -d 2001-02-03Z l/d/big")
            .ok();
        small.mount("");
        c.sh("cat m/d/* m/k | wc -c").ok();
        // the kernel says when it changed the inode; a copy would not fit
        c.sh("exec 3<m/d/big; rm -r m/d; exec 3<&-; rm m/k; ls -A m small/u").ok();
        unmount(c);
        let log = text(&c.path("log"));
        assert!(!log.contains("setattr: "), "{log}");
    }
}

#[test]
fn it_takes_the_place_of_passthrough_unless_that_is_asked_for() {
    for user in mounters("writeback and passthrough") {
        let c = Case::new(user);
        let options = format!("{LAYERS},passthrough=on,writeback=1");
        let said = c.stratafs(&["-o", &options, "m"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        let why = "mount options 'writeback' and 'passthrough=on' exclude each other";
        assert!(said.err.contains(why), "{said:?}");
        assert_eq!(c.mount_line(), None);
        mount(&c, "passthrough=auto");
        unmount(&c);
        c.stratafs(&["-o", &format!("{LAYERS},writeback=0"), "m"]).ok();
        assert!(!agreed(&c, "writeback") && agreed(&c, "passthrough") == (user.uid == 0));
        unmount(&c);
        // a view without an upper has nothing to hold back
        c.stratafs(&["-o", "lowerdir=l,writeback,ro", "m"]).ok();
        assert!(!agreed(&c, "writeback"));
        unmount(&c);
    }
}

#[test]
fn who_asks_for_it_says_that_nobody_edits_the_lowers() {
    for user in mounters("writeback and edits") {
        let c = Case::new(user);
        c.sh("echo low >l/f && chmod 644 l/f").ok();
        for how in ["watch", "timeout"] {
            let options = format!("{LAYERS},writeback,lower_changes={how}");
            let said = c.stratafs(&["-o", &options, "m"]);
            assert_eq!(said.code, Some(2), "{said:?}");
            let why = format!("'writeback' and 'lower_changes={how}' exclude each other");
            assert!(said.err.contains(&why), "{said:?}");
        }
        mount(&c, "");
        // an edit is not told, as with lower_changes=ignore
        assert_eq!(c.sh("cat m/f; chmod 604 l/f; sleep 1; stat -c %a m/f").ok().out, "low\n644\n");
        unmount(&c);
        // where nothing is written, edits are seen as ever
        c.stratafs(&["-o", "lowerdir=l,writeback,ro", "m"]).ok();
        c.sh("stat m/f && chmod 644 l/f").ok();
        eventually("the edit is told", || c.sh("stat -c %a m/f").out == "644\n");
        unmount(&c);
    }
}
