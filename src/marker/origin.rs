//! Which lower file a file of an upper was copied from, as the kernel records it.

use crate::sys::FileHandle;

/// `OVL_FH_MAGIC`.
const MAGIC: u8 = 0xfb;
/// Version, magic, length, flags, type of the handle, UUID.
const HEADER: usize = 21;
/// The handle's numbers are in the byte order of a big-endian machine.
const BIG_ENDIAN: u8 = 1;
/// They are not to be read as numbers.
const ANY_ENDIAN: u8 = 2;
/// It names a file of an upper, not of a lower.
const UPPER: u8 = 4;

/// The value of `overlay.origin`: the kernel's `struct ovl_fb` (fs/overlayfs/overlayfs.h), which
/// is a file handle and the UUID of its file system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Of the file system of the lower file; zeros if it has none.
    pub uuid: [u8; 16],
    /// The lower file.
    pub handle: FileHandle,
}

impl Origin {
    /// Parses the attribute's value. `None` for an empty one (the kernel found the lower's file
    /// system to give no handles) and for what this machine cannot follow.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Origin> {
        let [version, magic, len, flags, kind, rest @ ..] = value else { return None };
        let fits = usize::from(*len) >= HEADER && usize::from(*len) <= value.len();
        let own = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
        let readable = flags & ANY_ENDIAN != 0 || flags & BIG_ENDIAN == own;
        if *version != 0 || *magic != MAGIC || !fits || !readable || flags & UPPER != 0 {
            return None;
        }
        let (uuid, handle) = rest.split_first_chunk::<16>()?;
        let bytes = handle.get(..usize::from(*len) - HEADER)?.to_vec();
        Some(Origin { uuid: *uuid, handle: FileHandle { kind: i32::from(*kind), bytes } })
    }

    /// Returns what follows the kernel's form in the attribute's value. The kernel reads as much as
    /// the form says that it has and lets the rest be (`ovl_check_fb_len` in fs/overlayfs/namei.c).
    #[must_use]
    pub fn beyond(value: &[u8]) -> Option<&[u8]> {
        Origin::parse(value).and_then(|_| value.get(usize::from(*value.get(2)?)..))
    }

    /// Returns the attribute's value; `None` for a handle that the form cannot hold.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let len = u8::try_from(HEADER + self.handle.bytes.len()).ok()?;
        let kind = u8::try_from(self.handle.kind).ok()?;
        let flags = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
        let header = [0, MAGIC, len, flags, kind];
        Some([&header[..], &self.uuid, &self.handle.bytes].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_form_is_read_and_written() {
        // as Linux 6.18 wrote it on ext4
        let mut value = vec![0, 0xfb, 29, u8::from(cfg!(target_endian = "big")), 1];
        value.extend([7; 16]);
        value.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        let origin = Origin::parse(&value).unwrap();
        assert_eq!((origin.uuid, origin.handle.kind), ([7; 16], 1));
        assert_eq!(origin.handle.bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(origin.encode().unwrap(), value);
        for (at, byte) in [(0, 1), (1, 0), (2, 20), (2, 30), (3, 4)] {
            let mut bad = value.clone();
            bad[at] = byte;
            assert_eq!(Origin::parse(&bad), None, "byte {at} is {byte}");
        }
        assert_eq!(Origin::parse(b""), None);
        assert_eq!(Origin::beyond(&value), Some(&b""[..]));
        let more = [&value[..], b"more"].concat();
        assert_eq!(Origin::parse(&more), Some(origin));
        assert_eq!(Origin::beyond(&more), Some(&b"more"[..]));
        assert_eq!(Origin::beyond(&value[..28]), None);
        let long = FileHandle { kind: 1, bytes: vec![0; 250] };
        assert_eq!(Origin { uuid: [0; 16], handle: long }.encode(), None);
    }
}
