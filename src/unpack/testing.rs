//! A small tar writer for tests: it writes what real tools would not.

use super::*;
use crate::index::{Node, NodeId};

/// One entry to write.
#[derive(Clone)]
pub(crate) struct T {
    name: Vec<u8>,
    flag: u8,
    data: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    dev: (u32, u32),
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    size: Option<u64>,
}

fn new(name: &[u8], flag: u8, mode: u32) -> T {
    T {
        name: name.to_vec(),
        flag,
        data: Vec::new(),
        link: Vec::new(),
        mode,
        owner: (0, 0),
        mtime: 1_600_000_000,
        dev: (0, 0),
        pax: Vec::new(),
        size: None,
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> T {
    T { data: data.as_ref().to_vec(), ..new(name.as_ref(), b'0', 0o644) }
}
pub(crate) fn dir(name: impl AsRef<[u8]>) -> T {
    new(name.as_ref(), b'5', 0o755)
}
pub(crate) fn marker(name: impl AsRef<[u8]>) -> T {
    new(name.as_ref(), b'0', 0o600)
}
pub(crate) fn symlink(name: impl AsRef<[u8]>, target: &str) -> T {
    T { link: target.into(), ..new(name.as_ref(), b'2', 0o777) }
}
pub(crate) fn hard(name: impl AsRef<[u8]>, target: &str) -> T {
    T { link: target.into(), ..new(name.as_ref(), b'1', 0o644) }
}
pub(crate) fn other(name: impl AsRef<[u8]>, flag: u8, dev: (u32, u32)) -> T {
    T { dev, ..new(name.as_ref(), flag, 0o640) }
}

impl T {
    pub(crate) fn mode(self, mode: u32) -> T {
        T { mode, ..self }
    }
    pub(crate) fn owner(self, uid: u32, gid: u32) -> T {
        T { owner: (uid, gid), ..self }
    }
    pub(crate) fn mtime(self, mtime: i64) -> T {
        T { mtime, ..self }
    }
    pub(crate) fn size(self, size: u64) -> T {
        T { size: Some(size), ..self }
    }
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> T {
        self.pax.push((key.into(), value.as_ref().to_vec()));
        self
    }
    pub(crate) fn xattr(self, key: &str, value: impl AsRef<[u8]>) -> T {
        self.pax(&format!("SCHILY.xattr.{key}"), value)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut extra: Vec<u8> = self.pax.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
        if self.name.len() > 100 {
            extra.extend(pax_record(b"path", &self.name));
        }
        if self.mtime < 0 {
            extra.extend(pax_record(b"mtime", self.mtime.to_string().as_bytes()));
        }
        if !extra.is_empty() {
            out.extend(header(&T { data: extra, ..new(b"pax", b'x', 0o644) }));
        }
        out.extend(header(self));
        out
    }
}

pub(crate) fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = [b" ", key, b"=", value, b"\n"].concat();
    let mut len = body.len();
    while len.to_string().len() + body.len() != len {
        len = len.to_string().len() + body.len();
    }
    [len.to_string().as_bytes(), &body].concat()
}

fn header(t: &T) -> Vec<u8> {
    let mut h = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &t.name[..t.name.len().min(100)]);
    put(100, format!("{:07o}\0", t.mode).as_bytes());
    put(108, format!("{:07o}\0", t.owner.0).as_bytes());
    put(116, format!("{:07o}\0", t.owner.1).as_bytes());
    put(124, format!("{:011o}\0", t.size.unwrap_or(t.data.len() as u64)).as_bytes());
    put(136, format!("{:011o}\0", t.mtime.max(0)).as_bytes());
    put(148, b"        ");
    put(156, &[t.flag]);
    put(157, &t.link[..t.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", t.dev.0).as_bytes());
    put(337, format!("{:07o}\0", t.dev.1).as_bytes());
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    h.extend(&t.data);
    h.resize(h.len().next_multiple_of(512), 0);
    h
}

pub(crate) fn tar(entries: &[T]) -> Vec<u8> {
    let mut out: Vec<u8> = entries.iter().flat_map(T::bytes).collect();
    out.resize(out.len() + 1024, 0);
    out
}

/// A layer unpacked into a temporary directory.
pub(crate) struct Layer {
    _tmp: tempfile::TempDir,
    pub(crate) diff: Dir,
    pub(crate) meta: Dir,
    pub(crate) index: Index,
    pub(crate) size: u64,
}

pub(crate) fn ordinary() -> Identity {
    Identity { privileged: false, ..Identity::current() }
}

/// Unpacks a blob and checks what must hold for every layer.
pub(crate) fn unpack_blob(
    blob: &[u8],
    plain: Option<&[u8]>,
    below: &[&Layer],
    identity: Identity,
    limits: &Limits,
) -> Result<Layer, UnpackError> {
    let tmp = tempfile::tempdir().unwrap();
    let top = Dir::open(tmp.path()).unwrap();
    top.mkdir(b"diff", 0o755).unwrap();
    top.mkdir(b"meta", 0o755).unwrap();
    let (diff, meta) = (top.open_dir(b"diff").unwrap(), top.open_dir(b"meta").unwrap());
    let target = Target { diff: &diff, meta: &meta, identity, layer: [0; 32] };
    let staged = unpack_layer(&mut &blob[..], &target, limits)?;
    let diff_id = staged.diff_id;
    let lower: Vec<LowerLayer<'_>> =
        below.iter().map(|l| LowerLayer { index: &l.index, diff: &l.diff }).collect();
    let summary = staged.finish(&target, &lower)?;
    let below: Vec<&Index> = below.iter().map(|l| &l.index).collect();
    let index = Index::open(&meta, INDEX_NAME).unwrap();
    index.verify().unwrap();
    assert_eq!(summary.entries, index.len() as u64);

    let read = |name| std::fs::read(tmp.path().join("meta").join(name)).unwrap();
    let split = read("tar-split.json.gz");
    let mut again = Vec::new();
    assemble(&mut &split[..], &diff, &mut again).unwrap();
    assert_eq!(DiffId::new(crate::id::Hash::of(&again)), diff_id);
    if let Some(plain) = plain {
        assert!(again == plain, "the tar does not come out as it went in");
    }
    rebuild_index(&mut &split[..], &below, limits).unwrap().finish(&meta, b"again").unwrap();
    assert!(read("again") == read("stratafs.index"), "another index from the tar alone");
    assert!(!diff.list().unwrap().iter().any(|e| e.name.starts_with(b".wh.")));
    Ok(Layer { _tmp: tmp, diff, meta, index, size: summary.size })
}

/// Unpacks a plain tar of these entries as an ordinary user would.
pub(crate) fn layer(entries: &[T], below: &[&Layer]) -> Result<Layer, UnpackError> {
    let plain = tar(entries);
    unpack_blob(&plain, Some(&plain), below, ordinary(), &Limits::default())
}

impl Layer {
    pub(crate) fn find(&self, path: &str) -> Option<NodeId> {
        let parts = path.split('/').filter(|p| !p.is_empty());
        parts.into_iter().try_fold(NodeId::ROOT, |n, p| self.index.child(n, p.as_bytes()))
    }

    pub(crate) fn node(&self, path: &str) -> Node<'_> {
        self.index.node(self.find(path).unwrap_or_else(|| panic!("{path} is missing"))).unwrap()
    }

    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let f = self
            .diff
            .open_file_beneath(path.as_bytes(), crate::sys::OpenFlags::READ)
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut buf = vec![0; f.stat().unwrap().size as usize];
        f.read_at(&mut buf, 0).unwrap();
        buf
    }

    /// All paths of the index, whiteouts with `-` and opaque directories with `!` before them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out: Vec<String> = (1..self.index.len() as u32)
            .map(|i| {
                let n = self.index.node(NodeId(i)).unwrap();
                let mark = match n.kind {
                    Kind::Whiteout => "-",
                    _ if n.opaque => "!",
                    _ => "",
                };
                format!("{mark}{}", String::from_utf8_lossy(&self.index.path(n.id)))
            })
            .collect();
        out.sort_by(|a, b| a.trim_start_matches(['-', '!']).cmp(b.trim_start_matches(['-', '!'])));
        out
    }
}
