//! `layerdb/mounts`: containers, each a writable layer upon an init layer upon an image.
//!
//! Docker's three files say all that the layer store needs. What a container is called, and of
//! which image it was made, Docker keeps in `containers/ID/config.v2.json`; ours is in a file of its
//! own beside them.
//! dockerd refuses to start on a container without `mount-id`, so a new one is staged like a
//! layer and shown by one rename.

use super::{
    FindDir, ImportLock, Layer, Store, StoreError, clock, files, init_layer, layout, sweep,
};
use crate::id::{CacheId, ChainId, Hash, ImageId};
use crate::name::printable;
use crate::sys::{Dir, Errno, RenameFlags, Time};
use serde::{Deserialize, Serialize};

/// A writable layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, the name of its directory in `layerdb/mounts`: 64 hex digits, if it is ours.
    pub id: String,
    /// What the user calls it, if that is known.
    pub name: Option<String>,
    /// The image it was made of, if that is known.
    pub image: Option<ImageId>,
    /// The writable layer's directory under `overlay2/`.
    pub mount: CacheId,
    /// The init layer's directory, between the writable layer and the image.
    pub init: Option<CacheId>,
    /// The image's top layer, unless the image has none.
    pub parent: Option<ChainId>,
    /// When it was made.
    pub created: Time,
}

/// The content of `stratafs.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SideFile {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    image: Option<ImageId>,
    #[serde(default)]
    created: String,
}

/// What we want of dockerd's own record of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockersRecord {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    image: Option<ImageId>,
}

impl Store {
    /// Makes a container of an image whose top layer is `top`.
    ///
    /// # Errors
    /// [`StoreError::NoImageId`], [`StoreError::NoLayer`], [`StoreError::BadContainerName`],
    /// [`StoreError::NameTaken`].
    pub fn create_container(
        &self,
        lock: &ImportLock,
        image: &ImageId,
        top: Option<&ChainId>,
        name: Option<&str>,
    ) -> Result<Container, StoreError> {
        let chain = match top {
            Some(top) => self.chain_unlocked(top)?,
            None => Vec::new(),
        };
        let find = init_layer::find_in(self, &chain)?;
        self.create_container_upon(lock, image, chain.last(), &find, name)
    }

    /// As [`Store::create_container`], for who knows the image's layers already: `top` is the
    /// uppermost, and `find` finds the directory that the image shows at a path. Where it fails, no
    /// container is made.
    ///
    /// # Errors
    /// As [`Store::create_container`].
    pub fn create_container_upon(
        &self,
        _lock: &ImportLock,
        image: &ImageId,
        top: Option<&Layer>,
        find: &FindDir<'_>,
        name: Option<&str>,
    ) -> Result<Container, StoreError> {
        self.image_config(image)?.ok_or(StoreError::NoImageId(*image))?;
        if let Some(name) = name {
            check_name(name)?;
            if let Some(other) =
                self.containers()?.into_iter().find(|c| c.name.as_deref() == Some(name))
            {
                return Err(StoreError::NameTaken { name: name.to_owned(), id: other.id });
            }
        }
        let mount = CacheId::random();
        let container = Container {
            id: CacheId::random().to_string(),
            name: name.map(str::to_owned),
            image: Some(*image),
            init: Some(mount.init()),
            mount,
            parent: top.map(|l| l.chain),
            created: Time::now(),
        };
        let write_set = format!("{}{}", layout::WRITE_SET, container.mount);
        let made = self
            .stage_container(&container, top, find, &write_set)
            .and_then(|()| self.show_container(&container, top, &write_set));
        match made {
            Ok(()) => Ok(container),
            Err(e) => {
                sweep::discard(self, &write_set);
                Err(e)
            }
        }
    }

