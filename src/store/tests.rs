//! The store as a whole: what it writes, beside what dockerd writes; what a crash leaves; what a
//! hostile store does.

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
        s.tag(&lock, "docker.io/library/test", &format!("l{n}"), &id).unwrap();
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
                if stat.is_dir() {
                    walk(&dir.open_dir(&e.name).unwrap(), &path, out);
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

#[test]
fn everything_has_dockers_permissions_and_form() {
    let f = fixture();
    let id = f.image(3);
    let lock = f.store.import_lock().unwrap();
    f.store.record_blob(&lock, &Digest::Sha256(Hash::of(b"blob")), &diff_id(0)).unwrap();
    f.store.create_container(&lock, &id, Some(&chain_of(3)), Some("c1")).unwrap();
    // what `find -printf %m` says of a data root of dockerd 20.10.24 after a load and a create
    let expected: BTreeMap<&str, u32> = [
        ("image", 0o40700),
        ("image/overlay2", 0o40700),
        ("image/overlay2/repositories.json", 0o100600),
        ("image/overlay2/distribution", 0o40700),
        ("image/overlay2/distribution/diffid-by-digest", 0o40755),
        ("image/overlay2/distribution/diffid-by-digest/sha256", 0o40755),
        ("image/overlay2/distribution/diffid-by-digest/sha256/HEX", 0o100644),
        ("image/overlay2/distribution/v2metadata-by-diffid", 0o40755),
        ("image/overlay2/distribution/v2metadata-by-diffid/sha256", 0o40755),
        ("image/overlay2/imagedb", 0o40700),
        ("image/overlay2/imagedb/content", 0o40700),
        ("image/overlay2/imagedb/content/sha256", 0o40700),
        ("image/overlay2/imagedb/content/sha256/HEX", 0o100600),
        ("image/overlay2/imagedb/metadata", 0o40700),
        ("image/overlay2/imagedb/metadata/sha256", 0o40700),
        ("image/overlay2/imagedb/metadata/sha256/HEX", 0o40700),
        ("image/overlay2/imagedb/metadata/sha256/HEX/lastUpdated", 0o100600),
        ("image/overlay2/layerdb", 0o40700),
        ("image/overlay2/layerdb/mounts", 0o40755),
        ("image/overlay2/layerdb/mounts/HEX", 0o40755),
        ("image/overlay2/layerdb/mounts/HEX/init-id", 0o100644),
        ("image/overlay2/layerdb/mounts/HEX/mount-id", 0o100644),
        ("image/overlay2/layerdb/mounts/HEX/parent", 0o100644),
        ("image/overlay2/layerdb/mounts/HEX/stratafs.json", 0o100644),
        ("image/overlay2/layerdb/sha256", 0o40755),
        ("image/overlay2/layerdb/sha256/HEX", 0o40700),
        ("image/overlay2/layerdb/sha256/HEX/cache-id", 0o100644),
        ("image/overlay2/layerdb/sha256/HEX/diff", 0o100644),
        ("image/overlay2/layerdb/sha256/HEX/parent", 0o100644),
        ("image/overlay2/layerdb/sha256/HEX/size", 0o100644),
        ("image/overlay2/layerdb/sha256/HEX/tar-split.json.gz", 0o100644),
        ("image/overlay2/layerdb/tmp", 0o40755),
        ("overlay2", 0o40710),
        ("overlay2/HEX", 0o40710),
        ("overlay2/HEX/committed", 0o100600),
        ("overlay2/HEX/diff", 0o40755),
        ("overlay2/HEX/diff/file", 0o100600),
        ("overlay2/HEX/link", 0o100644),
        ("overlay2/HEX/lower", 0o100644),
        ("overlay2/HEX/work", 0o40700),
        ("overlay2/HEX-init", 0o40710),
        ("overlay2/HEX-init/committed", 0o100600),
        ("overlay2/HEX-init/diff", 0o40755),
        ("overlay2/HEX-init/diff/.dockerenv", 0o100755),
        ("overlay2/HEX-init/diff/dev", 0o40755),
        ("overlay2/HEX-init/diff/dev/console", 0o100755),
        ("overlay2/HEX-init/diff/dev/pts", 0o40755),
        ("overlay2/HEX-init/diff/dev/shm", 0o40755),
        ("overlay2/HEX-init/diff/etc", 0o40755),
        ("overlay2/HEX-init/diff/etc/hostname", 0o100755),
        ("overlay2/HEX-init/diff/etc/hosts", 0o100755),
        ("overlay2/HEX-init/diff/etc/mtab", 0o120777),
        ("overlay2/HEX-init/diff/etc/resolv.conf", 0o100755),
        ("overlay2/HEX-init/diff/proc", 0o40755),
        ("overlay2/HEX-init/diff/sys", 0o40755),
        ("overlay2/HEX-init/link", 0o100644),
        ("overlay2/HEX-init/lower", 0o100644),
        ("overlay2/HEX-init/work", 0o40700),
        ("overlay2/l", 0o40700),
        ("overlay2/l/LINK", 0o120777),
    ]
    .into();
    let mut seen = BTreeMap::new();
    for (path, (mode, content)) in f.tree() {
        assert!(!content.ends_with(b"\n"), "{path} ends in a newline");
        let p = pattern(&path);
        assert_eq!(seen.insert(p.clone(), mode).unwrap_or(mode), mode, "{p}");
    }
    let expected: BTreeMap<String, u32> =
        expected.into_iter().map(|(p, m)| (p.to_owned(), m)).collect();
    assert_eq!(seen, expected);
    assert_eq!(f.store.dir.stat_self().unwrap().permissions(), 0o710);
    // a symlink's own permissions are the platform's affair elsewhere
}

#[test]
fn layers_lie_upon_each_other_as_overlay2_wants_it() {
    let f = fixture();
    f.image(3);
    let s = &f.store;
    let chain = s.chain(&chain_of(3)).unwrap();
    assert_eq!(
        chain.iter().map(|l| l.diff).collect::<Vec<_>>(),
        (0..3).map(diff_id).collect::<Vec<_>>()
    );
    let read = |l: &Layer, name: &str| {
        files::read(&s.cache_dir(&l.cache).unwrap(), name, 4096)
            .unwrap()
            .map(|d| String::from_utf8(d).unwrap())
    };
    let links: Vec<String> = chain.iter().map(|l| read(l, "link").unwrap()).collect();
    let dir = s.place(layout::LINKS).unwrap().unwrap();
    for (l, link) in chain.iter().zip(&links) {
        assert_eq!(
            dir.readlink(link.as_bytes()).unwrap(),
            format!("../{}/diff", l.cache).as_bytes()
        );
        assert!(link.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7')));
    }
    assert_eq!(read(&chain[0], "lower"), None);
    assert_eq!(read(&chain[1], "lower").unwrap(), format!("l/{}", links[0]));
    assert_eq!(read(&chain[2], "lower").unwrap(), format!("l/{}:l/{}", links[1], links[0]));
    // only a layer with a child is committed, and only one with a parent has a work directory
    let has = |l: &Layer, n: &[u8]| s.cache_dir(&l.cache).unwrap().stat(n).is_ok();
    assert_eq!(chain.iter().map(|l| has(l, b"committed")).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(chain.iter().map(|l| has(l, b"work")).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(s.layers().unwrap().len(), 3);
    assert_eq!(chain[2].parent, Some(chain[1].chain));
    assert_eq!(chain[2].size, 4);
    assert!(s.layer_dir(&chain[2].chain).unwrap().stat(b"tar-split.json.gz").is_ok());
}

#[test]
fn a_layer_that_exists_is_kept_and_the_new_one_dropped() {
    let f = fixture();
    f.image(2);
    let before = f.tree();
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let old = s.layer(&chain_of(2)).unwrap().unwrap();
    let txn = stage(s, &lock, 9);
    assert_eq!(txn.commit(Some(&chain_of(1)), &diff_id(1), 99).unwrap(), old);
    assert_eq!(f.tree(), before);
}

#[test]
fn dockerd_may_be_faster() {
    let f = fixture();
    f.image(1);
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    // two layers staged; the lower one appears between staging and rename
    let chain2 = chain_of(2);
    let theirs = stage(s, &lock, 1);
    let theirs_cache = theirs.cache().clone();
    let mut staged = Vec::new();
    for i in 1..3 {
        staged.push(StagedLayer { txn: stage(s, &lock, i), diff: diff_id(i), size: 4 });
    }
    // the same chain twice in one batch would be dropped early, so play dockerd by hand
    let first = s.layer(&chain_of(1)).unwrap().unwrap();
    let below = Layer {
        chain: chain2,
        diff: diff_id(1),
        parent: Some(first.chain),
        cache: staged[0].txn.cache().clone(),
        size: 4,
    };
    let above = Layer {
        chain: chain_of(3),
        diff: diff_id(2),
        parent: Some(chain2),
        cache: staged[1].txn.cache().clone(),
        size: 4,
    };
    let mut it = staged.into_iter().map(|x| x.txn);
    let (a, b) = (it.next().unwrap(), it.next().unwrap());
    a.furnish(&below, Some(&first.cache)).unwrap();
    b.furnish(&above, Some(&below.cache)).unwrap();
    theirs.commit(Some(&first.chain), &diff_id(1), 4).unwrap();
    let shown = s.show(Some(first), vec![(below.clone(), Some(a)), (above, Some(b))]).unwrap();
    assert_eq!(shown[0].cache, theirs_cache);
    let lower =
        fs::read_to_string(f.root().join(format!("overlay2/{}/lower", shown[1].cache))).unwrap();
    let link = fs::read_to_string(f.root().join(format!("overlay2/{theirs_cache}/link"))).unwrap();
    assert!(lower.starts_with(&format!("l/{link}:")));
    assert!(!f.root().join(format!("overlay2/{}", below.cache)).exists());
    assert_eq!(s.chain(&chain_of(3)).unwrap().len(), 3);
    drop(lock);
    let before = f.tree();
    drop(s.import_lock().unwrap());
    assert_eq!(f.tree(), before);
}

#[test]
fn a_dropped_transaction_was_never_there() {
    let f = fixture();
    f.image(1);
    let before = f.tree();
    let lock = f.store.import_lock().unwrap();
    drop(stage(&f.store, &lock, 1));
    assert_eq!(f.tree(), before);
    // a parent that is missing
    let e = stage(&f.store, &lock, 1).commit(Some(&chain_of(7)), &diff_id(1), 0).unwrap_err();
    assert!(matches!(e, StoreError::NoLayer(_)), "{e}");
    assert_eq!(f.tree(), before);
}

#[test]
fn whatever_a_killed_import_leaves_is_swept() {
    let f = fixture();
    let id = f.image(2);
    let before = f.tree();
    let s = &f.store;
    let top = s.layer(&chain_of(2)).unwrap().unwrap();
    let layer = |txn: &LayerTxn| Layer {
        chain: chain_of(3),
        diff: diff_id(2),
        parent: Some(top.chain),
        cache: txn.cache().clone(),
        size: 4,
    };
    let tmp = s.place(layout::TMP).unwrap().unwrap();
    type Crash<'a> = Box<dyn Fn(&ImportLock) + 'a>;
    let stages: Vec<(&str, Crash<'_>)> = vec![
        (
            "empty write set",
            Box::new(|_| {
                tmp.mkdir(format!("{}{}", layout::WRITE_SET, CacheId::random()).as_bytes(), 0o700)
                    .unwrap();
            }),
        ),
        (
            "torn cache-id",
            Box::new(|lock| {
                let txn = s.begin_layer(lock).unwrap();
                files::put(txn.meta(), "cache-id", b"", 0o644).unwrap();
                txn.abandon();
            }),
        ),
        ("begun", Box::new(|lock| s.begin_layer(lock).unwrap().abandon())),
        (
            "filled",
            Box::new(|lock| {
                let txn = stage(s, lock, 2);
                txn.diff().mkdir(b"closed", 0o755).unwrap();
                write(&txn.diff().open_dir(b"closed").unwrap(), "f", b"x");
                txn.diff().node(b"closed").unwrap().chmod(0).unwrap();
                txn.abandon();
            }),
        ),
        (
            "linked",
            Box::new(|lock| {
                let txn = stage(s, lock, 2);
                s.furnish_cache(&s.cache_dir(txn.cache()).unwrap(), txn.cache(), Some(&top.cache))
                    .unwrap();
                txn.abandon();
            }),
        ),
        (
            "complete",
            Box::new(|lock| {
                let txn = stage(s, lock, 2);
                txn.furnish(&layer(&txn), Some(&top.cache)).unwrap();
                txn.abandon();
            }),
        ),
        (
            "journal open",
            Box::new(|lock| {
                let txn = stage(s, lock, 2);
                txn.furnish(&layer(&txn), Some(&top.cache)).unwrap();
                s.open_journal(&tmp, &top).unwrap().unwrap();
                txn.abandon();
            }),
        ),
        (
            "half swept",
            Box::new(|lock| {
                let txn = stage(s, lock, 2);
                txn.furnish(&layer(&txn), Some(&top.cache)).unwrap();
                s.remove_cache(txn.cache()).unwrap();
                txn.abandon();
            }),
        ),
        (
            "container",
            Box::new(|_| {
                let c = Container {
                    id: String::new(),
                    name: None,
                    image: Some(id),
                    mount: CacheId::random(),
                    init: None,
                    parent: Some(top.chain),
                    created: crate::sys::Time::now(),
                };
                let set = format!("{}{}", layout::WRITE_SET, c.mount);
                s.stage_container(&c, &s.chain(&top.chain).unwrap(), &set).unwrap();
            }),
        ),
        (
            "temporary files",
            Box::new(|_| {
                for place in [
                    layout::IMAGE,
                    layout::CONTENT,
                    "image/overlay2/distribution/diffid-by-digest/sha256",
                ] {
                    let d = s.place(place).unwrap().unwrap();
                    write(&d, ".tmp-x.stratafs-0123456789abcdef", b"half");
                }
                let meta = s.place(&format!("{}/{}", layout::METADATA, id.hex())).unwrap().unwrap();
                write(&meta, ".tmp-lastUpdated.stratafs-0123456789abcdef", b"half");
            }),
        ),
    ];
    for (stage, crash) in &stages {
        let lock = s.import_lock().unwrap();
        crash(&lock);
        drop(lock);
        assert_ne!(f.tree(), before, "{stage}: the crash left nothing to test");
        drop(s.import_lock().unwrap());
        assert_eq!(f.tree(), before, "{stage}");
    }
    // all at once
    let lock = s.import_lock().unwrap();
    stages.iter().filter(|(n, _)| *n != "journal open").for_each(|(_, crash)| crash(&lock));
    drop(lock);
    drop(s.import_lock().unwrap());
    assert_eq!(f.tree(), before);
}

#[test]
fn a_commit_killed_after_its_rename_is_finished() {
    let f = fixture();
    f.image(2);
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let top = s.layer(&chain_of(2)).unwrap().unwrap();
    let tmp = s.place(layout::TMP).unwrap().unwrap();
    stage(s, &lock, 2).commit(Some(&top.chain), &diff_id(2), 4).unwrap();
    let whole = f.tree();
    // as if killed between rename and `committed`
    s.cache_dir(&top.cache).unwrap().unlink(b"committed").unwrap();
    s.open_journal(&tmp, &top).unwrap().unwrap();
    drop(lock);
    drop(s.import_lock().unwrap());
    assert_eq!(f.tree(), whole);
}

#[test]
fn nothing_of_dockerds_is_swept() {
    let f = fixture();
    f.image(1);
    let s = &f.store;
    let used = s.layer(&chain_of(1)).unwrap().unwrap().cache;
    let root = f.root().join("image/overlay2");
    let theirs = CacheId::random();
    for (path, text) in [
        ("layerdb/tmp/write-set-123456789/cache-id", theirs.as_str()),
        ("layerdb/tmp/write-set-123456789/diff", ""),
        // ours by name, and damaged so that it names what is in use or far away
        ("layerdb/tmp/write-set-stratafs-x/cache-id", used.as_str()),
        ("layerdb/tmp/write-set-stratafs-y/cache-id", "../../image"),
        ("layerdb/tmp/write-set-stratafs-y/mount-id", "l"),
    ] {
        let p = root.join(path);
        fs::create_dir_all(p.parent().unwrap()).unwrap();
        fs::write(p, text).unwrap();
    }
    fs::create_dir_all(f.root().join(format!("overlay2/{theirs}/diff"))).unwrap();
    fs::write(root.join(".tmp-repositories.json123456789"), "{").unwrap();
    std::os::unix::fs::symlink(
        format!("../{theirs}/diff"),
        f.root().join("overlay2/l/AAAAAAAAAAAAAAAAAAAAAAAAAA"),
    )
    .unwrap();
    let mut before = f.tree();
    drop(s.import_lock().unwrap());
    before.retain(|p, _| !p.contains("write-set-stratafs-"));
    assert_eq!(f.tree(), before);
}

#[test]
fn layers_are_made_in_parallel() {
    let f = fixture();
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let mut staged: Vec<(u32, LayerTxn)> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..8)
            .map(|i| {
                let lock = &lock;
                scope.spawn(move || (i, stage(s, lock, i)))
            })
            .collect();
        jobs.into_iter().map(|j| j.join().unwrap()).collect()
    });
    staged.sort_by_key(|(i, _)| *i);
    let mut parent = None;
    for (i, txn) in staged {
        parent = Some(txn.commit(parent.as_ref(), &diff_id(i), 4).unwrap().chain);
    }
    assert_eq!(s.chain(&chain_of(8)).unwrap().len(), 8);
    // the same bottom layers by two threads: one wins, both get the same
    let caches: Vec<CacheId> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..4)
            .map(|_| {
                let lock = &lock;
                scope.spawn(move || stage(s, lock, 77).commit(None, &diff_id(77), 4).unwrap().cache)
            })
            .collect();
        jobs.into_iter().map(|j| j.join().unwrap()).collect()
    });
    assert!(caches.iter().all(|c| *c == caches[0]));
    assert_eq!(fs::read_dir(f.root().join("overlay2")).unwrap().count(), 1 + 9);
}

