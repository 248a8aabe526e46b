//! Images made of containers, with the real binary: the image shows what the container showed.
#![allow(missing_docs)]

mod support;

use support::{Case, Said, mounters};

/// An image `t` of two layers, and a container `box` of it that is mounted on `m`.
fn with_container(test: &str, check: impl Fn(&Case)) {
    for user in mounters(test) {
        let c = Case::new(user);
        c.sh("mkdir -p l/d/e l/mv/sub l/gone l/again l2/d
              echo low >l/f; echo keep >l/keep; echo deep >l/mv/sub/deep; echo x >l/mv/x
              echo g >l/gone/g; echo old >l/again/old; echo low >l/d/low; echo meta >l/meta
              ln l/mv/x l/mv/y; ln -s f l/ln; mkfifo l/pipe; echo top >l2/d/top
              chmod 640 l/meta; touch -d 2001-02-03T04:05:06.7Z l/keep l/mv/sub/deep")
            .ok();
        store(&c, &["import", "-q", "--lowerdir", "l2:l", "--name", "t"]).ok();
        store(&c, &["mount", "--rw", "--name", "box", "t", "m"]).ok();
        check(&c);
    }
}

fn store(c: &Case, args: &[&str]) -> Said {
    let root = c.path("store");
    c.stratafs(&[&["--root", root.to_str().unwrap()], args].concat())
}

fn commit(c: &Case, args: &[&str]) -> serde_json::Value {
    let said = store(c, &[&["--json", "commit"], args].concat()).ok();
    serde_json::from_str(&said.out).unwrap()
}

/// What is mounted on `m`: types, owners, modes, times, links, content, attributes; not the places
/// that a container has of its own.
fn tree(c: &Case) -> String {
    let own = "./dev ./proc ./sys ./etc ./.dockerenv";
    c.sh(&format!(
        "cd m && find . -mindepth 1 $(printf ' -path %s -prune -o' {own}) -printf '%y %#m %U:%G %n %T@ %p %l\n' |
            sed -E 's/^(d [0-9]+ [0-9:]+) [0-9]+/\\1/' | sort
         find . $(printf ' -path %s -prune -o' {own}) -type f -exec cksum {{}} + | sort
         find . $(printf ' -path %s -prune -o' {own}) -print0 | sort -z |
            xargs -0 getfattr -h -d -m -"
    ))
    .ok()
    .out
}

/// Mounts `image` on `m` in the place of the container, which is mounted again then.
fn tree_of(c: &Case, image: &str) -> String {
    c.stratafs(&["umount", "m"]).ok();
    store(c, &["mount", image, "m"]).ok();
    let tree = tree(c);
    c.stratafs(&["umount", "m"]).ok();
    store(c, &["mount", "box", "m"]).ok();
    tree
}

#[test]
fn an_image_shows_what_the_container_showed() {
    with_container("commit", |c| {
        c.sh("cd m && rm keep && rm -r gone && mv mv moved && chmod 600 meta && rm -r again &&
              mkdir again && echo new >again/new && mv moved/sub/deep moved/sub/deeper &&
              rm moved/x && echo y >>moved/y && mkdir -p d/e/n && mv d/low d/e/n/low &&
              echo a >d/a && ln d/a d/b && ln -s nowhere d/ln && mkfifo d/pipe &&
              setfattr -n user.k -v v d/a && setfattr -n user.k -v v d &&
              touch -d 1999-01-01T00:00:00.25Z d/a && truncate -s 3M sparse &&
              printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none &&
              head -c 300000 /dev/urandom >big && mv ln ln2 && printf 'x' >'a name\twith\\b'")
            .ok();
        c.sh("cd m && chown 7:8 meta d/e && chown -h 9:9 ln2 && chmod 4755 f").ok();
        if c.user.uid == 0 {
            c.sh("cd m && mknod null c 1 3 && setfattr -n trusted.t -v v d/a").ok();
        }
        let shown = tree(c);
        for part in ["moved/sub/deeper", "d/e/n/low", "user.k=", "sparse", " 7:8 ", "deep"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let live = commit(c, &["m", "from:live"]);
        assert_eq!(tree_of(c, "from:live"), shown);
        c.stratafs(&["umount", "m"]).ok();
        // the same changes, the same layer
        let again = commit(c, &["box", "from:rest"]);
        assert_eq!(again["Layer"], live["Layer"]);
        store(c, &["mount", "box", "m"]).ok();
        assert_eq!(tree(c), shown, "the container is as it was");
        // sparse stays sparse
        store(c, &["umount", "m"]).ok();
        store(c, &["mount", "from:rest", "m"]).ok();
        let blocks: u64 = c.sh("stat -c %b m/sparse").ok().out.trim().parse().unwrap();
        assert!(blocks < 100, "{blocks}");
        c.stratafs(&["umount", "m"]).ok();
        // a second container goes on from there
        store(c, &["mount", "--rw", "--name", "next", "from:rest", "m"]).ok();
        c.sh("cd m && rm -r moved && echo more >>f").ok();
        let next = commit(c, &["next", "from:next"]);
        assert_eq!(next["Parent"], again["Id"]);
        c.stratafs(&["umount", "m"]).ok();
        store(c, &["mount", "from:next", "m"]).ok();
        assert_eq!(c.sh("cat m/f; ls m | xargs").ok().out.lines().next(), Some("low"));
        assert!(c.sh("test -e m/moved").code == Some(1));
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn the_layer_tells_what_was_deleted_and_replaced() {
    with_container("commit markers", |c| {
        c.sh("cd m && rm keep && rm -r again && mkdir again && mv mv moved").ok();
        commit(c, &["box", "out"]);
        c.stratafs(&["umount", "m"]).ok();
        let said = |path| store(c, &["explain", "out", path]).ok().out;
        assert!(said("/keep").contains("the whiteout in layer 3"), "{}", said("/keep"));
        assert!(said("/mv").contains("the whiteout in layer 3"), "{}", said("/mv"));
        assert!(said("/again/old").contains("opaque directory `/again` in layer 3"));
        let layers = store(c, &["layers", "out"]).ok().out;
        assert!(layers.contains("stratafs commit box"), "{layers}");
    });
}

#[test]
fn a_container_without_changes_gets_a_step_and_no_layer() {
    with_container("empty commit", |c| {
        let made = commit(c, &["box", "same", "-m", "nothing", "-a", "me", "-c", "CMD [\"/f\"]"]);
        assert!(made["Layer"].is_null(), "{made}");
        c.stratafs(&["umount", "m"]).ok();
        let id = made["Id"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let facts = c.path("store/image/overlay2/imagedb");
        let config = support::text(&facts.join("content/sha256").join(id));
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        let step = config["history"].as_array().unwrap().last().unwrap();
        assert_eq!(step["empty_layer"], true);
        assert_eq!((&step["comment"], &step["author"]), (&"nothing".into(), &"me".into()));
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["/f"]));
        let parent = support::text(&facts.join("metadata/sha256").join(id).join("parent"));
        assert_eq!(parent, made["Parent"].as_str().unwrap());
        assert_eq!(store(c, &["layers", "same"]).ok().out.lines().count(), 3);
    });
}

/// The root directory has an entry only if somebody changed it.
#[test]
fn the_root_directory_is_the_images_unless_it_was_changed() {
    for user in mounters("commit root") {
        let c = Case::new(user);
        c.sh("chmod 711 l && echo x >l/f").ok();
        store(&c, &["import", "-q", "--lowerdir", "l", "--name", "t"]).ok();
        store(&c, &["mount", "--rw", "--name", "box", "t", "m"]).ok();
        c.sh("echo y >m/g").ok();
        commit(&c, &["box", "a"]);
        c.sh("chmod 1777 m").ok();
        commit(&c, &["box", "b"]);
        c.stratafs(&["umount", "m"]).ok();
        for (image, mode) in [("a", "711\n"), ("b", "1777\n")] {
            store(&c, &["mount", image, "m"]).ok();
            assert_eq!(c.sh("stat -c %a m").ok().out, mode, "{image}");
            c.stratafs(&["umount", "m"]).ok();
        }
    }
}

/// Nothing half: what is written while the layer is made is in it whole, or there is no image.
#[test]
fn a_container_that_is_written_to_gives_no_image() {
    with_container("commit of a busy container", |c| {
        let before = store(c, &["images", "--json"]).ok().out;
        // new names all the time
        c.sh("cd m && head -c 1000000 /dev/zero >zero &&
              { while [ ! -e stop ]; do i=$((i+1)); echo $i >n$i; sleep 0.01; done >/dev/null 2>&1 & } && sleep 0.1")
            .ok();
        let said = store(c, &["commit", "box", "busy"]);
        c.sh("touch m/stop").ok();
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("it was changed while it was read"), "{said:?}");
        assert_eq!(store(c, &["images", "--json"]).ok().out, before);
        let left =
            "ls store/image/overlay2/layerdb/tmp; ls store/image/overlay2/layerdb/sha256 | wc -l";
        assert_eq!(c.sh(left).ok().out, "2\n");
        // what is still written when the loop sees that it is to stop
        support::eventually("a quiet container", || {
            store(c, &["commit", "box", "quiet"]).code == Some(0)
        });
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn what_no_layer_can_hold_is_told() {
    with_container("commit of odd files", |c| {
        // into a private mount of another user this process cannot go
        let bound = std::os::unix::net::UnixListener::bind(c.path("m/sock")).is_ok();
        c.sh("cd m && rm keep && echo x >.wh.f").ok();
        let said = store(c, &["commit", "box", "out"]).ok();
        if bound {
            assert!(said.err.contains("sock: a socket, which no layer can hold"), "{said:?}");
        }
        assert!(said.err.contains(".wh.f: in a layer such a name would delete"), "{said:?}");
        c.stratafs(&["umount", "m"]).ok();
        store(c, &["mount", "out", "m"]).ok();
        assert_eq!(c.sh("cat m/f").ok().out, "low\n");
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn who_asks_for_what_cannot_be_is_told_so() {
    with_container("commit errors", |c| {
        let digest = format!("x@sha256:{}", "0".repeat(64));
        for (args, code, message) in [
            (&["nope"][..], 1, "no container is called nope"),
            (&["box", "UPPER"], 2, "no image name"),
            (&["box", &digest], 2, "a digest cannot be given"),
            (&["box", "x", "-c", "RUN make"], 2, "begins with none of CMD"),
        ] {
            let said = store(c, &[&["commit"], args].concat());
            assert_eq!(said.code, Some(code), "{args:?} {said:?}");
            assert!(said.err.contains(message), "{args:?} {said:?}");
        }
        // the name is moved from the image that had it
        c.sh("echo new >m/f").ok();
        let first = commit(c, &["box", "name"]);
        c.sh("echo newer >m/f").ok();
        let second = commit(c, &["box", "name"]);
        assert_eq!(second["Replaced"], first["Id"]);
        c.stratafs(&["umount", "m"]).ok();
        // its image is gone
        let of = second["Parent"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        c.sh(&format!("rm store/image/overlay2/imagedb/content/sha256/{of}")).ok();
        let said = store(c, &["commit", "box", "name"]);
        assert!(said.err.contains("its image") && said.code == Some(1), "{said:?}");
    });
}

/// Mounts an image on `m2`, runs a script in it, and unmounts.
fn in_image(c: &Case, image: &str, script: &str) -> String {
    c.sh("mkdir -p m2").ok();
    store(c, &["mount", image, "m2"]).ok();
    let said = c.sh(&format!("cd m2 && {script}"));
    c.stratafs(&["umount", "m2"]).ok();
    said.ok().out
}

/// Marks of other overlays are attributes like any others: a container may hold an overlay itself.
#[test]
fn marks_that_users_set_in_the_container_hide_nothing() {
    with_container("marks in a container", |c| {
        let set = |key: &str, value: &str, path: &str| {
            c.sh(&format!("setfattr -n {key} -v {value} m/{path}"))
        };
        c.sh("mkdir m/own && echo x >m/own/x && echo >m/own/empty").ok();
        for (key, value, path) in [
            ("user.overlay.opaque", "y", "d"),
            ("user.overlay.opaque", "x", "own"),
            ("user.overlay.whiteout", "y", "own/empty"),
            ("user.overlay.redirect", "/mv", "again"),
            ("user.fuseoverlayfs.opaque", "y", "gone"),
        ] {
            // a mount that keeps its own marks there may refuse it
            let said = set(key, value, path);
            assert!(said.code == Some(0) || c.user.uid != 0, "{key} {said:?}");
        }
        let shown = c.sh("cd m && find d own again gone | sort").ok().out;
        assert!(shown.contains("d/low") && shown.contains("gone/g"), "{shown}");
        commit(c, &["box", "out"]);
        assert_eq!(in_image(c, "out", "find d own again gone | sort"), shown);
        let diff = store(c, &["diff", "box"]).ok().out;
        assert!(!diff.contains("D "), "{diff}");
        c.stratafs(&["umount", "m"]).ok();
        store(c, &["mount", "-o", "ro", "box", "m"]).ok();
        assert_eq!(c.sh("cd m && find d own again gone | sort").ok().out, shown, "read-only");
        c.stratafs(&["umount", "m"]).ok();
    });
}

/// What is recorded is what the image gets, whoever recorded it where.
#[test]
fn recorded_owners_are_the_images_owners() {
    for options in ["xattr_permissions=1", "xattr_permissions=2"] {
        with_container("recorded owners", |c| {
            if options.ends_with('1') && c.user.uid != 0 {
                return;
            }
            c.stratafs(&["umount", "m"]).ok();
            store(c, &["mount", "-o", options, "box", "m"]).ok();
            c.sh("cd m && echo a >file && chown 12:34 file && chmod 4751 file &&
                  ln -s foo sl && mkfifo ff && setfattr -n user.k -v v file && chmod 600 meta")
                .ok();
            let look = "stat -c '%n %F %u:%g %a' file sl ff meta && getfattr -d file";
            let shown = c.sh(&format!("cd m && {look}")).ok().out;
            assert!(shown.contains("12:34 4751") && shown.contains("user.k="), "{shown}");
            let said = store(c, &["commit", "box", "out"]).ok();
            if options.ends_with('2') && c.user.uid == 0 {
                // they could be anybody's: see the test of forged ones
                assert!(said.err.contains("are left out"), "{said:?}");
            } else {
                assert_eq!(in_image(c, "out", look), shown, "{options}");
            }
            c.stratafs(&["umount", "m"]).ok();
        });
    }
}

/// The time of a file can be set back, its change cannot be hidden; that blocks come to the disk is
/// no change.
#[test]
fn only_what_was_written_counts_as_a_change() {
    with_container("changes during a commit", |c| {
        c.sh("cd m && for i in $(seq 400); do echo $i >n$i; done &&
              dd if=/dev/urandom of=frag bs=100 count=300 seek=1 status=none &&
              for i in $(seq 100); do printf x | dd of=frag bs=65536 seek=$i conv=notrunc status=none; done")
            .ok();
        commit(c, &["box", "fresh"]);
        c.sh("head -c 3000000 /dev/zero >m/big && touch -d 2001-01-01 m/big").ok();
        c.sh("while [ ! -e stop ]; do printf x | dd of=m/big bs=1 seek=2999999 conv=notrunc status=none
              touch -d 2001-01-01 m/big; done >/dev/null 2>&1 &")
            .ok();
        let said = store(c, &["commit", "box", "torn"]);
        c.sh("touch stop").ok();
        assert!(said.err.contains("it was changed while it was read"), "{said:?}");
        c.stratafs(&["umount", "m"]).ok();
    });
}

#[test]
fn a_commit_waits_for_files_that_are_being_copied() {
    with_container("commit of lazy copies", |c| {
        c.stratafs(&["umount", "m"]).ok();
        c.sh("mkdir l3 && head -c 30000000 /dev/urandom >l3/big").ok();
        store(c, &["import", "-q", "--lowerdir", "l3", "--name", "large"]).ok();
        let options = ["mount", "--rw", "--name", "lazy", "-o", "lazy_copy_up=1", "large", "m"];
        store(c, &options).ok();
        c.sh("printf changed | dd of=m/big bs=1 seek=1000 conv=notrunc status=none").ok();
        let sum = c.sh("cksum <m/big").ok().out;
        commit(c, &["lazy", "out"]);
        assert_eq!(in_image(c, "out", "cksum <big"), sum);
        c.stratafs(&["umount", "m"]).ok();
    });
}

/// A dockerd's data root has neither our lock nor our indexes, and says elsewhere of which image a
/// container is.
#[test]
fn a_container_of_dockerd_becomes_an_image_too() {
    with_container("commit for dockerd", |c| {
        c.sh("echo new >m/new").ok();
        // a second image of the same layers
        commit(c, &["box", "first"]);
        c.sh("rm m/new").ok();
        let same = commit(c, &["box", "same", "-c", "ENV A=1"]);
        c.sh("echo new >m/new").ok();
        c.stratafs(&["umount", "m"]).ok();
        let id = c.sh("basename store/image/overlay2/layerdb/mounts/*").ok().out;
        let id = id.trim();
        c.sh(&format!(
            "rm -f store/stratafs*.lock; find store -name 'stratafs.*' -delete
                       mkdir -p store/containers/{id}"
        ))
        .ok();
        let said = store(c, &["commit", id, "out"]);
        assert!(said.err.contains("images of the store have just its layers"), "{said:?}");
        let image = same["Parent"].as_str().unwrap();
        let record = format!(r#"{{"ID":"{id}","Name":"/theirs","Image":"{image}","Config":{{}}}}"#);
        std::fs::write(c.path(&format!("store/containers/{id}/config.v2.json")), record).unwrap();
        let made = commit(c, &["theirs", "out"]);
        assert_eq!(made["Parent"], same["Parent"]);
        assert_eq!(in_image(c, "out", "cat new"), "new\n");
        let listed = store(c, &["containers"]).ok().out;
        assert!(listed.contains("theirs") && listed.contains("t:latest"), "{listed}");
    });
}

#[test]
fn what_cannot_be_said_of_the_image_fails_before_the_work() {
    with_container("commit of a bad change", |c| {
        c.sh("echo new >m/new").ok();
        let layers = "ls store/image/overlay2/layerdb/sha256 | wc -l";
        let before = c.sh(layers).ok().out;
        let said = store(c, &["commit", "box", "out", "-c", "EXPOSE $NONE"]);
        assert!(said.err.contains("EXPOSE: a port is to be") && said.code == Some(1), "{said:?}");
        assert_eq!(c.sh(layers).ok().out, before);
        let root = c.path("store");
        let run = |epoch: &str| {
            let root = root.display();
            c.sh(&format!("SOURCE_DATE_EPOCH={epoch} $STRATAFS --root {root} commit box dated"))
        };
        for bad in ["253402300800", "-1", "abc", ""] {
            assert_eq!(run(bad).code, Some(2), "{bad}");
        }
        assert_eq!(run("1000000000").ok().out, run("1000000000").ok().out);
        c.stratafs(&["umount", "m"]).ok();
    });
}

/// In root's mount a record is an attribute that whoever owns a file may set.
#[test]
fn a_forged_record_gives_nobody_rights() {
    with_container("forged records", |c| {
        if c.user.uid == 0 {
            c.sh("cd m && echo x >mine && chown 1000:1000 mine &&
                  setfattr -n user.containers.override_stat -v 0:0:4755:file mine &&
                  setfattr -n user.containers.override_user.k -v v mine")
                .ok();
            commit(c, &["box", "out"]);
            assert_eq!(in_image(c, "out", "stat -c '%u:%g %a' mine"), "1000:1000 644\n");
        }
        c.stratafs(&["umount", "m"]).ok();
    });
}
