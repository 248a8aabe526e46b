//! The least file system: one directory of files, each request answered by the system calls that it
//! takes and a look into a table. No merging, no marks, no checks, no counting of references.
//!
//! It runs in a process of its own, as any FUSE server does: threads of one process would change
//! places faster than two processes can.

use super::Result;
use super::backing::{Backing, Place};
use super::nodes::{Nodes, attr};
use fuser::{Config, FileHandle, INodeNo, MountOption, Session, SessionACL};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stratafs::sys::{self, File};

/// The word by which the bench calls itself to serve.
pub(crate) const SERVE: &str = "--serve";

/// As long as a mount of ours lets the kernel trust what nobody else changes.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
pub(super) const MAX_WRITE: u32 = 1 << 20;
pub(super) const MAX_BACKGROUND: u16 = 64;

thread_local! {
    /// Where data goes before it is sent.
    pub(super) static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_WRITE as usize]);
}

/// What is served.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) backing: Backing,
    pub(super) nodes: Mutex<Nodes>,
    pub(super) open: Mutex<HashMap<u64, Arc<File>>>,
    opened: AtomicU64,
    requests: Arc<AtomicU64>,
    /// POSIX ACLs are the kernel's to enforce, as for root's mounts.
    pub(super) acl: bool,
}

/// Mounts a place's stack and serves it until the standard input ends. For each byte that is read
/// there, the number of requests so far is written to the standard output.
pub(crate) fn serve(place: &Path, acl: bool) -> Result<()> {
    let place = Place::new(place);
    let backing = Backing::open(&place)?;
    let names = backing.lower.list()?.into_iter().map(|e| e.name);
    let requests = Arc::new(AtomicU64::new(0));
    let floor = Floor {
        nodes: Mutex::new(Nodes::of_lower(names)),
        backing,
        open: Mutex::default(),
        opened: AtomicU64::new(0),
        requests: Arc::clone(&requests),
        acl,
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("floor".to_owned())];
    if acl {
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    // as many threads as ours has, each with a device of its own
    config.n_threads = Some(sys::processors().clamp(2, 4));
    config.clone_fd = true;
    let session = Session::new(floor, place.mount_point(), &config)?.spawn()?;
    let mut answer = std::io::stdout().lock();
    answer.write_all(&[1])?;
    answer.flush()?;
    for asked in std::io::stdin().lock().bytes() {
        asked?;
        answer.write_all(&requests.load(Ordering::Relaxed).to_ne_bytes())?;
        answer.flush()?;
    }
    Ok(session.umount_and_join()?)
}

impl Floor {
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn keep_open(&self, file: File) -> FileHandle {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, Arc::new(file));
        FileHandle(number)
    }

    pub(super) fn opened(&self, h: FileHandle) -> sys::Result<Arc<File>> {
        self.open.lock().get(&h.0).cloned().ok_or(sys::Errno::BADF)
    }

    pub(super) fn stat(&self, node: INodeNo) -> sys::Result<fuser::FileAttr> {
        let stat = if node == INodeNo::ROOT {
            self.backing.stat_root()?
        } else {
            let (name, node) = self.nodes.lock().by_number(node.0).ok_or(sys::Errno::STALE)?;
            self.backing.stat(&name, node.in_upper)?
        };
        Ok(attr(node.0, &stat))
    }

    pub(super) fn copy_up(&self, node: INodeNo, mode: u32) -> sys::Result<fuser::FileAttr> {
        let (name, _) = self.nodes.lock().by_number(node.0).ok_or(sys::Errno::STALE)?;
        let stat = BUFFER.with_borrow_mut(|b| self.backing.copy_up(&name, mode, b))?;
        self.nodes.lock().copied_up(&name);
        Ok(attr(node.0, &stat))
    }

    pub(super) fn remove(&self, name: &OsStr) -> sys::Result<()> {
        let name = name.as_bytes();
        let node = self.nodes.lock().find(name).ok_or(sys::Errno::NOENT)?;
        if node.in_upper {
            self.backing.unlink(name)?
        } else {
            self.backing.whiteout(name)?
        }
        self.nodes.lock().remove(name);
        Ok(())
    }
}
