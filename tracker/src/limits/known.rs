//! Who gave the right password where, lately.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use shared::UserName;

use super::Origin;

/// Half of what is remembered at most.
const HALF: usize = 32_768;

/// The newest at least 32,768 pairs of user and address, at most twice as many.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    newer: HashSet<(UserName, Origin)>,
    older: HashSet<(UserName, Origin)>,
}

impl Known {
    pub(super) fn insert(&self, user: &UserName, from: Origin) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.newer.len() >= HALF {
            halves.older = std::mem::take(&mut halves.newer);
        }
        halves.newer.insert((user.clone(), from));
    }

    pub(super) fn has(&self, user: &UserName, from: Origin) -> bool {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (user.clone(), from);
        halves.newer.contains(&pair) || halves.older.contains(&pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_not_too_many() {
        let (known, bob) = (Known::default(), "bob".parse().unwrap());
        let from = |n: u32| Origin::of(std::net::IpAddr::from((0xfd00_u128 << 112 | u128::from(n)).to_be_bytes()));
        for n in 0..200_000 {
            known.insert(&bob, from(n));
        }
        assert!(known.has(&bob, from(199_999)) && known.has(&bob, from(170_000)) && !known.has(&bob, from(0)));
        let halves = known.0.lock().unwrap();
        assert!(halves.newer.len() + halves.older.len() <= 2 * HALF);
    }
}
