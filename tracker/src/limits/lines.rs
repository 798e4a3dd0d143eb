//! How many lines of a kind the log gets.
//!
//! Each refusal has its line, unless there are too many of a kind from one address within ten seconds: then the rest
//! is counted, and told in one line at the end of these.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one kind from one address in a window.
const OF_A_KIND: u32 = 20;
/// Lines in a window, from all addresses.
const IN_ALL: u32 = 500;
/// Kinds and addresses that are counted apart.
const APART: usize = 4096;
/// Those of them that have a line at the end of the window.
const TOLD_APART: usize = 50;

/// What may be told.
#[derive(Debug)]
pub struct Lines(Mutex<Window>);

/// Lines that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// From where; `None` for the rest of all together.
    pub from: Option<IpAddr>,
    /// Of which kind.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    told: u32,
    kinds: HashMap<(IpAddr, &'static str), Kind>,
    others: u64,
}

#[derive(Debug, Default)]
struct Kind {
    told: u32,
    left_out: u64,
}

impl Lines {
    /// Nothing is told yet.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Window { began: now, told: 0, kinds: HashMap::new(), others: 0 }))
    }

    /// Whether there may be one more line of this kind about this address; counted, if not.
    pub fn may_tell(&self, from: IpAddr, kind: &'static str) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Window { told, kinds, others, .. } = &mut *window;
        let key = (from, kind);
        if kinds.len() >= APART && !kinds.contains_key(&key) {
            *others += 1;
            return false;
        }
        let kind = kinds.entry(key).or_default();
        let may = kind.told < OF_A_KIND && *told < IN_ALL;
        if may {
            kind.told += 1;
            *told += 1;
        } else {
            kind.left_out += 1;
        }
        may
    }

    /// What was left out, once the time is over in which it is counted. To be asked now and then.
    pub fn left_out(&self, now: Instant) -> Vec<LeftOut> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.began) < WINDOW {
            return Vec::new();
        }
        let new = Window { began: now, told: 0, kinds: HashMap::new(), others: 0 };
        let Window { kinds, others, .. } = std::mem::replace(&mut *window, new);
        drop(window);
        let mut left_out: Vec<LeftOut> = kinds
            .into_iter()
            .filter(|(_, kind)| kind.left_out > 0)
            .map(|((from, what), kind)| LeftOut { from: Some(from), kind: what, count: kind.left_out })
            .collect();
        left_out.sort_unstable_by_key(|one| (std::cmp::Reverse(one.count), one.from, one.kind));
        let rest: u64 = left_out.iter().skip(TOLD_APART).map(|one| one.count).sum::<u64>() + others;
        left_out.truncate(TOLD_APART);
        if rest > 0 {
            left_out.push(LeftOut { from: None, kind: "all kinds", count: rest });
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
        let lines = Lines::new(began);
        let told = (0..12_365).filter(|_| lines.may_tell(from(1), "not_logged_in")).count();
        assert_eq!(told, 20);
        assert!(lines.may_tell(from(1), "busy") && lines.may_tell(from(2), "not_logged_in"));
        assert_eq!(lines.left_out(began + WINDOW / 2), []);
        let left_out = LeftOut { from: Some(from(1)), kind: "not_logged_in", count: 12_345 };
        assert_eq!(lines.left_out(began + WINDOW), [left_out]);
        assert!(lines.may_tell(from(1), "not_logged_in"));
        assert_eq!(lines.left_out(began + 2 * WINDOW), []);
    }

    #[test]
    fn however_many_addresses_the_log_stays_short_and_the_count_right() {
        let began = Instant::now();
        let lines = Lines::new(began);
        let told = (0..100_000).filter(|n| lines.may_tell(from(*n), "busy")).count();
        assert_eq!(told, 500);
        assert_eq!(lines.0.lock().unwrap().kinds.len(), APART);
        let left_out = lines.left_out(began + WINDOW);
        assert_eq!(left_out.len(), TOLD_APART + 1);
        assert_eq!(left_out.iter().map(|one| one.count).sum::<u64>(), 99_500);
    }
}
