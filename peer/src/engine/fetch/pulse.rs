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
/// To hand a group on takes a moment, which keeps nobody waiting.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at the other streams.
const TICK: Duration = Duration::from_secs(1);

/// What all streams of one link have in common.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Answers and pieces of data that came.
    signs: AtomicU64,
    bytes: AtomicU64,
    /// Answers, whatever came with them.
    answers: AtomicU64,
    /// Streams that wait for the source now.
    waiting: AtomicUsize,
    /// Streams that this side keeps waiting now, and how often it did.
    paused: AtomicUsize,
    pauses: AtomicU64,
    /// Microseconds that the ended ones of those took.
    paused_for: AtomicU64,
}

/// The traffic of a link and the state of its streams, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PulseReading {
    pub(super) bytes: u64,
    pub(super) answers: u64,
    paused_for: u64,
    is_waiting: bool,
    is_paused: bool,
}

impl PulseReading {
    /// Tells whether streams wait for the source, and this side kept it waiting neither now nor since `before`.
    pub(super) fn waits_since(&self, before: &Self) -> bool {
        let paused = Duration::from_micros(self.paused_for.saturating_sub(before.paused_for));
        self.is_waiting && !self.is_paused && paused < SHORT_PAUSE
    }
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

    /// An answer came, and perhaps data with it.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.beat(0);
    }

    /// Reads how it stands now.
    pub(super) fn read(&self) -> PulseReading {
        PulseReading {
            bytes: self.bytes.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
            paused_for: self.paused_for.load(Ordering::Relaxed),
            is_waiting: self.waiting.load(Ordering::Relaxed) > 0,
            is_paused: self.paused.load(Ordering::Relaxed) > 0,
        }
    }

    /// Waits for something here. As long as that takes, it may be us who keeps the source waiting, also on other streams:
    /// what isn't read takes the room of what is.
    pub(super) async fn pause<T>(&self, here: impl Future<Output = T>) -> T {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        let (_paused, begun) = (Counted::among(&self.paused), Instant::now());
        let came = here.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.paused_for.fetch_add(micros, Ordering::Relaxed);
        came
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

/// One of those that are counted, until this is dropped.
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
        let _waiting = Counted::among(&self.pulse.waiting);
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
    async fn what_this_side_holds_up_shows_in_a_reading() {
        let pulse = Pulse::default();
        let (mut before, due) = (pulse.read(), pending::<Result<(), _>>());
        let mut waits_after = async |pause: Duration| {
            pulse.pause(sleep(pause)).await;
            let reading = pulse.read();
            let waits = reading.waits_since(&before);
            before = reading;
            waits
        };
        assert!(!waits_after(Duration::ZERO).await, "nothing is due");
        let mut patience = pulse.patience();
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
