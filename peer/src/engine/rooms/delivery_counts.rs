//! The members who have our messages. Pure.

use std::collections::HashMap;

use shared::Fingerprint;

/// The newest of our messages that each member has, by number.
#[derive(Debug, Default)]
pub(super) struct DeliveryCounts(HashMap<Fingerprint, u64>);

impl DeliveryCounts {
    /// Notes that `member` has our messages up to `number`. Returns true if that was not known.
    pub(super) fn note(&mut self, member: Fingerprint, number: u64) -> bool {
        let known = self.0.entry(member).or_default();
        let is_new = *known < number;
        // Acks, comparisons and the disk tell numbers in any order: an older one takes nothing back.
        *known = (*known).max(number);
        is_new
    }

    /// Returns the number of `members` who have our message of this number.
    pub(super) fn count<'a>(&self, number: u64, members: impl Iterator<Item = &'a Fingerprint>) -> usize {
        members.filter(|member| self.0.get(*member).is_some_and(|known| *known >= number)).count()
    }

    /// Returns the greatest number that one of `members` has.
    pub(super) fn newest<'a>(&self, members: impl Iterator<Item = &'a Fingerprint>) -> u64 {
        members.filter_map(|member| self.0.get(member)).copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_all_up_to_the_newest() {
        let [bob, carol] = [1, 2].map(|byte| Fingerprint::from_bytes([byte; 32]));
        let mut counts = DeliveryCounts::default();
        assert!(counts.note(bob, 3) && !counts.note(bob, 2) && counts.note(carol, 1));
        assert_eq!([1, 3, 4].map(|number| counts.count(number, [&bob, &carol].into_iter())), [2, 1, 0]);
        assert_eq!((counts.newest([&carol].into_iter()), counts.newest([].into_iter())), (1, 0));
    }
}
