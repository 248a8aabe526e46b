//! The index cache, through real mounts: the second mount of a directory asks a snapshot, and shows
//! what the directory holds all the same.

#![allow(missing_docs, reason = "nobody links with a test")]

mod support;

use support::{Case, eventually, mounters};

const READ_WRITE: &str = "lowerdir=t:l,upperdir=u,workdir=w";
const READ_ONLY: &str = "lowerdir=t:l";

/// A tree with something of everything, in two layers.
const TREE: &str = "mkdir -p t/d l/d/deep l/gone && echo top >t/d/t && echo low >l/d/f &&
    echo g >l/d/deep/g && ln -s d/f l/link && ln l/d/f l/hard && mkfifo l/fifo &&
    echo x >l/gone/x && chmod 2750 l/d/deep && setfattr -n user.a -v b l/d/f &&
    touch -d 2001-02-03 l/d/f";

/// Shows all that can be seen of a mount, but the times at which it was looked at.
const LOOK: &str = "cd m && find . -printf '%p %y %m %n %u %g %s %T@ %C@ %i %l\\n' | sort &&
    cat d/f d/t d/deep/g hard && getfattr -dR -m- . 2>/dev/null; cd ..";

fn known(c: &Case) -> u64 {
    let said = c.stratafs(&["stats", "--json", "m"]).ok();
    let stats: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    stats["known_lowers"].as_u64().unwrap()
}

fn mount(c: &Case, layers: &str, how: &str) {
    c.stratafs(&["-o", &format!("{layers},{how}"), "m"]).ok();
}

fn umount(c: &Case) {
    c.stratafs(&["umount", "m"]).ok();
}

/// Mounts until the cache has all, and leaves nothing mounted.
fn fill(c: &Case, layers: &str, how: &str) {
    c.sh("sleep 0.03").ok();
    mount(c, layers, how);
    eventually("all snapshots are taken", || known(c) == 2);
    umount(c);
}

fn mount_known(c: &Case, layers: &str, how: &str) {
    mount(c, layers, how);
    eventually("the snapshots are believed", || known(c) == 2);
}

fn cases(test: &str, f: impl Fn(&Case, &str)) {
    for user in mounters(test) {
        for layers in [READ_WRITE, READ_ONLY] {
            let c = Case::new(user);
            c.sh(TREE).ok();
            f(&c, layers);
        }
    }
}

#[test]
fn a_known_directory_shows_what_it_holds() {
    cases("known lowers", |c, layers| {
        mount(c, layers, "lower_changes=ignore");
        let wanted = c.sh(LOOK).ok().out;
        assert!(wanted.contains("user.a=\"b\"") && wanted.contains("./link l"), "{wanted}");
        umount(c);
        for how in ["index_cache", "index_cache=immutable"] {
            fill(c, layers, how);
            mount_known(c, layers, how);
            assert_eq!(c.sh(LOOK).ok().out, wanted, "{how}");
            umount(c);
        }
        // and what was seen before the snapshot was believed fits what is seen after
        mount(c, layers, "index_cache");
        assert_eq!(c.sh(LOOK).ok().out, wanted);
        eventually("the snapshots are believed", || known(c) == 2);
        assert_eq!(c.sh(LOOK).ok().out, wanted);
        umount(c);
    });
}

#[test]
fn what_was_edited_between_mounts_is_shown() {
    cases("edits between mounts", |c, layers| {
        fill(c, layers, "index_cache");
        for (edit, look, wanted) in [
            (
                "echo longer than before >l/d/f",
                "cat m/d/f m/hard",
                "longer than before\nlonger than before\n",
            ),
            ("printf xyz | dd of=l/d/deep/g conv=notrunc status=none", "cat m/d/deep/g", "xyz"),
            ("chmod 604 l/d/deep/g", "stat -c %a m/d/deep/g", "604\n"),
            ("touch -d @7 l/d/deep/g", "stat -c %Y m/d/deep/g", "7\n"),
            ("rm l/gone/x", "ls m/gone", ""),
            ("echo new >l/gone/new", "cat m/gone/new", "new\n"),
            ("ln -sf elsewhere l/link", "readlink m/link", "elsewhere\n"),
            ("mv l/d/deep l/d/moved", "ls m/d", "f\nmoved\nt\n"),
            ("setfattr -n user.a -v c l/d/f", "getfattr -n user.a --only-values m/d/f", "c"),
            ("mv l old && mkdir l && echo other >l/other", "ls m", "d\nother\n"),
        ] {
            c.sh(&format!("{edit}; sleep 0.03")).ok();
            mount(c, layers, "index_cache");
            assert_eq!(c.sh(look).ok().out, wanted, "{edit}: at once");
            eventually("both layers are known", || known(c) == 2);
            assert_eq!(c.sh(look).ok().out, wanted, "{edit}: later");
            umount(c);
            mount(c, layers, "index_cache");
            eventually("both layers are known", || known(c) == 2);
            assert_eq!(c.sh(look).ok().out, wanted, "{edit}: by its snapshot");
            umount(c);
        }
    });
}

