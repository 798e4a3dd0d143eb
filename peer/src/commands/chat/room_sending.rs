//! Sending to a room by `peer chat`: one message, or each line of standard input.

use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::RoomName;
use shared::account_name::speaker_label;
use tokio::time::{Instant, sleep};

use super::super::context::CommandContext;
use super::super::missed_messages::{MissedMessage, UndeliveredMessages, last_seq};
use crate::engine::chat::{self, ConversationName, MessageDirection, StoredMessage};
use crate::engine::event_json::{message_json, ndjson_event};
use crate::engine::node::{NodeApi, NodeLifetime};
use crate::engine::node_connection::open_node;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomPost, RoomReceipt};
use crate::engine::{Error, LocalUser};
use crate::ui::{InputLine, excerpt, message_line, spawn_line_reader};

/// Time for a member to take what was sent last.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Sends one message, and returns when a member has it or nobody can be reached.
pub(super) async fn send_message(
    context: &CommandContext,
    me: &LocalUser,
    room: &RoomName,
    text: &str,
) -> Result<(), Error> {
    // Before a node is opened: a text that can't be sent needs none.
    chat::compose(text)?;
    let node = open_node(&context.cancel, me, NodeLifetime::Command).await?;
    let sent = context.until_cancelled(node.write_in_room(room, text, true)).await;
    // In order, so that the others learn at once that the link is over.
    node.close().await?;
    let receipt = sent?;
    print_ack(context, room, &receipt)?;
    match receipt {
        RoomReceipt { of: 0, .. } => context.output.note(&tr!("nobody else is in #{room}", room)),
        RoomReceipt { count: 0, .. } => note_kept(context, room),
        RoomReceipt { .. } => {}
    }
    Ok(())
}

/// Sends each line of standard input, and prints the messages of others, until the input ends and a member has all of
/// them, or nobody can be reached.
pub(super) async fn send_lines(context: &CommandContext, me: &LocalUser, room: &RoomName) -> Result<(), Error> {
    let node = open_node(&context.cancel, me, NodeLifetime::Command).await?;
    let outcome = relay_lines(context, me, room, &node).await;
    node.close().await?;
    outcome
}

async fn relay_lines(context: &CommandContext, me: &LocalUser, room: &RoomName, node: &NodeApi) -> Result<(), Error> {
    let mut input = spawn_line_reader()?;
    let mut printer = RoomPrinter { context, me, room, last_seq: last_seq(&me.profile)? };
    let mut events = node.watch(None).await?;
    printer.catch_up().await?;
    let (mut has_sent, mut failure) = (false, None);
    loop {
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::Interrupted),
            line = input.recv() => {
                let Some(line) = line.transpose()? else { break };
                if line.text.trim().is_empty() {
                    continue;
                }
                match parse_line(&line) {
                    Ok(()) => {
                        let receipt = node.write_in_room(room, &line.text, false).await?;
                        print_ack(context, room, &receipt)?;
                    }
                    // Only this line is lost: the others are still sent.
                    Err(error) => {
                        context.output.warning(&error.to_string());
                        failure.get_or_insert(error);
                    }
                }
                // A refused line counts as well: the input was not empty.
                has_sent = true;
            }
            event = events.next() => printer.handle_event(event).await?,
        }
    }
    if !has_sent {
        return Err(Error::Usage(tr!("the message is empty")));
    }
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    loop {
        let overview =
            context.until_cancelled(node.rooms()).await?.into_iter().find(|known| is_same(&known.room, room));
        let Some(overview) = overview.filter(|overview| overview.waiting > 0) else { break };
        // With nobody else online, a wait brings nothing.
        if Instant::now() >= deadline || !overview.members.iter().any(|member| member.online && member.user != me.user)
        {
            note_kept(context, room);
            break;
        }
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::Interrupted),
            () = sleep(POLL_INTERVAL) => {}
            event = events.next() => printer.handle_event(event).await?,
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Checks a line of the input.
fn parse_line(line: &InputLine) -> Result<(), Error> {
    let composed = match line.has_replacements {
        true => Err(Error::Usage(tr!("it is not UTF-8"))),
        false => chat::compose(&line.text).map(|_| ()),
    };
    let text = excerpt(&line.text);
    composed.map_err(|why| Error::Usage(tr!("a line was not sent ({text}): {why}", text, why)))
}

/// Prints what the other members write in a room, each message once.
struct RoomPrinter<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    room: &'a RoomName,
    /// The place in the history of the last message printed, or present at the start.
    last_seq: i64,
}

impl RoomPrinter<'_> {
    async fn handle_event(&mut self, event: Option<NodeEvent>) -> Result<(), Error> {
        match event {
            // `catch_up` may have printed it before its event came.
            Some(NodeEvent::RoomMessage(post)) if is_same(&post.room, self.room) && post.seq > self.last_seq => {
                self.last_seq = post.seq;
                if post.from == self.me.user { Ok(()) } else { self.print_post(post) }
            }
            Some(NodeEvent::EventsMissed { .. }) => self.catch_up().await,
            Some(_) => Ok(()),
            None => Err(Error::NodeGone { why: tr!("it ended") }),
        }
    }

    /// Prints from the history the messages whose events were missed.
    async fn catch_up(&mut self) -> Result<(), Error> {
        // The history has the room by its own name, whatever the case of what was typed.
        let known = self.me.profile.room_named(self.room)?.map_or_else(|| self.room.clone(), |known| known.name);
        let with = Some(ConversationName::Room(known));
        let after = self.last_seq;
        for missed in UndeliveredMessages::default().read_missed(&self.me.profile, with, after).await? {
            let (MissedMessage::New(stored) | MissedMessage::Settled(stored)) = missed;
            // In the room's order, in which a late one comes before others.
            self.last_seq = self.last_seq.max(stored.seq);
            if stored.direction == MessageDirection::In {
                self.print_stored(&stored)?;
            }
        }
        Ok(())
    }

    fn print_post(&self, post: RoomPost) -> Result<(), Error> {
        if self.context.output.is_json() {
            if let Some((kind, fields)) = ndjson_event(&NodeEvent::RoomMessage(post), &self.me.user) {
                self.context.output.print_object(kind, &fields)?;
            }
        } else {
            self.context.output.print_data(&message_line(&speaker_label(&post.from), &post.text))?;
        }
        Ok(())
    }

    fn print_stored(&self, stored: &StoredMessage) -> Result<(), Error> {
        if self.context.output.is_json() {
            self.context.output.print_object("message", &message_json(stored, &self.me.user))?;
        } else {
            self.context.output.print_data(&message_line(&speaker_label(&stored.peer), &stored.message.text))?;
        }
        Ok(())
    }
}

fn print_ack(context: &CommandContext, room: &RoomName, receipt: &RoomReceipt) -> Result<(), Error> {
    let RoomReceipt { message, count, of } = receipt;
    if context.output.is_json() {
        let (to, id, ts) = (format!("#{room}"), message.id, message.ts);
        context.output.print_object("ack", &json!({ "to": to, "id": id, "ts": ts, "count": count, "of": of }))?;
    }
    Ok(())
}

fn note_kept(context: &CommandContext, room: &RoomName) {
    context.output.note(&tr!(
        "nobody in #{room} can be reached: message kept. It is sent when you and a member are online, as long as \
         `peer serve` runs",
        room
    ));
}

fn is_same(one: &RoomName, other: &RoomName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}
