//! The rate of bulk data while people chat: what the processor and the disk have to spare.
//!
//! The network's queue is kept short by a small window (`BulkRateLimiter::window`). What else delays a message is a
//! processor that is busy with files, and a disk that has much to write before the message. Both are measured where bulk
//! data waits for its turn:
//!
//! | measured | then |
//! |---|---|
//! | hardly a wait for the rate ends late | a quarter more each 100 ms; in small steps after the first decrease |
//! | a quarter of them end late | less by three tenths |
//! | the disk takes so many bytes a second | at most half of it |
//!
//! Late waits show a busy processor before messages suffer much, for a timer stands in the same queue as they do. While
//! the path is slower than the rate nothing waits, and the rate stays.

use std::time::{Duration, Instant as StdInstant};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::util::rate_limit::TokenBucket;

/// Bytes a second that bulk data always has: two fifths of a gigabit network, which two cores carry in both directions
/// beside a chat.
const LEAST_RATE: f64 = 50_000_000.0;
/// The rate beyond which nothing is gained: what one connection carries.
const MOST_RATE: f64 = 2_000_000_000.0;
/// The time over which waits are counted.
const PERIOD: Duration = Duration::from_millis(100);
/// A wait that ends so much too late is late; timers are as coarse as a millisecond.
const LATE: Duration = Duration::from_millis(3);
const GROWTH: f64 = 1.25;
const STEP: f64 = LEAST_RATE / 8.0;
const REDUCTION: f64 = 0.7;
/// The part of what the disk takes.
const DISK_SHARE: f64 = 0.5;
/// The time that a full window of bulk data lasts at the rate: the delay that it adds to a message in the same queue.
const WINDOW_TIME: Duration = Duration::from_micros(1300);
const LEAST_WINDOW: u32 = 64 * 1024;
/// The time between two looks at the window.
pub(super) const BULK_WINDOW_INTERVAL: Duration = Duration::from_millis(200);

/// The rate, from what was measured. Pure.
#[derive(Debug)]
struct SpareRate {
    bytes_per_second: f64,
    /// The most that the disk leaves, if it was measured.
    disk_limit: f64,
    was_reduced: bool,
    /// Since when waits are counted.
    begun: StdInstant,
    waits: u32,
    late_waits: u32,
}

impl SpareRate {
    const fn new(now: StdInstant) -> Self {
        Self {
            bytes_per_second: LEAST_RATE,
            disk_limit: MOST_RATE,
            was_reduced: false,
            begun: now,
            waits: 0,
            late_waits: 0,
        }
    }

    /// Records a wait that ended `late` after its time.
    fn handle_wait(&mut self, late: Duration, now: StdInstant) {
        self.waits += 1;
        self.late_waits += u32::from(late >= LATE);
        if now.saturating_duration_since(self.begun) < PERIOD {
            return;
        }
        let rate = self.bytes_per_second;
        let changed = if self.late_waits * 4 >= self.waits {
            self.was_reduced = true;
            rate * REDUCTION
        } else if self.late_waits * 10 > self.waits {
            rate
        } else if self.was_reduced {
            rate + STEP
        } else {
            rate * GROWTH
        };
        self.bytes_per_second = changed.clamp(LEAST_RATE, MOST_RATE);
        (self.begun, self.waits, self.late_waits) = (now, 0, 0);
    }

    /// Records that the disk took so many bytes in this time.
    fn handle_sync(&mut self, bytes: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        // A disk may take little in no measurable time, which must not make its rate infinite.
        let rate = bytes as f64 / took.as_secs_f64().max(0.001);
        self.disk_limit = (rate * DISK_SHARE).clamp(LEAST_RATE, MOST_RATE);
    }

    const fn bytes_per_second(&self) -> f64 {
        self.bytes_per_second.min(self.disk_limit)
    }

    /// Returns the bytes that may be in flight at a time.
    fn window(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than 2^32: see MOST_RATE")]
        let bytes = (self.bytes_per_second() * WINDOW_TIME.as_secs_f64()) as u32;
        bytes.max(LEAST_WINDOW)
    }
}

/// Gives bulk data its turn at the rate that is spare, first come, first served.
#[derive(Debug)]
pub(super) struct BulkRateLimiter {
    bucket: tokio::sync::Mutex<TokenBucket>,
    rate: Mutex<SpareRate>,
}

impl Default for BulkRateLimiter {
    fn default() -> Self {
        let now = now();
        let rate = SpareRate::new(now);
        // Short waits instead of bursts, so that no message queues behind much data.
        let bucket = tokio::sync::Mutex::new(TokenBucket::smooth(whole(rate.bytes_per_second()), now));
        Self { bucket, rate: Mutex::new(rate) }
    }
}

