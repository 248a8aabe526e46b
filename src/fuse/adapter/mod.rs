//! From requests to calls of the engine and back. Nothing about semantics is decided here.

mod filesystem;
mod held_back;
mod listed;
mod numbers;
mod pages;
mod passthrough;
mod set_id;

use super::convert::{self, Refusal};
use super::counters::{Counters, Op};
use super::options::Plan;
use crate::overlay::{Attr, Caller, Fh, Ino, OpenMode, Overlay};
use crate::sys::{self, File};
use fuser::{
    BackingId, FileAttr, FopenFlags, Generation, INodeNo, Notifier, ReplyAttr, ReplyEmpty,
    ReplyEntry, ReplyWrite, ReplyXattr, Request, SessionACL,
};
use listed::Listed;
use numbers::Numbers;
use pages::Pages;
use passthrough::{Backings, Way, plain as fh};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Served<T> = std::result::Result<T, Refusal>;
type Answer<T> = std::result::Result<T, fuser::Errno>;

/// Node ids are inode numbers, the engine's or those of [`Numbers`], and are never used twice, so
/// generations tell nothing.
const GENERATION: Generation = Generation(0);

thread_local! {
    /// Where reads go before they are sent; grows to the largest read of its thread.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The file system that fuser calls. Clones serve the same view.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    overlay: Arc<Overlay>,
    counters: Arc<Counters>,
    plan: Plan,
    /// Which inodes are open in which way, where passthrough is in use.
    backings: Arc<Backings>,
    pages: Arc<Pages>,
    /// Whose listing the kernel may hold, where it holds them and names change.
    listed: Arc<Listed>,
    /// What the kernel has agreed to.
    agreed: Arc<OnceLock<Plan>>,
    notifier: Arc<OnceLock<Notifier>>,
    /// The inode that lost its capabilities last, until the kernel has said what else is to go.
    uncapped: Arc<AtomicU64>,
    /// By which numbers the kernel knows the inodes, if not by the engine's.
    numbers: Option<Arc<Numbers>>,
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid() }
}

/// Whether a request's sender is in a group.
fn is_member(req: &Request, gid: u32) -> bool {
    gid == req.gid() || sys::groups_of(req.pid()).is_some_and(|groups| groups.contains(&gid))
}

impl Adapter {
    pub(super) fn new(overlay: Arc<Overlay>, counters: Arc<Counters>, plan: Plan) -> Adapter {
        Adapter {
            overlay,
            counters,
            plan,
            backings: Arc::default(),
            pages: Arc::default(),
            listed: Arc::default(),
            agreed: Arc::default(),
            notifier: Arc::default(),
            uncapped: Arc::default(),
            numbers: plan.short_numbers.then(Arc::default),
        }
    }

    /// Returns the inode that the kernel means.
    fn ino(&self, node: INodeNo) -> Ino {
        match &self.numbers {
            None => Ino(node.0),
            Some(n) => n.ino(node.0),
        }
    }

    /// Returns the number under which the kernel is to know an inode.
    fn number(&self, ino: Ino) -> INodeNo {
        INodeNo(match &self.numbers {
            None => ino.0,
            Some(n) => n.number(ino),
        })
    }

    /// Returns the number under which the kernel may know an inode; `None`: it does not.
    pub(super) fn known(&self, ino: Ino) -> Option<INodeNo> {
        match &self.numbers {
            None => Some(INodeNo(ino.0)),
            Some(n) => n.known(ino).map(INodeNo),
        }
    }

    fn shown(&self, a: &Attr) -> FileAttr {
        FileAttr { ino: self.number(a.ino), ..convert::attr(a) }
    }

    /// Returns what the kernel has agreed to.
    pub(super) fn agreed(&self) -> Plan {
        self.agreed.get().copied().unwrap_or(self.plan)
    }

    /// The same for one more worker of a connection that has been agreed on.
    pub(super) fn resumed(&self) -> Adapter {
        Adapter { plan: self.agreed(), ..self.clone() }
    }

    /// Takes what speaks to the kernel unasked, once the connection exists.
    pub(super) fn connected(&self, notifier: Notifier) {
        // the first one serves all
        self.notifier.set(notifier).unwrap_or_default();
    }

    /// Returns what speaks to the kernel unasked.
    pub(super) fn notifier(&self) -> Option<Notifier> {
        self.notifier.get().cloned()
    }

    /// For how long the kernel may trust names in a directory.
    fn names_ttl(&self, dir: Ino) -> Duration {
        if self.overlay.names_last(dir) { self.plan.ttl } else { self.plan.short_ttl }
    }

    /// Who may enter is the kernel's to decide, which knows namespaces; fuser compares numbers. But
    /// "root, and nobody else" is nothing that the kernel knows.
    pub(super) fn who_is_served(&self) -> SessionACL {
        if self.plan.owner_and_root { SessionACL::RootAndOwner } else { SessionACL::All }
    }

