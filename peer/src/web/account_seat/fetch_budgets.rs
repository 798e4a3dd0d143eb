//! The bytes that the fetches of a seat may have together. No I/O.
//!
//! The size of a fetch isn't known before its source answers. Until then it reserves nothing, and each may have all that is
//! left; the first whose size is known takes that from the others.

use std::collections::HashMap;

/// The budgets of the fetches that run, by their numbers.
#[derive(Debug, Default)]
pub(super) struct FetchBudgets(HashMap<u64, FetchBudget>);

#[derive(Debug)]
struct FetchBudget {
    /// The most that it may have.
    most: u64,
    /// Its own share of that; 0 while its size is not known.
    reserved: u64,
}

impl FetchBudgets {
    /// Returns what is reserved for each fetch.
    pub(super) fn reserved(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(number, budget)| (*number, budget.reserved))
    }

    /// Adds a fetch of unknown size, which may have up to `most` bytes.
    pub(super) fn insert(&mut self, number: u64, most: u64) {
        self.0.insert(number, FetchBudget { most, reserved: 0 });
    }

    /// Reserves so many bytes for a fetch in all; returns false if they are more than it may have.
    pub(super) fn reserve(&mut self, number: u64, bytes: u64) -> bool {
        let Some(budget) = self.0.get_mut(&number) else { return true };
        let more = bytes.saturating_sub(budget.reserved);
        if more == 0 {
            return true;
        }
        if bytes > budget.most {
            return false;
        }
        budget.reserved = bytes;
        self.others(number).for_each(|other| other.most = other.most.saturating_sub(more));
        true
    }

    /// Removes a fetch that has ended with so many bytes; the others may have what it left.
    pub(super) fn remove(&mut self, number: u64, fetched: u64) {
        let Some(budget) = self.0.remove(&number) else { return };
        let left = budget.reserved.saturating_sub(fetched);
        self.others(number).for_each(|other| other.most = other.most.saturating_add(left));
    }

    fn others(&mut self, number: u64) -> impl Iterator<Item = &mut FetchBudget> {
        self.0.iter_mut().filter(move |(other, _)| **other != number).map(|(_, budget)| budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetches_that_begin_together_have_the_rest_only_once() {
        let mut budgets = FetchBudgets::default();
        for number in 1..=4 {
            budgets.insert(number, 10);
        }
        assert!(budgets.reserve(1, 6));
        assert!(!budgets.reserve(2, 5), "6 of 10 are the first one's");
        assert!(budgets.reserve(3, 4));
        assert!(!budgets.reserve(4, 1), "nothing is left");
        assert_eq!(budgets.reserved().map(|(_, bytes)| bytes).sum::<u64>(), 10);
        assert!(budgets.reserve(1, 6), "it is told again with each progress");
    }

    #[test]
    fn a_fetch_that_grows_takes_only_what_is_left() {
        let mut budgets = FetchBudgets::default();
        budgets.insert(1, 10);
        budgets.insert(2, 10);
        assert!(budgets.reserve(1, 2) && budgets.reserve(2, 5) && budgets.reserve(1, 5));
        assert!(!budgets.reserve(1, 6));
    }

    #[test]
    fn a_fetch_that_ends_early_leaves_its_rest_to_the_others() {
        let mut budgets = FetchBudgets::default();
        budgets.insert(1, 10);
        budgets.insert(2, 10);
        assert!(budgets.reserve(1, 8) && !budgets.reserve(2, 3));
        budgets.remove(1, 3);
        assert!(budgets.reserve(2, 7) && !budgets.reserve(2, 8));
    }
}
