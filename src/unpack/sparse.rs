//! Maps of sparse files: the old GNU form and pax 1.0. (0.0 and 0.1 lie in the pax header.)

use super::error::{Refusal, UnpackError};
use super::header::{BLOCK, field};
use super::pax::parse_number;

/// Where the content of a sparse file goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Length of the file.
    pub(super) real: u64,
    /// Offset and length of each piece of content, in stream order.
    pub(super) parts: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Checks that the pieces are in order, within the file and `data` bytes in all.
    pub(super) fn check(self, data: u64) -> Result<SparseMap, Refusal> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for (start, len) in &self.parts {
            if *start < end {
                return Err(Refusal::Sparse);
            }
            end = start.checked_add(*len).ok_or(Refusal::Sparse)?;
            sum = sum.checked_add(*len).ok_or(Refusal::Sparse)?;
        }
        if end > self.real || sum != data || i64::try_from(self.real).is_err() {
            return Err(Refusal::Sparse);
        }
        Ok(self)
    }

    /// Returns the 512-byte blocks that the content fills, by pages of 4096 bytes.
    pub(super) fn blocks(&self) -> u64 {
        let (mut pages, mut next) = (0, 0);
        for (start, len) in self.parts.iter().filter(|p| p.1 > 0) {
            let (first, end) = ((start / 4096).max(next), (start + len).div_ceil(4096));
            pages += end.saturating_sub(first);
            next = end.max(next);
        }
        pages * 8
    }
}

type NextBlock<'b> = &'b mut dyn FnMut() -> Result<Option<[u8; BLOCK]>, UnpackError>;

/// Reads the map of an entry of type `S`: four pieces in the header, then blocks of 21. `None`
/// if the stream ends or a number is none.
pub(super) fn gnu_map(
    header: &[u8; BLOCK],
    more: NextBlock<'_>,
) -> Result<Option<SparseMap>, UnpackError> {
    let Some(real) = field(&header[483..495]).and_then(|n| u64::try_from(n).ok()) else {
        return Ok(None);
    };
    let mut map = SparseMap { real, parts: Vec::new() };
    if !add_parts(&mut map, &header[386..482]) {
        return Ok(None);
    }
    let mut extended = header[482] != 0;
    while extended {
        let Some(block) = more()? else { return Ok(None) };
        if !add_parts(&mut map, &block[..504]) {
            return Ok(None);
        }
        extended = block[504] != 0;
    }
    Ok(Some(map))
}

fn add_parts(map: &mut SparseMap, raw: &[u8]) -> bool {
    for part in raw.chunks_exact(24) {
        if part[0] == 0 || part[12] == 0 {
            break;
        }
        let number = |b: &[u8]| field(b).and_then(|n| u64::try_from(n).ok());
        match (number(&part[..12]), number(&part[12..])) {
            (Some(start), Some(len)) => map.parts.push((start, len)),
            _ => return false,
        }
    }
    true
}

/// Reads the map that stands before the content in format 1.0: decimal lines, padded to a block.
pub(super) fn map_in_data(
    real: u64,
    limit: usize,
    more: NextBlock<'_>,
) -> Result<Option<SparseMap>, UnpackError> {
    let mut text: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut line = |text: &mut Vec<u8>| -> Result<Option<u64>, UnpackError> {
        loop {
            if let Some(end) = text[at..].iter().position(|b| *b == b'\n') {
                let number = parse_number(&text[at..at + end], 10);
                at += end + 1;
                return Ok(number.and_then(|n| u64::try_from(n).ok()));
            }
            // a number has at most 20 digits
            if text.len() - at > 20 || text.len() > limit {
                return Ok(None);
            }
            match more()? {
                Some(block) => text.extend_from_slice(&block),
                None => return Ok(None),
            }
        }
    };
    let Some(count) = line(&mut text)? else { return Ok(None) };
    let mut map = SparseMap { real, parts: Vec::new() };
    for _ in 0..count {
        match (line(&mut text)?, line(&mut text)?) {
            (Some(start), Some(len)) => map.parts.push((start, len)),
            _ => return Ok(None),
        }
    }
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_fit_the_file() {
        let map = |real, parts: &[(u64, u64)]| SparseMap { real, parts: parts.to_vec() };
        assert!(map(10, &[(0, 2), (8, 2), (10, 0)]).check(4).is_ok());
        assert!(map(10, &[(8, 2), (0, 2)]).check(4).is_err());
        assert!(map(10, &[(0, 2), (1, 2)]).check(4).is_err());
        assert!(map(10, &[(8, 3)]).check(3).is_err());
        assert!(map(10, &[(0, 2)]).check(3).is_err());
        assert!(map(u64::MAX, &[]).check(0).is_err());
        assert!(map(10, &[(u64::MAX, 2)]).check(2).is_err());
        assert_eq!(map(1 << 20, &[(0, 1), (4095, 2), (9000, 1), (1 << 19, 4096)]).blocks(), 32);
    }
}
