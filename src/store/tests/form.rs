//! What is written has the form and permissions of what dockerd writes.

use super::*;

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
fn depth_is_bounded() {
    assert!(crate::store::txn::check_depth(MAX_DEPTH).is_ok());
    assert!(matches!(crate::store::txn::check_depth(MAX_DEPTH + 1), Err(StoreError::TooDeep(_))));
    let f = fixture();
    f.image(130);
    assert_eq!(f.store.chain(&chain_of(130)).unwrap().len(), 130);
}
