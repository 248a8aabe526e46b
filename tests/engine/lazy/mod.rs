//! Copies of which the blocks come when they are needed (`lazy_copy_up`).

mod crashes;

use crate::support::{Form, Layers, READ, View, WRITE, dialect_key, skip};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use stratafs::overlay::failpoint::Failpoints;
use stratafs::overlay::{OpenMode, Options, RenameMode, Result, SetAttr};
use stratafs::sys::{Dir, Seek, Time, TimeSet};

const PAGE: usize = 4096;
/// What is copied around a write.
const BLOCK: usize = 64 << 10;
/// Neither whole blocks nor whole pages.
const LEN: usize = 5 * BLOCK + PAGE + 100;
const NOTES: &str = "w/work/incompat";

/// Every page differs from every other, and none is of zeros.
fn content(seed: u8, len: usize) -> Vec<u8> {
    let byte = |i: usize| (i / PAGE * 7 + i % 251) as u8 ^ seed | 1;
    (0..len).map(byte).collect()
}

/// Lowers with the files `f` and `g` of [`LEN`] bytes, the second with a hole, and some more.
fn layers() -> Layers {
    let mut l = Layers::new(&[&["f f x", "f g x", "d d", "f d/x x"]]);
    put(&l, "f", &content(0, LEN), None);
    put(&l, "g", &content(8, LEN), Some(BLOCK + 3 * PAGE..3 * BLOCK + PAGE));
    l.remember();
    l
}

fn put(l: &Layers, name: &str, data: &[u8], hole: Option<std::ops::Range<usize>>) {
    let path = l.lowers[0].join(name);
    let f = std::fs::File::create(path).unwrap();
    f.set_len(data.len() as u64).unwrap();
    let hole = hole.unwrap_or(0..0);
    f.write_all_at(&data[..hole.start], 0).unwrap();
    f.write_all_at(&data[hole.end..], hole.end as u64).unwrap();
    let old = TimeSet::At(Time { sec: 1_500_000_000, nsec: 123_456_789 });
    Dir::open(&l.lowers[0]).unwrap().set_times(name.as_bytes(), old, old).unwrap();
}

fn lower(l: &Layers, name: &str) -> Vec<u8> {
    std::fs::read(l.lowers[0].join(name)).unwrap()
}

fn options() -> Options {
    Options { lazy_from: Some(1), ..Options::default() }
}

/// Returns a view whose copies are incomplete, if the file system here allows it.
fn lazily(l: &Layers, form: Form, options: Options) -> Option<View> {
    let v = l.open_with(form, options, true);
    if !v.fs.settle_later() {
        skip("a crash may leave anything on this file system");
        return None;
    }
    if l.upper().join("d/x").exists() {
        return Some(v);
    }
    v.append("d/x", b"x").unwrap();
    if mark(l, "d/x").is_none() {
        skip("blocks are shared on this file system");
        return None;
    }
    v.fs.settle_all();
    Some(v)
}

fn mark(l: &Layers, file: &str) -> Option<Vec<u8>> {
    let (dir, base) = file.rsplit_once('/').unwrap_or(("", file));
    let dir = Dir::open(l.upper().join(dir)).ok()?;
    dir.node(base.as_bytes()).ok()?.get_xattr(&dialect_key("metacopy")).unwrap()
}

/// How many batches are noted; the kernel's overlayfs mounts no upper that has any.
fn notes(l: &Layers) -> usize {
    std::fs::read_dir(l.tmp.path().join(NOTES)).map_or(0, Iterator::count)
}

fn blocks(l: &Layers, file: &str) -> u64 {
    let upper = Dir::open(l.upper()).unwrap();
    upper.stat(file.as_bytes()).unwrap().blocks * 512
}

fn open(v: &View, path: &str, mode: OpenMode) -> stratafs::overlay::Fh {
    v.fs.open(v.ino(path).unwrap(), mode).unwrap()
}

