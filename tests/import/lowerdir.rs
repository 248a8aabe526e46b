//! Directories in overlay form become layers that show the same tree.

use super::support::Bench;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use stratafs::image::Input;
use stratafs::sys::{Dir, Identity};

fn set(path: &Path, key: &str, value: &str) {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    dir.set_xattr(name, key.as_bytes(), value.as_bytes()).unwrap();
}

fn whiteout(path: &Path) {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    dir.mknod_whiteout(path.file_name().unwrap().as_encoded_bytes()).unwrap();
}

fn write(path: &Path, data: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, data).unwrap();
}

/// Reads the layers, bottom first, as lists of what their tars hold.
fn tars(dirs: Vec<PathBuf>) -> Vec<Vec<String>> {
    let b = Bench::new();
    let images = stratafs::image::open_source(Input::LowerDirs(dirs), &b.options()).unwrap().images;
    images[0].layers.iter().map(|l| list(l.open().unwrap())).collect()
}

fn list(reader: impl std::io::Read) -> Vec<String> {
    use std::io::Read;
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().unwrap().map(|e| {
        let mut e = e.unwrap();
        let name = String::from_utf8(e.path_bytes().into_owned()).unwrap();
        let mut text = String::new();
        e.read_to_string(&mut text).unwrap();
        let link = e.link_name_bytes().map(|l| String::from_utf8(l.into_owned()).unwrap());
        match (text.is_empty(), link) {
            (_, Some(l)) => format!("{name} -> {l}"),
            (false, None) => format!("{name} = {text}"),
            (true, None) => name,
        }
    });
    entries.collect()
}

#[test]
fn markers_take_the_form_of_the_image_spec() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    write(&at("low/gone"), "g");
    write(&at("low/d/old"), "o");
    write(&at("low/e/old"), "o");
    write(&at("low/f/old"), "o");
    write(&at("top/d/new"), "n");
    write(&at("top/e/new"), "n");
    write(&at("top/e/.wh..wh..opq"), "");
    write(&at("top/f/.wh.old"), "");
    write(&at("top/x/empty"), "");
    std::fs::hard_link(at("top/d/new"), at("top/link")).unwrap();
    symlink("/nowhere", at("top/s")).unwrap();
    whiteout(&at("top/gone"));
    set(&at("top/d"), "user.overlay.opaque", "y");
    set(&at("top/x"), "user.overlay.opaque", "x");
    set(&at("top/x/empty"), "user.overlay.whiteout", "");
    let layers = tars(vec![at("top"), at("low")]);
    assert_eq!(
        layers[1],
        [
            "./",
            "d/",
            "d/.wh..wh..opq",
            "d/new = n",
            "e/",
            "e/.wh..wh..opq",
            "e/new = n",
            "f/",
            "f/.wh.old",
            ".wh.gone",
            "link -> d/new",
            "s -> /nowhere",
            "x/",
            "x/.wh.empty",
        ]
    );
    assert_eq!(layers[0].len(), 8);
}

#[test]
fn a_socket_is_left_out_and_goes_on_hiding_what_it_hides() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    write(&at("low/d/s"), "low");
    write(&at("top/d/f"), "f");
    for name in ["d/s", "d/alone"] {
        drop(std::os::unix::net::UnixListener::bind(at("top").join(name)).unwrap());
    }
    let layers = tars(vec![at("top"), at("low")]);
    assert_eq!(layers[1], ["./", "d/", "d/f = f", "d/.wh.s"]);
}

#[test]
fn attributes_that_are_no_marks_are_kept_whatever_they_are_called() {
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("f");
    write(&file, "f");
    for key in ["user.k", "user.overlay.k", "user.overlay.redirect", "user.overlay.stratafs.origin"]
    {
        set(&file, key, "v");
    }
    // listed, and refused to who reads it
    if stratafs::sys::Identity::current().privileged {
        set(&file, "security.capability", "");
    }
    let b = Bench::new();
    let input = Input::LowerDirs(vec![tmp.path().to_owned()]);
    let images = stratafs::image::open_source(input, &b.options()).unwrap().images;
    let mut archive = tar::Archive::new(images[0].layers[0].open().unwrap());
    let mut keys = Vec::new();
    for entry in archive.entries().unwrap() {
        for record in entry.unwrap().pax_extensions().unwrap().into_iter().flatten() {
            keys.push(record.unwrap().key().unwrap().to_owned());
        }
    }
    keys.retain(|k| k.starts_with("SCHILY.xattr."));
    assert_eq!(keys, ["SCHILY.xattr.user.k", "SCHILY.xattr.user.overlay.k"]);
}

