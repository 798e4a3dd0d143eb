//! Terminal bell and desktop notification for messages.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::engine::LocalUser;
use crate::engine::message_attention::AttentionCall;
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
        let is_heard = std::io::stdout().is_terminal() && !output.is_quiet() && !output.is_json();
        if !is_heard || self.last_ring.is_some_and(|rang| rang.elapsed() < MIN_RING_INTERVAL) {
            return Ok(());
        }
        let Some(call) = AttentionCall::of_event(me, event) else { return Ok(()) };
        // Also while the bell is off: a flood asks the profile once a second, not for each message.
        self.last_ring = Some(Instant::now());
        // A profile that can't be read does not ring: the message itself is shown, which is enough.
        if !me.profile.is_bell_enabled().unwrap_or(false) {
            return Ok(());
        }
        output.write_raw(&NotificationProtocol::detect().escape_sequence(&call.from, &call.text))
    }
}
