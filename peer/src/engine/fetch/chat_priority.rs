//! Chat priority: a fetch is throttled while a chat is active.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::stall_detector::StallDetector;
use crate::engine::chat_activity::BULK_RATE_DURING_CHAT;
use crate::util::rate_limit::TokenBucket;

/// The chat state, and the rate that is left for bulk data while a chat is active.
#[derive(Debug)]
pub(super) struct ChatPriority {
    is_active: AtomicBool,
    bulk_limit: tokio::sync::Mutex<TokenBucket>,
}

impl ChatPriority {
    /// Builds the state without an active chat.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_active: AtomicBool::new(false),
            bulk_limit: tokio::sync::Mutex::new(TokenBucket::smooth(BULK_RATE_DURING_CHAT, now)),
        }
    }

    /// True while a chat is active.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Sets whether a chat is active.
    pub(super) fn set_active(&self, talking: bool) {
        self.is_active.store(talking, Ordering::Relaxed);
    }

    /// Waits until `bytes` more may be taken over the link of this detector.
    pub(super) async fn throttle(&self, bytes: usize, detector: &StallDetector) {
        if self.is_active() {
            detector.throttle(&self.bulk_limit, bytes).await;
        }
    }
}
