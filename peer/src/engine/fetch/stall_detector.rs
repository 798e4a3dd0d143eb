//! Detection of links that stall.
//!
//! The streams of a link share its queues, at the source and in the network, so one silent stream proves nothing:
//! progress is counted per link.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

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

/// The progress counters that all streams of one link share.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// Number of answers and chunks of data that arrived.
    progress_count: AtomicU64,
    bytes: AtomicU64,
    answers: AtomicU64,
    /// Streams that wait for the source now.
    waiting: AtomicUsize,
    /// Streams that this side keeps waiting now.
    paused_now: AtomicUsize,
    /// Number of such pauses so far: how often this side kept a stream waiting. Shows a pause that began and ended
    /// between two looks.
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
    pub(super) async fn pause_unless_ready(&self, here: impl Future<Output = ()>) {
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
}