#[test]
fn importers_exclude_each_other_and_never_readers() {
    let f = fixture();
    f.image(1);
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let txn = stage(s, &lock, 1);
    let path = layout::IMPORT_LOCK.as_bytes();
    let free = || {
        let file = s.dir.open_file(path, OpenFlags::READ, 0).unwrap();
        file.try_lock(crate::sys::LockKind::Exclusive).unwrap()
    };
    // readers go on
    assert_eq!(s.image_ids().unwrap().len(), 1);
    assert_eq!(s.layers().unwrap().len(), 1);
    assert!(s.find_image("test:l1").is_ok());
    assert!(!free());
    drop(lock);
    assert!(!free(), "a transaction keeps the lock");
    drop(txn);
    assert!(free());
}

#[test]
fn images_come_back_and_are_found() {
    let f = fixture();
    let (one, two) = (f.image(1), f.image(2));
    let s = &f.store;
    assert_eq!(s.image_config(&one).unwrap().unwrap(), config(1));
    assert_eq!(s.image_config(&ImageId::new(Hash::of(b""))).unwrap(), None);
    let mut both = [one, two];
    both.sort();
    assert_eq!(s.image_ids().unwrap(), both);
    for text in
        ["test:l1", "docker.io/library/test:l1", &one.hex(), &one.to_string(), &one.hex()[..12]]
    {
        assert_eq!(s.find_image(text).unwrap(), one, "{text}");
    }
    let error = |text: &str| s.find_image(text).unwrap_err();
    for text in
        ["test", "test:l3", "ffff:x", &one.hex()[..3], &ImageId::new(Hash::of(b"")).to_string()]
    {
        assert!(matches!(error(text), StoreError::NoImage(_)), "{text}: {}", error(text));
    }
    for text in ["", "Test", "../x", "a b", "test@l1", "\x1b[2J"] {
        let e = error(text);
        assert!(matches!(e, StoreError::BadReference { .. }), "{text:?}: {e}");
        assert!(!e.to_string().contains('\x1b'));
    }
    // a name wins over the beginning of an id
    let lock = s.import_lock().unwrap();
    assert_eq!(s.tag(&lock, &one.hex()[..8], "latest", &two).unwrap(), None);
    assert_eq!(s.find_image(&one.hex()[..8]).unwrap(), two);
    assert_eq!(s.tag(&lock, "test", "l1", &two).unwrap(), Some(one));
    assert_eq!(s.tag(&lock, "test", "l1", &two).unwrap(), Some(two));
    assert!(s.last_tagged(&two).unwrap().is_some());
    assert_eq!(s.repositories().unwrap().of_image(&two).count(), 3);
    let missing = ImageId::new(Hash::of(b""));
    assert!(matches!(s.tag(&lock, "x", "y", &missing), Err(StoreError::NoImageId(_))));
    for (name, tag) in [("x", ""), ("x", "a/b"), ("../x", "y"), ("sha256", "y")] {
        assert!(matches!(s.tag(&lock, name, tag, &two), Err(StoreError::BadReference { .. })));
    }
}

