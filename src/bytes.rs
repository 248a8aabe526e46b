//! Numbers and lists as the files of this program hold them: little-endian, and read without trust.

/// Reads a number; 0 past the end.
pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |c| u32::from_le_bytes(*c))
}

/// Reads a number; 0 past the end.
pub(crate) fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |c| u64::from_le_bytes(*c))
}

/// Counts the checksum of the files of this program, CRC-64/XZ.
pub(crate) type Checksum = crc64fast::Digest;

/// Returns the checksum of all of it.
pub(crate) fn checksum(data: &[u8]) -> u64 {
    let mut sum = Checksum::new();
    sum.write(data);
    sum.sum64()
}

/// Takes `n` bytes off the front of `b`; `None` if there are fewer.
pub(crate) fn take<'a>(b: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = b.split_at_checked(n)?;
    *b = rest;
    Some(head)
}

/// Adds a list of extended attributes to `out`: count u32, then for each the length of its name u16,
/// of its value u32, name, value.
pub(crate) fn put_xattrs(out: &mut Vec<u8>, xattrs: &[(Vec<u8>, Vec<u8>)]) {
    out.extend((xattrs.len() as u32).to_le_bytes());
    for (key, value) in xattrs {
        out.extend((key.len() as u16).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(key);
        out.extend(value);
    }
}

/// The extended attributes of such a list. Damage ends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Xattrs<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Xattrs<'a> {
    /// Reads the list at the front of `list`.
    pub(crate) fn of(mut list: &'a [u8]) -> Xattrs<'a> {
        match take(&mut list, 4) {
            Some(count) => Xattrs { left: u32_at(count, 0), rest: list },
            None => Xattrs::default(),
        }
    }
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let head = take(&mut self.rest, 6)?;
        let key = take(&mut self.rest, usize::from(u16::from_le_bytes([head[0], head[1]])))?;
        let value = take(&mut self.rest, u32_at(head, 2) as usize)?;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of CRCs: files that were written before must still be read.
    #[test]
    fn the_checksum_is_crc_64_xz() {
        assert_eq!(checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
        let mut sum = Checksum::new();
        for part in [&b"1234"[..], b"", b"56789"] {
            sum.write(part);
        }
        assert_eq!(sum.sum64(), checksum(b"123456789"));
    }
}
