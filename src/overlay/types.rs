//! What the engine takes and gives: inode numbers, attributes, flags.

use crate::sys::{FileType, Time, TimeSet};

/// An inode number of the merged view: what `st_ino` shows and what the kernel names files by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);
}

impl std::fmt::Debug for Ino {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The number of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// Attributes of a file of the merged view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Type.
    pub kind: FileType,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl Attr {
    /// A directory of which nothing is told but its number.
    pub(super) fn of_listed_dir(ino: Ino) -> Attr {
        let never = Time { sec: 0, nsec: 0 };
        Attr {
            ino,
            kind: FileType::Dir,
            mode: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 0,
            atime: never,
            mtime: never,
            ctime: never,
        }
    }
}

/// On whose behalf a file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
}

/// Changes of attributes; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<TimeSet>,
    /// Modification time.
    pub mtime: Option<TimeSet>,
    /// Clear setuid and setgid of a regular file as chown(2) and write(2) do, because the kernel
    /// leaves that to us.
    pub kill_suid: bool,
}

impl SetAttr {
    pub(super) fn changes_more_than_times(&self) -> bool {
        let SetAttr { mode, uid, gid, size, kill_suid, .. } = *self;
        mode.is_some() || uid.is_some() || gid.is_some() || size.is_some() || kill_suid
    }
}

/// How a file of the merged view is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing: copies up.
    pub write: bool,
    /// Cut to length zero: copies up, without the data.
    pub truncate: bool,
    /// Writes go to the end.
    pub append: bool,
    /// Bypass the page cache of the layer's file system.
    pub direct: bool,
    /// Writes are durable when they return.
    pub sync: bool,
}

/// One entry of a directory listing.
#[derive(Clone, Copy, Debug)]
pub struct ListEntry<'a> {
    /// Inode number.
    pub ino: Ino,
    /// Where the listing goes on after this entry.
    pub cookie: u64,
    /// Type.
    pub kind: FileType,
    /// Name; `.` and `..` come first.
    pub name: &'a [u8],
}

/// How a rename treats its target (renameat2(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail if it exists.
    NoReplace,
    /// Swap the two.
    Exchange,
}

/// State of the file system that holds the upper, or the topmost lower.
pub type StatFs = crate::sys::StatVfs;

/// Something that the view shows otherwise because a lower layer was changed by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// This name leads elsewhere now, or nowhere.
    Name {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: Box<[u8]>,
    },
    /// Attributes, and content or names, of this file or directory are others now.
    Inode(Ino),
}
