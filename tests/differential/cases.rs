//! Cases that once failed, as the shrinker printed them.

use crate::case::Case;
use crate::layer::{Entry, Kind, PLAIN};
use crate::op::{Act, How, Map, Op, Special, Step};

const APPEND: Op = Op::Put { path: "a", how: How::Append, mode: 0o666, umask: 0o022, data: "more" };

/// Attributes of each kind that are missing, are set, are asked for and go.
fn odd_attributes(paths: &[&'static str]) -> Vec<Step> {
    let mut out = Vec::new();
    for &path in paths {
        for key in [
            "security.s",
            "security.t",
            "trusted.t",
            "user.k",
            "system.posix_acl_access",
            "bogus.k",
        ] {
            for uid in [1000, 0] {
                out.push(Step(uid, Op::XattrSizes { path, key }));
                out.push(Step(uid, Op::RemoveXattr { path, key }));
                // replaces, makes, makes again
                for flag in [2, 1, 1] {
                    out.push(Step(uid, Op::SetXattr { path, key, value: 2, flag }));
                }
                out.push(Step(uid, Op::Xattrs { path }));
                out.push(Step(uid, Op::RemoveXattr { path, key }));
            }
        }
    }
    out
}

pub fn all() -> Vec<(&'static str, Case)> {
    let file = |mode, xattr| Entry { path: "a", kind: Kind::File(176), mode, xattr, ..PLAIN };
    let script = |mode| Op::Put { path: "a", how: How::CreateTrunc, mode, umask: 0, data: "data" };
    vec![
        (
            "who may write a set-id file does not clear it by a chown of nothing",
            Case {
                layers: vec![vec![]],
                steps: vec![
                    Step(0, script(0o4777)),
                    Step(1000, Op::Chown { path: "a", owner: u32::MAX, group: u32::MAX }),
                    Step(0, Op::Open { slot: 0, path: "a", how: How::ReadWrite }),
                    Step(1000, Op::Chown { path: "a", owner: u32::MAX, group: u32::MAX }),
                    // a write does
                    Step(1000, Op::Held { slot: 0, act: Act::Write(0, "x") }),
                ],
            },
        ),
        (
            "what is written through a map takes no set-id bits and capabilities away",
            Case {
                layers: vec![vec![file(0o6755, Some(("security.capability", 0)))]],
                steps: vec![Step(0, Op::Mapped { path: "a", how: Map::Shared, data: "data" })],
            },
        ),
        (
            "a write leaves an empty capability",
            Case {
                layers: vec![vec![file(0o4777, Some(("security.capability", 9)))]],
                steps: vec![Step(1000, APPEND), Step(0, APPEND)],
            },
        ),
        (
            "a removed directory of the lowers can be changed",
            Case {
                layers: vec![vec![Entry {
                    path: "d",
                    xattr: Some(("user.k", 1)),
                    mode: 0o750,
                    ..PLAIN
                }]],
                steps: vec![
                    Step(0, Op::Open { slot: 0, path: "d", how: How::Directory }),
                    Step(0, Op::Rmdir { path: "d" }),
                    Step(0, Op::Held { slot: 0, act: Act::Stat }),
                    Step(0, Op::Held { slot: 0, act: Act::Chmod(0o600) }),
                    Step(0, Op::Held { slot: 0, act: Act::Chown(7, 1000) }),
                    Step(0, Op::Held { slot: 0, act: Act::Times(1_400_000_000) }),
                    Step(0, Op::Held { slot: 0, act: Act::SetXattr("user.k", 2) }),
                    Step(0, Op::Held { slot: 0, act: Act::Xattrs }),
                    Step(0, Op::Held { slot: 0, act: Act::Stat }),
                    Step(0, Op::Held { slot: 0, act: Act::CreateIn("f") }),
                    Step(0, Op::Held { slot: 0, act: Act::List }),
                ],
            },
        ),
        (
            "a removed directory keeps the mode that it has",
            Case {
                layers: vec![vec![
                    Entry { path: "d", ..PLAIN },
                    Entry { path: "d/f", ..file(0o644, None) },
                ]],
                steps: vec![
                    Step(0, Op::Unlink { path: "d/f" }),
                    Step(0, Op::Chmod { path: "d", mode: 0o600 }),
                    Step(0, Op::Open { slot: 0, path: "d", how: How::Directory }),
                    Step(0, Op::Rmdir { path: "d" }),
                    Step(0, Op::Held { slot: 0, act: Act::Stat }),
                ],
            },
        ),
        (
            "an access ACL of somebody outside of the group takes setgid away",
            Case {
                layers: vec![vec![
                    Entry { owner: 1000, group: 0, ..file(0o2755, None) },
                    Entry { path: "b", owner: 1000, group: 7, ..file(0o2755, None) },
                    Entry { path: "d", owner: 1000, mode: 0o2755, ..PLAIN },
                ]],
                steps: ["a", "b", "d"]
                    .iter()
                    .map(|path| {
                        let key = "system.posix_acl_access";
                        Step(1000, Op::SetXattr { path, key, value: 1, flag: 0 })
                    })
                    .collect(),
            },
        ),
        (
            "attributes outside of the namespaces are not supported",
            Case {
                layers: vec![vec![file(0o644, None)]],
                steps: ["bogus.k", "user.", "none", "system.k"]
                    .iter()
                    .flat_map(|key| {
                        [
                            Step(0, Op::XattrSizes { path: "a", key }),
                            Step(0, Op::RemoveXattr { path: "a", key }),
                            Step(0, Op::SetXattr { path: "a", key, value: 1, flag: 0 }),
                        ]
                    })
                    .collect(),
            },
        ),
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
            "odd attributes of what is neither file nor directory",
            Case {
                layers: vec![vec![
                    Entry {
                        path: "l",
                        kind: Kind::Symlink("a"),
                        xattr: Some(("security.s", 1)),
                        ..PLAIN
                    },
                    Entry { path: "p", kind: Kind::Fifo, mode: 0o644, ..PLAIN },
                ]],
                steps: odd_attributes(&["l", "p"]),
            },
        ),
        (
            "whiteouts in the form of attributes hide, and go with their directory",
            Case {
                layers: vec![
                    vec![
                        Entry { path: "x", kind: Kind::Marking, ..PLAIN },
                        Entry { path: "x/gone", kind: Kind::MarkedWhiteout, ..PLAIN },
                        Entry { path: "x/kept", kind: Kind::File(3), mode: 0o644, ..PLAIN },
                        Entry { path: "d", ..PLAIN },
                        Entry { path: "d/f", kind: Kind::MarkedWhiteout, mode: 0o644, ..PLAIN },
                    ],
                    vec![
                        Entry { path: "x", ..PLAIN },
                        Entry { path: "x/gone", kind: Kind::File(9), mode: 0o644, ..PLAIN },
                        Entry { path: "x/low", kind: Kind::File(9), mode: 0o644, ..PLAIN },
                        Entry { path: "d", ..PLAIN },
                        Entry { path: "d/f", kind: Kind::File(9), mode: 0o644, ..PLAIN },
                    ],
                ],
                steps: vec![
                    Step(0, Op::Xattrs { path: "x" }),
                    Step(
                        0,
                        Op::Put {
                            path: "x/gone",
                            how: How::CreateTrunc,
                            mode: 0o644,
                            umask: 0,
                            data: "n",
                        },
                    ),
                    Step(0, Op::Unlink { path: "x/gone" }),
                    Step(0, Op::Unlink { path: "x/low" }),
                    Step(0, Op::Unlink { path: "x/kept" }),
                    Step(0, Op::Rmdir { path: "x" }),
                ],
            },
        ),
        (
            "a file that is opened for writing and not written keeps its capabilities",
            Case {
                layers: vec![vec![file(0o755, None), Entry { path: "d", ..PLAIN }]],
                steps: vec![
                    Step(
                        0,
                        Op::SetXattr { path: "a", key: "security.capability", value: 1, flag: 0 },
                    ),
                    Step(0, Op::Clone { from: "d", to: "a" }),
                    Step(0, Op::Xattrs { path: "a" }),
                ],
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
        (
            "who has opened to append and takes that back writes where he says",
            Case {
                layers: vec![vec![file(0o644, None)]],
                steps: vec![
                    Step(0, Op::Open { slot: 0, path: "a", how: How::Append }),
                    Step(0, Op::Held { slot: 0, act: Act::Append(false) }),
                    Step(0, Op::Held { slot: 0, act: Act::Write(0, "data") }),
                    // beside somebody for whom the kernel writes by itself
                    Step(0, Op::Open { slot: 1, path: "a", how: How::ReadWrite }),
                    Step(0, Op::Held { slot: 0, act: Act::Close }),
                    Step(0, Op::Open { slot: 0, path: "a", how: How::Append }),
                    Step(0, Op::Held { slot: 0, act: Act::Write(0, "more") }),
                    Step(0, Op::Held { slot: 0, act: Act::Append(false) }),
                    Step(0, Op::Held { slot: 0, act: Act::Write(0, "other") }),
                    Step(0, Op::Held { slot: 1, act: Act::Read(0, 300) }),
                    Step(0, Op::Held { slot: 1, act: Act::Write(2, "mine") }),
                    Step(0, Op::Held { slot: 0, act: Act::Write(9, "last") }),
                ],
            },
        ),
    ]
}
