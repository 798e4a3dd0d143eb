//! What `peer serve` writes.
//!
//! To programs (`--json`) every event is told. People are told in lines, of which others cause no more than
//! [`super::line_budget`] says.

use std::io;
use std::time::Instant;

use localization::tr;
use shared::UserName;
use shared::account_name::{shell_operand, speaker_label};
use shared::peer::ChatMessage;

use super::line_budget::{LineBudgets, LineDecision, MESSAGE_LIMITS, STRANGER_MESSAGE_LIMITS};
use crate::engine::active_conversations::ActiveConversations;
use crate::engine::chat::ConversationStatus;
use crate::engine::guest_links::GuestPost;
use crate::engine::node_event::NodeEvent;
use crate::engine::{LocalUser, now_ms};
use crate::ui::{CommandOutput, event_json, event_line, message_excerpt, send_words, time_of_day};

/// Writes the events of a node.
pub(super) struct EventPrinter {
    output: CommandOutput,
    me: LocalUser,
    /// Those in which the user takes part now.
    conversations: ActiveConversations,
    budgets: LineBudgets,
}

impl EventPrinter {
    pub(super) fn new(output: CommandOutput, me: LocalUser, conversations: ActiveConversations) -> Self {
        Self { output, me, conversations, budgets: LineBudgets::default() }
    }

    /// Writes what is to be said of an event.
    ///
    /// # Errors
    /// As standard output says.
    pub(super) fn print(&mut self, event: &NodeEvent, now: Instant) -> io::Result<()> {
        if self.output.is_json() {
            return self.output.print_object("event", &event_json(event));
        }
        match event {
            // The one line that scripts wait for.
            NodeEvent::Online { .. } => {
                event_line(event, &self.me.user).map_or(Ok(()), |line| self.output.print_data(&line))
            }
            // What the node ends with says it, and more.
            NodeEvent::AccountMoved { .. } => Ok(()),
            _ if self.output.is_quiet() => Ok(()),
            NodeEvent::Presence { user, .. } if !self.is_accepted(user) && !self.conversations.is_active(user, now) => {
                let decision = self.budgets.presence.record(now);
                self.print_bounded(
                    decision,
                    event_line(event, &self.me.user),
                    |hidden| tr!("others came or went {n} more times" | "others came or went {n} more times" % hidden),
                    || tr!("others come and go as well: `peer list` shows who is online"),
                )
            }
            NodeEvent::Received { from, message, .. } if self.is_accepted(from) => {
                if let Some(send) = &message.send {
                    let words = send_words(from, send, None);
                    return self.print_line(&format!("{} {words}", speaker_label(from)));
                }
                let whole = format!("peer history {}", shell_operand(from));
                let text = message_excerpt(&message.text, MESSAGE_LIMITS, &whole);
                self.print_line(&format!("{}: {text}", speaker_label(from)))
            }
            NodeEvent::Received { from, message, .. } => self.print_stranger_message(from, message, now),
            NodeEvent::ContactRequest { .. } => {
                let decision = self.budgets.requests.record(now);
                self.print_bounded(
                    decision,
                    event_line(event, &self.me.user),
                    |hidden| {
                        tr!("{n} more people want to talk: `peer inbox`"
                            | "{n} more people want to talk: `peer inbox`" % hidden)
                    },
                    || tr!("more people want to talk: `peer inbox`"),
                )
            }
            NodeEvent::GuestMessage(post) if !post.message.is_answer => self.print_guest_message(post, now),
            event => event_line(event, &self.me.user).map_or(Ok(()), |line| self.print_line(&line)),
        }
    }

    fn print_guest_message(&mut self, post: &GuestPost, now: Instant) -> io::Result<()> {
        let whole = format!("peer link chat {}.{}", post.who.link, post.who.guest);
        let line = |limits| format!("{}: {}", post.who, message_excerpt(&post.message.text, limits, &whole));
        if post.is_answered {
            return self.print_line(&line(MESSAGE_LIMITS));
        }
        let decision = self.budgets.guests.record(now);
        self.print_bounded(
            decision,
            Some(line(STRANGER_MESSAGE_LIMITS)),
            |hidden| {
                tr!("{n} more messages of guests: `peer link list`"
                    | "{n} more messages of guests: `peer link list`" % hidden)
            },
            || tr!("guests write more: `peer link list`"),
        )?;
        // The command names a guest whom only a shown line introduces.
        match (post.is_first, decision) {
            (true, LineDecision::Show { .. }) => self.print_line(&tr!("`{command}` answers", command = whole)),
            _ => Ok(()),
        }
    }

    fn print_stranger_message(&mut self, from: &UserName, message: &ChatMessage, now: Instant) -> io::Result<()> {
        let sent = message.send.as_ref().map(|send| send_words(from, send, None).into());
        let text = message_excerpt(sent.as_ref().unwrap_or(&message.text), STRANGER_MESSAGE_LIMITS, "peer inbox");
        let colon = if sent.is_some() { "" } else { ":" };
        let decision = self.budgets.messages.record(now);
        self.print_bounded(
            decision,
            Some(format!("{}{colon} {text}", speaker_label(from))),
            |hidden| {
                tr!("{n} more messages of people who are not accepted: `peer inbox`"
                    | "{n} more messages of people who are not accepted: `peer inbox`" % hidden)
            },
            || tr!("people who are not accepted write more: `peer inbox`"),
        )
    }

    /// Tells whether the user wrote to `user`, or accepted them.
    fn is_accepted(&self, user: &UserName) -> bool {
        // Whoever can't be looked up counts as a stranger, whose lines are bounded.
        matches!(self.me.profile.conversation_status(user), Ok(ConversationStatus::Accepted))
    }

    fn print_bounded(
        &self,
        decision: LineDecision,
        line: Option<String>,
        summary: impl FnOnce(u64) -> String,
        announcement: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let Some(line) = line else { return Ok(()) };
        match decision {
            LineDecision::Show { hidden } => {
                if hidden > 0 {
                    self.print_line(&summary(hidden))?;
                }
                self.print_line(&line)
            }
            LineDecision::Announce => self.print_line(&announcement()),
            LineDecision::Hide => Ok(()),
        }
    }

    fn print_line(&self, line: &str) -> io::Result<()> {
        self.output.print_data(&format!("{} {line}", self.output.dim(&time_of_day(now_ms()))))
    }
}
