//! Making new files, directories, symlinks and special files.

use super::acl::{self, Inherited};
use super::base::Base;
use super::error::{Doing as _, Error, Result};
use super::handle::Handle;
use super::inode::{DirInode, FileInode, Heritage, Object, Place};
use super::listing::{Below, Listing, OwnEntry};
use super::make::Spec;
use super::types::{Attr, Caller, Fh, Ino, OpenMode};
use super::{Overlay, ino};
use crate::name::Name;
use crate::sys::{Dir, Errno, File, FileType, OpenFlags, RenameFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the caller asks for.
struct Wanted<'a> {
    caller: Caller,
    kind: FileType,
    mode: u32,
    umask: u32,
    rdev: u64,
    target: &'a [u8],
}

/// A file that was just made.
struct Made {
    /// A regular file's content, open for reading and writing.
    content: Option<File>,
    /// Whether the disk says all about it: nothing is recorded.
    plain: bool,
    /// What files in it will take over, if it is a directory and that is known.
    heritage: Option<Arc<Heritage>>,
}

impl Overlay {
    /// Makes and opens a regular file. The umask does not apply where the parent has a default
    /// ACL.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `ENOENT` in a removed directory, or what the upper's file system says.
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        mode: u32,
        umask: u32,
        open: OpenMode,
    ) -> Result<(Attr, Fh)> {
        let caller = self.options.ids.caller(caller);
        let wanted = Wanted { caller, kind: FileType::File, mode, umask, rdev: 0, target: b"" };
        let (object, attr, content) = self.make(parent, name, &wanted)?;
        let Object::File(inode) = &object else { return Err(Error::Stale) };
        let file = match content {
            Some(f) if !open.direct && !open.sync => f,
            _ => self.open_upper(inode, open)?,
        };
        self.inodes.count(&object);
        let fh = self.handles.insert(Handle::new(Some(inode.clone()), file, false, open.write));
        Ok((self.visible(attr), fh))
    }

    /// Makes a regular file, fifo, socket or device.
    ///
    /// # Errors
    /// `EPERM` for a character device 0:0, which is a whiteout; else as [`Overlay::create`].
    #[allow(clippy::too_many_arguments)] // those of mknod(2), and on whose behalf
    pub fn mknod(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        kind: FileType,
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Attr> {
        match kind {
            FileType::Char if rdev == 0 => return Err(Error::NotPermitted),
            FileType::Dir | FileType::Symlink => return Err(Error::Invalid),
            _ => {}
        }
        self.make_counted(parent, name, &Wanted { caller, kind, mode, umask, rdev, target: b"" })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Overlay::create`].
    pub fn mkdir(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        mode: u32,
        umask: u32,
    ) -> Result<Attr> {
        let kind = FileType::Dir;
        self.make_counted(parent, name, &Wanted { caller, kind, mode, umask, rdev: 0, target: b"" })
    }

    /// Makes a symlink. The target is stored as it is.
    ///
    /// # Errors
    /// As [`Overlay::create`].
    pub fn symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name<'_>,
        target: &[u8],
    ) -> Result<Attr> {
        let kind = FileType::Symlink;
        self.make_counted(
            parent,
            name,
            &Wanted { caller, kind, mode: 0o777, umask: 0, rdev: 0, target },
        )
    }

    /// Returns a symlink's target.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let object = self.seen(ino)?;
        if let Some(node) = self.upper_handle(&object)? {
            let stat = node.stat().upper("look at a symlink")?;
            return match stat.file_type() {
                FileType::Symlink => node.readlink().upper("read a symlink"),
                FileType::File if self.attr_of(&object)?.kind == FileType::Symlink => {
                    let file = node.open(OpenFlags::READ).upper("open a stand-in file")?;
                    let mut target = vec![0; 4096];
                    let n = file.read_at(&mut target, 0).upper("read a symlink's target")?;
                    target.truncate(n);
                    Ok(target)
                }
                _ => Err(Error::Invalid),
            };
        }
        let at = self.lower_part(&object)?;
        match self.lower_kind(at)? {
            FileType::Symlink => self.lower(at)?.readlink(at.node),
            _ => Err(Error::Invalid),
        }
    }

    fn make_counted(&self, parent: Ino, name: Name<'_>, wanted: &Wanted<'_>) -> Result<Attr> {
        let caller = self.options.ids.caller(wanted.caller);
        let (object, attr, _) = self.make(parent, name, &Wanted { caller, ..*wanted })?;
        self.inodes.count(&object);
        Ok(self.visible(attr))
    }

    fn make(
        &self,
        parent: Ino,
        name: Name<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<(Object, Attr, Option<File>)> {
        self.writable()?;
        self.options.whiteout_names.check(name.bytes())?;
        let dir = self.living_dir(parent)?;
        Overlay::refuse_taken(self.listing(&dir)?.find(&self.lowers, name.bytes()).is_some())?;
        self.ensure_upper(&dir)?;
        let _tree = self.tree.read();
        let _names = dir.names.lock();
        if dir.is_removed() {
            return Err(Error::NotFound);
        }
        let (taken, whiteout) = {
            let listing = self.listing(&dir)?;
            let taken = listing.find(&self.lowers, name.bytes()).is_some();
            (taken, listing.has_whiteout(name.bytes()))
        };
        Overlay::refuse_taken(taken)?;
        let handle = self.upper_dir(&dir)?;
        let made = self.make_in(&dir, &handle, name.bytes(), wanted, whiteout)?;
        let stat = match &made.content {
            Some(f) => f.stat(),
            None => handle.stat(name.bytes()),
        };
        let stat = stat.upper("look at a new file")?;
        let mut entry = OwnEntry {
            name: Arc::from(name.bytes()),
            ino: self.devices.ino(stat.dev, stat.ino),
            real: stat.ino,
            kind: wanted.kind,
            below: Below::Nothing,
        };
        let object = self.new_object(&dir, &entry)?;
        entry.ino = object.ino();
        if let Object::Dir(d) = &object {
            // nothing lies below it, and nobody else puts anything into it
            *d.listing.write() = Some(Listing::new(Base::default()));
            *d.heritage.write() = made.heritage;
        }
        if made.plain {
            match &object {
                Object::Dir(d) => *d.overridden.write() = Some(None),
                Object::File(f) => {
                    f.state.write().overridden = Some(None);
                    f.no_set_id.store(wanted.mode & 0o6000 == 0, Ordering::Release);
                    f.no_xattrs.store(true, Ordering::Release);
                }
                Object::Pure(..) => {}
            }
        }
        // first what others will see: what follows may fail, and the file is there
        self.listing_mut(&dir)?.put(&self.lowers, entry);
        self.pass("create:committed")?;
        let attr = match made.plain {
            true => self.shown(object.ino(), &stat, None),
            false => self.attr_of(&object)?,
        };
        Ok((object, attr, made.content))
    }

    /// Returns the object of a file that was just made in the upper.
    fn new_object(&self, dir: &DirInode, entry: &OwnEntry) -> Result<Object> {
        let place = Place { parent: dir.ino, name: entry.name.clone() };
        // the file system may use a number again that still is another file's here: that of one
        // whose stand-in has taken its place
        for first in [true, false] {
            let number = if first {
                entry.ino
            } else {
                let unique = self.writable()?.stage_name();
                ino::hashed(&[&entry.ino.0.to_le_bytes()[..], &unique].concat())
            };
            if entry.kind == FileType::Dir {
                let make = || {
                    let dir = DirInode::new(number, place.clone(), Vec::new(), true);
                    dir.real.store(entry.real, Ordering::Release);
                    dir
                };
                match self.inodes.dir_or_insert(number, make) {
                    Some(made) if made.is_at(&place) => return Ok(Object::Dir(made)),
                    _ => continue,
                }
            }
            let make = || FileInode::upper(number, entry.real);
            let Some(file) = self.inodes.file_or_insert(number, make) else { continue };
            let mut state = file.state.write();
            if state.lower().is_none() && state.real == entry.real {
                state.metacopy = Some(false);
                state.add_upper_name(place.clone());
                drop(state);
                return Ok(Object::File(file));
            }
        }
        Err(Error::Stale)
    }

    /// Makes the file under its name, in one step when nothing is missing of it then; else staged.
    fn make_in(
        &self,
        parent: &DirInode,
        dir: &Dir,
        name: &[u8],
        wanted: &Wanted<'_>,
        whiteout: bool,
    ) -> Result<Made> {
        let upper = self.writable()?;
        let heritage = self.heritage(parent, dir)?;
        let inherited = heritage.acl.as_ref().and_then(|d| acl::inherit(d, wanted.mode));
        let gid = heritage.gid.unwrap_or(wanted.caller.gid);
        let mut mode = match &inherited {
            Some(Inherited { mode, .. }) => *mode,
            None => wanted.mode & 0o7777 & !wanted.umask,
        };
        if heritage.gid.is_some() && wanted.kind == FileType::Dir {
            mode |= 0o2000;
        }
        if wanted.kind == FileType::Symlink {
            mode = 0o777;
        }
        let spec = Spec {
            kind: wanted.kind,
            mode,
            uid: wanted.caller.uid,
            gid,
            rdev: wanted.rdev,
            target: wanted.target,
            xattrs: Vec::new(),
        };
        if !whiteout && inherited.is_none() && self.is_plain(&spec, &heritage) {
            self.pass("create:commit")?;
            let content = self.make_at_once(dir, name, &spec)?;
            // without ACL and setgid the same holds for a directory made here
            let heritage = (heritage.acl.is_none() && heritage.gid.is_none() && mode & 0o2000 == 0)
                .then_some(heritage);
            return Ok(Made { content, plain: true, heritage });
        }
        self.pass("create:stage")?;
        let staged = upper.staged();
        let content = self.make_bare(&upper.stage, &staged.name, &spec)?;
        let node = upper.stage.node(&staged.name).upper("open a staged file")?;
        self.dress(&node, &spec)?;
        if let Some(i) = &inherited {
            self.set_acls(&node, &heritage, i, &spec)?;
        }
        if whiteout && wanted.kind == FileType::Dir {
            node.set_xattr(self.dialect.opaque(), b"y", false, false)
                .upper("mark a directory opaque")?;
        }
        let in_the_way = whiteout && upper.whiteouts_take_names();
        if whiteout && !in_the_way {
            upper.ready_mark(dir, name)?;
        }
        self.pass("create:commit")?;
        let how = match (in_the_way, wanted.kind) {
            (true, FileType::Dir) => RenameFlags::Exchange,
            (true, _) => RenameFlags::Replace,
            (false, _) => RenameFlags::NoReplace,
        };
        staged.commit(dir, name, how).upper("put a new file in place")?;
        if whiteout && !in_the_way {
            upper.drop_mark(dir, name)?;
        }
        Ok(Made { content, plain: false, heritage: None })
    }

    /// Returns what new files take over from a directory of the upper: read once, since nobody else
    /// changes the upper.
    fn heritage(&self, dir: &DirInode, handle: &Dir) -> Result<Arc<Heritage>> {
        if let Some(known) = dir.heritage.read().as_ref() {
            return Ok(known.clone());
        }
        // held over the reading, so that a change that comes meanwhile is not missed
        let mut slot = dir.heritage.write();
        let stat = handle.stat_self().upper("look at a directory")?;
        let acl = match handle.get_xattr_self(acl::DEFAULT) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => None,
            r => r.upper("read a directory's default ACL")?,
        };
        let disk_gid = (stat.mode & 0o2000 != 0).then_some(stat.gid);
        let shown = self.shown(dir.ino, &stat, self.dir_override(dir, handle)?);
        let gid = (shown.mode & 0o2000 != 0).then_some(shown.gid);
        let found = Arc::new(Heritage { gid, disk_gid, acl });
        *slot = Some(found.clone());
        Ok(found)
    }

    /// Returns whether the file system gives the file all its attributes as it makes it.
    fn is_plain(&self, spec: &Spec<'_>, heritage: &Heritage) -> bool {
        let native_gid = heritage.disk_gid.unwrap_or(self.identity.gid);
        spec.uid == self.identity.uid
            && spec.gid == native_gid
            && (spec.kind == FileType::Symlink
                || self.disk_mode(spec.kind, spec.mode, (spec.uid, spec.gid)) == spec.mode)
            // mkdir(2) gives no setgid bit but the parent's on disk
            && (spec.kind != FileType::Dir
                || (spec.mode & 0o2000 != 0) == heritage.disk_gid.is_some())
            && !self.needs_stand_in(spec)
    }

    fn make_at_once(&self, dir: &Dir, name: &[u8], spec: &Spec<'_>) -> Result<Option<File>> {
        match spec.kind {
            FileType::File => {
                let file = dir.open_file(name, OpenFlags::CREATE_NEW, spec.mode);
                return file.upper("make a file").map(Some);
            }
            // the kernel gives a new directory its parent's setgid bit by itself
            FileType::Dir => dir.mkdir(name, spec.mode).upper("make a directory")?,
            FileType::Symlink => dir.symlink(spec.target, name).upper("make a symlink")?,
            kind => dir.mknod(name, kind, spec.mode, spec.rdev).upper("make a special file")?,
        }
        Ok(None)
    }

    fn set_acls(
        &self,
        node: &crate::sys::Node,
        heritage: &Heritage,
        inherited: &Inherited,
        spec: &Spec<'_>,
    ) -> Result<()> {
        if spec.kind == FileType::Symlink {
            return Ok(());
        }
        if let Some(access) = &inherited.access {
            // what a private view must be able to do with its own files stays allowed on disk
            let on_disk = if self.needs_stand_in(spec) { FileType::File } else { spec.kind };
            let mode = self.disk_mode(on_disk, spec.mode, (spec.uid, spec.gid));
            let access = acl::with_permissions(access.clone(), mode);
            node.set_xattr(acl::ACCESS, &access, false, false).upper("set an inherited ACL")?;
        }
        if spec.kind == FileType::Dir
            && let Some(default) = &heritage.acl
        {
            node.set_xattr(acl::DEFAULT, default, false, false).upper("set a default ACL")?;
        }
        Ok(())
    }
}
