//! The rate at which each address may write to the user. No I/O: `now` is an argument.

use std::collections::HashMap;
use std::time::Instant;

use super::address_limits::GuestAddress;
use crate::util::rate_limit::TokenBucket;

/// Messages of one address at once, and each second.
const BURST: u64 = 20;
const PER_SECOND: u64 = 1;
/// Addresses that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// The messages of each address.
#[derive(Debug, Default)]
pub(super) struct MessageRates(HashMap<GuestAddress, TokenBucket>);

impl MessageRates {
    /// Counts a message of an address; false if it came too soon.
    pub(super) fn try_count(&mut self, address: GuestAddress, now: Instant) -> bool {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&address) {
            self.0.retain(|_, bucket| !bucket.is_full(now));
            if self.0.len() >= MAX_REMEMBERED {
                // Nobody is forgotten early: whoever has many addresses would win back a whole burst for each.
                return false;
            }
        }
        let bucket = self.0.entry(address).or_insert_with(|| TokenBucket::with_burst(PER_SECOND, BURST, now));
        bucket.try_consume(1, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> GuestAddress {
        GuestAddress::of(text.parse().unwrap())
    }

    #[test]
    fn one_who_floods_slows_nobody_else() {
        let (mut rates, now) = (MessageRates::default(), Instant::now());
        let taken = (0..1000).filter(|_| rates.try_count(address("192.0.2.1"), now)).count();
        assert_eq!(taken, 20);
        assert!(rates.try_count(address("192.0.2.2"), now));
        let later = now + Duration::from_secs(2);
        assert_eq!((0..10).filter(|_| rates.try_count(address("192.0.2.1"), later)).count(), 2);
        for number in 0..MAX_REMEMBERED * 2 {
            rates.try_count(address(&format!("10.1.{}.{}", number / 250, number % 250)), now);
        }
        assert!(rates.0.len() <= MAX_REMEMBERED);
        assert!(rates.try_count(address("192.0.2.3"), now + Duration::from_secs(60)), "the others are forgotten");
    }
}
