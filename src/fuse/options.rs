//! How a view is mounted, and what follows from that for the kernel's caches.

use crate::sys::{self, MountAttributes};
use std::ffi::OsString;
use std::time::Duration;

/// Whether the kernel reads and writes files by itself, without a request. Only for who has
/// `CAP_SYS_ADMIN` outside of user namespaces; for others nothing changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passthrough {
    /// Files of the upper, and, in a read-only view, files of the layers.
    On,
    /// None.
    Off,
    /// As `On`, but not in a read-only view of store layers that hold many files and little data
    /// in large ones: there opens without a request are worth more, and both together cannot be.
    #[default]
    Auto,
}

/// How a view is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// What is mounted, as the table of mounts shows it in the place of a device.
    pub source: OsString,
    /// Other users may enter. Wants `default_permissions`, or they may do everything.
    pub allow_other: bool,
    /// With `allow_other`: of the others only root may.
    pub allow_root: bool,
    /// The kernel checks permissions by owner and mode before it asks.
    pub default_permissions: bool,
    /// Flags of the mount. `read_only` is set by itself when the view has no upper.
    pub attributes: MountAttributes,
    /// For how long the kernel may trust names and attributes; `None` decides by who can change
    /// the layers.
    pub timeout: Option<Duration>,
    /// Nobody else changes the layers while they are mounted, even those without an index.
    pub exclusive: bool,
    /// There are no extended attributes.
    pub no_xattrs: bool,
    /// There are no POSIX ACLs.
    pub no_acl: bool,
    /// The largest write in one request, in bytes; `None`: what is fastest.
    pub max_write: Option<u32>,
    /// Which files the kernel reads and writes by itself.
    pub passthrough: Passthrough,
    /// The kernel may hold writes back and send many at once, until the file is closed. Takes the
    /// place of passthrough. Only where nobody else changes the layers.
    pub writeback: bool,
    /// Inode numbers are below 2^32.
    pub short_numbers: bool,
    /// Options for the kernel's security module (`context` and the like), each with its value.
    /// They count only where that module is active, and for who may mount by himself.
    pub labels: Vec<(String, OsString)>,
    /// Number of threads that serve requests; `None` decides by the number of processors.
    pub threads: Option<usize>,
}

impl MountSettings {
    /// A private mount: only the user who mounts may enter, set-id bits and devices mean nothing.
    #[must_use]
    pub fn private(source: impl Into<OsString>) -> MountSettings {
        MountSettings {
            source: source.into(),
            allow_other: false,
            allow_root: false,
            default_permissions: false,
            attributes: MountAttributes { nosuid: true, nodev: true, ..MountAttributes::default() },
            timeout: None,
            exclusive: false,
            no_xattrs: false,
            no_acl: false,
            max_write: None,
            passthrough: Passthrough::Auto,
            writeback: false,
            short_numbers: false,
            labels: Vec::new(),
            threads: None,
        }
    }

    /// A mount for everybody, with permissions enforced by the kernel.
    #[must_use]
    pub fn enforced(source: impl Into<OsString>) -> MountSettings {
        MountSettings {
            allow_other: true,
            default_permissions: true,
            ..MountSettings::private(source)
        }
    }

    pub(super) fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(|| sys::processors().clamp(2, 4)).max(1)
    }
}

/// The largest write in one request. More is cut by the kernel (`fs.fuse.max_pages_limit`).
const MAX_WRITE: u32 = 1 << 20;
/// Practically for ever (136 years), and small enough for every kernel's arithmetic.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Where somebody may edit a plain lower without our knowing: as fresh as a network file system.
const SHORT: Duration = Duration::from_secs(1);

/// What the view is, as far as caching depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) read_only: bool,
    /// Nobody but the view changes what it shows.
    pub(super) immutable: bool,
    /// Somebody may, but the view tells when.
    pub(super) watched: bool,
    pub(super) xattrs: bool,
    /// Who mounts may register backing files.
    pub(super) privileged: bool,
    /// Reading large files matters more than opening small ones.
    pub(super) large_files: bool,
}