    pub(super) fn stage_container(
        &self,
        c: &Container,
        top: Option<&Layer>,
        find: &FindDir<'_>,
        write_set: &str,
    ) -> Result<(), StoreError> {
        let at = |e| self.io("write", &format!("{}/{write_set}", layout::TMP), e);
        let tmp = self.place_to_write(layout::TMP)?;
        let set = files::new_dir(&tmp, write_set, layout::MOUNT_MODE).map_err(at)?;
        let put = |name, text: &str| {
            files::put(&set, name, text.as_bytes(), layout::FILE_MODE).map_err(at)
        };
        let init = c.mount.init();
        put("mount-id", c.mount.as_str())?;
        put("init-id", init.as_str())?;
        if let Some(parent) = &c.parent {
            put("parent", &parent.to_string())?;
        }
        let side =
            SideFile { name: c.name.clone(), image: c.image, created: clock::format(c.created) };
        // strings and an id always have a JSON form
        put(layout::SIDE_FILE, &serde_json::to_string(&side).unwrap_or_default())?;

        let (init_dir, init_diff) = self.make_cache(&init)?;
        self.furnish_cache(&init_dir, &init, top.map(|l| &l.cache))?;
        init_layer::fill(self, &init_diff, find)?;
        self.mark_committed(&init)?;
        let (dir, diff) = self.make_cache(&c.mount)?;
        self.furnish_cache(&dir, &c.mount, Some(&init))?;
        init_layer::record_owner(&diff).map_err(at)
    }

    fn show_container(
        &self,
        c: &Container,
        top: Option<&Layer>,
        write_set: &str,
    ) -> Result<(), StoreError> {
        self.sync()?;
        let mounts = self.place_to_write(layout::MOUNTS)?;
        let tmp = self.place_to_write(layout::TMP)?;
        let _write = self.write_lock()?;
        let journal = match top {
            Some(top) => self.open_journal(&tmp, top)?,
            None => None,
        };
        tmp.rename(write_set.as_bytes(), &mounts, c.id.as_bytes(), RenameFlags::Replace)
            .map_err(|e| self.io("make", &format!("{}/{}", layout::MOUNTS, c.id), e))?;
        // from here on the container is there; a failure must not take its layers away
        let finished = mounts
            .sync()
            .map_err(|e| self.io("sync", layout::MOUNTS, e))
            .and_then(|()| journal.map_or(Ok(()), |j| self.close_journal(&tmp, j)));
        if let Err(e) = finished {
            log::warn!("container {} was made, but: {e}", c.id);
        }
        Ok(())
    }

