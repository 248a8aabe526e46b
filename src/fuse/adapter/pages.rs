//! Pages that the kernel must let go after a direct write, or write back before an answer.
//!
//! By a thread of its own: letting a page go waits for whoever is filling it or writing it back, so
//! for an answer of those that serve requests.

use crate::sys::Errno;
use fuser::{INodeNo, Notifier};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Task = Box<dyn FnOnce(&Notifier) + Send>;

/// The way to that thread, which is started when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Pages(OnceLock<Sender<Task>>);

impl Pages {
    /// Lets the kernel drop its pages of these bytes, soon.
    pub(super) fn drop_written(
        &self,
        notifier: &OnceLock<Notifier>,
        node: INodeNo,
        bytes: Range<u64>,
    ) {
        let offset = i64::try_from(bytes.start).unwrap_or(i64::MAX);
        let len = i64::try_from(bytes.end - bytes.start).unwrap_or(i64::MAX);
        self.later(notifier, move |notifier| write_back(notifier, node, offset, len));
    }

    /// Lets the kernel drop all its pages of a file, and what it knows of its length, soon.
    pub(super) fn drop_all(&self, notifier: &OnceLock<Notifier>, node: INodeNo) {
        self.later(notifier, move |notifier| write_back(notifier, node, 0, 0));
    }

    /// Does something in that thread, after all that it was given before.
    pub(super) fn later(
        &self,
        notifier: &OnceLock<Notifier>,
        task: impl FnOnce(&Notifier) + Send + 'static,
    ) {
        let Some(notifier) = notifier.get() else { return };
        let to = self.0.get_or_init(|| {
            let (to, tasks) = channel::<Task>();
            let notifier = notifier.clone();
            let started = std::thread::Builder::new()
                .name("pages".to_owned())
                .spawn(move || tasks.into_iter().for_each(|task| task(&notifier)));
            if let Err(e) = started {
                log::error!("thread pages: {e}");
            }
            to
        });
        // a reply that is dropped with its task answers with an error
        if to.send(Box::new(task)).is_err() {
            log::debug!("what the kernel has of a file may be old: no thread");
        }
    }
}

/// Lets the kernel write back its pages of these bytes, of the whole file if `len` is 0, and drop
/// them. Returns when it has.
pub(super) fn write_back(notifier: &Notifier, node: INodeNo, offset: i64, len: i64) {
    match notifier.inval_inode(node, offset, len) {
        // the kernel has dropped the inode, and its pages with it
        Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw()) => {}
        Err(e) => log::debug!("the kernel keeps old pages: {e}"),
        Ok(()) => {}
    }
}
