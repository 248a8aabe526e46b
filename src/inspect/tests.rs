use super::testing::{container, image, layer};
use super::*;
use crate::index::{INDEX_NAME, ScanOptions, scan};
use crate::sys::FileType;

/// The states of all layers, top first, each with the layer that hides it and where.
fn states(layers: &Layers, path: &str) -> Vec<String> {
    let e = explain(layers, path.as_bytes()).unwrap();
    let state = |l: &LayerState| match (l.hidden_by, &l.hidden_at) {
        (Some(by), Some(at)) => format!("{} {by} {at}", l.state.word()),
        _ => l.state.word().to_owned(),
    };
    e.layers.iter().map(state).collect()
}

#[test]
fn every_state_of_the_table() {
    for (layers, path, expected) in [
        // files
        (&["x=new", "x=older"][..], "/x", &["provides", "hidden-by-nondir 2 /x"][..]),
        (&["y=", "x=a"], "/x", &["absent", "provides"]),
        (&["y=", "z="], "/x", &["absent", "absent"]),
        (&["-x", "x=a"], "/x", &["deletes", "hidden-by-whiteout 2 /x"]),
        (
            &["x=b", "-x", "x=a"],
            "/x",
            &["provides", "hidden-by-nondir 3 /x", "hidden-by-nondir 3 /x"],
        ),
        // directories
        (&["d/", "d/"], "/d", &["provides", "merged"]),
        (&["d/", "d/!", "d/"], "/d", &["provides", "merged", "hidden-by-opaque 2 /d"]),
        (&["d/", "-d", "d/"], "/d", &["provides", "deletes", "hidden-by-whiteout 2 /d"]),
        (
            &["d/", "d=file", "d/"],
            "/d",
            &["provides", "hidden-by-directory 3 /d", "hidden-by-nondir 2 /d"],
        ),
        (&["d=file", "d/"], "/d", &["provides", "hidden-by-nondir 2 /d"]),
        // what lies above decides
        (&["d/!", "d/f="], "/d/f", &["absent", "hidden-by-opaque 2 /d"]),
        (
            &["d/!", "d/f=", "d/f="],
            "/d/f",
            &["absent", "hidden-by-opaque 3 /d", "hidden-by-opaque 3 /d"],
        ),
        (&["d/f=", "d/!", "d/f="], "/d/f", &["provides", "absent", "hidden-by-opaque 2 /d"]),
        (&["-d", "d/f="], "/d/f", &["absent", "hidden-by-whiteout 2 /d"]),
        (&["d/g=", "-d", "d/f="], "/d/f", &["absent", "absent", "hidden-by-whiteout 2 /d"]),
        (&["d=file", "d/f="], "/d/f", &["absent", "hidden-by-nondir 2 /d"]),
        (
            &["a/", "a/!", "-a/b/c", "a/b/c/f="],
            "/a/b/c/f",
            &["absent", "absent", "absent", "hidden-by-opaque 3 /a"],
        ),
        // an opaque root hides nothing
        (&["d/", "d/f="], "/", &["provides", "merged"]),
        // redirects
        (&["new/>old -old", "old/f="], "/new", &["provides", "redirected-from"]),
        (&["new/>old -old", "old/f="], "/new/f", &["absent", "provides"]),
        (&["new/>old -old", "old/f="], "/old/f", &["absent", "hidden-by-whiteout 2 /old"]),
        (
            &["new/>/a/b", "new/g=", "a/b/g="],
            "/new/g",
            &["absent", "hidden-by-redirect 3 /new", "provides"],
        ),
        (&["n/>/m", "m/>/o", "o/f="], "/n/f", &["absent", "absent", "provides"]),
    ] {
        assert_eq!(states(&image(layers), path), expected, "{layers:?} {path}");
    }
}

#[test]
fn redirects_in_the_upper_name_where_the_lower_holds_it() {
    let l = container(&["new/>old -old", "old/f=text"]);
    let e = explain(&l, b"new/f").unwrap();
    assert_eq!(e.layers[1].stored_at.as_deref(), Some("/old/f"));
    let gone = explain(&l, b"/old").unwrap();
    assert_eq!(
        gone.verdict,
        "`/old` is not there: the whiteout in the writable layer (2) hides the directory that \
         layer 1 brought (it was renamed to `/new`)"
    );
}

