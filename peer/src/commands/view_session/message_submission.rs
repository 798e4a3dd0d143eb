//! Submission of messages: through the node if there is one, else into the profile, where the next node finds them.
//!
//! ```text
//! Enter ── a node is there ──► `queue_message` with its id ── the answer ──► stored
//!   │                              └── none, the node has ended ──┐
//!   └───── no node ────────────────────────────────────────────► UnstoredMessages ── stored here, one after another
//! ```
//!
//! The id makes it harmless to store a message twice. A message that can't be stored stays in memory and is tried again
//! every second, when a node is there again, and when the view ends; messages that are lost then are named.

use localization::tr;
use shared::peer::ChatMessage;
use shared::{FileName, UserName};
use tokio::time::{Instant, timeout_at};

use super::background_jobs::{self, JobOutcome};
use super::{EXIT_FLUSH_TIMEOUT, UnansweredMessage, ViewSession};
use crate::engine::chat::{self, StoredMessage};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, file_offers};
use crate::ui::{TerminalView, ViewUpdate, excerpt};

impl<V: TerminalView> ViewSession<'_, V> {
    /// Sends a text to a user.
    pub(super) fn submit_text(&mut self, to: UserName, text: &str) -> Result<(), Error> {
        match chat::compose(text) {
            Ok(message) => self.submit_message(to, message),
            Err(error) => return self.show_problem(tr!("not sent: {error}", error)),
        }
        Ok(())
    }

    /// Announces an offered file to its recipient.
    pub(super) fn submit_offer(&mut self, to: UserName, name: &FileName) -> Result<(), Error> {
        if self.unstored.is_empty() && self.connection.is_connected() {
            let (number, asked) = (self.next_submission(), name.clone());
            self.unanswered.insert(number, UnansweredMessage::Offer { to: to.clone(), name: asked.clone() });
            // Only until the message is stored: delivery may take days.
            self.ask(|node| async move { Ok(submitted(number, node.queue_offer(&to, &asked).await)) });
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
        if !self.unstored.is_empty() || !self.connection.is_connected() {
            return self.queue_unstored(to, message);
        }
        let number = self.next_submission();
        self.unanswered.insert(number, UnansweredMessage::Text { to: to.clone(), message: message.clone() });
        // Tasks of this runtime begin in the order of their spawning, and with it messages are stored in order.
        self.ask(|node| async move { Ok(submitted(number, node.queue_message(&to, message).await)) });
    }

    const fn next_submission(&mut self) -> u64 {
        self.submission_count += 1;
        self.submission_count
    }

    /// Handles the node's answer to a message or an offer.
    pub(super) fn handle_submitted(&mut self, number: u64, failure: Option<Error>) -> Result<(), Error> {
        match (self.unanswered.remove(&number), failure) {
            (Some(UnansweredMessage::Text { .. }), Some(error)) => self.show_problem(tr!("not sent: {error}", error)),
            (Some(UnansweredMessage::Offer { .. }), Some(error)) => self.show_problem(error.to_string()),
            _ => Ok(()),
        }
    }

    fn queue_unstored(&mut self, to: UserName, message: ChatMessage) {
        self.unstored.push(to, message);
        self.store_next();
    }

    /// Starts to store the first unstored message, unless one is being stored.
    pub(super) fn store_next(&mut self) {
        // One at a time, so that messages are stored in the order in which they were written.
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
                self.wake_node();
                self.store_next();
                let event = NodeEvent::MessageQueued { to: stored.peer, message: stored.message, seq: stored.seq };
                self.track_event(&event);
                self.update_view(&ViewUpdate::StoredHere(event))
            }
            Err(error) if is_permanent(&error) => {
                self.unstored.remove(message.id);
                self.store_next();
                self.show_problem(tr!("not sent: {error}", error))
            }
            // Reported once: it is retried every second.
            Err(error) if !std::mem::replace(&mut self.has_reported_unstored, true) => self
                .show_problem(tr!("message not stored: {error}; trying again: it is lost if you leave before", error)),
            Err(_) => Ok(()),
        }
    }

    /// Moves messages and offers without a reply back to the unstored ones: the node has ended, or the view ends. Returns a
    /// line for each offer of which nobody can be told.
    pub(super) fn requeue_unanswered(&mut self) -> Vec<String> {
        let (mut said, mut lost) = (Vec::new(), Vec::new());
        for asked in std::mem::take(&mut self.unanswered).into_values() {
            match asked {
                UnansweredMessage::Text { to, message } => said.push((to, message)),
                UnansweredMessage::Offer { to, name } => match file_offers::find_offer(self.me, &to, &name) {
                    Ok(offer) => said.push((to, chat::compose_offer(&self.me.user, offer))),
                    Err(why) => lost.push(tr!("{path} can't be offered: {why}", path = name.display(), why)),
                },
            }
        }
        self.unstored.prepend(said);
        lost
    }

    /// Stores the remaining messages when the view ends; returns a line for each that is lost.
    pub(super) async fn store_remaining(&mut self) -> Vec<String> {
        let mut lost = self.requeue_unanswered();
        let by = Instant::now() + EXIT_FLUSH_TIMEOUT;
        let mut has_stored = false;
        while let Some((to, message)) = self.unstored.first().cloned() {
            // Removed first, so that each message is tried once and the loop ends.
            self.unstored.remove(message.id);
            match timeout_at(by, chat::store_outgoing(self.me, &to, message.clone(), |_| {})).await {
                Ok(Ok(stored)) => {
                    if stored.state.is_queued() {
                        self.undelivered.insert(stored.message.id);
                    }
                    has_stored = true;
                }
                Ok(Err(error)) => lost.push(lost_words(&to, message.text.as_received(), &error.to_string())),
                Err(_) => {
                    lost.push(lost_words(&to, message.text.as_received(), &tr!("the account's disk doesn't answer")));
                }
            }
        }
        if (has_stored || self.is_waking)
            && let Some(node) = self.connection.api()
        {
            // Awaited here, for a job ends with the view. If it fails, the next node looks at the outbox by itself.
            let _ = timeout_at(by, node.wake(None)).await;
        }
        lost
    }
}

/// Returns the outcome of a submission. If the node is gone, the loop submits again what has no answer.
fn submitted(number: u64, stored: Result<StoredMessage, Error>) -> JobOutcome {
    match stored {
        Err(Error::NodeGone { .. }) => JobOutcome::Nothing,
        stored => JobOutcome::Submitted { number, failure: stored.err() },
    }
}

/// True if another attempt can't succeed.
const fn is_permanent(error: &Error) -> bool {
    matches!(error, Error::OutboxFull(..) | Error::Usage(_))
}

fn lost_words(to: &UserName, text: &str, why: &str) -> String {
    tr!("message to {to} not sent and not stored: {text} ({why})", to, text = excerpt(text), why)
}
