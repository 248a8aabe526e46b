//! The store as a whole: what it writes, beside what dockerd writes; what a crash leaves; what a
//! hostile store does.

mod commit;
mod containers;
mod crash;
mod form;
mod images;
mod reading;

use super::*;
use crate::id::{CacheId, ChainId, DiffId, Digest, Hash, ImageId};
use crate::sys::{FileType, OpenFlags};
use std::collections::BTreeMap;
use std::fs;

struct Fixture {
    store: Store,
    tmp: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(&tmp.path().join("root"), true).unwrap();
    Fixture { store, tmp }
}

fn diff_id(n: u32) -> DiffId {
    DiffId::new(Hash::of(&n.to_be_bytes()))
}

fn chain_of(n: u32) -> ChainId {
    *ChainId::of_stack(&(0..n).map(diff_id).collect::<Vec<_>>()).last().unwrap()
}

fn config(layers: u32) -> Vec<u8> {
    let ids: Vec<DiffId> = (0..layers).map(diff_id).collect();
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": ids});
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": rootfs,
    }))
    .unwrap()
}

fn write(dir: &Dir, name: &str, data: &[u8]) {
    let f = dir.open_file(name.as_bytes(), OpenFlags::CREATE_NEW, 0o600).unwrap();
    assert_eq!(f.write_at(data, 0).unwrap(), data.len());
}

fn stage(s: &Store, lock: &ImportLock, n: u32) -> LayerTxn {
    let txn = s.begin_layer(lock).unwrap();
    write(txn.diff(), "file", &n.to_be_bytes());
    write(txn.meta(), "tar-split.json.gz", b"not really");
    txn
}

impl Fixture {
    /// Adds the first `n` layers of the test's one stack, an image of them and its name.
    fn image(&self, n: u32) -> ImageId {
        let s = &self.store;
        let lock = s.import_lock().unwrap();
        let staged = (0..n)
            .map(|i| StagedLayer { txn: stage(s, &lock, i), diff: diff_id(i), size: 4 })
            .collect();
        s.commit_layers(None, staged).unwrap();
        let id = s.put_image(&lock, &config(n)).unwrap();
        s.tag(&lock, &format!("docker.io/library/test:l{n}").parse().unwrap(), &id).unwrap();
        id
    }

    fn root(&self) -> &Path {
        self.store.root()
    }

    /// Returns path -> (permissions and type, content or target) of everything but our locks.
    fn tree(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        fn walk(dir: &Dir, at: &str, out: &mut BTreeMap<String, (u32, Vec<u8>)>) {
            for e in dir.list().unwrap() {
                let name = String::from_utf8(e.name.to_vec()).unwrap();
                let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
                let stat = dir.stat(&e.name).unwrap();
                let content = match stat.file_type() {
                    FileType::Symlink => dir.readlink(&e.name).unwrap(),
                    FileType::File => files::read(dir, &name, 1 << 20).unwrap().unwrap(),
                    _ => Vec::new(),
                };
                out.insert(path.clone(), (stat.mode, content));
                // a crash test closes a directory to an ordinary user
                if stat.is_dir()
                    && let Ok(sub) = dir.open_dir(&e.name)
                {
                    walk(&sub, &path, out);
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(&self.store.dir, "", &mut out);
        out.retain(|path, _| !path.ends_with(".lock"));
        out
    }
}

/// Replaces what is random or an id by a word, so that paths can stand in a table.
fn pattern(path: &str) -> String {
    let word = |part: &str| match part {
        p if Hash::from_hex(p).is_some() => "HEX".to_owned(),
        p if p.strip_suffix("-init").and_then(Hash::from_hex).is_some() => "HEX-init".to_owned(),
        p if p.len() == 26 => "LINK".to_owned(),
        p => p.to_owned(),
    };
    path.split('/').map(word).collect::<Vec<_>>().join("/")
}
