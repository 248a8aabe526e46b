//! The drop-in form: `stratafs -o lowerdir=…,upperdir=…,workdir=… DIR` as fuse-overlayfs takes it,
//! and `stratafs SOURCE DIR -o …` as mount(8) calls it.

use super::daemon::{self, Job, What};
use super::mount_options::{BadOption, MountOptions};
use super::stack::{self, Target};
use super::{CliError, Context, Global, output, remount, root};
use crate::overlay::{DirLinks, WhiteoutNames};
use std::cell::LazyCell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// As what the program was called. By all names but its own, every command line is of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    /// By its own name.
    Itself,
    /// `fuse-overlayfs`, whose failures all end with status 1.
    FuseOverlayfs,
    /// `mount.stratafs` or the like: mount(8) has its own meaning of `-f` (do all but mount), `-s`
    /// (leave out what is unknown) and `-N`, and ends with status 1 for wrong usage and 32 for a
    /// mount that failed.
    Helper,
}

impl Called {
    fn by(name: &str) -> Called {
        match name {
            "fuse-overlayfs" => Called::FuseOverlayfs,
            "mount.stratafs" | "mount.fuse.stratafs" | "mount.fuse" => Called::Helper,
            _ => Called::Itself,
        }
    }

    fn status_of(self, e: CliError) -> CliError {
        match self {
            Called::Itself => e,
            Called::FuseOverlayfs => e.with_statuses(1, 1),
            Called::Helper => e.with_statuses(32, 1),
        }
    }
}

/// Set to anything, it makes fuse-overlayfs write whiteouts as names rather than as devices.
const NO_DEVICES: &str = "FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT";

/// A command line of the drop-in form.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    called: Called,
    args: Vec<OsString>,
}

/// Returns the drop-in form if `args`, the program's name first, are of it. `is_command` tells
/// whether a word is the name of a command that we have; it is asked late, as it takes a while.
#[must_use]
pub fn recognize(args: &[OsString], is_command: impl Fn(&str) -> bool) -> Option<Form> {
    let (program, rest) = args.split_first()?;
    let name = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let called = Called::by(name);
    let form = || Some(Form { called, args: rest.to_vec() });
    if called != Called::Itself {
        return form();
    }
    let globals = LazyCell::new(Global::options);
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else { break };
        if text.starts_with("-o") || matches!(text, "-f" | "-d" | "-s" | "--foreground" | "--debug")
        {
            return form();
        }
        if !text.starts_with('-') {
            if is_command(text) || text == "help" {
                return None;
            }
            break;
        }
        if let Some((_, true)) = globals.iter().find(|(name, _)| name == text) {
            words.next();
        }
    }
    // no command: a source, then, if options follow
    if rest.iter().any(|a| a.as_bytes().starts_with(b"-o")) { form() } else { None }
}

#[derive(Debug, Default, PartialEq)]
struct Parsed {
    options: Vec<OsString>,
    places: Vec<OsString>,
    foreground: bool,
    /// Do everything but mount.
    fake: bool,
    /// Unknown mount options are left out.
    sloppy: bool,
    debug: bool,
    verbose: u8,
    root: Option<PathBuf>,
    help: bool,
    version: bool,
}

fn parse(called: Called, args: &[OsString]) -> Result<Parsed, CliError> {
    let helper = called == Called::Helper;
    let mut p = Parsed::default();
    let mut words = args.iter();
    let mut only_places = false;
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if only_places || !bytes.starts_with(b"-") || bytes == b"-" {
            p.places.push(word.clone());
            continue;
        }
        let mut value = |name: &str| {
            words.next().cloned().ok_or_else(|| CliError::usage(format!("{name} needs a value")))
        };
        match bytes {
            b"--" => only_places = true,
            b"-o" => p.options.push(value("-o")?),
            b"-t" => drop(value("-t")?),
            b"--root" => p.root = Some(value("--root")?.into()),
            b"-f" if helper => p.fake = true,
            b"-s" if helper => p.sloppy = true,
            b"-N" if helper => {
                return Err(CliError::usage("mounting in another namespace is not supported"));
            }
            b"-f" | b"--foreground" => p.foreground = true,
            // as in libfuse: debugging stays in the foreground
            b"-d" | b"--debug" => (p.foreground, p.debug) = (true, true),
            b"-s" => p.options.push("threads=1".into()),
            b"-r" => p.options.push("ro".into()),
            b"-w" => p.options.push("rw".into()),
            b"-n" => {}
            b"-v" | b"--verbose" => p.verbose = p.verbose.saturating_add(1),
            b"-h" | b"--help" => p.help = true,
            b"-V" | b"--version" => p.version = true,
            _ => match bytes.strip_prefix(b"-o") {
                Some(rest) => p.options.push(OsStr::from_bytes(rest).to_owned()),
                None => {
                    return Err(CliError::usage(format!("unknown option {}", word.display()))
                        .hint("stratafs --help"));
                }
            },
        }
    }
    Ok(p)
}

