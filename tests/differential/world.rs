//! The two mounts.

use crate::layer;
use crate::switches::{CONTAINERS, SETS, Switches, set};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who mounts, and who works in the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Root mounts, and mostly root works.
    Root,
    /// Root mounts, and mostly others work.
    Others,
    /// As `Root`; every file that is written waits for its blocks (`lazy_copy_up`).
    Lazy,
    /// As `Root`; the kernel holds back what is written (`writeback`).
    Writeback,
    /// As `Root`; ours knows the lowers by snapshots of an earlier mount (`index_cache`). Half of the
    /// cases as in `Remount`, a third of them with `metacopy=on`, both.
    Known,
    /// Root of a user name space that knows no one else. A third of the cases as in `Remount`, half
    /// of them as in `Writeback`.
    Namespace,
    /// As `Root`; after half of the steps each goes on with the other's upper. The kernel mounts
    /// with `redirect_dir=on` alone.
    Redirect,
    /// The same with `metacopy=on`, both.
    Metacopy,
    /// The same with `index=on`.
    Index,
    /// As `Root`; several times between the steps ours is unmounted and mounted again on its own
    /// upper.
    Remount,
    /// The same with `metacopy=on`, both.
    RemountMetacopy,
    /// As `Root`, with the options of a set from `switches`.
    Switches,
    /// As `Root`; ours is a container of an image of the layers, with the options of such a set.
    Image,
}

impl Mode {
    pub const ALL: [Mode; 13] = [
        Mode::Root,
        Mode::Others,
        Mode::Lazy,
        Mode::Writeback,
        Mode::Known,
        Mode::Namespace,
        Mode::Redirect,
        Mode::Metacopy,
        Mode::Index,
        Mode::Remount,
        Mode::RemountMetacopy,
        Mode::Switches,
        Mode::Image,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::Others => "others",
            Mode::Lazy => "lazy",
            Mode::Writeback => "writeback",
            Mode::Known => "known",
            Mode::Namespace => "namespace",
            Mode::Redirect => "redirect",
            Mode::Metacopy => "metacopy",
            Mode::Index => "index",
            Mode::Remount => "remount",
            Mode::RemountMetacopy => "remount-metacopy",
            Mode::Switches => "switches",
            Mode::Image => "image",
        }
    }

    pub fn namespace(self) -> bool {
        self == Mode::Namespace
    }

    /// Whether the uppers are exchanged in the middle.
    pub fn exchanges(self) -> bool {
        matches!(self, Mode::Redirect | Mode::Metacopy | Mode::Index)
    }

    /// Whether hard links are kept in an index.
    pub fn indexes(self) -> bool {
        matches!(self, Mode::Metacopy | Mode::Index)
    }

    /// Options of both where no set says otherwise.
    fn switches(self) -> Switches {
        let (ours, metacopy) = match self {
            Mode::Namespace => ("userxattr,redirect_dir=off", false),
            Mode::Lazy => ("redirect_dir=on,lazy_copy_up=1", false),
            Mode::Writeback => ("redirect_dir=on,writeback", false),
            Mode::Known => ("redirect_dir=on,index_cache", false),
            Mode::Metacopy | Mode::RemountMetacopy => ("redirect_dir=on,metacopy=on", true),
            _ => ("redirect_dir=on", false),
        };
        Switches { metacopy, ..set(ours) }
    }

    /// Where the overlay's marks are.
    pub fn marks(self) -> &'static str {
        if self.namespace() { "user" } else { "trusted" }
    }
}

/// Where an upper is changed, and how it is mounted.
pub struct Mounts {
    pub dir: PathBuf,
    pub mode: Mode,
    pub binary: PathBuf,
    /// Instead of our own for the kernel's mount.
    pub kernel_options: Option<String>,
    /// Options of both, by the mode or by the seed.
    pub switches: Switches,
    /// Whether ours is mounted anew between the steps.
    pub remounts: bool,
}

/// An upper with its work directory.
#[derive(Clone, Debug)]
pub struct Upper {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// It is that of the container.
    pub container: bool,
}