#[test]
fn ambiguous_beginnings_list_their_candidates() {
    let f = fixture();
    let dir = f.root().join("image/overlay2/imagedb/content/sha256");
    let (a, b) = (format!("abcd{}", "0".repeat(60)), format!("abcd{}", "1".repeat(60)));
    fs::write(dir.join(&a), "x").unwrap();
    fs::write(dir.join(&b), "x").unwrap();
    match f.store.find_image("abcd") {
        Err(StoreError::Ambiguous { candidates, .. }) => assert_eq!(candidates, [a.clone(), b]),
        r => panic!("{r:?}"),
    }
    assert_eq!(f.store.find_image("abcd0").unwrap().hex(), a);
}

#[test]
fn an_image_needs_its_layers() {
    let f = fixture();
    f.image(2);
    let lock = f.store.import_lock().unwrap();
    let put = |c: &[u8]| f.store.put_image(&lock, c);
    assert!(matches!(put(&config(3)), Err(StoreError::ImageWithoutLayer(c)) if c == chain_of(3)));
    for bad in [&b""[..], b"{}", b"[]", b"{\"rootfs\":{\"diff_ids\":[\"sha256:/..\"]}}"] {
        assert!(matches!(put(bad), Err(StoreError::BadConfig(_))));
    }
    assert_eq!(put(&config(2)).unwrap(), f.store.find_image("test:l2").unwrap());
}

