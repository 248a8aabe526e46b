//! The stack file of a chain: used while it tells the truth, and never longer.

use super::archive::{Image, Tar};
use super::support::Bench;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use stratafs::id::{CacheId, ChainId};
use stratafs::indexes::{self, IndexedLayer, STACK_NAME};

/// A store with one image of three layers.
struct Case {
    bench: Bench,
    chain: Vec<ChainId>,
}

impl Case {
    fn new() -> Case {
        let bench = Bench::new();
        let chain = import(&bench, "a", super::forms::layers());
        Case { bench, chain }
    }

    fn top(&self) -> ChainId {
        *self.chain.last().unwrap()
    }

    fn places(&self) -> PathBuf {
        self.bench.store.root().join("image/overlay2/layerdb/sha256")
    }

    fn entry(&self, layer: usize) -> PathBuf {
        self.places().join(self.chain[layer].hex())
    }

    fn stack(&self) -> PathBuf {
        self.places().join(self.top().hex()).join(STACK_NAME)
    }

    fn cache(&self, layer: usize) -> PathBuf {
        let id = fs::read_to_string(self.entry(layer).join("cache-id")).unwrap();
        self.bench.store.root().join("overlay2").join(id)
    }

    /// The chain, and every node of its indexes; or why it cannot be had.
    fn load(&self) -> Result<(Vec<CacheId>, Vec<String>), String> {
        let layers = indexes::load(&self.bench.store, &self.top(), None);
        let layers: Vec<IndexedLayer> = layers.map_err(|e| e.to_string())?;
        let mut nodes = Vec::new();
        for IndexedLayer { index, .. } in &layers {
            index.verify().unwrap();
            for i in 0..index.len() as u32 {
                let n = index.node(stratafs::index::NodeId(i)).unwrap();
                let path = String::from_utf8(index.path(n.id)).unwrap();
                nodes.push(format!("{path} {:?} {:o} {}", n.kind, n.mode, n.size));
            }
        }
        Ok((layers.into_iter().map(|l| l.layer.cache).collect(), nodes))
    }

    /// Makes the store look as after some other image came and went.
    fn stir(&self) {
        fs::create_dir(self.places().join("other")).unwrap();
        fs::remove_dir(self.places().join("other")).unwrap();
    }

    /// Puts another directory, with another cache id, in a layer's place, as a dockerd does that
    /// removes an image and pulls it again.
    fn replace(&self, layer: usize) -> CacheId {
        let (old, new) = (self.entry(layer), self.bench.path("new"));
        let cache = CacheId::random();
        let to = self.bench.store.root().join("overlay2").join(cache.as_str());
        fs::rename(self.cache(layer), to).unwrap();
        fs::create_dir(&new).unwrap();
        for name in ["diff", "size", "parent"] {
            if old.join(name).exists() {
                fs::copy(old.join(name), new.join(name)).unwrap();
            }
        }
        fs::write(new.join("cache-id"), cache.as_str()).unwrap();
        fs::remove_dir_all(&old).unwrap();
        fs::rename(new, old).unwrap();
        cache
    }
}

fn import(b: &Bench, name: &str, layers: Vec<Vec<u8>>) -> Vec<ChainId> {
    let path = b.write("image.tar", &Image::new(name, layers).docker_v1());
    b.import(&path).unwrap()[0].layers.clone()
}

/// The times of files have ticks: what is written in the tick of a change is not believed.
fn tick() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

#[test]
fn an_imported_chain_is_read_from_its_stack_file() {
    let c = Case::new();
    let good = c.load().unwrap();
    assert_eq!(good.0.len(), 3);
    // nobody writes in place into what a layer says of itself; it shows what is read of it
    for layer in 0..3 {
        fs::write(c.entry(layer).join("size"), "no number").unwrap();
        fs::write(c.entry(layer).join("stratafs.index"), "no index").unwrap();
    }
    assert_eq!(c.load().unwrap(), good);
    fs::remove_file(c.stack()).unwrap();
    assert!(c.load().unwrap_err().contains("size is damaged"));
}

#[test]
fn the_first_who_reads_a_chain_writes_its_stack_file() {
    let c = Case::new();
    let good = c.load().unwrap();
    fs::remove_file(c.stack()).unwrap();
    tick();
    assert_eq!(c.load().unwrap(), good);
    assert_eq!(fs::metadata(c.stack()).unwrap().mode() & 0o7777, 0o644);
    // what one who was killed left goes when it is next written
    let left = c.stack().with_file_name(".tmp-stratafs.stack.stratafs-0123456789abcdef");
    fs::write(&left, "half").unwrap();
    fs::remove_file(c.stack()).unwrap();
    tick();
    c.load().unwrap();
    assert!(c.stack().exists() && !left.exists());
}

#[test]
fn another_programs_store_gets_no_stack_file() {
    let c = Case::new();
    fs::remove_file(c.stack()).unwrap();
    for lock in ["stratafs.lock", "stratafs-import.lock"] {
        fs::remove_file(c.bench.store.root().join(lock)).unwrap();
    }
    tick();
    assert!(c.load().is_ok());
    assert!(!c.stack().exists());
}

