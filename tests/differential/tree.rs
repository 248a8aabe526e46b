//! What a tree looks like, and where two differ.

use crate::exec::{errno, raw_names, xattrs};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hasher};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What later than that is "now".
const RECENT: i64 = 1_600_000_000;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    All,
    /// The same, but links of regular files only.
    LinksOfFiles,
    /// All but link counts, which names belong together, and numbers in listings.
    NoLinks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    number: u64,
    kind: FileType,
    text: String,
    /// Link count, and the first of the names that lead to the same inode.
    links: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    /// Names that are listed and not found: whiteouts that the kernel shows.
    pub ghosts: BTreeSet<PathBuf>,
}

const NOT_AS_LISTED: &str = " number not as listed";

impl Tree {
    pub fn holds(&self, what: impl Fn(&Path) -> bool) -> bool {
        self.nodes.keys().any(|p| what(p))
    }

    /// Takes "there are none" for no attributes.
    pub fn forgive_no_attributes(&mut self) {
        for node in self.nodes.values_mut() {
            node.text = node.text.replace("{EOPNOTSUPP}", "{}");
        }
    }

    /// Takes out what no archive of a layer can hold. Returns whether there was any.
    pub fn forget_sockets(&mut self) -> bool {
        let all = self.nodes.len();
        // five digits have directories, pipes and devices
        self.nodes.retain(|_, n| !(n.text.starts_with("14") && n.text.find(' ') == Some(6)));
        self.nodes.len() < all
    }

    /// Takes numbers in listings as right, where only those of `stat` are to be compared.
    pub fn forgive_listings(&mut self) {
        for node in self.nodes.values_mut() {
            node.links = node.links.replace(NOT_AS_LISTED, "");
        }
    }
}

/// Whether a name is that of a mark in archives of layers.
pub fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_bytes().starts_with(b".wh."))
}

struct Walk<'a> {
    root: &'a Path,
    /// Exact times, the change's too.
    exact: bool,
    tree: Tree,
    inodes: BTreeMap<(u64, u64), PathBuf>,
}

/// Looks at a whole mount.
pub fn look(root: &Path) -> Tree {
    walk(root, false)
}

/// Looks at a layer on disk: with exact times.
pub fn look_exactly(root: &Path) -> Tree {
    walk(root, true)
}

fn walk(root: &Path, exact: bool) -> Tree {
    let mut w = Walk { root, exact, tree: Tree::default(), inodes: BTreeMap::new() };
    w.node(Path::new(""), None);
    w.tree
}

impl Walk<'_> {
    fn node(&mut self, inside: &Path, listed: Option<u64>) {
        let path = self.root.join(inside);
        let stat = match rustix::fs::lstat(&path) {
            Ok(s) => s,
            Err(Errno::NOENT) => {
                self.tree.ghosts.insert(inside.to_owned());
                return;
            }
            Err(e) => {
                let node = Node {
                    number: 0,
                    kind: FileType::Unknown,
                    text: errno(e),
                    links: String::new(),
                };
                self.tree.nodes.insert(inside.to_owned(), node);
                return;
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let dir = kind == FileType::Directory;
        let text = self.describe(&path, &stat);
        let mut links = String::new();
        if !dir {
            let first =
                self.inodes.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| inside.to_owned());
            links = format!("{} links, as {}", stat.st_nlink, first.display());
        }
        // the kernel tells it right only in directories that it marked as impure
        if listed.is_some_and(|ino| ino != stat.st_ino) {
            links += NOT_AS_LISTED;
        }
        let node = Node { number: stat.st_ino, kind, text, links };
        self.tree.nodes.insert(inside.to_owned(), node);
        if dir {
            self.children(inside, &path);
        }
    }

    fn children(&mut self, inside: &Path, path: &Path) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(e) => return self.remark(inside, &format!("open: {}", errno(e))),
        };
        let mut found = BTreeMap::new();
        let mut buf = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&fd, &mut buf);
        let mut twice = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(e) => e,
                Err(e) => return self.remark(inside, &format!("list: {}", errno(e))),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if let Some(name) = found.insert(name.clone(), entry.ino()).map(|_| name) {
                twice.push(name);
            }
        }
        for name in twice {
            self.remark(inside, &format!("listed twice: {}", name.display()));
        }
        for dots in [".", ".."] {
            if found.remove(OsStr::new(dots)).is_none() {
                self.remark(inside, &format!("lacks {dots}"));
            }
        }
        for (name, ino) in found {
            self.node(&inside.join(name), Some(ino));
        }
    }

    fn remark(&mut self, inside: &Path, text: &str) {
        if let Some(node) = self.tree.nodes.get_mut(inside) {
            node.text += &format!(" [{text}]");
        }
    }

    fn describe(&self, path: &Path, s: &Stat) -> String {
        let kind = FileType::from_raw_mode(s.st_mode);
        let mut text = format!("{:o} {}:{}", s.st_mode, s.st_uid, s.st_gid);
        match kind {
            FileType::RegularFile => text += &format!(" {} {}", s.st_size, content(path)),
            FileType::Symlink => {
                let to = rustix::fs::readlink(path, Vec::new());
                text += &format!(" -> {to:?}");
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                text += &format!(" {:x}", s.st_rdev);
            }
            _ => {}
        }
        let mut names = vec![0; 8192];
        let found = match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(n) => xattrs(&names[..n], |k, buf| rustix::fs::lgetxattr(path, k, buf)),
            Err(e) => Err(e),
        };
        text += &format!(" {{{}}}", found.unwrap_or_else(errno));
        let time = s.st_mtime;
        if self.exact {
            text += &format!(" {time}.{} {}.{}", s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
        } else if time < RECENT {
            text += &format!(" {time}.{}", s.st_mtime_nsec);
        } else {
            text += " now";
        }
        text
    }
}