fn write(v: &View, path: &str, at: usize, data: &[u8]) -> Result<()> {
    let fh = v.fs.open(v.ino(path)?, WRITE)?;
    let done = v.fs.write(fh, at as u64, data, false);
    v.fs.release(fh);
    assert_eq!(done?, data.len());
    Ok(())
}

fn all(v: &View, path: &str) -> Vec<u8> {
    let fh = open(v, path, READ);
    let mut buf = vec![0; LEN + 8 * BLOCK];
    let n = v.fs.read(fh, 0, &mut buf).unwrap();
    v.fs.release(fh);
    buf.truncate(n);
    buf
}

#[track_caller]
fn same(left: &[u8], right: &[u8]) {
    assert_eq!(left.len(), right.len(), "length");
    if let Some(at) = left.iter().zip(right).position(|(a, b)| a != b) {
        panic!("first difference at {at:#x}: {} {}", left[at], right[at]);
    }
}

#[test]
fn the_first_write_copies_the_blocks_around_it_and_no_more() {
    for form in [Form::Plain, Form::Indexed] {
        for metacopy in [false, true] {
            let l = layers();
            let Some(v) = lazily(&l, form, Options { metacopy, ..options() }) else { return };
            let mtime = v.stat("f").unwrap().mtime;
            if metacopy {
                v.chmod("f", 0o640).unwrap();
            }
            let before = open(&v, "f", READ);
            write(&v, "f", 2 * BLOCK + 10, b"new").unwrap();
            assert!(blocks(&l, "f") <= 2 * BLOCK as u64, "more than a block was copied");
            assert!(mark(&l, "f").is_some_and(|m| m.first() != Some(&0)));
            assert_eq!(notes(&l), 1);
            let mut want = content(0, LEN);
            want[2 * BLOCK + 10..][..3].copy_from_slice(b"new");
            same(&all(&v, "f"), &want);
            // also through a descriptor of before
            let mut buf = vec![0; LEN];
            assert_eq!(v.fs.read(before, 0, &mut buf).unwrap(), LEN);
            same(&buf, &want);
            assert!(v.fs.backing_file(before).is_none(), "the kernel may not read it itself");

            let written = v.stat("f").unwrap();
            assert!(written.mtime != mtime);
            v.fs.settle_all();
            let after = v.stat("f").unwrap();
            assert_eq!((after.mtime, after.ino), (written.mtime, written.ino));
            assert_eq!((mark(&l, "f"), notes(&l)), (None, 0));
            same(&std::fs::read(l.upper().join("f")).unwrap(), &want);
            same(&all(&v, "f"), &want);
            assert!(v.fs.backing_file(before).is_some());
            l.check_untouched();
        }
    }
}

#[test]
fn holes_of_the_lower_stay_holes() {
    let l = layers();
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    v.append("g", b"more").unwrap();
    v.fs.settle_all();
    let mut want = lower(&l, "g");
    want.extend(b"more");
    same(&std::fs::read(l.upper().join("g")).unwrap(), &want);
    assert!(blocks(&l, "g") < (LEN - BLOCK) as u64);
}

#[test]
fn a_small_file_and_one_that_may_do_more_than_others_are_copied_at_once() {
    let l = layers();
    let big = Options { lazy_from: Some(LEN as u64 + 1), ..options() };
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    drop(v);
    let v = l.open_with(Form::Plain, big, true);
    assert!(v.fs.settle_later());
    write(&v, "f", 0, b"new").unwrap();
    assert!(blocks(&l, "f") >= LEN as u64, "too small to wait");
    v.fs.sync().unwrap();

    // completing it would take the bits away, as any write
    let l = layers();
    let path = l.lowers[0].join("f");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    write(&v, "f", 0, b"new").unwrap();
    assert!(blocks(&l, "f") >= LEN as u64, "set-id");
    write(&v, "g", 0, b"new").unwrap();
    v.chmod("g", 0o4755).unwrap();
    assert_eq!(mark(&l, "g"), None);
}

type Change = fn(&View);

