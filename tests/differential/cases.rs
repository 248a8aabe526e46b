//! Cases that once failed, as the shrinker printed them.

use crate::case::Case;
use crate::layer::{Entry, Kind, PLAIN};
use crate::op::{How, Op, Special, Step};

const APPEND: Op = Op::Put { path: "a", how: How::Append, mode: 0o666, umask: 0o022, data: "more" };

pub fn all() -> Vec<(&'static str, Case)> {
    let file = |mode, xattr| Entry { path: "a", kind: Kind::File(176), mode, xattr, ..PLAIN };
    vec![
        (
            "root keeps set-id bits when he writes to a file with capabilities",
            Case {
                layers: vec![vec![file(0o6711, Some(("security.capability", 0)))]],
                steps: vec![Step(0, APPEND)],
            },
        ),
        (
            "root keeps set-id bits when he copies into a file",
            Case {
                layers: vec![vec![file(0o6711, None), Entry { path: "b", ..file(0o644, None) }]],
                steps: vec![Step(0, Op::CopyRange { from: "b", to: "a" })],
            },
        ),
        (
            "who may not write a set-id file does not clear it by a chown of nothing",
            Case {
                layers: vec![vec![file(0o4755, None)]],
                steps: vec![
                    Step(1000, Op::Chown { path: "a", owner: u32::MAX, group: u32::MAX }),
                    Step(0, Op::Mknod { path: "p", what: Special::Fifo, mode: 0o6711, umask: 0 }),
                    Step(1000, Op::Chown { path: "p", owner: u32::MAX, group: u32::MAX }),
                ],
            },
        ),
        (
            "a chown of nothing by root clears a device",
            Case {
                layers: vec![vec![Entry { kind: Kind::Null, ..file(0o6755, None) }]],
                steps: vec![Step(0, Op::Chown { path: "a", owner: u32::MAX, group: u32::MAX })],
            },
        ),
        (
            "trusted attributes are not listed to others",
            Case {
                layers: vec![vec![file(0o644, Some(("trusted.t", 1)))]],
                steps: vec![Step(1000, Op::Xattrs { path: "a" })],
            },
        ),
        (
            "an empty capability is listed, also from our upper as a layer",
            Case {
                layers: vec![vec![file(0o644, None)]],
                steps: vec![Step(
                    0,
                    Op::SetXattr { path: "a", key: "security.capability", value: 9, flag: 0 },
                )],
            },
        ),
    ]
}
