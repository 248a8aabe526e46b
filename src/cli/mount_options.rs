//! The grammar of `-o`: `key=value` items, separated by commas.
//!
//! A backslash takes its meaning from a comma, a colon or a backslash; before anything else it is
//! itself. Empty items mean nothing. `-o` may be given several times; of contradicting options
//! the last one counts.

use crate::name::printable;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// Why an option is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// No such option.
    #[error("unknown mount option '{0}'")]
    Unknown(String),
    /// Known, but not supported yet, and ignoring it would change what users see.
    #[error("mount option '{0}' is not supported yet")]
    Unsupported(String),
    /// A value is missing.
    #[error("mount option '{0}' needs a value")]
    NeedsValue(String),
    /// It takes no value.
    #[error("mount option '{0}' takes no value")]
    TakesNoValue(String),
    /// The value makes no sense.
    #[error("mount option '{option}': '{value}' is not {wanted}")]
    BadValue {
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What would be understood.
        wanted: &'static str,
    },
}

/// The options of a mount, as given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountOptions {
    /// Lower directories, top first.
    pub lowers: Vec<PathBuf>,
    /// Upper directory.
    pub upper: Option<PathBuf>,
    /// Work directory.
    pub work: Option<PathBuf>,
    /// `ro` or `rw`.
    pub read_only: Option<bool>,
    /// Other users may enter.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// `suid` or `nosuid`.
    pub suid: Option<bool>,
    /// `dev` or `nodev`.
    pub dev: Option<bool>,
    /// `exec` or `noexec`.
    pub exec: Option<bool>,
    /// `atime` or `noatime`.
    pub atime: Option<bool>,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dirsync: bool,
    /// For how long names and attributes may be trusted.
    pub timeout: Option<Duration>,
    /// Number of threads.
    pub threads: Option<usize>,
    /// Renamed directories leave a redirect.
    pub redirect_dir: Option<bool>,
    /// The overlay's own attributes are in `user.overlay.*`, as the kernel's `userxattr`.
    pub userxattr: bool,
    /// Nothing is made durable.
    pub volatile: bool,
    /// Root of the store, for a source that is an image or a container.
    pub root: Option<PathBuf>,
    /// What the table of mounts shows as the source.
    pub fs_name: Option<OsString>,
    /// Say everything on standard error.
    pub debug: bool,
}

impl MountOptions {
    /// Reads the values of all `-o` of a command line, in their order.
    pub fn parse<S: AsRef<OsStr>>(args: &[S]) -> Result<MountOptions, BadOption> {
        let mut o = MountOptions::default();
        for arg in args {
            for item in split(arg.as_ref().as_bytes(), b',') {
                if !item.is_empty() {
                    o.take(item)?;
                }
            }
        }
        Ok(o)
    }

    /// Returns whether directories are to be stacked, rather than something from the store.
    #[must_use]
    pub fn names_directories(&self) -> bool {
        !self.lowers.is_empty() || self.upper.is_some() || self.work.is_some()
    }

    fn take(&mut self, item: &[u8]) -> Result<(), BadOption> {
        let (key, value) = match item.iter().position(|b| *b == b'=') {
            Some(cut) => (&item[..cut], Some(&item[cut + 1..])),
            None => (item, None),
        };
        let key_text = printable(key);
        let option = Item { key: &key_text, value };
        match key_text.as_str() {
            "lowerdir" => self.lowers = directories(option)?,
            // the kernel's form for many layers: one per option, without escapes for colons
            "lowerdir+" => self.lowers.push(path(option.value()?)),
            "upperdir" => self.upper = Some(path(option.value()?)),
            "workdir" => self.work = Some(path(option.value()?)),
            "ro" => self.read_only = option.flag(true)?,
            "rw" => self.read_only = option.flag(false)?,
            "suid" => self.suid = option.flag(true)?,
            "nosuid" => self.suid = option.flag(false)?,
            "dev" => self.dev = option.flag(true)?,
            "nodev" => self.dev = option.flag(false)?,
            "exec" => self.exec = option.flag(true)?,
            "noexec" => self.exec = option.flag(false)?,
            "atime" => self.atime = option.flag(true)?,
            "noatime" => self.atime = option.flag(false)?,
            "sync" => self.sync = option.flag(true)?.is_some(),
            "async" => self.sync = option.flag(false)?.is_none(),
            "dirsync" => self.dirsync = option.flag(true)?.is_some(),
            "allow_other" | "allow_root" => self.allow_other = option.flag(true)?.is_some(),
            "default_permissions" => self.default_permissions = option.flag(true)?.is_some(),
            "userxattr" => self.userxattr = option.flag(true)?.is_some(),
            "volatile" => self.volatile = option.flag(true)?.is_some(),
            "debug" => self.debug = option.flag(true)?.is_some(),
            "timeout" => self.timeout = Some(option.seconds()?),
            "fsync" => self.volatile = !option.number_as_bool()?,
            "threads" => self.threads = Some(option.threads()?),
            "root" => self.root = Some(path(option.value()?)),
            "fsname" => self.fs_name = Some(path(option.value()?).into_os_string()),
            "redirect_dir" => {
                let on = option.one_of(&["on", "off", "follow", "nofollow"])?;
                self.redirect_dir = Some(on == "on");
            }
            name => return known_otherwise(name, option),
        }
        Ok(())
    }
}