#[test]
fn blobs_are_remembered() {
    let f = fixture();
    let lock = f.store.import_lock().unwrap();
    let sha512: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
    for blob in [Digest::Sha256(Hash::of(b"b")), sha512] {
        assert_eq!(f.store.diff_of_blob(&blob).unwrap(), None);
        f.store.record_blob(&lock, &blob, &diff_id(1)).unwrap();
        f.store.record_blob(&lock, &blob, &diff_id(2)).unwrap();
        assert_eq!(f.store.diff_of_blob(&blob).unwrap(), Some(diff_id(2)));
    }
}

#[test]
fn containers_are_dockers_plus_a_side_file() {
    let f = fixture();
    let id = f.image(2);
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let make = |name| s.create_container(&lock, &id, Some(&chain_of(2)), name);
    let c = make(Some("web.1")).unwrap();
    let unnamed = make(None).unwrap();
    assert_eq!(s.find_container("web.1").unwrap(), c);
    assert_eq!(s.find_container(&unnamed.id[..10]).unwrap(), unnamed);
    assert_eq!(s.containers().unwrap().len(), 2);
    assert!(matches!(make(Some("web.1")), Err(StoreError::NameTaken { id, .. }) if id == c.id));
    for bad in ["", "a", "-a", "a/b", "a\n", "é1"] {
        assert!(matches!(make(Some(bad)), Err(StoreError::BadContainerName(_))), "{bad}");
    }
    for missing in ["web", "ffffffff", "", "../mounts"] {
        assert!(matches!(s.find_container(missing), Err(StoreError::NoContainer(_))));
    }
    let text = |p: String| fs::read_to_string(f.root().join(p)).unwrap();
    let link = |c: &CacheId| text(format!("overlay2/{c}/link"));
    let init = c.init.clone().unwrap();
    let top = s.layer(&chain_of(2)).unwrap().unwrap().cache;
    let bottom = s.layer(&chain_of(1)).unwrap().unwrap().cache;
    assert_eq!(
        text(format!("overlay2/{init}/lower")),
        format!("l/{}:l/{}", link(&top), link(&bottom))
    );
    assert_eq!(
        text(format!("overlay2/{}/lower", c.mount)),
        format!("l/{}:l/{}:l/{}", link(&init), link(&top), link(&bottom))
    );
    assert!(f.root().join(format!("overlay2/{top}/committed")).exists());
    assert!(!f.root().join(format!("overlay2/{}/committed", c.mount)).exists());
    // one of dockerd's has no side file; a damaged one is skipped
    let mounts = f.root().join("image/overlay2/layerdb/mounts");
    fs::remove_file(mounts.join(&unnamed.id).join("stratafs.json")).unwrap();
    let theirs = s.find_container(&unnamed.id).unwrap();
    assert_eq!((theirs.name, theirs.image, theirs.mount), (None, None, unnamed.mount));
    for hostile in ["../../../etc", "", "abc", "x\n/y"] {
        fs::write(mounts.join(&unnamed.id).join("mount-id"), hostile).unwrap();
        assert_eq!(s.containers().unwrap().len(), 1, "{hostile}");
    }
}

