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

/// The first bytes of a file as a map shows them.
#[allow(unsafe_code)]
mod maps {
    use memmap2::{Mmap, MmapOptions, MmapRaw};
    use std::fs::File;

    pub(super) enum Map {
        Shared(MmapRaw),
        Private(Mmap),
    }

    impl Map {
        pub(super) fn of(file: &File, shared: bool) -> Map {
            let mut how = MmapOptions::new();
            how.len(4096);
            if shared {
                return Map::Shared(how.map_raw_read_only(file).unwrap());
            }
            // SAFETY: it is read by address alone, below
            Map::Private(unsafe { how.map_copy_read_only(file) }.unwrap())
        }

        pub(super) fn read(&self) -> [u8; 4] {
            let from = match self {
                Map::Shared(m) => m.as_ptr(),
                Map::Private(m) => m.as_ptr(),
            };
            // SAFETY: the map is longer and lives; what it shows may change at any time
            unsafe { std::ptr::read_volatile(from.cast()) }
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

/// The kernel appends where it takes the end to be, and learns of another one only if it asks.
#[test]
fn an_append_goes_behind_what_others_have_written_below() {
    for_each_mount("appends to edited files", "lower_changes=watch", |c| {
        if c.sh(": >m/writable").code != Some(0) {
            return;
        }
        for (n, open) in ["3>>m/d/f", "3<>m/a"].iter().enumerate() {
            let f = ["d/f", "a"][n];
            c.sh(&format!("stat m/{f} && cat m/{f} && echo longer than before >l/{f}")).ok();
            if n == 0 {
                // told by now, or not: it makes no difference
                c.sh("sleep 0.5").ok();
            }
            let more = if open.contains(">>") { "echo x >&3" } else { "echo x >>m/a" };
            c.sh(&format!("exec {open}; {more}; {more}")).ok();
            let wanted = "longer than before\nx\nx\n";
            assert_eq!(c.sh(&format!("cat m/{f}")).ok().out, wanted, "{f}");
            assert_eq!(c.sh(&format!("cat u/{f}")).ok().out, wanted, "{f}");
            c.sh(&format!("echo y >>m/{f}; cat m/{f} | tail -1 | grep -x y")).ok();
        }
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
fn editors_and_tools_change_lowers_in_their_own_ways() {
    for_each_mount("tools that edit lowers", "lower_changes=watch", |c| {
        c.sh("mkdir -p l/tree/a l/tree/b && echo 1 >l/tree/a/1 && echo 2 >l/tree/b/2").ok();
        shows(c, "cat m/d/f m/a m/tree/a/1 m/tree/b/2; ls m/other", "old\na\n1\n2");
        // replaces by rename
        c.sh("sed -i s/old/by-sed/ l/d/f").ok();
        shows(c, "cat m/d/f", "by-sed");
        // vim: the old file becomes a backup, a new one gets the name, the backup goes
        c.sh("mv l/d/f l/d/f~ && echo by-vim >l/d/f && rm l/d/f~").ok();
        shows(c, "cat m/d/f; ls m/d", "by-vim\nf\nt");
        // truncates and writes the same file
        c.sh("echo by-cp >new && cp new l/d/f").ok();
        shows(c, "cat m/d/f", "by-cp");
        c.sh("cp --remove-destination new l/a && cp -a l/tree l/copy").ok();
        shows(c, "cat m/a m/copy/a/1 m/copy/b/2", "by-cp\n1\n2");
        c.sh("mv l/tree l/other").ok();
        shows(c, "cat m/other/a/1; ls m/other m/tree", "1\nm/other:\na\nb");
        c.sh("echo late >l/other/a/late && mv l/other/b l/other/a/b").ok();
        shows(c, "cat m/other/a/late m/other/a/b/2; ls m/other", "late\n2\na");
        c.sh("rm -r l/other").ok();
        shows(c, "ls -d m/other m/other/a; ls m", "a\ncopy\nd");
        // and made again at once, maybe with the numbers that were freed
        c.sh("rm -r l/copy && mkdir -p l/copy/a && echo again >l/copy/a/1").ok();
        shows(c, "cat m/copy/a/1; find m/copy | sort", "again\nm/copy\nm/copy/a\nm/copy/a/1");
        c.sh("rm new").ok();
    });
}

#[test]
fn a_mapped_lower_file_that_is_edited_in_place_shows_it() {
    for_each_mount("edits of mapped files", "lower_changes=watch", |c| {
        if c.user != support::myself() {
            return support::skip("edits of mapped files as another user", "his mount is private");
        }
        let open = std::fs::File::open(c.path("m/d/f")).unwrap();
        let map = |shared| maps::Map::of(&open, shared);
        let (shared, private) = (map(true), map(false));
        assert_eq!((shared.read(), private.read()), (*b"old\n", *b"old\n"));
        // without a change of length, which would cut the maps
        let lower = std::fs::File::options().write(true).open(c.path("l/d/f")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&lower, b"new\n", 0).unwrap();
        eventually("the shared map shows it", || shared.read() == *b"new\n");
        // of a page that was not written to, a private map shows the same
        eventually("the private map shows it", || private.read() == *b"new\n");
    });
}

#[test]
fn where_watches_run_out_edits_are_seen_after_a_second() {
    for_each_mount("max_watches", "lower_changes=watch,max_watches=3", |c| {
        c.sh("mkdir l/far && echo one >l/far/x && echo s >l/far/same").ok();
        shows(c, "cat m/d/f m/far/x; ls m/far/new", "old\none");
        c.sh("echo two >l/far/x && echo n >l/far/new && rm l/far/same && echo near >l/d/f").ok();
        shows(c, "cat m/far/x m/far/new m/d/f; ls m/far", "two\nn\nnear\nnew\nx");
        c.sh("mv l/far/x l/far/y").ok();
        shows(c, "cat m/far/y; ls m/far", "two\nnew\ny");
    });
    for_each_mount("no watches at all", "max_watches=0", |c| {
        shows(c, "cat m/d/f; stat -c %a m/a", "old\n644");
        c.sh("chmod 640 l/a && echo changed >l/d/f && echo n >l/d/new").ok();
        shows(c, "cat m/d/f m/d/new; stat -c %a m/a", "changed\nn\n640");
    });
}

/// What passthrough hands to the kernel does not hide an edit.
#[test]
fn edits_are_seen_where_root_passes_files_through() {
    if !support::is_root() {
        return support::skip("edits with passthrough", "only root may pass files through");
    }
    for_each_mount("edits with passthrough", "lower_changes=watch,passthrough=on", |c| {
        if c.user != support::myself() {
            return;
        }
        c.sh("head -c 300000 /dev/zero | tr '\\0' a >l/big && cat m/big | wc -c").ok();
        let open = std::fs::File::open(c.path("m/big")).unwrap();
        let first = || {
            let mut byte = [0];
            std::os::unix::fs::FileExt::read_exact_at(&open, &mut byte, 0).unwrap();
            byte[0]
        };
        assert_eq!(first(), b'a');
        c.sh("printf b | dd of=l/big conv=notrunc status=none").ok();
        eventually("the open file shows the edit", || first() == b'b');
        shows(c, "head -c 1 m/big", "b");
        c.sh("head -c 200000 /dev/zero | tr '\\0' c >big && mv big l/big").ok();
        shows(c, "head -c 1 m/big; wc -c <m/big", "c200000");
        assert_eq!(first(), b'b', "who has it open reads on");
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