/// Options that change nothing here, and those that are still to come.
fn known_otherwise(name: &str, option: Item<'_>) -> Result<(), BadOption> {
    match name {
        // for mount(8), fstab(5) and systemd; the kernel's default in any case
        "defaults" | "auto" | "noauto" | "user" | "nouser" | "users" | "owner" | "group"
        | "_netdev" | "nofail" | "relatime" | "norelatime" | "strictatime" | "nostrictatime"
        | "diratime" | "nodiratime" | "lazytime" | "nolazytime" | "loud" | "silent" => Ok(()),
        _ if name.starts_with("x-") || name.starts_with("X-") || name == "comment" => Ok(()),
        // how a FUSE program should work rather than what it shows; ours has its own measure
        "subtype" | "threaded" | "max_write" | "max_read" | "max_threads" | "clone_fd"
        | "noforget" | "big_writes" | "nonempty" => Ok(()),
        // inode numbers and links are always as these ask for
        "xino" => option.one_of(&["on", "off", "auto"]).map(drop),
        "static_nlink" => option.flag(true).map(drop),
        "index" | "nfs_export" | "verity" | "metacopy" if option.value == Some(b"off") => Ok(()),
        "index" if option.value == Some(b"on") => Ok(()),
        "uidmapping" | "gidmapping" | "squash_to_root" | "squash_to_uid" | "squash_to_gid"
        | "xattr_permissions" | "noxattrs" | "noacl" | "context" | "fscontext" | "defcontext"
        | "rootcontext" | "plugins" | "metacopy" | "index" | "nfs_export" | "verity"
        | "datadir+" | "uuid" => Err(BadOption::Unsupported(printable_item(name, option.value))),
        _ => Err(BadOption::Unknown(name.to_owned())),
    }
}

fn printable_item(name: &str, value: Option<&[u8]>) -> String {
    value.map_or_else(|| name.to_owned(), |v| format!("{name}={}", printable(v)))
}

#[derive(Clone, Copy)]
struct Item<'a> {
    key: &'a str,
    value: Option<&'a [u8]>,
}

impl<'a> Item<'a> {
    fn value(self) -> Result<&'a [u8], BadOption> {
        self.value
            .filter(|v| !v.is_empty())
            .ok_or_else(|| BadOption::NeedsValue(self.key.to_owned()))
    }

    fn flag(self, on: bool) -> Result<Option<bool>, BadOption> {
        match self.value {
            None => Ok(Some(on)),
            Some(_) => Err(BadOption::TakesNoValue(self.key.to_owned())),
        }
    }

    fn bad(self, wanted: &'static str) -> BadOption {
        let value = printable(self.value.unwrap_or_default());
        BadOption::BadValue { option: self.key.to_owned(), value, wanted }
    }

    fn text(self) -> Result<&'a str, BadOption> {
        std::str::from_utf8(self.value()?).map_err(|_| self.bad("text"))
    }

    fn one_of(self, words: &[&'static str]) -> Result<&'static str, BadOption> {
        let text = self.text()?;
        words.iter().find(|w| **w == text).copied().ok_or_else(|| self.bad("a known value"))
    }

    fn seconds(self) -> Result<Duration, BadOption> {
        let wanted = "a number of seconds";
        let seconds: f64 = self.text()?.parse().map_err(|_| self.bad(wanted))?;
        // longer than a century is for ever, and for ever fits the kernel's arithmetic
        Duration::try_from_secs_f64(seconds.min(4e9)).map_err(|_| self.bad(wanted))
    }

    fn number_as_bool(self) -> Result<bool, BadOption> {
        match self.text()? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.bad("0 or 1")),
        }
    }

    fn threads(self) -> Result<usize, BadOption> {
        let n: usize = self.text()?.parse().unwrap_or(0);
        if (1..=64).contains(&n) { Ok(n) } else { Err(self.bad("a number from 1 to 64")) }
    }
}

fn path(raw: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(raw)))
}

fn directories(option: Item<'_>) -> Result<Vec<PathBuf>, BadOption> {
    let parts: Vec<&[u8]> = split(option.value()?, b':').collect();
    if parts.iter().any(|p| p.is_empty()) {
        // `::` begins the data-only layers of the kernel's overlayfs
        let data_only = parts[1..].iter().any(|p| p.is_empty()) && !parts[0].is_empty();
        return Err(if data_only && parts.last().is_some_and(|p| !p.is_empty()) {
            BadOption::Unsupported("lowerdir with data-only layers (::)".to_owned())
        } else {
            option.bad("a list of directories separated by colons")
        });
    }
    Ok(parts.into_iter().map(path).collect())
}