#[test]
fn an_image_without_layers_can_have_containers() {
    let f = fixture();
    let lock = f.store.import_lock().unwrap();
    let id = f.store.put_image(&lock, &config(0)).unwrap();
    let c = f.store.create_container(&lock, &id, None, None).unwrap();
    assert_eq!(f.store.containers().unwrap(), std::slice::from_ref(&c));
    let init = f.root().join(format!("overlay2/{}", c.init.unwrap()));
    assert!(!init.join("lower").exists() && !init.join("work").exists());
}

#[test]
fn the_init_layer_leaves_the_images_directories_as_they_are() {
    let f = fixture();
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let bottom = stage(s, &lock, 0);
    for (name, mode) in [("etc", 0o750), ("dev", 0o755), ("proc", 0o555), ("sys", 0o555)] {
        files::new_dir(bottom.diff(), name, mode).unwrap();
    }
    files::new_dir(&bottom.diff().open_dir(b"dev").unwrap(), "pts", 0o700).unwrap();
    files::new_dir(&bottom.diff().open_dir(b"dev").unwrap(), "shm", 0o1777).unwrap();
    let top = stage(s, &lock, 1);
    files::new_dir(top.diff(), "dev", 0o711).unwrap();
    top.diff().open_dir(b"dev").unwrap().symlink(b"x", b"pts").unwrap();
    top.diff().symlink(b"elsewhere", b"sys").unwrap();
    let staged = vec![
        StagedLayer { txn: bottom, diff: diff_id(0), size: 0 },
        StagedLayer { txn: top, diff: diff_id(1), size: 0 },
    ];
    s.commit_layers(None, staged).unwrap();
    let id = s.put_image(&lock, &config(2)).unwrap();
    let c = s.create_container(&lock, &id, Some(&chain_of(2)), None).unwrap();
    let diff = s.diff_dir(&c.init.unwrap()).unwrap();
    let mode = |p: &[u8]| diff.node_beneath(p).and_then(|n| n.stat()).map(|s| s.permissions()).ok();
    assert_eq!(mode(b"etc"), Some(0o750));
    assert_eq!(mode(b"dev"), Some(0o711));
    assert_eq!(mode(b"dev/pts"), Some(0o755), "a link of the image gives way");
    assert_eq!(mode(b"dev/shm"), None, "the image has it");
    assert_eq!(mode(b"proc"), None);
    assert_eq!(mode(b"sys"), Some(0o755));
}

