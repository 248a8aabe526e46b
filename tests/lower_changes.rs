//! Lower directories edited by hand while they are mounted, seen through real mounts.

#![allow(missing_docs)]

mod support;

use std::io::{Read, Seek};
use support::{Case, eventually, mounters};

const READ_WRITE: &str = "lowerdir=t:l,upperdir=u,workdir=w";
const READ_ONLY: &str = "lowerdir=t:l";

/// Runs `f` on a mount of two lowers, with an upper and without.
fn for_each_mount(test: &str, options: &str, f: impl Fn(&Case)) {
    for user in mounters(test) {
        for layers in [READ_WRITE, READ_ONLY] {
            let c = Case::new(user);
            c.sh("mkdir t t/d l/d && echo old >l/d/f && echo top >t/d/t && echo a >l/a").ok();
            c.stratafs(&["-o", &format!("{layers},{options}"), "m"]).ok();
            f(&c);
            c.stratafs(&["umount", "m"]).ok();
        }
    }
}

fn shows(c: &Case, script: &str, wanted: &str) {
    let mut last = String::new();
    eventually(&format!("{script:?} says {wanted:?}"), || {
        last = c.sh(&format!("{{ {script}; }} 2>/dev/null")).out;
        last.trim_end() == wanted
    });
}

#[test]
fn each_kind_of_edit_becomes_visible() {
    for_each_mount("edits of lowers", "lower_changes=watch", |c| {
        // everything is in the kernel's caches
        shows(c, "ls m/d; cat m/d/f; stat -c %a m/a; ls m/d/new m/gone", "f\nt\nold\n644");
        c.sh("echo changed in place >l/d/f").ok();
        shows(c, "cat m/d/f", "changed in place");
        c.sh("chmod 600 l/a").ok();
        shows(c, "stat -c %a m/a", "600");
        // a name that the kernel knows as missing
        c.sh("echo new >l/d/new").ok();
        shows(c, "cat m/d/new && ls m/d", "new\nf\nnew\nt");
        let before = c.sh("stat -c %i m/d/f").ok().out;
        c.sh("echo by an editor >l/d/f~ && mv l/d/f~ l/d/f").ok();
        shows(c, "cat m/d/f", "by an editor");
        assert_ne!(c.sh("stat -c %i m/d/f").ok().out, before);
        c.sh("rm l/d/new").ok();
        shows(c, "ls m/d; cat m/d/new", "f\nt");
        c.sh("rm l/a && mkdir l/a && echo in >l/a/in").ok();
        shows(c, "cat m/a/in", "in");
        c.sh("rm -r l/a && echo file >l/a").ok();
        shows(c, "cat m/a", "file");
        c.sh("mv l/d l/e").ok();
        shows(c, "ls m; ls m/d m/e", "a\nd\ne\nm/d:\nt\n\nm/e:\nf");
        c.sh("mv t/d/t t/d/f && mv l/e l/d").ok();
        shows(c, "ls m; ls m/d; cat m/d/f", "a\nd\nf\ntop");
    });
}

#[test]
fn an_open_file_shows_what_is_written_and_survives_its_replacement() {
    for_each_mount("edits of open files", "lower_changes=watch", |c| {
        if c.user != support::myself() {
            return support::skip("edits of open files as another user", "his mount is private");
        }
        let mut open = std::fs::File::open(c.path("m/d/f")).unwrap();
        let mut read = || {
            let mut text = String::new();
            open.rewind().unwrap();
            open.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read(), "old\n");
        c.sh("echo new >l/d/f").ok();
        eventually("the open file shows what was written", || read() == "new\n");
        c.sh("echo other >l/d/f~ && mv l/d/f~ l/d/f").ok();
        shows(c, "cat m/d/f", "other");
        assert_eq!(read(), "new\n");
        let links = std::os::unix::fs::MetadataExt::nlink(&open.metadata().unwrap());
        assert_eq!(links, 0);
    });
}

#[test]
fn a_file_that_was_changed_here_is_not_affected() {
    for user in mounters("edits below the upper") {
        let c = Case::new(user);
        c.sh("echo low >l/f && mkdir l/d && echo x >l/d/x").ok();
        c.stratafs(&["-o", "lowerdir=l,upperdir=u,workdir=w", "m"]).ok();
        c.sh("echo mine >>m/f && rm m/d/x && ls m/d").ok();
        c.sh("echo theirs >l/f && echo y >l/d/x && echo y >l/d/y").ok();
        shows(&c, "ls m/d; cat m/f", "y\nlow\nmine");
        c.stratafs(&["umount", "m"]).ok();
    }
}

#[test]
fn without_watching_changes_are_seen_after_the_timeout_or_never() {
    for_each_mount("lower_changes=timeout", "lower_changes=timeout,timeout=0.1", |c| {
        shows(c, "cat m/d/f; stat -c %a m/a", "old\n644");
        c.sh("chmod 640 l/a && echo changed >l/d/f").ok();
        shows(c, "cat m/d/f; stat -c %a m/a", "changed\n640");
    });
    for_each_mount("lower_changes=ignore", "lower_changes=ignore", |c| {
        shows(c, "ls m/d; stat -c %a m/a", "f\nt\n644");
        c.sh("chmod 640 l/a && echo new >l/d/new").ok();
        assert_eq!(c.sh("ls m/d; stat -c %a m/a").ok().out, "f\nt\n644\n");
    });
}

#[test]
fn an_unknown_word_is_refused() {
    for user in mounters("lower_changes=often") {
        let c = Case::new(user);
        let said = c.stratafs(&["-o", "lowerdir=l,lower_changes=often", "m"]);
        assert!(said.err.contains("lower_changes"), "{}", said.err);
    }
}