const HELP: &str = "\
Usage: stratafs [OPTIONS] [SOURCE] DIR -o lowerdir=TOP:..:BOTTOM[,upperdir=DIR,workdir=DIR][,..]

Stacks directories and mounts the result on DIR, as fuse-overlayfs does.

  -o OPTIONS        mount options, separated by commas; a backslash before a comma or colon
                    makes it part of a name
  -f, --foreground  stay in the foreground
  -d, --debug       stay in the foreground and log everything
  -v, --verbose     log more
      --root DIR    the layer store, when SOURCE is an image or a container
  -V, --version     print the version
  -h, --help        print this

Mount options:
  lowerdir=A:B[::DATA], lowerdir+=A, datadir+=A, upperdir=A, workdir=A, ro
  redirect_dir=on|off|follow|nofollow|copy, metacopy=on|off, userxattr
  volatile, fsync=auto|strict|0|1 (a copied file is on disk soon after, or before, it has its name)
  lazy_copy_up[=BYTES]: the first write to a lower file of so many bytes (4 MiB) or more copies
    what it touches; the rest comes in the background, at fsync and at unmount
  uidmapping=STORED:SHOWN:COUNT[:..], gidmapping=.., squash_to_root, squash_to_uid=N, squash_to_gid=N
  xattr_permissions=1|2, noxattrs, noacl, static_nlink, context=..
  allow_other, allow_root, default_permissions, [no]suid, [no]dev, [no]exec, noatime, nodiratime,
  sync, dirsync; remount[,ro|rw|..] changes such flags of a mount that is there
  (noatime by remount does not reach the upper: that takes a new mount)
  index_cache[=on|immutable|off]: the next mount asks a snapshot of the lowers in the place of the
    disk: once all of it was compared, or by your word that nobody changes a layer
  lower_changes=watch|timeout|ignore, max_watches=N, timeout=SECONDS, threads=N, max_write=BYTES,
  writeback[=1|0] (small writes are sent together; a full disk is told at the close)
  fsname=NAME, passthrough=on|off|auto, xino=on|auto|off (off: inode numbers below 2^32), debug
Accepted without effect: what mount(8) adds, and fast_ino, index, nfs_export, threaded and the like.
";

/// Mounts.
///
/// # Errors
/// What failed, with what may help.
pub fn run(form: &Form) -> Result<(), CliError> {
    mount(form).map_err(|e| form.called.status_of(e))
}

