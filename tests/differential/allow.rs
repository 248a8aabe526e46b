//! Differences that are meant, each with its reason. Keep it short.

use crate::op::{Act, Op, Renaming, Special, Step};

/// Whether stratafs and the kernel refuse what a plain file system does, so that the referee is
/// not asked.
pub fn refused_by_overlays(step: Step, said: &str) -> bool {
    match (step.1, said) {
        // a character device 0:0 is a whiteout
        (Op::Mknod { what: Special::Zero, .. }, "EPERM") => true,
        // RENAME_WHITEOUT would make one
        (Op::Rename { how: Renaming::Whiteout, .. }, "EINVAL") => true,
        // a directory with lower parts, without redirects
        (Op::Rename { .. }, "EXDEV") => true,
        _ => false,
    }
}

/// Whether there was nothing to remove: an overlay looks for that first, where a file system may refuse
/// before it looks, or see no fault in removing an ACL that is not there.
pub fn nothing_to_remove(step: Step, ours: &str, native: &str) -> bool {
    let Op::RemoveXattr { key, .. } = step.1 else { return false };
    ours == "ENODATA"
        && (native == "EPERM" && key.starts_with("security.")
            || native.starts_with("ok") && key.starts_with("system.posix_acl"))
}

/// The reason why stratafs may answer `ours` where the kernel answers `kernel`. `hidden`: a layer
/// hides a name of a hard-linked file of a layer below.
pub fn stated(kernel: &str, ours: &str, hidden: bool) -> Option<&'static str> {
    if hidden && without_links(kernel) == without_links(ours) {
        return Some("a plain layer's file counts all its names, as with the kernel's index=on");
    }
    if without_ghosts(kernel) == ours || kernel.strip_prefix("ok ") == Some(GHOST) {
        return Some("the kernel lists whiteouts of a directory that nothing lies below");
    }
    None
}

/// Whether a read-only image that holds no extended attribute says that there can be none, which
/// spares it further requests.
pub fn no_attributes(step: Step, said: &str) -> bool {
    let asked = matches!(
        step.1,
        Op::Xattrs { .. } | Op::XattrSizes { .. } | Op::Held { act: Act::Xattrs, .. }
    );
    asked && said.contains("EOPNOTSUPP")
}

/// What a walk says of a name that is listed and not there.
pub const GHOST: &str = "ghost";

fn without_ghosts(said: &str) -> String {
    let names = said.split(", ").filter(|n| !n.ends_with(GHOST));
    names.collect::<Vec<_>>().join(", ")
}

/// Whether FUSE itself refuses a step, so that nobody else does it.
pub fn beyond_fuse(step: Step, said: &str) -> bool {
    match (step.1, said) {
        (Op::TmpFile { .. }, "EOPNOTSUPP") => true,
        // nor does it pass on the wish to share blocks
        (Op::Clone { .. }, "EOPNOTSUPP") => true,
        // FUSE passes on allocation, holes and zeros
        (Op::Held { act: Act::Fallocate(5 | 6, ..), .. }, "EOPNOTSUPP") => true,
        _ => false,
    }
}

fn without_links(said: &str) -> String {
    let mut words = said.split(' ');
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "links" {
            words.next();
        } else {
            out.push(word);
        }
    }
    out.join(" ")
}
