//! The two mounts.

use crate::layer;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
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
    /// Root of a user name space that knows no one else.
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
}

impl Mode {
    pub const ALL: [Mode; 9] = [
        Mode::Root,
        Mode::Others,
        Mode::Lazy,
        Mode::Namespace,
        Mode::Redirect,
        Mode::Metacopy,
        Mode::Index,
        Mode::Remount,
        Mode::RemountMetacopy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::Others => "others",
            Mode::Lazy => "lazy",
            Mode::Namespace => "namespace",
            Mode::Redirect => "redirect",
            Mode::Metacopy => "metacopy",
            Mode::Index => "index",
            Mode::Remount => "remount",
            Mode::RemountMetacopy => "remount-metacopy",
        }
    }

    pub fn namespace(self) -> bool {
        self == Mode::Namespace
    }

    /// Whether the uppers are exchanged in the middle.
    pub fn exchanges(self) -> bool {
        self.kernel().is_some()
    }

    /// Whether ours is mounted anew between the steps.
    pub fn remounts(self) -> bool {
        matches!(self, Mode::Remount | Mode::RemountMetacopy)
    }

    fn metacopy(self) -> bool {
        matches!(self, Mode::Metacopy | Mode::RemountMetacopy)
    }

    /// Whether hard links are kept in an index.
    pub fn indexes(self) -> bool {
        matches!(self, Mode::Metacopy | Mode::Index)
    }

    /// The kernel's options in a mode in which the same are used for every mount.
    fn kernel(self) -> Option<&'static str> {
        match self {
            Mode::Redirect => Some("redirect_dir=on,index=off,metacopy=off"),
            Mode::Metacopy => Some("redirect_dir=on,index=on,metacopy=on"),
            Mode::Index => Some("redirect_dir=on,index=on,metacopy=off"),
            _ => None,
        }
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
}

/// An upper with its work directory.
#[derive(Clone, Debug)]
pub struct Upper {
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Mounts {
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
        Upper { upper: upper.to_owned(), work }
    }

    fn point(&self, name: &str) -> PathBuf {
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
        let mut options = Mounts::stack(lowers, upper) + ",";
        options += match self.kernel_options.as_deref() {
            Some(o) if !plain => o,
            _ if self.mode.exchanges() => self.mode.kernel().unwrap_or_default(),
            _ if self.mode.namespace() && plain => "userxattr,index=off,metacopy=off",
            _ if self.mode.namespace() => "userxattr,index=on,metacopy=off",
            _ if self.mode.metacopy() && plain => "redirect_dir=on,index=off,metacopy=on",
            _ if self.mode.metacopy() => "redirect_dir=on,index=on,metacopy=on",
            _ if plain => "redirect_dir=on,index=off,metacopy=off",
            _ => "redirect_dir=on,index=on,metacopy=off",
        };
        let data = CString::new(options.clone()).unwrap();
        let flags = MountFlags::empty();
        match rustix::mount::mount("overlay", &point, "overlay", flags, data.as_c_str()) {
            Ok(()) => Ok(point),
            Err(e) => Err(format!("the kernel does not mount {options}: {e}")),
        }
    }

    pub fn unmount_kernel(&self) -> Result<(), String> {
        rustix::mount::unmount(self.point("kernel"), UnmountFlags::empty())
            .map_err(|e| format!("unmounting the kernel's: {e}"))
    }

    /// Ours, in the drop-in form.
    pub fn ours(&self, lowers: &[PathBuf], upper: Option<&Upper>) -> Result<PathBuf, String> {
        let point = self.point("ours");
        let mut options = Mounts::stack(lowers, upper);
        options +=
            if self.mode.namespace() { ",userxattr,redirect_dir=off" } else { ",redirect_dir=on" };
        if self.mode.metacopy() {
            options += ",metacopy=on";
        }
        if self.mode == Mode::Lazy {
            options += ",lazy_copy_up=1";
        }
        let said = Command::new(&self.binary).arg("-o").arg(&options).arg(&point).output();
        let said = said.map_err(|e| format!("{}: {e}", self.binary.display()))?;
        if said.status.success() {
            Ok(point)
        } else {
            Err(format!("stratafs -o {options}: {}", String::from_utf8_lossy(&said.stderr)))
        }
    }

    /// Unmounts and waits for the daemon.
    pub fn unmount_ours(&self) -> Result<(), String> {
        let said = Command::new(&self.binary).arg("umount").arg(self.point("ours")).output();
        let said = said.map_err(|e| e.to_string())?;
        if said.status.success() {
            Ok(())
        } else {
            Err(format!("stratafs umount: {}", String::from_utf8_lossy(&said.stderr)))
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
