//! Which blocks of an incomplete file are in the upper.

use std::collections::BTreeMap;
use std::ops::Range;

/// Length of a block in bytes: what is copied before a part of it is written.
pub(in crate::overlay) const BLOCK: u64 = 64 << 10;

/// Where bytes of an incomplete file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::overlay) enum Part {
    /// In the upper's file.
    Upper(Range<u64>),
    /// In the lower's.
    Lower(Range<u64>),
}

/// A set of blocks, as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::overlay) struct Map {
    /// End of each range by its start, in blocks.
    ranges: BTreeMap<u64, u64>,
}

impl Map {
    /// Adds blocks.
    pub(in crate::overlay) fn insert(&mut self, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let (mut start, mut end) = (blocks.start, blocks.end);
        // all that touch it, from the last one backwards
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            (start, end) = (start.min(s), end.max(e));
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
    }

    /// Returns whether a block is in the upper.
    pub(in crate::overlay) fn contains(&self, block: u64) -> bool {
        self.ranges.range(..=block).next_back().is_some_and(|(_, e)| *e > block)
    }

    /// Returns the first blocks at or after `from` and before `end` that are not in the upper.
    pub(in crate::overlay) fn next_missing(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let start = match self.ranges.range(..=from).next_back() {
            Some((_, e)) if *e > from => *e,
            _ => from,
        };
        let stop = self.ranges.range(start..).next().map_or(end, |(s, _)| (*s).min(end));
        (start < stop).then_some(start..stop)
    }

    /// Splits a range of bytes by where they are. What lies past `lower_len`, the part of the
    /// lower's content that still counts, is the upper's: it was written, or is a hole.
    pub(in crate::overlay) fn parts(&self, bytes: Range<u64>, lower_len: u64) -> Vec<Part> {
        let mut out = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let block = at / BLOCK;
            let known = self.ranges.range(..=block).next_back().filter(|(_, e)| **e > block);
            let (upper, end) = match known {
                Some((_, e)) => (true, e.saturating_mul(BLOCK)),
                None if at >= lower_len => (true, bytes.end),
                None => {
                    let next = self.ranges.range(block..).next().map_or(u64::MAX, |(s, _)| *s);
                    (false, next.saturating_mul(BLOCK).min(lower_len))
                }
            };
            let piece = at..end.min(bytes.end);
            at = piece.end;
            match out.last_mut() {
                Some(Part::Upper(last)) if upper => last.end = piece.end,
                _ => out.push(if upper { Part::Upper(piece) } else { Part::Lower(piece) }),
            }
        }
        out
    }

    /// Returns the blocks at the edges of a write that must be copied first, because the write
    /// covers a part of them only. At most two.
    pub(in crate::overlay) fn edges(&self, bytes: Range<u64>, lower_len: u64) -> Vec<u64> {
        let mut out = Vec::new();
        if bytes.is_empty() {
            return out;
        }
        let (first, last) = (bytes.start / BLOCK, (bytes.end - 1) / BLOCK);
        for block in [first, last] {
            let (start, end) = (block * BLOCK, (block + 1).saturating_mul(BLOCK).min(lower_len));
            let covered = bytes.start <= start && bytes.end >= end;
            if start < lower_len && !covered && !self.contains(block) && !out.contains(&block) {
                out.push(block);
            }
        }
        out
    }

    #[cfg(test)]
    pub(in crate::overlay) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(s, e)| *s..*e)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "sets of one range are what is tested")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(ranges: &[Range<u64>]) -> Map {
        let mut m = Map::default();
        ranges.iter().for_each(|r| m.insert(r.clone()));
        m
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let m = map(&[4..6, 0..2, 2..4, 9..9]);
        assert_eq!(m.ranges().collect::<Vec<_>>(), vec![0..6]);
        assert!(m.contains(5) && !m.contains(6));
        assert_eq!(m.next_missing(0, 10), Some(6..10));
        assert_eq!(map(&[1..2]).next_missing(0, 10), Some(0..1));
    }

    #[test]
    fn only_blocks_written_in_part_are_copied_first() {
        let m = map(&[2..3]);
        let len = 5 * BLOCK + 10;
        assert_eq!(m.edges(1..2, len), [0]);
        assert_eq!(m.edges(0..BLOCK, len), [0; 0]);
        assert_eq!(m.edges(BLOCK - 1..BLOCK + 1, len), [0, 1]);
        assert_eq!(m.edges(2 * BLOCK + 1..2 * BLOCK + 2, len), [0; 0], "is there");
        assert_eq!(m.edges(5 * BLOCK..5 * BLOCK + 10, len), [0; 0], "to the end of the lower");
        assert_eq!(m.edges(5 * BLOCK..5 * BLOCK + 9, len), [5]);
        assert_eq!(m.edges(7 * BLOCK + 1..7 * BLOCK + 2, len), [0; 0], "past the lower");
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_blocks(
            ranges in prop::collection::vec((0u64..40, 0u64..8), 0..12),
            from in 0u64..(48 * BLOCK), n in 0u64..(8 * BLOCK), lower in 0u64..(48 * BLOCK),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(s, n)| s..s + n).collect();
            let m = map(&ranges);
            let has = |b: u64| ranges.iter().any(|r| r.contains(&b));
            for b in 0..60 {
                prop_assert_eq!(m.contains(b), has(b));
            }
            let missing = (from / BLOCK..60).find(|b| !has(*b));
            prop_assert_eq!(m.next_missing(from / BLOCK, 60).map(|r| r.start), missing);
            let mut at = from;
            for part in m.parts(from..from + n, lower) {
                let (upper, r) = match part {
                    Part::Upper(r) => (true, r),
                    Part::Lower(r) => (false, r),
                };
                prop_assert!(r.start == at && r.end > at);
                at = r.end;
                for b in [r.start, r.end - 1, r.start + (r.end - r.start) / 2] {
                    prop_assert_eq!(upper, has(b / BLOCK) || b >= lower);
                }
            }
            prop_assert_eq!(at, from + n);
        }
    }
}