impl Mounts {
    pub fn new(dir: PathBuf, mode: Mode, binary: PathBuf) -> Mounts {
        let kernel_options = std::env::var("STRATAFS_KERNEL_OPTIONS").ok();
        let remounts = matches!(mode, Mode::Remount | Mode::RemountMetacopy);
        Mounts { dir, mode, binary, kernel_options, switches: mode.switches(), remounts }
    }

    /// Takes the options of a seed. Returns what they are called.
    pub fn choose(&mut self, seed: u64) -> String {
        let seed = usize::try_from(seed).unwrap();
        let sets = match self.mode {
            Mode::Switches => &SETS[..],
            Mode::Image => &CONTAINERS[..],
            Mode::Namespace => {
                self.remounts = seed % 3 == 2;
                let ours = ["userxattr,redirect_dir=off", "userxattr,redirect_dir=off,writeback"];
                self.switches = set(ours[seed % 2]);
                return format!("[{}]", self.switches.ours);
            }
            Mode::Known => {
                self.remounts = seed % 2 == 1;
                if seed % 3 == 2 {
                    let ours = "redirect_dir=on,metacopy=on,index_cache";
                    self.switches = Switches { metacopy: true, ..set(ours) };
                }
                return format!("[{}]", self.switches.ours);
            }
            _ => return String::new(),
        };
        let wanted = std::env::var("STRATAFS_SWITCHES").unwrap_or_default();
        let sets: Vec<_> = sets.iter().filter(|s| s.ours.contains(&wanted)).collect();
        assert!(!sets.is_empty(), "no set of options contains {wanted}");
        self.switches = *sets[seed % sets.len()];
        // every other time that a set has its turn
        self.remounts = seed / sets.len() % 2 == 1;
        let how = if self.remounts { "with remounts" } else { "without remounts" };
        format!("[{}] {how}", self.switches.ours)
    }

    /// A fresh upper.
    pub fn upper(&self, name: &str) -> Upper {
        let upper = self.dir.join(format!("{name}-upper"));
        std::fs::create_dir(&upper).unwrap();
        layer::open_to_all(&upper);
        layer::set_old(&upper);
        self.with_work(&upper, name)
    }

    /// An upper that exists, with a fresh work directory.
    pub fn with_work(&self, upper: &Path, name: &str) -> Upper {
        let work = self.dir.join(format!("{name}-work"));
        std::fs::create_dir(&work).unwrap();
        Upper { upper: upper.to_owned(), work, container: false }
    }

    pub fn point(&self, name: &str) -> PathBuf {
        let point = self.dir.join(format!("{name}-mount"));
        std::fs::create_dir_all(&point).unwrap();
        point
    }

    fn stack(lowers: &[PathBuf], upper: Option<&Upper>) -> String {
        let list: Vec<_> = lowers.iter().map(|l| l.to_str().unwrap()).collect();
        let mut text = format!("lowerdir={}", list.join(":"));
        if let Some(u) = upper {
            text += &format!(",upperdir={},workdir={}", u.upper.display(), u.work.display());
        }
        text
    }

    /// The kernel's overlayfs, with options of its own or those given.
    pub fn kernel(
        &self,
        lowers: &[PathBuf],
        upper: Option<&Upper>,
        plain: bool,
    ) -> Result<PathBuf, String> {
        let point = self.point("kernel");
        let mut lowers = lowers.to_vec();
        if let ([_], None) = (&lowers[..], upper) {
            // it mounts no single directory
            let empty = self.dir.join("empty");
            std::fs::create_dir_all(&empty).unwrap();
            lowers.push(empty);
        }
        let mut options = Mounts::stack(&lowers, upper) + ",";
        match self.kernel_options.as_deref() {
            Some(o) if !plain => options += o,
            _ => options += &self.for_kernel(plain),
        }
        let data = CString::new(options.clone()).unwrap();
        let flags = MountFlags::empty();
        match rustix::mount::mount("overlay", &point, "overlay", flags, data.as_c_str()) {
            Ok(()) => Ok(point),
            Err(e) => Err(format!("the kernel does not mount {options}: {e}")),
        }
    }