#[test]
fn verdicts_say_who_and_why() {
    let mut stack = image(&["", "-etc/issue", "etc/issue=hello"]);
    stack.0[1].created_by = Some("/bin/sh -c rm /etc/issue".to_owned());
    for (layers, path, verdict) in [
        (
            stack,
            "/etc/issue",
            "`/etc/issue` is not there: the whiteout in layer 2 (created by `rm /etc/issue`) hides \
             the file that layer 1 brought",
        ),
        (
            image(&["x=1", "x=22"]),
            "x",
            "`/x` is there: the file comes from layer 2; it replaces the file of layer 1",
        ),
        (
            image(&["d/!", "d/f="]),
            "/d/f",
            "`/d/f` is not there: the opaque directory `/d` in layer 2 hides the file that layer 1 brought",
        ),
        (
            image(&["d=", "d/f="]),
            "/d/f",
            "`/d/f` is not there: the file `/d` in layer 2 hides the file that layer 1 brought",
        ),
        (
            image(&["-d", "d/f="]),
            "/d/f",
            "`/d/f` is not there: the whiteout of `/d` in layer 2 hides the file that layer 1 brought",
        ),
        (
            image(&["-d/f", "d/"]),
            "/d/f",
            "`/d/f` is not there: layer 2 has a whiteout for it, but no layer below holds it",
        ),
        (
            image(&["d/", "d/g="]),
            "/d/f",
            "`/d/f` is not there: no layer holds it; the nearest that is there is the directory `/d`",
        ),
        (
            image(&["d/g="]),
            "/d/g/f",
            "`/d/g/f` is not there: no layer holds it; `/d/g` is a file, from layer 1",
        ),
        (
            image(&["d/", "d/", "d/"]),
            "/d",
            "`/d` is there: a directory with the attributes that layer 3 gives it, merged with layers 2 and 1",
        ),
        (
            image(&["bin@usr/bin", "usr/bin/sh="]),
            "/bin/sh",
            "`/bin/sh` lies behind a symlink, and symlinks are not followed: `/bin` points to \
             `usr/bin` (layer 2); ask for `/usr/bin/sh`",
        ),
    ] {
        assert_eq!(explain(&layers, path.as_bytes()).unwrap().verdict, verdict);
    }
}

#[test]
fn symlinks_that_lead_upwards_stay_in_the_image() {
    let l = image(&["a/b/l@../../../etc", "etc/f="]);
    let link = explain(&l, b"/a/b/l/f").unwrap().symlink.unwrap();
    assert_eq!((link.at.as_str(), link.ask.as_str()), ("/a/b/l", "/etc/f"));
}

#[test]
fn hostile_paths_are_refused_and_hostile_names_cannot_drive_a_terminal() {
    let l = image(&["d/"]);
    assert!(matches!(explain(&l, b"/d/../x"), Err(InspectError::Path(..))));
    assert!(matches!(explain(&l, &[b'n'; 300]), Err(InspectError::Path(..))));
    let e = explain(&l, b"/\x1b[2J\xff").unwrap();
    assert_eq!(e.path, "/\\u{1b}[2J\\xff");
    assert!(!e.verdict.contains('\x1b'));
}

#[test]
fn a_loop_of_redirects_ends() {
    let layers: Vec<String> = (0..200).map(|i| format!("d{}/>d{}", i % 2, (i + 1) % 2)).collect();
    let words: Vec<&str> = layers.iter().map(String::as_str).collect();
    assert!(explain(&image(&words), b"/d0/x").is_ok());
}

fn on_disk(kind: LayerKind, tmp: &tempfile::TempDir) -> LayerView {
    let files = Dir::open(tmp.path()).unwrap();
    let at = tempfile::tempdir().unwrap();
    let place = Dir::open(at.path()).unwrap();
    scan(&files, ScanOptions::default()).unwrap().finish(&place, INDEX_NAME).unwrap();
    let index = Arc::new(Index::open(&place, INDEX_NAME).unwrap());
    LayerView { files: Some(files), ..LayerView::new(kind, index) }
}

