//! Options that are accepted and change nothing, and those that are refused.

use super::BadOption;
use super::grammar::Item;
use crate::name::printable;

/// Options that are accepted and have no effect, each group with the reason. Some take a value,
/// which is not looked at.
pub const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (
        &[
            "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev",
            "nofail", "comment",
        ],
        "for mount(8), fstab(5) and systemd, as everything that begins with x- or X-",
    ),
    (
        &["norelatime", "nostrictatime", "lazytime", "nolazytime"],
        "how often reading changes a time of access is left to the upper's own mount",
    ),
    (
        &["loud", "silent", "mand", "nomand", "iversion", "noiversion"],
        "the kernel itself ignores them for FUSE, or by now for everything",
    ),
    (
        &[
            "threaded",
            "max_threads",
            "max_idle_threads",
            "clone_fd",
            "max_read",
            "noforget",
            "big_writes",
            "nonempty",
            "splice_read",
            "splice_write",
            "splice_move",
            "subtype",
            "max_background",
            "congestion_threshold",
            "async_read",
            "sync_read",
        ],
        "how a FUSE program works rather than what it shows; threads= sets the number of threads",
    ),
    (&["kernel_cache", "auto_cache"], "caches live as long as timeout= says"),
    (&["auto_unmount"], "the daemon unmounts when it ends; one that was killed cannot"),
    (
        &["fast_ino", "fast_ino_check"],
        "inode numbers are always unique in the mount and stay over remounts; xino=on and xino=auto \
         say no more than that",
    ),
    (&["index"], "all names of a copied-up hard link follow it, as with the kernel's index=on"),
    (&["nfs_export"], "the kernel's NFS server does not export FUSE mounts of this kind"),
    (&["uuid"], "FUSE mounts have no UUID"),
    (&["override_creds", "nooverride_creds"], "layers are always accessed as the mounter"),
];

/// Takes what changes nothing, and refuses all else by its name.
pub(super) fn check(name: &str, option: Item<'_>) -> Result<(), BadOption> {
    if name.starts_with("x-") || name.starts_with("X-") {
        return Ok(());
    }
    match name {
        "index" | "nfs_export" => option.one_of(&["on", "off"]).map(drop),
        "verity" if option.value == Some(b"off") => Ok(()),
        "plugins" if option.value == Some(b"") => Ok(()),
        "verity" | "plugins" | "bind" | "encoding" => {
            let shown = match option.value {
                Some(v) => format!("{name}={}", printable(v)),
                None => name.to_owned(),
            };
            Err(BadOption::Unsupported(shown))
        }
        _ if WITHOUT_EFFECT.iter().any(|(names, _)| names.contains(&name)) => Ok(()),
        _ => Err(BadOption::Unknown(name.to_owned())),
    }
}
