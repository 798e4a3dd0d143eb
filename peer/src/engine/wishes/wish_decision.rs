//! Decides what to do with the files that the tracker found for a wish.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a file that is fetched | the wish's bound | it is told, with the reason |

use crate::profile::{Wish, WishMatch};

/// The reason why a file that matches isn't fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WishHoldReason {
    /// It has more bytes than the wish allows.
    TooLarge,
    /// Its name, or a folder's, begins with a dot.
    HiddenName,
}

/// What to do with the files that match.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WishDecision {
    /// The file that fulfils the wish: it is told, or fetched.
    pub chosen: Option<WishMatch>,
    /// The number of further files that would.
    pub others: usize,
    /// Files that are told, and don't fulfil it.
    pub held: Vec<(WishMatch, WishHoldReason)>,
}

/// Chooses among the files that match and were not told before. The largest isn't better than the smallest: the order is
/// that of users and names.
pub fn decide(wish: &Wish, mut matches: Vec<WishMatch>) -> WishDecision {
    matches.sort();
    matches.dedup();
    let mut decision = WishDecision::default();
    for file in matches {
        match hold_reason(wish, &file) {
            Some(reason) => decision.held.push((file, reason)),
            None if decision.chosen.is_none() => decision.chosen = Some(file),
            None => decision.others += 1,
        }
    }
    decision
}

/// Returns the reason why a file that matches isn't fetched, if there is one.
pub fn hold_reason(wish: &Wish, file: &WishMatch) -> Option<WishHoldReason> {
    // What is only told can be looked at before it is fetched.
    wish.folder.as_ref()?;
    if file.name.is_hidden() {
        return Some(WishHoldReason::HiddenName);
    }
    (file.size > wish.max_bytes).then_some(WishHoldReason::TooLarge)
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;

    use super::*;
    use crate::profile::WishState;

    fn wish(folder: Option<&str>) -> Wish {
        let (query, state) = ("x".to_owned(), WishState::Waiting);
        Wish { number: 1, query, user: None, folder: folder.map(Into::into), max_bytes: 10, at: 0, state, found: None }
    }

    fn file(by: &str, name: &str, size: u64) -> WishMatch {
        WishMatch { by: by.parse().unwrap(), name: name.parse().unwrap(), size, hash: ContentHash::of(b"x") }
    }

    #[test]
    fn the_first_that_may_be_fetched_fulfils_it() {
        let matches = vec![file("bob", "b", 10), file("bob", "a", 11), file("alice", ".x/a", 1), file("bob", "b", 10)];
        let decision = decide(&wish(Some("/in")), matches.clone());
        assert_eq!((decision.chosen, decision.others), (Some(file("bob", "b", 10)), 0));
        let held: Vec<_> =
            decision.held.into_iter().map(|(file, reason)| (file.name.as_str().to_owned(), reason)).collect();
        assert_eq!(held, [(".x/a".to_owned(), WishHoldReason::HiddenName), ("a".to_owned(), WishHoldReason::TooLarge)]);
        let told = decide(&wish(None), matches);
        assert_eq!((told.chosen, told.others, told.held.len()), (Some(file("alice", ".x/a", 1)), 2, 0));
        assert_eq!(decide(&wish(None), vec![]), WishDecision::default());
    }
}
