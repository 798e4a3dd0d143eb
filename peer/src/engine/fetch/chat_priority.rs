//! Priority of chats over a fetch: what is left for its bulk data while people chat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::stall_detector::StallDetector;
use crate::engine::bulk_rate::BulkRateLimiter;

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
