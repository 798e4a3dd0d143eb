//! Traffic of the sources' links: detects links that stall and sources that become slow, and throttles bulk data while a
//! chat is active.
//!
//! The streams of a link share its queues, at the source and in the network, so one silent stream proves nothing:
//! progress is counted per link.

use std::collections::VecDeque;
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::bulk_rate::BulkRateLimiter;
use crate::net::StreamError;
use crate::util::rate_limit::{TokenBucket, sleep_if_positive};

/// A link is stalled if nothing arrives on any of its streams for this long while an answer is due.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// A link that brings less than this in [`TRICKLE_TIMEOUT`] counts as stalled, too.
const TRICKLE_BYTES: u64 = 8 * 1024;
const TRICKLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter pauses of this side keep nobody waiting: to hand a group on takes a moment.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two looks at the other streams of a link.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time over which a source's rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// The time over which its best rate so far is measured.
const BEST_RATE_SPAN: Duration = Duration::from_secs(3);
/// Bytes a second from which on no source counts as slow.
const SLOW_RATE: f64 = 128.0 * 1024.0;
/// A slow source was at least this many times as fast before.
const SLOWDOWN_FACTOR: f64 = 16.0;
/// A source of which nothing came for this long doesn't send slowly: it stands still.
const STANDSTILL_TIME: Duration = Duration::from_secs(5);

/// The progress counters that all streams of one link share.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// Number of answers and chunks of data that arrived.
    progress_count: AtomicU64,
    bytes: AtomicU64,
    answers: AtomicU64,
    /// Streams that wait for the source now.
    waiting: AtomicUsize,
    /// Streams that this side keeps waiting now, and how often it did.
    paused_now: AtomicUsize,
    /// Number of such pauses so far: shows a pause that began and ended between two looks.
    pause_count: AtomicU64,
    /// Microseconds that the ended ones of those took.
    paused_for: AtomicU64,
}

/// The traffic of a link and the state of its streams, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrafficReading {
    pub(super) bytes: u64,
    pub(super) answers: u64,
    paused_for: u64,
    is_waiting: bool,
    is_paused: bool,
}

impl TrafficReading {
    /// Tells whether streams wait for the source, and this side kept it waiting neither now nor since `before`.
    pub(super) fn waits_since(&self, before: &Self) -> bool {
        let paused = Duration::from_micros(self.paused_for.saturating_sub(before.paused_for));
        self.is_waiting && !self.is_paused && paused < SHORT_PAUSE
    }
}

/// The timer of one stream for one answer or one group.
#[derive(Debug)]
pub(super) struct StallTimer<'a> {
    detector: &'a StallDetector,
    /// Time spent waiting for the source, pauses of this side excluded.
    waited: Duration,
    /// Bytes that had arrived on the link when `waited` was last reset.
    bytes_before: u64,
}

impl StallDetector {
    /// Records an arrival: `bytes` of data, or 0 for an answer.
    pub(super) fn record_progress(&self, bytes: usize) {
        // Relaxed: the counters are compared over seconds and order no other memory.
        self.progress_count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records an answer, with or without data.
    pub(super) fn record_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.record_progress(0);
    }

    /// Reads the counters.
    pub(super) fn read(&self) -> TrafficReading {
        TrafficReading {
            bytes: self.bytes.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
            paused_for: self.paused_for.load(Ordering::Relaxed),
            is_waiting: self.waiting.load(Ordering::Relaxed) > 0,
            is_paused: self.paused_now.load(Ordering::Relaxed) > 0,
        }
    }

    /// Awaits something of this side. Until then this side may be keeping the source waiting, also on other streams: data
    /// that isn't read takes the window of data that is.
    pub(super) async fn pause_during<T>(&self, here: impl Future<Output = T>) -> T {
        self.pause_count.fetch_add(1, Ordering::Relaxed);
        // Counted by a guard, as the future may be dropped in the middle.
        let (_paused, begun) = (Counted::among(&self.paused_now), Instant::now());
        let came = here.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.paused_for.fetch_add(micros, Ordering::Relaxed);
        came
    }

