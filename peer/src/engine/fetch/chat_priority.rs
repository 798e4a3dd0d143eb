//! Making room for people who talk: the profile's node knows when they do.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::source_dialer::SourceDialer;
use super::stall_detector::StallDetector;
use crate::engine::chat_activity::BULK_RATE_DURING_CHAT;
use crate::engine::node::control::NodeClient;
use crate::engine::rate_limit::TokenBucket;
use crate::engine::{Error, LocalUser};

/// How long until a node is looked for again.
const NODE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Whether room is to be made, and how much is left over.
#[derive(Debug)]
pub(super) struct ChatPriority {
    is_active: AtomicBool,
    bulk_limit: tokio::sync::Mutex<TokenBucket>,
}

impl ChatPriority {
    /// Nobody talks yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_active: AtomicBool::new(false),
            bulk_limit: tokio::sync::Mutex::new(TokenBucket::smooth(BULK_RATE_DURING_CHAT, now)),
        }
    }

    /// Whether people talk.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Room is to be made, or no longer.
    pub(super) fn set_active(&self, talking: bool) {
        self.is_active.store(talking, Ordering::Relaxed);
    }

    /// Waits until so many bytes more may be taken over the link with this pulse.
    pub(super) async fn throttle(&self, bytes: usize, detector: &StallDetector) {
        if self.is_active() {
            detector.throttle(&self.bulk_limit, bytes).await;
        }
    }
}

/// Hears from the profile's node when people begin and stop to talk, for as long as it is polled.
pub(super) async fn watch_chat_activity(me: &LocalUser, dialer: &SourceDialer) -> Infallible {
    loop {
        match NodeClient::connect(&me.profile).await {
            Ok(Some(node)) => {
                let ended = apply_chat_activity(node, dialer).await;
                tracing::debug!("whether people talk isn't known any more: {ended}");
                dialer.throttle_bulk(false);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("whether people talk isn't known: {error}"),
        }
        tokio::time::sleep(NODE_POLL_INTERVAL).await;
    }
}

async fn apply_chat_activity(mut node: NodeClient, dialer: &SourceDialer) -> Error {
    let mut active = false;
    loop {
        match node.watch_chat_activity(active).await {
            Ok(now) => active = now,
            Err(error) => return error,
        }
        dialer.throttle_bulk(active);
    }
}