fn set_size(v: &View, size: u64) {
    let set = SetAttr { size: Some(size), ..SetAttr::default() };
    v.fs.setattr(v.ino("f").unwrap(), None, &set).map(drop).unwrap();
}

#[test]
fn whatever_does_more_than_read_and_write_completes_the_file_first() {
    let mut want = content(0, LEN);
    want[9] = b'!';
    let punched = {
        let mut w = want.clone();
        w[..PAGE].fill(0);
        w
    };
    let cut = want[..BLOCK + 1].to_vec();
    let changes: &[(&str, Change, &[u8])] = &[
        ("fsync", |v| v.fs.fsync(open(v, "f", WRITE), true).unwrap(), &want),
        ("rename", |v| v.rename("f", "d/f", RenameMode::Replace).unwrap(), &want),
        ("link", |v| v.link("f", "d/l").map(drop).unwrap(), &want),
        ("truncate", |v| set_size(v, BLOCK as u64 + 1), &cut),
        ("cut", |v| set_size(v, 0), b""),
        ("O_TRUNC", |v| v.fs.release(open(v, "f", OpenMode { truncate: true, ..WRITE })), b""),
        ("punch", |v| v.fs.fallocate(open(v, "f", WRITE), 3, 0, PAGE as u64).unwrap(), &punched),
        (
            "SEEK_HOLE",
            |v| {
                let hole = v.fs.seek(open(v, "f", READ), Seek::Hole, 0).unwrap();
                assert_eq!(hole, LEN as u64);
            },
            &want,
        ),
        (
            "copy from",
            |v| {
                let out = open(v, "d/x", WRITE);
                let n = v.fs.copy_file_range(open(v, "f", READ), 5, out, 0, 9, false).unwrap();
                assert_eq!(
                    v.read("d/x").unwrap(),
                    content(0, 9 + 5)[5..9]
                        .iter()
                        .copied()
                        .chain(*b"!")
                        .chain(content(0, 14)[10..14].iter().copied())
                        .collect::<Vec<_>>()
                );
                assert_eq!(n, 9);
            },
            &want,
        ),
        (
            "copy to",
            |v| {
                let from = open(v, "d/x", READ);
                v.fs.copy_file_range(from, 0, open(v, "f", WRITE), 9, 0, false).map(drop).unwrap();
            },
            &want,
        ),
        ("settle", |v| v.fs.settle_all(), &want),
        ("end", |v| v.fs.sync().unwrap(), &want),
    ];
    for (what, change, want) in changes {
        for metacopy in [false, true] {
            let l = layers();
            let options = Options { metacopy, ..options() };
            let Some(v) = lazily(&l, Form::Plain, options.clone()) else { return };
            if metacopy {
                v.chmod("f", 0o600).unwrap();
            }
            write(&v, "f", 9, b"!").unwrap();
            v.fs.forget(v.ino("f").unwrap(), 1000);
            assert!(mark(&l, "f").is_some(), "{what}");
            change(&v);
            let at = if *what == "rename" { "d/f" } else { "f" };
            assert_eq!(mark(&l, at), None, "{what}");
            same(&all(&v, at), want);
            same(&std::fs::read(l.upper().join(at)).unwrap(), want);
            v.fs.sync().unwrap();
            l.check_work_empty();
            drop(v);
            same(&all(&l.open(Form::Plain), at), want);
            l.check_untouched();
        }
    }
}

#[test]
fn a_directory_that_leaves_its_lowers_behind_takes_whole_files_along() {
    let l = layers();
    let copying = Options { redirect_dir: false, rename_by_copy: true, ..options() };
    let Some(v) = lazily(&l, Form::Plain, copying.clone()) else { return };
    std::fs::create_dir(l.lowers[0].join("e")).unwrap();
    std::fs::write(l.lowers[0].join("e/f"), content(3, LEN)).unwrap();
    drop(v);
    let Some(v) = lazily(&l, Form::Plain, copying.clone()) else { return };
    write(&v, "e/f", 0, b"new").unwrap();
    assert!(mark(&l, "e/f").is_some());
    v.rename("e", "d/e", RenameMode::Replace).unwrap();
    assert_eq!(mark(&l, "d/e/f"), None);
    drop(v);
    let v = l.open_with(Form::Plain, copying, true);
    let mut want = content(3, LEN);
    want[..3].copy_from_slice(b"new");
    same(&all(&v, "d/e/f"), &want);
}

