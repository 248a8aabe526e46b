//! Owners, modes and types that could not be set on disk, in an extended attribute.

use crate::sys::{FileType, major, makedev, minor};

/// Where containers/storage keeps them, and so do we.
pub const OVERRIDE_XATTR: &[u8] = b"user.containers.override_stat";

/// Where fuse-overlayfs keeps them as root (`xattr_permissions=1`).
pub const PRIVILEGED_OVERRIDE_XATTR: &[u8] = b"security.fuseoverlayfs.override_stat";

/// Where older fuse-overlayfs kept them as an ordinary user.
pub const FUSE_OVERLAYFS_OVERRIDE_XATTR: &[u8] = b"user.fuseoverlayfs.override_stat";

/// The true attributes of a file: `UID:GID:MODE:TYPE` (containers/storage `pkg/idtools`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideStat {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// The type, if the text gives one; else it is that of the file.
    pub kind: Option<FileType>,
    /// Device number, 0 for all that is no device.
    pub rdev: u64,
}

impl OverrideStat {
    /// Parses the attribute's value. Three fields are valid too, and mean the file's own type.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<OverrideStat> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split(':');
        let uid = parts.next()?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
        let (kind, rdev) = match parts.next() {
            None => (None, 0),
            Some(t) => {
                let (kind, rdev) = parse_type(t)?;
                (Some(kind), rdev)
            }
        };
        Some(OverrideStat { uid, gid, mode, kind, rdev })
    }

    /// Returns the attribute's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head = format!("{}:{}:{:04o}", self.uid, self.gid, self.mode & 0o7777);
        let (ma, mi) = (major(self.rdev), minor(self.rdev));
        let kind = match self.kind {
            None => return head.into_bytes(),
            Some(FileType::File) => "file".to_owned(),
            Some(FileType::Dir) => "dir".to_owned(),
            Some(FileType::Symlink) => "symlink".to_owned(),
            Some(FileType::Fifo) => "pipe".to_owned(),
            Some(FileType::Socket) => "socket".to_owned(),
            Some(FileType::Block) => format!("block-{ma}-{mi}"),
            Some(FileType::Char) => format!("char-{ma}-{mi}"),
        };
        format!("{head}:{kind}").into_bytes()
    }
}

fn parse_type(text: &str) -> Option<(FileType, u64)> {
    let mut words = text.split('-');
    let kind = match words.next()? {
        "file" => FileType::File,
        "dir" => FileType::Dir,
        "symlink" => FileType::Symlink,
        "pipe" => FileType::Fifo,
        "socket" => FileType::Socket,
        "block" => FileType::Block,
        "char" => FileType::Char,
        _ => return None,
    };
    if !matches!(kind, FileType::Block | FileType::Char) {
        return Some((kind, 0));
    }
    let (ma, mi) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((kind, makedev(ma, mi)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_containers_storage_parse() {
        let d = OverrideStat::parse(b"0:42:2755:dir").unwrap();
        assert_eq!((d.uid, d.gid, d.mode, d.kind), (0, 42, 0o2755, Some(FileType::Dir)));
        let b = OverrideStat::parse(b"0:6:0660:block-8-0").unwrap();
        assert_eq!((b.kind, b.rdev), (Some(FileType::Block), makedev(8, 0)));
        assert_eq!(b.encode(), b"0:6:0660:block-8-0");
        assert_eq!(OverrideStat::parse(b"1:2:0755").unwrap().kind, None);
        for bad in [
            &b""[..],
            b"1",
            b"1:2",
            b"1:2:9:file",
            b"1:2:0755:blob",
            b"-1:2:0755",
            b"1:2:0644:char-1",
        ] {
            assert_eq!(OverrideStat::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
