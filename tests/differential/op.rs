//! Operations. Their `Debug` form is the Rust that makes them, so that a failure can be pasted.

/// An operation and the user who does it (0: root).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(pub u32, pub Op);

/// How a file is opened. Never blocking: a fifo would wait for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Read,
    Write,
    ReadWrite,
    Append,
    ReadTrunc,
    WriteTrunc,
    CreateTrunc,
    CreateNew,
    CreateAppend,
    CreateRead,
    Directory,
    Path,
    Direct,
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    Read,
    Shared,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    Replace,
    NoReplace,
    Exchange,
    Whiteout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Fifo,
    Socket,
    Null,
    /// Character device 0:0, which is a whiteout's.
    Zero,
}

/// What is done with a held descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Stat,
    Read(u64, usize),
    Write(u64, &'static str),
    Truncate(u64),
    /// 0: allocate, 1: keep the size, 2: punch a hole, 3: make zeros, 4: the same and keep the
    /// size, 5: collapse, 6: insert.
    Fallocate(u8, u64, u64),
    SeekHole(u64),
    SeekData(u64),
    Chmod(u32),
    Chown(u32, u32),
    Times(i64),
    SetXattr(&'static str, u8),
    RemoveXattr(&'static str),
    Xattrs,
    /// `linkat` of `/proc/self/fd/N`.
    LinkAs(&'static str),
    Sync,
    /// Names in a directory.
    List,
    /// A new file in a directory.
    CreateIn(&'static str),
    UnlinkIn(&'static str),
    /// Keeps a shared map of the first page.
    Map,
    /// Looks into the map that was kept last.
    Look,
    /// Appends from now on, or no more.
    Append(bool),
    /// For writing, or for reading.
    Lease(bool),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Put {
        path: &'static str,
        how: How,
        mode: u32,
        umask: u32,
        data: &'static str,
    },
    Read {
        path: &'static str,
    },
    Stat {
        path: &'static str,
    },
    Open {
        slot: usize,
        path: &'static str,
        how: How,
    },
    Held {
        slot: usize,
        act: Act,
    },
    Mkdir {
        path: &'static str,
        mode: u32,
        umask: u32,
    },
    Rmdir {
        path: &'static str,
    },
    Unlink {
        path: &'static str,
    },
    RemoveAll {
        path: &'static str,
    },
    Rename {
        from: &'static str,
        to: &'static str,
        how: Renaming,
    },
    Link {
        from: &'static str,
        to: &'static str,
        follow: bool,
    },
    Symlink {
        target: &'static str,
        path: &'static str,
    },
    Readlink {
        path: &'static str,
    },
    Mknod {
        path: &'static str,
        what: Special,
        mode: u32,
        umask: u32,
    },
    Chmod {
        path: &'static str,
        mode: u32,
    },
    /// `u32::MAX` leaves it.
    Chown {
        path: &'static str,
        owner: u32,
        group: u32,
    },
    Times {
        path: &'static str,
        seconds: i64,
    },
    Truncate {
        path: &'static str,
        size: u64,
    },
    /// `flag` 1: create only, 2: replace only.
    SetXattr {
        path: &'static str,
        key: &'static str,
        value: u8,
        flag: u8,
    },
    RemoveXattr {
        path: &'static str,
        key: &'static str,
    },
    Xattrs {
        path: &'static str,
    },
    Access {
        path: &'static str,
        bits: u32,
    },
    CopyRange {
        from: &'static str,
        to: &'static str,
    },
    /// Makes a directory, enters and removes it, and looks around.
    RemovedCwd {
        path: &'static str,
    },
    /// Reads a directory and removes each file as it is read.
    WalkRemoving {
        path: &'static str,
    },
    /// Opens a file without a name in a directory.
    TmpFile {
        slot: usize,
        path: &'static str,
    },
    Mapped {
        path: &'static str,
        how: Map,
        data: &'static str,
    },
    /// Past the page cache.
    Direct {
        path: &'static str,
        data: &'static str,
    },
    /// `flock` and `fcntl` locks by a descriptor from before a copy-up and one from after it.
    Locks {
        path: &'static str,
    },
    /// `FICLONE`.
    Clone {
        from: &'static str,
        to: &'static str,
    },
    StatFs {
        path: &'static str,
    },
    /// The length of a value, and what a buffer that is too short gets.
    XattrSizes {
        path: &'static str,
        key: &'static str,
    },
    /// `utimensat` with `UTIME_NOW`, which who may write may do.
    Now {
        path: &'static str,
    },
    /// Reads a directory, goes back to each place in it, removes one name, and reads on.
    WalkSeeking {
        path: &'static str,
    },
}