impl BulkRateLimiter {
    /// Waits until `bytes` more may be sent or taken. Dropped while it waits, it gives back its turn, but not the bytes.
    pub(super) async fn acquire(&self, bytes: usize) {
        // Held while sleeping: one after the other pays for its bytes, so that the rate is shared.
        let mut bucket = self.bucket.lock().await;
        let begun = now();
        // The disk may have become slow where nothing waits for its turn.
        bucket.set_rate(whole(self.rate.lock().bytes_per_second()));
        let wait = bucket.consume(bytes, begun);
        if wait.is_zero() {
            return;
        }
        sleep(wait).await;
        let ended = now();
        let late = ended.saturating_duration_since(begun).saturating_sub(wait);
        self.rate.lock().handle_wait(late, ended);
    }

    /// Records that the disk took so many bytes in this time.
    pub(super) fn record_sync(&self, bytes: usize, took: Duration) {
        self.rate.lock().handle_sync(bytes, took);
    }

    /// Returns the bytes that a link may have in flight, so that a message waits little behind them.
    pub(super) fn window(&self) -> u32 {
        self.rate.lock().window()
    }
}

fn now() -> StdInstant {
    // Tokio's clock, so that tests can pause it.
    Instant::now().into_std()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^64")]
const fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ON_TIME: Duration = Duration::from_millis(1);
    const WAIT: Duration = Duration::from_millis(2);

    /// The rate after so many seconds of waits that end by `late` after their time.
    fn after(rate: &mut SpareRate, now: &mut StdInstant, seconds: u32, mut late: impl FnMut(u32) -> Duration) -> f64 {
        for number in 0..seconds * 500 {
            *now += WAIT;
            rate.handle_wait(late(number), *now);
        }
        rate.bytes_per_second()
    }

    #[test]
    fn files_get_what_is_spare_and_give_it_back() {
        let mut now = StdInstant::now();
        let mut rate = SpareRate::new(now);
        assert!(after(&mut rate, &mut now, 1, |_| ON_TIME) >= 8.0 * LEAST_RATE);
        let reduced = after(&mut rate, &mut now, 1, |number| if number % 3 == 0 { LATE } else { ON_TIME });
        assert!(reduced < 1.1 * LEAST_RATE, "{reduced}");
        let later = after(&mut rate, &mut now, 1, |_| ON_TIME);
        assert!((2.0..3.0).contains(&(later / LEAST_RATE)), "in small steps: {later}");
        let held = after(&mut rate, &mut now, 1, |number| if number % 6 == 0 { LATE } else { ON_TIME });
        assert!((later - held).abs() < 1.0, "a few late ones change nothing");
    }

    #[test]
    fn a_slow_disk_keeps_half_for_messages() {
        let mut now = StdInstant::now();
        let mut rate = SpareRate::new(now);
        after(&mut rate, &mut now, 2, |_| ON_TIME);
        rate.handle_sync(4 << 20, Duration::from_millis(20));
        assert_eq!(whole(rate.bytes_per_second()), (4 << 20) * 25);
        rate.handle_sync(4 << 20, Duration::from_secs(2));
        assert_eq!(whole(rate.bytes_per_second()), whole(LEAST_RATE));
        rate.handle_sync(4 << 20, Duration::ZERO);
        assert!(rate.bytes_per_second() > 4.0 * LEAST_RATE);
    }

    proptest! {
        #[test]
        fn the_rate_stays_in_its_bounds(
            events in proptest::collection::vec((0_u64..20, 0_u64..200, any::<Option<u32>>()), 0..2000),
        ) {
            let mut now = StdInstant::now();
            let mut rate = SpareRate::new(now);
            for (late, pause, sync) in events {
                now += Duration::from_millis(pause);
                rate.handle_wait(Duration::from_millis(late), now);
                if let Some(bytes) = sync {
                    rate.handle_sync(bytes as usize, Duration::from_millis(late));
                }
                prop_assert!((LEAST_RATE..=MOST_RATE).contains(&rate.bytes_per_second()));
                prop_assert!((LEAST_WINDOW..=3_000_000).contains(&rate.window()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_shared_and_grows_while_nothing_is_late() {
        let limiter = BulkRateLimiter::default();
        let take = async |seconds: u64| {
            let (begun, mut bytes) = (Instant::now(), 0_usize);
            while begun.elapsed() < Duration::from_secs(seconds) {
                tokio::join!(limiter.acquire(30_000), limiter.acquire(30_000));
                bytes += 60_000;
            }
            bytes as f64 / begun.elapsed().as_secs_f64()
        };
        let first = take(1).await;
        assert!((LEAST_RATE..20.0 * LEAST_RATE).contains(&first), "{first}");
        limiter.record_sync(10_000_000, Duration::from_millis(100));
        let slowed = take(1).await;
        assert!((0.9..1.2).contains(&(slowed / LEAST_RATE)), "{slowed}");
    }
}
