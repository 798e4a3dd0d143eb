//! The search for an author's missing messages. Pure.
//!
//! A message whose predecessors are missing isn't taken. First every member that can be reached is asked for them, for
//! [`SEARCH_MS`] at least. If nobody has them, they are given up, which the user is told.

use std::collections::{BTreeSet, HashMap};

use shared::Fingerprint;

/// Least time of a search, in milliseconds: members may just be connecting.
const SEARCH_MS: u64 = 10_000;

/// The authors of whom messages are missing.
#[derive(Debug, Default)]
pub(super) struct GapSearch(HashMap<Fingerprint, MissingMessages>);

#[derive(Debug)]
struct MissingMessages {
    since: u64,
    /// Members who were asked and don't have them.
    asked: BTreeSet<Fingerprint>,
}

impl GapSearch {
    /// Notes that `member` offers messages of `author` without those before them.
    pub(super) fn note_missing(&mut self, author: Fingerprint, member: Fingerprint, now: u64) {
        let missing = self.0.entry(author).or_insert_with(|| MissingMessages { since: now, asked: BTreeSet::new() });
        missing.asked.insert(member);
    }

    /// Notes that messages of `author` came: the search, if there is one, begins anew.
    pub(super) fn note_progress(&mut self, author: &Fingerprint) {
        self.0.remove(author);
    }

    /// Returns true if all of `reachable` were asked for the messages of `author`, for long enough.
    pub(super) fn is_exhausted(&self, author: &Fingerprint, reachable: &BTreeSet<Fingerprint>, now: u64) -> bool {
        self.0.get(author).is_some_and(|missing| {
            // Whoever wasn't asked yet may have what is missing.
            now.saturating_sub(missing.since) >= SEARCH_MS && reachable.is_subset(&missing.asked)
        })
    }

    /// Returns true if a search goes on.
    pub(super) fn is_searching(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_given_up_after_everybody_was_asked() {
        let [alice, bob, carol] = [1, 2, 3].map(|byte| Fingerprint::from_bytes([byte; 32]));
        let reachable = BTreeSet::from([bob, carol]);
        let mut search = GapSearch::default();
        assert!(!search.is_exhausted(&alice, &reachable, 99_999));
        search.note_missing(alice, bob, 1_000);
        assert!(!search.is_exhausted(&alice, &reachable, 20_000), "carol was not asked");
        search.note_missing(alice, carol, 5_000);
        assert!(!search.is_exhausted(&alice, &reachable, 10_999) && search.is_exhausted(&alice, &reachable, 11_000));
        search.note_progress(&alice);
        assert!(!search.is_searching() && !search.is_exhausted(&alice, &reachable, 11_000));
    }
}
