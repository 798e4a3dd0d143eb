//! Rate limits on bytes a second. No I/O: `now` is an argument, and the result is how long to wait.

use std::time::{Duration, Instant};

/// Allowance after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(100);
/// Shortest wait; shorter ones are added to the next: timers are coarser than a packet at full speed.
const MIN_WAIT: Duration = Duration::from_millis(5);
/// Shortest wait if bursts must stay small; timers are no finer.
const MIN_WAIT_SMOOTH: Duration = Duration::from_millis(1);

/// A token bucket that may go into debt: a use is always granted, and the next one waits longer.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    /// Largest credit after a pause, in bytes.
    burst: f64,
    /// Current credit in bytes; negative while in debt.
    credit: f64,
    last: Instant,
    min_wait: Duration,
}

impl TokenBucket {
    /// Creates a bucket of `per_second` bytes a second, at least 1.
    pub fn new(per_second: u64, now: Instant) -> Self {
        // No initial credit, so that the rate holds in the first second as well.
        let mut bucket = Self { per_second: 0.0, burst: 0.0, credit: 0.0, last: now, min_wait: MIN_WAIT };
        bucket.set_rate(per_second);
        bucket
    }

    /// Creates a bucket with small bursts, at the price of more waits.
    pub fn smooth(per_second: u64, now: Instant) -> Self {
        Self { min_wait: MIN_WAIT_SMOOTH, ..Self::new(per_second, now) }
    }

    /// Creates a bucket of `per_second` bytes a second with `burst` bytes of credit at once.
    pub fn with_burst(per_second: u64, burst: u64, now: Instant) -> Self {
        let burst = bytes_of(burst);
        Self { per_second: bytes_of(per_second.max(1)), burst, credit: burst, last: now, min_wait: MIN_WAIT }
    }

    /// Changes the rate; the credit, or the debt, stays.
    pub fn set_rate(&mut self, per_second: u64) {
        self.per_second = bytes_of(per_second.max(1));
        self.burst = self.per_second * BURST.as_secs_f64();
    }

    /// True if the bucket has been unused long enough to be full.
    pub fn is_full(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.credit + passed * self.per_second >= self.burst
    }

    /// True if there is no credit.
    pub fn is_spent(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.credit + passed * self.per_second <= 0.0
    }

    /// Uses `bytes` if the credit covers them; otherwise uses nothing and returns false.
    pub fn try_consume(&mut self, bytes: usize, now: Instant) -> bool {
        self.refill(now);
        let (bytes, held) = (bytes_of(bytes as u64), self.credit);
        if held >= bytes {
            self.credit -= bytes;
        }
        held >= bytes
    }

    /// Uses `bytes` and returns how long to wait before the next use: often zero, then a little longer.
    pub fn consume(&mut self, bytes: usize, now: Instant) -> Duration {
        self.refill(now);
        self.credit -= bytes_of(bytes as u64);
        // Clamped: `from_secs_f64` panics on negative and huge values.
        let wait = Duration::from_secs_f64((-self.credit / self.per_second).clamp(0.0, 3600.0));
        // The debt stays, so that skipped waits add up to one that a timer can keep.
        if wait < self.min_wait { Duration::ZERO } else { wait }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.credit = (self.credit + passed * self.per_second).min(self.burst);
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are no limit, and no piece either")]
const fn bytes_of(count: u64) -> f64 {
    count as f64
}

/// Waits as long as a [`TokenBucket`] says. Zero returns at once, where a timer would still take a tick.
pub async fn sleep_if_positive(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any five seconds, whatever the pieces and pauses: at most the rate, one burst, one wait that was left
        /// out, and a piece at either end; and somebody who always wants more gets no less than the rate.
        #[test]
        fn the_rate_is_kept(
            rate in 100_000_u64..100_000_000,
            pieces in proptest::collection::vec((1_usize..70_000, 0_u64..50), 50..200),
        ) {
            let begin = Instant::now();
            let mut bucket = TokenBucket::new(rate, begin);
            let mut now = begin;
            let mut used: Vec<(Instant, usize)> = Vec::new();
            for (bytes, pause) in pieces.iter().cycle().take(5_000) {
                now += Duration::from_millis(*pause / 40) + bucket.consume(*bytes, now);
                used.push((now, *bytes));
                if now > begin + Duration::from_secs(30) {
                    break;
                }
            }
            let total: usize = used.iter().map(|(_, bytes)| bytes).sum();
            let seconds = now.duration_since(begin).as_secs_f64();
            prop_assert!(total as f64 <= rate as f64 * (seconds + 0.11) + 70_000.0);
            for (from, _) in used.iter().step_by(37) {
                let window: usize =
                    used.iter().filter(|(at, _)| at >= from && *at < *from + Duration::from_secs(5)).map(|(_, b)| b).sum();
                prop_assert!(window as f64 <= rate as f64 * 5.11 + 140_000.0, "{window} of {rate}");
            }
        }

        #[test]
        fn a_greedy_user_gets_all_of_it(rate in 1_000_000_u64..100_000_000) {
            let begin = Instant::now();
            let mut bucket = TokenBucket::new(rate, begin);
            let mut now = begin;
            let mut total = 0_usize;
            while now < begin + Duration::from_secs(5) {
                now += bucket.consume(32_000, now);
                total += 32_000;
            }
            let share = total as f64 / (rate as f64 * 5.0);
            prop_assert!((0.98..1.05).contains(&share), "{share}");
        }
    }
}
