//! What failures and crashes leave of such copies.

use super::{
    BLOCK, LEN, PAGE, all, content, layers, lazily, lower, mark, notes, open, options, same, write,
};
use crate::support::{Form, Layers, READ, View, WRITE};
use std::sync::Arc;
use stratafs::overlay::failpoint::{Failpoints, LAZY};
use stratafs::overlay::{Ino, Options, Result};
use stratafs::sys::{Dir, Errno, OpenFlags};

#[test]
fn a_failure_at_any_step_leaves_the_old_or_the_new_content() {
    type Step = fn(&View) -> Result<()>;
    let part: (&str, Step) = ("write", |v| write(v, "f", BLOCK - 5, &[b'!'; 10]));
    let whole: (&str, Step) = ("whole blocks", |v| write(v, "f", BLOCK - 5, &[b'!'; 2 * BLOCK]));
    let fsync: (&str, Step) = ("fsync", |v| v.fs.fsync(open(v, "f", READ), false));
    let cut: (&str, Step) = ("cut", |v| v.truncate("f", 0).map(drop));
    let end: (&str, Step) = ("end", |v| v.fs.sync());
    let runs = [(Form::Plain, vec![part, fsync, end]), (Form::Indexed, vec![whole, cut, part])];
    let mut passed = std::collections::BTreeSet::new();
    for (form, steps) in runs {
        for point in LAZY {
            for (n, (what, step)) in steps.iter().enumerate() {
                // the state before, and the one after, without failures
                let [old, new] = [n, n + 1].map(|n| {
                    let l = layers();
                    let v = lazily(&l, form, options())?;
                    steps[..n].iter().for_each(|(_, s)| s(&v).unwrap());
                    Some(all(&v, "f"))
                });
                let (Some(old), Some(new)) = (old, new) else { return };
                for crash in [true, false] {
                    let l = layers();
                    let armory = Arc::new(Failpoints::default());
                    let armed = Options { failpoints: Some(armory.clone()), ..options() };
                    let Some(v) = lazily(&l, form, armed) else { return };
                    steps[..n].iter().for_each(|(_, s)| s(&v).unwrap());
                    armory.arm(point, Errno::NOSPC);
                    let result = step(&v);
                    if armory.is_armed(point) {
                        continue;
                    }
                    passed.insert(*point);
                    if *what != "end" {
                        assert_eq!(result.unwrap_err().errno(), Errno::NOSPC, "{what} at {point}");
                    }
                    let now = all(&v, "f");
                    assert!(now == old || now == new, "{what} at {point}: neither old nor new");
                    if crash {
                        drop(v);
                        let v = l.open_with(form, Options::default(), true);
                        same(&all(&v, "f"), &now);
                        assert_eq!(mark(&l, "f"), None, "{what} at {point}");
                        step(&v).unwrap();
                        same(&all(&v, "f"), &new);
                        v.fs.sync().unwrap();
                    } else {
                        step(&v).unwrap();
                        same(&all(&v, "f"), &new);
                        v.fs.sync().unwrap();
                        drop(v);
                        same(&all(&l.open(form), "f"), &new);
                    }
                    l.check_untouched();
                }
            }
        }
    }
    let missed: Vec<_> = LAZY.iter().filter(|p| !passed.contains(*p)).collect();
    assert!(missed.is_empty(), "no step passes {missed:?}");
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// A power loss may take from a marked file any page that was not synced.
fn lose_pages(l: &Layers, r: &mut Random, name: &str, model: &mut [u8], below: &[u8]) {
    if mark(l, name).is_none_or(|m| m.first() == Some(&0)) {
        return;
    }
    let upper = Dir::open(l.upper()).unwrap();
    let f = upper.open_file(name.as_bytes(), OpenFlags::READ_WRITE, 0).unwrap();
    for _ in 0..r.below(12) {
        let page = r.below(model.len().div_ceil(PAGE).max(1)) * PAGE;
        f.fallocate(3, page as u64, PAGE as u64).unwrap();
        for at in page..(page + PAGE).min(model.len()) {
            model[at] = below.get(at).copied().unwrap_or(0);
        }
    }
}

#[test]
fn it_behaves_as_a_vector_of_bytes_over_crashes() {
    let seeds =
        std::env::var("STRATAFS_LAZY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    for seed in 0..seeds {
        let mut r = Random(seed);
        let form = if seed % 2 == 0 { Form::Plain } else { Form::Indexed };
        let metacopy = r.below(2) == 0;
        let l = layers();
        let Some(mut v) = lazily(&l, form, Options { metacopy, ..options() }) else { return };
        let mut models = ["f", "g"].map(|n| (n, lower(&l, n), lower(&l, n)));
        for step in 0..60 {
            let (name, _, model) = &mut models[r.below(2)];
            let at = r.below(LEN + BLOCK);
            let len = [1, 100, PAGE, BLOCK, 2 * BLOCK + 77][r.below(5)];
            // now and then exactly whole pages or blocks
            let unit = [1, 1, PAGE, BLOCK][r.below(4)];
            let (at, end) = (at / unit * unit, (at + len) / unit * unit);
            let what = r.below(24);
            match what {
                0..=9 => {
                    let data: Vec<u8> = (at..end).map(|i| (i % 239 + step) as u8).collect();
                    write(&v, name, at, &data).unwrap();
                    if !data.is_empty() {
                        model.resize(model.len().max(end), 0);
                        model[at..end].copy_from_slice(&data);
                    }
                }
                10 => {
                    v.truncate(name, at as u64).unwrap();
                    model.resize(at, 0);
                }
                11 if r.below(3) == 0 => {
                    v.truncate(name, 0).unwrap();
                    model.clear();
                }
                12 => {
                    v.chmod(name, 0o600 | r.below(0o100) as u32).unwrap();
                }
                13 if end > at => {
                    let fh = open(&v, name, WRITE);
                    v.fs.fallocate(fh, 3, at as u64, (end - at) as u64).unwrap();
                    v.fs.release(fh);
                    let (at, end) = (at.min(model.len()), end.min(model.len()));
                    model[at..end].fill(0);
                }
                14 => {
                    let fh = open(&v, name, READ);
                    v.fs.fsync(fh, false).unwrap();
                    v.fs.release(fh);
                }
                15 => v.fs.settle_all(),
                16..=19 => {
                    if what == 16 {
                        v.fs.sync().unwrap();
                    }
                    drop(v);
                    if what == 17 {
                        for (name, below, model) in &mut models {
                            lose_pages(&l, &mut r, name, model, below);
                        }
                    }
                    let lazy_from = [None, Some(1), Some(LEN as u64)][r.below(3)];
                    v = l.open_with(form, Options { metacopy, lazy_from, ..options() }, true);
                    assert_eq!(notes(&l), 0, "what a crash left was not mended");
                    if r.below(4) > 0 {
                        assert!(v.fs.settle_later());
                    }
                }
                _ => {
                    let fh = open(&v, name, READ);
                    let mut buf = vec![0; len];
                    let n = v.fs.read(fh, at as u64, &mut buf).unwrap();
                    v.fs.release(fh);
                    let (from, to) = (at.min(model.len()), (at + len).min(model.len()));
                    same(&buf[..n], &model[from..to]);
                }
            }
            for (name, _, model) in &models {
                assert_eq!(v.stat(name).unwrap().size, model.len() as u64, "{seed}:{step} {what}");
                if r.below(3) == 0 {
                    assert!(
                        all(&v, name) == *model,
                        "seed {seed} step {step} after {what}: {name}"
                    );
                }
            }
        }
        v.fs.sync().unwrap();
        for (name, below, model) in &models {
            let upper = l.upper().join(name);
            if upper.exists() && mark(&l, name).is_none() {
                same(&std::fs::read(upper).unwrap(), model);
            } else {
                same(below, model);
            }
        }
        l.check_untouched();
    }
}

#[test]
fn what_could_not_be_completed_is_tried_again_at_the_end() {
    let l = layers();
    let armory = Arc::new(Failpoints::default());
    let armed = Options { failpoints: Some(armory.clone()), ..options() };
    let Some(v) = lazily(&l, Form::Plain, armed) else { return };
    write(&v, "f", 5, b"new").unwrap();
    armory.arm("lazy:step", Errno::NOSPC);
    v.fs.settle_all();
    assert!(mark(&l, "f").is_some());
    assert_eq!(notes(&l), 1, "the kernel would mount it");
    let mut want = content(0, LEN);
    want[5..8].copy_from_slice(b"new");
    same(&all(&v, "f"), &want);
    v.fs.forget(v.ino("f").unwrap(), 1000);
    v.fs.lookup(Ino::ROOT, crate::support::name("f")).unwrap();
    same(&all(&v, "f"), &want);
    // others that settle together settle all the same, but for the note
    for i in 0..9 {
        v.write(&format!("d/n{i}"), b"x").unwrap();
    }
    v.append("d/x", b"more").unwrap();
    write(&v, "g", 5, b"new").unwrap();
    armory.arm("lazy:step", Errno::NOSPC);
    v.fs.settle_all();
    assert_eq!(notes(&l), 1);
    v.fs.sync().unwrap();
    assert_eq!((mark(&l, "f"), mark(&l, "g"), notes(&l)), (None, None, 0));
    same(&std::fs::read(l.upper().join("f")).unwrap(), &want);
    l.check_work_empty();
}

#[test]
fn without_its_note_an_incomplete_file_is_completed_when_it_is_opened() {
    let l = layers();
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    write(&v, "f", 5, b"new").unwrap();
    drop(v);
    std::fs::remove_dir_all(l.tmp.path().join("w")).unwrap();
    std::fs::create_dir(l.tmp.path().join("w")).unwrap();
    let v = l.open(Form::Plain);
    let mut want = content(0, LEN);
    want[5..8].copy_from_slice(b"new");
    same(&all(&v, "f"), &want);
    assert_eq!(mark(&l, "f"), None);
}

#[test]
fn an_incomplete_file_is_refused_in_a_lower_layer() {
    let l = layers();
    let Some(v) = lazily(&l, Form::Plain, options()) else { return };
    write(&v, "f", 5, b"new").unwrap();
    drop(v);
    // what was the upper lies above the lower now
    let top = Layers::new(&[&[], &[]]);
    for (from, to) in [(&l.upper(), &top.lowers[0]), (&l.lowers[0], &top.lowers[1])] {
        std::fs::remove_dir(to).unwrap();
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    }
    let v = top.open(Form::Plain);
    assert_eq!(all(&v, "g"), lower(&l, "g"));
    for mode in [READ, WRITE] {
        let refused = v.fs.open(v.ino("f").unwrap(), mode);
        assert_eq!(refused.unwrap_err().errno(), Errno::IO);
    }
}