fn mount(form: &Form) -> Result<(), CliError> {
    let p = parse(form.called, &form.args)?;
    if p.version {
        return output::print(concat!("stratafs: version ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    if p.help {
        return output::print(HELP);
    }
    let bad = |e: BadOption| CliError::usage(e.to_string());
    // mount(8) adds what the kernel says of the mount that is there, in its own words
    let (options, left_out) = if p.sloppy || names_remount(&p.options) {
        MountOptions::parse_sloppily(&p.options).map_err(bad)?
    } else {
        (MountOptions::parse(&p.options).map_err(bad)?, Vec::new())
    };
    let (source, mount_point) = match p.places.as_slice() {
        [] => return Err(CliError::usage("the mount point is missing")),
        [dir] => (None, dir),
        [source, dir] => (Some(source), dir),
        [_, _, more, ..] => {
            return Err(CliError::usage(format!("one word too many: {}", more.display())));
        }
    };
    if options.remount {
        return if p.fake { Ok(()) } else { remount::remount(Path::new(mount_point), &options) };
    }
    let mut options = options;
    options.whiteout_names = if std::env::var_os(NO_DEVICES).is_some() {
        WhiteoutNames::Written
    } else if form.called == Called::FuseOverlayfs {
        WhiteoutNames::Read
    } else {
        WhiteoutNames::Ordinary
    };
    if form.called == Called::FuseOverlayfs {
        options.dir_links = DirLinks::Counted;
    }
    let debug = p.debug || options.debug;
    let context = Context {
        root: root::choose(p.root.or_else(|| options.root.clone()))?,
        json: false,
        quiet: false,
        verbose: if debug { 3 } else { p.verbose },
    };
    for name in left_out {
        log::info!("unknown mount option '{name}' left out");
    }
    let what = what(source, &options)?;
    if p.fake {
        return Ok(());
    }
    let mount_point = mount_point.into();
    let foreground = p.foreground || options.debug;
    if let (Some(source), None, What::Directories) = (source, &options.fs_name, &what) {
        options.fs_name = Some(source.clone());
    }
    daemon::start(&Job { what, mount_point, options, foreground, log: None }, &context)
}

fn names_remount(options: &[OsString]) -> bool {
    let items = options.iter().flat_map(|o| o.as_bytes().split(|b| *b == b','));
    items.into_iter().any(|item| item == b"remount")
}

/// Directories, or, for `mount -t fuse.stratafs IMAGE DIR`, what the source names in the store.
fn what(source: Option<&OsString>, options: &MountOptions) -> Result<What, CliError> {
    match source.and_then(|s| s.to_str()) {
        Some(name) if !options.names_directories() => {
            Ok(What::Store(Target { name: name.to_owned(), rw: false, container: None }))
        }
        _ => stack::check_directories(options).map(|()| What::Directories),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn is_compat(line: &str) -> bool {
        recognize(&args(line), |word| ["mount", "umount"].contains(&word)).is_some()
    }

    #[test]
    fn commands_are_commands_and_the_rest_is_the_drop_in_form() {
        assert!(is_compat("stratafs -o lowerdir=/a /m"));
        assert!(is_compat("stratafs -olowerdir=/a /m"));
        assert!(is_compat("stratafs -f -o lowerdir=/a /m"));
        assert!(is_compat("stratafs none /m -o lowerdir=/a"));
        assert!(is_compat("stratafs --root /r none /m -o ro"));
        assert!(is_compat("stratafs -v -o lowerdir=/a /m"));
        assert!(is_compat("/x/fuse-overlayfs --version"));
        assert!(is_compat("/sbin/mount.fuse.stratafs img /m"));
        assert!(!is_compat("stratafs mount -o lowerdir=/a /m"));
        assert!(!is_compat("stratafs --root /r mount x /m -o ro"));
        assert!(!is_compat("stratafs --json umount /m"));
        assert!(!is_compat("stratafs --help"));
        assert!(!is_compat("stratafs frobnicate /m"));
        assert!(!is_compat("stratafs"));
    }

    #[test]
    fn both_orders_of_arguments_are_understood() {
        let parse = |args: &[OsString]| parse(Called::Itself, args);
        let a = parse(&args("-o ro,suid -f /m")).unwrap();
        let b = parse(&args("-f /m -oro,suid")).unwrap();
        assert_eq!(a, b);
        let c = parse(&args("none /m -t fuse.stratafs -n -o ro -- -odd")).unwrap();
        assert_eq!(c.places, ["none", "/m", "-odd"]);
        assert!(parse(&args("-o")).is_err());
        assert!(parse(&args("--bogus /m")).is_err());
        assert!(parse(&args("-d /m")).unwrap().foreground);
    }

    #[test]
    fn mount_8_has_its_own_meaning_of_some_letters() {
        let p = parse(Called::Helper, &args("img /m -sf -o rw")).err();
        assert!(p.is_some(), "util-linux gives them one by one");
        let p = parse(Called::Helper, &args("img /m -s -f -n -v -o rw -t fuse.stratafs")).unwrap();
        assert!(p.sloppy && p.fake && !p.foreground);
        assert_eq!(p.options, ["rw"]);
        assert!(parse(Called::Helper, &args("img /m -N /proc/1/ns/mnt")).is_err());
        let p = parse(Called::FuseOverlayfs, &args("-f -s /m")).unwrap();
        assert!(p.foreground && !p.fake && !p.sloppy);
    }
}
