//! Submission of messages: through the node if there is one, else into the profile, where the next node finds them.
//!
//! ```text
//! Enter ── a node is there ──► `say` with the message's id ── its reply ──► stored
//!   │                              └── none, the node has ended ──┐
//!   └───── no node ────────────────────────────────────────────► UnstoredMessages ── stored here, one after another
//! ```
//!
//! The id makes it harmless to store a message twice. A message that can't be stored stays in memory and is tried again
//! every second, when a node is there again, and when the view ends; messages that are lost then are named.

use shared::peer::ChatMessage;
use shared::{FileName, UserName};
use tokio::time::{Instant, timeout_at};

use super::background_jobs;
use super::{EXIT_FLUSH_TIMEOUT, PendingRequest, ViewSession};
use crate::engine::chat::{self, StoredMessage};
use crate::engine::node::control::ControlAction;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, file_offers};
use crate::ui::{TerminalView, ViewUpdate, excerpt};

impl<V: TerminalView> ViewSession<'_, V> {
    /// Sends a text to a user.
    pub(super) fn submit_text(&mut self, to: UserName, text: &str) -> Result<(), Error> {
        match chat::compose(text) {
            Ok(message) => self.submit_message(to, message),
            Err(error) => return self.show_problem(format!("not sent: {error}")),
        }
        Ok(())
    }

    /// Announces an offered file to its recipient.
    pub(super) fn submit_offer(&mut self, to: UserName, name: &FileName) -> Result<(), Error> {
        let is_sent = self.unstored.is_empty() && self.connection.is_connected() && {
            // Without `wait` the reply comes when the message is stored: delivery may take days.
            let action = ControlAction::Offer { to: to.clone(), name: name.clone(), wait: false };
            self.send_request(action, PendingRequest::Offer { to: to.clone(), name: name.clone() })
        };
        if is_sent {
            return Ok(());
        }
        match file_offers::find_offer(self.me, &to, name) {
            Ok(offer) => self.queue_unstored(to, chat::compose_offer(&self.me.user, offer)),
            Err(error) => return self.show_problem(error.to_string()),
        }
        Ok(())
    }

    fn submit_message(&mut self, to: UserName, message: ChatMessage) {
        // Keep the order: a message must not overtake earlier ones that no node has stored.
        let is_sent = self.unstored.is_empty() && {
            let action = ControlAction::Say {
                to: to.clone(),
                text: message.text.as_received().to_owned(),
                message: Some(message.id),
            };
            self.send_request(action, PendingRequest::Say { to: to.clone(), message: message.clone() })
        };
        if !is_sent {
            self.queue_unstored(to, message);
        }
    }

    fn queue_unstored(&mut self, to: UserName, message: ChatMessage) {
        self.unstored.push(to, message);
        self.store_next();
    }

    /// Starts to store the first unstored message, unless one is being stored.
    pub(super) fn store_next(&mut self) {
        if !self.is_storing
            && let Some((to, message)) = self.unstored.first()
        {
            self.is_storing = true;
            self.jobs.spawn(background_jobs::store_message(self.me.clone(), to.clone(), message.clone()));
        }
    }

    /// Handles the result of storing a message.
    pub(super) fn handle_stored(
        &mut self,
        message: &ChatMessage,
        stored: Result<StoredMessage, Error>,
    ) -> Result<(), Error> {
        self.is_storing = false;
        match stored {
            Ok(stored) => {
                self.unstored.remove(message.id);
                self.has_reported_unstored = false;
                // A node that began meanwhile may have read the outbox before the message was in it.
                self.send_request(ControlAction::Wake { user: None }, PendingRequest::Ignored);
                self.store_next();
                let event = NodeEvent::MessageQueued { to: stored.peer, message: stored.message, seq: stored.seq };
                self.track_event(&event);
                self.update_view(&ViewUpdate::Event(event))
            }
            Err(error) if is_permanent(&error) => {
                self.unstored.remove(message.id);
                self.store_next();
                self.show_problem(format!("not sent: {error}"))
            }
            // Reported once: it is retried every second.
            Err(error) if !std::mem::replace(&mut self.has_reported_unstored, true) => {
                self.show_problem(format!("message not stored: {error}; trying again: it is lost if you leave before"))
            }
            Err(_) => Ok(()),
        }
    }

    /// Moves messages and offers without a reply back to the unstored ones: the node has ended, or the view ends.
    pub(super) fn requeue_unanswered(&mut self) {
        let mut asked: Vec<(u64, PendingRequest)> = self.pending.drain().collect();
        // Ids rise with every request: this restores the order in which the user wrote.
        asked.sort_unstable_by_key(|(id, _)| *id);
        let said = asked.into_iter().filter_map(|(_, asked)| match asked {
            PendingRequest::Say { to, message } => Some((to, message)),
            PendingRequest::Offer { to, name } => {
                let offer = file_offers::find_offer(self.me, &to, &name).ok()?;
                Some((to, chat::compose_offer(&self.me.user, offer)))
            }
            _ => None,
        });
        let said = said.collect();
        self.unstored.prepend(said);
    }

    /// Stores the remaining messages when the view ends; returns a line for each that is lost.
    pub(super) async fn store_remaining(&mut self) -> Vec<String> {
        self.requeue_unanswered();
        let by = Instant::now() + EXIT_FLUSH_TIMEOUT;
        let mut lost = Vec::new();
        while let Some((to, message)) = self.unstored.first().cloned() {
            // Removed first, so that each message is tried once and the loop ends.
            self.unstored.remove(message.id);
            match timeout_at(by, chat::store_outgoing(self.me, &to, message.clone(), |_| {})).await {
                Ok(Ok(stored)) => {
                    if stored.state.is_queued() {
                        self.undelivered.insert(stored.message.id);
                    }
                    self.send_request(ControlAction::Wake { user: None }, PendingRequest::Ignored);
                }
                Ok(Err(error)) => lost.push(lost_words(&to, message.text.as_received(), &error.to_string())),
                Err(_) => lost.push(lost_words(&to, message.text.as_received(), "the account's disk doesn't answer")),
            }
        }
        lost
    }
}

/// True if another attempt can't succeed.
const fn is_permanent(error: &Error) -> bool {
    matches!(error, Error::OutboxFull(..) | Error::Usage(_))
}

fn lost_words(to: &UserName, text: &str, why: &str) -> String {
    format!("message to {to} not sent and not stored: {} ({why})", excerpt(text))
}
