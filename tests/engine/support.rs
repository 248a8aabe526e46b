//! Layers in a temporary directory, and a view of them that is used by paths.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use stratafs::index::{self, Index};
use stratafs::name::{Name, components};
use stratafs::overlay::failpoint::Failpoints;
use stratafs::overlay::{
    Attr, Caller, Error, Ino, Lower, LowerChanges, OpenMode, Options, Overlay, RenameMode, Result,
    SetAttr, Stack, Upper,
};
use stratafs::snapshot::{Believed, Bounds, Slot, Snapshot, take};
use stratafs::sys::{Dir, Errno, FileType, Identity, Mapping, OpenFlags};

/// How the lowers are given to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Indexed,
    /// Directories that are known by their snapshots.
    Known,
}

pub struct Layers {
    pub tmp: tempfile::TempDir,
    /// Top first.
    pub lowers: Vec<PathBuf>,
    before: BTreeMap<String, String>,
}

impl Layers {
    /// Makes lowers from lines, top first: `d PATH`, `f PATH CONTENT`, `l PATH TARGET`,
    /// `h PATH EXISTING`, `w PATH` (whiteout), `o PATH` (opaque directory), `p PATH` (fifo),
    /// `r PATH REDIRECT`.
    pub fn new(lowers: &[&[&str]]) -> Layers {
        let tmp = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (i, lines) in lowers.iter().enumerate() {
            let root = tmp.path().join(format!("l{i}"));
            std::fs::create_dir(&root).unwrap();
            for line in *lines {
                make(&root, line);
            }
            paths.push(root);
        }
        for d in ["u", "w"] {
            std::fs::create_dir(tmp.path().join(d)).unwrap();
        }
        let mut layers = Layers { tmp, lowers: paths, before: BTreeMap::new() };
        layers.before = layers.snapshot();
        layers
    }

    fn snapshot(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for l in &self.lowers {
            disk_tree(l, l, &mut all);
        }
        all
    }

    /// Takes the lowers as they are now for what they were made as.
    pub fn remember(&mut self) {
        self.before = self.snapshot();
    }

    /// Panics if a lower layer differs from what it was made as, times included.
    pub fn check_untouched(&self) {
        assert_eq!(self.before, self.snapshot(), "a lower layer was written");
    }

    pub fn upper(&self) -> PathBuf {
        self.tmp.path().join("u")
    }

    pub fn open(&self, form: Form) -> View {
        self.open_with(form, Options::default(), true)
    }

    /// Ends a view and opens the same layers again.
    pub fn again(&self, view: View, form: Form) -> View {
        drop(view);
        self.open(form)
    }

    /// Ends a view and empties its upper.
    pub fn forget(&self, view: View) {
        drop(view);
        for d in ["u", "w"] {
            std::fs::remove_dir_all(self.tmp.path().join(d)).unwrap();
            std::fs::create_dir(self.tmp.path().join(d)).unwrap();
        }
    }

    pub fn open_with(&self, form: Form, options: Options, writable: bool) -> View {
        let options = match form {
            Form::Known => Options { lower_changes: LowerChanges::Ignore, ..options },
            _ => options,
        };
        let lowers = self
            .lowers
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let diff = Dir::open(p).unwrap();
                match form {
                    Form::Plain => Lower::Plain(diff),
                    Form::Known => {
                        let believed = Believed::compared(self.take_snapshot(i));
                        let snapshot = Slot::new(OnceLock::from(believed));
                        Lower::Known { dir: diff, snapshot }
                    }
                    Form::Indexed => {
                        Lower::Indexed { index: Arc::new(self.index(p)), diff: diff.into() }
                    }
                }
            })
            .collect();
        let dir = |n| Dir::open(self.tmp.path().join(n)).unwrap();
        let upper = writable.then(|| Upper { dir: dir("u"), work: dir("w") });
        View { fs: Overlay::new(Stack { lowers, data_only: Vec::new(), upper }, options).unwrap() }
    }

    /// Takes a snapshot of a lower, counted from the top.
    pub fn take_snapshot(&self, layer: usize) -> Snapshot {
        let diff = Dir::open(&self.lowers[layer]).unwrap();
        let dir = Dir::open(self.tmp.path()).unwrap();
        let name = format!("{layer}.snapshot");
        dir.unlink(name.as_bytes()).unwrap_or_default();
        let file = dir.open_file(name.as_bytes(), OpenFlags::CREATE_NEW, 0o600).unwrap();
        let taken = take(&diff, Bounds::default(), &AtomicBool::default()).unwrap();
        taken.write(&file).unwrap();
        let map = Mapping::of(&file).unwrap();
        Snapshot::of(map, diff.stat_self().unwrap().dev).unwrap()
    }

    fn index(&self, layer: &Path) -> Index {
        let diff = Dir::open(layer).unwrap();
        let dir = Dir::open(self.tmp.path()).unwrap();
        let name = format!("{}.index", layer.file_name().unwrap().to_string_lossy());
        let builder = index::scan(&diff, index::ScanOptions::default()).unwrap();
        builder.finish(&dir, name.as_bytes()).unwrap();
        Index::open(&dir, name.as_bytes()).unwrap()
    }

    /// Panics if something is left in the work directory that a mount would have to sweep.
    pub fn check_work_empty(&self) {
        let left: Vec<_> = std::fs::read_dir(self.tmp.path().join("w/work")).unwrap().collect();
        assert!(left.is_empty(), "left in the work directory: {left:?}");
    }
}

