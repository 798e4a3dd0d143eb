//! A throttle for the log.
//!
//! Each refusal has its line, unless there are too many of a kind from one address within ten seconds: the rest is
//! counted, and summed up in one line at the end of the window.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The length of a window.
const WINDOW_LENGTH: Duration = Duration::from_secs(10);
/// Lines of one kind from one address in a window.
const MAX_LINES_PER_KIND: u32 = 20;
/// Lines of all kinds and addresses in a window.
const MAX_LINES_TOTAL: u32 = 500;
/// Pairs of kind and address that are counted separately.
const MAX_KINDS: usize = 4096;
/// Summaries at the end of a window.
const MAX_SUMMARIES: usize = 50;

/// The counts of the current window.
#[derive(Debug)]
pub struct LogThrottle(Mutex<ThrottleWindow>);

/// The summary of suppressed lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuppressedLines {
    /// Their address; `None` for the rest of all together.
    pub from: Option<IpAddr>,
    /// Their kind.
    pub kind: &'static str,
    /// Their number.
    pub count: u64,
}

#[derive(Debug)]
struct ThrottleWindow {
    began: Instant,
    logged: u32,
    kinds: HashMap<(IpAddr, &'static str), LineCounts>,
    others: u64,
}

#[derive(Debug, Default)]
struct LineCounts {
    logged: u32,
    suppressed: u64,
}

impl LogThrottle {
    /// Creates an empty window.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(ThrottleWindow { began: now, logged: 0, kinds: HashMap::new(), others: 0 }))
    }

    /// Returns whether one more line of this kind about this address may be logged. If not, it is counted.
    pub fn try_admit(&self, from: IpAddr, kind: &'static str) -> bool {
        let mut window = self.0.lock();
        let ThrottleWindow { logged, kinds, others, .. } = &mut *window;
        let key = (from, kind);
        // The table is bounded: further pairs are only counted together.
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&key) {
            *others += 1;
            return false;
        }
        let kind = kinds.entry(key).or_default();
        let may = kind.logged < MAX_LINES_PER_KIND && *logged < MAX_LINES_TOTAL;
        if may {
            kind.logged += 1;
            *logged += 1;
        } else {
            kind.suppressed += 1;
        }
        may
    }

    /// Returns the summaries once the window is over. To be called now and then.
    pub fn take_suppressed(&self, now: Instant) -> Vec<SuppressedLines> {
        let mut window = self.0.lock();
        if now.saturating_duration_since(window.began) < WINDOW_LENGTH {
            return Vec::new();
        }
        let new = ThrottleWindow { began: now, logged: 0, kinds: HashMap::new(), others: 0 };
        let ThrottleWindow { kinds, others, .. } = std::mem::replace(&mut *window, new);
        // Unlocked before sorting, so that lines are admitted meanwhile.
        drop(window);
        let mut left_out: Vec<SuppressedLines> = kinds
            .into_iter()
            .filter(|(_, kind)| kind.suppressed > 0)
            .map(|((from, what), kind)| SuppressedLines { from: Some(from), kind: what, count: kind.suppressed })
            .collect();
        // The largest first, as only `MAX_SUMMARIES` are logged.
        left_out.sort_unstable_by_key(|one| (std::cmp::Reverse(one.count), one.from, one.kind));
        let rest: u64 = left_out.iter().skip(MAX_SUMMARIES).map(|one| one.count).sum::<u64>() + others;
        left_out.truncate(MAX_SUMMARIES);
        if rest > 0 {
            left_out.push(SuppressedLines { from: None, kind: "all kinds", count: rest });
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_flood_is_told_once_and_hides_nobody_else() {
        let began = Instant::now();
        let lines = LogThrottle::new(began);
        let told = (0..12_365).filter(|_| lines.try_admit(from(1), "not_logged_in")).count();
        assert_eq!(told, 20);
        assert!(lines.try_admit(from(1), "busy") && lines.try_admit(from(2), "not_logged_in"));
        assert_eq!(lines.take_suppressed(began + WINDOW_LENGTH / 2), []);
        let left_out = SuppressedLines { from: Some(from(1)), kind: "not_logged_in", count: 12_345 };
        assert_eq!(lines.take_suppressed(began + WINDOW_LENGTH), [left_out]);
        assert!(lines.try_admit(from(1), "not_logged_in"));
        assert_eq!(lines.take_suppressed(began + 2 * WINDOW_LENGTH), []);
    }

    #[test]
    fn however_many_addresses_the_log_stays_short_and_the_count_right() {
        let began = Instant::now();
        let lines = LogThrottle::new(began);
        let told = (0..100_000).filter(|n| lines.try_admit(from(*n), "busy")).count();
        assert_eq!(told, 500);
        assert_eq!(lines.0.lock().kinds.len(), MAX_KINDS);
        let left_out = lines.take_suppressed(began + WINDOW_LENGTH);
        assert_eq!(left_out.len(), MAX_SUMMARIES + 1);
        assert_eq!(left_out.iter().map(|one| one.count).sum::<u64>(), 99_500);
    }
}