#[test]
fn a_damaged_stack_file_is_not_used() {
    let c = Case::new();
    let good = c.load().unwrap();
    let data = fs::read(c.stack()).unwrap();
    let check = |bad: &[u8], what: String| {
        fs::write(c.stack(), bad).unwrap();
        assert_eq!(c.load().unwrap(), good, "{what}");
    };
    for at in (0..data.len()).step_by(7) {
        let mut bad = data.clone();
        bad[at] ^= 1 << (at % 8);
        check(&bad, format!("byte {at}"));
        check(&data[..at], format!("cut at {at}"));
    }
    check(b"", "empty".to_owned());
    check(&[data.as_slice(), b"x"].concat(), "grown".to_owned());
}

#[test]
fn a_stack_file_that_everybody_may_write_is_not_used() {
    let c = Case::new();
    fs::write(c.entry(0).join("size"), "no number").unwrap();
    assert!(c.load().is_ok());
    fs::set_permissions(c.stack(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(c.load().unwrap_err().contains("size is damaged"));
}

#[test]
fn a_stack_file_of_another_image_is_not_used() {
    let c = Case::new();
    let good = c.load().unwrap();
    let mut others = super::forms::layers();
    others[2] = Tar::new().file("other", "x").end();
    let other = *import(&c.bench, "b", others).last().unwrap();
    fs::copy(c.places().join(other.hex()).join(STACK_NAME), c.stack()).unwrap();
    assert_eq!(c.load().unwrap(), good);
}

#[test]
fn other_images_make_a_stack_file_old_but_not_wrong() {
    let c = Case::new();
    let good = c.load().unwrap();
    let ino = || fs::metadata(c.stack()).unwrap().ino();
    let (first, size) = (ino(), fs::read(c.entry(0).join("size")).unwrap());
    c.stir();
    tick();
    // written anew, without a look at each layer's files
    assert_eq!(c.load().unwrap(), good);
    let second = ino();
    assert_ne!(first, second);
    assert_eq!(c.load().unwrap(), good);
    assert_eq!(ino(), second);
    // the layers were read once more before that
    c.stir();
    tick();
    fs::write(c.entry(0).join("size"), "no number").unwrap();
    assert_eq!(c.load().unwrap(), good);
    assert_eq!(ino(), second);
    fs::write(c.entry(0).join("size"), size).unwrap();
    c.load().unwrap();
    assert_ne!(ino(), second);
}

#[test]
fn a_layer_that_was_removed_is_missed() {
    for layer in 0..3 {
        let c = Case::new();
        fs::remove_dir_all(c.entry(layer)).unwrap();
        let e = c.load().unwrap_err();
        assert!(e.contains(&format!("{} is not in the store", c.chain[layer])), "{e}");
    }
}

#[test]
fn a_layer_without_its_directory_is_refused() {
    for layer in 0..3 {
        let c = Case::new();
        fs::remove_dir_all(c.cache(layer)).unwrap();
        let e = c.load().unwrap_err();
        assert!(e.contains("No such file") && e.contains("overlay2"), "{e}");
    }
}

#[test]
fn a_layer_that_was_replaced_is_read_anew() {
    for layer in 0..3 {
        let c = Case::new();
        let mut good = c.load().unwrap();
        good.0[layer] = c.replace(layer);
        assert_eq!(c.load().unwrap(), good, "{layer}");
        tick();
        assert_eq!(c.load().unwrap(), good, "{layer}");
        // and what was written of it is true
        assert!(c.stack().exists());
        assert_eq!(c.load().unwrap(), good, "{layer}");
    }
}

#[test]
fn a_removed_index_changes_nothing_and_is_made_again_when_layers_are_read() {
    let c = Case::new();
    let good = c.load().unwrap();
    fs::remove_file(c.entry(1).join("stratafs.index")).unwrap();
    assert_eq!(c.load().unwrap(), good);
    c.stir();
    assert_eq!(c.load().unwrap(), good);
    assert!(c.entry(1).join("stratafs.index").exists());
}

/// Replaced in its entry by hand, which no program does: the entry shows it as soon as anything
/// comes or goes beside it, and the uppermost one's is read each time.
#[test]
fn a_replaced_cache_id_is_noticed_in_the_uppermost_layer_and_in_a_changed_store() {
    for layer in 0..3 {
        let c = Case::new();
        let old = c.load().unwrap();
        let cache = CacheId::random();
        let to = c.bench.store.root().join("overlay2").join(cache.as_str());
        fs::create_dir_all(to.join("diff/elsewhere")).unwrap();
        fs::write(c.entry(layer).join("new"), cache.as_str()).unwrap();
        fs::rename(c.entry(layer).join("new"), c.entry(layer).join("cache-id")).unwrap();
        if layer < 2 {
            c.stir();
        }
        let new = c.load().unwrap();
        assert_eq!(new.0[layer], cache);
        assert_ne!(new.1, old.1, "its names are not those of the old directory");
    }
}

#[test]
fn an_image_that_is_imported_again_has_its_stack_file() {
    let c = Case::new();
    let good = c.load().unwrap();
    fs::remove_file(c.stack()).unwrap();
    assert_eq!(import(&c.bench, "a", super::forms::layers()), c.chain);
    assert!(c.stack().exists());
    assert_eq!(c.load().unwrap(), good);
}
