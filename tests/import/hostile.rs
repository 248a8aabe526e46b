//! What is wrong is refused, with an error that says where, and leaves the store as it was.

use super::archive::{Image, Layout, Tar, digest, gzip, hex};
use super::support::{Bench, assert_same};
use serde_json::{Value, json};

fn good() -> Image {
    Image::new("good", super::forms::layers())
}

/// Imports something good, then the bad thing, and compares the store before and after.
fn refused(what: &str, data: &[u8], words: &[&str]) {
    let b = Bench::new();
    b.import(&b.write("good.tar", &good().docker_v1())).unwrap();
    let before = b.snapshot();
    match b.import(&b.write("bad.tar", data)) {
        Ok(_) => panic!("{what}: accepted"),
        Err(e) => {
            for w in words {
                assert!(e.contains(w), "{what}: {w:?} is not in {e:?}");
            }
        }
    }
    assert_same(&before, &b.snapshot(), what);
    b.import(&b.write("good2.tar", &good().docker_skopeo())).unwrap();
}

/// Two good images and two bad ones in one layout: one whose config is broken and one with a bad
/// layer.
#[test]
fn a_bad_image_does_not_stop_the_others() {
    let evil = Image::new("evil", vec![Tar::new().file("../out", "x").end()]);
    let mut layout = Layout::default();
    let broken = {
        let mut other = Layout::default();
        Image::new("broken", vec![Tar::new().file("b", "x").end()]).put(&mut other, gzip)
    };
    // its manifest is in another layout
    layout.list(broken, Some("broken:1"));
    for image in [&good(), &evil, &other()] {
        let descriptor = image.put(&mut layout, gzip);
        layout.list(descriptor, Some(&format!("{}:1", image.name)));
    }
    let b = Bench::new();
    let archive = b.write("a.tar", &layout.tar(""));
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stratafs"));
        let store = b.path("cli");
        command.arg("--root").arg(store).args(["--quiet", "import"]).arg(&archive).args(more);
        let out = command.output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let (code, out, err) = run(&[]);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out, "Loaded image: good:1\nLoaded image: other:1\n", "{err}");
    for words in ["image broken:1: ", "image evil:1: layer 1 of 1", "../out", "2 of 4 images"] {
        assert!(err.contains(words), "{words:?} is not in {err}");
    }
    // one alone
    let (code, out, err) = run(&["--ref", "evil:1"]);
    assert_eq!((code, &out[..], err.lines().count()), (Some(1), "", 1), "{err}");
    assert_eq!(run(&["--ref", "other:1"]).0, Some(0));
}

fn other() -> Image {
    let more = Tar::new().file("big", vec![b'b'; 300_000]).end();
    Image::new("other", vec![super::forms::layers().remove(1), more, Tar::new().end()])
}

#[test]
fn damaged_blobs() {
    let damage = |change: fn(&mut Vec<u8>)| {
        let mut layout = other().layout(gzip);
        let path = format!("blobs/sha256/{}", hex(&gzip(&other().layers[1])));
        let blob = layout.blobs.iter_mut().find(|(p, _)| *p == path).unwrap();
        change(&mut blob.1);
        layout.tar("")
    };
    let at = ["other", "layer 2 of 3"];
    let with = |w: &'static str| [&at[..], &[w]].concat();
    let flip = damage(|b| *b.last_mut().unwrap() ^= 1);
    refused("a flipped bit at the end", &flip, &with("digest"));
    refused("a flipped bit", &damage(|b| b[200] ^= 1), &with("digest"));
    refused("cut short", &damage(|b| b.truncate(100)), &with("descriptor says"));
    refused("too long", &damage(|b| b.push(0)), &with("descriptor says"));
    let mut gone = other().layout(gzip);
    gone.blobs.retain(|(p, _)| !p.ends_with(&hex(&gzip(&other().layers[1]))));
    refused("a missing blob", &gone.tar(""), &with("missing"));
}

#[test]
fn layers_that_are_not_those_of_the_config() {
    let mut image = other();
    let config = image.config();
    image.layers[1] = Tar::new().file("big", vec![b'c'; 300_000]).end();
    let swap = |image: &Image| {
        let mut layout = Layout::default();
        let config = layout.blob("application/vnd.oci.image.config.v1+json", config.clone());
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|l| layout.blob("application/vnd.oci.image.layer.v1.tar", l.clone()))
            .collect();
        let manifest = json!({"config": config, "layers": layers}).to_string().into_bytes();
        let d = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest);
        layout.list(d, Some("swapped"));
        layout.tar("")
    };
    refused("another layer", &swap(&image), &["swapped", "layer 2 of 3", "config says"]);
    image.layers.pop();
    refused("a layer too few", &swap(&image), &["2 layers", "has 3"]);
    let truncated = &other().docker_skopeo()[..100_000];
    refused("a truncated archive", truncated, &["breaks off"]);
}

