//! What is done with a directory as a whole.

use super::words::{describe, errno};
use super::{Said, flags, mode};
use crate::op::How;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The names in a directory, sorted.
pub fn list(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    let mut buf = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub fn remove_all(dir: BorrowedFd<'_>, name: &OsStr, shown: &str, errors: &mut Vec<String>) {
    let mut note = |what: &str, e: Errno| errors.push(format!("{what} {shown}: {}", errno(e)));
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return,
        Err(Errno::ISDIR) => {}
        Err(e) => return note("unlink", e),
    }
    let flags = flags(How::Directory) | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => {
            for child in raw_names(&fd) {
                let below = format!("{shown}/{}", child.display());
                remove_all(rustix::fd::AsFd::as_fd(&fd), &child, &below, errors);
            }
        }
        Err(e) => note("open", e),
    }
    if let Err(e) = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        errors.push(format!("rmdir {shown}: {}", errno(e)));
    }
}

/// Names as they are, without `.` and `..`.
pub fn raw_names(dir: &OwnedFd) -> Vec<OsString> {
    let mut names = Vec::new();
    let mut buf = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names
}

pub fn removed_cwd(path: &std::path::Path) -> Said {
    rustix::fs::mkdir(path, mode(0o755))?;
    rustix::process::chdir(path)?;
    let removed = rustix::fs::rmdir(path).map_err(errno);
    let stat = rustix::fs::stat(".").map(|s| describe(&s)).map_err(errno);
    let make = rustix::fs::open("f", flags(How::CreateNew), mode(0o600)).map(drop).map_err(errno);
    let listed = rustix::fs::open(".", flags(How::Directory), Mode::empty())
        .map(|fd| raw_names(&fd).len())
        .map_err(errno);
    rustix::process::chdir("/").unwrap();
    Ok(format!("{removed:?} {stat:?} {make:?} {listed:?}"))
}

pub fn walk_removing(dir: &OwnedFd) -> Said {
    let mut out = Vec::new();
    // so small that the directory is read in several goes
    let mut buf = [MaybeUninit::uninit(); 320];
    let mut entries = RawDir::new(dir, &mut buf);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let said = match name.to_bytes() {
            b"." | b".." => "",
            _ => match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => "removed",
                Err(Errno::ROFS) if is_ghost(dir, name) => crate::allow::GHOST,
                Err(e) => &errno(e),
            },
        };
        out.push(format!("{} {said}", name.to_string_lossy()));
    }
    out.sort();
    Ok(out.join(", "))
}

/// Returns whether a name that was listed is not there.
fn is_ghost(dir: &OwnedFd, name: &CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT)
}

/// Reads a directory, removes one of its names and reads on from each place that was told. The
/// names differ in order from one file system to another: what is said is whether all holds.
pub fn walk_seeking(dir: &OwnedFd) -> Said {
    let read_on = |buf: &mut [MaybeUninit<u8>]| -> Result<Vec<(OsString, u64)>, Errno> {
        let mut out = Vec::new();
        let mut entries = RawDir::new(dir, buf);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            out.push((name, entry.next_entry_cookie()));
        }
        Ok(out)
    };
    let mut buf = [MaybeUninit::uninit(); 320];
    let mut all = read_on(&mut buf)?;
    let listed = all.len();
    all.retain(|(n, _)| !CString::new(n.as_bytes()).is_ok_and(|n| is_ghost(dir, &n)));
    if all.len() < listed {
        return Ok(crate::allow::GHOST.to_owned());
    }
    let victim = all.iter().map(|(n, _)| n).filter(|n| *n != "." && *n != "..").max().cloned();
    let removed = match &victim {
        Some(name) => match rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::empty()) {
            Ok(()) => "ok".to_owned(),
            Err(e) => errno(e),
        },
        None => "nothing".to_owned(),
    };
    let gone = victim.filter(|_| removed == "ok");
    let mut wrong = Vec::new();
    for (i, (after, cookie)) in all.iter().enumerate() {
        let to = rustix::fs::SeekFrom::Start(*cookie);
        rustix::fs::seek(dir, to)?;
        let rest: Vec<_> = read_on(&mut buf)?.into_iter().map(|(n, _)| n).collect();
        // a name that is gone may still be seen by who reads on
        let rest: Vec<_> = rest.iter().filter(|n| Some(*n) != gone.as_ref()).collect();
        let expected = all[i + 1..].iter().map(|(n, _)| n);
        let expected: Vec<_> = expected.filter(|n| Some(*n) != gone.as_ref()).collect();
        if rest != expected {
            wrong.push(format!("after {}: {rest:?}, not {expected:?}", after.display()));
        }
    }
    Ok(format!("{} names, {removed}, {}", all.len(), wrong.join("; ")))
}
