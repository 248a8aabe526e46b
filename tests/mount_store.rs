//! Mounts of images and containers of the store with the real binary.

mod support;

use support::{Case, mounters};

/// An image `t` of two layers: `f`, `keep` and `d/low` below, `d/top` and a changed `f` above.
fn with_image(test: &str, check: impl Fn(&Case)) {
    for user in mounters(test) {
        let c = Case::new(user);
        c.sh("mkdir l/d l2 l2/d && echo low >l/f && echo x >l/keep && echo x >l/d/low
              echo top >l2/f && echo x >l2/d/top && chmod 600 l/keep")
            .ok();
        store(&c, &["import", "-q", "--lowerdir", "l2:l", "--name", "t"]).ok();
        check(&c);
    }
}

fn store(c: &Case, args: &[&str]) -> support::Said {
    let root = c.path("store");
    c.stratafs(&[&["--root", root.to_str().unwrap()], args].concat())
}

#[test]
fn an_image_is_mounted_read_only() {
    with_image("image", |c| {
        // rw is what mount(8) passes when nobody says anything
        store(c, &["mount", "-o", "rw", "t", "m"]).ok();
        let line = c.mount_line().unwrap();
        assert!(line.starts_with("image:t ") && line.contains(" ro,"), "{line}");
        assert_eq!(
            c.sh("cd m && find . | sort | xargs && cat f").ok().out,
            ". ./d ./d/low ./d/top ./f ./keep\ntop\n"
        );
        assert!(c.sh("echo x >m/f").err.contains("Read-only"));
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn a_container_keeps_its_changes_and_has_one_writer() {
    with_image("container", |c| {
        let id = store(c, &["create", "t", "--name", "box"]).ok().out;
        let short = id.get(..12).unwrap();
        store(c, &["mount", "box", "m"]).ok();
        assert!(c.mount_line().unwrap().starts_with(&format!("container:{short} ")));
        c.sh("rm m/keep && echo new >m/d/new && mv m/f m/g && mkdir m2").ok();
        let second = store(c, &["mount", short, "m2"]);
        assert_eq!(second.code, Some(1));
        assert!(second.err.contains("container box is mounted read-write already"), "{second:?}");
        c.stratafs(&["umount", "m"]).ok();

        store(c, &["mount", "-o", "ro", short, "m"]).ok();
        assert_eq!(c.sh("cat m/g m/d/new && ls m/d | xargs").ok().out, "top\nnew\nlow new top\n");
        assert!(c.sh("touch m/x").err.contains("Read-only"));
        assert_eq!(c.sh("test -e m/keep").code, Some(1));
        c.stratafs(&["umount", "m"]).ok();

        // a second container sees the image as it was
        store(c, &["mount", "--rw", "--name", "other", "t", "m"]).ok();
        assert_eq!(c.sh("cat m/f m/keep").ok().out, "top\nx\n");
        c.stratafs(&["umount", "m"]).ok();
    });
}

/// Of the mount that is there, rather than a second one upon it.
#[test]
fn the_mount_command_remounts() {
    with_image("remount", |c| {
        store(c, &["mount", "--rw", "--name", "box", "t", "m"]).ok();
        let mounts = "grep -c \" $PWD/m .*fuse.stratafs\" /proc/self/mounts";
        for target in [&["box"][..], &["t"], &[]] {
            let args = [&["mount", "-o", "remount,ro"][..], target, &["m"]].concat();
            let said = store(c, &args);
            // only root may; whoever asks, nothing is mounted upon it
            assert_eq!(said.code == Some(0), c.user.uid == 0, "{said:?}");
            assert_eq!(c.sh(mounts).ok().out, "1\n", "{args:?}");
        }
        assert_eq!(c.sh("touch m/new").code == Some(0), c.user.uid != 0);
        let said = store(c, &["mount", "--rw", "-o", "remount,ro", "t", "m"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        c.stratafs(&["umount", "m"]).ok();
        let said = store(c, &["mount", "-o", "remount,ro", "t", "m"]);
        assert!(said.err.contains("no stratafs is mounted there"), "{said:?}");
    });
}

#[test]
fn what_does_not_exist_is_named() {
    with_image("missing image", |c| {
        for (args, code, message) in [
            (&["mount", "nope", "m"][..], 1, "no image and no container is called nope"),
            (&["mount", "--rw", "nope", "m"][..], 1, "no image is called nope"),
            (&["mount", "t", "nope"][..], 1, "mount point nope"),
            (&["mount", "-o", "bogus", "t", "m"][..], 2, "unknown mount option 'bogus'"),
            (&["create", "nope"][..], 1, "no image is called nope"),
        ] {
            let said = store(c, args);
            assert_eq!(said.code, Some(code), "{args:?} {said:?}");
            assert!(said.err.contains(message), "{args:?} {said:?}");
        }
    });
}

/// Counts the requests of a read-only mount while `$PASS` runs so many times in it.
fn requests(c: &Case, passes: u32) -> Vec<String> {
    let root = c.path("store");
    let script = format!(
        "$STRATAFS --root {} mount -f t m 2>log & P=$!
         until grep -q \"$PWD/m fuse\" /proc/mounts; do
             kill -0 $P || exit 9; sleep 0.01; done
         i=0; while [ $i -lt {passes} ]; do i=$((i+1))
             ls -lR m >/dev/null; cat m/f m/keep m/d/low >/dev/null
             stat m/none m/d/none >/dev/null 2>&1; [ -e m/none ] || :
         done
         $STRATAFS umount m; wait $P; grep -o '\\] [0-9]* [a-z]*$' log",
        root.display()
    );
    let mut shell = c.command("sh");
    shell.args(["-c", &script]).env("RUST_LOG", "stratafs::fuse=debug");
    support::Said::from(shell.output().unwrap()).ok().out.lines().map(str::to_owned).collect()
}

#[test]
fn what_was_asked_once_is_not_asked_again() {
    with_image("request counts", |c| {
        let (once, thrice) = (requests(c, 1), requests(c, 3));
        let of = |list: &[String], op: &str| {
            let line = list.iter().find(|l| l.ends_with(&format!(" {op}")));
            line.map_or(0, |l| l.split(' ').nth(1).unwrap().parse::<u32>().unwrap())
        };
        // one ENOSYS each, for all files
        for op in ["open", "opendir", "flush"] {
            assert!(of(&once, op) <= 1, "{once:?}");
        }
        assert_eq!(of(&once, "read"), 3, "{once:?}");
        assert_eq!(of(&once, "release"), 0, "{once:?}");
        let asked = ["lookup", "read", "readdir", "readdirplus", "open", "opendir", "getxattr"];
        // in a private mount access(2) and chdir(2) are always asked, and root's view is enforced
        for op in asked {
            assert_eq!(of(&once, op), of(&thrice, op), "{op}: {once:?} {thrice:?}");
        }
    });
}

/// Runs a script in the test's directory with `$TOP` and `$LOW`, the entries of both layers in
/// layerdb, and `cache ENTRY`, which names a layer's directory.
fn in_store(c: &Case, script: &str) {
    let head = "D=store/image/overlay2/layerdb/sha256; for e in $D/*; do
                    if [ -e $e/parent ]; then TOP=$e; else LOW=$e; fi; done
                cache() { echo store/overlay2/$(cat $1/cache-id); }";
    c.sh(&format!("set -e; {head}; {script}")).ok();
}

#[test]
fn a_mount_needs_only_the_uppermost_layer_and_the_stack_file() {
    with_image("stack file", |c| {
        in_store(c, "for f in diff size stratafs.index; do echo bad >$LOW/$f; done");
        for args in [&["mount", "t", "m"][..], &["mount", "--rw", "t", "m"]] {
            store(c, args).ok();
            assert_eq!(c.sh("cat m/f m/keep m/d/low && ls m/d").ok().out, "top\nx\nx\nlow\ntop\n");
            c.stratafs(&["umount", "m"]).ok();
        }
        in_store(c, "rm $TOP/stratafs.stack");
        assert!(store(c, &["mount", "t", "m"]).err.contains("is damaged"));
    });
}

#[test]
fn an_image_with_a_layer_missing_is_refused_at_the_mount() {
    with_image("broken store", |c| {
        for (hide, shown, message) in [
            ("mv $LOW away", "mv away $LOW", "is not in the store"),
            ("mv $TOP away", "mv away $TOP", "is not in the store"),
            ("mv $(cache $LOW) away", "mv away $(cache $LOW)", "cannot open"),
            ("mv $(cache $TOP)/diff away", "mv away $(cache $TOP)/diff", "cannot open"),
        ] {
            // the entry that is away cannot be found by its name
            let names = "N=$(cat names 2>/dev/null || :); [ \"$N\" ] || { echo \"TOP=$TOP LOW=$LOW\" >names; }; . ./names";
            in_store(c, &format!("{names}; {hide}"));
            let said = store(c, &["mount", "t", "m"]);
            assert_eq!(said.code, Some(1), "{hide}");
            assert!(said.err.contains(message), "{hide} {said:?}");
            in_store(c, &format!("{names}; {shown}"));
            store(c, &["mount", "t", "m"]).ok();
            assert_eq!(c.sh("cat m/f m/keep").ok().out, "top\nx\n");
            c.stratafs(&["umount", "m"]).ok();
        }
    });
}

/// The directory of a lower layer is opened when a file of it is first read: one that is another
/// layer's by then is not shown as this one's.
#[test]
fn files_of_a_layer_that_was_replaced_meanwhile_are_not_shown() {
    with_image("replaced layer", |c| {
        store(c, &["mount", "t", "m"]).ok();
        in_store(
            c,
            "OTHER=$(echo $(cat $LOW/cache-id) | tr 0-9a-f f0-9a-e)
             mkdir -p store/overlay2/$OTHER/diff && echo other >store/overlay2/$OTHER/diff/keep
             printf $OTHER >new && mv new $LOW/cache-id",
        );
        assert_eq!(c.sh("cat m/f").ok().out, "top\n");
        assert!(c.sh("cat m/keep").err.contains("Stale file handle"));
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn a_container_copies_the_directories_that_its_image_shows() {
    for user in mounters("init layer") {
        let c = Case::new(user);
        c.sh("mkdir -p l/etc l/dev/shm l/sys l2 l3/dev && chmod 700 l/etc && chmod 711 l3/dev
              echo file >l2/sys")
            .ok();
        store(&c, &["import", "-q", "--lowerdir", "l3:l2:l", "--name", "t"]).ok();
        let id = store(&c, &["create", "t"]).ok().out;
        let shown = c.sh(&format!(
            "cd store/overlay2/$(cat store/image/overlay2/layerdb/mounts/{}/init-id)/diff
             find . -type d | sort | xargs stat -c '%n %a'",
            id.trim()
        ));
        // of the image: etc and dev with their modes, dev/shm; of its own: the others
        assert_eq!(
            shown.ok().out,
            ". 755\n./dev 711\n./dev/pts 755\n./etc 700\n./proc 755\n./sys 755\n"
        );
    }
}

/// Not taken for an image without such directories: the container would have an `/etc` and a `/dev`
/// of its own, with other owners and modes.
#[test]
fn a_container_is_not_made_of_layers_that_cannot_be_read() {
    for user in mounters("unreadable layer") {
        let c = Case::new(user);
        c.sh("mkdir -p l/etc l/dev l2 && chmod 700 l/etc && echo x >l2/f").ok();
        store(&c, &["import", "-q", "--lowerdir", "l2:l", "--name", "t"]).ok();
        in_store(&c, "mv $(cache $LOW)/diff away");
        let containers = "ls store/image/overlay2/layerdb/mounts store/overlay2 | sort";
        let before = c.sh(containers).out;
        let said = store(&c, &["create", "t"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        in_store(&c, "basename $(cache $LOW) >id");
        let id = c.sh("cat id").ok().out;
        assert!(said.err.contains(&format!("overlay2/{}/diff", id.trim())), "{said:?}");
        assert_eq!(c.sh(containers).out, before, "nothing is left");
        in_store(&c, "mv away $(cache $LOW)/diff");
        store(&c, &["create", "t"]).ok();
    }
}
