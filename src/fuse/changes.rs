//! Tells the kernel what its caches must let go because somebody edits a lower directory.

use crate::overlay::{Change, Overlay};
use crate::sys::Errno;
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Starts a thread that does so until [`Overlay::stop_watching`]. It is none of those that serve
/// requests: the kernel may wait for an answer of theirs before it lets a name go.
pub(super) fn follow(overlay: &Arc<Overlay>, notifier: Notifier) {
    let overlay = Arc::clone(overlay);
    let started = std::thread::Builder::new().name("lowers".to_owned()).spawn(move || {
        loop {
            match overlay.wait_for_changes() {
                Ok(Some(changes)) => changes.iter().for_each(|c| tell(&notifier, c)),
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

/// The order matters: letting a name go waits until nobody is reading its directory, so that the
/// directory's pages, which are dropped after that, hold no names read before.
fn tell(notifier: &Notifier, change: &Change) {
    let told = match change {
        Change::Name { parent, name } => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
        }
        Change::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
    };
    match told {
        // the kernel does not know it
        Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw()) => {}
        Err(e) => log::debug!("{change:?}: {e}"),
        Ok(()) => {}
    }
}