#[test]
fn damaged_layers_are_errors_and_are_skipped() {
    let f = fixture();
    f.image(3);
    let s = &f.store;
    let dir = |n: u32| f.root().join("image/overlay2/layerdb/sha256").join(chain_of(n).hex());
    let top = dir(3);
    let saved: Vec<_> =
        ["cache-id", "diff", "parent", "size"].map(|n| (n, fs::read(top.join(n)).unwrap())).into();
    let hostile: &[&[u8]] = &[
        b"",
        b"../../../../etc",
        b"a/b",
        b"\xff\xfe",
        b"sha256:..",
        b"-1",
        b"99999999999999999999999",
        &[b'9'; 100_000],
    ];
    for (name, good) in &saved {
        for bad in hostile {
            // any single path component can be a cache id
            if *name == "cache-id"
                && str::from_utf8(bad).is_ok_and(|t| t.parse::<CacheId>().is_ok())
            {
                continue;
            }
            fs::write(top.join(name), bad).unwrap();
            let e = s.layer(&chain_of(3)).unwrap_err();
            assert!(matches!(e, StoreError::Corrupt { .. }), "{name}: {e}");
            assert!(s.chain(&chain_of(3)).is_err());
            assert_eq!(s.layers().unwrap().len(), 2, "{name}");
        }
        fs::remove_file(top.join(name)).unwrap();
        assert!(s.layer(&chain_of(3)).is_err(), "{name}");
        fs::write(top.join(name), good).unwrap();
    }
    // a well-formed id of another layer, and one's own: no cycle can pass
    for parent in [chain_of(1), chain_of(3)] {
        fs::write(top.join("parent"), parent.to_string()).unwrap();
        assert!(matches!(s.chain(&chain_of(3)), Err(StoreError::Corrupt { .. })));
    }
    fs::write(top.join("parent"), chain_of(2).to_string()).unwrap();
    // white space is Docker's to write
    fs::write(top.join("size"), "4\n").unwrap();
    assert_eq!(s.chain(&chain_of(3)).unwrap().len(), 3);
    // a missing layer takes those upon it along
    fs::rename(dir(2), dir(2).with_extension("removing")).unwrap();
    assert_eq!(s.layers().unwrap().len(), 1);
    assert!(matches!(s.chain(&chain_of(3)), Err(StoreError::NoLayer(c)) if c == chain_of(2)));
}

