//! Which requests the kernel sends for what a program does: exact, and the same on every machine.

#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use support::{Case, User, eventually, mounters, skip};

type Requests = BTreeMap<String, u64>;

fn stats(c: &Case) -> serde_json::Value {
    serde_json::from_str(&c.stratafs(&["--json", "stats", "m"]).ok().out).unwrap()
}

/// Whether the kernel has agreed on something.
fn agreed(c: &Case, what: &str) -> bool {
    stats(c)["agreed"][what] == "yes"
}

fn requests(c: &Case) -> Requests {
    let all = stats(c);
    let requests = all["requests"].as_object().unwrap();
    requests.iter().map(|(op, n)| (op.clone(), n.as_u64().unwrap())).collect()
}

/// Returns what a script makes the kernel ask, without what every shell asks (`getattr`, `access`
/// and `statfs` of the root) and what comes when the kernel likes.
fn asked(c: &Case, script: &str) -> Requests {
    let before = requests(c);
    c.sh(script).ok();
    // a release comes after the close that it is for
    let mut after = Requests::new();
    eventually("all is closed", || {
        after = requests(c);
        let of =
            |op: &str| after.get(op).copied().unwrap_or(0) - before.get(op).copied().unwrap_or(0);
        of("release") == of("open") + of("create") || of("flush") > 0
    });
    for op in ["getattr", "access", "statfs", "forget", "other"] {
        after.remove(op);
    }
    after.retain(|op, n| {
        *n -= before.get(op).copied().unwrap_or(0);
        *n > 0
    });
    after
}

fn want(text: &str) -> Requests {
    let mut out = Requests::new();
    for op in text.split_whitespace() {
        *out.entry(op.to_owned()).or_default() += 1;
    }
    out
}

/// Leaves out content for root, whose mounts hand it to the kernel (passthrough) where that can.
fn content_aside(c: &Case, mut all: Requests) -> Requests {
    if c.user.uid == 0 {
        all.retain(|op, _| op != "read" && op != "write");
    }
    all
}

fn want_of(c: &Case, text: &str) -> Requests {
    content_aside(c, want(text))
}

/// How often anybody has dropped the caches of this machine: the kernel asks again then.
fn cache_drops() -> Vec<String> {
    let all = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    all.lines().filter(|l| l.starts_with("drop_")).map(str::to_owned).collect()
}

/// Runs a check, again if it failed and somebody dropped the caches meanwhile.
fn undisturbed(user: &User, check: impl Fn(&Case)) {
    for _ in 0..8 {
        let before = cache_drops();
        let c = Case::new(*user);
        let done = catch_unwind(AssertUnwindSafe(|| check(&c)));
        c.stratafs(&["umount", "m"]);
        match done {
            Ok(()) => return,
            Err(why) if before == cache_drops() => resume_unwind(why),
            Err(_) => {}
        }
    }
    support::skip("exact counts", "somebody drops the caches all the time");
}

const FILES: &str = "mkdir l/d && echo one >l/d/one && echo two >l/d/two && echo three >l/three";

/// As [`with_image`], with directories of the same content.
fn with_lowers(test: &str, check: impl Fn(&Case)) {
    for user in mounters(test) {
        undisturbed(&user, |c| {
            c.sh(FILES).ok();
            let options = "lowerdir=l,upperdir=u,workdir=w,passthrough=off,lower_changes=ignore";
            c.stratafs(&["-o", options, "m"]).ok();
            check(c);
        });
    }
}

fn with_image(test: &str, rw: bool, check: impl Fn(&Case)) {
    for user in mounters(test) {
        undisturbed(&user, |c| {
            c.sh(FILES).ok();
            let root = c.path("store");
            let root = root.to_str().unwrap();
            let import = ["--root", root, "import", "-q", "--lowerdir", "l", "--name", "t"];
            c.stratafs(&import).ok();
            // what passthrough saves depends on who mounts
            let mut mount = vec!["--root", root, "mount", "-o", "passthrough=off"];
            mount.extend(rw.then_some("--rw"));
            mount.extend(["t", "m"]);
            c.stratafs(&mount).ok();
            check(c);
        });
    }
}

