//! The addresses of a tracker at which something was wrong of late. Pure.
//!
//! Whoever fails is not asked first for a while, which doubles each time; it is asked all the same when nobody else
//! answers. A peer that found another place stays there: nothing makes it come back but a failure of that one.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | addresses | `MAX_AVOIDED` | the one whose time ends first is forgotten |
//! | time for which one is avoided | 30 s, twice as long each time up to 10 min, jittered | |
//! | memory of failures | 10 min after that time | forgotten |

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::happy_eyeballs::DialAttempt;
use crate::util::Backoff;

const MAX_AVOIDED: usize = 32;
const AVOIDANCE: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(600));
/// Time after which an address that was avoided once begins with the shortest time again.
const MEMORY: Duration = Duration::from_secs(600);
/// The start that addresses have before those that are avoided.
const HEAD_START: Duration = Duration::from_secs(2);

/// The addresses that failed of late.
#[derive(Debug, Clone, Default)]
pub struct AvoidedAddresses(Vec<AvoidedAddress>);

#[derive(Debug, Clone)]
struct AvoidedAddress {
    address: SocketAddr,
    until: Instant,
    backoff: Backoff,
}

impl AvoidedAddresses {
    /// Avoids an address that failed. `jitter` is from 0 to 1: many peers see the same failure.
    pub fn note_failure(&mut self, address: SocketAddr, jitter: f64, now: Instant) {
        self.0.retain(|one| now < one.until + MEMORY);
        let found = self.0.iter().position(|one| one.address == address);
        let mut backoff = found.map_or(AVOIDANCE, |place| self.0.swap_remove(place).backoff);
        let until = now + backoff.next_jittered(jitter);
        if self.0.len() >= MAX_AVOIDED
            && let Some(first) = (0..self.0.len()).min_by_key(|place| self.0.get(*place).map(|one| one.until))
        {
            self.0.swap_remove(first);
        }
        self.0.push(AvoidedAddress { address, until, backoff });
    }

    /// True if an address failed of late.
    pub fn contains(&self, address: SocketAddr, now: Instant) -> bool {
        self.until(address, now).is_some()
    }

    fn until(&self, address: SocketAddr, now: Instant) -> Option<Instant> {
        self.0.iter().find(|one| one.address == address && now < one.until).map(|one| one.until)
    }

    /// Returns the order in which addresses are tried: those that are avoided come last, and late.
    pub(super) fn dial_order(&self, addresses: &[SocketAddr], delay: Duration, now: Instant) -> Vec<DialAttempt> {
        let (fresh, mut avoided): (Vec<SocketAddr>, Vec<SocketAddr>) =
            addresses.iter().partition(|address| !self.contains(**address, now));
        avoided.sort_by_key(|address| self.until(*address, now));
        let first_avoided = fresh.len();
        let delay_at = |place| if place == first_avoided && place > 0 { HEAD_START } else { delay };
        let all = fresh.into_iter().chain(avoided).enumerate();
        all.map(|(place, address)| DialAttempt { address, delay: delay_at(place) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 8000))
    }

    fn order(avoided: &AvoidedAddresses, now: Instant) -> Vec<(u8, Duration)> {
        let all = [1, 2, 3].map(address);
        let number = |ip: std::net::IpAddr| ip.to_string().rsplit('.').next().unwrap().parse().unwrap();
        let attempts = avoided.dial_order(&all, DELAY, now);
        attempts.iter().map(|attempt| (number(attempt.address.ip()), attempt.delay)).collect()
    }

    #[test]
    fn those_that_failed_come_last_for_a_while_that_doubles() {
        let (mut avoided, mut now) = (AvoidedAddresses::default(), Instant::now());
        assert_eq!(order(&avoided, now), [(1, DELAY), (2, DELAY), (3, DELAY)]);
        avoided.note_failure(address(1), 1.0, now);
        assert_eq!(order(&avoided, now), [(2, DELAY), (3, DELAY), (1, HEAD_START)]);
        now += Duration::from_secs(10);
        avoided.note_failure(address(2), 1.0, now);
        assert_eq!(order(&avoided, now), [(3, DELAY), (1, HEAD_START), (2, DELAY)]);
        avoided.note_failure(address(3), 1.0, now);
        // Everybody failed: nobody has a head start, and the earliest comes first.
        assert_eq!(order(&avoided, now), [(1, DELAY), (2, DELAY), (3, DELAY)]);
        now += Duration::from_secs(21);
        assert_eq!(order(&avoided, now), [(1, DELAY), (2, HEAD_START), (3, DELAY)]);
        avoided.note_failure(address(1), 1.0, now);
        assert!(avoided.contains(address(1), now + Duration::from_secs(59)), "twice as long");
        assert!(!avoided.contains(address(1), now + Duration::from_secs(61)));
        now += Duration::from_secs(60) + MEMORY;
        avoided.note_failure(address(1), 1.0, now);
        assert!(!avoided.contains(address(1), now + Duration::from_secs(31)), "long ago");
    }

    proptest! {
        #[test]
        fn every_address_is_tried_whatever_failed(failures in proptest::collection::vec((0_u8..100, 0.0..1.0, 0_u64..900), 0..100)) {
            let (mut avoided, mut now) = (AvoidedAddresses::default(), Instant::now());
            for (n, jitter, pause) in failures {
                now += Duration::from_secs(pause);
                avoided.note_failure(address(n), jitter, now);
                prop_assert!(avoided.0.len() <= MAX_AVOIDED);
                prop_assert!(avoided.contains(address(n), now));
            }
            let mut all: Vec<SocketAddr> = (0..100).map(address).collect();
            let mut tried: Vec<SocketAddr> =
                avoided.dial_order(&all, DELAY, now).iter().map(|attempt| attempt.address).collect();
            all.sort();
            tried.sort();
            prop_assert_eq!(all, tried);
        }
    }
}