/// Splits at every `separator` that has no backslash before it. Escapes stay.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut i = 0;
        while i < text.len() {
            match text[i] {
                b'\\' if i + 1 < text.len() => i += 2,
                b if b == separator => {
                    rest = Some(&text[i + 1..]);
                    return Some(&text[..i]);
                }
                _ => i += 1,
            }
        }
        rest = None;
        Some(text)
    })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        match bytes.peek() {
            Some(&next) if b == b'\\' && matches!(next, b',' | b':' | b'\\') => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountOptions, BadOption> {
        MountOptions::parse(&[text])
    }

    fn lowers(text: &str) -> Vec<String> {
        parse(text).unwrap().lowers.iter().map(|p| p.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn escapes_protect_commas_colons_and_backslashes() {
        assert_eq!(lowers(r"lowerdir=/a:/b"), ["/a", "/b"]);
        assert_eq!(lowers(r"lowerdir=/a\:b:/c\,d:/e\\"), ["/a:b", "/c,d", r"/e\"]);
        assert_eq!(lowers(r"lowerdir=/plain\backslash"), [r"/plain\backslash"]);
        let o = parse(r"lowerdir=/l,upperdir=/a\,b=c,workdir=/w\:x").unwrap();
        assert_eq!(o.upper.unwrap().to_str(), Some("/a,b=c"));
        assert_eq!(o.work.unwrap().to_str(), Some("/w:x"));
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let raw = OsString::from_vec(b"lowerdir=/\xff:/b".to_vec());
        let o = MountOptions::parse(&[raw]).unwrap();
        assert_eq!(o.lowers[0].as_os_str().as_bytes(), b"/\xff");
    }

    #[test]
    fn empty_items_and_repeated_options_are_fine() {
        let o = MountOptions::parse(&[",,lowerdir=/a,", "", "ro,,rw", "lowerdir=/b:/c"]).unwrap();
        assert_eq!(o.lowers.len(), 2);
        assert_eq!(o.read_only, Some(false));
        assert_eq!(lowers("lowerdir+=/a:b,lowerdir+=/c"), ["/a:b", "/c"]);
    }

    #[test]
    fn what_mount_adds_is_tolerated_and_nonsense_is_named() {
        assert!(parse("rw,defaults,_netdev,nofail,x-systemd.automount,user").is_ok());
        assert!(parse("xino=auto,index=off,metacopy=off,max_write=131072").is_ok());
        assert_eq!(parse("lowerdir=/a,bogus=1"), Err(BadOption::Unknown("bogus".into())));
        assert_eq!(parse("upperdir"), Err(BadOption::NeedsValue("upperdir".into())));
        assert_eq!(parse("lowerdir="), Err(BadOption::NeedsValue("lowerdir".into())));
        assert_eq!(parse("ro=1"), Err(BadOption::TakesNoValue("ro".into())));
        assert!(matches!(parse("timeout=soon"), Err(BadOption::BadValue { .. })));
        assert!(matches!(parse("timeout=-1"), Err(BadOption::BadValue { .. })));
        assert!(matches!(parse("xino=maybe"), Err(BadOption::BadValue { .. })));
        assert!(matches!(parse("lowerdir=/a:"), Err(BadOption::BadValue { .. })));
    }

    #[test]
    fn what_would_change_the_view_is_not_ignored() {
        for o in ["uidmapping=0:1:2", "squash_to_root", "metacopy=on", "lowerdir=/a::/data"] {
            assert!(matches!(parse(o), Err(BadOption::Unsupported(_))), "{o}");
        }
    }

    #[test]
    fn times_may_be_fractions() {
        assert_eq!(parse("timeout=0.5").unwrap().timeout, Some(Duration::from_millis(500)));
        assert!(parse("timeout=1e300").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_path_survives_escaping(raw in proptest::collection::vec(1_u8.., 1..40)) {
            let mut text = b"ro,upperdir=".to_vec();
            for b in &raw {
                if matches!(b, b',' | b':' | b'\\') {
                    text.push(b'\\');
                }
                text.push(*b);
            }
            text.extend_from_slice(b",rw");
            let o = MountOptions::parse(&[OsString::from_vec(text)]).unwrap();
            assert_eq!(o.upper.unwrap().as_os_str().as_bytes(), raw);
            assert_eq!(o.read_only, Some(false));
        }

        #[test]
        fn no_text_makes_it_panic(raw in proptest::collection::vec(0_u8.., 0..60)) {
            drop(MountOptions::parse(&[OsString::from_vec(raw)]));
        }
    }
}
