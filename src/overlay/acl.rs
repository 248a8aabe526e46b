//! What a directory's default ACL makes of a new file (acl(5), "Object creation and default
//! ACLs"), for files that are staged elsewhere and so do not inherit it from their file system.
//!
//! The attribute's form is the kernel's `posix_acl_xattr.h`: version 2, then entries of tag,
//! permissions and id, little-endian.

/// Name of the access ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the default ACL.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What a new file inherits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Its mode.
    pub(super) mode: u32,
    /// Its access ACL, if the mode does not say it all.
    pub(super) access: Option<Vec<u8>>,
}

/// Returns what a file created with `mode` (no umask applied) inherits from `default`; `None`
/// for an attribute that is no valid ACL.
pub(super) fn inherit(default: &[u8], mode: u32) -> Option<Inherited> {
    let body = default.strip_prefix(&VERSION)?;
    let (entries, rest) = body.as_chunks::<8>();
    if !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let mut out = VERSION.to_vec();
    let mut new_mode = mode & 0o7777;
    let has_mask = entries.iter().any(|e| tag(e) == MASK);
    let mut extended = false;
    for e in entries {
        let mut perm = u32::from(u16::from_le_bytes([e[2], e[3]])) & 7;
        // the create mode cuts the classes that it speaks of: owner, mask or group, others
        let shift = match tag(e) {
            USER_OBJ => Some(6),
            MASK => Some(3),
            GROUP_OBJ if !has_mask => Some(3),
            OTHER => Some(0),
            GROUP_OBJ => None,
            USER | GROUP => {
                extended = true;
                None
            }
            _ => return None,
        };
        if let Some(shift) = shift {
            perm &= mode >> shift & 7;
            new_mode = new_mode & !(7 << shift) | perm << shift;
        }
        out.extend_from_slice(&e[..2]);
        out.extend_from_slice(&(perm as u16).to_le_bytes());
        out.extend_from_slice(&e[4..]);
    }
    Some(Inherited { mode: new_mode, access: (extended || has_mask).then_some(out) })
}

/// Returns the permissions that an access ACL gives a file's mode; `None` for an attribute that is no
/// valid ACL.
pub(super) fn permissions(access: &[u8]) -> Option<u32> {
    let (entries, rest) = access.strip_prefix(&VERSION)?.as_chunks::<8>();
    let of = |wanted| {
        let entry = entries.iter().find(|e| tag(e) == wanted)?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 7)
    };
    let group = of(MASK).or_else(|| of(GROUP_OBJ))?;
    rest.is_empty().then_some(of(USER_OBJ)? << 6 | group << 3 | of(OTHER)?)
}

/// Puts a mode's permissions into an access ACL, as chmod(2) does: for where the mode on disk is not
/// the one that is meant. What is no valid ACL stays as it is.
pub(super) fn with_permissions(mut access: Vec<u8>, mode: u32) -> Vec<u8> {
    let Some((version, body)) = access.split_at_mut_checked(VERSION.len()) else { return access };
    let entries = if *version == VERSION { body.as_chunks_mut::<8>().0 } else { &mut [] };
    let has_mask = entries.iter().any(|e| tag(e) == MASK);
    for e in entries {
        let shift = match tag(e) {
            USER_OBJ => 6,
            MASK => 3,
            GROUP_OBJ if !has_mask => 3,
            OTHER => 0,
            _ => continue,
        };
        [e[2], e[3]] = ((mode >> shift & 7) as u16).to_le_bytes();
    }
    access
}

fn tag(e: &[u8; 8]) -> u16 {
    u16::from_le_bytes([e[0], e[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut v = VERSION.to_vec();
        for (t, p, id) in entries {
            v.extend_from_slice(&t.to_le_bytes());
            v.extend_from_slice(&p.to_le_bytes());
            v.extend_from_slice(&id.to_le_bytes());
        }
        v
    }

    #[test]
    fn a_minimal_acl_is_all_in_the_mode() {
        let d = acl(&[(USER_OBJ, 7, !0), (GROUP_OBJ, 5, !0), (OTHER, 0, !0)]);
        assert_eq!(inherit(&d, 0o666), Some(Inherited { mode: 0o640, access: None }));
    }

    #[test]
    fn a_mask_takes_the_groups_place() {
        let d = acl(&[
            (USER_OBJ, 7, !0),
            (USER, 7, 12),
            (GROUP_OBJ, 5, !0),
            (MASK, 7, !0),
            (OTHER, 4, !0),
        ]);
        let i = inherit(&d, 0o2644).unwrap();
        assert_eq!(i.mode, 0o2644);
        let expected = acl(&[
            (USER_OBJ, 6, !0),
            (USER, 7, 12),
            (GROUP_OBJ, 5, !0),
            (MASK, 4, !0),
            (OTHER, 4, !0),
        ]);
        assert_eq!(i.access, Some(expected));
    }

    #[test]
    fn the_mask_is_the_groups_part_of_a_mode() {
        let mut entries =
            vec![(USER_OBJ, 6, !0), (USER, 7, 12), (GROUP_OBJ, 5, !0), (OTHER, 1, !0)];
        assert_eq!(permissions(&acl(&entries)), Some(0o651));
        entries.push((MASK, 4, !0));
        assert_eq!(permissions(&acl(&entries)), Some(0o641));
        let changed = with_permissions(acl(&entries), 0o4027);
        assert_eq!(permissions(&changed), Some(0o027));
        entries[0].1 = 0;
        entries[3].1 = 7;
        entries[4].1 = 2;
        assert_eq!(changed, acl(&entries), "named users and the group stay");
        assert_eq!(permissions(&acl(&entries[..3])), None);
        assert_eq!(permissions(b""), None);
    }

    #[test]
    fn broken_attributes_are_no_acl() {
        assert_eq!(inherit(b"", 0o666), None);
        assert_eq!(inherit(&[1, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0], 0o666), None);
        assert_eq!(inherit(&acl(&[(0x77, 7, 0)]), 0o666), None);
        assert_eq!(inherit(&acl(&[(USER_OBJ, 7, 0)])[..9], 0o666), None);
    }
}