#[test]
fn what_could_not_be_made_is_taken_from_its_record() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    for (name, value) in [("zero", "0:0:0644:char-0-0"), ("null", "7:8:0666:char-1-3")] {
        write(&at(name), "");
        set(&at(name), "user.containers.override_stat", value);
    }
    let b = Bench::new();
    let input = Input::LowerDirs(vec![tmp.path().to_owned()]);
    let images = stratafs::image::open_source(input, &b.options()).unwrap().images;
    let mut archive = tar::Archive::new(images[0].layers[0].open().unwrap());
    let found: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            let h = e.header();
            let name = String::from_utf8(e.path_bytes().into_owned()).unwrap();
            (name, h.entry_type(), h.uid().unwrap(), h.device_minor().ok().flatten().unwrap_or(0))
        })
        .filter(|(name, ..)| name != "./")
        .collect();
    let char = tar::EntryType::Char;
    assert_eq!(found, [("null".to_owned(), char, 7, 3), ("zero".to_owned(), char, 0, 0)]);
}

#[test]
fn redirects_and_metacopies_are_written_whole() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    // bottom: a/{1,2,sub/3}; middle renames a to b and changes b/2; top renames b/sub to c
    write(&at("0/a/1"), "one");
    write(&at("0/a/2"), "two");
    write(&at("0/a/sub/3"), "three");
    write(&at("0/meta"), "content");
    write(&at("1/b/2"), "changed");
    whiteout(&at("1/a"));
    set(&at("1/b"), "user.overlay.redirect", "a");
    std::fs::create_dir_all(at("2/c")).unwrap();
    std::fs::create_dir_all(at("2/b")).unwrap();
    set(&at("2/c"), "user.overlay.redirect", "/b/sub");
    whiteout(&at("2/b/sub"));
    let meta = std::fs::File::create(at("2/meta")).unwrap();
    meta.set_len(7).unwrap();
    set(&at("2/meta"), "user.overlay.metacopy", "");
    let layers = tars(vec![at("2"), at("1"), at("0")]);
    assert_eq!(
        layers[1],
        [
            "./",
            ".wh.a",
            "b/",
            "b/.wh..wh..opq",
            "b/1 = one",
            "b/2 = changed",
            "b/sub/",
            "b/sub/3 = three"
        ]
    );
    assert_eq!(
        layers[2],
        ["./", "b/", "b/.wh.sub", "c/", "c/.wh..wh..opq", "c/3 = three", "meta = content"]
    );
}

#[test]
fn the_kernel_and_the_import_agree() {
    if !Identity::current().privileged {
        writeln!(std::io::stderr(), "\nSKIPPED (1 so far): mounting an overlay needs root")
            .unwrap();
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    for d in ["low", "mid", "top", "work", "m"] {
        std::fs::create_dir(at(d)).unwrap();
    }
    write(&at("low/dir/a"), "a");
    write(&at("low/dir/sub/b"), "b");
    write(&at("low/plain"), "plain");
    let run = |script: &str| {
        let done = Command::new("sh").arg("-ec").arg(script).current_dir(tmp.path()).status();
        done.is_ok_and(|s| s.success())
    };
    let mount = |lower: &str, upper: &str| {
        run(&format!(
            "rm -rf work; mkdir work; mount -t overlay overlay -o redirect_dir=on,metacopy=on,index=off,lowerdir={lower},upperdir={upper},workdir=work m"
        ))
    };
    if !mount("low", "mid") {
        writeln!(std::io::stderr(), "\nSKIPPED (1 so far): this kernel mounts no overlay here")
            .unwrap();
        return;
    }
    assert!(run("mv m/dir m/moved; chmod 600 m/plain; echo more > m/moved/c; umount m"));
    assert!(mount("mid:low", "top"));
    assert!(run("mv m/moved/sub m/sub2; rm m/moved/a; mkdir m/moved/a; umount m"));
    let layers = tars(vec![at("top"), at("mid"), at("low")]);
    let has = |l: usize, name: &str| layers[l].iter().any(|e| e == name);
    assert!(has(1, ".wh.dir") && has(1, "moved/a = a") && has(1, "moved/sub/b = b"), "{layers:?}");
    assert!(has(1, "plain = plain"), "{layers:?}");
    assert!(has(2, "sub2/b = b") && has(2, "moved/.wh.sub"), "{layers:?}");
    assert!(has(2, "moved/a/"), "{layers:?}");
}

#[test]
fn a_stack_imports_under_its_name() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |p: &str| tmp.path().join(p);
    write(&at("low/a"), "1");
    write(&at("top/b"), "2");
    whiteout(&at("top/a"));
    let b = Bench::new();
    let input = Input::LowerDirs(vec![at("top"), at("low")]);
    let images = stratafs::image::open_source(input, &b.options()).unwrap().images;
    let done = b.import_images(images, Some("stack")).unwrap();
    assert_eq!(done[0].references[0].to_string(), "stack:latest");
    assert_eq!(done[0].layers.len(), 2);
    assert!(b.snapshot()["names"].contains("stack:latest"));
}
