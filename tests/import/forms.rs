//! Every form of a source gives the same layers and the same image.

use super::archive::{Image, Layout, Tar, gzip, zstd};
use super::support::{Bench, assert_same};
use serde_json::json;
use std::path::Path;
use stratafs::id::{Hash, ImageId};
use stratafs::image::{Form, Input, SourceOptions};

pub(crate) fn layers() -> Vec<Vec<u8>> {
    let base = Tar::new().dir("etc/").file("etc/a", "one").file("etc/b", "two").dir("d/");
    let base = base.file("d/x", "x").symlink("l", "/etc/a").hard_link("etc/c", "etc/a");
    let top = Tar::new().dir("etc/").file("etc/.wh.b", "").file("etc/a", vec![b'y'; 70_000]);
    let empty = Tar::new();
    vec![base.end(), top.end(), empty.end()]
}

fn image() -> Image {
    Image::new("docker.io/library/test:1", layers())
}

#[test]
fn all_forms_give_the_same_store() {
    let image = image();
    let id = ImageId::new(Hash::of(&image.config()));
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("docker v1", image.docker_v1()),
        ("skopeo", image.docker_skopeo()),
        ("docker 25", image.docker_oci()),
        ("docker | gzip", gzip(&image.docker_v1())),
        ("docker | zstd", zstd(&image.docker_v1())),
        ("oci gzip", image.layout(gzip).tar("")),
        ("oci zstd", image.layout(zstd).tar("./")),
        ("oci plain, gzip outside", gzip(&image.layout(<[u8]>::to_vec).tar("./"))),
    ];
    let mut first = None;
    for (form, data) in forms {
        let b = Bench::new();
        let done = b.import(&b.write("a.tar", &data)).unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!(done.len(), 1, "{form}");
        assert_eq!((done[0].id, done[0].shared_layers), (id, 0), "{form}");
        assert_eq!(done[0].references[0].to_string(), "test:1", "{form}");
        assert_eq!(b.store.image_config(&id).unwrap().unwrap(), image.config(), "{form}");
        let now = b.snapshot();
        assert_eq!(now["count/overlay2"], "4", "{form}");
        assert_same(first.get_or_insert_with(|| now.clone()), &now, form);
    }
    let b = Bench::new();
    image.layout(gzip).dir(&b.path("layout"));
    b.import(&b.path("layout")).unwrap();
    assert_same(&first.unwrap(), &b.snapshot(), "layout directory");
}

#[test]
fn a_stream_is_read_like_a_file() {
    let (file, stream) = (Bench::new(), Bench::new());
    for data in [image().docker_v1(), image().layout(gzip).tar("")] {
        file.import(&file.write("a.tar", &data)).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::spawn(move || {
            use std::io::Write;
            writer.write_all(&data).unwrap();
        });
        let pipe = std::os::fd::OwnedFd::from(reader);
        stream.import_with(Input::Stream(pipe.into()), &stream.options()).unwrap();
        feeder.join().unwrap();
    }
    assert_same(&file.snapshot(), &stream.snapshot(), "stream");
}

#[test]
fn a_second_import_reads_no_layer_that_is_there() {
    let b = Bench::new();
    b.import(&b.write("a.tar", &image().docker_v1())).unwrap();
    let mut bigger = image();
    bigger.layers.push(Tar::new().file("new", "n").end());
    bigger.name = "other".to_owned();
    // the lower layers' blobs are not even in this archive
    let mut layout = bigger.layout(gzip);
    let missing: Vec<String> = bigger.layers[..3]
        .iter()
        .map(|l| format!("blobs/sha256/{}", super::archive::hex(&gzip(l))))
        .collect();
    layout.blobs.retain(|(path, _)| !missing.contains(path));
    let done = b.import(&b.write("b.tar", &layout.tar(""))).unwrap();
    assert_eq!((done[0].shared_layers, done[0].layers.len()), (3, 4));
    assert_eq!(b.snapshot()["count/overlay2"], "5");
}

#[test]
fn several_images_come_together_or_one_by_name() {
    let mut layout = Layout::default();
    for i in 0..3 {
        let mut image = image();
        image.layers.truncate(i + 1);
        let d = image.put(&mut layout, gzip);
        layout.list(d, Some(&format!("v{i}")));
    }
    let b = Bench::new();
    let path = b.write("app.oci.tar", &layout.tar(""));
    let all = b.import(&path).unwrap();
    let names: Vec<String> = all.iter().map(|i| i.references[0].to_string()).collect();
    assert_eq!(names, ["app:v0", "app:v1", "app:v2"]);
    for wanted in ["v1", "app:v1", "@1"] {
        let options = SourceOptions { reference: Some(wanted.to_owned()), ..b.options() };
        let one = b.import_with(Input::Path(path.clone()), &options).unwrap();
        assert_eq!(one[0].id, all[1].id, "{wanted}");
    }
    let options = SourceOptions { reference: Some("v9".to_owned()), ..b.options() };
    let e = b.import_with(Input::Path(path.clone()), &options).unwrap_err();
    assert!(e.contains("v0, v1, v2"), "{e}");
}

