//! A store in a temporary directory, and what it holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stratafs::image::{Input, SourceImage, SourceOptions, open_source};
use stratafs::import::{ImportOptions, Imported, Silent, import};
use stratafs::store::Store;
use stratafs::sys::Dir;

pub(crate) struct Bench {
    pub(crate) tmp: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("store"), true).unwrap();
        Bench { tmp, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, data).unwrap();
        path
    }

    pub(crate) fn options(&self) -> SourceOptions {
        SourceOptions::new(Dir::open(self.store.root()).unwrap())
    }

    /// Imports with these options; the error as a person reads it.
    pub(crate) fn import_with(
        &self,
        input: Input,
        options: &SourceOptions,
    ) -> Result<Vec<Imported>, String> {
        let source = open_source(input, options).map_err(|e| e.to_string())?;
        if let Some(e) = source.broken.first() {
            return Err(e.to_string());
        }
        self.import_images(source.images, None)
    }

    pub(crate) fn import_images(
        &self,
        images: Vec<SourceImage>,
        name: Option<&str>,
    ) -> Result<Vec<Imported>, String> {
        let name = name.map(|n| n.parse().unwrap());
        let options = ImportOptions { name, ..ImportOptions::new(&Silent) };
        let report = import(&self.store, images, &options).map_err(|e| e.to_string())?;
        match report.failed.first() {
            Some(e) => Err(e.to_string()),
            None => Ok(report.imported),
        }
    }

    pub(crate) fn import(&self, path: &Path) -> Result<Vec<Imported>, String> {
        self.import_with(Input::Path(path.to_owned()), &self.options())
    }

    /// Everything in the store that does not depend on random names: each layer's files and tree,
    /// the images, the names, and how many directories of each kind there are.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, String> {
        snapshot(self.store.root())
    }
}

pub(crate) fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let read = |p: PathBuf| std::fs::read(&p).map_or_else(|e| e.to_string(), |d| text(&d));
    let layerdb = root.join("image/overlay2/layerdb/sha256");
    for chain in names(&layerdb) {
        let dir = layerdb.join(&chain);
        for name in names(&dir) {
            let data = std::fs::read(dir.join(&name)).unwrap();
            let data = match name.as_str() {
                // both name what is random: layer directories, and inodes with their times
                "cache-id" | "stratafs.stack" => continue,
                // its header names the layer directory, whose name is random
                "stratafs.index" => data.get(112..).unwrap_or_default(),
                _ => &data[..],
            };
            out.insert(format!("layer/{chain}/{name}"), text(data));
        }
        let diff = root.join("overlay2").join(read(dir.join("cache-id"))).join("diff");
        let mut tree = Vec::new();
        walk(&diff, "", &mut tree);
        out.insert(format!("layer/{chain}/tree"), tree.join("\n"));
    }
    for kind in ["content", "metadata"] {
        let dir = root.join("image/overlay2/imagedb").join(kind).join("sha256");
        out.insert(kind.to_owned(), names(&dir).join("\n"));
    }
    out.insert("names".to_owned(), read(root.join("image/overlay2/repositories.json")));
    let count = |p: &str| names(&root.join(p)).len().to_string();
    for dir in ["overlay2", "overlay2/l", "image/overlay2/layerdb/tmp"] {
        out.insert(format!("count/{dir}"), count(dir));
    }
    out
}

fn text(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(t) => t.to_owned(),
        Err(_) => super::archive::hex(data),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(list) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all: Vec<String> =
        list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn walk(dir: &Path, at: &str, out: &mut Vec<String>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for name in names(dir) {
        let path = dir.join(&name);
        let meta = path.symlink_metadata().unwrap();
        let size = if meta.is_dir() { 0 } else { meta.size() };
        // a whiteout has no time of its own
        let device = meta.file_type().is_char_device();
        let mtime = if device { 0 } else { meta.mtime() };
        out.push(format!("{at}/{name} {:o} {size} {mtime}", meta.mode()));
        if meta.is_dir() {
            walk(&path, &format!("{at}/{name}"), out);
        }
    }
}

/// Compares two snapshots; says only where they differ.
pub(crate) fn assert_same(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, what: &str) {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let (a, b) = (a.get(key), b.get(key));
        let lines =
            |t: Option<&String>| t.map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>());
        if a != b {
            let (a, b) = (lines(a).unwrap_or_default(), lines(b).unwrap_or_default());
            let only = |x: &[String], y: &[String]| {
                x.iter().filter(|l| !y.contains(l)).take(5).cloned().collect::<Vec<_>>()
            };
            panic!("{what}: {key}: only left {:?}, only right {:?}", only(&a, &b), only(&b, &a));
        }
    }
}
