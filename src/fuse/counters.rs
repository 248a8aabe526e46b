//! How many requests of each kind have come: exact, and the same on every machine.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! ops {
    ($($name:ident $text:literal)*) => {
        /// A kind of FUSE request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Op {
            $(#[doc = concat!("`", $text, "`.")] $name,)*
        }

        impl Op {
            /// All kinds.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// Returns the name of the request in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }
        }
    };
}

ops! {
    Lookup "lookup" Forget "forget" GetAttr "getattr" SetAttr "setattr" ReadLink "readlink"
    MkNod "mknod" MkDir "mkdir" Unlink "unlink" RmDir "rmdir" Symlink "symlink" Rename "rename"
    Link "link" Open "open" Read "read" Write "write" Flush "flush" Release "release"
    FSync "fsync" OpenDir "opendir" ReadDir "readdir" ReadDirPlus "readdirplus"
    ReleaseDir "releasedir" FSyncDir "fsyncdir" StatFs "statfs" SetXattr "setxattr"
    GetXattr "getxattr" ListXattr "listxattr" RemoveXattr "removexattr" Access "access"
    Create "create" Fallocate "fallocate" Seek "lseek" CopyFileRange "copy_file_range"
    Other "other"
}

const KINDS: usize = Op::Other as usize + 1;

/// One counter per kind of request, and what else was counted.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; KINDS],
    passthrough: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { requests: [const { AtomicU64::new(0) }; KINDS], passthrough: AtomicU64::new(0) }
    }
}

impl Counters {
    /// Counts one request.
    pub fn add(&self, op: Op) {
        self.requests[op as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an open after which the kernel reads and writes by itself.
    pub fn add_passthrough(&self) {
        self.passthrough.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many opens there were after which the kernel reads and writes by itself.
    #[must_use]
    pub fn passthrough(&self) -> u64 {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// Returns how many requests of this kind have come.
    #[must_use]
    pub fn get(&self, op: Op) -> u64 {
        self.requests[op as usize].load(Ordering::Relaxed)
    }

    /// Returns how many requests have come.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// Returns the kinds that have come, each with its number.
    #[must_use]
    pub fn seen(&self) -> Vec<(Op, u64)> {
        Op::ALL.iter().map(|op| (*op, self.get(*op))).filter(|(_, n)| *n > 0).collect()
    }

    /// Returns how many files are open, as far as the kernel tells: with opens answered once for
    /// all it does not.
    #[must_use]
    pub fn open_files(&self) -> u64 {
        (self.get(Op::Open) + self.get(Op::Create)).saturating_sub(self.get(Op::Release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_counter() {
        let c = Counters::default();
        for op in Op::ALL {
            c.add(*op);
        }
        c.add(Op::Read);
        assert_eq!(c.get(Op::Read), 2);
        assert_eq!(c.get(Op::Other), 1);
        assert_eq!(c.total(), Op::ALL.len() as u64 + 1);
        assert_eq!(c.seen().len(), KINDS);
    }
}