#[test]
fn damaged_images_and_names_are_errors() {
    let f = fixture();
    let id = f.image(1);
    let s = &f.store;
    let image = f.root().join("image/overlay2");
    let content = image.join("imagedb/content/sha256").join(id.hex());
    fs::write(&content, "{}").unwrap();
    assert!(matches!(s.image_config(&id), Err(StoreError::Corrupt { .. })));
    // storing it again repairs it
    let lock = s.import_lock().unwrap();
    s.put_image(&lock, &config(1)).unwrap();
    assert_eq!(s.image_config(&id).unwrap().unwrap(), config(1));
    fs::write(image.join("repositories.json"), "{").unwrap();
    assert!(matches!(s.repositories(), Err(StoreError::Corrupt { .. })));
    assert!(matches!(s.find_image("test:l1"), Err(StoreError::Corrupt { .. })));
    assert!(s.tag(&lock, "a", "b", &id).is_err());
    assert_eq!(fs::read(image.join("repositories.json")).unwrap(), b"{", "not overwritten");
    assert_eq!(s.find_image(&id.hex()).unwrap(), id);
}

#[test]
fn depth_is_bounded() {
    assert!(crate::store::txn::check_depth(MAX_DEPTH).is_ok());
    assert!(matches!(crate::store::txn::check_depth(MAX_DEPTH + 1), Err(StoreError::TooDeep(_))));
    let f = fixture();
    f.image(130);
    assert_eq!(f.store.chain(&chain_of(130)).unwrap().len(), 130);
}

