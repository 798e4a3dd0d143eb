//! The search for an author's missing messages. Pure.
//!
//! A message whose predecessors are missing isn't taken. First every member that can be reached is asked for them, for
//! [`SEARCH_TIME`] at least. If nobody has them, they are given up, which the user is told.
//!
//! A refused message comes again only when both copies are compared anew. So a search demands rounds of comparisons:
//! from [`SEARCH_TIME`] on, at growing intervals, until everybody was asked, and then the last one.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use shared::Fingerprint;

/// Least time of a search: members may just be connecting.
const SEARCH_TIME: Duration = Duration::from_secs(10);
/// The pause after the first round. Each is twice the one before.
const FIRST_ROUND_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, and the time of the last round.
const MAX_ROUND_PAUSE: Duration = Duration::from_secs(60);

/// The authors of whom messages are missing.
#[derive(Debug, Default)]
pub(super) struct GapSearch(HashMap<Fingerprint, MissingMessages>);

#[derive(Debug)]
struct MissingMessages {
    since: Instant,
    /// Members who were asked and don't have them.
    asked: BTreeSet<Fingerprint>,
    /// Members whose turn ended without anything new before they had nothing more.
    unfinished: BTreeSet<Fingerprint>,
    next_round: Instant,
    pause: Duration,
    is_last_round: bool,
}

impl GapSearch {
    /// Notes that `member` offers messages of `author` without those before them.
    pub(super) fn note_missing(&mut self, author: Fingerprint, member: Fingerprint, now: Instant) {
        self.0.entry(author).or_insert_with(|| MissingMessages::new(now)).asked.insert(member);
    }

    /// Notes that `member` was asked for all that it has.
    pub(super) fn note_asked(&mut self, member: Fingerprint) {
        for missing in self.0.values_mut() {
            missing.asked.insert(member);
        }
    }

    /// Notes that a turn of `member` ended with nothing new, and before it had nothing more. The second time it counts as
    /// asked: a slow member has another turn, and one that never comes to an end keeps nobody from what others have.
    pub(super) fn note_unfinished(&mut self, member: Fingerprint) {
        for missing in self.0.values_mut() {
            if !missing.unfinished.insert(member) {
                missing.asked.insert(member);
            }
        }
    }

    /// Notes that messages of `author` came: the search, if there is one, begins anew.
    pub(super) fn note_progress(&mut self, author: &Fingerprint) {
        self.0.remove(author);
    }

    /// Returns true if all of `reachable` were asked for the messages of `author`, for long enough.
    pub(super) fn is_exhausted(&self, author: &Fingerprint, reachable: &BTreeSet<Fingerprint>, now: Instant) -> bool {
        self.0.get(author).is_some_and(|missing| missing.is_exhausted(reachable, now))
    }

    /// Returns true if a search goes on.
    pub(super) fn is_searching(&self) -> bool {
        !self.0.is_empty()
    }

    /// Begins the rounds that are due. Returns true if there is one: all of `reachable` are to be compared with anew.
    pub(super) fn begin_round(&mut self, reachable: &BTreeSet<Fingerprint>, now: Instant) -> bool {
        let mut is_due = false;
        self.0.retain(|_, missing| {
            if now < missing.next_round {
                return true;
            }
            let is_exhausted = missing.is_exhausted(reachable, now);
            if is_exhausted && missing.is_last_round {
                // What comes behind the gap is offered no longer, or can't be taken: a new offer begins a new search.
                return false;
            }
            missing.is_last_round = is_exhausted;
            missing.next_round = now + if is_exhausted { MAX_ROUND_PAUSE } else { missing.pause };
            missing.pause = (missing.pause * 2).min(MAX_ROUND_PAUSE);
            is_due = true;
            true
        });
        is_due
    }
}

impl MissingMessages {
    fn new(now: Instant) -> Self {
        let (next_round, pause) = (now + SEARCH_TIME, FIRST_ROUND_PAUSE);
        let (asked, unfinished) = (BTreeSet::new(), BTreeSet::new());
        Self { since: now, asked, unfinished, next_round, pause, is_last_round: false }
    }

    fn is_exhausted(&self, reachable: &BTreeSet<Fingerprint>, now: Instant) -> bool {
        // Whoever wasn't asked yet may have what is missing.
        now.duration_since(self.since) >= SEARCH_TIME && reachable.is_subset(&self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [Fingerprint; 3] {
        [1, 2, 3].map(|byte| Fingerprint::from_bytes([byte; 32]))
    }

    #[test]
    fn messages_are_given_up_after_everybody_was_asked() {
        let [alice, bob, carol] = keys();
        let reachable = BTreeSet::from([bob, carol]);
        let (mut search, start) = (GapSearch::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!search.is_exhausted(&alice, &reachable, after(99_999)));
        search.note_missing(alice, bob, after(1_000));
        assert!(!search.is_exhausted(&alice, &reachable, after(20_000)), "carol was not asked");
        search.note_asked(carol);
        let is_exhausted = |search: &GapSearch, ms| search.is_exhausted(&alice, &reachable, after(ms));
        assert!(!is_exhausted(&search, 10_999) && is_exhausted(&search, 11_000));
        search.note_progress(&alice);
        assert!(!search.is_searching() && !is_exhausted(&search, 11_000));
    }

    #[test]
    fn a_slow_member_has_a_second_turn() {
        let [alice, bob, carol] = keys();
        let reachable = BTreeSet::from([bob, carol]);
        let (mut search, start) = (GapSearch::default(), Instant::now());
        search.note_missing(alice, bob, start);
        let is_exhausted = |search: &GapSearch| search.is_exhausted(&alice, &reachable, start + SEARCH_TIME);
        search.note_unfinished(carol);
        assert!(!is_exhausted(&search));
        search.note_unfinished(carol);
        assert!(is_exhausted(&search));
    }

    #[test]
    fn a_search_demands_few_comparisons_and_ends() {
        let [alice, bob, carol] = keys();
        let (mut search, start) = (GapSearch::default(), Instant::now());
        search.note_missing(alice, bob, start);
        let mut rounds = |reachable: &BTreeSet<Fingerprint>, seconds: std::ops::Range<u64>| -> Vec<u64> {
            seconds.filter(|second| search.begin_round(reachable, start + Duration::from_secs(*second))).collect()
        };
        let both = BTreeSet::from([bob, carol]);
        assert_eq!(rounds(&both, 0..200), [10, 11, 13, 17, 25, 41, 73, 133, 193]);
        // Carol went: everybody who is left was asked.
        assert_eq!(rounds(&BTreeSet::from([bob]), 200..1000), [253]);
        assert!(!search.is_searching());
    }
}
