//! A small image, made in memory: what `docker save` would write of a build of five steps.

use crate::id::{DiffId, Hash};
use crate::image::Platform;
use serde_json::json;
use std::io;

/// Name of the image.
pub(super) const NAME: &str = "demo:latest";

/// 2026-01-01 00:00 UTC, so that every run makes the same image.
const MADE: u64 = 1_767_225_600;

/// Returns the image as a docker-archive.
pub(super) fn archive() -> io::Result<Vec<u8>> {
    let steps = steps()?;
    let platform = Platform::host();
    let diff_ids: Vec<DiffId> = steps.iter().map(|s| DiffId::new(Hash::of(&s.tar))).collect();
    let created = "2026-01-01T00:00:00Z";
    let history: Vec<_> =
        steps.iter().map(|s| json!({ "created": created, "created_by": s.by })).collect();
    let config = json!({
        "architecture": platform.architecture,
        "config": { "Cmd": ["/app/run"] },
        "created": created,
        "history": history,
        "os": platform.os,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let names: Vec<String> = (1..=steps.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": names }]);

    let mut all = Layer::default();
    for (name, step) in names.iter().zip(&steps) {
        all.put(name, tar::EntryType::Regular, 0o644, &step.tar)?;
    }
    all.put("config.json", tar::EntryType::Regular, 0o644, config.as_bytes())?;
    all.put("manifest.json", tar::EntryType::Regular, 0o644, manifest.to_string().as_bytes())?;
    all.finish()
}

struct Step {
    by: &'static str,
    tar: Vec<u8>,
}

fn steps() -> io::Result<Vec<Step>> {
    let mut out = Vec::new();
    let mut step = |by, fill: &dyn Fn(&mut Layer) -> io::Result<()>| -> io::Result<()> {
        let mut layer = Layer::default();
        fill(&mut layer)?;
        out.push(Step { by, tar: layer.finish()? });
        Ok(())
    };
    step("ADD rootfs.tar /", &|l| {
        l.dirs(&["etc", "app", "app/cache", "doc"])?;
        l.file("etc/motd", "Welcome.\n")?;
        l.file("etc/issue", "A very small system\n")?;
        l.file("app/config", "color = blue\n")?;
        l.file("app/cache/old-1", "stale\n")?;
        l.file("app/cache/old-2", "stale\n")?;
        l.file("doc/base.txt", "About the base.\n")
    })?;
    step("COPY app /app", &|l| {
        l.dirs(&["app"])?;
        l.put("app/run", tar::EntryType::Regular, 0o755, b"#!/bin/sh\ncat /app/config\n")?;
        l.file("app/config", "color = green\n")
    })?;
    step("RUN install-docs", &|l| {
        l.dirs(&["doc"])?;
        l.file("doc/app.txt", "About the app.\n")
    })?;
    step("RUN rm /etc/issue", &|l| {
        l.dirs(&["etc"])?;
        l.file("etc/.wh.issue", "")
    })?;
    step("RUN rm -r /app/cache && mkdir /app/cache && touch /app/cache/new", &|l| {
        l.dirs(&["app", "app/cache"])?;
        l.file("app/cache/.wh..wh..opq", "")?;
        l.file("app/cache/new", "")
    })?;
    Ok(out)
}

struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    fn put(&mut self, name: &str, kind: tar::EntryType, mode: u32, data: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(MADE);
        header.set_size(data.len() as u64);
        self.0.append_data(&mut header, name, data)
    }

    fn dirs(&mut self, names: &[&str]) -> io::Result<()> {
        names
            .iter()
            .try_for_each(|n| self.put(&format!("{n}/"), tar::EntryType::Directory, 0o755, b""))
    }

    fn file(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.put(name, tar::EntryType::Regular, 0o644, text.as_bytes())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_makes_the_same_image() {
        assert_eq!(Hash::of(&archive().unwrap()), Hash::of(&archive().unwrap()));
    }
}
