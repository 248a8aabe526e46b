//! Which requests the kernel sends for what a program does: exact, and the same on every machine.

#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;
use support::{Case, eventually, mounters};

type Requests = BTreeMap<String, u64>;

fn requests(c: &Case) -> Requests {
    let said = c.stratafs(&["--json", "stats", "m"]).ok().out;
    let all: serde_json::Value = serde_json::from_str(&said).unwrap();
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

fn with_image(test: &str, rw: bool, check: impl Fn(&Case)) {
    for user in mounters(test) {
        let c = Case::new(user);
        c.sh("mkdir l/d && echo one >l/d/one && echo two >l/d/two && echo three >l/three").ok();
        let root = c.path("store");
        let root = root.to_str().unwrap();
        let import = ["--root", root, "import", "-q", "--lowerdir", "l", "--name", "t"];
        c.stratafs(&import).ok();
        // what passthrough saves depends on who mounts
        let mut mount = vec!["--root", root, "mount", "-o", "passthrough=off"];
        mount.extend(rw.then_some("--rw"));
        mount.extend(["t", "m"]);
        c.stratafs(&mount).ok();
        check(&c);
        c.stratafs(&["umount", "m"]).ok();
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
        let create = want_of(c, "lookup create getxattr write release");
        assert_eq!(content_aside(c, asked(c, "echo new >m/d/new")), create);
        // the kernel remembers that the file has no capabilities to lose
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
