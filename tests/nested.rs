//! Views on other file systems, over and under other overlays, and on places inside themselves.

#![allow(missing_docs)]

mod support;

use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use support::{Case, Said, User, can_mount, is_root, mounters, myself, skip};

/// A case whose mounts all go, also after a panic. Every command has a time limit.
struct Nest {
    case: Case,
}

impl Drop for Nest {
    fn drop(&mut self) {
        let inside = format!(" {}/", self.case.path("").display());
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points =
            table.lines().filter(|l| l.contains(&inside)).filter_map(|l| l.split(' ').nth(1));
        let points: Vec<&str> = points.collect();
        for point in points.into_iter().rev() {
            let gone = std::process::Command::new("umount").args(["-l", point]).status();
            if !gone.is_ok_and(|s| s.success()) {
                drop(std::process::Command::new("fusermount3").args(["-uz", point]).status());
            }
        }
    }
}

impl Nest {
    fn new(user: User) -> Nest {
        Nest { case: Case::new(user) }
    }

    /// Runs a script that must not take long; `sf OPTIONS DIR` mounts, `um DIR` unmounts.
    fn sh(&self, script: &str) -> Said {
        let head = "sf() { timeout 20 \"$STRATAFS\" -o \"$@\"; }
            um() { timeout 40 \"$STRATAFS\" umount \"$1\" || { ! mountpoint -q \"$1\" && sleep 10; }; }\n";
        let script = format!("{head}{script}");
        let mut c = self.case.command("timeout");
        // into files: whoever hangs holds no pipe that this test would wait for
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        c.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let code = c.args(["-k", "5", "60", "sh", "-c", &script]).status().unwrap().code();
        let text = |mut f: std::fs::File| {
            let mut text = Vec::new();
            f.rewind().and_then(|()| f.read_to_end(&mut text)).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        if matches!(code, Some(124 | 137) | None) {
            self.kill_daemons();
        }
        Said { code, out: text(out), err: text(err) }
    }

    /// Ends the processes that work on the case's directories: their users would wait for ever.
    fn kill_daemons(&self) {
        let here = self.case.path("");
        for p in std::fs::read_dir("/proc").unwrap().flatten() {
            let fds = std::fs::read_dir(p.path().join("fd")).into_iter().flatten().flatten();
            let ours = |fd: std::fs::DirEntry| {
                std::fs::read_link(fd.path()).is_ok_and(|t| t.starts_with(&here))
            };
            let name = std::fs::read_to_string(p.path().join("comm")).unwrap_or_default();
            if name.starts_with("stratafs") && fds.into_iter().any(ours) {
                let pid = p.file_name().into_string().unwrap_or_default();
                drop(std::process::Command::new("kill").args(["-9", &pid]).status());
            }
        }
    }

    #[track_caller]
    fn ok(&self, script: &str) -> String {
        let said = self.sh(script);
        assert_eq!(said.code, Some(0), "{script}\n{said:?}");
        said.out
    }

    /// Attributes, times and content of everything below `dir`.
    #[track_caller]
    fn print_of(&self, dir: &str) -> String {
        self.ok(&format!(
            "cd {dir} && find . -printf '%p %y %m %U %G %n %s %T@ %C@ %i %l\\n' | sort
             find . -type f -exec md5sum {{}} + | sort
             getfattr -R -h -d -m- . 2>/dev/null || true"
        ))
    }
}

/// A case for root, or a reason said why there is none.
fn as_root(test: &str) -> Option<Nest> {
    if !is_root() {
        skip(test, "needs root");
        return None;
    }
    match can_mount(myself()) {
        Ok(()) => Some(Nest::new(myself())),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

fn for_each_mounter(test: &str, f: impl Fn(&Nest)) {
    for user in mounters(test) {
        f(&Nest::new(user));
    }
}

fn has(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|d| PathBuf::from(d).join(program).exists())
}

const TREE: &str = "mkdir -p l/d/e l/gone && echo low >l/f && echo x >l/d/x && echo y >l/d/e/y
    echo z >l/gone/z && ln l/f l/hard && ln -s f l/s && chmod 750 l/d
    setfattr -n user.a -v 1 l/f || true\n";

/// What [`CHANGES`] make of [`TREE`].
const CHANGED: &str = ". d d/e d/e/y d/n f gone gone/new hard moved s ";
const CHANGES: &str =
    "cd m && echo more >>f && mv d/x moved && echo n >d/n && rm -r gone && mkdir gone
    echo new >gone/new && chmod 700 d/e && cd ..\n";
const LIST: &str = "(cd m && find . | sed 's:^./::' | LC_ALL=C sort | tr '\\n' ' ')\n";

/// Changes a view and looks again after a remount.
#[track_caller]
fn change_and_remount(n: &Nest, options: &str) {
    n.ok(&format!("sf {options} m\n{CHANGES}"));
    for _ in 0..2 {
        assert_eq!(n.ok(LIST), CHANGED, "{options}");
        assert_eq!(
            n.ok("cat m/f m/hard m/moved m/gone/new m/d/e/y"),
            "low\nmore\nlow\nmore\nx\nnew\ny\n"
        );
        assert_eq!(n.ok("stat -c %a m/d/e m/d"), "700\n750\n");
        n.ok(&format!("um m && sf {options} m"));
    }
    n.ok("um m");
}

#[test]
fn the_kernels_overlayfs_takes_a_view_as_a_lower() {
    let Some(n) = as_root("a view below the kernel's overlayfs") else { return };
    n.ok(TREE);
    n.ok("mkdir u2 k ku kw && sf lowerdir=l,upperdir=u,workdir=w m && rm m/d/x && echo up >m/up");
    for more in ["", ",redirect_dir=on", ",index=on", ",metacopy=on", ",xino=on"] {
        n.ok(&format!(
            "rm -rf ku kw; mkdir ku kw
            mount -t overlay o -o lowerdir=$PWD/m,upperdir=ku,workdir=kw{more} k"
        ));
        assert_eq!(n.ok("cat k/f k/up; ls -A k/d"), "low\nup\ne\n", "{more}");
        n.ok("echo a >>k/f; rm k/up; rm -r k/gone; mkdir k/gone; mv k/d/e/y k/y; cat k/hard >/dev/null");
        n.ok("umount k");
        n.ok(&format!("mount -t overlay o -o lowerdir=$PWD/m,upperdir=ku,workdir=kw{more} k"));
        assert_eq!(n.ok("cat k/f k/y; ls -A k/gone; test ! -e k/up"), "low\na\ny\n", "{more}");
        n.ok("umount k");
    }
    assert_eq!(n.ok("cat m/f m/up"), "low\nup\n");
    n.ok("um m");
}

#[test]
fn a_view_is_no_upper_of_the_kernels_overlayfs_just_as_another_overlayfs() {
    let Some(n) = as_root("a view as upper of the kernel's overlayfs") else { return };
    n.ok("mkdir k kl && echo low >kl/f");
    let upper_of_kernel = "mkdir -p m/U m/W
        mount -t overlay o -o lowerdir=kl,upperdir=$PWD/m/U,workdir=$PWD/m/W k && umount k; echo $?";
    n.ok("mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m");
    let control = n.ok(upper_of_kernel);
    n.ok("umount m && rm -rf u w && mkdir u w && sf lowerdir=l,upperdir=u,workdir=w m");
    assert_eq!(n.ok(upper_of_kernel), control);
    assert_ne!(control, "0\n");
    // for the reason that the kernel has: neither lets whiteouts be made in it
    let said = n.sh("mknod m/c c 0 0");
    assert!(said.err.contains("not permitted"), "{said:?}");
    n.ok("um m");
}

#[test]
fn views_stand_on_views_three_levels_deep() {
    for_each_mounter("three levels", |n| {
        n.ok(TREE);
        n.ok("mkdir base bu bw b2 b2u b2w && sf lowerdir=base,upperdir=bu,workdir=bw b2 && mkdir b2/u b2/w");
        // lower: a view with changes; upper: inside another view
        n.ok("mkdir m1 u1 w1 && sf lowerdir=l,upperdir=u1,workdir=w1 m1 && echo top >m1/top && rm m1/s && ln -s f m1/s");
        n.ok("sf lowerdir=m1,upperdir=b2/u,workdir=b2/w m");
        n.ok(CHANGES);
        let want = ". d d/e d/e/y d/n f gone gone/new hard moved s top ";
        for _ in 0..2 {
            assert_eq!(n.ok(LIST), want);
            assert_eq!(n.ok("cat m/f m/hard m/moved m/top"), "low\nmore\nlow\nmore\nx\ntop\n");
            n.ok("um m && um b2 && sf lowerdir=base,upperdir=bu,workdir=bw b2
                sf lowerdir=m1,upperdir=b2/u,workdir=b2/w m");
        }
        n.ok("mkdir m3 b2/u3 b2/w3 && sf lowerdir=m,upperdir=b2/u3,workdir=b2/w3 m3
            rm m3/d/n && mv m3/gone m3/back && rm m3/top && rm -r m3/back && mkdir m3/back
            test ! -e m3/d/n && test -e m/d/n && test -e m/top
            um m3 && sf lowerdir=m,upperdir=b2/u3,workdir=b2/w3 m3
            test ! -e m3/d/n && test ! -e m3/top && test ! -e m3/gone && test -z \"$(ls -A m3/back)\"
            um m3 && um m && um m1 && um b2");
    });
}

#[test]
fn marks_of_an_inner_view_are_kept_escaped() {
    let Some(n) = as_root("escaped marks") else { return };
    for (dialect, options) in [("trusted", ""), ("user", ",userxattr")] {
        n.ok("rm -rf l u w l2; mkdir -p l u w l2/d m2; echo x >l2/f; echo y >l2/d/y");
        n.ok(&format!(
            "sf lowerdir=l,upperdir=u,workdir=w{options} m && mkdir m/u m/w
            sf lowerdir=l2,upperdir=m/u,workdir=m/w{options} m2
            rm m2/f && rm -r m2/d && mkdir m2/d && um m2"
        ));
        let marks =
            |dir: &str| n.ok(&format!("getfattr -d -m- --absolute-names {dir} {dir}/f {dir}/d"));
        let (outer, disk) = (marks("m/u"), marks("u/u"));
        let mark = format!("{dialect}.overlay.whiteout=\"y\"");
        assert!(outer.contains(&mark), "{outer}");
        assert!(disk.contains(&format!("{dialect}.overlay.overlay.whiteout=\"y\"")), "{disk}");
        assert!(disk.contains(&format!("{dialect}.overlay.overlay.opaque=\"x\"")), "{disk}");
        // the kernel reads them in the view, and through its own overlay of our upper
        n.ok("mkdir -p k k2");
        n.ok(&format!(
            "mount -t overlay o -o lowerdir=$PWD/m/u:l2{options} k
            test ! -e k/f && test -z \"$(ls -A k/d)\" && umount k && um m"
        ));
        n.ok(&format!(
            "mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w{options} k2
            mount -t overlay o -o lowerdir=$PWD/k2/u:l2{options} k
            test ! -e k/f && test -z \"$(ls -A k/d)\" && umount k && umount k2"
        ));
    }
}

#[test]
fn a_whiteout_of_the_inner_layer_is_not_seen_from_outside() {
    let Some(n) = as_root("whiteouts through levels") else { return };
    n.ok("mkdir k l2 && echo under >l2/f && echo keep >l2/g && echo low >l/f
        sf lowerdir=l,upperdir=u,workdir=w m && rm m/f && test -c u/f");
    // for the outer one there is nothing, and so its own lower shows
    for mount in ["sf lowerdir=m:l2 k", "mount -t overlay o -o lowerdir=$PWD/m:l2 k"] {
        n.ok(mount);
        assert_eq!(n.ok("cat k/f k/g"), "under\nkeep\n", "{mount}");
        n.ok("umount k");
    }
    n.ok("um m");
}

/// Makes an image of a file system and mounts it at `DIR`; `None`: skipped.
fn image(n: &Nest, kind: &str, dir: &str) -> Option<()> {
    let (tool, make) = match kind {
        "xfs" => ("mkfs.xfs", "truncate -s 320M i.xfs && mkfs.xfs -q i.xfs"),
        "btrfs" => ("mkfs.btrfs", "truncate -s 160M i.btrfs && mkfs.btrfs -q i.btrfs"),
        "ext4" => ("mkfs.ext4", "truncate -s 32M i.ext4 && mkfs.ext4 -q i.ext4"),
        "squashfs" => {
            ("mksquashfs", "mksquashfs l i.squashfs -quiet -no-progress -xattrs >/dev/null")
        }
        "erofs" => ("mkfs.erofs", "mkfs.erofs --quiet i.erofs l >/dev/null 2>&1"),
        _ => ("mount", "true"),
    };
    if !has(tool) {
        skip(kind, &format!("{tool} is not installed"));
        return None;
    }
    let mount = match kind {
        "tmpfs" | "ramfs" => format!("mount -t {kind} none {dir}"),
        _ => format!("mount -o loop i.{kind} {dir}"),
    };
    let said = n.sh(&format!("mkdir -p {dir} && {make} && {mount}"));
    if said.code == Some(0) {
        return Some(());
    }
    skip(kind, &format!("cannot be mounted here: {}", said.err.trim()));
    None
}

#[test]
fn lowers_lie_on_any_file_system() {
    if as_root("lowers on other file systems").is_none() {
        return;
    }
    for kind in ["squashfs", "erofs", "xfs", "btrfs", "tmpfs", "ext4"] {
        for user in mounters("lowers on other file systems") {
            let root = Nest::new(myself());
            root.ok(TREE);
            root.ok(&format!("chown -hR {} l", user.uid));
            if image(&root, kind, "img").is_none() {
                continue;
            }
            root.sh("test -e img/f || cp -a l/. img/; rmdir img/lost+found 2>/dev/null");
            let n = Nest::new(user);
            let img = root.case.path("img");
            let before = root.print_of("img");
            change_and_remount(&n, &format!("lowerdir={},upperdir=u,workdir=w", img.display()));
            assert_eq!(root.print_of("img"), before, "{kind}");
            root.ok("umount img");
        }
    }
}

#[test]
fn a_lower_may_be_another_fuse_file_system() {
    let Some(n) = as_root("a lower on fuse-overlayfs") else { return };
    if !has("fuse-overlayfs") {
        return skip("a lower on fuse-overlayfs", "fuse-overlayfs is not installed");
    }
    n.ok(TREE);
    n.ok("mkdir fu fw fm && timeout 10 fuse-overlayfs -o lowerdir=l,upperdir=fu,workdir=fw fm 2>/dev/null");
    change_and_remount(&n, "lowerdir=fm,upperdir=u,workdir=w");
    n.ok("umount fm");
}

#[test]
fn uppers_lie_on_any_file_system_that_holds_what_they_need() {
    let Some(n) = as_root("uppers on other file systems") else { return };
    for kind in ["xfs", "btrfs", "tmpfs", "ext4"] {
        n.ok("rm -rf l && mkdir l");
        n.ok(TREE);
        if image(&n, kind, "img").is_none() {
            continue;
        }
        n.ok("mkdir img/u img/w");
        let before = n.print_of("l");
        change_and_remount(&n, "lowerdir=l,upperdir=img/u,workdir=img/w");
        assert_eq!(n.print_of("l"), before, "{kind}");
        n.ok("umount img");
    }
}

#[test]
fn copy_up_shares_blocks_where_the_file_system_can() {
    let Some(n) = as_root("copy-up by FICLONE") else { return };
    for kind in ["xfs", "btrfs"] {
        if image(&n, kind, "img").is_none() {
            continue;
        }
        n.ok("mkdir img/l img/u img/w && head -c 50M /dev/urandom >img/l/big && sync -f img
            sf lowerdir=img/l,upperdir=img/u,workdir=img/w m");
        let used = || {
            n.ok("sync -f img; df --output=used -k img | tail -1").trim().parse::<u64>().unwrap()
        };
        let before = used();
        n.ok(
            "printf x | dd of=m/big bs=1 seek=4096 conv=notrunc 2>/dev/null && cmp img/u/big m/big
            test $(cmp -l img/l/big img/u/big | wc -l) -le 1",
        );
        assert!(used() < before + 20 * 1024, "{kind}: {before} KiB before, {} after", used());
        n.ok("um m && umount img");
    }
}

#[test]
fn an_upper_that_cannot_hold_marks_is_refused_with_the_reason() {
    let Some(n) = as_root("an upper without xattrs") else { return };
    if image(&n, "ramfs", "img").is_none() {
        return;
    }
    n.ok("mkdir img/u img/w");
    let said = n.sh("sf lowerdir=l,upperdir=img/u,workdir=img/w m");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("extended attributes") && said.err.contains("use one that"),
        "{said:?}"
    );
    n.ok("test -z \"$(ls -A img/u img/w/work | grep -v :)\"");
    // read-only it is a layer like any other
    n.ok("echo x >img/u/f && sf ro,lowerdir=img/u m && cat m/f && um m");
}

#[test]
fn upper_and_work_in_two_mounts_are_refused() {
    let Some(n) = as_root("upper and work in two mounts") else { return };
    n.ok("mkdir bu bw && mount --bind u bu && mount --bind w bw");
    let said = n.sh("sf lowerdir=l,upperdir=bu,workdir=bw m");
    assert!(said.err.contains("same mount"), "{said:?}");
}

#[test]
fn numbers_of_several_devices_do_not_meet_and_stay() {
    let Some(n) = as_root("several devices") else { return };
    n.ok("mkdir a b c && mount -t tmpfs none a && mount -t tmpfs none b && mount -t tmpfs none c
        for d in a b c l; do for i in $(seq 50); do echo $i >$d/$d$i; done; done");
    let options = "lowerdir=a:b:c:l,upperdir=u,workdir=w";
    n.ok(&format!("sf {options} m"));
    let numbers = "find m -mindepth 1 -printf '%i %f\\n' | sort -k2";
    let first = n.ok(numbers);
    let distinct: std::collections::HashSet<_> =
        first.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(distinct.len(), 200);
    assert_eq!(n.ok("ls -i -U m | awk '{print $1, $2}' | sort -k2"), first, "d_ino is st_ino");
    n.ok("for f in m/a1 m/b2 m/c3 m/l4; do echo x >>$f; done");
    assert_eq!(n.ok(numbers), first, "after copy-up");
    n.ok(&format!("um m && sf {options} m"));
    assert_eq!(n.ok(numbers), first, "after a remount");
    assert_eq!(n.ok("find m -printf '%D\\n' | sort -u | wc -l"), "1\n");
    n.ok("um m");
}

#[test]
fn mounts_inside_a_lower_are_not_seen() {
    for_each_mounter("a mount inside its own lower", |n| {
        let root = n.case.user.uid == 0;
        n.ok("mkdir k");
        for more in ["", ":k", ",threads=1"] {
            for target in ["l/mnt", "l", "l/mnt/in"] {
                n.ok("rm -rf l u w; mkdir -p u w l/mnt/in l/d; echo 1 >l/f; echo 2 >l/d/g; echo 3 >l/mnt/in/h");
                n.ok(&format!("sf upperdir=u,workdir=w,lowerdir=l{more} {target}"));
                // what the mount covers: seen by who can copy the lower's mount, else it looks empty
                let covered = n.ok(&format!("timeout 10 find {target}/mnt | wc -l"));
                let all = root || target == "l";
                let want = if all {
                    3
                } else if target == "l/mnt" {
                    1
                } else {
                    2
                };
                assert_eq!(covered.trim(), want.to_string(), "{target}");
                n.ok(&format!("echo z >{target}/mnt/z && echo more >>{target}/d/g && timeout 10 ls -lR {target}"));
                n.ok(&format!(
                    "timeout 10 stat {target}/mnt/in; timeout 10 ls -la {target}/mnt/in; true"
                ));
                n.ok(&format!(
                    "um {target} && test \"$(cat u/mnt/z)\" = z && test \"$(cat l/d/g)\" = 2"
                ));
            }
        }
    });
}

#[test]
fn a_mount_inside_the_upper_hangs_nobody() {
    for_each_mounter("a mount inside its own upper", |n| {
        n.ok("mkdir -p u/mnt/in l/d && echo low >l/f && sf lowerdir=l,upperdir=u,workdir=w,threads=1 u/mnt");
        let said = n.sh("timeout 10 ls u/mnt/mnt");
        if n.case.user.uid == 0 {
            assert_eq!(said.ok().out, "in\n");
        } else {
            assert!(said.err.contains("cross-device"), "{said:?}");
        }
        n.ok(
            "echo more >>u/mnt/f && echo n >u/mnt/n && timeout 10 ls u/mnt && um u/mnt && cat u/n",
        );
    });
}

#[test]
fn a_view_of_the_root_directory_works() {
    for_each_mounter("lowerdir=/", |n| {
        n.ok(
            "sf lowerdir=/,upperdir=u,workdir=w m && timeout 10 ls m m/proc m/sys m/dev >/dev/null",
        );
        n.ok("timeout 10 ls -la m/$PWD m/$PWD/m && echo x >m/$PWD/l/new && test -e u/$PWD/l/new && test ! -e l/new");
        // as the kernel says it
        let said = n.sh("ls m/$PWD/u");
        assert!(said.err.contains("Too many levels"), "{said:?}");
        n.ok("um m");
    });
}

#[test]
fn layers_that_overlap_are_treated_as_the_kernel_does_where_a_lower_would_be_written() {
    for_each_mounter("overlapping layers", |n| {
        n.ok("mkdir -p l/b/c l/u l/w && echo 1 >l/f");
        for bad in [
            "lowerdir=l,upperdir=l,workdir=w",
            "lowerdir=l/b,upperdir=l,workdir=w",
            "lowerdir=u:l/b/c,upperdir=l/b,workdir=w",
            "lowerdir=w,upperdir=u,workdir=w",
        ] {
            let said = n.sh(&format!("sf {bad} m"));
            assert_eq!(said.code, Some(1), "{bad} {said:?}");
            assert!(said.err.contains("would write to"), "{said:?}");
        }
        for bad in ["lowerdir=l,upperdir=u,workdir=u", "lowerdir=l,upperdir=l/u,workdir=l/u/w"] {
            n.ok("mkdir -p l/u/w");
            let said = n.sh(&format!("sf {bad} m"));
            assert!(said.err.contains("must not contain each other"), "{said:?}");
        }
        // an upper inside a lower: its place in the view is closed
        n.ok("rm -rf l/u/w && sf lowerdir=l,upperdir=l/u,workdir=l/w m && echo n >m/b/n && ls m >/dev/null");
        for place in ["m/u", "m/w/work"] {
            let said = n.sh(&format!("timeout 10 ls {place}"));
            assert!(said.err.contains("Too many levels"), "{said:?}");
        }
        n.ok("timeout 10 find m >/dev/null 2>&1; um m && test -e l/u/b/n && test ! -e l/b/n");
        // the kernel refuses these; nothing is written there, and fuse-overlayfs takes them
        for fine in ["lowerdir=l:l", "lowerdir=l/b:l", "lowerdir=l:l/b"] {
            n.ok(&format!("sf {fine} m && timeout 10 find m >/dev/null && um m"));
        }
    });
}

#[test]
fn nothing_can_be_written_through_the_handles_of_a_lower() {
    for_each_mounter("handles of a lower", |n| {
        n.ok(TREE);
        n.ok("find l -exec touch -h -d '2020-01-01' {} + ");
        let before = n.print_of("l");
        n.ok("sf lowerdir=l,upperdir=u,workdir=w m");
        // held open and mapped in every mode while all is done to them
        let script = r#"
import mmap, os
p = 'm/'
names = ['f', 'd/x', 'd/e/y', 'gone/z']
held = []
for n in names:
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_NOATIME, os.O_RDONLY | os.O_DIRECT, os.O_PATH):
        try: held.append((n, os.open(p + n, flags)))
        except OSError as e: assert flags & (os.O_DIRECT | os.O_NOATIME), e
    fd = os.open(p + n, os.O_RDONLY)
    held.append((n, fd))
    maps = [mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ), mmap.mmap(fd, 0, mmap.MAP_PRIVATE)]
    maps[1][0:1] = b'P'
    held.append((n, maps))
for n in names:
    os.chmod(p + n, 0o600)
    os.utime(p + n, (1, 2))
    try: os.setxattr(p + n, 'user.q', b'1')
    except OSError: pass
    w = os.open(p + n, os.O_RDWR)
    m = mmap.mmap(w, 0, mmap.MAP_SHARED)
    m[0:1] = b'M'
    m.flush()
    os.write(w, b'written')
    os.truncate(p + n, 3)
    os.close(os.open(p + n, os.O_RDONLY | os.O_TRUNC))
    os.write(w, b'again')
    os.link(p + n, p + n + '.link')
    os.rename(p + n, p + n + '.moved')
    for other, h in held:
        if other == n and isinstance(h, int):
            try: os.pread(h, 10, 0)
            except OSError: pass
            try: os.fchmod(h, 0o640)
            except OSError: pass
            try: os.ftruncate(h, 0)
            except OSError: pass
try: os.rename(p + 'd', p + 'dd')
except OSError as e: assert e.errno == 18, e
"#;
        std::fs::write(n.case.path("hold.py"), script).unwrap();
        n.ok(
            "timeout 30 python3 hold.py && cat m/f.moved >/dev/null && ls -R m >/dev/null && um m",
        );
        n.ok("rm hold.py");
        let after = n.print_of("l");
        assert_eq!(after, before);
    });
}

#[test]
fn reading_leaves_the_access_times_of_lowers() {
    let Some(n) = as_root("access times of lowers") else { return };
    n.ok(TREE);
    n.ok("mkdir a && mount -t tmpfs -o strictatime none a && cp -a l/. a/ && find a -exec touch -h -d 2020-01-01 {} +");
    // `stat` reads no content and no listing
    let times = "for f in a a/f a/d a/d/x a/d/e a/s; do stat -c '%n %x' $f; done";
    let before = n.ok(times);
    n.ok("sf lowerdir=a,upperdir=u,workdir=w m && cat m/f m/d/x m/s >/dev/null && ls -lR m >/dev/null
        readlink m/s && cat m/f && echo more >>m/d/e/y && um m");
    assert_eq!(n.ok(times), before);
}
