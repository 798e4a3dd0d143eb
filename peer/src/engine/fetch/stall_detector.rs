//! Whether a link is alive. Its streams wait for each other, at their source and before the network, so that a single one
//! which hears nothing says little.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::rate_limit::TokenBucket;
use crate::net::StreamError;

/// How long nothing may come over any stream of a link while something is due.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// A link over which less than this comes in [`TRICKLE_TIME`] is as good as silent.
const TRICKLE_BYTES: u64 = 8 * 1024;
const TRICKLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at the other streams.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What all streams of one link have in common.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// Answers and pieces of data that came.
    progress_count: AtomicU64,
    bytes: AtomicU64,
    /// Streams that this side keeps waiting now, and how often it did.
    paused_now: AtomicUsize,
    pause_count: AtomicU64,
}

/// A stream's patience with one answer, or one group.
#[derive(Debug)]
pub(super) struct StallTimer<'a> {
    detector: &'a StallDetector,
    /// How long it waited for its source.
    waited: Duration,
    /// What had come over the link before that.
    bytes_before: u64,
}

impl StallDetector {
    /// Something came: so many bytes of data, or something else.
    pub(super) fn record_progress(&self, bytes: usize) {
        self.progress_count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits for something here. As long as that takes, it may be us who keeps the source waiting, also on other streams:
    /// what isn't read takes the room of what is.
    pub(super) async fn pause_during<T>(&self, here: impl Future<Output = T>) -> T {
        struct PauseGuard<'a>(&'a AtomicUsize);
        impl Drop for PauseGuard<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.pause_count.fetch_add(1, Ordering::Relaxed);
        self.paused_now.fetch_add(1, Ordering::Relaxed);
        let _paused = PauseGuard(&self.paused_now);
        here.await
    }

    /// Waits until so many bytes more may be taken from `bucket`.
    pub(super) async fn throttle(&self, bucket: &Mutex<TokenBucket>, bytes: usize) {
        let mut bucket = match bucket.try_lock() {
            Ok(bucket) => bucket,
            Err(_) => self.pause_during(bucket.lock()).await,
        };
        let wait = bucket.consume(bytes, Instant::now().into_std());
        if !wait.is_zero() {
            self.pause_during(tokio::time::sleep(wait)).await;
        }
    }

    /// Patience for the next answer, or the next group.
    pub(super) fn start_timer(&self) -> StallTimer<'_> {
        StallTimer { detector: self, waited: Duration::ZERO, bytes_before: self.bytes.load(Ordering::Relaxed) }
    }
}

impl StallTimer<'_> {
    /// Waits for something from the source.
    ///
    /// # Errors
    /// [`StreamError::Timeout`] when the link is silent or as good as that; what `due` says.
    pub(super) async fn wait<T>(
        &mut self,
        due: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let mut due = pin!(due);
        let mut silent = Duration::ZERO;
        loop {
            if self.is_trickling() {
                return Err(StreamError::Timeout(TRICKLE_TIMEOUT));
            }
            let (signs, pauses) = self.counters();
            let begun = Instant::now();
            let came = tokio::time::timeout(POLL_INTERVAL, due.as_mut()).await;
            let (signs_now, pauses_now) = self.counters();
            let slowed = pauses_now != pauses || self.detector.paused_now.load(Ordering::Relaxed) > 0;
            if !slowed {
                self.waited += begun.elapsed();
            }
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