    /// Refuses extended attributes that this mount does not have.
    fn has_xattr(&self, op: Op, name: &OsStr) -> Answer<()> {
        if !self.plan.xattrs {
            return Err(self.refuse(op));
        }
        if self.plan.no_acl && name.as_bytes().starts_with(b"system.posix_acl_") {
            self.counters.add(op);
            return Err(fuser::Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    /// Counts the request and serves it. A panic costs its request an `EIO`, not the daemon.
    fn serve<T>(&self, op: Op, f: impl FnOnce(&Overlay) -> Served<T>) -> Answer<T> {
        self.counters.add(op);
        let done = catch_unwind(AssertUnwindSafe(|| f(&self.overlay)));
        // before the answer, after which the caller may look
        self.overlay.tell_copied(&mut |node| self.forget_attributes(node));
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(refusal)) => {
                if let Refusal::Engine(e) = &refusal {
                    log::log!(e.level(), "{}: {e}", op.name());
                }
                Err(convert::errno(refusal.errno()))
            }
            // the panic hook has printed what happened
            Err(_) => {
                log::error!("{}: the request panicked", op.name());
                Err(fuser::Errno::EIO)
            }
        }
    }

    fn refuse(&self, op: Op) -> fuser::Errno {
        self.counters.add(op);
        fuser::Errno::ENOSYS
    }

    fn entry(&self, answer: Answer<Attr>, reply: ReplyEntry) {
        match answer {
            Ok(a) => {
                let (attr_ttl, entry_ttl) = (&self.attr_ttl(a.ino), &self.plan.ttl);
                reply.entry_with_ttls(attr_ttl, entry_ttl, &self.shown(&a), GENERATION);
            }
            Err(e) => reply.error(e),
        }
    }

    fn attr(&self, answer: Answer<Attr>, reply: ReplyAttr) {
        match answer {
            Ok(a) => reply.attr(&self.attr_ttl(a.ino), &self.shown(&a)),
            Err(e) => reply.error(e),
        }
    }

    /// Whether it matters who has which file open.
    fn counts_opens(&self) -> bool {
        self.plan.passthrough || self.plan.direct_writes
    }

    /// For how long the kernel may trust an inode's attributes.
    fn attr_ttl(&self, node: Ino) -> Duration {
        let unseen =
            self.plan.passthrough && !self.plan.read_only && self.backings.changes_unseen(node);
        if unseen {
            Duration::ZERO
        } else if self.overlay.attributes_last(node) {
            self.plan.ttl
        } else {
            self.plan.short_ttl
        }
    }

    /// Decides how an open is answered.
    fn way(
        &self,
        node: Ino,
        h: Fh,
        mode: OpenMode,
        register: impl FnOnce(&File) -> std::io::Result<BackingId>,
    ) -> Way {
        if self.plan.passthrough {
            let way = self.backings.open(&self.overlay, node, h, mode, register);
            if matches!(way, Way::Through(_)) {
                self.counters.add_passthrough();
            }
            way
        } else if self.plan.direct_writes {
            self.backings.open_direct(node, mode, || self.overlay.has_had_no_xattrs(node))
        } else {
            Way::Cached { keep: true }
        }
    }

    /// The flags for a file that may be a lower's.
    fn open_flags_of(&self, node: Ino, way: &Way) -> FopenFlags {
        let mut f = self.open_flags(way);
        if !self.overlay.attributes_last(node) {
            f.remove(FopenFlags::FOPEN_KEEP_CACHE);
        }
        f
    }

    fn open_flags(&self, way: &Way) -> FopenFlags {
        let mut f = FopenFlags::FOPEN_NOFLUSH;
        let keep = self.plan.keep_cache && matches!(way, Way::Cached { keep: true });
        f.set(FopenFlags::FOPEN_KEEP_CACHE, keep);
        f.set(FopenFlags::FOPEN_DIRECT_IO, matches!(way, Way::Direct | Way::Beside(_)));
        f
    }

    /// Whether the kernel keeps listings of directories that change.
    fn keeps_listings(&self) -> bool {
        self.plan.no_opendir && !self.plan.read_only
    }

    /// Notes that a listing is about to be sent.
    fn lists(&self, dir: INodeNo) {
        if self.keeps_listings() {
            self.listed.add(dir);
        }
    }

    /// Serves a request that changes names in a directory; the kernel's listing of it goes.
    fn serve_change<T>(
        &self,
        op: Op,
        dir: INodeNo,
        f: impl FnOnce(&Overlay) -> Served<T>,
    ) -> Answer<T> {
        let done = self.serve(op, f);
        self.forget_listing(dir);
        done
    }

    fn forget_listing(&self, dir: INodeNo) {
        if self.keeps_listings()
            && self.listed.take(dir)
            && let Some(notifier) = self.notifier.get()
        {
            // ENOENT: the kernel has dropped the directory, and its listing with it
            notifier
                .inval_inode(dir, 0, 0)
                .unwrap_or_else(|e| log::debug!("the kernel keeps an old listing: {e}"));
        }
    }

    /// Tells the kernel to ask for an inode's attributes again.
    pub(super) fn forget_attributes(&self, node: Ino) {
        if let (Some(notifier), Some(number)) = (self.notifier.get(), self.known(node)) {
            // a negative offset means the attributes alone, for which the kernel takes no lock
            notifier
                .inval_inode(number, -1, 0)
                .unwrap_or_else(|e| log::debug!("the kernel does not forget attributes: {e}"));
        }
    }
}

fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

/// Answers a question for bytes whose asker gave the size of his buffer, 0 to learn the length.
fn sized(answer: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(v) if size == 0 => match u32::try_from(v.len()) {
            Ok(n) => reply.size(n),
            Err(_) => reply.error(fuser::Errno::E2BIG),
        },
        Ok(v) if v.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(v) => reply.data(&v),
        Err(e) => reply.error(e),
    }
}

fn written(answer: Answer<u64>, reply: ReplyWrite) {
    match answer.map(u32::try_from) {
        Ok(Ok(n)) => reply.written(n),
        Ok(Err(_)) => reply.error(fuser::Errno::EIO),
        Err(e) => reply.error(e),
    }
}
