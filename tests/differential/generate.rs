//! A case from a seed.

use crate::case::Case;
use crate::layer::{Entry, Kind};
use crate::op::{Act, How, Map, Op, Renaming, Special, Step};
use crate::random::Random;
use crate::world::Mode;

/// Few names, so that operations collide. What the odd ones stand for: `exec::os`.
const NAMES: [&str; 4] = ["a", "b", "c", "d e"];
const ODD: [&str; 6] = ["Ñ", "Ò", "ÿ", ".wh.a", "x\n", "É"];
const TARGETS: [&str; 6] = ["a", "b", "c/a", "gone", ".", "a/b/c"];
const KEYS: [&str; 10] = [
    "user.k",
    "user.long",
    "trusted.t",
    "security.s",
    "user.overlay.x",
    "trusted.overlay.opaque",
    "trusted.overlay.overlay.x",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "security.capability",
];
const ODD_KEYS: [&str; 4] = ["user.", "bogus.k", "user.\u{ff}", "none"];
const MODES: [u32; 9] = [0o644, 0o600, 0o666, 0o755, 0o4755, 0o2755, 0o6711, 0o444, 0o640];
const DIR_MODES: [u32; 6] = [0o755, 0o777, 0o700, 0o2777, 0o1777, 0o3775];
const UMASKS: [u32; 4] = [0o022, 0o077, 0, 0o027];
const OWNERS: [u32; 4] = [0, 1000, 1001, 7];
const SLOTS: usize = 3;