#[test]
fn hostile_entries_name_the_entry() {
    let cases: Vec<(&str, Tar, &str)> = vec![
        ("dotdot", Tar::new().file("a/../../evil", "x"), "evil"),
        ("whiteout of dotdot", Tar::new().file("a/.wh...", ""), ".wh..."),
        ("a link to the outside", Tar::new().hard_link("h", "../../etc/passwd"), "h"),
        ("a link to nothing", Tar::new().hard_link("h", "none"), "none"),
    ];
    for (what, tar, word) in cases {
        let image = Image::new("evil", vec![Tar::new().file("f", "f").end(), tar.end()]);
        refused(what, &image.docker_skopeo(), &["evil", "layer 2 of 2", word]);
    }
    let mut cut = Tar::new().file("big", vec![1; 100_000]).end();
    cut.truncate(50_000);
    let image = Image::new("cut", vec![cut]);
    refused("a truncated layer", &image.docker_skopeo(), &["cut", "layer 1 of 1", "big"]);
}

#[test]
fn documents_that_are_none() {
    let docker = |manifest: &str| Tar::new().file("manifest.json", manifest).end();
    for (what, json) in [
        ("null", "null"),
        ("no JSON", "["),
        ("a wrong shape", r#"{"Config":"x"}"#),
        ("no such config", r#"[{"Config":"x.json","Layers":[]}]"#),
        ("a config outside", r#"[{"Config":"../../etc/passwd","Layers":[]}]"#),
    ] {
        refused(what, &docker(json), &[]);
    }
    let huge = format!("[{}", " ".repeat(5 << 20));
    refused("a huge manifest", &docker(&huge), &["limit"]);
    let mut layout = Layout::default();
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut d = layout.blob("application/vnd.oci.image.manifest.v1+json", b"{}".to_vec());
    for _ in 0..12 {
        let index = json!({"schemaVersion": 2, "manifests": [d]}).to_string().into_bytes();
        d = layout.blob(kind, index);
    }
    layout.list(d, Some("deep"));
    refused("indexes within indexes", &layout.tar(""), &["indexes within each other"]);
}

#[test]
fn thousands_of_layers() {
    let layer = Tar::new().end();
    let image = Image::new("many", vec![layer.clone(); 2000]);
    refused("thousands of layers", &image.docker_v1(), &["layers", "500"]);
    let b = Bench::new();
    let ids = vec![digest(&layer); 2];
    let config = json!({"rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
    let manifest = json!([{"Config": "c.json", "Layers": ["l", "l"], "RepoTags": null}]);
    let tar = Tar::new().file("c.json", config).file("l", &layer);
    let tar = tar.file("manifest.json", manifest.to_string()).end();
    let done = b.import(&b.write("two.tar", &tar)).unwrap();
    assert_eq!(done[0].layers.len(), 2);
}

#[test]
fn a_layout_directory_is_not_left() {
    let b = Bench::new();
    let secret = b.write("secret", &other().layers[1]);
    let dir = b.path("layout");
    other().layout(<[u8]>::to_vec).dir(&dir);
    let blob = dir.join(format!("blobs/sha256/{}", hex(&other().layers[1])));
    std::fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(&secret, &blob).unwrap();
    let before = b.snapshot();
    // the digest would be right: only that it is a symlink speaks against it
    assert!(b.import(&dir).unwrap_err().contains("layer 2 of 3"));
    assert_same(&before, &b.snapshot(), "symlink");
}

/// Whatever only the last steps would refuse must be found before the layers are committed.
#[test]
fn nothing_is_left_when_the_config_or_the_name_is_refused() {
    let layer = Tar::new().file("new", "new").end();
    let with = |config: &str, name: &str| {
        let manifest = json!([{"Config": "c.json", "Layers": ["l"], "RepoTags": [name]}]);
        let tar = Tar::new().file("c.json", config).file("l", &layer);
        tar.file("manifest.json", manifest.to_string()).end()
    };
    let rootfs = json!({"type": "layers", "diff_ids": [digest(&layer)]});
    let plain = json!({ "rootfs": rootfs }).to_string();
    refused("a name like a digest", &with(&plain, "sha256:1"), &["sha256"]);
    refused("an id as a name", &with(&plain, &format!("{}:1", hex(&layer))), &["image id"]);
    let deep =
        format!(r#"{{"rootfs":{rootfs},"x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    // an unknown member is none of ours, whatever it holds
    for (config, name) in
        [(deep.as_str(), "deep:1"), (&plain, "[::1]:80/x:1"), (&plain, "Upper/x:1")]
    {
        let b = Bench::new();
        b.import(&b.write("a.tar", &with(config, name))).unwrap();
    }
}

/// The sizes of absent blobs are what the manifest says; their sum is not to overflow.
#[test]
fn huge_sizes_that_add_up() {
    let mut layout = Layout::default();
    let blob = |c: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{}", c.repeat(64)),
            "size": i64::MAX,
        })
    };
    let ids: Vec<String> = ["a", "b", "c"].map(|c| format!("sha256:{}", c.repeat(64))).into();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": ids}}).to_string().into_bytes();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config);
    let layers = ["a", "b", "c"].map(blob);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let d = layout.blob(kind, manifest.to_string().into_bytes());
    layout.list(d, Some("huge"));
    refused("huge sizes", &layout.tar(""), &["huge", "layer"]);
}
