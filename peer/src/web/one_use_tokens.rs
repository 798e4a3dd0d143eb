//! Random tokens that work once and for a short time. No I/O: `now` is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Returns 128 random bits as text.
pub(super) fn random_text() -> String {
    shared::hex::encode(&rand::random::<[u8; 16]>())
}

/// Tokens that are open, each with what it is for. Only their hashes are kept.
#[derive(Debug)]
pub(super) struct OneUseTokens<T> {
    life: Duration,
    bound: usize,
    open: VecDeque<(blake3::Hash, Instant, T)>,
}

impl<T> OneUseTokens<T> {
    /// Returns none yet. Of more than `bound` the oldest end.
    pub(super) const fn new(life: Duration, bound: usize) -> Self {
        Self { life, bound, open: VecDeque::new() }
    }

    /// Makes a token for `what`.
    pub(super) fn issue(&mut self, what: T, now: Instant) -> String {
        self.forget_old(now);
        while self.open.len() >= self.bound {
            self.open.pop_front();
        }
        let token = random_text();
        self.open.push_back((blake3::hash(token.as_bytes()), now, what));
        token
    }

    /// Returns what a token is for, which stays in use.
    pub(super) fn find(&mut self, token: &str, now: Instant) -> Option<&T> {
        self.forget_old(now);
        let hash = blake3::hash(token.as_bytes());
        self.open.iter().find(|(open, ..)| *open == hash).map(|(.., what)| what)
    }

    /// Takes a token out of use, and returns what it is for; `None` if it is unknown, used or too old.
    pub(super) fn redeem(&mut self, token: &str, now: Instant) -> Option<T> {
        self.forget_old(now);
        // Hashes are compared in constant time, and say nothing of the token.
        let hash = blake3::hash(token.as_bytes());
        let place = self.open.iter().position(|(open, ..)| *open == hash)?;
        self.open.remove(place).map(|(.., what)| what)
    }

    fn forget_old(&mut self, now: Instant) {
        self.open.retain(|(_, issued, _)| now.saturating_duration_since(*issued) < self.life);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_once_and_not_for_long() {
        let (mut tokens, now) = (OneUseTokens::new(Duration::from_secs(60), 2), Instant::now());
        let first = tokens.issue(1, now);
        assert_eq!((first.len(), tokens.redeem("", now), tokens.redeem(&first[1..], now)), (32, None, None));
        assert_eq!(tokens.find(&first[1..], now), None);
        assert_eq!(tokens.find(&first, now), Some(&1));
        assert_eq!((tokens.redeem(&first, now), tokens.redeem(&first, now)), (Some(1), None));
        assert_eq!(tokens.find(&first, now), None);
        let old = tokens.issue(2, now);
        assert_eq!(tokens.redeem(&old, now + Duration::from_secs(60)), None);
        let three = [3, 4, 5].map(|what| tokens.issue(what, now));
        assert_eq!(three.map(|token| tokens.redeem(&token, now)), [None, Some(4), Some(5)]);
    }
}
