//! Directories whose listing the kernel may hold.
//!
//! Without opendir the kernel keeps what it has read of a directory, and starts anew when a walk
//! begins after a change. But a walk that began after the change, when nothing was kept yet, goes
//! on in what another walk from before has completed meanwhile (`fuse_readdir_cached` in
//! fs/fuse/readdir.c looks at the version at the start only), and would show names that are gone.
//! So the first change after a listing takes the kept pages away, before it is answered: whoever
//! changes a directory holds its lock, so nobody reads or keeps names meanwhile.

use fuser::INodeNo;
use hashbrown::HashSet;
use parking_lot::Mutex;

const SHARDS: usize = 16;

/// The directories that were listed since their last change.
#[derive(Debug, Default)]
pub(super) struct Listed([Mutex<HashSet<u64>>; SHARDS]);

impl Listed {
    fn shard(&self, dir: INodeNo) -> &Mutex<HashSet<u64>> {
        let mixed = dir.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        &self.0[mixed as usize % SHARDS]
    }

    /// Notes that a listing is about to be sent.
    pub(super) fn add(&self, dir: INodeNo) {
        self.shard(dir).lock().insert(dir.0);
    }

    /// Returns whether the directory was listed since this was last asked.
    pub(super) fn take(&self, dir: INodeNo) -> bool {
        self.shard(dir).lock().remove(&dir.0)
    }
}
