//! What is asked of the kernel when the connection begins.

use super::options::Plan;
use fuser::{InitFlags, KernelConfig, Version};

const MAX_BACKGROUND: u16 = 64;
/// Kernels of this version (Linux 6.2) and later write back what they hold at a close, whether FLUSH
/// is served or not.
const WRITES_BACK_BY_ITSELF: Version = Version(7, 38);

/// Returns the capabilities that `plan` wants. Never one whose duty we do not fulfil.
fn wanted(plan: &Plan) -> InitFlags {
    let mut f = InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO;
    f.set(InitFlags::FUSE_CACHE_SYMLINKS, !plan.watch_content);
    f.set(InitFlags::FUSE_AUTO_INVAL_DATA, plan.watch_content);
    f.set(InitFlags::FUSE_NO_OPEN_SUPPORT, plan.no_open);
    f.set(InitFlags::FUSE_NO_OPENDIR_SUPPORT, plan.no_opendir);
    f.set(InitFlags::FUSE_POSIX_ACL, plan.acl);
    f.set(InitFlags::FUSE_PASSTHROUGH, plan.passthrough);
    f.set(InitFlags::FUSE_WRITEBACK_CACHE, plan.writeback);
    // who reads a file while it is so written may still map it
    f.set(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP, plan.direct_writes);
    if !plan.read_only {
        f |= InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK;
    }
    f
}

/// Agrees with the kernel on as much of `plan` as it offers, and takes back the rest.
pub(super) fn negotiate(config: &mut KernelConfig, plan: &mut Plan) {
    let offered = config.capabilities();
    if plan.passthrough && !offered.contains(InitFlags::FUSE_PASSTHROUGH) {
        plan.without_passthrough();
    }
    if plan.writeback && !offered.contains(InitFlags::FUSE_WRITEBACK_CACHE) {
        log::warn!("the kernel holds no writes back");
        plan.without_writeback();
    }
    if plan.writeback {
        plan.no_flush = config.kernel_abi() >= WRITES_BACK_BY_ITSELF;
    }
    plan.direct_writes &= offered.contains(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
    plan.no_open &= offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
    plan.no_opendir &= offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
    if let Err(missing) = config.add_capabilities(wanted(plan) & offered) {
        log::warn!("the kernel took back the capabilities {missing:?}");
    }
    if let Err(nearest) = config.set_max_write(plan.max_write) {
        log::warn!("the kernel allows writes of {nearest} bytes only");
    }
    if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
        log::warn!("the kernel allows {nearest} background requests only");
    }
    // one file system between us and the disk at most; without this there is no passthrough
    if plan.passthrough && config.set_max_stack_depth(1).is_err() {
        log::warn!("the kernel allows no stacked file systems");
    }
    log::debug!("agreed with the kernel: {plan:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::options::{Facts, MountSettings};

    fn flags(read_only: bool, immutable: bool, s: &MountSettings) -> InitFlags {
        let facts = Facts { read_only, immutable, xattrs: true, ..Facts::default() };
        wanted(&Plan::new(facts, s))
    }

    #[test]
    fn nothing_dangerous_is_ever_asked_for() {
        let never = InitFlags::FUSE_WRITEBACK_CACHE
            | InitFlags::FUSE_PASSTHROUGH
            | InitFlags::FUSE_SECURITY_CTX
            | InitFlags::FUSE_CREATE_SUPP_GROUP
            | InitFlags::FUSE_ALLOW_IDMAP
            | InitFlags::FUSE_POSIX_LOCKS
            | InitFlags::FUSE_FLOCK_LOCKS
            | InitFlags::FUSE_EXPORT_SUPPORT;
        for read_only in [true, false] {
            for immutable in [true, false] {
                let f = flags(read_only, immutable, &MountSettings::enforced("x"));
                assert!(!f.intersects(never));
            }
        }
    }

    #[test]
    fn writes_are_held_back_for_who_asks_for_it() {
        let s = MountSettings { writeback: true, ..MountSettings::enforced("x") };
        assert!(flags(false, true, &s).contains(InitFlags::FUSE_WRITEBACK_CACHE));
        assert!(!flags(true, true, &s).contains(InitFlags::FUSE_WRITEBACK_CACHE));
    }

    #[test]
    fn content_is_watched_only_where_others_edit() {
        let s = MountSettings::private("x");
        assert!(flags(true, false, &s).contains(InitFlags::FUSE_AUTO_INVAL_DATA));
        assert!(!flags(true, true, &s).contains(InitFlags::FUSE_AUTO_INVAL_DATA));
    }

    #[test]
    fn a_writable_view_takes_over_suid_and_umask() {
        let s = MountSettings::enforced("x");
        let both = InitFlags::FUSE_HANDLE_KILLPRIV_V2 | InitFlags::FUSE_DONT_MASK;
        assert!(flags(false, true, &s).contains(both));
        assert!(!flags(true, true, &s).intersects(both));
    }
}