fn content(path: &Path) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = || {
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let mut all = Vec::new();
        let mut buf = vec![0; 1 << 16];
        loop {
            match rustix::io::read(&fd, &mut buf[..])? {
                0 => return Ok::<_, Errno>(all),
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    };
    match read() {
        Ok(all) if all.len() <= 40 => format!("{:?}", all.escape_ascii().to_string()),
        Ok(all) => {
            let mut h = DefaultHasher::new();
            h.write(&all);
            format!("#{:08x} of {} bytes", h.finish() >> 32, all.len())
        }
        Err(e) => errno(e),
    }
}

/// Says what has another number in `b` than in `a`, of the types that `counts` tells.
pub fn renumbered(a: &Tree, b: &Tree, counts: impl Fn(FileType) -> bool) -> Option<String> {
    a.nodes.iter().find_map(|(path, was)| {
        let is = b.nodes.get(path)?;
        let differs = was.number != is.number && counts(was.kind);
        differs.then(|| format!("/{}: {}, then {}", path.display(), was.number, is.number))
    })
}

/// Says where two trees differ.
pub fn differ(names: [&str; 2], a: &Tree, b: &Tree, what: What) -> Option<String> {
    let line = |t: &Tree, p: &Path| match t.nodes.get(p) {
        None => "-".to_owned(),
        Some(n) if what == What::NoLinks => n.text.clone(),
        Some(n) if what == What::All || n.kind == FileType::RegularFile => {
            format!("{} {}", n.text, n.links)
        }
        Some(n) => n.text.clone(),
    };
    let all: BTreeSet<_> = a.nodes.keys().chain(b.nodes.keys()).collect();
    let mut out = String::new();
    let mut count = 0;
    for path in all {
        let (x, y) = (line(a, path), line(b, path));
        if x != y {
            count += 1;
            if count <= 4 {
                let path = short(&format!("/{}", path.display()));
                out += &format!("\n  {path}\n    {}: {x}\n    {}: {y}", names[0], names[1]);
            }
        }
    }
    (count > 0).then(|| format!("{count} differ{out}"))
}

/// Runs of one letter make long names; nobody wants to read them.
fn short(text: &str) -> String {
    text.replace(&"n".repeat(255), "Ñ").replace(&"m".repeat(252), "É")
}

/// Copies what a mount shows to a plain directory, which must not exist.
pub fn copy(from: &Path, to: &Path) {
    copy_node(from, to, &mut BTreeMap::new());
}

fn copy_node(from: &Path, to: &Path, links: &mut BTreeMap<u64, PathBuf>) {
    let Ok(s) = rustix::fs::lstat(from) else { return };
    let kind = FileType::from_raw_mode(s.st_mode);
    if kind != FileType::Directory {
        if let Some(first) = links.get(&s.st_ino) {
            return rustix::fs::link(first, to).unwrap();
        }
        links.insert(s.st_ino, to.to_owned());
    }
    match kind {
        FileType::Directory => {
            rustix::fs::mkdir(to, Mode::from_raw_mode(0o700)).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(from, flags, Mode::empty()).unwrap();
            for name in raw_names(&fd) {
                copy_node(&from.join(&name), &to.join(&name), links);
            }
        }
        FileType::RegularFile => drop(std::fs::copy(from, to).unwrap()),
        FileType::Symlink => {
            rustix::fs::symlink(rustix::fs::readlink(from, Vec::new()).unwrap(), to).unwrap();
        }
        _ => rustix::fs::mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), s.st_rdev).unwrap(),
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (rustix::fs::Uid::from_raw(s.st_uid), rustix::fs::Gid::from_raw(s.st_gid));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), flags).unwrap();
    if kind != FileType::Symlink {
        rustix::fs::chmod(to, Mode::from_raw_mode(s.st_mode & 0o7777)).unwrap();
    }
    let mut names = vec![0; 8192];
    let n = rustix::fs::llistxattr(from, &mut names[..]).unwrap();
    for key in names[..n].split(|b| *b == 0).filter(|k| !k.is_empty()) {
        let mut value = vec![0; 8192];
        // the kernel lists capabilities of what is no file, and does not read them
        let Ok(n) = rustix::fs::lgetxattr(from, key, &mut value[..]) else { continue };
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(to, key, &value[..n], none).unwrap();
    }
    let nanoseconds = i64::try_from(s.st_mtime_nsec).unwrap();
    let time = rustix::fs::Timespec { tv_sec: s.st_mtime, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, flags).unwrap();
}
