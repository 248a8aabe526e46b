//! Mounts of plain directories with the real binary, as root and as an ordinary user.

#![allow(missing_docs)]

mod support;

use support::{Case, User, eventually, lives, mounters, ordinary, skip, text};

/// Runs a test as everybody who can mount here.
fn for_each_mounter(test: &str, f: impl Fn(&Case)) {
    for user in mounters(test) {
        f(&Case::new(user));
    }
}

#[test]
fn basic_operations_go_to_the_upper_and_leave_the_lower_alone() {
    for_each_mounter("basic operations", |c| {
        c.sh("mkdir l/d && echo low >l/f && echo gone >l/d/g && ln -s f l/s && ln l/f l/hard").ok();
        let before = c.sh("cd l && find . -printf '%p %y %m %s %T@ %l\\n' | sort").ok().out;
        let m = c.mount();
        assert_eq!(c.sh("cat m/f m/s m/hard").ok().out, "low\nlow\nlow\n");
        c.sh("echo more >>m/f && rm m/d/g && mkdir m/n && mv m/d m/n/ && ln m/f m/link").ok();
        c.sh("truncate -s 3 m/s && mkfifo m/p && chmod 640 m/f").ok();
        assert_eq!(c.sh("cat m/link; stat -c %a m/f; ls -A m/n/d").ok().out, "low640\n");
        assert_eq!(
            c.sh("cd m && find . | sort | tr '\\n' ' '").ok().out.trim(),
            ". ./f ./hard ./link ./n ./n/d ./p ./s"
        );
        assert_eq!(c.sh("rmdir m/n 2>&1").code, Some(1));
        m.unmount();
        assert_eq!(c.sh("cd l && find . -printf '%p %y %m %s %T@ %l\\n' | sort").ok().out, before);
        // and all of it is there again
        let m = c.mount();
        assert_eq!(
            c.sh("cat m/link; ls -A m m/n/d").ok().out,
            "lowm:\nf\nhard\nlink\nn\np\ns\n\nm/n/d:\n"
        );
        m.unmount();
    });
}