    /// Returns all containers, dockerd's too, sorted by id. Damaged ones are skipped with a debug
    /// message.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let _lock = self.read_lock()?;
        let mut out = Vec::new();
        for id in self.names(layout::MOUNTS)? {
            match self.read_container(&id) {
                Ok(c) => out.extend(c),
                Err(e) => {
                    log::debug!("container {} is skipped: {e}", printable(id.as_bytes()));
                }
            }
        }
        Ok(out)
    }

    /// Removes a container with its layers. It is taken out of sight by one rename; what is then
    /// left looks like a killed import's and is swept like that, now or by the next one.
    ///
    /// # Errors
    /// [`StoreError::ContainerInUse`], [`StoreError::ForeignContainer`].
    pub fn remove_container(&self, _lock: &ImportLock, c: &Container) -> Result<(), StoreError> {
        let at = format!("{}/{}", layout::MOUNTS, c.id);
        let mounts = self.place_to_write(layout::MOUNTS)?;
        let io = |e| self.io("remove", &at, e);
        let dir = mounts.open_dir(c.id.as_bytes()).map_err(io)?;
        if files::read(&dir, layout::SIDE_FILE, 64 << 10).map_err(io)?.is_none() {
            return Err(StoreError::ForeignContainer(c.id.clone()));
        }
        let _held =
            self.hold_container(c)?.ok_or_else(|| StoreError::ContainerInUse(c.id.clone()))?;
        let write_set = format!("{}{}", layout::WRITE_SET, c.mount);
        let tmp = self.place_to_write(layout::TMP)?;
        {
            let _write = self.write_lock()?;
            mounts
                .rename(c.id.as_bytes(), &tmp, write_set.as_bytes(), RenameFlags::Replace)
                .map_err(io)?;
            mounts.sync().map_err(io)?;
        }
        sweep::discard(self, &write_set);
        Ok(())
    }

    /// Keeps others from mounting a container read-write for as long as what is returned lives;
    /// `None` if somebody has it mounted so.
    pub fn hold_container(&self, c: &Container) -> Result<Option<Dir>, StoreError> {
        let io = |e| self.io("lock", &format!("{}/{}/work", layout::OVERLAY2, c.mount), e);
        // whoever mounts it read-write holds this lock
        let work = self.cache_dir(&c.mount)?.open_dir(b"work").map_err(io)?;
        match work.try_lock() {
            Ok(false) => Ok(None),
            Ok(true) | Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Some(work)),
            Err(e) => Err(io(e)),
        }
    }

    fn read_container(&self, id: &str) -> Result<Option<Container>, StoreError> {
        let at = format!("{}/{id}", layout::MOUNTS);
        let Some(dir) = self.place(&at)? else { return Ok(None) };
        let mount = self.parsed_mount_id(&dir, &at, "mount-id")?;
        let mount =
            mount.ok_or_else(|| self.corrupt(&format!("{at}/mount-id"), "it is missing"))?;
        let side: SideFile = match files::read(&dir, layout::SIDE_FILE, 64 << 10) {
            Ok(Some(json)) => serde_json::from_slice(&json)
                .map_err(|e| self.corrupt(&format!("{at}/{}", layout::SIDE_FILE), e.to_string()))?,
            Ok(None) => self.dockers_record(id),
            Err(e) => return Err(self.io("read", &format!("{at}/{}", layout::SIDE_FILE), e)),
        };
        let created = match clock::parse(&side.created) {
            Some(t) => t,
            None => dir.stat(b"mount-id").map_err(|e| self.io("stat", &at, e))?.mtime,
        };
        Ok(Some(Container {
            id: id.to_owned(),
            // a name that we would not have given is none
            name: side.name.filter(|n| check_name(n).is_ok()),
            image: side.image,
            init: self.parsed_mount_id(&dir, &at, "init-id")?,
            mount,
            parent: self.parsed(&dir, &at, "parent")?,
            created,
        }))
    }

    /// Reads what dockerd says of a container of its own. That it says nothing is no error: a store
    /// may have been copied without.
    fn dockers_record(&self, id: &str) -> SideFile {
        const LONGEST: usize = 4 << 20;
        let read = || -> Result<DockersRecord, String> {
            let Some(dir) = self.place(&format!("containers/{id}")).map_err(|e| e.to_string())?
            else {
                return Ok(DockersRecord::default());
            };
            let json = files::read(&dir, "config.v2.json", LONGEST).map_err(|e| e.to_string())?;
            json.map_or(Ok(DockersRecord::default()), |json| {
                serde_json::from_slice(&json).map_err(|e| e.to_string())
            })
        };
        let record = read().unwrap_or_else(|e| {
            log::debug!("container {}: dockerd's record: {e}", printable(id.as_bytes()));
            DockersRecord::default()
        });
        let name = record.name.map(|n| n.trim_start_matches('/').to_owned());
        SideFile { name, image: record.image, created: String::new() }
    }

    /// Reads `mount-id` or `init-id`: 64 hex digits, perhaps with `-init`.
    fn parsed_mount_id(
        &self,
        dir: &Dir,
        at: &str,
        file: &str,
    ) -> Result<Option<CacheId>, StoreError> {
        let id: Option<CacheId> = self.parsed(dir, at, file)?;
        let whole = |id: &CacheId| {
            Hash::from_hex(id.as_str().strip_suffix("-init").unwrap_or(id.as_str())).is_some()
        };
        match id {
            Some(id) if !whole(&id) => {
                Err(self.corrupt(&format!("{at}/{file}"), "it is not 64 hex digits"))
            }
            id => Ok(id),
        }
    }

    /// Finds the container that a user means: by name, whole id, or the beginning of an id, at
    /// least four hex digits.
    ///
    /// # Errors
    /// [`StoreError::NoContainer`], [`StoreError::Ambiguous`].
    pub fn find_container(&self, text: &str) -> Result<Container, StoreError> {
        let missing = || StoreError::NoContainer(printable(text.as_bytes()));
        if check_name(text).is_err() {
            // neither a name nor an id, but `IMAGE:TAG` perhaps: no need to read them all
            return Err(missing());
        }
        let all = self.containers()?;
        let named = |c: &&Container| c.name.as_deref() == Some(text);
        if let Some(c) = all.iter().find(named).or_else(|| all.iter().find(|c| c.id == text)) {
            return Ok(c.clone());
        }
        let found = super::with_prefix(all.iter().map(|c| c.id.clone()), text);
        match found.as_slice() {
            [one] => all.into_iter().find(|c| c.id == *one).ok_or_else(missing),
            [] => Err(missing()),
            _ => Err(StoreError::Ambiguous {
                what: "container",
                text: text.to_owned(),
                candidates: found,
            }),
        }
    }
}

/// Docker's rule for names.
fn check_name(name: &str) -> Result<(), StoreError> {
    let bytes = name.as_bytes();
    let ok = (2..=255).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
    if ok { Ok(()) } else { Err(StoreError::BadContainerName(printable(bytes))) }
}