#[test]
fn markers_are_told_in_the_form_that_they_have_on_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let d = Dir::open(tmp.path()).unwrap();
    d.mkdir(b"x", 0o755).unwrap();
    d.mkdir(b"o", 0o755).unwrap();
    let set = |path: &[u8], key: &[u8], value: &[u8]| {
        d.node_beneath(path).unwrap().set_xattr(key, value, false, false)
    };
    if set(b"x", b"user.overlay.opaque", b"x").is_err() {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: {} holds no user.* attributes", tmp.path().display());
        }
        return;
    }
    set(b"o", b"user.overlay.opaque", b"y").unwrap();
    d.open_dir(b"x").unwrap().mknod(b"attr", FileType::File, 0o644, 0).unwrap();
    set(b"x/attr", b"user.overlay.whiteout", b"y").unwrap();
    d.mknod_whiteout(b"dev").unwrap();
    let lower = layer(LayerKind::Image, "x/attr=1 dev=1 o/f=1");
    let l = Layers::new(vec![on_disk(LayerKind::Image, &tmp), lower]);
    for (path, at, what, form, tar) in [
        ("/dev", "/dev", "whiteout", "character device 0:0", ".wh.dev"),
        ("/x/attr", "/x/attr", "whiteout", "empty file with user.overlay.whiteout", "x/.wh.attr"),
        ("/o/f", "/o", "opaque", "user.overlay.opaque=y", "o/.wh..wh..opq or .wh.o"),
    ] {
        let e = explain(&l, path.as_bytes()).unwrap();
        let m = e.layers[0].marker.clone().unwrap();
        assert_eq!((m.at.as_str(), m.what), (at, what));
        assert_eq!((m.form.as_deref(), m.tar.as_deref()), (Some(form), Some(tar)));
        assert!(!e.visible);
    }
}

