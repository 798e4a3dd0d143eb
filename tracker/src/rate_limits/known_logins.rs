//! Users whose right password came from an origin lately.

use std::collections::HashSet;

use parking_lot::Mutex;
use shared::UserName;

use super::ClientOrigin;

/// Pairs in one of the two generations.
const GENERATION_SIZE: usize = 32_768;

/// Between 32,768 and 65,536 of the latest pairs of user and origin.
#[derive(Debug, Default)]
pub(super) struct KnownLogins(Mutex<LoginGenerations>);

#[derive(Debug, Default)]
struct LoginGenerations {
    newer: HashSet<(UserName, ClientOrigin)>,
    older: HashSet<(UserName, ClientOrigin)>,
}

impl KnownLogins {
    pub(super) fn insert(&self, user: &UserName, from: ClientOrigin) {
        let mut halves = self.0.lock();
        if halves.newer.len() >= GENERATION_SIZE {
            // The older generation is dropped as a whole: no order or time has to be kept for each pair.
            halves.older = std::mem::take(&mut halves.newer);
        }
        halves.newer.insert((user.clone(), from));
    }

    pub(super) fn contains(&self, user: &UserName, from: ClientOrigin) -> bool {
        let halves = self.0.lock();
        let pair = (user.clone(), from);
        halves.newer.contains(&pair) || halves.older.contains(&pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_not_too_many() {
        let (known, bob) = (KnownLogins::default(), "bob".parse().unwrap());
        let from =
            |n: u32| ClientOrigin::of(std::net::IpAddr::from((0xfd00_u128 << 112 | u128::from(n)).to_be_bytes()));
        for n in 0..200_000 {
            known.insert(&bob, from(n));
        }
        assert!(
            known.contains(&bob, from(199_999))
                && known.contains(&bob, from(170_000))
                && !known.contains(&bob, from(0))
        );
        let halves = known.0.lock();
        assert!(halves.newer.len() + halves.older.len() <= 2 * GENERATION_SIZE);
    }
}
