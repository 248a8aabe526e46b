//! The grammar of `-o`: `key=value` items, separated by commas.
//!
//! A backslash takes its meaning from a comma, a colon or a backslash; before anything else it is
//! itself. Two of them before a colon are taken for one, because command lines for fuse-overlayfs
//! 1.x escape twice. Empty items mean nothing. `-o` may be given several times; of contradicting
//! options the last one counts. What changes nothing is listed in [`WITHOUT_EFFECT`].

mod grammar;
mod ignored;
#[cfg(test)]
mod tests;

pub use ignored::WITHOUT_EFFECT;

use crate::fuse::Passthrough;
use crate::index_cache::Trust;
use crate::name::printable;
use crate::overlay::{DirLinks, IdRange, LowerChanges, Records, WhiteoutNames};
use grammar::{Item, directories, items, label, path, ranges};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
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
    /// Two that cannot both be had.
    #[error("mount options '{0}' and '{1}' exclude each other")]
    Exclusive(&'static str, &'static str),
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

/// A file of so many bytes is copied in a few milliseconds.
const LAZY_FROM: u64 = 4 << 20;

/// The options of a mount, as given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountOptions {
    /// Lower directories, top first.
    pub lowers: Vec<PathBuf>,
    /// Lower directories that only give data to metacopy files above them.
    pub data_only: Vec<PathBuf>,
    /// Upper directory.
    pub upper: Option<PathBuf>,
    /// Work directory.
    pub work: Option<PathBuf>,
    /// `ro` or `rw`.
    pub read_only: Option<bool>,
    /// Other users may enter.
    pub allow_other: bool,
    /// Root may enter, besides the mounter.
    pub allow_root: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// `remount`: a mount that is there gets other flags.
    pub remount: bool,
    /// `suid` or `nosuid`.
    pub suid: Option<bool>,
    /// `dev` or `nodev`.
    pub dev: Option<bool>,
    /// `exec` or `noexec`.
    pub exec: Option<bool>,
    /// `atime`, `relatime` and `strictatime`, which are one, or `noatime`.
    pub atime: Option<bool>,
    /// `diratime` or `nodiratime`.
    pub diratime: Option<bool>,
    /// `symfollow` or `nosymfollow`, which only a remount takes: it stays.
    pub symfollow: Option<bool>,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dirsync: bool,
    /// For how long names and attributes may be trusted.
    pub timeout: Option<Duration>,
    /// What becomes of changes that others make to the lower directories.
    pub lower_changes: Option<LowerChanges>,
    /// Snapshots of the lower directories are kept, and when they are believed. Without
    /// `lower_changes` nobody is expected to edit the lowers.
    pub index_cache: Option<Trust>,
    /// How many directories may be watched for such changes.
    pub max_watches: Option<usize>,
    /// Inode numbers are below 2^32.
    pub short_numbers: bool,
    /// Number of threads.
    pub threads: Option<usize>,
    /// Renamed directories leave a redirect.
    pub redirect_dir: Option<bool>,
    /// A directory of the lowers is renamed by copying it.
    pub rename_by_copy: bool,
    /// Redirects in the layers are followed.
    pub follow_redirects: Option<bool>,
    /// A change of attributes copies up no data.
    pub metacopy: Option<bool>,
    /// How users are shown.
    pub uids: Vec<IdRange>,
    /// How groups are shown.
    pub gids: Vec<IdRange>,
    /// Everything is shown as root's.
    pub squash_to_root: bool,
    /// Everything is shown as this user's.
    pub squash_to_uid: Option<u32>,
    /// Everything is shown as this group's.
    pub squash_to_gid: Option<u32>,
    /// Owners and modes are recorded rather than set.
    pub records: Option<Records>,
    /// Directories have a link count of 1.
    pub static_nlink: bool,
    /// No extended attributes.
    pub noxattrs: bool,
    /// No POSIX ACLs.
    pub noacl: bool,
    /// The largest write in one request, in bytes.
    pub max_write: Option<u32>,
    /// Which files the kernel reads and writes by itself.
    pub passthrough: Passthrough,
    /// The kernel holds writes back. Without `lower_changes` nobody is expected to edit the lowers.
    pub writeback: bool,
    /// Security contexts for the security module of the kernel: name of the option and value.
    pub labels: Vec<(String, OsString)>,
    /// The overlay's own attributes are in `user.overlay.*`, as the kernel's `userxattr`.
    pub userxattr: bool,
    /// Nothing is made durable.
    pub volatile: bool,
    /// A copied file is on disk before it gets its name.
    pub strict_sync: bool,
    /// From how many bytes on a file is copied up block by block.
    pub lazy_from: Option<u64>,
    /// Root of the store, for a source that is an image or a container.
    pub root: Option<PathBuf>,
    /// What the table of mounts shows as the source.
    pub fs_name: Option<OsString>,
    /// What names that begin with `.wh.` are; set by how the program was called.
    pub whiteout_names: WhiteoutNames,
    /// How many links directories show; set by how the program was called.
    pub dir_links: DirLinks,
    /// Say everything on standard error.
    pub debug: bool,
}

