//! Records of live mounts, so that `umount`, `mounts` and `explain` can tell what lies where.
//!
//! A record is a small JSON file in a directory of this user. Its daemon holds a lock on it as
//! long as it lives: a record without a lock is left over from a daemon that died. Records help
//! to tell and to wait; nothing depends on them for being right.

use crate::name::printable;
use crate::sys::{Dir, Errno, File, Identity, LockKind, OpenFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a live mount is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The daemon's process id.
    pub pid: u32,
    /// The mount point, absolute.
    #[serde(with = "bytes")]
    pub mount_point: PathBuf,
    /// The mount's device number, as the table of mounts has it.
    pub device: Option<String>,
    /// What is mounted: `image:REF`, `container:ID`, or whatever the table of mounts shows.
    pub source: String,
    /// Root of the store, for an image or a container.
    #[serde(with = "optional_bytes", default)]
    pub root: Option<PathBuf>,
    /// The image's id with its prefix, for an image or a container of one.
    pub image: Option<String>,
    /// The whole id of the container.
    pub container: Option<String>,
    /// Lower directories, top first, of a mount of directories.
    #[serde(with = "list_of_bytes", default)]
    pub lowers: Vec<PathBuf>,
    /// Upper directory, of a mount of directories.
    #[serde(with = "optional_bytes", default)]
    pub upper: Option<PathBuf>,
    /// The directories that it alone may write to while it lives: upper and work.
    #[serde(with = "list_of_bytes", default)]
    pub locked: Vec<PathBuf>,
    /// Nothing can be changed.
    pub read_only: bool,
}

/// A record on disk. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Entry {
    dir: Dir,
    name: Vec<u8>,
    /// Where the daemon may answer questions.
    pub(super) socket: PathBuf,
    _lock: File,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(e) = self.dir.unlink(&self.name) {
            log::debug!("record {}: {e}", printable(&self.name));
        }
        remove_socket(&self.dir, &self.name);
    }
}

/// A record together with the lock that its daemon holds.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) record: Record,
    /// Where its daemon answers.
    pub(super) socket: PathBuf,
    file: File,
}

impl Live {
    /// Returns whether the daemon has ended.
    pub(super) fn ended(&self) -> bool {
        // the lock is let go with the handle
        self.file.try_lock(LockKind::Shared).unwrap_or(true)
    }
}

/// The directory of this user's records; made when missing. It must be ours alone, since in /tmp
/// anybody could have made it first.
fn open_dir() -> Result<(Dir, PathBuf), Errno> {
    let me = Identity::current();
    let base = if me.privileged {
        PathBuf::from("/run")
    } else if let Some(d) = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        PathBuf::from(d)
    } else {
        std::env::temp_dir()
    };
    let shared = !me.privileged && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|d| d.is_empty());
    let name = if shared { format!("stratafs-{}", me.uid) } else { "stratafs".to_owned() };
    let path = base.join(&name);
    let base = Dir::open(base)?;
    base.mkdir_if_missing(name.as_bytes(), 0o700)?;
    let dir = base.open_dir(name.as_bytes())?;
    let found = dir.stat_self()?;
    let closed = found.uid == me.uid && found.permissions() & 0o022 == 0;
    if closed { Ok((dir, path)) } else { Err(Errno::PERM) }
}

/// Writes a record for this process.
pub(super) fn write(record: &Record) -> Result<Entry, Errno> {
    let (dir, path) = open_dir()?;
    let name =
        format!("{}-{:08x}.json", record.pid, u32::from_ne_bytes(crate::sys::random_bytes()));
    let staged = format!(".{name}");
    let file = dir.open_file(staged.as_bytes(), OpenFlags::CREATE_NEW, 0o600)?;
    // locked before it has its name, so that nobody takes it for a stale one
    file.lock(LockKind::Exclusive)?;
    let text = serde_json::to_vec_pretty(record).map_err(|_| Errno::INVAL)?;
    if file.write_at(&text, 0)? != text.len() {
        return Err(Errno::NOSPC);
    }
    dir.rename(staged.as_bytes(), &dir, name.as_bytes(), crate::sys::RenameFlags::Replace)?;
    let socket = path.join(OsString::from_vec(socket_name(name.as_bytes())));
    Ok(Entry { dir, name: name.into_bytes(), socket, _lock: file })
}

