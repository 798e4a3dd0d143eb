//! The bound of pushed messages of each author. Pure.

use std::collections::HashMap;
use std::time::Instant;

use shared::Fingerprint;

use crate::util::rate_limit::TokenBucket;

const PUSHES_PER_SECOND: u64 = 20;
const PUSH_BURST: u64 = 200;
/// Authors that are remembered; members are fewer.
const MAX_AUTHORS: usize = 1024;

/// Counts the messages that come unasked. Beyond the bound an author is only pulled, so whoever writes faster delays
/// himself and costs the others no more than they ask for.
#[derive(Debug, Default)]
pub(super) struct PushLimiter(HashMap<Fingerprint, TokenBucket>);

impl PushLimiter {
    /// Returns true if one more message of `author` may be taken now.
    pub(super) fn allow(&mut self, author: &Fingerprint, now: Instant) -> bool {
        if self.0.len() >= MAX_AUTHORS {
            // A full bucket is worth as much as a new one, so nobody gains by being forgotten.
            self.0.retain(|_, bucket| !bucket.is_full(now));
        }
        let new = || TokenBucket::with_burst(PUSHES_PER_SECOND, PUSH_BURST, now);
        self.0.entry(*author).or_insert_with(new).try_consume(1, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_rate_and_costs_nobody_else() {
        let (mut limiter, mut now) = (PushLimiter::default(), Instant::now());
        let [mallory, alice] = [1, 2].map(|byte| Fingerprint::from_bytes([byte; 32]));
        let taken = (0..1000).filter(|_| limiter.allow(&mallory, now)).count();
        assert_eq!(taken, 200);
        assert!(limiter.allow(&alice, now));
        now += Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| limiter.allow(&mallory, now)).count(), 20);
    }
}
