//! A small writer of images: layers, and every form in which an image can be packed.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::Path;

/// Returns `sha256:` and the digits.
pub(crate) fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex(data))
}

/// Returns the digits alone.
pub(crate) fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    z.write_all(data).unwrap();
    z.finish().unwrap()
}

/// A skippable frame, then two frames.
pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    let (a, b) = data.split_at(data.len() / 2);
    let frame = |d: &[u8]| zstd::encode_all(d, 1).unwrap();
    [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 9, 9, 9, 9][..], &frame(a), &frame(b)].concat()
}

/// A tar in the making.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn put(mut self, kind: tar::EntryType, name: &str, link: &str, data: &[u8]) -> Tar {
        let mut h = tar::Header::new_ustar();
        // the builder refuses hostile names, so they go in by hand
        let n = name.as_bytes();
        h.as_old_mut().name[..n.len()].copy_from_slice(n);
        h.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        h.set_entry_type(kind);
        h.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(1_700_000_000);
        h.set_size(data.len() as u64);
        h.set_cksum();
        self.0.append(&h, data).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Tar {
        self.put(tar::EntryType::Regular, name, "", data.as_ref())
    }

    pub(crate) fn dir(self, name: &str) -> Tar {
        self.put(tar::EntryType::Directory, name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, to: &str) -> Tar {
        self.put(tar::EntryType::Symlink, name, to, b"")
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Tar {
        self.put(tar::EntryType::Link, name, to, b"")
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image to pack: layers as plain tars, bottom first.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) name: String,
    pub(crate) arch: String,
}

impl Image {
    pub(crate) fn new(name: &str, layers: Vec<Vec<u8>>) -> Image {
        Image { layers, name: name.to_owned(), arch: "amd64".to_owned() }
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let ids: Vec<String> = self.layers.iter().map(|l| digest(l)).collect();
        json!({
            "architecture": self.arch, "os": "linux", "zz-unknown": [1, 2],
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
            "history": ids.iter().map(|i| json!({"created_by": i})).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes()
    }

    /// Adds the image to a layout and returns its descriptor, without annotations.
    pub(crate) fn put(&self, layout: &mut Layout, pack: fn(&[u8]) -> Vec<u8>) -> Value {
        let config = layout.blob("application/vnd.oci.image.config.v1+json", self.config());
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|l| layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", pack(l)))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let bytes = manifest.to_string().into_bytes();
        layout.blob("application/vnd.oci.image.manifest.v1+json", bytes)
    }

    /// Packs it as an OCI layout under its name.
    pub(crate) fn layout(&self, pack: fn(&[u8]) -> Vec<u8>) -> Layout {
        let mut layout = Layout::default();
        let descriptor = self.put(&mut layout, pack);
        layout.list(descriptor, Some(&self.name));
        layout
    }

    /// `docker save` up to Docker 24: a directory per layer, a link where a layer occurs twice.
    pub(crate) fn docker_v1(&self) -> Vec<u8> {
        let mut tar = Tar::new();
        let mut names: Vec<String> = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let dir = hex(format!("v1-{i}").as_bytes());
            let name = format!("{}/layer.tar", &dir[..30]);
            tar = tar
                .dir(&format!("{}/", &dir[..30]))
                .file(&format!("{}/VERSION", &dir[..30]), "1.0");
            tar = match self.layers[..i].iter().position(|l| l == layer) {
                Some(same) => tar.symlink(&name, &format!("../{}", names[same])),
                None => tar.file(&name, layer),
            };
            names.push(name);
        }
        let config = format!("{}.json", hex(&self.config()));
        tar.file(&config, self.config())
            .file("manifest.json", self.manifest_json(&config, &names))
            .file("repositories", "{}")
            .end()
    }

    /// skopeo's: layers named by their digest, the manifest at the end.
    pub(crate) fn docker_skopeo(&self) -> Vec<u8> {
        let names: Vec<String> = self.layers.iter().map(|l| format!("{}.tar", hex(l))).collect();
        let mut tar = Tar::new();
        for (name, layer) in names.iter().zip(&self.layers) {
            tar = tar.file(name, layer);
        }
        let config = format!("{}.json", hex(&self.config()));
        tar.file(&config, self.config())
            .symlink("legacy/layer.tar", &format!("../{}", names[0]))
            .file("manifest.json", self.manifest_json(&config, &names))
            .end()
    }

    /// Docker 25 and later: an OCI layout with a `manifest.json` beside.
    pub(crate) fn docker_oci(&self) -> Vec<u8> {
        let mut layout = Layout::default();
        let descriptor = self.put(&mut layout, <[u8]>::to_vec);
        layout.list(descriptor, None);
        let names: Vec<String> =
            self.layers.iter().map(|l| format!("blobs/sha256/{}", hex(l))).collect();
        let config = format!("blobs/sha256/{}", hex(&self.config()));
        let manifest = self.manifest_json(&config, &names);
        layout.extra.push(("manifest.json".to_owned(), manifest));
        layout.tar("")
    }

    fn manifest_json(&self, config: &str, layers: &[String]) -> Vec<u8> {
        json!([{"Config": config, "RepoTags": [self.name], "Layers": layers}])
            .to_string()
            .into_bytes()
    }
}

/// An OCI layout in the making.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
    pub(crate) manifests: Vec<Value>,
    pub(crate) extra: Vec<(String, Vec<u8>)>,
}

impl Layout {
    pub(crate) fn blob(&mut self, media_type: &str, data: Vec<u8>) -> Value {
        let d = json!({"mediaType": media_type, "digest": digest(&data), "size": data.len()});
        let path = format!("blobs/sha256/{}", hex(&data));
        if !self.blobs.iter().any(|(p, _)| *p == path) {
            self.blobs.push((path, data));
        }
        d
    }

    pub(crate) fn list(&mut self, mut descriptor: Value, name: Option<&str>) {
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = self.blobs.clone();
        all.extend(self.extra.clone());
        all.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        all.push(("index.json".to_owned(), index.to_string().into_bytes()));
        all
    }

    /// As a tar, each name behind `prefix`, `index.json` last.
    pub(crate) fn tar(&self, prefix: &str) -> Vec<u8> {
        let add =
            |tar: Tar, (name, data): (String, Vec<u8>)| tar.file(&format!("{prefix}{name}"), data);
        self.files().into_iter().fold(Tar::new(), add).end()
    }

    /// As a directory.
    pub(crate) fn dir(&self, at: &Path) {
        for (name, data) in self.files() {
            let path = at.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, data).unwrap();
        }
    }
}
