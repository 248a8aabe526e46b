//! Extended attributes: what users see, what is the overlay's own, and what an ordinary user's
//! disk cannot hold.

use super::Overlay;
use super::acl;
use super::copy_plan::Data;
use super::error::{Doing as _, Error, Result};
use super::inode::{Backing, Object};
use super::io::CAPABILITY;
use super::records::Records;
use super::types::{Caller, Ino};
use crate::marker::{
    CONTAINERS_NAMES, Dialect, FUSE_OVERLAYFS_NAMES, OVERRIDE_XATTR, OverrideStat,
    PRIVILEGED_OVERRIDE_XATTR, XattrName,
};
use crate::sys::{Errno, FileType, Node};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Behind the dialect's prefix: attributes of a private view that the user may not set on disk.
const KEPT: &[u8] = b"stratafs.xattr.";

/// Refuses names that no file system knows, as the kernel does for the file systems below (whose
/// namespaces are those of xattr(7)) and leaves to us.
fn check_key(key: &[u8]) -> Result<()> {
    for prefix in [&b"user."[..], b"trusted.", b"security."] {
        match key.strip_prefix(prefix) {
            Some(b"") => return Err(Error::Invalid),
            Some(_) => return Ok(()),
            None => {}
        }
    }
    if key == acl::ACCESS || key == acl::DEFAULT { Ok(()) } else { Err(Error::NotSupported) }
}

/// Returns the prefix of the names under which a private view keeps such attributes.
fn kept(dialect: Dialect, records: Records) -> Option<Vec<u8>> {
    match records {
        Records::Own => Some([dialect.prefix(), KEPT].concat()),
        Records::Containers => Some(CONTAINERS_NAMES.to_vec()),
        Records::Privileged => None,
    }
}

/// Returns the on-disk name of the attribute that users call `key`.
pub(super) fn disk_name(dialect: Dialect, private: Option<Records>, key: &[u8]) -> Vec<u8> {
    if (key.starts_with(b"security.") || key.starts_with(b"trusted."))
        && let Some(prefix) = private.and_then(|r| kept(dialect, r))
    {
        return [&prefix[..], key].concat();
    }
    dialect.to_disk(key)
}

/// Returns the name by which users see an on-disk attribute, unless it is the overlay's own.
pub(super) fn shown_name(
    dialect: Dialect,
    private: Option<Records>,
    disk: &[u8],
) -> Option<Vec<u8>> {
    if disk.starts_with(FUSE_OVERLAYFS_NAMES) {
        return None;
    }
    if let Some(records) = private {
        if disk == OVERRIDE_XATTR || disk == PRIVILEGED_OVERRIDE_XATTR {
            return None;
        }
        if let Some(prefix) = kept(dialect, records) {
            if let Some(key) = disk.strip_prefix(&prefix[..]) {
                return Some(key.to_vec());
            }
            // what lies there under its own name was not put there through this view
            if records == Records::Containers && disk.starts_with(b"security.") {
                return None;
            }
        }
    }
    match dialect.from_disk(disk) {
        XattrName::Own => None,
        XattrName::Visible(name) => Some(name),
    }
}

impl Overlay {
    fn private(&self) -> Option<Records> {
        self.options.owner_view.then_some(self.options.records)
    }

