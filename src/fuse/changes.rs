//! Tells the kernel what its caches must let go: because somebody edits a lower directory, or
//! because a directory has received copies.

use super::adapter::Adapter;
use crate::overlay::{Change, Overlay};
use crate::sys::Errno;
use fuser::Notifier;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// Starts a thread that does so until [`Overlay::stop_watching`]. It is none of those that serve
/// requests: the kernel may wait for an answer of theirs before it lets a name go.
pub(super) fn follow(overlay: &Arc<Overlay>, adapter: &Adapter) {
    let Some(notifier) = adapter.notifier() else { return };
    let (overlay, adapter) = (Arc::clone(overlay), adapter.clone());
    let started = std::thread::Builder::new().name("lowers".to_owned()).spawn(move || {
        loop {
            match overlay.wait_for_changes() {
                Ok(Some(changes)) => changes.iter().for_each(|c| tell(&adapter, &notifier, c)),
                Ok(None) => return,
                Err(e) => {
                    log::error!("changes of the lower directories are not seen any more: {e}");
                    return;
                }
            }
        }
    });
    if let Err(e) = started {
        log::error!("thread lowers: {e}");
    }
}

/// How long the ctime of a directory that receives copies may be that from before.
const MOMENT: Duration = Duration::from_millis(100);

/// Starts a thread that tells of directories that receive copies until [`Overlay::sync`].
pub(super) fn follow_copies(overlay: &Arc<Overlay>, adapter: &Adapter) {
    let (overlay, adapter) = (Arc::clone(overlay), adapter.clone());
    let started = std::thread::Builder::new().name("copies".to_owned()).spawn(move || {
        while overlay.wait_for_receivers() {
            // there will be more of them
            std::thread::sleep(MOMENT);
            overlay.receivers().into_iter().for_each(|dir| adapter.forget_attributes(dir));
        }
    });
    if let Err(e) = started {
        log::error!("thread copies: {e}");
    }
}

/// The order matters: letting a name go waits until nobody is reading its directory, so that the
/// directory's pages, which are dropped after that, hold no names read before.
fn tell(adapter: &Adapter, notifier: &Notifier, change: &Change) {
    let (Change::Name { parent: about, .. } | Change::Inode(about)) = change;
    let Some(number) = adapter.known(*about) else { return };
    let told = match change {
        Change::Name { name, .. } => notifier.inval_entry(number, OsStr::from_bytes(name)),
        Change::Inode(_) => notifier.inval_inode(number, 0, 0),
    };
    match told {
        // the kernel does not know it
        Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw()) => {}
        Err(e) => log::debug!("{change:?}: {e}"),
        Ok(()) => {}
    }
}