/// What the kernel is to be told: how long to trust, and which requests it need not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Life of names and attributes.
    pub(super) ttl: Duration,
    /// The same where changes are not told.
    pub(super) short_ttl: Duration,
    /// A file's pages outlive its last close.
    pub(super) keep_cache: bool,
    /// Check for changed content by mtime and size when attributes are fetched anew.
    pub(super) watch_content: bool,
    /// Open is answered once for all; reads name the inode.
    pub(super) no_open: bool,
    /// Likewise for directories; the kernel then keeps listings.
    pub(super) no_opendir: bool,
    /// Some file shows an extended attribute, or may come to.
    pub(super) xattrs: bool,
    /// POSIX ACLs are the kernel's to enforce.
    pub(super) acl: bool,
    /// ACLs are refused.
    pub(super) no_acl: bool,
    /// Only the mounter and root are served.
    pub(super) owner_and_root: bool,
    /// The largest write in one request, in bytes.
    pub(super) max_write: u32,
    /// No upper.
    pub(super) read_only: bool,
    /// Only we change the layers.
    pub(super) immutable: bool,
    /// The kernel reads and writes some files by itself.
    pub(super) passthrough: bool,
    /// The kernel holds writes back until the file is closed or synced, or for half a minute. Then
    /// it says, not we, how long a regular file is and when it and its inode were changed: what our
    /// answers say of that is not heeded as long as it has the inode in memory. A new file costs a
    /// GETXATTR and a SETATTR of its times more, each change of a file's names or attributes another
    /// SETATTR, and a full disk is told at the close. Measured (tmpfs, an ordinary user, pairs): an
    /// append of 100 bytes 12 to 1.1 µs, blocks of 4 KiB 245 to 714 MiB/s, of 1 MiB 1,445 to 869;
    /// a new file of 100 bytes 60 to 79 µs, its removal 24 to 33, open, append and close 32 to 58.
    /// So it is there for who asks for it.
    pub(super) writeback: bool,
    /// FLUSH, which has nothing to do, is refused once for all. The kernel writes back what it holds
    /// before it asks, and tells errors of that by itself (`fuse_flush` in fs/fuse/file.c).
    pub(super) no_flush: bool,
    /// What is opened for writing alone is written without the kernel's pages, where that is safe.
    /// A write then is one request, as it is with pages where none are held back.
    pub(super) direct_writes: bool,
    /// Inode numbers are below 2^32.
    pub(super) short_numbers: bool,
}

impl Plan {
    /// Returns what was agreed on, for people: seconds, bytes, yes or no.
    pub(super) fn named(&self) -> Vec<(&'static str, String)> {
        let lifetime =
            if self.ttl == FOREVER { "forever".to_owned() } else { format!("{:?}", self.ttl) };
        let mut out = vec![("lifetime", lifetime), ("max_write", self.max_write.to_string())];
        let flags = [
            ("keep_cache", self.keep_cache),
            ("watch_content", self.watch_content),
            ("no_open", self.no_open),
            ("no_opendir", self.no_opendir),
            ("xattrs", self.xattrs),
            ("acl", self.acl),
            ("read_only", self.read_only),
            ("passthrough", self.passthrough),
            ("writeback", self.writeback),
            ("direct_writes", self.direct_writes),
            ("short_numbers", self.short_numbers),
        ];
        out.extend(flags.map(|(name, on)| (name, if on { "yes" } else { "no" }.to_owned())));
        out
    }

    pub(super) fn new(facts: Facts, settings: &MountSettings) -> Plan {
        let xattrs = (facts.xattrs || !facts.read_only) && !settings.no_xattrs;
        let told = facts.immutable || facts.watched;
        let ttl = match (settings.timeout, told) {
            (Some(t), _) => t,
            (None, true) => FOREVER,
            (None, false) => SHORT,
        };
        // without opens there is nothing that could be passed through
        let opens_free = facts.read_only && facts.immutable;
        // the kernel cannot be told that a file which it knows has another length
        let writeback = settings.writeback && !facts.read_only && facts.immutable;
        let passthrough = facts.privileged
            && !writeback
            && match settings.passthrough {
                Passthrough::On => true,
                Passthrough::Off => false,
                Passthrough::Auto => !opens_free || facts.large_files,
            };
        Plan {
            ttl,
            short_ttl: ttl.min(settings.timeout.unwrap_or(SHORT)),
            keep_cache: true,
            watch_content: !told,
            // a file that somebody replaces in a lower is read on by who has it open: so opens must
            // be known
            no_open: opens_free && !passthrough,
            no_opendir: told,
            xattrs,
            // implies default_permissions in the kernel, so never without it
            acl: settings.default_permissions && xattrs && !settings.no_acl,
            no_acl: settings.no_acl,
            owner_and_root: settings.allow_root,
            max_write: settings.max_write.map_or(MAX_WRITE, |n| n.clamp(4096, MAX_WRITE)),
            read_only: facts.read_only,
            immutable: facts.immutable,
            passthrough,
            writeback,
            no_flush: facts.read_only || writeback,
            direct_writes: !facts.read_only && !passthrough && !writeback,
            short_numbers: settings.short_numbers,
        }
    }

    /// Goes on as if passthrough had never been wished for.
    pub(super) fn without_passthrough(&mut self) {
        self.passthrough = false;
        self.direct_writes = !self.read_only;
        self.no_open = self.read_only && self.immutable;
    }