    /// `plain`: an upper is only looked at, and need not be one of the kernel's.
    fn for_kernel(&self, plain: bool) -> String {
        let on = |yes| if yes { "on" } else { "off" };
        // in a mode in which uppers are exchanged the same options are used for every mount
        let index = match self.mode.exchanges() {
            true => self.mode.indexes(),
            false => !plain,
        };
        let redirects = self.switches.redirects || plain;
        // which the kernel has with redirects alone
        let metacopy = self.switches.metacopy && redirects;
        let redirects = match self.mode.namespace() {
            true => "userxattr".to_owned(),
            false => format!("redirect_dir={}", on(redirects)),
        };
        format!("{redirects},index={},metacopy={}", on(index), on(metacopy))
    }

    pub fn unmount_kernel(&self) -> Result<(), String> {
        rustix::mount::unmount(self.point("kernel"), UnmountFlags::empty())
            .map_err(|e| format!("unmounting the kernel's: {e}"))
    }

    /// Ours, in the drop-in form, if it is not the container.
    pub fn ours(&self, lowers: &[PathBuf], upper: Option<&Upper>) -> Result<PathBuf, String> {
        let point = self.point("ours");
        if upper.is_some_and(|u| u.container) {
            return self.mount_container(&point).map(|()| point);
        }
        let switches =
            if self.mode == Mode::Image { "redirect_dir=on" } else { self.switches.ours };
        if self.mode == Mode::Known {
            self.learn(lowers, &point)?;
        }
        let options = Mounts::stack(lowers, upper) + "," + switches;
        self.stratafs(&["-o".as_ref(), options.as_ref(), point.as_os_str()])?;
        if self.mode == Mode::Known {
            self.wait_until_known(lowers.len(), &point)?;
        }
        Ok(point)
    }

    /// Mounts the lowers until all of them have snapshots.
    fn learn(&self, lowers: &[PathBuf], point: &Path) -> Result<(), String> {
        let options = Mounts::stack(lowers, None) + ",index_cache";
        self.stratafs(&["-o".as_ref(), options.as_ref(), point.as_os_str()])?;
        self.wait_until_known(lowers.len(), point)?;
        self.unmount_ours()
    }

    /// Waits until the daemon knows each lower, or has noted that it cannot: then the disk is asked.
    fn wait_until_known(&self, lowers: usize, point: &Path) -> Result<(), String> {
        // of a file that says so there is a header alone
        let unfit = |e: &std::fs::DirEntry| e.metadata().is_ok_and(|m| m.len() == 48);
        for _ in 0..1000 {
            let said = self.stratafs(&["stats".as_ref(), "--json".as_ref(), point.as_os_str()])?;
            let stats: serde_json::Value =
                serde_json::from_str(&said).map_err(|e| e.to_string())?;
            let known = stats["known_lowers"].as_u64().unwrap_or(0);
            let cache = std::fs::read_dir(self.dir.join("cache/lowers")).into_iter().flatten();
            let unfit = cache.filter_map(Result::ok).filter(unfit).count() as u64;
            if known + unfit >= lowers as u64 {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Err(format!("the snapshots of {lowers} lowers are not in use"))
    }

    /// Unmounts and waits for the daemon.
    pub fn unmount_ours(&self) -> Result<(), String> {
        let point = self.point("ours");
        self.stratafs(&["umount".as_ref(), point.as_os_str()]).map(drop)
    }

    /// Runs ours; returns what it printed.
    pub fn stratafs(&self, args: &[&OsStr]) -> Result<String, String> {
        let said = Command::new(&self.binary)
            .args(args)
            .env("STRATAFS_CACHE", self.dir.join("cache"))
            .output();
        let said = said.map_err(|e| format!("{}: {e}", self.binary.display()))?;
        if said.status.success() {
            Ok(String::from_utf8_lossy(&said.stdout).into_owned())
        } else {
            let args: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
            let error = String::from_utf8_lossy(&said.stderr);
            Err(format!("stratafs {}: {error}", args.join(" ")))
        }
    }

    /// Takes away whatever a failed case has left mounted.
    pub fn clear(&self) {
        for name in ["ours", "kernel"] {
            let point = self.dir.join(format!("{name}-mount"));
            while rustix::mount::unmount(&point, UnmountFlags::DETACH).is_ok() {}
        }
    }
}