    /// Waits until `bytes` more may be taken from `bucket`.
    pub(super) async fn throttle(&self, bucket: &Mutex<TokenBucket>, bytes: usize) {
        self.pause_unless_ready(async {
            // Held while sleeping: one stream after the other pays for its bytes, so that the rate is shared.
            let mut bucket = bucket.lock().await;
            let wait = bucket.consume(bytes, Instant::now().into_std());
            sleep_if_positive(wait).await;
        })
        .await;
    }

    /// Awaits something of this side. Only if it isn't ready, a pause is counted: during one, the other streams don't
    /// blame the source for silence.
    async fn pause_unless_ready(&self, here: impl Future<Output = ()>) {
        let mut here = pin!(here);
        if poll_fn(|cx| Poll::Ready(here.as_mut().poll(cx))).await.is_pending() {
            self.pause_during(here).await;
        }
    }

    /// Starts a timer for the next answer or group.
    pub(super) fn start_timer(&self) -> StallTimer<'_> {
        StallTimer { detector: self, waited: Duration::ZERO, bytes_before: self.bytes.load(Ordering::Relaxed) }
    }
}

/// One stream in a count, until this is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StallTimer<'_> {
    /// Awaits something from the source. Fails with [`StreamError::Timeout`] when the link is stalled, or the error of
    /// `due`.
    pub(super) async fn wait<T>(
        &mut self,
        due: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let mut due = pin!(due);
        let _waiting = Counted::among(&self.detector.waiting);
        let mut silent = Duration::ZERO;
        loop {
            if self.is_trickling() {
                return Err(StreamError::Timeout(TRICKLE_TIMEOUT));
            }
            // Short waits instead of one long one: the counters of the other streams can change at any time.
            let (signs, pauses) = self.counters();
            let begun = Instant::now();
            let came = tokio::time::timeout(POLL_INTERVAL, due.as_mut()).await;
            let (signs_now, pauses_now) = self.counters();
            // A pause anywhere on the link may have closed the window, so silence during it is not the source's.
            let slowed = pauses_now != pauses || self.detector.paused_now.load(Ordering::Relaxed) > 0;
            if !slowed {
                self.waited += begun.elapsed();
            }
            // Checked after the clock was advanced: answers that trickle in must add up their waits.
            if let Ok(came) = came {
                return came;
            }
            silent = if slowed || signs_now != signs { Duration::ZERO } else { silent + begun.elapsed() };
            if silent >= SILENCE_TIMEOUT {
                return Err(StreamError::Timeout(SILENCE_TIMEOUT));
            }
        }
    }

    fn counters(&self) -> (u64, u64) {
        (self.detector.progress_count.load(Ordering::Relaxed), self.detector.pause_count.load(Ordering::Relaxed))
    }

    fn is_trickling(&mut self) -> bool {
        let bytes = self.detector.bytes.load(Ordering::Relaxed);
        if bytes.saturating_sub(self.bytes_before) >= TRICKLE_BYTES {
            // Enough arrived since the last reset: the trickle window starts again.
            (self.waited, self.bytes_before) = (Duration::ZERO, bytes);
        }
        self.waited >= TRICKLE_TIMEOUT
    }
}

/// The traffic of a source's link at one moment, for [`SlowdownDetector`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TrafficSample {
    pub(super) at: StdInstant,
    /// Bytes that came over it so far.
    pub(super) bytes: u64,
    /// Since the last sample, this side waited for large data and kept nobody waiting.
    pub(super) waits: bool,
}

/// The rates of a source that became slow, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowdown {
    /// The present rate.
    pub rate: u64,
    /// The best rate before.
    pub before: u64,
}

/// Detects a source that was fast and sends at a crawl by now, as over a path that became narrow; tells it once.
#[derive(Debug, Default)]
pub(super) struct SlowdownDetector {
    samples: VecDeque<TrafficSample>,
    waits_since: Option<StdInstant>,
    moved: Option<StdInstant>,
    best: f64,
    is_told: bool,
}

