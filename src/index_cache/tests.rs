use super::*;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

struct Place {
    tmp: tempfile::TempDir,
    cache: IndexCache,
}

fn place() -> Place {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tmp.path().join("lower/d")).unwrap();
    std::fs::write(tmp.path().join("lower/d/f"), "content").unwrap();
    std::fs::create_dir(tmp.path().join("cache")).unwrap();
    let dir = Dir::open(tmp.path().join("cache")).unwrap();
    let cache = IndexCache::new(dir, Trust::Compared);
    std::thread::sleep(Duration::from_millis(30));
    Place { tmp, cache }
}

impl Place {
    fn lower(&self) -> Dir {
        Dir::open(self.tmp.path().join("lower")).unwrap()
    }

    /// One mount: is a snapshot of an earlier one believed?
    fn mount(&self, trust: Trust) -> Option<Slot> {
        let slot = Slot::default();
        let before = self.files().first().map(|f| std::fs::symlink_metadata(f).unwrap().ino());
        let cache = IndexCache::new(self.cache.dir.clone(), trust);
        cache.fill(&[(self.lower(), slot.clone())], &AtomicBool::new(false));
        let after = self.files().first().map(|f| std::fs::symlink_metadata(f).unwrap().ino());
        (after == before && slot.get().is_some()).then_some(slot)
    }

    fn files(&self) -> Vec<PathBuf> {
        let dir = std::fs::read_dir(self.tmp.path().join("cache")).into_iter().flatten();
        dir.map(|e| e.unwrap().path()).collect()
    }

