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
        let bind = "import socket; socket.socket(socket.AF_UNIX).bind('m/sock')";
        c.command("python3").args(["-c", bind]).status().unwrap();
        c.sh("cd m && rm keep && echo x >.wh.f").ok();
        let said = store(c, &["commit", "box", "out"]).ok();
        if c.path("m/sock").exists() {
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
