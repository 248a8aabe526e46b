//! Configs, names and blobs.

use super::*;
use crate::reference::Reference;

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
    let name = |text: &str| text.parse::<Reference>().unwrap();
    let lock = s.import_lock().unwrap();
    assert_eq!(s.tag(&lock, &name(&one.hex()[..8]), &two).unwrap(), None);
    assert_eq!(s.find_image(&one.hex()[..8]).unwrap(), two);
    assert_eq!(s.tag(&lock, &name("test:l1"), &two).unwrap(), Some(one));
    assert_eq!(s.tag(&lock, &name("test:l1"), &two).unwrap(), Some(two));
    assert!(s.last_tagged(&two).unwrap().is_some());
    assert_eq!(s.repositories().unwrap().of_image(&two).count(), 3);
    let missing = ImageId::new(Hash::of(b""));
    assert!(matches!(s.tag(&lock, &name("x:y"), &missing), Err(StoreError::NoImageId(_))));
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
