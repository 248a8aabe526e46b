//! What `-o` says.

use super::*;
use std::os::unix::ffi::OsStringExt;

fn parse(text: &str) -> Result<MountOptions, BadOption> {
    MountOptions::parse(&[text])
}

fn lowers(text: &str) -> Vec<String> {
    parse(text).unwrap().lowers.iter().map(|p| p.to_str().unwrap().to_owned()).collect()
}

#[test]
fn escapes_protect_commas_colons_and_backslashes() {
    assert_eq!(lowers(r"lowerdir=/a:/b"), ["/a", "/b"]);
    assert_eq!(lowers(r"lowerdir=/a\:b:/c\,d:/e\\"), ["/a:b", "/c,d", r"/e\"]);
    assert_eq!(lowers(r"lowerdir=/plain\backslash"), [r"/plain\backslash"]);
    let o = parse(r"lowerdir=/l,upperdir=/a\,b=c,workdir=/w\:x").unwrap();
    assert_eq!(o.upper.unwrap().to_str(), Some("/a,b=c"));
    assert_eq!(o.work.unwrap().to_str(), Some("/w:x"));
}

#[test]
fn bytes_that_are_no_text_stay() {
    let raw = OsString::from_vec(b"lowerdir=/\xff:/b".to_vec());
    let o = MountOptions::parse(&[raw]).unwrap();
    assert_eq!(o.lowers[0].as_os_str().as_bytes(), b"/\xff");
}

#[test]
fn empty_items_and_repeated_options_are_fine() {
    let o = MountOptions::parse(&[",,lowerdir=/a,", "", "ro,,rw", "lowerdir=/b:/c"]).unwrap();
    assert_eq!(o.lowers.len(), 2);
    assert_eq!(o.read_only, Some(false));
    assert_eq!(lowers("lowerdir+=/a:b,lowerdir+=/c"), ["/a:b", "/c"]);
}

#[test]
fn what_mount_adds_is_tolerated_and_nonsense_is_named() {
    assert!(parse("rw,defaults,_netdev,nofail,x-systemd.automount,user").is_ok());
    assert!(parse("xino=auto,index=off,metacopy=off,max_write=131072").is_ok());
    assert_eq!(parse("lowerdir=/a,bogus=1"), Err(BadOption::Unknown("bogus".into())));
    assert_eq!(parse("upperdir"), Err(BadOption::NeedsValue("upperdir".into())));
    assert_eq!(parse("lowerdir="), Err(BadOption::NeedsValue("lowerdir".into())));
    assert_eq!(parse("ro=1"), Err(BadOption::TakesNoValue("ro".into())));
    assert!(matches!(parse("timeout=soon"), Err(BadOption::BadValue { .. })));
    assert!(matches!(parse("timeout=-1"), Err(BadOption::BadValue { .. })));
    assert!(matches!(parse("xino=maybe"), Err(BadOption::BadValue { .. })));
    assert!(matches!(parse("lowerdir=/a:::/b"), Err(BadOption::BadValue { .. })));
    assert!(matches!(parse("lowerdir=:"), Err(BadOption::BadValue { .. })));
}

#[test]
fn what_would_change_the_view_is_not_ignored() {
    for o in ["verity=require", "plugins=/x.so", "bind", "nosymfollow"] {
        assert!(matches!(parse(o), Err(BadOption::Unsupported(_))), "{o}");
    }
}

#[test]
fn a_remount_takes_the_words_of_the_kernel() {
    let o = parse("remount,rw,nosymfollow,nodiratime,relatime").unwrap();
    assert_eq!((o.symfollow, o.diratime, o.atime), (Some(false), Some(false), Some(true)));
}

#[test]
fn what_has_no_effect_is_accepted_and_listed() {
    for (names, why) in WITHOUT_EFFECT {
        assert!(!why.is_empty());
        for name in *names {
            let text = match *name {
                "index" | "nfs_export" => format!("{name}=on"),
                n => n.to_owned(),
            };
            assert_eq!(parse(&text), Ok(MountOptions::default()), "{text}");
        }
    }
}

#[test]
fn short_inode_numbers_are_asked_for() {
    for (text, short) in [("", false), ("xino=on", false), ("xino=auto", false), ("xino=off", true)]
    {
        assert_eq!(parse(text).unwrap().short_numbers, short, "{text}");
    }
    assert!(parse("noxino").unwrap().short_numbers && parse("ino32_t").unwrap().short_numbers);
    assert!(!parse("xino=off,xino=on").unwrap().short_numbers);
    assert_eq!(parse("max_watches=0").unwrap().max_watches, Some(0));
    assert!(matches!(parse("max_watches=some"), Err(BadOption::BadValue { .. })));
}

#[test]
fn colons_too_many_mean_nothing_and_two_begin_the_data_only_layers() {
    assert_eq!(lowers("lowerdir=/a:"), ["/a"]);
    assert_eq!(lowers("lowerdir=:/a:/b"), ["/a", "/b"]);
    assert_eq!(lowers(r"lowerdir=/a\:"), ["/a:"]);
    let o = parse("lowerdir=/a:/b::/c::/d,datadir+=/e:f").unwrap();
    assert_eq!(o.lowers, [PathBuf::from("/a"), "/b".into()]);
    assert_eq!(o.data_only, [PathBuf::from("/c"), "/d".into(), "/e:f".into()]);
}

#[test]
fn a_colon_may_be_escaped_twice() {
    let o = parse(r"lowerdir=lower\\:1:/b,upperdir=upper\\:2").unwrap();
    assert_eq!(o.lowers, [PathBuf::from("lower:1"), "/b".into()]);
    assert_eq!(o.upper, Some("upper:2".into()));
}

#[test]
fn mappings_are_triples_and_may_begin_with_a_colon() {
    let o = parse("uidmapping=:0:100000:65536,,gidmapping=0:10:100:100:10000:2000").unwrap();
    assert_eq!(o.uids, [IdRange { stored: 0, shown: 100_000, count: 65536 }]);
    assert_eq!(o.gids.len(), 2);
    assert_eq!(o.gids[1], IdRange { stored: 100, shown: 10000, count: 2000 });
    for bad in ["uidmapping=0:1", "gidmapping=a:1:2", "uidmapping=0:1:-1", "uidmapping=0:1:2:3"] {
        assert!(matches!(parse(bad), Err(BadOption::BadValue { .. })), "{bad}");
    }
    assert!(parse("uidmapping").is_err());
}

#[test]
fn options_of_fuse_overlayfs_set_what_they_say() {
    let o = parse("squash_to_root,squash_to_uid=5,squash_to_gid=6,static_nlink,noacl").unwrap();
    assert!(o.squash_to_root && o.static_nlink && o.noacl);
    assert_eq!((o.squash_to_uid, o.squash_to_gid), (Some(5), Some(6)));
    assert_eq!(parse("xattr_permissions=2").unwrap().records, Some(Records::Containers));
    assert_eq!(parse("xattr_permissions=1").unwrap().records, Some(Records::Privileged));
    assert_eq!(parse("xattr_permissions=0").unwrap().records, None);
    assert!(parse("xattr_permissions=3").is_err());
    assert!(parse("noxattrs").unwrap().noxattrs && parse("noxattrs=1").unwrap().noxattrs);
    assert!(!parse("noxattrs=0").unwrap().noxattrs);
    assert!(parse("fsync=0").unwrap().volatile && parse("sync=0").unwrap().volatile);
    assert!(!parse("fsync=1").unwrap().volatile && parse("sync").unwrap().sync);
    assert_eq!(parse("metacopy=on").unwrap().lazy_from, None);
    assert_eq!(parse("lazy_copy_up").unwrap().lazy_from, Some(4 << 20));
    assert_eq!(parse("lazy_copy_up=65536").unwrap().lazy_from, Some(65536));
    assert!(parse("lazy_copy_up=on").is_err() && parse("lazy_copy_up=").is_err());
    assert_eq!(parse("max_write=65536").unwrap().max_write, Some(65536));
    assert!(parse("allow_root").unwrap().allow_root && !parse("allow_root").unwrap().allow_other);
    assert!(parse("squash_to_uid=me").is_err());
}

#[test]
fn writes_are_held_back_in_every_spelling() {
    for word in ["writeback", "writeback_cache"] {
        for (value, on) in [("", true), ("=1", true), ("=on", true), ("=0", false), ("=off", false)]
        {
            assert_eq!(parse(&format!("{word}{value}")).unwrap().writeback, on, "{word}{value}");
        }
        assert!(matches!(parse(&format!("{word}=yes")), Err(BadOption::BadValue { .. })));
    }
    assert!(!parse("writeback,writeback=0").unwrap().writeback && !parse("").unwrap().writeback);
    let both = Err(BadOption::Exclusive("writeback", "passthrough=on"));
    assert_eq!(parse("writeback,passthrough=on"), both);
    assert_eq!(parse("passthrough=on,writeback=1"), both);
    for how in ["watch", "timeout"] {
        assert!(matches!(
            parse(&format!("writeback,lower_changes={how}")),
            Err(BadOption::Exclusive(..))
        ));
    }
    assert!(parse("writeback,lower_changes=ignore").is_ok());
    for fine in
        ["passthrough=on,writeback=0", "passthrough=auto,writeback", "passthrough=off,writeback"]
    {
        assert!(parse(fine).is_ok(), "{fine}");
    }
}

#[test]
fn redirects_are_written_and_followed_as_the_kernel_would() {
    let of = |text: &str| {
        let o = parse(text).unwrap();
        (o.redirect_dir, o.follow_redirects)
    };
    assert_eq!(of(""), (None, None));
    assert_eq!(of("redirect_dir=on"), (Some(true), Some(true)));
    assert_eq!(of("redirect_dir=off"), (Some(false), Some(true)));
    assert_eq!(of("redirect_dir=follow"), (Some(false), Some(true)));
    assert_eq!(of("redirect_dir=copy"), (Some(false), Some(true)));
    assert!(parse("redirect_dir=copy").unwrap().rename_by_copy);
    assert!(!parse("redirect_dir=copy,redirect_dir=off").unwrap().rename_by_copy);
    assert_eq!(of("redirect_dir=nofollow"), (Some(false), Some(false)));
}

#[test]
fn a_quoted_context_keeps_its_commas() {
    let o = parse(r#"ro,context="u:r:t:s0:c1,c2",noexec"#).unwrap();
    assert_eq!(o.labels, [("context".to_owned(), "u:r:t:s0:c1,c2".into())]);
    assert_eq!(o.exec, Some(false));
    let o = parse(r"fscontext=u:r:t:s0:c1\,c2").unwrap();
    assert_eq!(o.labels[0].1, "u:r:t:s0:c1,c2");
    assert!(parse(r#"context="a"#).is_err());
}

#[test]
fn a_sloppy_mount_names_what_it_leaves_out() {
    let (o, left) = MountOptions::parse_sloppily(&["ro,bogus=1,noexec"]).unwrap();
    assert_eq!((o.read_only, o.exec), (Some(true), Some(false)));
    assert_eq!(left, ["bogus"]);
    assert!(MountOptions::parse_sloppily(&["ro=1"]).is_err());
}

#[test]
fn times_may_be_fractions() {
    assert_eq!(parse("timeout=0.5").unwrap().timeout, Some(Duration::from_millis(500)));
    assert!(parse("timeout=1e300").is_ok());
}

proptest::proptest! {
    #[test]
    fn any_path_survives_escaping(raw in proptest::collection::vec(1_u8.., 1..40)) {
        let mut text = b"ro,upperdir=".to_vec();
        for b in &raw {
            if matches!(b, b',' | b':' | b'\\') {
                text.push(b'\\');
            }
            text.push(*b);
        }
        text.extend_from_slice(b",rw");
        let o = MountOptions::parse(&[OsString::from_vec(text)]).unwrap();
        assert_eq!(o.upper.unwrap().as_os_str().as_bytes(), raw);
        assert_eq!(o.read_only, Some(false));
    }

    #[test]
    fn no_text_makes_it_panic(raw in proptest::collection::vec(0_u8.., 0..60)) {
        drop(MountOptions::parse(&[OsString::from_vec(raw)]));
    }
}
