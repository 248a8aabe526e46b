//! The commands that look into images, containers, mounts and directories, with the real binary.

#![allow(missing_docs)]

mod support;

use serde_json::Value;
use support::{Case, Said, mounters};

fn store(c: &Case, args: &[&str]) -> Said {
    let root = c.path("store");
    c.stratafs(&[&["--root", root.to_str().unwrap()], args].concat())
}

fn json(said: Said) -> Value {
    serde_json::from_str(&said.ok().out).unwrap()
}

/// An image `t` of two layers: the upper one has `top`, a whiteout of `gone` and a new `d`.
fn with_image(test: &str, check: impl Fn(&Case)) {
    for user in mounters(test) {
        let c = Case::new(user);
        c.sh("mkdir l/d l2 l2/d && echo low >l/f && echo x >l/gone && echo x >l/d/old
              echo top >l2/top && mknod l2/gone c 0 0 && echo x >l2/d/new
              setfattr -n user.overlay.opaque -v y l2/d 2>/dev/null")
            .ok();
        store(&c, &["import", "-q", "--lowerdir", "l2:l", "--name", "t"]).ok();
        check(&c);
    }
}

#[test]
fn images_layers_and_containers_are_listed() {
    with_image("lists", |c| {
        assert_eq!(
            json(c.stratafs(&["--root", "nowhere", "images", "--json"])),
            Value::Array(vec![])
        );
        let images = json(store(c, &["images", "--json"]));
        assert_eq!(images[0]["RepoTags"], serde_json::json!(["t:latest"]));
        assert_eq!(images[0]["Layers"], 2);
        let layers = json(store(c, &["layers", "t", "--json"]));
        assert_eq!((&layers[0]["layer"], &layers[0]["whiteouts"]), (&2.into(), &1.into()));
        assert_eq!((&layers[1]["layer"], &layers[1]["entries"]), (&1.into(), &4.into()));
        assert_eq!(layers[1]["diff_id"], layers[1]["chain_id"]);
        store(c, &["create", "t", "--name", "box"]).ok();
        let containers = json(store(c, &["containers", "--json"]));
        assert_eq!(
            (&containers[0]["Name"], &containers[0]["Image"]),
            (&"box".into(), &"t:latest".into())
        );
        assert_eq!(json(store(c, &["layers", "box", "--json"])).as_array().unwrap().len(), 4);
        assert_eq!(store(c, &["rm", "box"]).ok().out, "box\n");
        assert_eq!(json(store(c, &["containers", "--json"])), Value::Array(vec![]));
    });
}

#[test]
fn explain_and_diff_agree_with_what_the_mount_shows() {
    with_image("explain", |c| {
        store(c, &["create", "t", "--name", "box"]).ok();
        store(c, &["mount", "box", "m"]).ok();
        c.sh("echo more >>m/f && rm m/top && mkdir m/n && rm -r m/d && mkdir m/d && echo x >m/d/mine").ok();
        // by its mount point, alive
        assert_eq!(
            c.stratafs(&["diff", "m"]).ok().out,
            "C /d\nA /d/mine\nD /d/new\nC /f\nA /n\nD /top\n"
        );
        for path in ["f", "top", "gone", "d", "d/mine", "d/new", "d/old", "n", "etc/hosts", "nope"]
        {
            let told = json(c.stratafs(&["explain", "m", path, "--json"]));
            let seen = c.sh(&format!("test -e m/{path}")).code == Some(0);
            assert_eq!(told["visible"], seen, "{path}: {told}");
        }
        let whole = c.stratafs(&["explain", "m/top"]).ok().out;
        assert_eq!(whole, c.stratafs(&["explain", "m", "top"]).ok().out);
        assert_eq!(store(c, &["rm", "box"]).code, Some(1));
        c.stratafs(&["umount", "m"]).ok();
        // by name, when it is not mounted
        let top = json(store(c, &["explain", "box", "/top", "--json"]));
        assert_eq!(top["layers"][0]["state"], "deletes");
        assert_eq!(top["layers"][0]["marker"]["form"], "character device 0:0");
        assert_eq!(top["layers"][2]["state"], "hidden-by-whiteout");
        let gone = store(c, &["explain", "t", "gone"]).ok().out;
        assert!(
            gone.ends_with("hides the file that layer 1 brought\n") && gone.contains(".wh.gone"),
            "{gone}"
        );
        assert_eq!(store(c, &["diff", "t"]).code, Some(1));
        store(c, &["rm", "box"]).ok();
    });
}

#[test]
fn containers_of_the_store_copy_up_attributes_alone() {
    with_image("metacopy", |c| {
        store(c, &["create", "t", "--name", "box"]).ok();
        store(c, &["mount", "box", "m"]).ok();
        c.sh("chmod 600 m/f && chmod 600 m/top && chmod 644 m/top && chmod 700 m/d").ok();
        assert_eq!(c.stratafs(&["diff", "m"]).ok().out, "C /d\nC /f\n");
        let f = json(c.stratafs(&["explain", "m", "f", "--json"]));
        let upper = &f["layers"][0];
        assert_eq!((&upper["state"], &upper["size"]), (&"provides".into(), &4.into()));
        assert_eq!(upper["mode"], "0600");
        c.stratafs(&["umount", "m"]).ok();
        // no byte of it is in the upper
        c.sh("test -z \"$(find store/overlay2 -path '*/diff/f' -perm 600 -exec cat {} + | tr -d '\\0')\"").ok();
        store(c, &["mount", "-o", "metacopy=off", "box", "m"]).ok();
        assert_eq!(c.sh("cat m/f m/top").ok().out, "low\ntop\n");
        c.sh("chmod 755 m/d/new && echo more >>m/f").ok();
        assert_eq!(c.sh("cat m/f").ok().out, "low\nmore\n");
        c.stratafs(&["umount", "m"]).ok();
        c.sh("cat store/overlay2/*/diff/f | grep -c more").ok();
        assert_eq!(store(c, &["diff", "box"]).ok().out, "C /d\nC /d/new\nC /f\n");
        store(c, &["rm", "box"]).ok();
    });
}

#[test]
fn plain_directories_are_explained_without_a_store() {
    with_image("directories", |c| {
        let options = "lowerdir=l2:l,upperdir=u";
        c.sh("echo changed >u/f && mknod u/top c 0 0").ok();
        let f = json(c.stratafs(&["explain", "-o", options, "f", "--json"]));
        assert_eq!((&f["layer"], &f["layers"][0]["kind"]), (&3.into(), &"upper".into()));
        assert_eq!(f["layers"][2]["directory"], "l");
        assert_eq!(c.stratafs(&["diff", "-o", options]).ok().out, "C /f\nD /top\n");
        assert_eq!(c.stratafs(&["layers", "-o", options]).ok().out.lines().count(), 4);
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    with_image("refusals", |c| {
        for (args, code, message) in [
            (&["explain", "t", "/a/../b"][..], 2, "without '..'"),
            (&["explain", "t"][..], 2, "what is meant"),
            (&["explain", "-o", "lowerdir=l", "t", "f"][..], 2, "either"),
            (&["layers", "nope"][..], 1, "no image and no container is called nope"),
            (&["layers", "./l"][..], 1, "nothing of ours is mounted on ./l"),
            (&["rm", "nope"][..], 1, "no container is called nope"),
        ] {
            let said = store(c, args);
            assert_eq!(said.code, Some(code), "{args:?} {said:?}");
            assert!(said.err.contains(message), "{args:?} {said:?}");
        }
    });
}

#[test]
fn explain_says_metacopy() {
    for user in mounters("explain of a metacopy") {
        let c = Case::new(user);
        let stack = "lowerdir=l,upperdir=u";
        c.sh("echo low >l/f && echo low >l/whole").ok();
        c.stratafs(&["-o", &format!("{stack},workdir=w,metacopy=on"), "m"]).ok();
        c.sh("chmod 600 m/f && echo up >m/whole").ok();
        c.stratafs(&["umount", "m"]).ok();
        let told = |path: &str| json(c.stratafs(&["explain", "-o", stack, path, "--json"]));
        let f = told("f");
        assert!(f["layers"][0]["metacopy"].as_str().unwrap().contains("overlay.metacopy"), "{f}");
        assert_eq!(f["layers"][1]["metacopy"], Value::Null);
        let verdict = f["verdict"].as_str().unwrap();
        assert!(verdict.contains("metacopy") && verdict.contains("layer 1 the data"), "{verdict}");
        assert_eq!(told("whole")["layers"][0]["metacopy"], Value::Null);
        let text = c.stratafs(&["explain", "-o", stack, "f"]).ok().out;
        assert!(text.contains("file (metacopy)"), "{text}");
    }
}

#[test]
fn the_demo_shows_everything_and_leaves_nothing() {
    for user in mounters("demo") {
        let c = Case::new(user);
        let demo = |options: &str| {
            // outside of the project it makes its own mount points
            c.sh(&format!(
                "mkdir -p tmp; unset CARGO_MANIFEST_DIR; TMPDIR=$PWD/tmp $STRATAFS demo {options}"
            ))
            .ok()
        };
        let said = demo("");
        for line in [
            "color = green",
            "c--------- 0:0",
            "D /etc/motd",
            "A /doc/new.txt",
            "hides the file that layer 1 brought",
        ] {
            assert!(said.out.contains(line), "{line}: {}", said.out);
        }
        assert_eq!(said.err, "");
        assert_eq!(c.sh("ls -A tmp").ok().out, "");
        let steps = json(demo("--json"));
        let fields: Vec<&String> = steps[0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["explanation", "command", "output"]);
        let kept = demo("--keep").out;
        let end = kept.split("To end it:").nth(1).unwrap();
        assert!(c.sh("ls tmp/*/mountpoints/demo").ok().out.contains("app"));
        c.sh(&format!("cd tmp/*/ && stratafs() {{ $STRATAFS \"$@\"; }}\n{end}")).ok();
        assert_eq!(c.sh("ls -A tmp").ok().out, "");
    }
}
