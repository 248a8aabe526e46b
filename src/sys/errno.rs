//! Error numbers, as a type of our own so that no other module names rustix.

use std::fmt;

/// An error number of the operating system (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

/// Result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`E", stringify!($name), "`.")]
            pub const $name: Errno = Errno(libc_errno::$name);)*
        }
        mod libc_errno {
            errnos!(@each $($name)*);
        }
    };
    (@each $($name:ident)*) => { $(pub(super) const $name: i32 = rustix::io::Errno::$name.raw_os_error();)* };
}

errnos! {
    PERM NOENT INTR IO NXIO BADF AGAIN NOMEM ACCESS BUSY EXIST XDEV NODEV NOTDIR ISDIR INVAL NFILE
    MFILE TXTBSY FBIG NOSPC SPIPE ROFS MLINK RANGE NAMETOOLONG NOSYS NOTEMPTY LOOP OVERFLOW
    OPNOTSUPP STALE DQUOT NOTCONN CONNABORTED NOTTY
}

impl Errno {
    /// `ENODATA`, or what the platform says instead when an extended attribute is missing.
    #[cfg(target_os = "linux")]
    pub const NODATA: Errno = Errno(rustix::io::Errno::NODATA.raw_os_error());
    /// `ENOATTR`, what macOS says when an extended attribute is missing.
    #[cfg(target_os = "macos")]
    pub const NODATA: Errno = Errno(93);
    /// `E2BIG`: an extended attribute's value is too long.
    pub const TOOBIG: Errno = Errno(rustix::io::Errno::TOOBIG.raw_os_error());

    /// Returns the number as the kernel gives it, positive.
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0
    }

    /// Makes an error number from a positive raw one.
    #[must_use]
    pub fn from_raw(raw: i32) -> Errno {
        Errno(raw)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std appends "(os error N)", which tells a user nothing
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Errno {
        Errno(e.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(Errno::IO.0))
    }
}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(e.0)
    }
}
