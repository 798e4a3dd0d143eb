//! The parts of a file that a guest has got, over all its requests. No I/O.

use std::ops::Range;

/// More gaps than a download manager leaves; beyond, the smallest part is forgotten.
const MAX_RANGES: usize = 64;

/// The parts of a file that were delivered, as disjoint ranges in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeliveredRanges(Vec<Range<u64>>);

impl DeliveredRanges {
    /// Adds a range.
    pub(super) fn add(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        // Ranges that only touch are merged as well.
        let first = self.0.partition_point(|range| range.end < new.start);
        let after = self.0.partition_point(|range| range.start <= new.end);
        let touched = &self.0[first..after];
        let start = touched.first().map_or(new.start, |range| range.start.min(new.start));
        let end = touched.last().map_or(new.end, |range| range.end.max(new.end));
        self.0.splice(first..after, std::iter::once(start..end));
        if self.0.len() > MAX_RANGES
            && let Some(smallest) = (0..self.0.len()).min_by_key(|at| self.0[*at].end - self.0[*at].start)
        {
            // The least is forgotten: what it tells of has to be fetched once more.
            self.0.remove(smallest);
        }
    }

    /// Returns whether all `size` bytes were delivered.
    pub(super) fn is_whole(&self, size: u64) -> bool {
        size == 0 || self.0.first().is_some_and(|range| range.start == 0 && range.end >= size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_union_of_all(added in proptest::collection::vec((0_u64..60, 0_u64..20), 0..40)) {
            let mut ranges = DeliveredRanges::default();
            let mut expected = [false; 80];
            for (start, len) in added {
                ranges.add(start..start + len);
                (start..start + len).for_each(|at| expected[usize::try_from(at).unwrap()] = true);
            }
            let mut got = [false; 80];
            for range in &ranges.0 {
                range.clone().for_each(|at| got[usize::try_from(at).unwrap()] = true);
            }
            prop_assert_eq!(got, expected);
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            for size in 0..80 {
                prop_assert_eq!(ranges.is_whole(size), (0..size).all(|at| expected[usize::try_from(at).unwrap()]));
            }
        }
    }

    #[test]
    fn they_are_bounded() {
        let mut ranges = DeliveredRanges::default();
        (0..10_000).for_each(|number| ranges.add(number * 10..number * 10 + 5));
        assert_eq!(ranges.0.len(), MAX_RANGES);
    }
}