#[test]
fn the_platform_chooses() {
    let mut layout = Layout::default();
    let mut items = Vec::new();
    for arch in ["arm64", "amd64", "s390x"] {
        let mut image = image();
        image.arch = arch.to_owned();
        let mut d = image.put(&mut layout, gzip);
        d["platform"] = json!({"os": "linux", "architecture": arch});
        items.push(d);
    }
    let attestation = json!({"schemaVersion": 2, "layers": [], "config": items[0]});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut d = layout.blob(kind, attestation.to_string().into_bytes());
    d["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    d["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    items.insert(0, d);
    let index = json!({"schemaVersion": 2, "manifests": items});
    let kind = "application/vnd.oci.image.index.v1+json";
    let d = layout.blob(kind, index.to_string().into_bytes());
    layout.list(d, Some("multi"));
    let b = Bench::new();
    let path = b.write("multi.tar", &layout.tar(""));
    let import = |platform: &str| {
        let options = SourceOptions { platform: Some(platform.parse().unwrap()), ..b.options() };
        b.import_with(Input::Path(path.clone()), &options)
    };
    for arch in ["arm64", "amd64", "s390x"] {
        let done = import(&format!("linux/{arch}")).unwrap();
        let config = b.store.image_config(&done[0].id).unwrap().unwrap();
        assert!(String::from_utf8(config).unwrap().contains(arch));
    }
    let e = import("linux/riscv64").unwrap_err();
    assert!(e.contains("linux/arm64, linux/amd64, linux/s390x"), "{e}");
}

#[test]
fn a_root_file_system_is_an_image_of_one_layer() {
    let b = Bench::new();
    let tar = &layers()[0];
    for (name, data) in [("r.tar", tar.clone()), ("r.tgz", gzip(tar)), ("r.tzst", zstd(tar))] {
        let done = b.import(&b.write(name, &data)).unwrap();
        assert_eq!(done[0].layers.len(), 1);
        assert_eq!(done[0].layers[0].hash(), Hash::of(tar), "{name}");
        assert!(done[0].references.is_empty());
    }
    let root = b.path("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/x"), b"hello").unwrap();
    std::os::unix::fs::symlink("etc/x", root.join("s")).unwrap();
    std::fs::hard_link(root.join("etc/x"), root.join("etc/y")).unwrap();
    let twice = [b.import(&root).unwrap(), b.import(&root).unwrap()];
    assert_eq!(twice[0][0].layers, twice[1][0].layers);
    assert_eq!(twice[1][0].shared_layers, 0);
    let layer = b.store.layer(&twice[0][0].layers[0]).unwrap().unwrap();
    let diff = b.store.root().join("overlay2").join(layer.cache.as_str()).join("diff");
    assert_eq!(std::fs::read(diff.join("etc/y")).unwrap(), b"hello");
    assert_eq!(std::fs::read_link(diff.join("s")).unwrap(), Path::new("etc/x"));
    assert_eq!(layer.size, 5 + 5);
}

#[test]
fn a_tree_that_holds_the_store_ends() {
    let b = Bench::new();
    b.write("file", b"f");
    let done = b.import(b.tmp.path()).unwrap();
    let layer = b.store.layer(&done[0].layers[0]).unwrap().unwrap();
    let diff = b.store.root().join("overlay2").join(layer.cache.as_str()).join("diff");
    assert!(diff.join("file").exists() && !diff.join("store").exists());
    assert!(b.import(b.store.root()).unwrap_err().contains("hold itself"));
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let b = Bench::new();
    let root = b.path("root");
    std::fs::create_dir(&root).unwrap();
    let file = std::fs::File::create(root.join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"middle", 32 << 20).unwrap();
    let done = b.import(&root).unwrap();
    let layer = b.store.layer(&done[0].layers[0]).unwrap().unwrap();
    let diff = b.store.root().join("overlay2").join(layer.cache.as_str()).join("diff");
    let copy = std::fs::File::open(diff.join("sparse")).unwrap();
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() < 2048, "{} blocks", meta.blocks());
    let mut text = [0; 8];
    copy.read_exact_at(&mut text, (32 << 20) - 1).unwrap();
    assert_eq!(&text, b"\0middle\0");
}

#[test]
fn a_form_can_be_said() {
    let b = Bench::new();
    let path = b.write("a.tar", &image().docker_oci());
    for (form, layers) in [(Form::DockerArchive, 3), (Form::Oci, 3), (Form::Rootfs, 1)] {
        let options = SourceOptions { form, ..b.options() };
        let done = b.import_with(Input::Path(path.clone()), &options).unwrap();
        assert_eq!(done[0].layers.len(), layers, "{form:?}");
    }
}