    fn set_age(&self, path: &std::path::Path, age: Duration) {
        let then = std::time::SystemTime::now() - age;
        std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn the_second_mount_knows_the_directory_until_it_changes() {
    let p = place();
    assert!(p.mount(Trust::Compared).is_none(), "nothing is known at first");
    assert!(p.mount(Trust::Compared).is_some());
    // deep down, in place: no time of a directory tells
    std::fs::write(p.tmp.path().join("lower/d/f"), "CONTENT").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert!(p.mount(Trust::Compared).is_none(), "it has changed");
    assert!(p.mount(Trust::Compared).is_some(), "the new state is known");
    assert_eq!(p.files().len(), 1);
}

#[test]
fn what_is_damaged_is_made_anew() {
    let p = place();
    p.mount(Trust::Immutable);
    let file = p.files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut bad = whole.clone();
    *bad.last_mut().unwrap() ^= 1;
    for content in [&bad[..], &whole[..60], b""] {
        std::fs::write(&file, content).unwrap();
        assert!(p.mount(Trust::Immutable).is_none());
        assert!(p.mount(Trust::Immutable).is_some());
    }
}

#[test]
fn by_word_the_root_directory_alone_is_looked_at() {
    let p = place();
    p.mount(Trust::Immutable);
    std::fs::write(p.tmp.path().join("lower/d/f"), "longer than it was").unwrap();
    let slot = p.mount(Trust::Immutable).unwrap();
    assert!(slot.get().unwrap().is_by_word());
    // once it turns out to be wrong the next mount looks again
    slot.get().unwrap().disprove();
    assert!(p.files().is_empty());
    slot.get().unwrap().disprove();
    std::thread::sleep(Duration::from_millis(30));
    assert!(p.mount(Trust::Immutable).is_none());
    assert!(p.mount(Trust::Immutable).is_some());
    std::fs::write(p.tmp.path().join("lower/new"), "").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert!(p.mount(Trust::Immutable).is_none(), "the root has changed");
}

#[test]
fn what_was_changed_a_moment_ago_is_kept_a_moment_later() {
    let p = place();
    let path = p.tmp.path().join("lower/d/f");
    let busy = std::sync::Arc::new(AtomicBool::new(true));
    let go_on = busy.clone();
    std::fs::write(&path, "x").unwrap();
    let editor = std::thread::spawn(move || {
        while go_on.load(Ordering::Relaxed) {
            std::fs::write(&path, "x").unwrap();
        }
    });
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let kept = p.cache.keep(&p.lower(), &stop);
    assert!(matches!(kept, Err(Unknown::Young { .. } | Unknown::Changing)), "{kept:?}");
    assert!(p.files().is_empty(), "nothing is left of the try");
    busy.store(false, Ordering::Relaxed);
    editor.join().unwrap();
    let layer = (p.lower(), Slot::default());
    std::fs::write(p.tmp.path().join("lower/d/f"), "y").unwrap();
    assert!(matches!(p.cache.keep(&layer.0, &stop), Err(Unknown::Young { .. })));
    p.cache.fill(std::slice::from_ref(&layer), &stop);
    assert!(layer.1.get().is_some(), "it was tried again");
}

#[test]
fn what_cannot_have_a_snapshot_is_not_read_by_every_mount() {
    let p = place();
    let name = p.cache.name_of(&p.lower()).unwrap();
    let file = p.cache.dir.open_file(&name, OpenFlags::CREATE_NEW, 0o600).unwrap();
    unfit(&file).unwrap();
    assert!(p.mount(Trust::Compared).is_none());
    assert!(p.mount(Trust::Compared).is_none(), "it is not tried again");
    p.set_age(&p.files()[0], UNFIT + Duration::from_secs(1));
    assert!(p.mount(Trust::Compared).is_none());
    assert!(p.mount(Trust::Compared).is_some(), "an hour later it is");
}

#[test]
fn many_mounts_may_take_snapshots_at_once() {
    let p = place();
    std::thread::scope(|s| {
        let mounts: Vec<_> = (0..8).map(|_| s.spawn(|| p.mount(Trust::Compared))).collect();
        mounts.into_iter().for_each(|m| drop(m.join().unwrap()));
    });
    assert_eq!(p.files().len(), 1, "{:?}", p.files());
    assert!(p.mount(Trust::Compared).is_some());
}

#[test]
fn who_else_looks_has_snapshots_of_his_own() {
    let p = place();
    let dir = p.cache.dir.clone();
    let other = IndexCache { dir, trust: Trust::Compared, viewer: "somebody else".to_owned() };
    assert_ne!(p.cache.name_of(&p.lower()).unwrap(), other.name_of(&p.lower()).unwrap());
}

#[test]
fn what_nobody_uses_goes_and_so_does_what_there_is_no_room_for() {
    let p = place();
    let make = |name: &str, size: usize, age: Duration| {
        let path = p.tmp.path().join("cache").join(name);
        std::fs::write(&path, vec![0; size]).unwrap();
        p.set_age(&path, age);
    };
    let day = Duration::from_secs(DAY);
    let named = |n: u32, end: &str| format!("{n:064x}{end}");
    make(&named(1, ""), 100, day);
    make(&named(2, ""), 100, KEPT + day);
    make(&named(3, ".0123.new"), 100, Duration::from_secs(1));
    make(&named(4, ".4567.new"), 100, DEAD + day);
    // of others, whatever the reason that they are here
    make("image", 1000, KEPT + day);
    make(&named(5, ".old"), 1000, KEPT + day);
    std::fs::create_dir(p.tmp.path().join("cache").join("dir")).unwrap();
    let left = |room| {
        p.cache.sweep(Time::now(), room).unwrap();
        let names = p.files().into_iter().map(|f| f.file_name().unwrap().to_str().unwrap().into());
        let mut names: Vec<String> = names.filter(|n: &String| n.len() >= 64).collect();
        names.sort();
        names
    };
    assert_eq!(left(ROOM), [named(1, ""), named(3, ".0123.new"), named(5, ".old")]);
    make(&named(6, ""), 150, Duration::from_secs(60));
    let all = [named(3, ".0123.new"), named(5, ".old"), named(6, "")];
    assert_eq!(left(300), all, "the longest unused goes first");
    assert!(p.tmp.path().join("cache/dir").exists() && p.tmp.path().join("cache/image").exists());
}

#[test]
fn using_a_snapshot_is_noted_once_a_day() {
    let p = place();
    p.mount(Trust::Compared);
    let file = p.files().remove(0);
    let age_of = || std::fs::metadata(&file).unwrap().modified().unwrap().elapsed().unwrap();
    for (before, noted) in [(DAY / 2, false), (DAY * 3, true)] {
        p.set_age(&file, Duration::from_secs(before));
        assert!(p.mount(Trust::Compared).is_some());
        assert_eq!(age_of() < Duration::from_secs(60), noted);
    }
}

#[test]
fn a_cache_that_fails_costs_nothing_but_itself() {
    let p = place();
    std::fs::remove_dir(p.tmp.path().join("cache")).unwrap();
    assert!(p.mount(Trust::Compared).is_none());
}

#[test]
fn what_cannot_be_read_is_made_anew() {
    let p = place();
    let name = p.cache.name_of(&p.lower()).unwrap();
    let dir = p.cache.dir.clone();
    for link in [&b"nowhere"[..], b"/dev/null"] {
        dir.unlink(&name).unwrap_or_default();
        dir.symlink(link, &name).unwrap();
        assert!(p.mount(Trust::Compared).is_none());
        assert!(p.mount(Trust::Compared).is_some());
    }
}

#[test]
fn a_directory_that_holds_the_cache_is_known_to_be_unfit() {
    let p = place();
    let layer = (Dir::open(p.tmp.path()).unwrap(), Slot::default());
    let stop = AtomicBool::new(false);
    assert!(matches!(p.cache.keep(&layer.0, &stop), Err(Unknown::Unfit)));
    let name = p.cache.name_of(&layer.0).unwrap();
    assert!(matches!(p.cache.find(&name, &layer.0), Err(Unknown::Unfit)));
}

#[test]
fn what_changes_all_the_time_is_given_up() {
    let p = place();
    let layer = (p.lower(), Slot::default());
    p.cache.give_up(&layer.0);
    let name = p.cache.name_of(&layer.0).unwrap();
    assert!(matches!(p.cache.find(&name, &layer.0), Err(Unknown::Unfit)));
    assert!(p.mount(Trust::Compared).is_none());
}

#[test]
fn by_word_nothing_is_believed_that_was_taken_before() {
    let p = place();
    p.mount(Trust::Compared);
    std::fs::write(p.tmp.path().join("lower/d/f"), "longer than it was").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let layer = (p.lower(), Slot::default());
    let cache = IndexCache::new(p.cache.dir.clone(), Trust::Immutable);
    assert!(matches!(cache.believed(&layer.0, &AtomicBool::new(false)), Ok(None)));
}

#[test]
fn where_times_do_not_tell_all_changes_nothing_is_kept() {
    let p = place();
    let proc = (Dir::open("/proc/self/fdinfo").unwrap(), Slot::default());
    p.cache.fill(std::slice::from_ref(&proc), &AtomicBool::new(false));
    assert!(proc.1.get().is_none() && p.files().is_empty());
    assert!(p.lower().keeps_true_times().unwrap());
}

#[test]
fn a_directory_that_is_several_layers_is_read_once() {
    let p = place();
    let layers = [(p.lower(), Slot::default()), (p.lower(), Slot::default())];
    p.cache.fill(&layers, &AtomicBool::new(false));
    assert!(layers[0].1.get().is_some() && layers[1].1.get().is_none());
    p.cache.fill(&layers, &AtomicBool::new(false));
    assert!(layers[1].1.get().is_some(), "by the next mount");
}
