//! Layers for benches: made up, written as an OCI layout that any tool can read.

#![allow(clippy::print_stdout, dead_code)]

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stratafs::id::{DiffId, Hash};

/// The tag of the image in the layout.
pub(crate) const REF: &str = "bench";

/// Some reproducible noise, about as compressible as programs are.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 64);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
        out.extend_from_slice(b"the same words in every file, again ");
        let back = (x % 200) as usize;
        out.extend_from_slice(&[back as u8; 12]);
    }
    out.truncate(len);
    out
}

/// A layer's tar: `files` files in directories of 40, each of a length around `len`; a directory
/// that all layers share, and a whiteout of a file of the layer below.
pub(crate) fn layer(number: usize, files: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let mut b = tar::Builder::new(Vec::new());
    let mut put = |name: &str, kind, data: &[u8]| {
        let mut h = tar::Header::new_ustar();
        h.set_entry_type(kind);
        h.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        h.set_mtime(1_700_000_000);
        h.set_size(data.len() as u64);
        b.append_data(&mut h, name, data)
    };
    use tar::EntryType::{Directory, Regular};
    put("shared/", Directory, b"")?;
    put(&format!("shared/l{number}"), Regular, b"here")?;
    if number > 0 {
        put(&format!("shared/.wh.l{}", number - 1), Regular, b"")?;
    }
    for f in 0..files {
        if f % 40 == 0 {
            put(&format!("opt/package-{number}/dir-{:04}/", f / 40), Directory, b"")?;
        }
        let seed = (number * 1_000_003 + f) as u64;
        // most files are small, some large
        let len = if f % 50 == 49 { len * 20 } else { len / 2 + (seed as usize * 7919) % len };
        let name = format!("opt/package-{number}/dir-{:04}/file-{f:06}", f / 40);
        put(&name, Regular, &content(seed, len))?;
    }
    b.into_inner()
}

fn put_blob(dir: &Path, data: &[u8]) -> std::io::Result<(String, u64)> {
    let digest = DiffId::new(Hash::of(data)).to_string();
    std::fs::write(dir.join("blobs").join(digest.replace(':', "/")), data)?;
    Ok((digest, data.len() as u64))
}

/// Writes an OCI layout of these layers, gzipped, into an empty directory.
pub(crate) fn layout(dir: &Path, layers: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.join("blobs/sha256"))?;
    let descriptor = |kind: &str, (digest, size): (String, u64)| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    let (mut diff_ids, mut blobs) = (Vec::new(), Vec::new());
    for tar in layers {
        diff_ids.push(DiffId::new(Hash::of(&tar)));
        let mut gz = GzEncoder::new(Vec::new(), Compression::new(6));
        gz.write_all(&tar)?;
        blobs.push(descriptor("layer.v1.tar+gzip", put_blob(dir, &gz.finish()?)?));
    }
    let platform = stratafs::image::Platform::host();
    let config = json!({"architecture": platform.architecture, "os": platform.os, "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = descriptor("config.v1+json", put_blob(dir, config.to_string().as_bytes())?);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": blobs,
        "mediaType": "application/vnd.oci.image.manifest.v1+json"});
    let mut manifest =
        descriptor("manifest.v1+json", put_blob(dir, manifest.to_string().as_bytes())?);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": REF});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(dir.join("index.json"), index.to_string())?;
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// Returns the layers' files of the image with this tag, or of the first, bottom first.
pub(crate) fn blobs(
    layout: &Path,
    tag: Option<&str>,
) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let read = |p: PathBuf| -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&std::fs::read(p)?)?)
    };
    let at = |d: &Value| -> Result<PathBuf, Box<dyn std::error::Error>> {
        let digest = d["digest"].as_str().ok_or("a descriptor without a digest")?;
        Ok(layout.join("blobs").join(digest.replace(':', "/")))
    };
    let index = read(layout.join("index.json"))?;
    let all = index["manifests"].as_array().ok_or("an index without manifests")?;
    let name = |m: &Value| m["annotations"]["org.opencontainers.image.ref.name"].clone();
    let found = all.iter().find(|m| tag.is_none_or(|t| name(m) == t));
    let manifest = read(at(found.ok_or("no such image in the layout")?)?)?;
    manifest["layers"].as_array().ok_or("a manifest without layers")?.iter().map(at).collect()
}

/// Returns the smallest and the middle of some times, in milliseconds.
pub(crate) fn summary(times: &mut [Duration]) -> (f64, f64) {
    times.sort();
    let ms = |d: Option<&Duration>| d.map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    (ms(times.first()), ms(times.get(times.len() / 2)))
}

/// Returns how often to measure: the variable `STRATAFS_BENCH_ROUNDS`, or this.
pub(crate) fn rounds(usual: usize) -> usize {
    let given = std::env::var("STRATAFS_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok());
    given.unwrap_or(usual).max(1)
}