/// The text outlives everything: a case is a handful of words in a process that soon ends.
fn forever(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

struct Maker {
    r: Random,
    mode: Mode,
    /// Mostly others than root act, on files that are mostly theirs.
    others: bool,
    /// Many hard links, and much that changes names.
    names: bool,
    /// Paths that were named before.
    known: Vec<&'static str>,
}

/// Makes the case of a seed.
pub fn case(seed: u64, mode: Mode) -> Case {
    let some = matches!(mode, Mode::Switches | Mode::Image) && seed % 3 == 1;
    let others = mode == Mode::Others || some;
    let remounts = matches!(mode, Mode::Remount | Mode::RemountMetacopy);
    let names = remounts && seed % 2 == 1;
    let mut m = Maker { r: Random::new(seed), mode, others, names, known: Vec::new() };
    let layers = (0..m.r.range(1, 5)).map(|_| m.layer()).collect();
    let steps = (0..m.r.range(5, 60)).map(|_| m.step()).collect();
    Case { layers, steps }
}

impl Maker {
    fn name(&mut self) -> &'static str {
        if self.r.chance(96) { self.r.pick(&NAMES) } else { self.r.pick(&ODD) }
    }

    fn new_path(&mut self) -> &'static str {
        let mut path = match self.known.len() {
            0 => String::new(),
            _ if self.r.chance(50) => String::new(),
            _ => format!("{}/", self.r.pick(&self.known)),
        };
        path += self.name();
        if path.split('/').count() > 4 {
            path = self.name().to_owned();
        }
        let path = forever(path);
        self.known.push(path);
        path
    }

    fn path(&mut self) -> &'static str {
        if !self.known.is_empty() && self.r.chance(75) {
            self.r.pick(&self.known)
        } else {
            self.new_path()
        }
    }

    fn layer(&mut self) -> Vec<Entry> {
        (0..self.r.range(1, 14)).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Entry {
        let path = self.path();
        let size = u16::try_from(self.r.below(200)).unwrap();
        let kind = match self.r.below(20) {
            _ if self.names && self.r.chance(35) => Kind::Hard(self.path()),
            0..=4 => Kind::File(size),
            5 => Kind::Sparse,
            6..=9 => Kind::Dir,
            10 => Kind::Marking,
            11 => Kind::Opaque,
            12 => Kind::Symlink(self.r.pick(&TARGETS)),
            13 => Kind::Fifo,
            14 => Kind::Socket,
            15 => Kind::Null,
            16 => Kind::Whiteout,
            17 if self.r.chance(50) => Kind::Whiteout,
            17 => Kind::MarkedWhiteout,
            _ => Kind::Hard(self.path()),
        };
        let dir = matches!(kind, Kind::Dir | Kind::Opaque | Kind::Marking);
        let mode = if dir { self.r.pick(&DIR_MODES) } else { self.r.pick(&MODES) };
        let owner = if self.r.chance(40) { self.r.pick(&OWNERS) } else { self.usual_owner() };
        let group = if self.r.chance(40) { self.r.pick(&OWNERS) } else { owner };
        let xattr = self.r.chance(20).then(|| self.xattr());
        Entry { path, kind, mode, owner, group, xattr }
    }

    fn usual_owner(&self) -> u32 {
        if self.others { 1000 } else { 0 }
    }

    fn xattr(&mut self) -> (&'static str, u8) {
        // the overlay's own keys are marks in a layer
        loop {
            let (key, value) = (self.r.pick(&KEYS), self.value());
            if !key.contains(".overlay.") {
                return (key, value);
            }
        }
    }

    fn value(&mut self) -> u8 {
        u8::try_from(self.r.below(6)).unwrap()
    }

    fn step(&mut self) -> Step {
        let others = match self.mode {
            Mode::Namespace => 0,
            _ if self.others => 85,
            _ => 12,
        };
        let who = if self.r.chance(others) { self.r.pick(&[1000, 1000, 1001]) } else { 0 };
        Step(who, self.op())
    }

    fn op(&mut self) -> Op {
        let path = self.path();
        if self.names && self.r.chance(65) {
            return self.op_on_names(path);
        }
        if self.r.chance(12) {
            return self.rare_op(path);
        }
        match self.r.below(100) {
            0..=12 => self.put(path),
            13..=14 => Op::Read { path },
            15 => Op::Stat { path },
            16..=20 => Op::Open { slot: self.slot(), path, how: self.how() },
            21..=32 => Op::Held { slot: self.slot(), act: self.act() },
            33..=40 => {
                let mode = self.r.pick(&[0o777, 0o777, 0o2755, 0o1777, 0o700]);
                Op::Mkdir { path, mode, umask: self.r.pick(&UMASKS) }
            }
            41..=43 => Op::Rmdir { path },
            44..=49 => Op::Unlink { path },
            50..=53 => Op::RemoveAll { path },
            54..=66 => self.rename(path),
            67..=71 => Op::Link { from: path, to: self.path(), follow: self.r.chance(10) },
            72..=73 => Op::Symlink { target: self.r.pick(&TARGETS), path },
            74 => Op::Readlink { path },
            75..=77 => {
                let what =
                    self.r.pick(&[Special::Fifo, Special::Socket, Special::Null, Special::Zero]);
                let mode = self.r.pick(&MODES);
                Op::Mknod { path, what, mode, umask: self.r.pick(&UMASKS) }
            }
            78..=80 => Op::Chmod { path, mode: self.any_mode() },
            81..=82 => {
                let (owner, group) = self.owners();
                Op::Chown { path, owner, group }
            }
            83..=84 => Op::Times { path, seconds: self.seconds() },
            85..=86 => Op::Truncate { path, size: self.r.below(300) },
            87..=89 => {
                let flag = self.r.pick(&[0, 0, 0, 1, 2]);
                Op::SetXattr { path, key: self.key(), value: self.value(), flag }
            }
            90..=91 => Op::RemoveXattr { path, key: self.key() },
            92 => Op::Xattrs { path },
            93..=94 => Op::Access { path, bits: u32::try_from(self.r.below(8)).unwrap() },
            95..=96 => Op::CopyRange { from: path, to: self.path() },
            97 => Op::RemovedCwd { path },
            _ => Op::WalkRemoving { path },
        }
    }

    fn op_on_names(&mut self, path: &'static str) -> Op {
        match self.r.below(20) {
            0..=6 => self.rename(path),
            7..=9 => Op::Link { from: path, to: self.path(), follow: false },
            10..=12 => Op::Unlink { path },
            13 => Op::RemoveAll { path },
            14..=15 => Op::Mkdir { path, mode: 0o777, umask: 0o022 },
            16..=17 => Op::Chmod { path, mode: self.any_mode() },
            _ => {
                let data = self.data();
                Op::Put { path, how: How::Append, mode: 0o666, umask: 0o022, data }
            }
        }
    }

    fn rare_op(&mut self, path: &'static str) -> Op {
        match self.r.below(20) {
            0..=1 => Op::TmpFile { slot: self.slot(), path },
            2..=6 => {
                let how = self.r.pick(&[Map::Read, Map::Shared, Map::Shared, Map::Private]);
                Op::Mapped { path, how, data: self.data() }
            }
            7..=8 => Op::Direct { path, data: self.data() },
            9..=10 => Op::Locks { path },
            11 => Op::Clone { from: path, to: self.path() },
            12 => Op::StatFs { path },
            13..=14 => Op::XattrSizes { path, key: self.key() },
            15..=16 => Op::Now { path },
            17 => Op::SetXattr { path, key: self.key(), value: self.r.pick(&[6, 7]), flag: 0 },
            _ => Op::WalkSeeking { path },
        }
    }

    /// Seldom one that is none.
    fn key(&mut self) -> &'static str {
        if self.r.chance(5) { self.r.pick(&ODD_KEYS) } else { self.r.pick(&KEYS) }
    }

    fn put(&mut self, path: &'static str) -> Op {
        let how = self.r.pick(&[
            How::CreateTrunc,
            How::CreateTrunc,
            How::CreateNew,
            How::CreateAppend,
            How::CreateRead,
            How::Append,
            How::Write,
            How::ReadTrunc,
            How::WriteTrunc,
        ]);
        let mode = self.r.pick(&[0o666, 0o666, 0o777, 0o4755, 0o2777, 0o600]);
        Op::Put { path, how, mode, umask: self.r.pick(&UMASKS), data: self.data() }
    }

    fn data(&mut self) -> &'static str {
        forever(format!("data {}", self.r.below(1000)))
    }

    fn rename(&mut self, from: &'static str) -> Op {
        let how = match self.r.below(20) {
            0..=12 => Renaming::Replace,
            13..=14 => Renaming::NoReplace,
            15..=18 => Renaming::Exchange,
            _ => Renaming::Whiteout,
        };
        Op::Rename { from, to: self.path(), how }
    }

    fn slot(&mut self) -> usize {
        usize::try_from(self.r.below(SLOTS as u64)).unwrap()
    }

    fn how(&mut self) -> How {
        self.r.pick(&[
            How::Read,
            How::Read,
            How::ReadWrite,
            How::ReadWrite,
            How::Append,
            How::ReadTrunc,
            How::CreateTrunc,
            How::Directory,
            How::Path,
        ])
    }

    fn act(&mut self) -> Act {
        match self.r.below(34) {
            0..=2 => Act::Stat,
            3..=4 => Act::Read(self.r.below(50), 40),
            5..=7 => Act::Write(self.r.pick(&[0, 3, 100, 70_000, 1 << 20]), self.data()),
            8..=9 => Act::Truncate(self.r.pick(&[0, 1, 50, 5000])),
            10..=11 => {
                let kind = u8::try_from(self.r.below(7)).unwrap();
                Act::Fallocate(kind, self.r.pick(&[0, 4096]), self.r.pick(&[100, 8192]))
            }
            12 => Act::SeekHole(self.r.below(100)),
            13 => Act::SeekData(self.r.below(100)),
            14 => Act::Chmod(self.any_mode()),
            15 => {
                let (owner, group) = self.owners();
                Act::Chown(owner, group)
            }
            16 => Act::Times(self.seconds()),
            17..=18 => Act::SetXattr(self.key(), self.value()),
            19 => Act::RemoveXattr(self.key()),
            20 => Act::Xattrs,
            21 => Act::LinkAs(self.path()),
            22 => Act::Sync,
            23..=24 => Act::List,
            25 => Act::CreateIn(self.name()),
            26 => Act::UnlinkIn(self.name()),
            27 => Act::Map,
            28..=30 => Act::Look,
            31 => Act::Append(self.r.chance(50)),
            32 => Act::Lease(self.r.chance(50)),
            _ => Act::Close,
        }
    }

    fn any_mode(&mut self) -> u32 {
        self.r.pick(&[0o600, 0o755, 0o4711, 0o2770, 0o1777, 0, 0o666])
    }

    fn owners(&mut self) -> (u32, u32) {
        let mut one = || if self.r.chance(30) { u32::MAX } else { self.r.pick(&OWNERS) };
        (one(), one())
    }

    fn seconds(&mut self) -> i64 {
        1_400_000_000 + i64::try_from(self.r.below(1000)).unwrap()
    }
}
