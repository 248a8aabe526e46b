//! Reading what is damaged, missing or not ours.

use super::*;

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
    assert!(s.tag(&lock, &"a:b".parse().unwrap(), &id).is_err());
    assert_eq!(fs::read(image.join("repositories.json")).unwrap(), b"{", "not overwritten");
    assert_eq!(s.find_image(&id.hex()).unwrap(), id);
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
