//! Why a mount did not come about or did not end.

use crate::sys::Errno;
use std::path::PathBuf;

/// Why a mount did not come about or did not end. [`MountError::hint`] says what helps.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point cannot be opened.
    #[error("mount point {}: {errno}", path.display())]
    MountPoint {
        /// The mount point as given.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A FUSE mount whose daemon has died lies on the mount point.
    #[error("mount point {}: a file system whose daemon has died is mounted there", .0.display())]
    DeadMount(PathBuf),
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse: {0}")]
    Device(Errno),
    /// The program that mounts for ordinary users is not installed.
    #[error("fusermount3 is not installed")]
    NoFusermount,
    /// An ordinary user wants other users to enter, and the administrator has not allowed that.
    #[error("allow_other is not permitted to ordinary users on this machine")]
    AllowOther,
    /// fusermount3 refused; its own words.
    #[error("{0}")]
    Fusermount(String),
    /// mount(2) refused.
    #[error("mount: {0}")]
    Mount(Errno),
    /// The connection to the kernel failed.
    #[error("the FUSE connection: {0}")]
    Connection(#[source] std::io::Error),
    /// Somebody still uses the file system.
    #[error("{} is in use", .0.display())]
    Busy(PathBuf),
    /// umount(2) refused.
    #[error("umount {}: {errno}", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// This platform has no way to mount yet.
    #[error("mounting is not supported on this platform yet")]
    Platform,
}

impl MountError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            MountError::MountPoint { errno: Errno::NOENT, path } => {
                return Some(format!("mkdir {}", path.display()));
            }
            MountError::DeadMount(path) => {
                return Some(format!("stratafs umount {}", path.display()));
            }
            MountError::Device(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
                "load the kernel module (modprobe fuse), or give the container the device \
                 (--device /dev/fuse)"
            }
            MountError::Device(Errno::ACCESS | Errno::PERM) => {
                "/dev/fuse must be open to this user: chmod 666 /dev/fuse as root, or \
                 --device /dev/fuse for the container"
            }
            MountError::NoFusermount => "install it: apt install fuse3",
            MountError::AllowOther => {
                "put a line 'user_allow_other' into /etc/fuse.conf, or mount without allow_other"
            }
            MountError::Mount(Errno::PERM) => {
                "in a user namespace, make a mount namespace as well (unshare -Urm)"
            }
            MountError::Busy(path) => {
                return Some(format!(
                    "end the programs that use it, or: stratafs umount --lazy {}",
                    path.display()
                ));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
