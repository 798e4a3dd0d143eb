//! What whoever hands out places has to know of a connection: since when it is quiet, and whether it may be asked to go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Stands for "is being answered".
const ANSWERING: u64 = u64::MAX;

/// One connection's place, as the connection and whoever hands out places both see it.
#[derive(Debug)]
pub struct Seat {
    began: Instant,
    /// Milliseconds after the beginning, or [`ANSWERING`].
    quiet_since: AtomicU64,
    is_known: AtomicBool,
    gone: Notify,
}

impl Seat {
    /// Of a connection that begins now and said nothing yet.
    pub const fn new(now: Instant) -> Self {
        let (quiet_since, is_known) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: now, quiet_since, is_known, gone: Notify::const_new() }
    }

    /// Since when the connection waits for its client; `None` while it may not be asked to go, because the client is
    /// being answered, or has logged in.
    pub fn quiet_since(&self) -> Option<Instant> {
        let quiet_since = self.quiet_since.load(Ordering::Relaxed);
        let may_go = quiet_since != ANSWERING && !self.is_known.load(Ordering::Relaxed);
        may_go.then(|| self.began + Duration::from_millis(quiet_since))
    }

    /// The place is given to somebody else.
    pub fn ask_to_go(&self) {
        self.gone.notify_one();
    }

    pub(crate) fn answering(&self) {
        self.quiet_since.store(ANSWERING, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, now: Instant) {
        let quiet_since = now.saturating_duration_since(self.began).as_millis();
        self.quiet_since.store(u64::try_from(quiet_since).unwrap_or(ANSWERING - 1), Ordering::Relaxed);
    }

    /// Its client has logged in: it keeps its place.
    pub fn know(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Ready once the place is given to somebody else.
    pub(crate) async fn must_go(&self) {
        self.gone.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_answered_or_known_stays() {
        let now = Instant::now();
        let seat = Seat::new(now);
        assert_eq!(seat.quiet_since(), Some(now));
        seat.answering();
        assert_eq!(seat.quiet_since(), None);
        seat.answered(now + Duration::from_secs(7));
        assert_eq!(seat.quiet_since(), Some(now + Duration::from_secs(7)));
        seat.know();
        assert_eq!(seat.quiet_since(), None);
        seat.ask_to_go();
        seat.must_go().await;
    }
}
