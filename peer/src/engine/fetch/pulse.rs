//! Whether a link is alive. Its streams wait for each other, at their source and before the network, so that a single one
//! which hears nothing says little.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::rate::Bucket;
use crate::net::StreamError;

/// How long nothing may come over any stream of a link while something is due.
const SILENCE: Duration = Duration::from_secs(15);
/// A link over which less than this comes in [`TRICKLE_TIME`] is as good as silent.
const TRICKLE_BYTES: u64 = 8 * 1024;
const TRICKLE_TIME: Duration = Duration::from_secs(30);
/// Between two looks at the other streams.
const TICK: Duration = Duration::from_secs(1);

/// What all streams of one link have in common.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Answers and pieces of data that came.
    signs: AtomicU64,
    bytes: AtomicU64,
    /// Streams that this side keeps waiting now, and how often it did.
    paused: AtomicUsize,
    pauses: AtomicU64,
}

/// A stream's patience with one answer, or one group.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    pulse: &'a Pulse,
    /// How long it waited for its source.
    waited: Duration,
    /// What had come over the link before that.
    before: u64,
}

impl Pulse {
    /// Something came: so many bytes of data, or something else.
    pub(super) fn beat(&self, bytes: usize) {
        self.signs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits for something here. As long as that takes, it may be us who keeps the source waiting, also on other streams:
    /// what isn't read takes the room of what is.
    pub(super) async fn pause<T>(&self, here: impl Future<Output = T>) -> T {
        struct Paused<'a>(&'a AtomicUsize);
        impl Drop for Paused<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.paused.fetch_add(1, Ordering::Relaxed);
        let _paused = Paused(&self.paused);
        here.await
    }

    /// Waits until so many bytes more may be taken from `bucket`.
    pub(super) async fn pass(&self, bucket: &Mutex<Bucket>, bytes: usize) {
        let mut bucket = match bucket.try_lock() {
            Ok(bucket) => bucket,
            Err(_) => self.pause(bucket.lock()).await,
        };
        let wait = bucket.take(bytes, Instant::now().into_std());
        if !wait.is_zero() {
            self.pause(tokio::time::sleep(wait)).await;
        }
    }

    /// Patience for the next answer, or the next group.
    pub(super) fn patience(&self) -> Patience<'_> {
        Patience { pulse: self, waited: Duration::ZERO, before: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Patience<'_> {
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
            if self.trickles() {
                return Err(StreamError::Timeout(TRICKLE_TIME));
            }
            let (signs, pauses) = self.seen();
            let begun = Instant::now();
            let came = tokio::time::timeout(TICK, due.as_mut()).await;
            let (signs_now, pauses_now) = self.seen();
            let slowed = pauses_now != pauses || self.pulse.paused.load(Ordering::Relaxed) > 0;
            if !slowed {
                self.waited += begun.elapsed();
            }
            if let Ok(came) = came {
                return came;
            }
            silent = if slowed || signs_now != signs { Duration::ZERO } else { silent + begun.elapsed() };
            if silent >= SILENCE {
                return Err(StreamError::Timeout(SILENCE));
            }
        }
    }

    fn seen(&self) -> (u64, u64) {
        (self.pulse.signs.load(Ordering::Relaxed), self.pulse.pauses.load(Ordering::Relaxed))
    }

    fn trickles(&mut self) -> bool {
        let bytes = self.pulse.bytes.load(Ordering::Relaxed);
        if bytes.saturating_sub(self.before) >= TRICKLE_BYTES {
            (self.waited, self.before) = (Duration::ZERO, bytes);
        }
        self.waited >= TRICKLE_TIME
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn never(pulse: &Pulse) -> Option<Duration> {
        let begun = Instant::now();
        let ended = timeout(HOUR, pulse.patience().wait(pending::<Result<(), _>>())).await.ok()?;
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
        assert_eq!(never(&Pulse::default()).await, Some(SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_while_others_of_its_link_bring_something() {
        let pulse = Pulse::default();
        tokio::select! {
            ended = never(&pulse) => assert_eq!(ended, None),
            () = every_second(async || pulse.beat(1000)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_trickles_is_given_up_at_whatever_limit() {
        let pulse = Pulse::default();
        let limit = Mutex::new(Bucket::new(1_000_000, Instant::now().into_std()));
        let trickle = every_second(async || {
            pulse.beat(1);
            pulse.pass(&limit, 1).await;
        });
        tokio::select! {
            ended = never(&pulse) => assert_eq!(ended, Some(TRICKLE_TIME)),
            () = trickle => {}
        }
        let trickle = async {
            let mut patience = pulse.patience();
            let begun = Instant::now();
            loop {
                let due = async {
                    sleep(Duration::from_millis(900)).await;
                    Ok(())
                };
                match patience.wait(due).await {
                    Ok(()) => pulse.beat(1),
                    Err(_) => return begun.elapsed(),
                }
            }
        };
        assert!(trickle.await < TRICKLE_TIME + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_here_is_no_silence() {
        let pulse = Pulse::default();
        let slowly = every_second(async || {
            pulse.beat(10_000);
            pulse.pause(sleep(Duration::from_secs(40))).await;
        });
        tokio::select! {
            ended = never(&pulse) => assert_eq!(ended, None),
            () = slowly => {}
        }
    }
}
