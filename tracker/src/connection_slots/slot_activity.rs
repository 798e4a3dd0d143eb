//! What whoever hands out places has to know of a connection: since when it is quiet, and whether it may be asked to go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Stands for "is being answered".
const BUSY: u64 = u64::MAX;

/// One connection's place, as the connection and whoever hands out places both see it.
#[derive(Debug)]
pub struct SlotActivity {
    began: Instant,
    /// Milliseconds after the beginning, or [`ANSWERING`].
    idle_since_ms: AtomicU64,
    is_reserved: AtomicBool,
    evicted: Notify,
}

impl SlotActivity {
    /// Of a connection that begins now and said nothing yet.
    pub const fn new(now: Instant) -> Self {
        let (idle_since_ms, is_reserved) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: now, idle_since_ms, is_reserved, evicted: Notify::const_new() }
    }

    /// Since when the connection waits for its client; `None` while it may not be asked to go, because the client is
    /// being answered, or has logged in.
    pub fn evictable_since(&self) -> Option<Instant> {
        let quiet_since = self.idle_since_ms.load(Ordering::Relaxed);
        let may_go = quiet_since != BUSY && !self.is_reserved.load(Ordering::Relaxed);
        may_go.then(|| self.began + Duration::from_millis(quiet_since))
    }

    /// The place is given to somebody else.
    pub fn evict(&self) {
        self.evicted.notify_one();
    }

    pub(crate) fn mark_busy(&self) {
        self.idle_since_ms.store(BUSY, Ordering::Relaxed);
    }

    pub(crate) fn mark_idle(&self, now: Instant) {
        let quiet_since = now.saturating_duration_since(self.began).as_millis();
        self.idle_since_ms.store(u64::try_from(quiet_since).unwrap_or(BUSY - 1), Ordering::Relaxed);
    }

    /// Its client has logged in: it keeps its place.
    pub fn mark_reserved(&self) {
        self.is_reserved.store(true, Ordering::Relaxed);
    }

    /// Ready once the place is given to somebody else.
    pub(crate) async fn wait_for_eviction(&self) {
        self.evicted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_answered_or_known_stays() {
        let now = Instant::now();
        let seat = SlotActivity::new(now);
        assert_eq!(seat.evictable_since(), Some(now));
        seat.mark_busy();
        assert_eq!(seat.evictable_since(), None);
        seat.mark_idle(now + Duration::from_secs(7));
        assert_eq!(seat.evictable_since(), Some(now + Duration::from_secs(7)));
        seat.mark_reserved();
        assert_eq!(seat.evictable_since(), None);
        seat.evict();
        seat.wait_for_eviction().await;
    }
}
