//! Watching directories for changes that others make: inotify(7).

use super::{Dir, Errno, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What is watched for: names that come and go, content, attributes.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// The number of a watched directory; never used twice.
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
    /// The directory is not watched any more: it is gone, or its file system was unmounted.
    Ended(WatchId),
    /// There were more changes than the kernel keeps: anything may have happened.
    Lost,
}

/// Watches directories.
#[derive(Debug)]
pub struct DirWatcher {
    events: OwnedFd,
    wake: OwnedFd,
}

impl DirWatcher {
    /// Returns a watcher of nothing so far.
    ///
    /// # Errors
    /// `EMFILE` when this user has as many as `fs.inotify.max_user_instances` allows.
    pub fn new() -> Result<DirWatcher> {
        Ok(DirWatcher {
            events: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Watches a directory. Watching one twice gives the same number.
    ///
    /// # Errors
    /// `ENOSPC` when this user has as many as `fs.inotify.max_user_watches` allows.
    pub fn add(&self, dir: &Dir) -> Result<WatchId> {
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        Ok(WatchId(inotify::add_watch(&self.events, path, WATCHED)?))
    }

    /// Ends a watch. One that has ended is no error.
    pub fn remove(&self, id: WatchId) -> Result<()> {
        match inotify::remove_watch(&self.events, id.0) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits for events, or until [`DirWatcher::wake`] is called.
    pub fn wait(&self) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(&self.events, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut count = [0; 8];
        match rustix::io::read(&self.wake, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns whether events have come that were not read yet; also if that cannot be told.
    pub fn has_events(&self) -> bool {
        rustix::io::ioctl_fionread(&self.events).map_or(true, |bytes| bytes > 0)
    }

    /// Lets a waiting thread return.
    pub fn wake(&self) -> Result<()> {
        match rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) {
            // as many wishes as can be counted are there already
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns the events that have come, without waiting.
    pub fn read(&self) -> Result<Vec<DirEvent>> {
        let mut out = Vec::new();
        let mut buffer = [const { MaybeUninit::uninit() }; 1 << 14];
        let mut reader = Reader::new(self.events.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(e) => e,
                Err(rustix::io::Errno::AGAIN) => return Ok(out),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(Errno::from(e)),
            };
            let (id, what) = (WatchId(event.wd()), event.events());
            let name = event.file_name().map(|n| Box::<[u8]>::from(n.to_bytes()));
            let names = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM;
            let found = match name {
                _ if what.contains(ReadFlags::QUEUE_OVERFLOW) => DirEvent::Lost,
                _ if what.contains(ReadFlags::IGNORED) => DirEvent::Ended(id),
                Some(n) if what.intersects(names | ReadFlags::MOVED_TO) => DirEvent::Names(id, n),
                Some(n) => DirEvent::Content(id, n),
                None => DirEvent::Itself(id),
            };
            // writers make long runs of one event
            if out.last() != Some(&found) {
                out.push(found);
            }
        }
    }
}

/// Returns how many directories this user may watch, all programs together.
#[must_use]
pub fn max_watches() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        std::fs::write(tmp.path().join("a"), "1").unwrap();
        let w = DirWatcher::new().unwrap();
        let id = w.add(&dir).unwrap();
        assert_eq!(w.add(&dir.reopen().unwrap()).unwrap(), id);
        assert_eq!(w.read().unwrap(), []);
        std::fs::write(tmp.path().join("a"), "2").unwrap();
        let seen = w.read().unwrap();
        assert!(seen.iter().all(|e| *e == DirEvent::Content(id, b"a"[..].into())), "{seen:?}");
        std::fs::rename(tmp.path().join("a"), tmp.path().join("b")).unwrap();
        let name = |n: &[u8]| DirEvent::Names(id, n.into());
        assert_eq!(w.read().unwrap(), [name(b"a"), name(b"b")]);
        dir.chmod_self(0o711).unwrap();
        assert_eq!(w.read().unwrap(), [DirEvent::Itself(id)]);
        w.remove(id).unwrap();
        w.remove(id).unwrap();
        assert_eq!(w.read().unwrap(), [DirEvent::Ended(id)]);
        w.wake().unwrap();
        w.wait().unwrap();
    }
}
