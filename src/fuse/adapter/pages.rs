//! Pages that the kernel must let go after a direct write.
//!
//! By a thread of its own: letting a page go waits for whoever is filling it, so for an answer of
//! those that serve requests.

use crate::sys::Errno;
use fuser::{INodeNo, Notifier};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The way to that thread, which is started when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Pages(OnceLock<Sender<(INodeNo, Range<u64>)>>);

impl Pages {
    /// Lets the kernel drop its pages of these bytes, soon.
    pub(super) fn drop_written(
        &self,
        notifier: &OnceLock<Notifier>,
        node: INodeNo,
        bytes: Range<u64>,
    ) {
        let Some(notifier) = notifier.get() else { return };
        let to = self.0.get_or_init(|| {
            let (to, written) = channel();
            let notifier = notifier.clone();
            let started = std::thread::Builder::new()
                .name("pages".to_owned())
                .spawn(move || follow(&written, &notifier));
            if let Err(e) = started {
                log::error!("thread pages: {e}");
            }
            to
        });
        if to.send((node, bytes)).is_err() {
            log::debug!("a mapping of a new file may be old: no thread");
        }
    }
}

fn follow(written: &Receiver<(INodeNo, Range<u64>)>, notifier: &Notifier) {
    for (node, bytes) in written {
        let offset = i64::try_from(bytes.start).unwrap_or(i64::MAX);
        let len = i64::try_from(bytes.end - bytes.start).unwrap_or(i64::MAX);
        match notifier.inval_inode(node, offset, len) {
            // the kernel has dropped the inode, and its pages with it
            Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw()) => {}
            Err(e) => log::debug!("the kernel keeps old pages: {e}"),
            Ok(()) => {}
        }
    }
}
