//! Saying something: through the node when there is one, else into the profile, whose next node sends it.
//!
//! ```text
//! Enter ── a node is there ──► `say` with the message's id ── its reply ──► stored
//!   │                              └── none, the node has ended ──┐
//!   └───── no node ────────────────────────────────────────────► UnsaidMessages ── stored here, one after another
//! ```
//!
//! The id makes it harmless to store one twice. What can't be stored stays in memory and is tried again every second, when
//! there is a node again, and when the view ends; what is lost then is named.

use shared::peer::ChatMessage;
use shared::{FileName, UserName};
use tokio::time::{Instant, timeout_at};

use super::beside;
use super::{Asked, FAREWELL, Session};
use crate::engine::chat::{self, StoredMessage};
use crate::engine::event::Event;
use crate::engine::node::control::Action;
use crate::engine::{Error, offers};
use crate::ui::{News, View, excerpt};

impl<V: View> Session<'_, V> {
    /// Says a text to somebody.
    pub(super) fn say(&mut self, to: UserName, text: &str) -> Result<(), Error> {
        match chat::compose(text) {
            Ok(message) => self.send(to, message),
            Err(error) => return self.problem(format!("not sent: {error}")),
        }
        Ok(())
    }

    /// Tells somebody of a file that is offered to them.
    pub(super) fn say_offer(&mut self, to: UserName, name: &FileName) -> Result<(), Error> {
        let is_sent = self.unsaid.is_empty() && self.connection.is_there() && {
            let action = Action::Offer { to: to.clone(), name: name.clone(), wait: false };
            self.ask(action, Asked::Offer { to: to.clone(), name: name.clone() })
        };
        if is_sent {
            return Ok(());
        }
        match offers::find(self.me, &to, name) {
            Ok(offer) => self.keep(to, chat::compose_offer(&self.me.user, offer)),
            Err(error) => return self.problem(error.to_string()),
        }
        Ok(())
    }

    fn send(&mut self, to: UserName, message: ChatMessage) {
        // What was said before comes before.
        let is_sent = self.unsaid.is_empty() && {
            let action =
                Action::Say { to: to.clone(), text: message.text.as_received().to_owned(), message: Some(message.id) };
            self.ask(action, Asked::Say { to: to.clone(), message: message.clone() })
        };
        if !is_sent {
            self.keep(to, message);
        }
    }

    fn keep(&mut self, to: UserName, message: ChatMessage) {
        self.unsaid.push(to, message);
        self.store_next();
    }

    /// Stores the first of what no node has stored, unless one is being stored.
    pub(super) fn store_next(&mut self) {
        if !self.is_storing
            && let Some((to, message)) = self.unsaid.first()
        {
            self.is_storing = true;
            self.jobs.spawn(beside::store(self.me.clone(), to.clone(), message.clone()));
        }
    }

    /// Learns what came of storing a message.
    pub(super) fn stored(&mut self, message: &ChatMessage, stored: Result<StoredMessage, Error>) -> Result<(), Error> {
        self.is_storing = false;
        match stored {
            Ok(stored) => {
                self.unsaid.remove(message.id);
                self.is_unstored_told = false;
                // A node that began meanwhile may have looked through the outbox before.
                self.ask(Action::Wake { user: None }, Asked::Quiet);
                self.store_next();
                let event = Event::Said { to: stored.peer, message: stored.message, seq: stored.seq };
                self.follow(&event);
                self.news(&News::Event(event))
            }
            Err(error) if is_final(&error) => {
                self.unsaid.remove(message.id);
                self.store_next();
                self.problem(format!("not sent: {error}"))
            }
            Err(error) if !std::mem::replace(&mut self.is_unstored_told, true) => self.problem(format!(
                "not stored: {error}; it is tried again for as long as this view is open, and lost after that"
            )),
            Err(_) => Ok(()),
        }
    }

    /// Takes back what the node was told and may not have stored: it has ended, or the view ends.
    pub(super) fn take_back_unanswered(&mut self) {
        let mut asked: Vec<(u64, Asked)> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        let said = asked.into_iter().filter_map(|(_, asked)| match asked {
            Asked::Say { to, message } => Some((to, message)),
            Asked::Offer { to, name } => {
                let offer = offers::find(self.me, &to, &name).ok()?;
                Some((to, chat::compose_offer(&self.me.user, offer)))
            }
            _ => None,
        });
        let said = said.collect();
        self.unsaid.put_before(said);
    }

    /// Stores what is left when the view ends, and names what can't be.
    pub(super) async fn store_rest(&mut self) -> Vec<String> {
        self.take_back_unanswered();
        let by = Instant::now() + FAREWELL;
        let mut lost = Vec::new();
        while let Some((to, message)) = self.unsaid.first().cloned() {
            self.unsaid.remove(message.id);
            match timeout_at(by, chat::store_ours(self.me, &to, message.clone(), |_| {})).await {
                Ok(Ok(stored)) => {
                    if stored.state.is_open() {
                        self.under_way.insert(stored.message.id);
                    }
                    self.ask(Action::Wake { user: None }, Asked::Quiet);
                }
                Ok(Err(error)) => lost.push(lost_words(&to, message.text.as_received(), &error.to_string())),
                Err(_) => lost.push(lost_words(&to, message.text.as_received(), "the profile's disk doesn't answer")),
            }
        }
        lost
    }
}

/// Tells whether trying again is no use.
const fn is_final(error: &Error) -> bool {
    matches!(error, Error::OutboxFull(..) | Error::Usage(_))
}

fn lost_words(to: &UserName, text: &str, why: &str) -> String {
    format!("not sent to {to} and not kept: {} ({why})", excerpt(text))
}
