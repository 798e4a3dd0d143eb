//! Messages that are unsent when the node or the user ends the filter: another node takes them, or the profile stores them.

use std::time::Duration;

use localization::tr;

use super::super::interrupted_send::report_interrupted_send;
use super::{ChatFilter, InputLineReceiver, parse_message};
use crate::engine::node::{NodeHandle, NodeLifetime};
use crate::engine::node_connection;
use crate::engine::{Error, chat, run_blocking};
use crate::ui::excerpt;

/// Pause after which no further line is read when no node is left.
const BATCH_PAUSE: Duration = Duration::from_secs(1);

impl ChatFilter<'_> {
    /// Finds another node after the one in use has ended. If there is none, stores the messages in the profile and
    /// names the first line that is lost.
    pub(super) async fn switch_node(
        &mut self,
        node: NodeHandle,
        ended: Error,
        input: &mut InputLineReceiver,
    ) -> Result<NodeHandle, Error> {
        let unanswered = std::mem::take(&mut self.in_flight);
        // In front of the unsent lines, in their order: the map is sorted by request id.
        unanswered.into_values().rev().for_each(|message| self.resend.push_front(message));
        // It ended with the node: the next node is asked again.
        self.is_flushing = false;
        let found = async {
            // If this process ran the node, the node's error is the reason.
            if node.owns_node() {
                return node.close().await.and(Err(ended));
            }
            node_connection::open_replacement(&self.context.cancel, self.me, NodeLifetime::Command).await
        };
        match found.await {
            Ok(node) => {
                self.context.output.note(&tr!("the app that kept you online has ended: reconnecting"));
                Ok(node)
            }
            Err(Error::Interrupted) => Err(self.handle_interrupt().await),
            Err(error) => Err(self.finish_without_node(&error, input).await),
        }
    }

    /// Stores the messages that are left; returns the error with their number and the first line that was not sent.
    async fn finish_without_node(&mut self, error: &Error, input: &mut InputLineReceiver) -> Error {
        let unsent = match self.now {
            // Lines for `--now` must not be delivered later: nothing is stored.
            true => match self.resend.pop_front() {
                Some(message) => Some(message.text.into_received()),
                // What was piped in with a message may still be on its way here.
                None => {
                    let line = tokio::time::timeout(BATCH_PAUSE, input.recv()).await;
                    line.ok().flatten().and_then(Result::ok).map(|line| line.text)
                }
            },
            false => self.store_lines(input).await,
        };
        let queued = match self.queued_count().await {
            0 => None,
            count => {
                Some(tr!("1 message is queued (`peer outbox`)" | "{n} messages are queued (`peer outbox`)" % count))
            }
        };
        let rest = match unsent {
            Some(text) => Some(tr!("the first line that was not sent: {text}", text = excerpt(&text))),
            None if self.is_input_open => Some(tr!("no further line was read")),
            None => None,
        };
        let clauses: Vec<String> = std::iter::once(error.to_string()).chain(queued).chain(rest).collect();
        Error::Relayed { kind: error.kind(), message: clauses.join("; ") }
    }

    /// Stores messages and the lines that follow without a pause; returns the first line that can't be stored.
    async fn store_lines(&mut self, input: &mut InputLineReceiver) -> Option<String> {
        loop {
            let message = match self.resend.pop_front() {
                Some(message) => message,
                None => match tokio::time::timeout(BATCH_PAUSE, input.recv()).await {
                    // Only a pause tells that the writer is done: the pipe may stay open for ever.
                    Ok(Some(Ok(line))) => match parse_message(&line) {
                        Ok(message) => message,
                        Err(_) if line.text.trim().is_empty() => continue,
                        Err(_) => return Some(line.text),
                    },
                    Ok(Some(Err(_))) | Err(_) => return None,
                    Ok(None) => {
                        self.is_input_open = false;
                        return None;
                    }
                },
            };
            let text = message.text.clone();
            if let Err(why) = chat::store_outgoing(self.me, self.user, message, |_| {}).await {
                self.context.output.warning(&why.to_string());
                return Some(text.into_received());
            }
        }
    }

    /// Reports at Ctrl-C which messages stay queued.
    pub(super) async fn handle_interrupt(&mut self) -> Error {
        if self.now {
            let last = self.in_flight.pop_first().map(|(_, message)| message).or_else(|| self.resend.pop_front());
            return match last {
                Some(message) => report_interrupted_send(self.context, self.me, self.user, message.id, true).await,
                None => Error::Interrupted,
            };
        }
        // The node may have stored them or not: storing them again under the same ids is harmless.
        let unanswered = std::mem::take(&mut self.in_flight).into_values().chain(std::mem::take(&mut self.resend));
        for message in unanswered {
            let text = message.text.clone();
            if let Err(why) = chat::store_outgoing(self.me, self.user, message, |_| {}).await {
                self.context.output.warning(&tr!("not sent: {text} ({why})", text = excerpt(text.as_received()), why));
            }
        }
        let user = self.user;
        match self.queued_count().await {
            0 => {}
            count => self.context.output.note(&tr!(
                "interrupted: 1 message for {user} stays queued (`peer outbox`)"
                    | "interrupted: {n} messages for {user} stay queued (`peer outbox`)" % count,
                user
            )),
        }
        Error::Interrupted
    }

    /// Returns the number of messages queued for the user.
    async fn queued_count(&self) -> usize {
        let (profile, user) = (self.me.profile.clone(), self.user.clone());
        run_blocking(move || Ok(profile.queued_for(&user, 0, usize::MAX)?.len())).await.unwrap_or_default()
    }
}
