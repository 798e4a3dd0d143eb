//! Observation of the node behind a view: its events, and its end.

use std::time::Instant;

use localization::tr;

use super::ViewSession;
use crate::engine::Error;
use crate::engine::chat::{MessageDirection, StoredMessage};
use crate::engine::node_event::NodeEvent;
use crate::ui::{TerminalView, ViewUpdate};

impl<V: TerminalView> ViewSession<'_, V> {
    pub(super) fn handle_event(&mut self, event: NodeEvent) -> Result<(), Error> {
        self.track_event(&event);
        self.bell.handle_event(&self.context.output, self.me, &event)?;
        self.update_view(&ViewUpdate::Event(event))
    }

    /// Tracks uploads and undelivered messages, for the time when the user leaves.
    pub(super) fn track_event(&mut self, event: &NodeEvent) {
        self.uploads.handle_event(event, Instant::now());
        match event {
            NodeEvent::MessageQueued { message, .. } => {
                self.undelivered.insert(message.id);
            }
            NodeEvent::MessageStateChanged { id, state, .. } if !state.is_queued() => {
                self.undelivered.remove(id);
            }
            NodeEvent::DeliveryHeld { .. } if self.exit_reason.is_some() => self.is_delivery_held = true,
            _ => {}
        }
    }

    /// Removes delivered messages, by the history, from the undelivered ones.
    pub(super) fn track_history(&mut self, messages: &[StoredMessage]) {
        for stored in messages {
            if stored.direction == MessageDirection::Out && !stored.state.is_queued() {
                self.undelivered.remove(&stored.message.id);
            }
        }
    }

    /// Reports when the process that runs the node is stopped, and when it continues.
    pub(super) fn check_node_stopped(&mut self) -> Result<(), Error> {
        let stopped = self.connection.stopped_node_error();
        if stopped.is_some() == self.is_node_stopped {
            return Ok(());
        }
        self.is_node_stopped = stopped.is_some();
        match stopped {
            Some(why) => self.update_view(&ViewUpdate::Problem(tr!("{why}; nothing is sent until then", why))),
            None => self.update_view(&ViewUpdate::Note(tr!("the stopped app continues: messages are sent again"))),
        }
    }

    /// Handles the end of the node: acts without an answer may or may not have been done.
    pub(super) async fn handle_node_lost(&mut self) -> Result<(), Error> {
        for lost in self.requeue_unanswered() {
            self.show_problem(lost)?;
        }
        self.store_next();
        self.connection.reconnect(&self.context.cancel, self.me).await?;
        if self.exit_reason.is_some() {
            return Ok(());
        }
        self.update_view(&ViewUpdate::Note(tr!("the app that kept you online has ended: reconnecting")))
    }

    /// Begins with the new node; events that were missed are in the history.
    pub(super) fn handle_node_restored(&mut self) -> Result<(), Error> {
        self.announce_open_conversation();
        self.list_users()?;
        self.store_next();
        self.send_posts();
        // The node may have read the outbox before the last message was stored in it.
        self.wake_node();
        // The view reloads the history, as after lost events.
        self.update_view(&ViewUpdate::Event(NodeEvent::EventsMissed { count: 0 }))?;
        let note = if self.connection.owns_node() {
            tr!("reconnected: this window keeps you online now")
        } else {
            tr!("reconnected: another `peer` keeps you online now")
        };
        self.update_view(&ViewUpdate::Note(note))
    }
}