fn socket_name(record: &[u8]) -> Vec<u8> {
    [record.strip_suffix(b".json").unwrap_or(record), b".sock"].concat()
}

fn remove_socket(dir: &Dir, record: &[u8]) {
    match dir.unlink(&socket_name(record)) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => log::debug!("socket of {}: {e}", printable(record)),
    }
}

/// Returns the records of all daemons of this user that live, and removes stale ones.
pub(super) fn list() -> Vec<Live> {
    let Ok((dir, path)) = open_dir() else { return Vec::new() };
    let entries = dir.list().unwrap_or_default();
    entries.iter().filter_map(|e| read(&dir, &path, &e.name)).collect()
}

fn read(dir: &Dir, path: &Path, name: &[u8]) -> Option<Live> {
    if name.starts_with(b".") || !name.ends_with(b".json") {
        return None;
    }
    let file = dir.open_file(name, OpenFlags::READ, 0).ok()?;
    let mut text = vec![0; 1 << 20];
    let n = file.read_at(&mut text, 0).ok()?;
    let record = serde_json::from_slice(&text[..n]).ok();
    let socket = path.join(OsString::from_vec(socket_name(name)));
    let live = record.map(|record| Live { record, socket, file });
    match live {
        Some(l) if !l.ended() => Some(l),
        _ => {
            log::debug!("removing the stale record {}", printable(name));
            dir.unlink(name).unwrap_or_else(|e| log::debug!("{}: {e}", printable(name)));
            remove_socket(dir, name);
            None
        }
    }
}

/// Finds the record of what is mounted at `mount_point`, whose device number is `device`.
pub(super) fn find(mount_point: &Path, device: &str) -> Option<Live> {
    list()
        .into_iter()
        .find(|l| l.record.mount_point == mount_point && l.record.device.as_deref() == Some(device))
}

/// Paths as text when they are text, else as a list of bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for Text {
    fn from(p: &Path) -> Text {
        match p.to_str() {
            Some(s) => Text::Utf8(s.to_owned()),
            None => Text::Bytes(p.as_os_str().as_bytes().to_vec()),
        }
    }
}

impl From<Text> for PathBuf {
    fn from(t: Text) -> PathBuf {
        match t {
            Text::Utf8(s) => s.into(),
            Text::Bytes(b) => OsString::from_vec(b).into(),
        }
    }
}

macro_rules! as_text {
    ($module:ident, $field:ty, $borrowed:ty, $out:expr, $stored:ty, $back:expr) => {
        mod $module {
            use super::{PathBuf, Text};
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(super) fn serialize<S: Serializer>(p: &$borrowed, s: S) -> Result<S::Ok, S::Error> {
                #[allow(
                    clippy::redundant_closure_call,
                    reason = "one of the callers gives a closure"
                )]
                ($out)(p).serialize(s)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$field, D::Error> {
                #[allow(
                    clippy::redundant_closure_call,
                    reason = "one of the callers gives a closure"
                )]
                <$stored>::deserialize(d).map($back)
            }
        }
    };
}

as_text!(bytes, PathBuf, std::path::Path, |p: &std::path::Path| Text::from(p), Text, PathBuf::from);
as_text!(
    optional_bytes,
    Option<PathBuf>,
    Option<PathBuf>,
    |p: &Option<PathBuf>| p.as_deref().map(Text::from),
    Option<Text>,
    |t: Option<Text>| t.map(PathBuf::from)
);
as_text!(
    list_of_bytes,
    Vec<PathBuf>,
    [PathBuf],
    |p: &[PathBuf]| p.iter().map(|p| Text::from(p.as_path())).collect::<Vec<_>>(),
    Vec<Text>,
    |t: Vec<Text>| t.into_iter().map(PathBuf::from).collect()
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_no_text_survive() {
        let odd = PathBuf::from(OsString::from_vec(b"/m/\xff".to_vec()));
        let r = Record {
            pid: 1,
            mount_point: odd.clone(),
            device: None,
            source: "s".into(),
            root: Some(odd.clone()),
            image: None,
            container: None,
            lowers: vec![odd.clone(), "/plain".into()],
            upper: None,
            locked: vec!["/w".into()],
            read_only: true,
        };
        let text = serde_json::to_string(&r).unwrap();
        assert!(text.contains("\"/plain\""));
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), r);
    }
}