impl MountOptions {
    /// Reads the values of all `-o` of a command line, in their order.
    pub fn parse<S: AsRef<OsStr>>(args: &[S]) -> Result<MountOptions, BadOption> {
        let mut o = MountOptions::default();
        for arg in args {
            items(arg.as_ref().as_bytes()).try_for_each(|item| o.take(item))?;
        }
        o.checked()
    }

    /// As [`MountOptions::parse`], but leaves out unknown options and returns their names: what
    /// `mount -s` asks for.
    pub fn parse_sloppily<S: AsRef<OsStr>>(
        args: &[S],
    ) -> Result<(MountOptions, Vec<String>), BadOption> {
        let mut o = MountOptions::default();
        let mut unknown = Vec::new();
        for arg in args {
            for item in items(arg.as_ref().as_bytes()) {
                match o.take(item) {
                    Err(BadOption::Unknown(name)) => unknown.push(name),
                    done => done?,
                }
            }
        }
        Ok((o.checked()?, unknown))
    }

    fn checked(self) -> Result<MountOptions, BadOption> {
        if self.symfollow == Some(false) && !self.remount {
            return Err(BadOption::Unsupported("nosymfollow".to_owned()));
        }
        if self.writeback && self.passthrough == Passthrough::On {
            return Err(BadOption::Exclusive("writeback", "passthrough=on"));
        }
        // either leaves nobody to look at the lowers
        let blind = [("writeback", self.writeback), ("index_cache", self.index_cache.is_some())];
        let looks = match self.lower_changes {
            None | Some(LowerChanges::Ignore) => None,
            Some(LowerChanges::Watch) => Some("lower_changes=watch"),
            Some(LowerChanges::Timeout) => Some("lower_changes=timeout"),
        };
        if let (Some((option, _)), Some(looks)) = (blind.iter().find(|(_, on)| *on), looks) {
            return Err(BadOption::Exclusive(option, looks));
        }
        Ok(self)
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
            "lowerdir" => (self.lowers, self.data_only) = directories(option)?,
            // the kernel's form for many layers: one per option, without escapes for colons
            "lowerdir+" => self.lowers.push(path(option.value()?)),
            "datadir+" => self.data_only.push(path(option.value()?)),
            "upperdir" => self.upper = Some(path(option.value()?)),
            "workdir" => self.work = Some(path(option.value()?)),
            "ro" => self.read_only = option.flag(true)?,
            "rw" => self.read_only = option.flag(false)?,
            "remount" => self.remount = option.flag(true)?.is_some(),
            "suid" => self.suid = option.flag(true)?,
            "nosuid" => self.suid = option.flag(false)?,
            "dev" => self.dev = option.flag(true)?,
            "nodev" => self.dev = option.flag(false)?,
            "exec" => self.exec = option.flag(true)?,
            "noexec" => self.exec = option.flag(false)?,
            "atime" | "relatime" | "strictatime" => self.atime = option.flag(true)?,
            "noatime" => self.atime = option.flag(false)?,
            "diratime" => self.diratime = option.flag(true)?,
            "nodiratime" => self.diratime = option.flag(false)?,
            "symfollow" => self.symfollow = option.flag(true)?,
            "nosymfollow" => self.symfollow = option.flag(false)?,
            // with a number it is fsync= under another name
            "fsync" => match option.value {
                // as Linux' overlayfs names them; a number as in fuse-overlayfs
                Some(b"strict") => self.strict_sync = true,
                Some(b"auto") => self.strict_sync = false,
                Some(b"volatile") => self.volatile = true,
                _ => self.volatile = !option.number_as_bool()?,
            },
            "sync" if option.value.is_some() => self.volatile = !option.number_as_bool()?,
            "sync" => self.sync = option.flag(true)?.is_some(),
            "async" => self.sync = option.flag(false)?.is_none(),
            "dirsync" => self.dirsync = option.flag(true)?.is_some(),
            "allow_other" => self.allow_other = option.flag(true)?.is_some(),
            "allow_root" => self.allow_root = option.flag(true)?.is_some(),
            "default_permissions" => self.default_permissions = option.flag(true)?.is_some(),
            "userxattr" => self.userxattr = option.flag(true)?.is_some(),
            "volatile" => self.volatile = option.flag(true)?.is_some(),
            "debug" => self.debug = option.flag(true)?.is_some(),
            "timeout" => self.timeout = Some(option.seconds()?),
            "lower_changes" => {
                self.lower_changes =
                    Some(match option.one_of(&["watch", "timeout", "ignore"])? {
                        "watch" => LowerChanges::Watch,
                        "ignore" => LowerChanges::Ignore,
                        _ => LowerChanges::Timeout,
                    });
            }
            "lazy_copy_up" => {
                let least = option.value.map_or(Ok(LAZY_FROM), |_| option.bytes().map(u64::from));
                self.lazy_from = Some(least?);
            }
            "index_cache" => {
                self.index_cache = match option.value {
                    None => Some(Trust::Compared),
                    Some(_) => match option.one_of(&["on", "off", "immutable"])? {
                        "on" => Some(Trust::Compared),
                        "immutable" => Some(Trust::Immutable),
                        _ => None,
                    },
                }
            }
            "max_watches" => self.max_watches = Some(option.count()?),
            "xino" => self.short_numbers = option.one_of(&["on", "off", "auto"])? == "off",
            "noxino" => self.short_numbers = option.flag(true)?.is_some(),
            "ino32_t" if option.value.is_some() => {
                self.short_numbers = option.number_as_bool()?;
            }
            "ino32_t" => self.short_numbers = true,
            "threads" => self.threads = Some(option.threads()?),
            "root" => self.root = Some(path(option.value()?)),
            "fsname" => self.fs_name = Some(path(option.value()?).into_os_string()),
            "redirect_dir" => {
                let how = option.one_of(&["on", "off", "follow", "nofollow", "copy"])?;
                self.redirect_dir = Some(how == "on");
                self.rename_by_copy = how == "copy";
                self.follow_redirects = Some(how != "nofollow");
            }
            "metacopy" => self.metacopy = Some(option.one_of(&["on", "off"])? == "on"),
            "uidmapping" => self.uids = ranges(option)?,
            "gidmapping" => self.gids = ranges(option)?,
            "squash_to_root" => self.squash_to_root = option.flag(true)?.is_some(),
            "squash_to_uid" => self.squash_to_uid = Some(option.id()?),
            "squash_to_gid" => self.squash_to_gid = Some(option.id()?),
            "xattr_permissions" => {
                self.records = match option.one_of(&["0", "1", "2"])? {
                    "1" => Some(Records::Privileged),
                    "2" => Some(Records::Containers),
                    _ => None,
                }
            }
            "static_nlink" => self.static_nlink = option.flag(true)?.is_some(),
            "noxattrs" if option.value.is_none() => self.noxattrs = true,
            "noxattrs" => self.noxattrs = option.number_as_bool()?,
            "acl" => self.noacl = option.flag(false)?.is_none(),
            "noacl" => self.noacl = option.flag(true)?.is_some(),
            "max_write" => self.max_write = Some(option.bytes()?),
            "passthrough" => {
                self.passthrough = match option.one_of(&["on", "off", "auto"])? {
                    "on" => Passthrough::On,
                    "off" => Passthrough::Off,
                    _ => Passthrough::Auto,
                }
            }
            "writeback" | "writeback_cache" => {
                self.writeback = option.value.is_none() || option.on_or_off()?;
            }
            "context" | "fscontext" | "defcontext" | "rootcontext" => {
                self.labels.push((key_text.clone(), label(option)?));
            }
            name => ignored::check(name, option)?,
        }
        Ok(())
    }
}
