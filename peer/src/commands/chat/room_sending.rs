//! Sending to a room by `peer chat`: one message, or each line of standard input.

use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::RoomName;
use shared::account_name::speaker_label;
use tokio::time::{Instant, sleep};

use super::super::context::CommandContext;
use crate::engine::event_json::ndjson_event;
use crate::engine::node::{NodeApi, NodeLifetime};
use crate::engine::node_connection::open_node;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomPost, RoomReceipt};
use crate::engine::{Error, LocalUser, chat};
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
    let mut events = node.watch(None).await?;
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
            event = events.next() => print_event(context, me, room, event)?,
        }
    }
    if !has_sent {
        return Err(Error::Usage(tr!("the message is empty")));
    }
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    while Instant::now() < deadline {
        let overview =
            context.until_cancelled(node.rooms()).await?.into_iter().find(|known| is_same(&known.room, room));
        let Some(overview) = overview.filter(|overview| overview.waiting > 0) else { break };
        // With nobody else online, a wait brings nothing.
        if !overview.members.iter().any(|member| member.online && member.user != me.user) {
            note_kept(context, room);
            break;
        }
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::Interrupted),
            () = sleep(POLL_INTERVAL) => {}
            event = events.next() => print_event(context, me, room, event)?,
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

fn print_event(
    context: &CommandContext,
    me: &LocalUser,
    room: &RoomName,
    event: Option<NodeEvent>,
) -> Result<(), Error> {
    match event {
        Some(NodeEvent::RoomMessage(post)) if post.from != me.user && is_same(&post.room, room) => {
            print_post(context, me, post)
        }
        Some(_) => Ok(()),
        None => Err(Error::NodeGone { why: tr!("it ended") }),
    }
}

fn print_post(context: &CommandContext, me: &LocalUser, post: RoomPost) -> Result<(), Error> {
    if context.output.is_json() {
        if let Some((kind, fields)) = ndjson_event(&NodeEvent::RoomMessage(post), &me.user) {
            context.output.print_object(kind, &fields)?;
        }
    } else {
        context.output.print_data(&message_line(&speaker_label(&post.from), &post.text))?;
    }
    Ok(())
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
