//! What the tests on the real binary share: places, users, skips with a reason.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::print_stderr
)]

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Says that a test, or a part of it, cannot run here. Not by `eprintln!`, of which the harness
/// shows nothing unless the test fails: a skip must be seen. `.ci/run` counts these lines.
pub fn skip(what: &str, why: &str) {
    let n = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("\nSKIPPED ({n} so far): {what}: {}\n", why.replace('\n', " "));
    // in one write, as other tests write too
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// As whom a test runs the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The user who runs the tests.
pub fn myself() -> User {
    use std::os::unix::fs::MetadataExt;
    let m = std::fs::metadata("/proc/self").unwrap();
    User { uid: m.uid(), gid: m.gid() }
}

pub fn is_root() -> bool {
    myself().uid == 0
}

fn from_passwd(name: &str) -> Option<User> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = table.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut words = line.split(':').skip(2);
    Some(User { uid: words.next()?.parse().ok()?, gid: words.next()?.parse().ok()? })
}

/// An ordinary user, or why there is none: the one who runs the tests, or `strata` for root.
pub fn ordinary() -> Result<User, String> {
    if is_root() {
        from_passwd("strata").ok_or_else(|| "no user 'strata' (useradd -m strata)".to_owned())
    } else {
        Ok(myself())
    }
}

/// Returns why `user` cannot mount here.
pub fn can_mount(user: User) -> Result<(), String> {
    let device = std::fs::metadata("/dev/fuse").map_err(|e| format!("/dev/fuse: {e}"))?;
    if user.uid == 0 {
        return Ok(());
    }
    if device.permissions().mode() & 0o006 != 0o006 {
        return Err("/dev/fuse is closed to ordinary users".to_owned());
    }
    match Command::new("fusermount3").arg("--version").output() {
        Ok(o) if o.status.success() => Ok(()),
        _ => Err("fusermount3 is not installed".to_owned()),
    }
}

/// Everybody as whom a mount can be tried here; the others are skipped with their reason.
pub fn mounters(test: &str) -> Vec<User> {
    let mut out = Vec::new();
    if is_root() {
        match can_mount(myself()) {
            Ok(()) => out.push(myself()),
            Err(why) => skip(&format!("{test} as root"), &why),
        }
    } else {
        skip(&format!("{test} as root"), "the tests are run by an ordinary user");
    }
    match ordinary().and_then(|u| can_mount(u).map(|()| u)) {
        Ok(u) => out.push(u),
        Err(why) => skip(&format!("{test} as an ordinary user"), &why),
    }
    out
}

/// The binary, at a place where every user can run it.
fn binary() -> PathBuf {
    static PLACE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let built = PathBuf::from(env!("CARGO_BIN_EXE_stratafs"));
    let reachable = |user: User| {
        as_user(Command::new(&built).arg("--version"), user)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    PLACE
        .get_or_init(|| {
            if ordinary().map_or(true, reachable) {
                return built.clone();
            }
            // a build directory below a closed home
            let place = std::env::temp_dir().join(format!("stratafs-test-{}", std::process::id()));
            std::fs::copy(&built, &place).unwrap();
            place
        })
        .clone()
}

fn as_user(command: &mut Command, user: User) -> &mut Command {
    if user != myself() {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// A directory with `l`, `u`, `w` and `m` that belongs to a user, and the binary run by him.
pub struct Case {
    dir: tempfile::TempDir,
    pub user: User,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(o: Output) -> Said {
        Said {
            code: o.status.code(),
            out: String::from_utf8_lossy(&o.stdout).into_owned(),
            err: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }
}

impl Said {
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

impl Case {
    pub fn new(user: User) -> Case {
        // not below /tmp, which is a tmpfs without user xattrs on some machines
        let dir = tempfile::Builder::new().prefix("stratafs-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let case = Case { dir, user };
        std::os::unix::fs::chown(case.path(""), Some(user.uid), Some(user.gid)).unwrap();
        case.sh("mkdir l u w m home run && chmod 700 run").ok();
        case
    }

    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.dir.path().to_owned() } else { self.dir.path().join(name) }
    }

    /// A command of this user in this directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut c = Command::new(program);
        as_user(&mut c, self.user)
            .current_dir(self.dir.path())
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("STRATAFS", binary())
            .env("STRATAFS_CACHE", self.path("cache"))
            .env_remove("STRATAFS_ROOT")
            .env_remove("RUST_LOG")
            .env("LC_ALL", "C");
        c
    }

    /// Runs the binary. An unmount is tried again while the mount is in use: programs that other
    /// tests start at this moment hold what this process has open until they are themselves.
    pub fn stratafs(&self, args: &[&str]) -> Said {
        for _ in 0..50 {
            let said: Said = self.command(binary()).args(args).output().unwrap().into();
            if args.first() != Some(&"umount") || !said.err.contains(" is in use") {
                return said;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.command(binary()).args(args).output().unwrap().into()
    }

    /// Runs a shell script; `$STRATAFS` is the binary.
    pub fn sh(&self, script: &str) -> Said {
        self.command("sh").args(["-c", script]).output().unwrap().into()
    }

    /// Mounts `l` and `u` on `m`.
    pub fn mount(&self) -> Mounted<'_> {
        self.stratafs(&["-o", "lowerdir=l,upperdir=u,workdir=w", "m"]).ok();
        Mounted { case: self }
    }

    /// The line of `m` in the table of mounts.
    pub fn mount_line(&self) -> Option<String> {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let point = format!(" {} ", self.path("m").display());
        table.lines().find(|l| l.contains(&point)).map(str::to_owned)
    }

    /// The process that serves `m`, as `mounts --json` tells.
    pub fn daemon(&self) -> Option<u32> {
        self.daemon_at("m")
    }

    /// The process that serves the mount at `name`.
    pub fn daemon_at(&self, name: &str) -> Option<u32> {
        let said = self.stratafs(&["mounts", "--json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let point = self.path(name);
        let own = |l: &&serde_json::Value| l["mount_point"].as_str() == point.to_str();
        let line = list.as_array()?.iter().find(own)?;
        u32::try_from(line["pid"].as_u64()?).ok()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // a failed test must leave no mount behind, or its directory could not be removed
        if self.mount_line().is_some() {
            self.stratafs(&["umount", "--lazy", "m"]);
        }
    }
}

/// A mount that `Case` takes away at the latest.
pub struct Mounted<'a> {
    case: &'a Case,
}

impl Mounted<'_> {
    /// Unmounts and waits for the daemon.
    #[track_caller]
    pub fn unmount(self) {
        self.case.stratafs(&["umount", "m"]).ok();
    }
}

/// Returns whether a process lives; a zombie does not.
pub fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Waits for something that must come true soon; fails after ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut f: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if f() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}

/// Reads a file that must be text.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
