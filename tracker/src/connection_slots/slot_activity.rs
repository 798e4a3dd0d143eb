//! The activity of one connection, as far as eviction depends on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Stands for a connection that is being answered.
const BUSY: u64 = u64::MAX;

/// One connection's activity, updated by the connection and read by the slots.
#[derive(Debug)]
pub struct SlotActivity {
    began: Instant,
    /// Milliseconds from `began` to the last answer, or [`BUSY`].
    idle_since_ms: AtomicU64,
    is_reserved: AtomicBool,
    evicted: Notify,
}

impl SlotActivity {
    /// Creates the activity of a connection that begins now.
    pub const fn new(now: Instant) -> Self {
        let (idle_since_ms, is_reserved) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: now, idle_since_ms, is_reserved, evicted: Notify::const_new() }
    }

    /// Returns the time since which the connection waits for its client. `None` while it can't be evicted: it is being
    /// answered, or its slot is reserved.
    pub fn evictable_since(&self) -> Option<Instant> {
        // Relaxed: a value that is a moment old only makes the choice slightly worse.
        let quiet_since = self.idle_since_ms.load(Ordering::Relaxed);
        let may_go = quiet_since != BUSY && !self.is_reserved.load(Ordering::Relaxed);
        may_go.then(|| self.began + Duration::from_millis(quiet_since))
    }

    /// Tells the connection that its slot was given to another.
    pub fn evict(&self) {
        // `notify_one` is remembered: the connection may not be waiting at this moment.
        self.evicted.notify_one();
    }

    pub(crate) fn mark_busy(&self) {
        self.idle_since_ms.store(BUSY, Ordering::Relaxed);
    }

    pub(crate) fn mark_idle(&self, now: Instant) {
        let quiet_since = now.saturating_duration_since(self.began).as_millis();
        // The greatest value has a meaning of its own.
        self.idle_since_ms.store(u64::try_from(quiet_since).unwrap_or(BUSY - 1), Ordering::Relaxed);
    }

    /// Marks the slot as reserved: it won't be evicted.
    pub fn mark_reserved(&self) {
        self.is_reserved.store(true, Ordering::Relaxed);
    }

    /// Waits until the slot is given to another connection.
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
        let activity = SlotActivity::new(now);
        assert_eq!(activity.evictable_since(), Some(now));
        activity.mark_busy();
        assert_eq!(activity.evictable_since(), None);
        activity.mark_idle(now + Duration::from_secs(7));
        assert_eq!(activity.evictable_since(), Some(now + Duration::from_secs(7)));
        activity.mark_reserved();
        assert_eq!(activity.evictable_since(), None);
        activity.evict();
        activity.wait_for_eviction().await;
    }
}