    /// Returns the extended attributes of a file of the upper, under the names that are shown.
    pub(super) fn shown_xattrs(&self, node: &Node) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut out = Vec::new();
        for disk in node.list_xattr().upper("list extended attributes")? {
            let Some(shown) = shown_name(self.dialect, self.private(), &disk) else { continue };
            match node.get_xattr(&disk) {
                Ok(Some(value)) => out.push((shown, value)),
                // nobody can read a broken capability
                Ok(None) | Err(Errno::INVAL) => {}
                Err(e) => return Err(e).upper("read an extended attribute"),
            }
        }
        Ok(out)
    }

    /// Returns the on-disk name of the attribute that users call `key`.
    pub(super) fn disk_key(&self, key: &[u8]) -> Vec<u8> {
        disk_name(self.dialect, self.private(), key)
    }

    /// Returns the value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` if there is none of that name.
    pub fn get_xattr(&self, ino: Ino, key: &[u8]) -> Result<Vec<u8>> {
        check_key(key)?;
        let object = self.seen(ino)?;
        // the kernel asks this of each new file, before the first write
        if key == CAPABILITY
            && let Object::File(f) = &object
            && f.no_xattrs.load(Ordering::Acquire)
        {
            return Err(Error::NoData);
        }
        let value = match self.upper_handle(&object)? {
            Some(node) => {
                let disk = self.disk_key(key);
                match node.get_xattr(&disk) {
                    // an attribute in a namespace that this user may not read is not there
                    Err(Errno::PERM | Errno::ACCESS) => None,
                    r => r.upper("read an extended attribute")?,
                }
            }
            None => {
                let at = self.lower_part(&object)?;
                self.lower(at)?.xattr(at.node, key)?
            }
        };
        let value = value.ok_or(Error::NoData)?;
        if self.options.owner_view && key == acl::ACCESS {
            return Ok(acl::with_permissions(value, self.attr_of(&object)?.mode));
        }
        Ok(value)
    }

    /// Returns the names of a file's extended attributes that `caller` may see, each followed by a
    /// NUL.
    ///
    /// # Errors
    /// What the layer's file system says.
    pub fn list_xattr(&self, caller: Caller, ino: Ino) -> Result<Vec<u8>> {
        let object = self.seen(ino)?;
        let names = match self.upper_handle(&object)? {
            Some(node) => {
                let all = node.list_xattr().upper("list extended attributes")?;
                let private = self.private();
                all.iter().filter_map(|n| shown_name(self.dialect, private, n)).collect()
            }
            None => {
                let at = self.lower_part(&object)?;
                self.lower(at)?.xattr_names(at.node)?
            }
        };
        let is_user = |n: &Vec<u8>| n.starts_with(b"user.");
        // only files and directories have such; an index or a stand-in may hold them for others
        let hide_user = names.iter().any(is_user)
            && !matches!(self.attr_of(&object)?.kind, FileType::File | FileType::Dir);
        let mut out = Vec::new();
        for n in names {
            if hide_user && is_user(&n) {
                continue;
            }
            // what only CAP_SYS_ADMIN may read is not listed to others either (xattr(7))
            if self.identity.privileged && caller.uid == 0 || !n.starts_with(b"trusted.") {
                out.extend_from_slice(&n);
                out.push(0);
            }
        }
        Ok(out)
    }

    /// Sets an extended attribute. `create`: it must not exist; `replace`: it must.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `EOPNOTSUPP` for an unknown namespace, or what the upper's file system says.
    pub fn set_xattr(
        &self,
        ino: Ino,
        key: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Result<()> {
        check_key(key)?;
        let (object, node) = self.changeable(ino)?;
        if key == CAPABILITY
            && let Object::File(file) = &object
        {
            // writing the rest of it would take them away
            self.settle_lazy(file)?;
        }
        let disk = self.disk_key(key);
        if let Object::File(f) = &object {
            f.no_xattrs.store(false, Ordering::Release);
        }
        let set = |value: &[u8]| {
            self.as_its_owner(&node, || node.set_xattr(&disk, value, create, replace))
                .upper("set an extended attribute")
        };
        let done = if self.options.owner_view && key == acl::ACCESS {
            self.set_access(&object, &node, value, &set)
        } else {
            set(value)
        };
        self.after_acl_change(&object, key);
        if done.is_ok() && self.options.owner_view && key == acl::ACCESS {
            // the mode goes along with it, which a kernel that writes back does not ask for
            self.copied.add(ino);
        }
        done
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` if there is none of that name.
    pub fn remove_xattr(&self, ino: Ino, key: &[u8]) -> Result<()> {
        self.writable()?;
        check_key(key)?;
        if !self.is_in_upper(&self.object(ino)?) {
            // nothing to copy up for
            self.get_xattr(ino, key)?;
        }
        let (object, node) = self.changeable(ino)?;
        let disk = self.disk_key(key);
        self.as_its_owner(&node, || node.remove_xattr(&disk))
            .upper("remove an extended attribute")?;
        self.after_acl_change(&object, key);
        Ok(())
    }

    /// Sets an access ACL in a private view by means of `set`, and records the mode that it gives
    /// where the disk must allow more to the daemon, or has a record already. On disk the ACL allows
    /// what [`Overlay::disk_mode`] says, at each moment.
    fn set_access(
        &self,
        object: &Object,
        node: &Node,
        access: &[u8],
        set: &dyn Fn(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let stat = node.stat().upper("look at a file")?;
        let permissions = match stat.file_type() {
            FileType::File | FileType::Dir => acl::permissions(access),
            // native, and so the user's own: there is no record
            _ => None,
        };
        let Some(permissions) = permissions else { return set(access) };
        let key = self.options.records.stat_key();
        let old = self
            .as_its_owner(node, || node.get_xattr(key))
            .upper("read the recorded attributes")?;
        let recorded = old.as_deref().and_then(OverrideStat::parse);
        let before = self.shown(object.ino(), &stat, recorded);
        let mode = before.mode & !0o777 | permissions;
        let on_disk = self.disk_mode(stat.file_type(), mode, (before.uid, before.gid));
        let on_disk_acl = acl::with_permissions(access.to_vec(), on_disk);
        if recorded.is_none() && (on_disk ^ mode) & 0o777 == 0 {
            return set(&on_disk_acl);
        }
        let o = OverrideStat {
            uid: before.uid,
            gid: before.gid,
            mode,
            kind: Some(before.kind),
            rdev: before.rdev,
        };
        let record =
            |value: &[u8]| self.as_its_owner(node, || node.set_xattr(key, value, false, false));
        record(&o.encode()).upper("record the attributes")?;
        set(&on_disk_acl).inspect_err(|_| {
            let back = match &old {
                Some(value) => record(value),
                None => self.as_its_owner(node, || node.remove_xattr(key)),
            };
            if let Err(e) = back {
                log::warn!("a file shows the mode of an ACL that could not be set: {e}");
            }
        })
    }

    fn after_acl_change(&self, object: &Object, key: &[u8]) {
        super::setattr::forget_what_was_seen(object);
        // the file system may have changed the mode along with the access ACL
        if key == acl::ACCESS {
            match object {
                Object::Dir(d) => *d.overridden.write() = None,
                Object::File(f) => f.state.write().overridden = None,
                Object::Pure(..) => {}
            }
        }
    }

    fn is_in_upper(&self, object: &Object) -> bool {
        match object {
            Object::Dir(d) => d.in_upper(),
            Object::File(f) => f.in_upper(),
            Object::Pure(..) => false,
        }
    }

    /// Returns a handle on the upper's copy, if there is one.
    pub(super) fn upper_handle(&self, object: &Object) -> Result<Option<Arc<Node>>> {
        Ok(match object {
            Object::Dir(d) if d.in_upper() => {
                Some(Arc::new(self.upper_dir(d)?.as_node().upper("open a directory")?))
            }
            Object::File(f) if f.in_upper() => Some(self.upper_node(f)?),
            _ => None,
        })
    }

    /// Returns the lower node that an object not in the upper shows.
    pub(super) fn lower_part(&self, object: &Object) -> Result<super::lower::At> {
        match object {
            Object::Dir(d) => d.lowers().first().copied().ok_or(Error::Stale),
            Object::File(f) => match f.state.read().backing {
                Backing::Lower(at) => Ok(at),
                Backing::Upper => Err(Error::Stale),
            },
            Object::Pure(_, at) => Ok(*at),
        }
    }

    /// Copies an object up and returns a handle on the copy.
    pub(super) fn changeable(&self, ino: Ino) -> Result<(Object, Arc<Node>)> {
        self.writable()?;
        let object = match self.object(ino)? {
            Object::Dir(d) => {
                self.ensure_upper(&d)?;
                Object::Dir(d)
            }
            other => {
                let file = self.file(other)?;
                self.copy_up(&file, Data::StaysBelow)?;
                Object::File(file)
            }
        };
        let node = self.upper_handle(&object)?.ok_or(Error::Stale)?;
        Ok((object, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_to_disk_and_back() {
        for private in [None, Some(Records::Own), Some(Records::Containers)] {
            for key in
                [&b"user.a"[..], b"user.overlay.opaque", b"security.capability", b"trusted.x"]
            {
                let disk = disk_name(Dialect::User, private, key);
                assert_eq!(shown_name(Dialect::User, private, &disk).as_deref(), Some(key));
            }
        }
        assert_eq!(shown_name(Dialect::User, None, b"user.overlay.opaque"), None);
        assert_eq!(shown_name(Dialect::User, Some(Records::Own), OVERRIDE_XATTR), None);
        assert_eq!(
            disk_name(Dialect::User, Some(Records::Own), b"trusted.x"),
            b"user.overlay.stratafs.xattr.trusted.x"
        );
        assert_eq!(
            disk_name(Dialect::User, Some(Records::Containers), b"security.capability"),
            b"user.containers.override_security.capability"
        );
        let disk = b"security.capability";
        assert_eq!(disk_name(Dialect::User, Some(Records::Privileged), disk), disk);
        assert_eq!(shown_name(Dialect::User, None, b"user.fuseoverlayfs.origin"), None);
    }
}