    /// Goes on as if nobody had asked for writes to be held back.
    pub(super) fn without_writeback(&mut self) {
        self.writeback = false;
        self.no_flush = self.read_only;
        self.direct_writes = !self.read_only && !self.passthrough;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(read_only: bool, immutable: bool, xattrs: bool, s: &MountSettings) -> Plan {
        Plan::new(Facts { read_only, immutable, xattrs, ..Facts::default() }, s)
    }

    #[test]
    fn an_immutable_view_is_asked_once() {
        let p = plan(true, true, false, &MountSettings::private("x"));
        assert!(p.no_open && p.no_opendir && p.keep_cache && !p.watch_content && !p.xattrs);
        assert_eq!(p.ttl, FOREVER);
        assert!(!p.acl);
    }

    #[test]
    fn a_writable_view_opens_files_and_has_xattrs() {
        let p = plan(false, true, false, &MountSettings::enforced("x"));
        assert!(!p.no_open && p.no_opendir && p.xattrs && p.acl);
        assert_eq!(p.ttl, FOREVER);
    }

    #[test]
    fn lowers_that_others_edit_are_looked_at_again() {
        let mut s = MountSettings::private("x");
        let p = plan(true, false, true, &s);
        assert!(!p.no_open && !p.no_opendir && p.watch_content);
        assert_eq!(p.ttl, Duration::from_secs(1));
        s.timeout = Some(Duration::ZERO);
        assert_eq!(plan(true, false, true, &s).ttl, Duration::ZERO);
    }

    #[test]
    fn lowers_that_are_watched_are_trusted_but_opened() {
        let facts = Facts {
            read_only: true,
            immutable: false,
            watched: true,
            xattrs: true,
            ..Facts::default()
        };
        let mut s = MountSettings::private("x");
        let p = Plan::new(facts, &s);
        assert!(!p.no_open && p.no_opendir && p.keep_cache && !p.watch_content);
        assert_eq!((p.ttl, p.short_ttl), (FOREVER, SHORT));
        s.timeout = Some(Duration::from_secs(7));
        assert_eq!(Plan::new(facts, &s).ttl, Duration::from_secs(7));
    }

    #[test]
    fn attributes_and_acls_can_be_turned_off() {
        let s = MountSettings { no_acl: true, ..MountSettings::enforced("x") };
        let p = plan(false, true, true, &s);
        assert!(!p.acl && p.no_acl && p.xattrs);
        let s = MountSettings { no_xattrs: true, ..MountSettings::enforced("x") };
        let p = plan(false, true, true, &s);
        assert!(!p.acl && !p.xattrs);
    }

    #[test]
    fn writes_are_as_large_as_is_sensible() {
        let of = |n| {
            let s = MountSettings { max_write: n, ..MountSettings::private("x") };
            plan(false, true, true, &s).max_write
        };
        assert_eq!((of(None), of(Some(0)), of(Some(65536))), (1 << 20, 4096, 65536));
        assert_eq!(of(Some(u32::MAX)), 1 << 20);
    }

    #[test]
    fn passthrough_takes_the_place_of_free_opens_where_it_is_worth_more() {
        let of = |read_only, privileged, large_files, passthrough| {
            let facts = Facts {
                read_only,
                immutable: true,
                watched: false,
                xattrs: false,
                privileged,
                large_files,
            };
            let s = MountSettings { passthrough, ..MountSettings::private("x") };
            let p = Plan::new(facts, &s);
            (p.passthrough, p.no_open)
        };
        use Passthrough::{Auto, Off, On};
        assert_eq!(of(false, true, false, Auto), (true, false));
        assert_eq!(of(true, true, false, Auto), (false, true));
        assert_eq!(of(true, true, true, Auto), (true, false));
        assert_eq!(of(true, true, false, On), (true, false));
        assert_eq!(of(true, true, true, Off), (false, true));
        assert_eq!(of(false, true, true, Off), (false, false));
        assert_eq!(of(true, false, true, On), (false, true), "without the privilege");
        let facts =
            Facts { read_only: true, immutable: true, privileged: true, ..Facts::default() };
        let s = MountSettings { passthrough: On, ..MountSettings::private("x") };
        let mut p = Plan::new(facts, &s);
        p.without_passthrough();
        assert!(p.no_open && !p.passthrough, "the kernel does not offer it");
    }

    #[test]
    fn writes_are_held_back_where_nobody_else_changes_files() {
        let of = |read_only, immutable, watched, privileged| {
            let facts = Facts { read_only, immutable, watched, privileged, ..Facts::default() };
            let s = MountSettings { writeback: true, ..MountSettings::private("x") };
            let p = Plan::new(facts, &s);
            (p.writeback, p.passthrough, p.direct_writes)
        };
        assert_eq!(of(false, true, false, false), (true, false, false));
        assert_eq!(
            of(false, true, false, true),
            (true, false, false),
            "in the place of passthrough"
        );
        assert_eq!(of(false, false, true, false), (false, false, true));
        assert_eq!(of(false, false, false, false), (false, false, true));
        assert_eq!(of(false, false, false, true), (false, true, false));
        assert_eq!(of(true, true, false, false), (false, false, false));
        let facts = Facts { immutable: true, ..Facts::default() };
        let asked = MountSettings { writeback: true, ..MountSettings::private("x") };
        let mut p = Plan::new(facts, &asked);
        p.without_writeback();
        assert_eq!(
            p,
            Plan::new(facts, &MountSettings::private("x")),
            "the kernel does not offer it"
        );
        assert!(!p.writeback, "nobody gets it unasked");
    }

    #[test]
    fn acls_never_bring_enforcement_into_a_private_mount() {
        assert!(!plan(false, true, true, &MountSettings::private("x")).acl);
    }
}
