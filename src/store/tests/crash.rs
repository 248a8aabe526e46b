//! What a killed importer leaves is swept, and nothing else.

use super::*;

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
                s.stage_container(&c, Some(&top), &|_| Ok(None), &set).unwrap();
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
