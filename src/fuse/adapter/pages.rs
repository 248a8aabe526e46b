//! Pages that the kernel must let go after a direct write, or write back before an answer.
//!
//! By a thread of its own: letting a page go waits for whoever is filling it or writing it back, so
//! for an answer of those that serve requests.

use crate::sys::Errno;
use fuser::{INodeNo, Notifier};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What comes after a file's pages were written back.
pub(super) type Then = Box<dyn FnOnce() + Send>;

/// What that thread is to do.
enum Task {
    Drop(INodeNo, Range<u64>),
    WriteBack(INodeNo, Then),
}

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
        if !self.send(notifier, Task::Drop(node, bytes)) {
            log::debug!("a mapping of a new file may be old: no thread");
        }
    }

    /// Lets the kernel write back a file's pages, and does something then.
    pub(super) fn after_writing_back(
        &self,
        notifier: &OnceLock<Notifier>,
        node: INodeNo,
        then: Then,
    ) {
        // what is lost with the thread is a reply, which answers with an error as it goes
        if !self.send(notifier, Task::WriteBack(node, then)) {
            log::warn!("a request could not wait for the kernel's pages: no thread");
        }
    }

    fn send(&self, notifier: &OnceLock<Notifier>, task: Task) -> bool {
        let Some(notifier) = notifier.get() else { return false };
        let to = self.0.get_or_init(|| {
            let (to, tasks) = channel();
            let notifier = notifier.clone();
            let started = std::thread::Builder::new()
                .name("pages".to_owned())
                .spawn(move || follow(&tasks, &notifier));
            if let Err(e) = started {
                log::error!("thread pages: {e}");
            }
            to
        });
        to.send(task).is_ok()
    }
}

fn follow(tasks: &Receiver<Task>, notifier: &Notifier) {
    for task in tasks {
        match task {
            Task::Drop(node, bytes) => {
                let offset = i64::try_from(bytes.start).unwrap_or(i64::MAX);
                let len = i64::try_from(bytes.end - bytes.start).unwrap_or(i64::MAX);
                write_back(notifier, node, offset, len);
            }
            Task::WriteBack(node, then) => {
                write_back(notifier, node, 0, 0);
                then();
            }
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
