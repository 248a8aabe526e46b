//! The directory of a layer's files, opened when the first of them is asked for.

use crate::sys::{self, Dir};
use std::sync::OnceLock;

type Opener = Box<dyn Fn() -> sys::Result<Dir> + Send + Sync>;

/// The directory of an indexed layer's files. What the names are the index says: of many layers no
/// file is ever read, and opening each costs two or three reads of a cold disk.
pub struct LayerDir {
    dir: OnceLock<Dir>,
    opener: Option<Opener>,
}

impl LayerDir {
    /// Opens it by `opener`, which may be called by any thread and, after a failure, again.
    pub fn later(opener: impl Fn() -> sys::Result<Dir> + Send + Sync + 'static) -> LayerDir {
        LayerDir { dir: OnceLock::new(), opener: Some(Box::new(opener)) }
    }

    pub(super) fn get(&self) -> sys::Result<&Dir> {
        match (self.dir.get(), &self.opener) {
            (Some(dir), _) => Ok(dir),
            (None, Some(open)) => {
                let dir = open()?;
                Ok(self.dir.get_or_init(|| dir))
            }
            (None, None) => Err(sys::Errno::STALE),
        }
    }
}

impl From<Dir> for LayerDir {
    fn from(dir: Dir) -> LayerDir {
        LayerDir { dir: dir.into(), opener: None }
    }
}

impl std::fmt::Debug for LayerDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LayerDir").field(&self.dir.get()).finish()
    }
}
