//! From layers and options to a view.

use super::ahead::Ahead;
use super::at_rest::{AtRest, PartOf};
use super::error::{Error, Result};
use super::handle::{self, HandleTable};
use super::held_back::HeldTimes;
use super::ino::Devices;
use super::inode::{DirInode, Object, Place};
use super::inode_table::InodeTable;
use super::kept_open::KeptOpen;
use super::lower::{IndexedLayer, LowerLayer};
use super::options::{Lower, LowerChanges, Options, Stack};
use super::plain::PlainLayer;
use super::records::Recorded;
use super::types::Ino;
use super::upper::UpperLayer;
use super::watch::Watch;
use super::{Overlay, copied, settle};
use crate::id::LayerIndex;
use crate::marker::Dialect;
use crate::snapshot::Slot;
use crate::sys::{Dir, Identity};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// How many content files a read-only view keeps open for reads without a handle.
const CONTENT_FILES: usize = 512;

impl Overlay {
    /// Puts the layers together. Reads nothing but the roots.
    ///
    /// # Errors
    /// The upper's file system cannot hold markers, upper and work directory lie on different file
    /// systems, or a layer cannot be read.
    pub fn new(stack: Stack, options: Options) -> Result<Overlay> {
        let identity = Identity::current();
        let upper = stack.upper.map(|u| UpperLayer::open(u, &options)).transpose()?;
        let by_privilege = if identity.privileged { Dialect::Trusted } else { Dialect::User };
        let dialect = upper.as_ref().map(|u| u.dialect).or(options.dialect).unwrap_or(by_privilege);
        let devices = Arc::new(Devices::default());
        let numbers = upper.iter().flat_map(|u| u.roots.iter().map(|r| devices.ino(u.dev, *r)));
        let traps = numbers.collect();
        let mut lowers = Vec::with_capacity(stack.lowers.len());
        let data_only = u32::try_from(stack.data_only.len()).map_err(|_| Error::Invalid)?;
        let bottom_first = stack.data_only.into_iter().rev().chain(stack.lowers.into_iter().rev());
        let bottom_first: Vec<Lower> = bottom_first.collect();
        let plain = bottom_first.iter().filter(|l| !matches!(l, Lower::Indexed { .. })).count();
        let watch = Watch::new(options.lower_changes, options.max_watches).filter(|_| plain > 0);
        let watch = watch.and_then(|w| match w {
            Ok(w) => Some(Arc::new(w)),
            Err(e) => {
                log::warn!("the lowers cannot be watched for changes: {e}");
                None
            }
        });
        let plain_layer =
            |layer: LayerIndex, dir: Dir, known: Option<Slot>| -> Result<LowerLayer> {
                let recorded = Recorded::find(&dir, &options, layer)?;
                // who asks for changes is told of them by the directories themselves
                let known = known.filter(|_| options.lower_changes == LowerChanges::Ignore);
                let new = PlainLayer::new(layer, dir, dialect, devices.clone(), recorded)?
                    .heeding(options.whiteout_names, options.foreign_marks)
                    .watched_by(watch.clone())
                    .among_mounts(!options.layers_apart)
                    .known_by(known)
                    .one_of(plain);
                Ok(LowerLayer::Plain(new))
            };
        for (i, lower) in bottom_first.into_iter().enumerate() {
            let layer = LayerIndex(u16::try_from(i).map_err(|_| Error::Invalid)?.into());
            lowers.push(match lower {
                Lower::Plain(dir) => plain_layer(layer, dir, None)?,
                Lower::Known { dir, snapshot } => plain_layer(layer, dir, Some(snapshot))?,
                Lower::Indexed { index, diff } => {
                    LowerLayer::Indexed(IndexedLayer::new(layer, index, diff))
                }
            });
        }
        let contents = lru::LruCache::new(handle::kept_open(CONTENT_FILES, 8));
        let lowers: Arc<[LowerLayer]> = lowers.into();
        let part_of = Arc::<PartOf>::default();
        let at_rest = AtRest::new(lowers.clone(), part_of.clone());
        let overlay = Overlay {
            inodes: InodeTable::new(upper.is_some(), at_rest),
            uuids: lowers.iter().map(|_| OnceLock::new()).collect(),
            lowers,
            data_only,
            upper,
            options,
            dialect,
            identity,
            devices,
            traps,
            part_of,
            moved_known: AtomicBool::new(false),
            gone_before: RwLock::default(),
            ahead: Ahead::default(),
            handles: HandleTable::default(),
            held_times: HeldTimes::default(),
            contents: Mutex::new(contents),
            kept_open: KeptOpen::new(),
            tree: RwLock::new(()),
            watch,
            unsettled: settle::Unsettled::default(),
            lazies: Arc::default(),
            copied: copied::Untold::default(),
        };
        overlay.insert_root()?;
        overlay.mend_all()?;
        Ok(overlay)
    }

    fn insert_root(&self) -> Result<()> {
        let parts = self.root_parts()?;
        self.part_of.write().extend(parts.iter().map(|at| (*at, Ino::ROOT)));
        let place = Place { parent: Ino::ROOT, name: Arc::from(&b""[..]) };
        let root = || DirInode::new(Ino::ROOT, place, parts, self.upper.is_some());
        let root = self.inodes.dir_or_insert(Ino::ROOT, root).ok_or(Error::Stale)?;
        self.inodes.count(&Object::Dir(root));
        Ok(())
    }
}