#[test]
fn by_word_a_changed_file_is_refused_once() {
    for (edit, look, now) in [
        ("echo longer than before >l/d/f", "cat m/d/f", "longer than before\n"),
        ("rm l/d/f", "cat m/d/f", ""),
        ("mv l/d/deep l/d/moved", "cat m/d/deep/g", ""),
        ("rm l/d/f && mkdir l/d/f", "cat m/d/f", ""),
        ("rm l/d/f && ln -s deep/g l/d/f", "cat m/d/f", "g\n"),
    ] {
        cases("edits of immutable lowers", |c, layers| {
            fill(c, layers, "index_cache=immutable");
            c.sh(&format!("{edit}; sleep 0.03")).ok();
            // what else was changed was not promised to be seen
            mount_known(c, layers, "index_cache=immutable");
            let said = c.sh(look);
            assert!(said.code != Some(0) && said.out.is_empty(), "{edit}: {said:?}");
            assert!(said.err.contains("Stale file handle"), "{edit}: {said:?}");
            c.sh("cat m/d/t | grep -x top").ok();
            umount(c);
            mount(c, layers, "index_cache=immutable");
            assert_eq!(c.sh(look).out, now, "{edit}");
            umount(c);
        });
    }
}

/// A file system finds places for what was written long after it was written.
#[test]
fn blocks_that_come_late_are_no_change() {
    cases("late blocks", |c, layers| {
        let blocks = "for i in $(seq 0 2 399); do
            printf x | dd of=l/frag bs=4096 seek=$i conv=notrunc status=none; done";
        c.sh(&format!("{blocks}; sleep 0.03")).ok();
        for how in ["index_cache=immutable", "index_cache"] {
            fill(c, layers, how);
            c.sh("sync -f l").ok();
            mount_known(c, layers, how);
            c.sh("cmp l/frag m/frag").ok();
            let seen = c.sh("stat -c %b m/frag").ok().out;
            if how == "index_cache" {
                assert_eq!(seen, c.sh("stat -c %b l/frag").ok().out);
            }
            umount(c);
        }
    });
}

#[test]
fn changes_of_a_known_view_go_to_the_upper_alone() {
    for user in mounters("changes over known lowers") {
        let c = Case::new(user);
        c.sh(TREE).ok();
        fill(&c, READ_WRITE, "index_cache");
        c.sh("tar -cf before.tar l t").ok();
        mount_known(&c, READ_WRITE, "index_cache");
        c.sh("cd m && echo more >>d/f && chmod 600 d/deep/g && rm -r gone && mkdir gone &&
            mv link l2 && echo new >d/new && ln d/t d/t2 && rm d/t")
            .ok();
        let script = "cat m/d/f m/d/t2; stat -c %a m/d/deep/g; ls m m/gone m/d; readlink m/l2";
        let wanted = "low\nmore\ntop\n600\nm:\nd\nfifo\ngone\nhard\nl2\n\nm/d:\ndeep\nf\nnew\nt2\n\n\
            m/gone:\nd/f\n";
        assert_eq!(c.sh(script).ok().out, wanted);
        umount(&c);
        c.sh("tar -df before.tar").ok();
        // and the same by another mount of the upper, with and without the cache
        for how in ["index_cache", "lower_changes=ignore"] {
            mount(&c, READ_WRITE, how);
            assert_eq!(c.sh(script).ok().out, wanted, "{how}");
            umount(&c);
        }
    }
}

#[test]
fn a_cache_that_others_may_write_is_not_believed() {
    cases("an open cache", |c, layers| {
        fill(c, layers, "index_cache");
        c.sh("echo >cache/planted; chmod 777 cache").ok();
        mount(c, layers, "index_cache");
        c.sh("cat m/d/f | grep -x low && sleep 0.3").ok();
        assert_eq!(known(c), 0);
        assert_eq!(c.sh("ls cache").out, "lowers\nplanted\n", "nothing was touched");
        umount(c);
        c.sh("chmod 755 cache; chmod 777 cache/lowers").ok();
        mount(c, layers, "index_cache");
        c.sh("cat m/d/f | grep -x low && sleep 0.3").ok();
        assert_eq!(known(c), 0);
        umount(c);
        // and without any place for it all goes on as ever
        c.sh("rm -r cache && echo >cache").ok();
        mount(c, layers, "index_cache");
        c.sh("cat m/d/f | grep -x low").ok();
        umount(c);
    });
}

#[test]
fn who_looks_at_the_lowers_has_no_cache() {
    for user in mounters("options that exclude each other") {
        let c = Case::new(user);
        for how in ["watch", "timeout"] {
            let said =
                c.stratafs(&["-o", &format!("lowerdir=l,index_cache,lower_changes={how}"), "m"]);
            assert_eq!(said.code, Some(2), "{said:?}");
            let why = format!("'index_cache' and 'lower_changes={how}' exclude each other");
            assert!(said.err.contains(&why), "{said:?}");
        }
        let said = c.stratafs(&["-o", "lowerdir=l,index_cache=sometimes", "m"]);
        assert!(said.code == Some(2), "{said:?}");
        mount(&c, "lowerdir=l", "index_cache,index_cache=off,lower_changes=watch");
        umount(&c);
    }
}
