//! A digest of refused callers: limits the reports about them, and counts the rest. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | reports about one address | 3 in 10 s | counted, and reported as one number |
//! | reports in all | 10 in 10 s | the same |
//! | addresses that are counted separately | 64 | counted together |
//! | summaries | 5 in 10 s | the rest in one more |

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The time over which refusals are counted before they are reported in summaries.
pub(super) const REPORT_WINDOW: Duration = Duration::from_secs(10);
const PER_ADDRESS: u64 = 3;
const MAX_LINES: u64 = 10;
const MAX_ADDRESSES: usize = 64;
const MAX_SUMMARY_LINES: usize = 5;

/// A counter of refused callers by address.
#[derive(Debug)]
pub(super) struct RefusalDigest {
    began: Instant,
    reported: u64,
    counts: HashMap<IpAddr, AddressCount>,
    others: u64,
}

/// A number of refused callers that were not reported one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnreportedRefusals {
    pub(super) count: u64,
    /// The callers' address; `None` for several addresses together.
    pub(super) from: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct AddressCount {
    reported: u64,
    unreported: u64,
}

impl RefusalDigest {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, reported: 0, counts: HashMap::new(), others: 0 }
    }

    /// Counts a caller; returns true if it is to be reported by itself.
    pub(super) fn record(&mut self, from: IpAddr) -> bool {
        // An IPv4 caller may appear as IPv4-mapped IPv6, and must not count as another address.
        let from = from.to_canonical();
        if self.counts.len() >= MAX_ADDRESSES && !self.counts.contains_key(&from) {
            self.others += 1;
            return false;
        }
        let count = self.counts.entry(from).or_default();
        let is_told = count.reported < PER_ADDRESS && self.reported < MAX_LINES;
        if is_told {
            count.reported += 1;
            self.reported += 1;
        } else {
            count.unreported += 1;
        }
        is_told
    }

    /// Returns the summaries of a window that is over, and begins the next; empty before its end.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<UnreportedRefusals> {
        if now.duration_since(self.began) < REPORT_WINDOW {
            return Vec::new();
        }
        let Self { counts, others, .. } = std::mem::replace(self, Self::new(now));
        let unreported = counts.into_iter().filter(|(_, count)| count.unreported > 0);
        let mut summaries: Vec<UnreportedRefusals> =
            unreported.map(|(from, count)| UnreportedRefusals { count: count.unreported, from: Some(from) }).collect();
        // The largest first, so that the summaries with an address are the ones that matter.
        summaries.sort_unstable_by_key(|one| (std::cmp::Reverse(one.count), one.from));
        let rest: u64 = summaries.iter().skip(MAX_SUMMARY_LINES).map(|one| one.count).sum::<u64>() + others;
        summaries.truncate(MAX_SUMMARY_LINES);
        if rest > 0 {
            summaries.push(UnreportedRefusals { count: rest, from: None });
        }
        summaries
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
        assert_eq!((0..226).filter(|_| digest.record(from(1))).count(), 3);
        assert!(digest.record(from(2)), "others are told of");
        assert_eq!(digest.take_due(began + REPORT_WINDOW / 2), []);
        assert_eq!(digest.take_due(began + REPORT_WINDOW), [UnreportedRefusals { count: 223, from: Some(from(1)) }]);
        assert!(digest.record(from(1)));
        assert_eq!(digest.take_due(began + REPORT_WINDOW * 2), []);
    }

    #[test]
    fn however_many_addresses_there_are_few_lines_and_the_count_is_right() {
        let began = Instant::now();
        let mut digest = RefusalDigest::new(began);
        let told = (0..10_000).filter(|n| digest.record(from(n % 500))).count();
        assert_eq!(told, 10);
        let untold = digest.take_due(began + REPORT_WINDOW);
        assert_eq!(untold.len(), MAX_SUMMARY_LINES + 1);
        assert_eq!(untold.iter().map(|one| one.count).sum::<u64>(), 9990);
    }
}
