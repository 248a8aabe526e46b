//! Platforms without a way to watch directories.

use super::{Dir, Errno, Result};

/// The number of a watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// What happened in a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirEvent {
    /// A name came or went.
    Names(WatchId, Box<[u8]>),
    /// Content or attributes of what has this name changed.
    Content(WatchId, Box<[u8]>),
    /// Attributes of the directory itself changed.
    Itself(WatchId),
    /// The directory is not watched any more.
    Ended(WatchId),
    /// There were more changes than could be kept.
    Lost,
}

/// Watches directories: here it cannot be made.
#[derive(Debug)]
pub struct DirWatcher(std::convert::Infallible);

impl DirWatcher {
    /// Fails.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub fn new() -> Result<DirWatcher> {
        Err(Errno::NOSYS)
    }

    /// Watches a directory.
    pub fn add(&self, _dir: &Dir) -> Result<WatchId> {
        match self.0 {}
    }

    /// Ends a watch.
    pub fn remove(&self, _id: WatchId) -> Result<()> {
        match self.0 {}
    }

    /// Waits for events.
    pub fn wait(&self) -> Result<()> {
        match self.0 {}
    }

    /// Returns whether events have come that were not read yet.
    pub fn has_events(&self) -> bool {
        match self.0 {}
    }

    /// Lets a waiting thread return.
    pub fn wake(&self) -> Result<()> {
        match self.0 {}
    }

    /// Returns the events that have come.
    pub fn read(&self) -> Result<Vec<DirEvent>> {
        match self.0 {}
    }
}

/// Returns how many directories this user may watch.
#[must_use]
pub fn max_watches() -> Option<usize> {
    None
}
