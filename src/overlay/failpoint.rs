//! Named points between the steps of a change at which a test can make it fail or look.

use super::error::{Error, Result};
use crate::resolve::LayerRef;
use crate::sys::Errno;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;

/// Points of a copy-up, in the order in which it passes them.
pub const COPY_UP: &[&str] =
    &["copy-up:stage", "copy-up:data", "copy-up:metadata", "copy-up:commit", "copy-up:committed"];
/// Points of a removal.
pub const REMOVE: &[&str] =
    &["remove:commit", "remove:whiteout", "remove:count", "remove:committed"];
/// Points of a rename.
pub const RENAME: &[&str] = &["rename:redirect", "rename:commit", "rename:committed"];
/// Points of a rename that copies, before those.
pub const COPYING_RENAME: &[&str] = &["rename:copy", "rename:opaque"];
/// Points of a creation.
pub const CREATE: &[&str] = &["create:stage", "create:commit", "create:committed"];

/// Points of an incomplete file: of its copy-up, a write, its completion and being cut.
pub const LAZY: &[&str] = &[
    "lazy:begun",
    "lazy:edges",
    "lazy:write",
    "lazy:written",
    "lazy:step",
    "lazy:filled",
    "settle:synced",
    "settle:unmarked",
    "lazy:cut",
];

/// A set of armed points.
#[derive(Debug, Default)]
pub struct Failpoints {
    armed: Mutex<HashMap<&'static str, Errno>>,
    /// Points at which threads wait, each with the number of those that do.
    held: Mutex<HashMap<&'static str, u32>>,
    changed: Condvar,
}

impl Failpoints {
    /// Makes the next pass of `point` fail with `errno`, once.
    pub fn arm(&self, point: &'static str, errno: Errno) {
        self.armed.lock().insert(point, errno);
    }

    /// Returns whether `point` is still armed: nothing has passed it.
    #[must_use]
    pub fn is_armed(&self, point: &'static str) -> bool {
        self.armed.lock().contains_key(point)
    }

    /// Makes everybody who comes to `point` wait there until [`Failpoints::let_go`].
    pub fn hold(&self, point: &'static str) {
        self.held.lock().insert(point, 0);
    }

    /// Waits until somebody waits at the held `point`.
    pub fn wait_for_comer(&self, point: &'static str) {
        let mut held = self.held.lock();
        while held.get(point) == Some(&0) {
            self.changed.wait(&mut held);
        }
    }

    /// Lets those go on who wait at `point`.
    pub fn let_go(&self, point: &'static str) {
        self.held.lock().remove(point);
        self.changed.notify_all();
    }

    pub(super) fn pass(&self, point: &'static str) -> Result<()> {
        let mut held = self.held.lock();
        if let Some(n) = held.get_mut(point) {
            *n += 1;
            self.changed.notify_all();
            while held.contains_key(point) {
                self.changed.wait(&mut held);
            }
        }
        drop(held);
        match self.armed.lock().remove(point) {
            None => Ok(()),
            Some(errno) => Err(Error::Layer { layer: LayerRef::Upper, doing: point, errno }),
        }
    }
}