#[test]
fn a_read_only_image_is_asked_once() {
    with_image("requests of a read-only image", false, |c| {
        // the first open is refused for good: nothing is opened or closed after it
        assert_eq!(asked(c, "read x <m/d/one"), want("lookup lookup open read flush"));
        assert_eq!(asked(c, "read x <m/d/one"), want(""));
        assert_eq!(asked(c, "read x <m/d/two"), want("lookup read"));
        assert_eq!(asked(c, "test -e m/no || true"), want("lookup"));
        assert_eq!(asked(c, "test -e m/no || test -e m/no || true"), want(""));
    });
}

#[test]
fn a_changing_image_is_asked_for_what_changes() {
    with_image("requests of a read-write image", true, |c| {
        c.sh("test -e m/d").ok();
        // without pages nothing is asked about capabilities
        let create = want_of(c, "lookup create write release");
        assert_eq!(content_aside(c, asked(c, "echo new >m/d/new")), create);
        assert_eq!(
            content_aside(c, asked(c, "echo more >>m/d/new")),
            want_of(c, "open write release")
        );
        assert_eq!(
            content_aside(c, asked(c, "read x <m/d/two")),
            want_of(c, "lookup open read release")
        );
        assert_eq!(content_aside(c, asked(c, "read x <m/d/two")), want_of(c, "open release"));
        assert_eq!(content_aside(c, asked(c, "mkdir m/sub")), want_of(c, "lookup mkdir"));
    });
}

#[test]
fn changing_names_and_attributes_takes_one_request_each() {
    with_image("requests for names and attributes", true, changes);
}

#[test]
fn plain_lowers_are_asked_as_an_image_is() {
    with_lowers("requests of plain lowers", changes);
}

#[test]
fn content_costs_no_more_requests_than_it_must() {
    with_lowers("requests for content", |c| {
        c.sh("test -e m/d/one && test -e m/d/two").ok();
        let is = |script: &str, ops: &str| assert_eq!(asked(c, script), want(ops), "{script}");
        is("echo a >m/new", "lookup create write release");
        is("{ echo b; echo c; } >>m/new", "open write write release");
        is("read x <m/new", "open read release");
        is("read x <m/new", "open release");
        is("ln m/new m/link", "lookup link");
        is("read x <m/link", "open release");
        // one that is not changed is copied up for its attributes alone, and looked at once
        is("chmod 600 m/d/one", "setattr");
        is("chmod 644 m/d/one", "setattr");
        is("find m", "opendir readdirplus readdir readdirplus readdir");
        is("find m", "");
        is("rm -r m/d", "unlink unlink rmdir");
    });
}

/// As [`with_lowers`], with writes that the kernel holds back. Without the `setattr` by which it says
/// when a file was written: there is none if its clock has not ticked since the file was made.
fn with_writeback(test: &str, check: impl Fn(&Case, &dyn Fn(&str, &str))) {
    for user in mounters(test) {
        undisturbed(&user, |c| {
            c.sh(FILES).ok();
            let options = "lowerdir=l,upperdir=u,workdir=w,writeback,lower_changes=ignore";
            c.stratafs(&["-o", options, "m"]).ok();
            assert!(agreed(c, "writeback"));
            // the first flush is refused for good
            c.sh("echo x >m/first && test -e m/d/one && test -e m/d/two").ok();
            check(c, &|script, ops| {
                let mut found = asked(c, script);
                let said = found.remove("setattr").unwrap_or(0);
                let mut wanted = want(ops);
                let may = wanted.remove("setattr").unwrap_or(0);
                assert_eq!(found, wanted, "{script}");
                assert!(said <= may, "{script}: {said} setattr");
            });
        });
    }
}

#[test]
fn writes_that_are_held_back_are_one_request() {
    with_writeback("requests with writeback", |_, is| {
        is("echo a >m/new", "lookup create getxattr write setattr release");
        is("{ echo b; echo c; } >>m/new", "open write setattr release");
        // as many as there are in a page, and in some thousand of them
        let append = "for i in 0 1 2 3 4 5 6 7 8 9; do printf %100s; done";
        let thousand = "for k in $(seq 100); do $1; done".replace("$1", append);
        is(&format!("{{ {thousand}; }} >>m/new"), "open write setattr release");
        // what is around a part of a page is read first, and stays
        is("printf x 1<>m/d/one", "open getxattr read write setattr release");
        is("printf y 1<>m/d/one", "open write setattr release");
        // the shell closes a second descriptor of it before it writes
        is("echo cut >m/d/one", "open setattr write setattr release");
        is("read x <m/d/two", "open read release");
        is("read x <m/d/two", "open release");
        is("echo z >>m/d/two", "open getxattr write setattr release");
    });
}

