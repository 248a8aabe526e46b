//! Small files and directories with exact permissions, whatever the umask.

use crate::sys::{Dir, Errno, OpenFlags, RenameFlags, Result, random_bytes};

/// Between the name and the random part of our temporary files: what the sweep may remove.
const OURS: &str = ".stratafs-";

/// Reads a small regular file whole; `None` if it is missing, `EFBIG` if it is over `limit` bytes.
pub(super) fn read(dir: &Dir, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
    // nonblock: a fifo in the place of a file must not hang us; pread then fails on it
    let flags = OpenFlags { nonblock: true, ..OpenFlags::READ };
    let file = match dir.open_file(name.as_bytes(), flags, 0) {
        Ok(f) => f,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut data = vec![0; limit.min(512)];
    let mut len = 0;
    loop {
        len += file.read_at(&mut data[len..], len as u64)?;
        if len < data.len() {
            data.truncate(len);
            return Ok(Some(data));
        }
        if len > limit {
            return Err(Errno::FBIG);
        }
        data.resize((len * 8).clamp(512, limit + 1), 0);
    }
}

/// Makes a file that must not exist yet, with exactly these permissions. Not made durable.
pub(super) fn create(dir: &Dir, name: &str, data: &[u8], mode: u32) -> Result<()> {
    let file = dir.open_file(name.as_bytes(), OpenFlags::CREATE_NEW, 0o600)?;
    let mut done = 0;
    while done < data.len() {
        match file.write_at(&data[done..], done as u64)? {
            0 => return Err(Errno::NOSPC),
            n => done += n,
        }
    }
    file.chmod(mode)
}

/// Writes a file in one step and durably: `.tmp-NAMErandom` beside it, fsynced, renamed.
pub(super) fn replace(dir: &Dir, name: &str, data: &[u8], mode: u32) -> Result<()> {
    let sync = |tmp: &str| dir.open_file(tmp.as_bytes(), OpenFlags::READ, 0)?.sync(false);
    rename_over(dir, name, data, mode, sync)?;
    dir.sync()
}

/// Writes a file in one step for everybody who runs now. After a crash it may be empty: only for
/// what can be lost.
pub(super) fn replace_in_cache(dir: &Dir, name: &str, data: &[u8], mode: u32) -> Result<()> {
    rename_over(dir, name, data, mode, |_| Ok(()))
}

fn rename_over(
    dir: &Dir,
    name: &str,
    data: &[u8],
    mode: u32,
    sync: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    let tmp = format!(".tmp-{name}{OURS}{:016x}", u64::from_ne_bytes(random_bytes()));
    let written = create(dir, &tmp, data, mode)
        .and_then(|()| sync(&tmp))
        .and_then(|()| dir.rename(tmp.as_bytes(), dir, name.as_bytes(), RenameFlags::Replace));
    if written.is_err() {
        // the first error is the one to report; a file left here goes with the next sweep
        dir.unlink(tmp.as_bytes()).unwrap_or_default();
    }
    written
}

/// Returns whether a name is that of a temporary file which [`replace`] made.
pub(super) fn is_our_temporary(name: &[u8]) -> bool {
    name.strip_prefix(b".tmp-").is_some_and(|rest| {
        let cut = rest.len().saturating_sub(16);
        rest[..cut].ends_with(OURS.as_bytes()) && rest[cut..].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Makes a directory if it is missing, gives a new one exactly these permissions, and opens it.
pub(super) fn make_dir(dir: &Dir, name: &str, mode: u32) -> Result<Dir> {
    let name = name.as_bytes();
    match dir.mkdir(name, mode) {
        Ok(()) => {
            let made = dir.open_dir(name)?;
            set_mode(&made, mode)?;
            Ok(made)
        }
        Err(Errno::EXIST) => dir.open_dir(name),
        Err(e) => Err(e),
    }
}

/// Writes a file of a directory that nobody else looks at yet, over an older one if need be.
pub(super) fn put(dir: &Dir, name: &str, data: &[u8], mode: u32) -> Result<()> {
    match dir.unlink(name.as_bytes()) {
        Ok(()) | Err(Errno::NOENT) => create(dir, name, data, mode),
        Err(e) => Err(e),
    }
}

/// Makes a directory that must not exist yet, with exactly these permissions.
pub(super) fn new_dir(dir: &Dir, name: &str, mode: u32) -> Result<Dir> {
    dir.mkdir(name.as_bytes(), mode)?;
    let made = dir.open_dir(name.as_bytes())?;
    set_mode(&made, mode)?;
    Ok(made)
}

fn set_mode(dir: &Dir, mode: u32) -> Result<()> {
    // the umask took bits away, or the parent handed down its set-group-id bit
    if dir.stat_self()?.permissions() == mode {
        return Ok(());
    }
    dir.as_node()?.chmod(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_whole_or_not_at_all() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        for len in [0, 1, 511, 512, 513, 4096, 5000] {
            replace(&d, "f", &vec![b'x'; len], 0o640).unwrap();
            assert_eq!(read(&d, "f", 5000).unwrap().unwrap().len(), len);
            assert_eq!(d.stat(b"f").unwrap().permissions(), 0o640);
        }
        assert_eq!(read(&d, "f", 4999), Err(Errno::FBIG));
        assert_eq!(read(&d, "g", 10), Ok(None));
        assert_eq!(d.list().unwrap().len(), 1);
        assert_eq!(create(&d, "f", b"", 0o600), Err(Errno::EXIST));
    }

    #[test]
    fn only_our_temporaries_are_ours() {
        assert!(is_our_temporary(b".tmp-repositories.json.stratafs-0123456789abcdef"));
        // dockerd's
        assert!(!is_our_temporary(b".tmp-repositories.json1234567890"));
        assert!(!is_our_temporary(b".tmp-.stratafs-"));
        assert!(!is_our_temporary(b"x.stratafs-0123456789abcdef"));
    }

    #[test]
    fn no_file_but_a_regular_one_is_read() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.mknod(b"fifo", crate::sys::FileType::Fifo, 0o600, 0).unwrap();
        d.symlink(b"/etc/passwd", b"link").unwrap();
        d.mkdir(b"dir", 0o700).unwrap();
        for name in ["fifo", "link", "dir"] {
            assert!(read(&d, name, 100).is_err(), "{name}");
        }
    }
}
