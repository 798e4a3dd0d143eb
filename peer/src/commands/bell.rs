//! Terminal bell and desktop notification for messages.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use shared::{UntrustedText, UserName};

use crate::engine::LocalUser;
use crate::engine::chat::{ConversationName, ConversationStatus};
use crate::engine::node_event::NodeEvent;
use crate::ui::{CommandOutput, NotificationProtocol};

/// Least time between two rings, however many messages arrive.
const MIN_RING_INTERVAL: Duration = Duration::from_secs(1);

/// Rings when a message arrives.
#[derive(Debug, Default)]
pub(super) struct MessageBell {
    last_ring: Option<Instant>,
}

impl MessageBell {
    /// Rings if the event is a message, the output is a terminal and the user has enabled the bell. Fails if standard
    /// output can't be written.
    pub(super) fn handle_event(
        &mut self,
        output: &CommandOutput,
        me: &LocalUser,
        event: &NodeEvent,
    ) -> std::io::Result<()> {
        let words = UntrustedText::from("wants to talk");
        let (from, text) = match event {
            NodeEvent::Received { from, message, .. } => (from, &message.text),
            // Follows the stranger's messages, which rang no bell themselves.
            NodeEvent::ContactRequest { from } => (from, &words),
            NodeEvent::RoomMessage(post) if post.mentions_me && post.from != me.user => (&post.from, &post.text),
            _ => return Ok(()),
        };
        let is_heard = std::io::stdout().is_terminal() && !output.is_quiet() && !output.is_json();
        if !is_heard || self.last_ring.is_some_and(|rang| rang.elapsed() < MIN_RING_INTERVAL) {
            return Ok(());
        }
        if !may_ring(me, from, event) {
            return Ok(());
        }
        // Also while the bell is off: a flood asks the profile once a second, not for each message.
        self.last_ring = Some(Instant::now());
        if !me.profile.is_bell_enabled().unwrap_or(false) {
            return Ok(());
        }
        output.write_raw(&NotificationProtocol::detect().escape_sequence(from, text))
    }
}

/// Returns whether the profile lets the event ring: strangers ring for their request only, not for each message; what is
/// muted never rings.
fn may_ring(me: &LocalUser, from: &UserName, event: &NodeEvent) -> bool {
    let is_muted = |with: &ConversationName| me.profile.is_muted(with).unwrap_or(false);
    if let NodeEvent::RoomMessage(post) = event {
        return !is_muted(&(&post.room).into());
    }
    if is_muted(&from.into()) {
        return false;
    }
    let is_request = matches!(me.profile.conversation_status(from), Ok(ConversationStatus::Request(_)));
    is_request == matches!(event, NodeEvent::ContactRequest { .. })
}
