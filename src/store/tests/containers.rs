//! Containers and their init layers.

use super::*;

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
fn an_ordinary_user_records_that_root_owns_the_init_layer() {
    let f = fixture();
    let lock = f.store.import_lock().unwrap();
    let id = f.store.put_image(&lock, &config(0)).unwrap();
    let c = f.store.create_container(&lock, &id, None, None).unwrap();
    let diff = f.store.diff_dir(&c.init.unwrap()).unwrap();
    let owner = |p: &[u8]| {
        let value = diff.node_beneath(p).unwrap().get_xattr(b"user.containers.override_stat");
        value.unwrap().map(|v| String::from_utf8(v).unwrap())
    };
    let root = crate::sys::Identity::current().uid == 0;
    let expected = |text: &str| (!root).then(|| text.to_owned());
    assert_eq!(owner(b""), expected("0:0:0755:dir"));
    assert_eq!(owner(b"etc"), expected("0:0:0755:dir"));
    assert_eq!(owner(b"etc/hosts"), expected("0:0:0755:file"));
}

#[test]
fn a_removed_container_leaves_nothing_and_one_in_use_stays() {
    let f = fixture();
    let id = f.image(2);
    let s = &f.store;
    let lock = s.import_lock().unwrap();
    let before = s.names(layout::OVERLAY2).unwrap();
    let links = s.names(layout::LINKS).unwrap();
    let make = || s.create_container(&lock, &id, Some(&chain_of(2)), None).unwrap();
    let (gone, used) = (make(), make());
    let work = s.cache_dir(&used.mount).unwrap().open_dir(b"work").unwrap();
    assert!(work.try_lock().unwrap());
    s.remove_container(&lock, &gone).unwrap();
    assert!(matches!(s.remove_container(&lock, &used), Err(StoreError::ContainerInUse(_))));
    assert_eq!(s.containers().unwrap(), std::slice::from_ref(&used));
    drop(work);
    s.remove_container(&lock, &used).unwrap();
    assert_eq!(
        (s.names(layout::OVERLAY2).unwrap(), s.names(layout::LINKS).unwrap()),
        (before, links)
    );
    assert!(s.names(layout::TMP).unwrap().is_empty());
    // one of dockerd's is left alone
    let foreign = make();
    let side = format!("{}/{}/{}", layout::MOUNTS, foreign.id, layout::SIDE_FILE);
    fs::remove_file(f.root().join(side)).unwrap();
    assert!(matches!(s.remove_container(&lock, &foreign), Err(StoreError::ForeignContainer(_))));
}
