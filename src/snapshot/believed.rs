//! A snapshot that may be believed.

use super::read::{RecordId, Seen, Snapshot};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Where somebody finds the snapshot of a directory as soon as it may be believed.
pub type Slot = Arc<OnceLock<Believed>>;

/// A snapshot that was compared, or of which somebody has said that it still holds.
pub struct Believed {
    snapshot: Snapshot,
    /// Called when it turns out to be wrong; `None`: it was compared.
    doubted: Option<Box<dyn Fn() + Send + Sync>>,
    disproved: AtomicBool,
}

impl Believed {
    /// A snapshot that was compared.
    #[must_use]
    pub fn compared(snapshot: Snapshot) -> Believed {
        Believed { snapshot, doubted: None, disproved: AtomicBool::new(false) }
    }

    /// A snapshot that holds by somebody's word. `disproved` is called once when it does not.
    #[must_use]
    pub fn by_word(snapshot: Snapshot, disproved: impl Fn() + Send + Sync + 'static) -> Believed {
        let doubted: Box<dyn Fn() + Send + Sync> = Box::new(disproved);
        Believed { doubted: Some(doubted), ..Believed::compared(snapshot) }
    }

    /// Returns whether it was not compared: what is opened may be something else.
    #[must_use]
    pub fn is_by_word(&self) -> bool {
        self.doubted.is_some()
    }

    /// Tells that a file is not as the snapshot says.
    pub fn disprove(&self) {
        if !self.disproved.swap(true, Ordering::Relaxed)
            && let Some(tell) = &self.doubted
        {
            tell();
        }
    }

    /// Returns what is known of a name.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<Seen<'_>> {
        self.snapshot.get(id)
    }
}

impl fmt::Debug for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Believed").field("names", &self.snapshot.names()).finish_non_exhaustive()
    }
}