#[test]
fn reading_writes_nothing_and_needs_no_lock_file() {
    let f = fixture();
    let id = f.image(2);
    let root = f.root();
    for lock in [layout::IMPORT_LOCK, layout::STORE_LOCK] {
        fs::remove_file(root.join(lock)).unwrap();
    }
    // what dockerd makes only when it needs it
    fs::remove_dir(root.join("image/overlay2/layerdb/mounts")).unwrap();
    fs::remove_dir(root.join("image/overlay2/layerdb/tmp")).unwrap();
    let names = |p: &Path| fs::read_dir(p).unwrap().count();
    let before = (f.tree(), names(root));
    let s = Store::open(root, false).unwrap();
    assert_eq!(s.find_image("test:l2").unwrap(), id);
    assert_eq!(s.find_image(&id.hex()[..6]).unwrap(), id);
    assert_eq!((s.layers().unwrap().len(), s.containers().unwrap().len()), (2, 0));
    assert_eq!(s.chain(&chain_of(2)).unwrap().len(), 2);
    s.image_config(&id).unwrap().unwrap();
    s.diff_dir(&s.layer(&chain_of(1)).unwrap().unwrap().cache).unwrap();
    assert_eq!((f.tree(), names(root)), before);
    // writing makes what is missing
    let lock = s.import_lock().unwrap();
    s.create_container(&lock, &id, Some(&chain_of(2)), None).unwrap();
}

#[test]
fn a_missing_store_says_how_to_make_one() {
    let f = fixture();
    let at = f.tmp.path().join("a/b/c");
    let e = Store::open(&at, false).unwrap_err();
    assert!(matches!(e, StoreError::Missing(_)) && e.to_string().contains("import"), "{e}");
    assert!(!at.exists());
    // a directory that is no store, too
    assert!(matches!(Store::open(f.tmp.path(), false), Err(StoreError::Missing(_))));
    Store::open(&at, true).unwrap();
    let again = Store::open(&at, true).unwrap();
    assert_eq!(again.root(), at);
    assert!(Store::open(&at, false).unwrap().image_ids().unwrap().is_empty());
}