#[test]
fn the_kernel_says_when_names_and_attributes_changed_where_it_keeps_times() {
    with_writeback("requests for names with writeback", |c, is| {
        is("ln m/first m/link", "lookup link setattr");
        is("mv m/link m/other", "lookup rename setattr");
        is("rm m/other", "unlink setattr");
        is("rm m/first", "unlink setattr");
        is("chmod 600 m/three", "lookup setattr");
        c.sh("find m && find m").ok();
        is("rm -r m/d", "unlink setattr unlink setattr rmdir");
        is(
            "mkdir m/e && ln -s x m/e/l && rm m/e/l && rmdir m/e",
            "lookup mkdir lookup symlink unlink rmdir",
        );
    });
}

#[test]
fn what_the_kernel_reads_and_writes_by_itself_is_not_asked_for() {
    for user in mounters("requests with passthrough").into_iter().filter(|u| u.uid == 0) {
        undisturbed(&user, |c| {
            c.sh("echo one >l/one").ok();
            c.stratafs(&["-o", "lowerdir=l,upperdir=u,workdir=w,lower_changes=ignore", "m"]).ok();
            if !agreed(c, "passthrough") {
                return skip("requests with passthrough", "the kernel has none");
            }
            c.sh("echo a >m/first && test -e m/one").ok();
            let is = |script: &str, ops: &str| assert_eq!(asked(c, script), want(ops), "{script}");
            is("echo a >m/new", "lookup create getxattr release");
            // the backing file would append even when that is taken back
            is("{ echo b; echo c; } >>m/new", "open write write release");
            is("{ echo b; echo c; } 1<>m/new", "open release");
            // a file of a lower could be copied up while it is read
            is("read x <m/one", "open read release");
        });
    }
}

#[test]
fn a_directory_is_not_asked_for_with_each_copy_in_it() {
    const COPIES: u64 = 200;
    for user in mounters("copies in one directory") {
        let c = Case::new(user);
        c.sh(&format!("mkdir l/d && for i in $(seq {COPIES}); do echo x >l/d/$i; done")).ok();
        let _mounted = c.mount();
        c.sh("ls -l m/d >/dev/null").ok();
        let before = requests(&c);
        let ctime = c.sh("stat -c %Z.%z m/d").ok().out;
        c.sh("chmod -R 600 m/d/*").ok();
        let after = requests(&c);
        let of = |op: &str| after.get(op).unwrap_or(&0) - before.get(op).unwrap_or(&0);
        assert_eq!(of("setattr"), COPIES);
        // the shell's own, and one for each tenth of a second
        assert!(of("getattr") < COPIES, "{} of {COPIES}", of("getattr"));
        eventually("the directory shows that it changed", || {
            c.sh("stat -c %Z.%z m/d").ok().out != ctime
        });
    }
}

fn changes(c: &Case) {
    c.sh("test -e m/d").ok();
    let is = |script: &str, ops: &str| {
        assert_eq!(content_aside(c, asked(c, script)), want_of(c, ops), "{script}");
    };
    is("ln -s x m/d/link", "lookup symlink");
    is("readlink m/d/link", "readlink");
    is("readlink m/d/link", "");
    is("rm -f m/d/link", "unlink");
    is("chmod 600 m/d/one", "lookup setattr");
    // before and after the copy-up the kernel asks for what a write would take away
    c.sh("echo cut >m/d/two").ok();
    is("echo cut >m/d/two", "open write release");
    // the first opendir is refused for good
    is("ls m/d", "opendir readdirplus readdir");
    is("ls m/d", "");
    is("mkdir m/d/sub && ls m/d", "lookup mkdir readdirplus readdir");
    is("rmdir m/d/sub", "rmdir");
    is("mv m/d/two m/d/new", "lookup rename");
    is("rm -f m/d/new m/d/one", "unlink unlink");
    is("rmdir m/d", "rmdir");
}
