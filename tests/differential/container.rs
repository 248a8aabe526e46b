//! A store of our own, with the layers of a case as an image, and a container of it.

use crate::layer;
use crate::world::{Mounts, Upper};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub const IMAGE: &str = "layers";
const CONTAINER: &str = "box";

/// A container of an image of the layers.
pub struct Container {
    pub upper: Upper,
    /// What lies between the image's layers and the container's.
    pub init: PathBuf,
    /// The image's layers as they are in the store.
    pub layers: Vec<PathBuf>,
}

impl Mounts {
    fn store(&self, args: &[&OsStr]) -> Result<String, String> {
        let root = self.dir.join("store");
        let args = [&["--root".as_ref(), root.as_os_str()], args].concat();
        self.stratafs(&args).map(|said| said.trim().to_owned())
    }

    /// Imports directories, top first.
    pub fn import(&self, layers: &[PathBuf], name: &str) -> Result<(), String> {
        let list: Vec<_> = layers.iter().map(|l| l.to_str().unwrap()).collect();
        let list = list.join(":");
        let args = ["import", "-q", "--lowerdir", &list, "--name", name].map(OsStr::new);
        self.store(&args).map(drop)
    }

    /// Makes a fresh store with a container of an image of `lowers`.
    pub fn container(&self, lowers: &[PathBuf]) -> Result<Container, String> {
        self.import(lowers, IMAGE)?;
        let id = self.store(&["create", IMAGE, "--name", CONTAINER].map(OsStr::new))?;
        let store = self.dir.join("store");
        let record = store.join("image/overlay2/layerdb/mounts").join(id);
        let overlay2 = store.join("overlay2");
        let found =
            |what: &str| overlay2.join(std::fs::read_to_string(record.join(what)).unwrap().trim());
        let (mount, init) = (found("mount-id"), found("init-id"));
        let layers = std::fs::read_dir(&overlay2).unwrap().map(|e| e.unwrap().path());
        let layers = layers.filter(|l| *l != mount && *l != init).map(|l| l.join("diff"));
        let layers = layers.filter(|l| l.is_dir()).collect();
        let (upper, work) = (mount.join("diff"), mount.join("work"));
        // so that others than root find something to do
        layer::open_to_all(&upper);
        layer::set_old(&upper);
        let upper = Upper { upper, work, container: true };
        Ok(Container { upper, init: init.join("diff"), layers })
    }

    /// Makes an image of the container; done twice, it is the same.
    pub fn commit(&self, name: &str) -> Result<(), String> {
        let layer = || {
            let said = self.store(&["--json", "commit", CONTAINER, name].map(OsStr::new))?;
            let made: serde_json::Value = serde_json::from_str(&said).map_err(|e| e.to_string())?;
            Ok::<_, String>(made["Layer"].clone())
        };
        let (first, second) = (layer()?, layer()?);
        if first == second { Ok(()) } else { Err(format!("{first} is then {second}")) }
    }

    pub fn mount_container(&self, point: &Path) -> Result<(), String> {
        self.mount_stored(CONTAINER, point)
    }

    /// An image is mounted read-only.
    pub fn mount_image(&self, name: &str) -> Result<PathBuf, String> {
        let point = self.point("ours");
        self.mount_stored(name, &point).map(|()| point)
    }

    fn mount_stored(&self, name: &str, point: &Path) -> Result<(), String> {
        let options = self.switches.ours;
        let args = ["mount", "-o", options, name].map(OsStr::new);
        self.store(&[&args[..], &[point.as_os_str()]].concat()).map(drop)
    }
}
