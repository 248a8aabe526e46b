//! Committing layers: once each, in parallel, or not at all.

use super::*;

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
