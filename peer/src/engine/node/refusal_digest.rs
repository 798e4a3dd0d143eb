//! How many lines there are about callers that were turned away. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | lines about one address | 3 in 10 s | counted, and told in one line |
//! | lines in all | 10 in 10 s | the same |
//! | addresses that are counted apart | 64 | counted together |
//! | lines with counts | 5 in 10 s | the rest in one more |

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// For how long callers are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
const PER_ADDRESS: u64 = 3;
const IN_ALL: u64 = 10;
const APART: usize = 64;
const TOLD_APART: usize = 5;

/// Callers that were turned away, counted.
#[derive(Debug)]
pub(super) struct RefusalDigest {
    began: Instant,
    told: u64,
    counts: HashMap<IpAddr, Count>,
    others: u64,
}

/// Callers of whom nothing was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UntoldCallers {
    pub(super) count: u64,
    /// From where; `None` for several addresses together.
    pub(super) from: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct Count {
    told: u64,
    untold: u64,
}

impl RefusalDigest {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, told: 0, counts: HashMap::new(), others: 0 }
    }

    /// Counts a caller from there; whether there may be a line about it.
    pub(super) fn note(&mut self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        if self.counts.len() >= APART && !self.counts.contains_key(&from) {
            self.others += 1;
            return false;
        }
        let count = self.counts.entry(from).or_default();
        let is_told = count.told < PER_ADDRESS && self.told < IN_ALL;
        if is_told {
            count.told += 1;
            self.told += 1;
        } else {
            count.untold += 1;
        }
        is_told
    }

    /// Returns what there was no line about, and begins anew; nothing before the time is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<UntoldCallers> {
        if now.duration_since(self.began) < WINDOW {
            return Vec::new();
        }
        let Self { counts, others, .. } = std::mem::replace(self, Self::new(now));
        let untold = counts.into_iter().filter(|(_, count)| count.untold > 0);
        let mut untold: Vec<UntoldCallers> =
            untold.map(|(from, count)| UntoldCallers { count: count.untold, from: Some(from) }).collect();
        untold.sort_unstable_by_key(|one| (std::cmp::Reverse(one.count), one.from));
        let rest: u64 = untold.iter().skip(TOLD_APART).map(|one| one.count).sum::<u64>() + others;
        untold.truncate(TOLD_APART);
        if rest > 0 {
            untold.push(UntoldCallers { count: rest, from: None });
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    #[test]
    fn a_flood_from_one_address_is_one_line_more() {
        let began = Instant::now();
        let mut digest = RefusalDigest::new(began);
        assert_eq!((0..226).filter(|_| digest.note(from(1))).count(), 3);
        assert!(digest.note(from(2)), "others are told of");
        assert_eq!(digest.take_due(began + WINDOW / 2), []);
        assert_eq!(digest.take_due(began + WINDOW), [UntoldCallers { count: 223, from: Some(from(1)) }]);
        assert!(digest.note(from(1)));
        assert_eq!(digest.take_due(began + WINDOW * 2), []);
    }

    #[test]
    fn however_many_addresses_there_are_few_lines_and_the_count_is_right() {
        let began = Instant::now();
        let mut digest = RefusalDigest::new(began);
        let told = (0..10_000).filter(|n| digest.note(from(n % 500))).count();
        assert_eq!(told, 10);
        let untold = digest.take_due(began + WINDOW);
        assert_eq!(untold.len(), TOLD_APART + 1);
        assert_eq!(untold.iter().map(|one| one.count).sum::<u64>(), 9990);
    }
}