/// The namespace in which marks of the layers made here are written.
pub fn opaque_key() -> &'static [u8] {
    if Identity::current().privileged { b"trusted.overlay.opaque" } else { b"user.overlay.opaque" }
}

/// Returns the on-disk name of one of the overlay's own attributes.
pub fn dialect_key(which: &str) -> Vec<u8> {
    let prefix = if Identity::current().privileged { "trusted" } else { "user" };
    format!("{prefix}.overlay.{which}").into_bytes()
}

pub fn redirect_key() -> &'static [u8] {
    if Identity::current().privileged {
        b"trusted.overlay.redirect"
    } else {
        b"user.overlay.redirect"
    }
}

fn make(root: &Path, line: &str) {
    let mut words = line.splitn(3, ' ');
    let (kind, path, rest) =
        (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
    let full = root.join(path);
    let parent = Dir::open(full.parent().unwrap()).unwrap();
    let name = full.file_name().unwrap().as_encoded_bytes();
    let mark = |key: &[u8], value: &[u8]| {
        parent.node(name).unwrap().set_xattr(key, value, false, false).unwrap();
    };
    match kind {
        "d" => std::fs::create_dir(&full).unwrap(),
        "f" => std::fs::write(&full, rest).unwrap(),
        "l" => std::os::unix::fs::symlink(rest, &full).unwrap(),
        "h" => std::fs::hard_link(root.join(rest), &full).unwrap(),
        "w" => parent.mknod_whiteout(name).unwrap(),
        "p" => parent.mknod(name, FileType::Fifo, 0o640, 0).unwrap(),
        "o" => {
            std::fs::create_dir(&full).unwrap();
            mark(opaque_key(), b"y");
        }
        "r" => {
            std::fs::create_dir(&full).unwrap();
            mark(redirect_key(), rest.as_bytes());
        }
        other => panic!("unknown kind {other}"),
    }
    let old = stratafs::sys::Time { sec: 1_500_000_000, nsec: 123_456_789 };
    let at = stratafs::sys::TimeSet::At(old);
    parent.set_times(name, at, at).unwrap();
}

fn disk_tree(root: &Path, at: &Path, out: &mut BTreeMap<String, String>) {
    let m = std::fs::symlink_metadata(at).unwrap();
    let content = if m.is_file() { std::fs::read(at).unwrap() } else { Vec::new() };
    let line = format!(
        "{:o} {}:{} {} {:?} {} {:?}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.mtime(),
        m.mtime_nsec(),
        m.nlink(),
        content
    );
    out.insert(at.strip_prefix(root.parent().unwrap()).unwrap().display().to_string(), line);
    if m.is_dir() {
        for e in std::fs::read_dir(at).unwrap() {
            disk_tree(root, &e.unwrap().path(), out);
        }
    }
}

/// A view that is used by paths.
pub struct View {
    pub fs: Overlay,
}

pub const READ: OpenMode = OpenMode {
    read: true,
    write: false,
    truncate: false,
    append: false,
    direct: false,
    sync: false,
};
pub const WRITE: OpenMode = OpenMode { read: true, write: true, ..READ };

pub fn me() -> Caller {
    let i = Identity::current();
    Caller { uid: i.uid, gid: i.gid }
}

pub fn name(n: &str) -> Name<'_> {
    Name::new(n.as_bytes()).unwrap()
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl View {
    pub fn ino(&self, path: &str) -> Result<Ino> {
        self.stat(path).map(|a| a.ino)
    }

    pub fn stat(&self, path: &str) -> Result<Attr> {
        let mut attr = self.fs.getattr(Ino::ROOT, None)?;
        for c in components(path.as_bytes()).unwrap() {
            attr = self.fs.lookup(attr.ino, c)?;
        }
        Ok(attr)
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let fh = self.fs.open(self.ino(path)?, READ)?;
        let mut buf = vec![0; 1 << 16];
        let n = self.fs.read(fh, 0, &mut buf);
        self.fs.release(fh);
        buf.truncate(n?);
        Ok(buf)
    }

    pub fn text(&self, path: &str) -> String {
        match self.read(path) {
            Ok(b) => String::from_utf8(b).unwrap(),
            Err(e) => format!("E{}", e.errno().raw()),
        }
    }

    /// Writes a whole file, which is made if it is missing.
    pub fn write(&self, path: &str, data: &[u8]) -> Result<()> {
        let (dir, base) = split(path);
        let fh = match self.ino(path) {
            Ok(ino) => self.fs.open(ino, OpenMode { truncate: true, ..WRITE })?,
            Err(Error::NotFound) => {
                self.fs.create(me(), self.ino(dir)?, name(base), 0o666, 0o022, WRITE)?.1
            }
            Err(e) => return Err(e),
        };
        let r = self.fs.write(fh, 0, data, false);
        self.fs.release(fh);
        assert_eq!(r?, data.len());
        Ok(())
    }

    pub fn append(&self, path: &str, data: &[u8]) -> Result<()> {
        let attr = self.stat(path)?;
        let fh = self.fs.open(attr.ino, WRITE)?;
        let r = self.fs.write(fh, attr.size, data, false);
        self.fs.release(fh);
        r.map(|_| ())
    }

    pub fn mkdir(&self, path: &str) -> Result<Attr> {
        let (dir, base) = split(path);
        self.fs.mkdir(me(), self.ino(dir)?, name(base), 0o777, 0o022)
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<Attr> {
        let (dir, base) = split(path);
        self.fs.symlink(me(), self.ino(dir)?, name(base), target.as_bytes())
    }

    pub fn unlink(&self, path: &str) -> Result<()> {
        let (dir, base) = split(path);
        self.fs.unlink(self.ino(dir)?, name(base))
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (dir, base) = split(path);
        self.fs.rmdir(self.ino(dir)?, name(base))
    }

    pub fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        let ((fd, fb), (td, tb)) = (split(from), split(to));
        let (fd, td) = (self.ino(fd)?, self.ino(td)?);
        self.fs.rename(fd, name(fb), td, name(tb), mode)
    }

    pub fn link(&self, from: &str, to: &str) -> Result<Attr> {
        let (dir, base) = split(to);
        self.fs.link(self.ino(from)?, self.ino(dir)?, name(base))
    }

    pub fn chmod(&self, path: &str, mode: u32) -> Result<Attr> {
        let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
        self.fs.setattr(self.ino(path)?, None, &set)
    }

    pub fn truncate(&self, path: &str, size: u64) -> Result<Attr> {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        self.fs.setattr(self.ino(path)?, None, &set)
    }

    /// Lists a directory, without `.` and `..`, sorted.
    pub fn ls(&self, path: &str) -> Result<Vec<String>> {
        let mut out = Vec::new();
        self.fs.readdir(self.ino(path)?, 0, &mut |e| {
            out.push(String::from_utf8_lossy(e.name).into_owned());
            true
        })?;
        out.retain(|n| n != "." && n != "..");
        out.sort();
        Ok(out)
    }

    /// Returns the whole tree as lines: path, type, mode, link count, content or target.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        self.tree_below("", &mut out);
        out
    }

    /// Returns the tree with each link count shown as what it is when all names are known: the
    /// other names of a plain layer's file are not, before somebody looked them up.
    pub fn tree_in(&self, form: Form) -> BTreeMap<String, String> {
        let tree = self.tree();
        if form == Form::Plain { without_links(tree) } else { tree }
    }

    fn tree_below(&self, dir: &str, out: &mut BTreeMap<String, String>) {
        for n in self.ls(dir).unwrap() {
            let path = if dir.is_empty() { n } else { format!("{dir}/{n}") };
            let a = self.stat(&path).unwrap_or_else(|e| panic!("{path} is listed, but: {e:?}"));
            let rest = match a.kind {
                FileType::Dir => String::new(),
                FileType::File => format!("{} {:?}", a.nlink, self.text(&path)),
                FileType::Symlink => String::from_utf8(self.fs.readlink(a.ino).unwrap()).unwrap(),
                _ => String::new(),
            };
            out.insert(path.clone(), format!("{:?} {:o} {rest}", a.kind, a.mode));
            if a.kind == FileType::Dir {
                self.tree_below(&path, out);
            }
        }
    }
}

pub fn errno<T: std::fmt::Debug>(r: Result<T>) -> Errno {
    r.expect_err("should have failed").errno()
}

pub fn armed(points: &Arc<Failpoints>) -> Options {
    Options { failpoints: Some(points.clone()), ..Options::default() }
}

pub fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Takes the link counts out of a tree's lines.
pub fn without_links(tree: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let cut = |line: String| match line.strip_prefix("File ") {
        Some(rest) => {
            let w: Vec<&str> = rest.splitn(3, ' ').collect();
            format!("File {} {}", w[0], w[2])
        }
        None => line,
    };
    tree.into_iter().map(|(k, v)| (k, cut(v))).collect()
}

/// Says that a test cannot run here: not by `eprintln!`, which the harness does not show. `.ci/run`
/// counts these lines.
pub fn skip(why: &str) {
    let line = format!("\nSKIPPED (1 so far): engine: {why}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}
