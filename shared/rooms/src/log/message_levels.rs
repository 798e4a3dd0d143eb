//! The messages of one author by number.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;

use shared::room::MessageHash;

/// The contents of each number, without a hole. It knows whether some number has several, which each comparison asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageLevels {
    levels: BTreeMap<u64, Vec<MessageHash>>,
    /// The number of levels with several contents.
    forked: usize,
}

impl MessageLevels {
    /// Returns true if some number has several contents.
    pub(crate) fn is_forked(&self) -> bool {
        self.forked > 0
    }

    /// Adds a content of a number.
    pub(super) fn push(&mut self, number: u64, hash: MessageHash) {
        let contents = self.levels.entry(number).or_default();
        contents.push(hash);
        // Counted at the second content only: with a third one, it is the same level.
        self.forked += usize::from(contents.len() == 2);
    }

    /// Removes contents of a number.
    pub(super) fn remove(&mut self, number: u64, gone: &HashSet<MessageHash>) {
        let Some(contents) = self.levels.get_mut(&number) else { return };
        let was_forked = contents.len() > 1;
        contents.retain(|hash| !gone.contains(hash));
        self.forked -= usize::from(was_forked && contents.len() <= 1);
        if contents.is_empty() {
            self.levels.remove(&number);
        }
    }

    /// Removes the lowest number.
    pub(super) fn pop_first(&mut self) -> Option<(u64, Vec<MessageHash>)> {
        let first = self.levels.pop_first()?;
        self.forked -= usize::from(first.1.len() > 1);
        Some(first)
    }
}

impl Deref for MessageLevels {
    type Target = BTreeMap<u64, Vec<MessageHash>>;

    fn deref(&self) -> &Self::Target {
        &self.levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_come_and_go_with_their_messages() {
        let [one, other, third] = [1, 2, 3].map(|byte| MessageHash::from_bytes([byte; 32]));
        let mut levels = MessageLevels::default();
        levels.push(1, one);
        assert!(!levels.is_forked());
        for hash in [other, third] {
            levels.push(1, hash);
            assert!(levels.is_forked());
        }
        levels.remove(1, &HashSet::from([third]));
        assert!(levels.is_forked());
        levels.remove(1, &HashSet::from([one, other]));
        assert!(!levels.is_forked() && levels.is_empty());
        levels.push(1, one);
        levels.push(1, other);
        levels.push(2, third);
        assert_eq!(levels.pop_first().map(|(number, contents)| (number, contents.len())), Some((1, 2)));
        assert!(!levels.is_forked() && levels.contains_key(&2));
    }
}
