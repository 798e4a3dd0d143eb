//! Groups of a file that consist of zeros, mostly the holes of sparse files.
//!
//! They are neither sent nor stored. Their chaining values follow from their positions
//! ([`GroupLayout::zero_chaining_value`]), so a receiver with the manifest verifies such a claim without any byte of
//! the file.

use crate::content::GroupLayout;
use crate::limits::MAX_ZERO_RUNS;

/// The all-zero groups of one file as half-open ranges: sorted, not empty, not adjacent, at most [`MAX_ZERO_RUNS`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZeroRuns(Vec<(u32, u32)>);

impl ZeroRuns {
    /// Collects sorted `groups` into runs. Keeps the longest if there are more than [`MAX_ZERO_RUNS`].
    pub fn from_groups(groups: impl IntoIterator<Item = u32>) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for group in groups {
            match runs.last_mut() {
                Some((_, end)) if *end == group => *end += 1,
                _ => runs.push((group, group.saturating_add(1))),
            }
        }
        if runs.len() > MAX_ZERO_RUNS {
            // Dropping a run is safe: its groups are then sent like others.
            runs.sort_by_key(|(start, end)| std::cmp::Reverse(end - start));
            runs.truncate(MAX_ZERO_RUNS);
            runs.sort_unstable();
        }
        Self(runs)
    }

    /// Checks ranges that a peer claims for a file of this layout. Returns `None` if they break the invariants of
    /// [`ZeroRuns`] or exceed the file.
    pub fn from_untrusted(layout: &GroupLayout, runs: Vec<(u32, u32)>) -> Option<Self> {
        let mut free = 0;
        // An honest peer sends no more: `from_groups` keeps the longest.
        let fits = runs.len() <= MAX_ZERO_RUNS
            && runs.iter().enumerate().all(|(no, (start, end))| {
                // Adjacent runs are refused, so that each set has one form.
                let apart = no == 0 || *start > free;
                free = *end;
                apart && start < end
            })
            // Runs ascend, so the last end is the greatest.
            && free <= layout.group_count();
        fits.then_some(Self(runs))
    }

    /// Parses the form that [`ZeroRuns::to_bytes`] writes. Returns `None` for anything else.
    pub fn from_bytes(layout: &GroupLayout, bytes: &[u8]) -> Option<Self> {
        let (runs, rest) = bytes.as_chunks::<8>();
        let number = |[a, b, c, d]: [u8; 4]| u32::from_le_bytes([a, b, c, d]);
        let run = |[a, b, c, d, e, f, g, h]: &[u8; 8]| (number([*a, *b, *c, *d]), number([*e, *f, *g, *h]));
        // What comes from the disk is checked like the claim of a peer.
        rest.is_empty().then(|| runs.iter().map(run).collect()).and_then(|runs| Self::from_untrusted(layout, runs))
    }

    /// Returns the stored form, 8 bytes per run: start and end as little-endian u32.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()]).flatten().collect()
    }

    /// Returns the half-open ranges.
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Iterates over all groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(start, end)| *start..*end)
    }

    /// Returns true if `group` is in one of the runs.
    pub fn contains(&self, group: u32) -> bool {
        let behind = self.0.partition_point(|(start, _)| *start <= group);
        behind.checked_sub(1).and_then(|before| self.0.get(before)).is_some_and(|(_, end)| group < *end)
    }

    /// Returns true if there are no runs.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of the file's bytes in these groups.
    pub fn byte_len(&self, layout: &GroupLayout) -> u64 {
        self.0.iter().map(|(start, end)| layout.range_len(*start, *end)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::Manifest;

    #[test]
    fn golden_bytes() {
        let layout = GroupLayout::of(10 << 20).unwrap();
        let zeros = ZeroRuns::from_groups([1, 2, 3, 9]);
        assert_eq!(zeros.runs(), [(1, 4), (9, 10)]);
        assert_eq!(zeros.to_bytes(), [1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 10, 0, 0, 0]);
        assert_eq!(zeros.byte_len(&layout), 4 << 20);
        let last = GroupLayout::of((9 << 20) + 5).unwrap();
        assert_eq!(zeros.byte_len(&last), (3 << 20) + 5);
    }

    #[test]
    fn what_can_not_be_of_that_file_is_refused() {
        let layout = GroupLayout::of(10 << 20).unwrap();
        let checked = |runs: &[(u32, u32)]| ZeroRuns::from_untrusted(&layout, runs.to_vec());
        assert!(checked(&[]).is_some_and(|none| none.is_empty()));
        assert!(checked(&[(0, 1), (2, 10)]).is_some());
        for wrong in [&[(0, 11)][..], &[(3, 3)], &[(4, 3)], &[(2, 3), (0, 1)], &[(0, 2), (2, 3)], &[(0, 2), (1, 3)]] {
            assert_eq!(checked(wrong), None, "{wrong:?}");
        }
        let large = GroupLayout::of(32_768 << 20).unwrap();
        let many: Vec<(u32, u32)> =
            (0..=u32::try_from(MAX_ZERO_RUNS).unwrap()).map(|no| (no * 3, no * 3 + 1)).collect();
        assert_eq!(ZeroRuns::from_untrusted(&large, many), None, "more than a frame holds");
    }

    #[test]
    fn of_very_many_runs_the_longest_are_kept() {
        let long = 30_000..30_100;
        let zeros = ZeroRuns::from_groups((0..29_000).step_by(2).chain(long));
        assert_eq!(zeros.runs().len(), MAX_ZERO_RUNS);
        assert_eq!(zeros.runs().last(), Some(&(30_000, 30_100)));
        assert!(zeros.runs().is_sorted());
    }

    #[test]
    fn the_values_of_zeros_are_those_of_zeros_that_were_read() {
        let bytes = vec![0; (3 << 20) + 70_000];
        let layout = GroupLayout::of(bytes.len() as u64).unwrap();
        let groups = bytes.chunks(1 << 20);
        let values: Vec<_> = (0..).zip(groups).map(|(group, bytes)| layout.chaining_value(group, bytes)).collect();
        let zeros: Vec<_> = (0..layout.group_count()).map(|group| layout.zero_chaining_value(group)).collect();
        assert_eq!(zeros, values);
        assert_ne!(zeros[0], zeros[1], "the place is part of the value");
        assert_eq!(Manifest::new(zeros).content_hash(), crate::ContentHash::of(&bytes));
        assert_eq!(GroupLayout::of(0).unwrap().zero_chaining_value(0), *crate::ContentHash::of(&[]).as_bytes());
    }

    proptest! {
        #[test]
        fn runs_round_trip(groups in proptest::collection::btree_set(0_u32..300, 0..60)) {
            let layout = GroupLayout::of(300 << 20).unwrap();
            let zeros = ZeroRuns::from_groups(groups.iter().copied());
            prop_assert_eq!(zeros.groups().collect::<Vec<_>>(), groups.iter().copied().collect::<Vec<_>>());
            for group in 0..310 {
                prop_assert_eq!(zeros.contains(group), groups.contains(&group));
            }
            prop_assert_eq!(ZeroRuns::from_bytes(&layout, &zeros.to_bytes()), Some(zeros.clone()));
            prop_assert_eq!(ZeroRuns::from_untrusted(&layout, zeros.runs().to_vec()), Some(zeros));
        }

        #[test]
        fn mutated_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let layout = GroupLayout::of(300 << 20).unwrap();
            if let Some(zeros) = ZeroRuns::from_bytes(&layout, &bytes) {
                prop_assert!(zeros.groups().all(|group| group < layout.group_count()));
            }
        }
    }
}