#[test]
fn diff_follows_dockers_rules() {
    let changes = |layers: &[&str]| -> String {
        let all = diff(&container(layers)).unwrap();
        let one = |c: &Change| format!("{} {}", c.kind.letter(), String::from_utf8_lossy(&c.path));
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    for (layers, expected) in [
        // the run that store-format tells of, with a rename as its copy and whiteout
        (
            &["b/! b/hi= c/ d/ e/zz= -e/z file1.l=", "b/new= e/z= file1="][..],
            "C /b, A /b/hi, D /b/new, A /c, A /d, C /e, D /e/z, A /e/zz, A /file1.l",
        ),
        (&["", "a=1"], ""),
        // copied up without a change
        (&["d/a=1", "d/a=2"], ""),
        (&["a=11", "a=2"], "C /a"),
        (&["-d", "d/x= d/y="], "D /d"),
        (&["-never", "d/x="], ""),
        (&["d=", "d/x="], "C /d"),
        (&["d/x=", "d="], "C /d, A /d/x"),
        (&["d/e/f=", "d/e/g="], "C /d, C /d/e, A /d/e/f"),
        (&["n/e/f="], "A /n, A /n/e, A /n/e/f"),
        (&["new/>old -old", "old/f="], "A /new, A /new/f, D /old"),
        // hidden in the image already: not a change
        (&["x/", "-y", "y="], "A /x"),
        (&["s@b", "s@a"], ""),
        (&["s@bb", "s@a"], "C /s"),
    ] {
        assert_eq!(changes(layers), expected, "{layers:?}");
    }
    assert!(matches!(diff(&image(&["a="])), Err(InspectError::NoUpper)));
}

#[test]
fn the_init_layer_is_no_change() {
    let l = Layers::new(vec![
        layer(LayerKind::Upper, "etc/hosts=changed"),
        layer(LayerKind::Init, ".dockerenv= etc/hosts= etc/hostname="),
        layer(LayerKind::Image, "etc/passwd="),
    ]);
    let paths: Vec<Vec<u8>> = diff(&l).unwrap().into_iter().map(|c| c.path).collect();
    assert_eq!(paths, [&b"/etc"[..], b"/etc/hosts"]);
}

#[test]
fn layers_count_what_they_bring() {
    let infos = layer_infos(&container(&["-a d/! d/f=four l@ab", "a=1 d/g=22"]));
    assert_eq!((infos[0].layer, infos[0].kind, infos[1].layer), (2, LayerKind::Upper, 1));
    let i = &infos[0];
    assert_eq!((i.entries, i.whiteouts, i.opaque_dirs, i.size), (4, 1, 1, 6));
}

#[test]
fn the_names_of_json_fields_stay() {
    let keys = |v: serde_json::Value| -> String {
        v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let json = |v: &dyn Fn() -> serde_json::Value| v();
    let l = image(&["-x", "x="]);
    let e = explain(&l, b"x").unwrap();
    assert_eq!(
        keys(json(&|| serde_json::to_value(&e).unwrap())),
        "path visible layer symlink layers verdict"
    );
    assert_eq!(
        keys(serde_json::to_value(&e.layers[0]).unwrap()),
        "layer kind diff_id cache_id directory created_by state hidden_by hidden_at marker type \
         metacopy stored_at size mode uid gid target device"
    );
    assert_eq!(keys(serde_json::to_value(&e.layers[0].marker).unwrap()), "at what form tar");
    assert_eq!(
        keys(serde_json::to_value(&layer_infos(&l)[0]).unwrap()),
        "layer kind diff_id chain_id cache_id directory size entries whiteouts opaque_dirs created_by"
    );
    assert_eq!(serde_json::to_value(e.layers[1].state).unwrap(), "hidden-by-whiteout");
    for s in [State::Provides, State::RedirectedFrom, State::HiddenByNondir, State::Absent] {
        assert_eq!(serde_json::to_value(s).unwrap(), s.word());
    }
}

mod with_the_engine {
    use super::*;
    use crate::name::Name;
    use crate::overlay::{Ino, Lower, Options, Overlay, Stack};
    use proptest::prelude::*;

    /// Words of `testing::layer` over two names and three levels.
    fn word() -> impl Strategy<Value = String> {
        let path = proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..4);
        (path, 0..7).prop_map(|(path, what)| {
            let p = path.join("/");
            match what {
                0 => format!("-{p}"),
                1 => format!("{p}/!"),
                2 | 3 => format!("{p}/"),
                4 => format!("{p}/>a"),
                5 => format!("{p}/>/b/a"),
                _ => format!("{p}=x"),
            }
        })
    }

    /// Leaves out words that would put something below a file.
    fn consistent(words: Vec<String>) -> String {
        let mut kept: Vec<(String, String)> = Vec::new();
        for word in words {
            let path = word.trim_start_matches('-').split(['=', '!', '>']).next().unwrap_or("");
            let path = path.trim_end_matches('/').to_owned();
            let below = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
            if kept.iter().all(|(_, p)| !below(&path, p) && !below(p, &path)) {
                kept.push((word, path));
            }
        }
        kept.into_iter().map(|(w, _)| w).collect::<Vec<_>>().join(" ")
    }

    fn overlay(layers: &Layers) -> Overlay {
        let tmp = tempfile::tempdir().unwrap();
        let diff = Dir::open(tmp.path()).unwrap();
        let lowers = layers
            .numbered()
            .map(|(_, l)| Lower::Indexed { index: l.index.clone(), diff: diff.clone().into() });
        let stack = Stack { lowers: lowers.collect(), data_only: Vec::new(), upper: None };
        Overlay::new(stack, Options::default()).unwrap()
    }

    fn is_there(o: &Overlay, path: &[&str]) -> bool {
        let mut at = Ino::ROOT;
        path.iter().all(|part| match o.lookup(at, Name::new(part.as_bytes()).unwrap()) {
            Ok(attr) => {
                at = attr.ino;
                true
            }
            Err(_) => false,
        })
    }

    proptest! {
        /// The mount is the one who knows.
        #[test]
        fn explain_sees_what_the_mount_shows(
            stack in proptest::collection::vec(proptest::collection::vec(word(), 0..5), 1..5)
        ) {
            let stack: Vec<String> = stack.into_iter().map(consistent).collect();
            let words: Vec<&str> = stack.iter().map(String::as_str).collect();
            let layers = image(&words);
            let view = overlay(&layers);
            for n in 1..5_u32 {
                for bits in 0..1 << n {
                    let path: Vec<&str> =
                        (0..n).map(|i| if bits >> i & 1 == 0 { "a" } else { "b" }).collect();
                    let told = explain(&layers, path.join("/").as_bytes()).unwrap();
                    prop_assert_eq!(
                        told.visible, is_there(&view, &path), "{:?} {}", stack, told.verdict
                    );
                }
            }
        }
    }
}
