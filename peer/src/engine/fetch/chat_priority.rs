//! Chat priority: a fetch is throttled while a chat is active, which the profile's node knows.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::source_dialer::SourceDialer;
use super::stall_detector::StallDetector;
use crate::engine::chat_activity::BULK_RATE_DURING_CHAT;
use crate::engine::node::control::NodeClient;
use crate::engine::{Error, LocalUser};
use crate::util::rate_limit::TokenBucket;

/// The pause before the next attempt to reach the node.
const NODE_POLL_INTERVAL: Duration = Duration::from_secs(2);

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

/// Follows the chat state of the profile's node, for as long as the future is polled.
pub(super) async fn watch_chat_activity(me: &LocalUser, dialer: &SourceDialer) -> Infallible {
    loop {
        match NodeClient::connect(&me.profile).await {
            Ok(Some(node)) => {
                let ended = apply_chat_activity(node, dialer).await;
                tracing::debug!("whether people talk isn't known any more: {ended}");
                // Without a node nobody chats in this profile; throttled
                // for ever, the fetch would never be quick again.
                dialer.throttle_bulk(false);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("whether people talk isn't known: {error}"),
        }
        // No node is no error: one may start at any time during the fetch.
        tokio::time::sleep(NODE_POLL_INTERVAL).await;
    }
}

async fn apply_chat_activity(mut node: NodeClient, dialer: &SourceDialer) -> Error {
    let mut active = false;
    loop {
        // The node replies only when its state differs from `active`, so this needs no polling.
        match node.watch_chat_activity(active).await {
            Ok(now) => active = now,
            Err(error) => return error,
        }
        dialer.throttle_bulk(active);
    }
}
