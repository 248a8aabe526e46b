//! Sets of mount options that must change nothing that is seen.

/// What ours is mounted with besides the layers, and the kernel's to go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Options of ours.
    pub ours: &'static str,
    /// The kernel's `metacopy`, which it has with redirects alone.
    pub metacopy: bool,
    /// The kernel's `redirect_dir`.
    pub redirects: bool,
    /// What ours writes into the upper tells others less than the truth.
    pub records: bool,
}

/// Only options of ours.
pub const fn set(ours: &'static str) -> Switches {
    Switches { ours, metacopy: false, redirects: true, records: false }
}

const fn metacopy(ours: &'static str) -> Switches {
    Switches { metacopy: true, ..set(ours) }
}

/// The set of a case is that of its seed, modulo their number.
pub const SETS: [Switches; 25] = [
    set("redirect_dir=on,passthrough=off"),
    set("redirect_dir=on,passthrough=on"),
    set("redirect_dir=on,threads=1"),
    set("redirect_dir=on,timeout=0"),
    set("redirect_dir=on,timeout=1,lower_changes=timeout"),
    set("redirect_dir=on,lower_changes=ignore"),
    set("redirect_dir=on,max_watches=2"),
    set("redirect_dir=on,xino=off"),
    set("redirect_dir=on,fsync=strict"),
    set("redirect_dir=on,volatile"),
    metacopy("redirect_dir=on,metacopy=on"),
    set("redirect_dir=copy"),
    Switches { redirects: false, ..set("redirect_dir=off") },
    set("redirect_dir=on,default_permissions,allow_other,noatime,sync,dirsync"),
    set("redirect_dir=on,max_write=4096,passthrough=off"),
    // the kernel reads and writes nothing by itself, and trusts nothing
    set("redirect_dir=on,passthrough=off,timeout=0,lower_changes=timeout,threads=1"),
    // it trusts everything
    set("redirect_dir=copy,passthrough=on,lower_changes=ignore,timeout=1000000,threads=4,xino=off"),
    set("redirect_dir=on,writeback,threads=1,lower_changes=ignore"),
    set("redirect_dir=on,writeback,default_permissions,allow_other,timeout=0,xino=off,sync"),
    metacopy("redirect_dir=copy,writeback=1,lazy_copy_up=1,metacopy=on,max_write=4096"),
    metacopy("redirect_dir=on,lazy_copy_up=1,metacopy=on,threads=1"),
    metacopy("redirect_dir=copy,lazy_copy_up=1,metacopy=on,passthrough=off,max_write=4096"),
    set("redirect_dir=on,uidmapping=0:0:65536,gidmapping=0:0:65536,static_nlink"),
    Switches { records: true, ..set("redirect_dir=on,xattr_permissions=1,passthrough=off") },
    Switches {
        redirects: false,
        ..metacopy("redirect_dir=off,metacopy=on,volatile,passthrough=off,lower_changes=ignore")
    },
];

/// The same for containers of a store, whose defaults are others.
pub const CONTAINERS: [Switches; 11] = [
    set("metacopy=off"),
    metacopy(""),
    set("metacopy=off,passthrough=off"),
    metacopy("passthrough=off,threads=1"),
    set("metacopy=off,redirect_dir=copy"),
    Switches { redirects: false, ..set("metacopy=off,redirect_dir=off") },
    metacopy("lazy_copy_up=1,fsync=strict"),
    metacopy("timeout=0,passthrough=off,max_write=4096"),
    set("metacopy=off,xino=off,volatile"),
    metacopy("writeback"),
    metacopy("redirect_dir=copy,lazy_copy_up=1,threads=4,passthrough=on"),
];
