//! The bell, and what some terminals make a notification of.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use shared::UntrustedText;

use crate::engine::LocalUser;
use crate::engine::chat::ConversationStatus;
use crate::engine::node_event::NodeEvent;
use crate::ui::{CommandOutput, NotificationProtocol};

/// Between two calls: whoever writes a hundred times a second calls no louder than others.
const MIN_RING_INTERVAL: Duration = Duration::from_secs(1);

/// Calls for attention when somebody writes.
#[derive(Debug, Default)]
pub(super) struct MessageBell {
    last_ring: Option<Instant>,
}

impl MessageBell {
    /// Rings if this is a message, and where somebody may hear it and wants to.
    ///
    /// # Errors
    /// As standard output says.
    pub(super) fn handle_event(
        &mut self,
        output: &CommandOutput,
        me: &LocalUser,
        event: &NodeEvent,
    ) -> std::io::Result<()> {
        let words = UntrustedText::from("wants to talk");
        let (from, text) = match event {
            NodeEvent::Received { from, message, .. } => (from, &message.text),
            // It came behind what they wrote.
            NodeEvent::ContactRequest { from } => (from, &words),
            _ => return Ok(()),
        };
        let is_heard = std::io::stdout().is_terminal() && !output.is_quiet() && !output.is_json();
        if !is_heard || self.last_ring.is_some_and(|rang| rang.elapsed() < MIN_RING_INTERVAL) {
            return Ok(());
        }
        // Whoever isn't accepted calls once.
        let is_request = matches!(me.profile.conversation_status(from), Ok(ConversationStatus::Request(_)));
        if is_request != matches!(event, NodeEvent::ContactRequest { .. }) {
            return Ok(());
        }
        self.last_ring = Some(Instant::now());
        if !me.profile.is_bell_enabled().unwrap_or(false) {
            return Ok(());
        }
        output.write_raw(&NotificationProtocol::detect().escape_sequence(from, text))
    }
}
