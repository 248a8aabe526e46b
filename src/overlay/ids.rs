//! Owners that the mounter's user namespace does not know.
//!
//! The kernel takes an unknown owner for nobody's and lets no one write such a file. Who mounts
//! in a namespace of his own (`unshare -Ur`) is to work with his files: what he cannot name is
//! shown as his own, as it is on his disk. The recorded owner stays what it was.

use super::types::Attr;

/// Ids as inclusive ranges, and whose an unknown one is shown as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownIds {
    /// Known user ids: first and last.
    pub uids: Vec<(u32, u32)>,
    /// Known group ids: first and last.
    pub gids: Vec<(u32, u32)>,
    /// The user that others are shown as.
    pub uid: u32,
    /// The group that others are shown as.
    pub gid: u32,
}

impl KnownIds {
    pub(super) fn apply(&self, attr: &mut Attr) {
        let known = |ranges: &[(u32, u32)], id| ranges.iter().any(|(a, b)| (*a..=*b).contains(&id));
        if !known(&self.uids, attr.uid) {
            attr.uid = self.uid;
        }
        if !known(&self.gids, attr.gid) {
            attr.gid = self.gid;
        }
    }
}
