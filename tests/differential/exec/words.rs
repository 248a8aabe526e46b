//! Words for bytes, and for what came of an operation.

use super::Said;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

/// The bytes that a path of a case stands for: some letters are names that no text can hold, or
/// that would be tiring to read.
pub fn os(path: &str) -> OsString {
    let mut out = Vec::new();
    for c in path.chars() {
        match c {
            'Ñ' => out.extend([b'n'; 255]),
            'Ò' => out.extend([b'n'; 256]),
            'É' => out.extend([b'm'; 252]),
            'ÿ' => out.push(0xff),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    OsString::from_vec(out)
}

/// The value that a number stands for, of the form that the key demands.
pub fn xattr_value(key: &str, n: u8) -> Vec<u8> {
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut out = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    };
    let none = u32::MAX;
    match (key, n) {
        (k, 0) if k.contains("posix_acl") => acl(&[(1, 6, none), (4, 4, none), (0x20, 0, none)]),
        (k, 1) if k.contains("posix_acl") => {
            acl(&[(1, 7, none), (2, 6, 1000), (4, 5, none), (0x10, 7, none), (0x20, 5, none)])
        }
        (k, 2) if k.contains("posix_acl") => {
            acl(&[(1, 7, none), (2, 7, 0), (4, 0, none), (0x10, 5, none), (0x20, 0, none)])
        }
        (k, 3) if k.contains("posix_acl") => acl(&[(1, 6, none), (4, 7, none), (0x20, 7, none)]),
        ("security.capability", 0..=3) => {
            let mut v = 0x0200_0001_u32.to_le_bytes().to_vec();
            v.extend((1_u32 << n).to_le_bytes());
            v.resize(20, 0);
            v
        }
        // listed, but refused to readers
        ("security.capability", 9) => Vec::new(),
        ("security.capability", _) => b"no header".to_vec(),
        (_, 4) => Vec::new(),
        // as much as an attribute may have, and more
        (_, 6) => vec![b'x'; 65536],
        (_, 7) => vec![b'x'; 65537],
        ("user.long", _) => vec![b'0' + n; 900],
        (_, n) => format!("v{n}").into_bytes(),
    }
}

/// The name of an error, as in errno(3).
pub fn errno(e: Errno) -> String {
    const NAMES: [(Errno, &str); 30] = [
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::NXIO, "ENXIO"),
        (Errno::BADF, "EBADF"),
        (Errno::ACCESS, "EACCES"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::XDEV, "EXDEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::TXTBSY, "ETXTBSY"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::MLINK, "EMLINK"),
        (Errno::RANGE, "ERANGE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NODATA, "ENODATA"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::STALE, "ESTALE"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::TOOBIG, "E2BIG"),
        (Errno::NODEV, "ENODEV"),
        (Errno::FAULT, "EFAULT"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::NOTTY, "ENOTTY"),
    ];
    let known = NAMES.iter().find(|(n, _)| *n == e);
    known.map_or_else(|| format!("errno {}", e.raw_os_error()), |(_, n)| (*n).to_owned())
}

pub fn describe(s: &Stat) -> String {
    let dir = FileType::from_raw_mode(s.st_mode) == FileType::Directory;
    let (mode, uid, gid) = (s.st_mode, s.st_uid, s.st_gid);
    if dir {
        // link counts and sizes of directories are each file system's own
        format!("{mode:o} {uid}:{gid}{}", if s.st_nlink == 0 { " gone" } else { "" })
    } else {
        format!("{mode:o} {uid}:{gid} links {} size {} dev {:x}", s.st_nlink, s.st_size, s.st_rdev)
    }
}

pub fn is_file(s: &Stat) -> bool {
    FileType::from_raw_mode(s.st_mode) == FileType::RegularFile
}

/// Each attribute with its value, sorted.
pub fn xattrs(names: &[u8], get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>) -> Said {
    let mut out = Vec::new();
    for key in names.split(|b| *b == 0).filter(|k| !k.is_empty()) {
        let key = OsString::from_vec(key.to_vec());
        let mut buf = vec![0; 4096];
        let value = match get(&key, &mut buf) {
            Ok(n) if n > 64 => format!("{n} bytes of {}", buf[0]),
            Ok(n) => buf[..n].escape_ascii().to_string(),
            Err(e) => errno(e),
        };
        out.push(format!("{}={value}", key.display()));
    }
    out.sort();
    Ok(out.join(" "))
}