#[test]
fn a_removed_file_is_read_and_written_on() {
    let l = layers();
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    let fh = open(&v, "f", WRITE);
    v.fs.write(fh, 10, b"one", false).unwrap();
    v.unlink("f").unwrap();
    v.fs.write(fh, 3 * BLOCK as u64, b"two", false).unwrap();
    // opened before it was removed, and copied up after
    let late = open(&v, "g", WRITE);
    v.unlink("g").unwrap();
    v.fs.write(late, 5, b"three", false).unwrap();
    for _ in 0..2 {
        let mut want = content(0, LEN);
        want[10..13].copy_from_slice(b"one");
        want[3 * BLOCK..][..3].copy_from_slice(b"two");
        let mut buf = vec![0; LEN];
        assert_eq!(v.fs.read(fh, 0, &mut buf).unwrap(), LEN);
        same(&buf, &want);
        let mut want = lower(&l, "g");
        want[5..10].copy_from_slice(b"three");
        assert_eq!(v.fs.read(late, 0, &mut buf).unwrap(), LEN);
        same(&buf, &want);
        v.fs.settle_all();
    }
    v.fs.fsync(fh, false).unwrap();
    v.fs.release(fh);
    v.fs.release(late);
    v.fs.sync().unwrap();
    l.check_work_empty();
}

#[test]
fn many_write_while_it_is_completed() {
    let l = layers();
    for round in 0..20 {
        let Some(v) = lazily(&l, Form::Plain, options()) else { return };
        let ino = v.ino("f").unwrap();
        std::thread::scope(|s| {
            for t in 0..4_usize {
                let v = &v;
                s.spawn(move || {
                    for i in 0..20 {
                        // each its own bytes of each block
                        let at = (i * 7919 * PAGE + round) % LEN / 16 * 16 + t * 4;
                        write(v, "f", at, &[b'A' + t as u8; 4]).unwrap();
                        let mtime = v.fs.getattr(ino, None).unwrap().mtime;
                        assert!(mtime.sec > 1_500_000_000);
                    }
                });
            }
            s.spawn(|| v.fs.settle_all());
        });
        let mut want = content(0, LEN);
        for t in 0..4 {
            for i in 0..20 {
                let at = (i * 7919 * PAGE + round) % LEN / 16 * 16 + t * 4;
                want.resize(want.len().max(at + 4), 0);
                want[at..at + 4].fill(b'A' + t as u8);
            }
        }
        same(&all(&v, "f"), &want);
        v.fs.sync().unwrap();
        same(&std::fs::read(l.upper().join("f")).unwrap(), &want);
        v.unlink("f").unwrap();
        drop(v);
        std::fs::remove_file(l.upper().join("f")).unwrap();
    }
}

#[test]
fn the_end_waits_for_who_is_completing_a_file() {
    let l = layers();
    let armory = Arc::new(Failpoints::default());
    let armed = Options { failpoints: Some(armory.clone()), ..options() };
    let Some(v) = lazily(&l, Form::Plain, armed) else { return };
    write(&v, "f", 5, b"new").unwrap();
    armory.hold("lazy:step");
    std::thread::scope(|s| {
        let settler = s.spawn(|| v.fs.settle_all());
        armory.wait_for_comer("lazy:step");
        let end = s.spawn(|| {
            v.fs.sync().unwrap();
            (mark(&l, "f"), notes(&l))
        });
        // it cannot end here; were it to, this is time enough for it
        std::thread::sleep(std::time::Duration::from_millis(100));
        armory.let_go("lazy:step");
        assert_eq!(end.join().unwrap(), (None, 0));
        settler.join().unwrap();
    });
}
