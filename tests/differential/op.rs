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
    /// 0: allocate, 1: keep the size, 2: punch a hole, 3: make zeros.
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
}