impl SlowdownDetector {
    /// Begins again with a new link of the source.
    pub(super) fn restart(&mut self) {
        // The best rate is the source's, over whatever link; what was told isn't told again.
        *self = Self { is_told: self.is_told, best: self.best, ..Self::default() };
    }

    /// Records a sample, about one each second; returns the slowdown that it shows.
    pub(super) fn record(&mut self, sample: TrafficSample) -> Option<Slowdown> {
        if self.samples.back().is_none_or(|last| last.bytes < sample.bytes) {
            self.moved = Some(sample.at);
        }
        self.waits_since = sample.waits.then(|| self.waits_since.unwrap_or(sample.at));
        self.samples.push_back(sample);
        // One sample older than the span stays: a rate needs both ends of it.
        while self.samples.get(1).is_some_and(|second| sample.at.saturating_duration_since(second.at) >= RATE_SPAN) {
            self.samples.pop_front();
        }
        let is_long = |since: Option<StdInstant>, span| {
            since.is_some_and(|since| sample.at.saturating_duration_since(since) >= span)
        };
        let rate = self.rate_over(RATE_SPAN, sample)?;
        self.best = self.best.max(self.rate_over(BEST_RATE_SPAN, sample).unwrap_or(0.0));
        // Both: a source that was never faster is as it is, and one that is still fast enough needs no help.
        let is_slow = rate < SLOW_RATE && rate * SLOWDOWN_FACTOR < self.best;
        if !is_slow || !is_long(self.waits_since, RATE_SPAN) || is_long(self.moved, STANDSTILL_TIME) || self.is_told {
            return None;
        }
        self.is_told = true;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is an estimate, and positive"
        )]
        let whole = |rate: f64| rate as u64;
        Some(Slowdown { rate: whole(rate), before: whole(self.best) })
    }

    /// Bytes a second over the last `span`, or the time there was.
    fn rate_over(&self, span: Duration, now: TrafficSample) -> Option<f64> {
        let is_old = |sample: &&TrafficSample| now.at.saturating_duration_since(sample.at) >= span;
        let from = self.samples.iter().rev().find(is_old).or_else(|| self.samples.front())?;
        let seconds = now.at.saturating_duration_since(from.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let bytes = now.bytes.saturating_sub(from.bytes) as f64;
        // The first sample is compared with itself, over no time at all.
        Some(bytes / seconds.max(1.0))
    }
}

/// The chat state, and the rate that is left for bulk data while a chat is active.
#[derive(Debug, Default)]
pub(super) struct ChatPriority {
    is_active: AtomicBool,
    bulk_rate: BulkRateLimiter,
}