#[test]
fn a_mount_without_an_upper_is_read_only() {
    for_each_mounter("read-only", |c| {
        c.sh("echo low >l/f").ok();
        c.stratafs(&["mount", "-o", "lowerdir=l", "m"]).ok();
        assert_eq!(c.sh("cat m/f").ok().out, "low\n");
        assert!(c.sh("echo x >m/f").err.contains("Read-only"));
        assert!(c.sh("touch m/n").err.contains("Read-only"));
        assert!(c.mount_line().unwrap().contains(" ro,"));
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn the_table_of_mounts_tells_what_it_is_and_who_may_do_what() {
    for_each_mounter("table of mounts", |c| {
        let opts = "lowerdir=l,upperdir=u,workdir=w,fsname=a\\,b";
        c.stratafs(&["-o", opts, "m"]).ok();
        let line = c.mount_line().unwrap();
        assert!(line.starts_with("a,b "), "{line}");
        assert!(line.contains(" fuse.stratafs "), "{line}");
        let root = c.user.uid == 0;
        assert_eq!(line.contains("nosuid,nodev"), !root, "{line}");
        assert_eq!(line.contains("default_permissions,allow_other"), root, "{line}");
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn the_drop_in_form_takes_a_source_and_options_behind() {
    for_each_mounter("mount(8) form", |c| {
        c.stratafs(&["overlay", "m", "-o", "rw,lowerdir=l", "-o", "upperdir=u,,workdir=w"]).ok();
        assert!(c.mount_line().unwrap().starts_with("overlay "));
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn umount_returns_when_the_daemon_has_ended() {
    for_each_mounter("umount", |c| {
        let m = c.mount();
        let pid = c.daemon().unwrap();
        assert!(lives(pid));
        m.unmount();
        assert!(!lives(pid));
        assert_eq!(c.mount_line(), None);
        assert_eq!(c.daemon(), None);
        let again = c.stratafs(&["umount", "m"]);
        assert_eq!(again.code, Some(1));
        assert!(again.err.contains("nothing is mounted there"), "{again:?}");
    });
}

#[test]
fn a_mount_in_use_is_not_unmounted_but_lazily() {
    for_each_mounter("busy umount", |c| {
        c.mount();
        let pid = c.daemon().unwrap();
        c.sh("echo x >m/f").ok();
        let busy = c.sh("exec 3<m/f; $STRATAFS umount m");
        assert_eq!(busy.code, Some(1));
        assert!(busy.err.contains("in use") && busy.err.contains("umount --lazy"), "{busy:?}");
        let lazy = c.sh("exec 3<m/f; $STRATAFS umount --lazy m && cat <&3").ok();
        assert_eq!(lazy.out, "x\n");
        eventually("the daemon ends with the last user", || !lives(pid));
    });
}

#[test]
fn the_daemon_ends_when_others_unmount() {
    for_each_mounter("umount from outside", |c| {
        c.mount();
        let pid = c.daemon().unwrap();
        c.sh("echo kept >m/f").ok();
        c.sh(if c.user.uid == 0 { "umount m" } else { "fusermount3 -u m" }).ok();
        eventually("the daemon ends", || !lives(pid));
        assert_eq!(text(&c.path("u/f")), "kept\n");
    });
}

#[test]
fn signals_unmount_cleanly() {
    for_each_mounter("signals", |c| {
        for signal in ["TERM", "INT", "HUP"] {
            c.mount();
            let pid = c.daemon().unwrap();
            c.sh(&format!("echo {signal} >m/f && kill -{signal} {pid}")).ok();
            eventually("the daemon ends", || !lives(pid));
            assert_eq!(c.mount_line(), None);
            assert_eq!(text(&c.path("u/f")), format!("{signal}\n"));
        }
    });
}

#[test]
fn the_foreground_form_stays_and_ends_with_success() {
    for_each_mounter("foreground", |c| {
        let script = "$STRATAFS mount -f -o lowerdir=l m & P=$!
            i=0; while ! grep -q \"$PWD/m fuse\" /proc/mounts; do
                i=$((i+1)); [ $i -lt 500 ] || exit 9; sleep 0.01; done
            kill $P; wait $P";
        c.sh(script).ok();
        assert_eq!(c.mount_line(), None);
    });
}

#[test]
fn the_daemon_lets_go_of_its_caller() {
    for_each_mounter("daemon", |c| {
        let m = c.mount();
        let pid = c.daemon().unwrap();
        let link = |what: &str| std::fs::read_link(format!("/proc/{pid}/{what}")).ok();
        if let Some(cwd) = link("cwd") {
            assert_eq!(cwd.to_str(), Some("/"));
            for fd in 0..3 {
                assert_eq!(link(&format!("fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
            }
        }
        m.unmount();
    });
}

#[test]
fn a_dead_daemon_can_be_cleaned_up_after() {
    for_each_mounter("dead daemon", |c| {
        let m = c.mount();
        let pid = c.daemon().unwrap();
        c.sh(&format!("kill -KILL {pid}")).ok();
        eventually("the daemon dies", || !lives(pid));
        let again = c.stratafs(&["-o", "lowerdir=l", "m"]);
        assert_eq!(again.code, Some(1));
        assert!(again.err.contains("daemon has died"), "{again:?}");
        assert!(again.err.contains("hint: stratafs umount"), "{again:?}");
        m.unmount();
        c.mount().unmount();
    });
}

#[test]
fn failures_reach_the_caller_with_an_honest_status() {
    for_each_mounter("failures", |c| {
        c.sh("touch file").ok();
        let cases: [(&[&str], i32, &str); 10] = [
            (&["-o", "lowerdir=l", "missing"], 1, "mount point missing"),
            (&["-o", "lowerdir=l", "file"], 1, "Not a directory"),
            (&["-o", "lowerdir=l:nope", "m"], 1, "lower directory nope"),
            (&["-o", "lowerdir=l,upperdir=u,workdir=/proc", "m"], 1, "not on the file system"),
            (&["-o", "lowerdir=l,upperdir=u,workdir=u", "m"], 1, "must not contain each other"),
            (&["-o", "lowerdir=l,upperdir=u", "m"], 2, "workdir= is missing"),
            (&["-o", "upperdir=u,workdir=w", "m"], 2, "lowerdir= is missing"),
            (&["-o", "lowerdir=l,bogus=1", "m"], 2, "unknown mount option 'bogus'"),
            (&["-o", "lowerdir=l"], 2, "mount point is missing"),
            (&["mount", "m"], 2, "what is to be mounted"),
        ];
        for (args, code, message) in cases {
            let said = c.stratafs(args);
            assert_eq!(said.code, Some(code), "{args:?} {said:?}");
            assert!(said.err.starts_with("stratafs: "), "{args:?} {said:?}");
            assert!(said.err.contains(message), "{args:?} {said:?}");
            assert_eq!(c.mount_line(), None);
        }
    });
}

#[test]
fn one_upper_has_one_writer() {
    for_each_mounter("two mounts", |c| {
        c.sh("mkdir m2 w2").ok();
        let m = c.mount();
        for opts in ["lowerdir=l,upperdir=u,workdir=w", "lowerdir=l,upperdir=u,workdir=w2"] {
            let second = c.stratafs(&["-o", opts, "m2"]);
            assert_eq!(second.code, Some(1));
            assert!(second.err.contains("in use by another"), "{second:?}");
        }
        m.unmount();
        c.mount().unmount();
    });
}

#[test]
fn times_before_1970_are_kept() {
    for_each_mounter("old times", |c| {
        let m = c.mount();
        c.sh("touch -d '1960-01-01 00:00:00.25Z' m/f && touch -d '1969-12-31 23:59:59.5Z' m/g")
            .ok();
        let stat = "TZ=UTC stat -c %y m/f m/g";
        let want = "1960-01-01 00:00:00.250000000 +0000\n1969-12-31 23:59:59.500000000 +0000\n";
        assert_eq!(c.sh(stat).ok().out, want);
        m.unmount();
        assert_eq!(c.sh(&stat.replace("m/", "u/")).ok().out, want);
    });
}

#[test]
fn a_request_that_fuser_cannot_decode_costs_no_more_than_itself() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let Some(root) = mounters("bad request").into_iter().find(|u| u.uid == 0) else { return };
    let c = Case::new(root);
    let m = c.mount();
    c.sh("touch m/f").ok();
    let pid = c.daemon().unwrap();
    let long_ago = Timespec { tv_sec: i64::MIN, tv_nsec: 5 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    // more often than there are workers
    for _ in 0..9 {
        let done = utimensat(CWD, c.path("m/f"), &times, AtFlags::empty());
        assert_eq!(done, Err(rustix::io::Errno::CONNABORTED));
        c.sh("echo x >>m/f && test -s m/f").ok();
    }
    assert_eq!(c.daemon(), Some(pid));
    m.unmount();
    assert!(!lives(pid));
}

#[test]
fn set_id_bits_are_cleared_where_the_kernel_leaves_it_to_us() {
    let Some(root) = mounters("set-id bits").into_iter().find(|u| u.uid == 0) else { return };
    let Ok(user) = ordinary() else { return skip("set-id bits", "no ordinary user") };
    let c = Case::new(root);
    c.sh("for f in chown same write trunc open cut; do
            echo x >l/$f; chmod 6777 l/$f; done")
        .ok();
    let m = c.mount();
    // root's chown clears them as well; his write does not
    c.sh(&format!("chown {}:{} m/chown; chown : m/same; echo y >>m/write", user.uid, user.gid))
        .ok();
    assert_eq!(c.sh("stat -c %a m/chown m/write").ok().out, "777\n6777\n");
    let other = Case::new(user);
    let run = |script: &str| {
        let dir = c.path("m");
        other.sh(&format!("cd {} && {script}", dir.display())).ok()
    };
    run("echo y >>write && truncate -s 0 trunc && : >open && truncate -s 1 cut");
    assert_eq!(c.sh("stat -c %a m/write m/trunc m/open m/cut").ok().out, "777\n777\n777\n777\n");
    m.unmount();
    assert_eq!(c.sh("stat -c %a l/chown l/write").ok().out, "6777\n6777\n");
}

/// With atomic `O_TRUNC` the kernel asks whether the file is being run when it has been cut.
#[test]
#[cfg(target_os = "linux")]
fn a_program_that_runs_is_not_cut() {
    use rustix::fs::{Mode, OFlags, open};
    let Some(root) = mounters("running programs").into_iter().find(|u| u.uid == 0) else { return };
    let c = Case::new(root);
    c.sh("cp /bin/sleep l/sleep").ok();
    let m = c.mount();
    let path = c.path("m/sleep");
    let size = || std::fs::metadata(&path).unwrap().len();
    let whole = size();
    let cut = |how| open(&path, how | OFlags::TRUNC, Mode::empty()).map(drop);
    let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
    for how in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        assert_eq!(cut(how), Err(rustix::io::Errno::TXTBSY));
        assert_eq!(size(), whole);
    }
    assert!(child.try_wait().unwrap().is_none(), "it has died of that");
    child.kill().unwrap();
    child.wait().unwrap();
    cut(OFlags::RDONLY).unwrap();
    assert_eq!(size(), 0);
    m.unmount();
    assert_eq!(std::fs::metadata(c.path("l/sleep")).unwrap().len(), whole);
}

#[test]
fn in_a_user_namespace_no_helper_is_needed() {
    let user = match ordinary() {
        Ok(u) => u,
        Err(why) => return skip("user namespace", &why),
    };
    let c = Case::new(user);
    let probe = c.sh("unshare -Urm mount -t tmpfs none m");
    if probe.code != Some(0) {
        return skip("user namespace", &probe.err);
    }
    c.sh("echo low >l/f").ok();
    let script = "$STRATAFS -o lowerdir=l,upperdir=u,workdir=w m && echo new >>m/f && cat m/f &&
        grep -c \"$PWD/m fuse.stratafs .*default_permissions,allow_other\" /proc/mounts &&
        $STRATAFS umount m && ! grep \"$PWD/m fuse\" /proc/mounts";
    // the helper would not be found
    let said = c.sh(&format!("unshare -Urm sh -c '{script}'")).ok();
    assert_eq!(said.out, "low\nnew\n1\n");
    assert_eq!(text(&c.path("u/f")), "low\nnew\n");
    assert_eq!(text(&c.path("l/f")), "low\n");
}

fn ordinary_mounter(test: &str) -> Option<User> {
    mounters(test).into_iter().find(|u| u.uid != 0)
}

#[test]
fn a_missing_helper_is_named_with_what_to_install() {
    let Some(user) = ordinary_mounter("missing fusermount3") else { return };
    let said = Case::new(user).sh("PATH=/nowhere $STRATAFS -o lowerdir=l m");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("fusermount3 is not installed"), "{said:?}");
    assert!(said.err.contains("apt install fuse3"), "{said:?}");
}

#[test]
fn allow_other_needs_the_administrators_consent() {
    let Some(user) = ordinary_mounter("allow_other") else { return };
    let allowed = std::fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|t| t.lines().any(|l| l.trim() == "user_allow_other"));
    if allowed {
        return skip("allow_other refused", "/etc/fuse.conf allows it");
    }
    let said = Case::new(user).stratafs(&["mount", "--allow-other", "-o", "lowerdir=l", "m"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("user_allow_other' into /etc/fuse.conf"), "{said:?}");
}

/// The kernel keeps listings for whoever comes next, and lets a walk that began without one go on
/// in one that another has completed since: it may be older.
#[test]
fn a_name_removed_before_a_walk_began_is_not_in_it() {
    use rustix::fs::{Mode, OFlags, RawDir, openat, unlink};
    for_each_mounter("walks beside each other", |c| {
        if c.user != support::myself() {
            return skip("walks beside each other, as another user", "his mount is private");
        }
        c.sh("mkdir l/d && touch l/d/low").ok();
        let m = c.mount();
        let dir = c.path("m/d");
        c.sh("touch m/d/a m/d/b").ok();
        let open = || {
            // other tests start programs meanwhile
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(rustix::fs::CWD, &dir, flags, Mode::empty()).unwrap()
        };
        // one call of getdents(2)
        let read = |fd: &std::os::fd::OwnedFd| {
            let mut buf = [std::mem::MaybeUninit::uninit(); 4096];
            let mut entries = RawDir::new(fd, &mut buf);
            let mut names = Vec::new();
            while let Some(e) = entries.next() {
                names.push(e.unwrap().file_name().to_string_lossy().into_owned());
                if entries.is_buffer_empty() {
                    break;
                }
            }
            names.sort();
            names
        };
        let (first, second) = (open(), open());
        assert_eq!(read(&first), [".", "..", "a", "b", "low"]);
        unlink(dir.join("b")).unwrap();
        assert_eq!(read(&second), [".", "..", "a", "low"]);
        // the first walk ends, and its listing is kept
        assert_eq!(read(&first), [""; 0]);
        assert_eq!(read(&second), [""; 0]);
        drop((first, second));
        m.unmount();
    });
}

/// What is made here is written without the kernel's pages: whoever reads meanwhile must see it.
#[test]
#[cfg(target_os = "linux")]
fn what_is_written_to_a_new_file_is_seen_by_who_reads_it_meanwhile() {
    const SCRIPT: &str = "
import mmap, os
w = os.open('new', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
os.write(w, b'one')
r = os.open('new', os.O_RDONLY)
assert os.read(r, 10) == b'one'
os.write(w, b'two')
assert os.read(r, 10) == b'two', 'the same descriptor'
assert os.fstat(r).st_size == 6
maps = [mmap.mmap(r, 6, mmap.MAP_SHARED, mmap.PROT_READ), mmap.mmap(r, 6, mmap.MAP_PRIVATE)]
assert [m[:] for m in maps] == [b'onetwo'] * 2
os.pwrite(w, b'TWO', 3)
assert maps[0][:] == b'oneTWO', 'a mapping'
assert open('new', 'rb').read() == b'oneTWO', 'a new open'
os.close(w)
assert open('new', 'rb').read() == b'oneTWO', 'while a reader is left'
w = os.open('new', os.O_RDWR)
os.pwrite(w, b'xx', 0)
assert maps[0][:] == b'xxeTWO' and os.pread(r, 9, 0) == b'xxeTWO'
for m in maps: m.close()
os.close(r); os.close(w)
assert open('new', 'rb').read() == b'xxeTWO'
a = os.open('new', os.O_WRONLY | os.O_APPEND)
b = os.open('new', os.O_WRONLY | os.O_APPEND)
for i in range(5): os.write(a, b'a'); os.write(b, b'b')
assert open('new', 'rb').read() == b'xxeTWO' + b'ab' * 5
os.ftruncate(a, 2); os.write(b, b'!')
assert open('new', 'rb').read() == b'xx!'
with open('new') as first:
    assert first.read() == 'xx!'
    os.write(a, b'z' * 9000)
    assert first.read() == 'z' * 9000, 'pages from before'
";
    for_each_mounter("new files", |c| {
        for how in ["auto", "off"] {
            c.sh("rm -rf u w; mkdir u w").ok();
            let options = format!("lowerdir=l,upperdir=u,workdir=w,passthrough={how}");
            c.stratafs(&["-o", &options, "m"]).ok();
            std::fs::write(c.path("script.py"), SCRIPT).unwrap();
            let done = c.sh("cd m && python3 ../script.py");
            c.stratafs(&["umount", "m"]).ok();
            done.ok();
        }
    });
}

/// The kernel drops the pages before such a write, so who looks all the time brings them back.
#[test]
#[cfg(target_os = "linux")]
fn who_watches_a_mapping_of_a_new_file_sees_the_last_write() {
    const SCRIPT: &str = "
import mmap, os, time
w = os.open('new', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
os.write(w, b'00000')
r = os.open('new', os.O_RDONLY)
m = mmap.mmap(r, 5, mmap.MAP_SHARED, mmap.PROT_READ)
writer = os.fork()
if writer == 0:
    for i in range(3001):
        os.pwrite(w, b'%05d' % i, 0)
    os._exit(0)
until = time.monotonic() + 20
while m[:] != b'03000':
    assert time.monotonic() < until, m[:]
os.waitpid(writer, 0)
";
    for_each_mounter("a mapping of a new file", |c| {
        c.stratafs(&["-o", "lowerdir=l,upperdir=u,workdir=w,passthrough=off", "m"]).ok();
        std::fs::write(c.path("script.py"), SCRIPT).unwrap();
        let done = c.sh("cd m && for i in 1 2 3; do rm -f new; python3 ../script.py || exit; done");
        c.stratafs(&["umount", "m"]).ok();
        done.ok();
    });
}

/// The kernel takes capabilities away before it writes to its pages, and not where there are none.
#[test]
#[cfg(target_os = "linux")]
fn a_new_file_that_gets_a_capability_loses_it_to_the_next_write() {
    for user in mounters("capabilities").into_iter().filter(|u| u.uid == 0) {
        let c = Case::new(user);
        c.stratafs(&["-o", "lowerdir=l,upperdir=u,workdir=w,passthrough=off", "m"]).ok();
        let script = "cd m && exec 3>new && echo a >&3 && setcap cap_net_raw+ep new &&
            getcap new && echo b >&3 && getcap new; cat new";
        let done = c.sh(script);
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(done.ok().out, "new cap_net_raw=ep\na\nb\n");
    }
}

/// The kernel keeps attributes for good, and a change of a file makes the directories above it
/// merged ones, with one link each; an open for writing gives a file the ctime of its copy.
#[test]
fn attributes_that_change_by_a_copy_up_are_seen_at_once() {
    for_each_mounter("copied attributes", |c| {
        c.sh("mkdir -p l/d/e/sub l/d/more && echo f >l/d/e/f && echo g >l/d/e/g").ok();
        let m = c.mount();
        let links = "stat -c %h m/d m/d/e";
        assert_eq!(c.sh(links).ok().out, "4\n3\n");
        c.sh("chmod 600 m/d/e/f").ok();
        assert_eq!(c.sh(links).ok().out, "1\n1\n");
        let seen = c.sh("stat -c %.9Z m/d/e/g; exec 3<>m/d/e/g; stat -c %.9Z m/d/e/g u/d/e/g").ok();
        let ctimes: Vec<&str> = seen.out.lines().collect();
        assert_ne!(ctimes[0], ctimes[1]);
        assert_eq!(ctimes[1], ctimes[2]);
        m.unmount();
    });
}

/// What may be open counts the directories that are kept at hand, and what users have open. A
/// change that fails for want of descriptors has happened or has not, for everybody.
#[test]
fn few_descriptors_are_enough_and_none_left_leaves_whole_states() {
    for_each_mounter("few descriptors", |c| {
        c.sh("for i in $(seq 150); do mkdir -p l/d$i/e && echo $i >l/d$i/e/f; done").ok();
        c.sh("ulimit -n 96; exec $STRATAFS -o lowerdir=l,upperdir=u,workdir=w m").ok();
        c.sh("set -e; cat m/d*/e/f >all; for i in $(seq 150); do cd m/d$i/e; echo n >n; mv f g; cd ../../..; done; \
              cat m/d*/e/[gn] | wc -l | grep -qx 300")
        .ok();
        let script = r"
import os
def attempt(f, *a):
    try: return f(*a)
    except OSError as e: assert e.errno in (24, 2), (f, a, e)
held = []
while (fd := attempt(os.open, f'm/d{len(held) % 150 + 1}/e/g', os.O_RDONLY)) is not None:
    held.append(fd)
for keep in range(8):
    for i in range(1, 60, 2):
        d = f'm/d{i}/e/'
        attempt(os.mkdir, f'{d}dir{keep}', 0o700)
        attempt(os.mknod, f'{d}fifo{keep}', 0o010644)
        attempt(os.symlink, 'to', f'{d}sym{keep}')
        attempt(os.link, f'{d}n', f'{d}link{keep}')
        attempt(os.rename, f'{d}fifo{keep}', f'{d}moved{keep}')
        attempt(os.rename, f'{d}link{keep}', f'{d}sym{keep}')
        attempt(os.rename, f'{d}dir{keep}', f'm/d{i + 1}/e/x{i}{keep}')
        attempt(os.unlink, f'{d}moved{keep}')
        attempt(os.rmdir, f'm/d{i + 1}/e/x{i}{keep}')
    os.close(held.pop())
print('held')
";
        assert_eq!(c.sh(&format!("python3 -c \"{script}\"")).ok().out, "held\n");
        let tree = "cd m && find . -printf '%p %y %n\\n' | sort";
        let seen = c.sh(tree).ok().out;
        c.stratafs(&["umount", "m"]).ok();
        let m = c.mount();
        assert_eq!(c.sh(tree).ok().out, seen);
        m.unmount();
        assert_eq!(c.sh("find w -name 'stratafs-*'").out, "");
    });
}

/// `setattr_should_drop_sgid` in fs/attr.c: a setgid bit without execution by the group goes when
/// the file is changed by somebody who is not in that group, and else stays.
#[test]
fn a_setgid_bit_that_is_no_right_goes_with_a_change_by_strangers() {
    let Some(root) = mounters("setgid").into_iter().find(|u| u.uid == 0) else { return };
    let Ok(user) = ordinary() else { return skip("setgid", "no ordinary user") };
    let c = Case::new(root);
    c.sh(&format!(
        "for g in 0 {}; do for f in write trunc open alloc; do
            echo x >l/$f$g; chgrp $g l/$f$g; chmod 6666 l/$f$g; done; done",
        user.gid
    ))
    .ok();
    let other = Case::new(user);
    for options in ["", ",passthrough=off"] {
        c.sh("rm -rf u w; mkdir u w").ok();
        let all = format!("lowerdir=l,upperdir=u,workdir=w{options}");
        c.stratafs(&["-o", &all, "m"]).ok();
        for (gid, left) in [(0, "666"), (user.gid, "2666")] {
            let run = format!(
                "cd {} && echo y >>write{gid} && truncate -s 1 trunc{gid} && : >open{gid} && \
                 fallocate -l 9 alloc{gid}",
                c.path("m").display()
            );
            other.sh(&run).ok();
            let modes = format!("cd m && stat -c %a write{gid} trunc{gid} open{gid} alloc{gid}");
            assert_eq!(
                c.sh(&modes).ok().out,
                format!("{left}\n").repeat(4),
                "group {gid}{options}"
            );
        }
        c.stratafs(&["umount", "m"]).ok();
    }
}

/// Layers whose files are links of one another's, as podman's may be: also of a file that its
/// owner may not write any more, the count of links is the same after a remount.
#[test]
fn links_from_outside_of_a_layer_count_over_a_remount_whatever_the_mode() {
    for user in mounters("links from outside") {
        let c = Case::new(user);
        c.sh("for f in a b c; do echo $f >l/$f; chmod 644 l/$f; ln l/$f $f.outside; done").ok();
        let look = || c.sh("stat -c '%n %a %h' m/a m/b m/c").ok().out;
        let mounted = c.mount();
        c.sh("chmod 444 m/a && chmod 0 m/b && touch -d 2020-01-01 m/c").ok();
        let before = look();
        assert_eq!(before, "m/a 444 2\nm/b 0 2\nm/c 644 2\n", "uid {}", user.uid);
        mounted.unmount();
        let again = c.mount();
        assert_eq!(look(), before, "uid {}", user.uid);
        again.unmount();
    }
}
