//! The extended attributes of overlayfs, in the two namespaces that the kernel knows.

/// The namespace in which an overlay keeps its own extended attributes. The kernel looks at one
/// of them only: `User` when mounted with `userxattr`, else `Trusted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `trusted.overlay.*`, for real root.
    Trusted,
    /// `user.overlay.*`, for everybody else.
    User,
}

/// What the kernel (`ovl_xattr_table` in fs/overlayfs/super.c, `overlayfs.rst`) and this program keep
/// in attributes of their own.
const MARKS: [&[u8]; 10] = [
    b"opaque",
    b"redirect",
    b"origin",
    b"impure",
    b"nlink",
    b"upper",
    b"uuid",
    b"metacopy",
    b"protattr",
    b"whiteout",
];

/// What an extended attribute's on-disk name means to an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XattrName {
    /// An attribute of the overlay itself: never shown.
    Own,
    /// An attribute of the user's, under the name by which the mount shows it.
    Visible(Vec<u8>),
}

impl Dialect {
    /// Returns the name space in which an upper directory holds marks, whose owner has this user id:
    /// that which its mounter could write. `privileged`: this process could write the trusted one.
    #[must_use]
    pub fn of_upper(owner: u32, privileged: bool) -> Dialect {
        if owner == 0 && privileged { Dialect::Trusted } else { Dialect::User }
    }

    /// Returns the prefix of the overlay's own attributes.
    #[must_use]
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.",
            Dialect::User => b"user.overlay.",
        }
    }

    fn key(self, name: &[u8]) -> Vec<u8> {
        [self.prefix(), name].concat()
    }

    /// Name of the opaque mark: value `y` hides what is below; `x` means that entries may be
    /// whiteouts in extended-attribute form.
    #[must_use]
    pub fn opaque(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.opaque",
            Dialect::User => b"user.overlay.opaque",
        }
    }

    /// Name of the redirect: where the layers below hold a renamed directory.
    #[must_use]
    pub fn redirect(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.redirect",
            Dialect::User => b"user.overlay.redirect",
        }
    }

    /// Name of the mark of a file whose data is in a layer below.
    #[must_use]
    pub fn metacopy(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.metacopy",
            Dialect::User => b"user.overlay.metacopy",
        }
    }

    /// Name of the mark of an empty regular file that is a whiteout.
    #[must_use]
    pub fn whiteout(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.whiteout",
            Dialect::User => b"user.overlay.whiteout",
        }
    }

    /// Name of the mark of a directory that holds copied-up or moved entries.
    #[must_use]
    pub fn impure(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.impure",
            Dialect::User => b"user.overlay.impure",
        }
    }

    /// Name of the attribute that names the lower file of a copied-up one ([`Origin`](super::Origin)).
    #[must_use]
    pub fn kernel_origin(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.origin",
            Dialect::User => b"user.overlay.origin",
        }
    }

    /// Name of the attribute by which the kernel tells one overlay from another; on the root of the
    /// upper.
    #[must_use]
    pub fn uuid(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.uuid",
            Dialect::User => b"user.overlay.uuid",
        }
    }

    /// Name of the attribute that says how many links a copied-up hard-linked file shows
    /// ([`Links`](super::Links)).
    #[must_use]
    pub fn links(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.nlink",
            Dialect::User => b"user.overlay.nlink",
        }
    }

    /// Name of the attribute in which a copied-up file remembers the number that it had below.
    /// Private to this program; the kernel hides it as it hides all of the prefix.
    #[must_use]
    pub fn origin(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.stratafs.origin",
            Dialect::User => b"user.overlay.stratafs.origin",
        }
    }

    /// Name of the mark on an upper's root: names of hard-linked lower files went before these were
    /// copied up, so that their links are to be counted. Private to this program.
    #[must_use]
    pub fn unlinked(self) -> &'static [u8] {
        match self {
            Dialect::Trusted => b"trusted.overlay.stratafs.unlinked",
            Dialect::User => b"user.overlay.stratafs.unlinked",
        }
    }

    /// Returns what an on-disk attribute name means in a layer of this dialect. One level of
    /// `overlay.` is taken off escaped names, as the kernel does since 6.7.
    #[must_use]
    pub fn from_disk(self, name: &[u8]) -> XattrName {
        let Some(rest) = name.strip_prefix(self.prefix()) else {
            return XattrName::Visible(name.to_vec());
        };
        match rest.strip_prefix(b"overlay.") {
            Some(inner) => XattrName::Visible(self.key(inner)),
            None => XattrName::Own,
        }
    }

    /// Returns whether `name` is one that an overlay gives a meaning, rather than only hides.
    #[must_use]
    pub fn is_mark(self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix())
            .is_some_and(|rest| MARKS.contains(&rest) || rest.starts_with(b"stratafs."))
    }

    /// Returns the on-disk name of the attribute that users call `name`: names of the overlay's
    /// own namespace are escaped.
    #[must_use]
    pub fn to_disk(self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.prefix()) {
            Some(rest) => [self.prefix(), b"overlay.", rest].concat(),
            None => name.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_nests_and_undoes_itself() {
        let d = Dialect::Trusted;
        let user = b"trusted.overlay.opaque";
        let disk = d.to_disk(user);
        assert_eq!(disk, b"trusted.overlay.overlay.opaque");
        assert_eq!(d.from_disk(&disk), XattrName::Visible(user.to_vec()));
        assert_eq!(d.from_disk(user), XattrName::Own);
        assert_eq!(
            d.from_disk(b"user.overlay.opaque"),
            XattrName::Visible(b"user.overlay.opaque".to_vec())
        );
        assert_eq!(d.from_disk(&d.to_disk(&disk)), XattrName::Visible(disk));
    }
}