impl ChatPriority {
    /// True while a chat is active.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Sets whether a chat is active.
    pub(super) fn set_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Relaxed);
    }

    /// Waits until `bytes` more may be taken over the link of this detector.
    pub(super) async fn throttle(&self, bytes: usize, detector: &StallDetector) {
        if self.is_active() {
            detector.pause_unless_ready(self.bulk_rate.acquire(bytes)).await;
        }
    }

    /// Records that the disk took so many bytes in this time.
    pub(super) fn record_sync(&self, bytes: usize, took: Duration) {
        self.bulk_rate.record_sync(bytes, took);
    }

    /// Returns the bytes that a link may have in flight; `None` for as many as usual.
    pub(super) fn bulk_window(&self) -> Option<u32> {
        self.is_active().then(|| self.bulk_rate.window())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn never(detector: &StallDetector) -> Option<Duration> {
        let begun = Instant::now();
        let ended = timeout(HOUR, detector.start_timer().wait(pending::<Result<(), _>>())).await.ok()?;
        assert!(matches!(ended, Err(StreamError::Timeout(_))));
        Some(begun.elapsed())
    }

    async fn every_second(mut each: impl AsyncFnMut()) {
        loop {
            sleep(Duration::from_secs(1)).await;
            each().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_link_is_given_up() {
        assert_eq!(never(&StallDetector::default()).await, Some(SILENCE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_while_others_of_its_link_bring_something() {
        let detector = StallDetector::default();
        tokio::select! {
            ended = never(&detector) => assert_eq!(ended, None),
            () = every_second(async || detector.record_progress(1000)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_trickles_is_given_up_at_whatever_limit() {
        let detector = StallDetector::default();
        let limit = Mutex::new(TokenBucket::new(1_000_000, Instant::now().into_std()));
        let trickle = every_second(async || {
            detector.record_progress(1);
            detector.throttle(&limit, 1).await;
        });
        tokio::select! {
            ended = never(&detector) => assert_eq!(ended, Some(TRICKLE_TIMEOUT)),
            () = trickle => {}
        }
        let trickle = async {
            let mut timer = detector.start_timer();
            let begun = Instant::now();
            loop {
                let due = async {
                    sleep(Duration::from_millis(900)).await;
                    Ok(())
                };
                match timer.wait(due).await {
                    Ok(()) => detector.record_progress(1),
                    Err(_) => return begun.elapsed(),
                }
            }
        };
        assert!(trickle.await < TRICKLE_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_side_holds_up_shows_in_a_reading() {
        let pulse = StallDetector::default();
        let (mut before, due) = (pulse.read(), pending::<Result<(), _>>());
        let mut waits_after = async |pause: Duration| {
            pulse.pause_during(sleep(pause)).await;
            let reading = pulse.read();
            let waits = reading.waits_since(&before);
            before = reading;
            waits
        };
        assert!(!waits_after(Duration::ZERO).await, "nothing is due");
        let mut patience = pulse.start_timer();
        let waiting = patience.wait(due);
        tokio::select! {
            biased;
            _ = waiting => unreachable!(),
            () = async {
                assert!(waits_after(Duration::from_millis(10)).await);
                assert!(!waits_after(Duration::from_secs(2)).await);
                assert!(waits_after(Duration::ZERO).await);
            } => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_here_is_no_silence() {
        let detector = StallDetector::default();
        let slowly = every_second(async || {
            detector.record_progress(10_000);
            detector.pause_during(sleep(Duration::from_secs(40))).await;
        });
        tokio::select! {
            ended = never(&detector) => assert_eq!(ended, None),
            () = slowly => {}
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A source that sends so many bytes in each second, and whether it was waited for.
    struct Source {
        detector: SlowdownDetector,
        at: StdInstant,
        bytes: u64,
    }

    impl Source {
        fn new() -> Self {
            Self { detector: SlowdownDetector::default(), at: StdInstant::now(), bytes: 0 }
        }

        /// What is told in so many seconds, and in which of them.
        fn sends(&mut self, rate: u64, waits: bool, seconds: u32) -> Vec<(u32, Slowdown)> {
            let second = |second| {
                self.at += SECOND;
                self.bytes += rate;
                let told = self.detector.record(TrafficSample { at: self.at, bytes: self.bytes, waits })?;
                Some((second, told))
            };
            (1..=seconds).filter_map(second).collect()
        }
    }

    #[test]
    fn a_crawl_after_a_run_is_told_once() {
        let mut source = Source::new();
        assert_eq!(source.sends(8_000_000, true, 20), []);
        let slowdown = Slowdown { rate: 40_000, before: 8_000_000 };
        assert_eq!(source.sends(40_000, true, 60), [(10, slowdown)]);
        assert_eq!(source.sends(8_000_000, true, 20), []);
        source.detector.restart();
        assert_eq!(source.sends(40_000, true, 60), []);
    }

    #[test]
    fn who_always_was_slow_did_not_become_it() {
        assert_eq!(Source::new().sends(40_000, true, 100), []);
        let mut source = Source::new();
        source.sends(1_000_000, true, 20);
        assert_eq!(source.sends(200_000, true, 60), [], "a fifth is not a crawl");
    }

    #[test]
    fn what_this_side_holds_up_and_what_stands_still_is_no_crawl() {
        let mut source = Source::new();
        source.sends(8_000_000, true, 20);
        assert_eq!(source.sends(40_000, false, 60), []);
        assert_eq!(source.sends(0, true, 60), []);
        assert_eq!(source.sends(40_000, true, 60).len(), 1);
    }
}
