//! Lines about what guests do, printed on a thread of their own: a terminal that nobody reads must not hold the server.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use localization::tr;
use serde_json::json;

use super::super::bell::MessageBell;
use crate::engine::guest_links::GuestPost;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, LocalUser};
use crate::ui::{CommandOutput, ExcerptLimits, format_size, message_excerpt, time_of_day};
use crate::web::{LinkEvent, LinkEventHandler};

/// Events that wait to be printed; further ones are lost.
const QUEUE: usize = 1024;
/// What is shown of a guest's message.
const MESSAGE_LIMITS: ExcerptLimits = ExcerptLimits { rows: 12, bytes: 1024 };

/// Returns a handler that prints the events of links, and rings for a user whom no node calls. Its thread ends with the
/// last handler.
///
/// # Errors
/// The thread can't be started.
pub(in crate::commands) fn link_event_handler(
    output: &CommandOutput,
    ringing: Option<LocalUser>,
) -> Result<LinkEventHandler, Error> {
    let (sender, receiver): (SyncSender<LinkEvent>, _) = sync_channel(QUEUE);
    let output = output.clone();
    let print_all = move || {
        let mut bell = MessageBell::default();
        // A closed pipe ends the lines, not the server.
        while let Ok(event) = receiver.recv()
            && print(&output, &event).and_then(|()| ring(&mut bell, &output, ringing.as_ref(), event)).is_ok()
        {}
    };
    std::thread::Builder::new().name("link events".to_owned()).spawn(print_all)?;
    // Never waits: the server's tasks call it.
    Ok(Arc::new(move |event| drop(sender.try_send(event))))
}

fn ring(
    bell: &mut MessageBell,
    output: &CommandOutput,
    ringing: Option<&LocalUser>,
    event: LinkEvent,
) -> std::io::Result<()> {
    match (ringing, event) {
        (Some(me), LinkEvent::Written { post, .. }) => bell.handle_event(output, me, &NodeEvent::GuestMessage(post)),
        _ => Ok(()),
    }
}

fn print(output: &CommandOutput, event: &LinkEvent) -> std::io::Result<()> {
    if output.is_json() {
        let (kind, fields) = match event {
            LinkEvent::Written { post, .. } => ("guest_message", json!(post)),
            LinkEvent::Opened { link, address } => ("link_opened", json!({ "number": link, "address": address })),
            LinkEvent::Taken { link, address, name } => {
                ("link_taken", json!({ "number": link, "address": address, "name": name }))
            }
            LinkEvent::Received { link, address, name, size, hash } => (
                "link_received",
                json!({ "number": link, "address": address, "name": name, "size": size, "hash": hash }),
            ),
        };
        return output.print_object(kind, &fields);
    }
    output.note(&match event {
        LinkEvent::Written { post, .. } => return print_guest_post(output, post),
        LinkEvent::Opened { link, address } => tr!("{address} opened link {link}", address, link),
        LinkEvent::Taken { link, address, name } => tr!("{address} takes {name} from link {link}", address, name, link),
        LinkEvent::Received { link, address, name, size, hash } => {
            let size = format_size(*size);
            tr!("{address} sent {name} ({size}) to link {link}, BLAKE3 {hash}", address, name, size, link, hash)
        }
    });
    Ok(())
}

/// Prints a message of a guest, as much of it as one looks at.
fn print_guest_post(output: &CommandOutput, post: &GuestPost) -> std::io::Result<()> {
    let whole = format!("peer link chat {}.{}", post.who.link, post.who.guest);
    let text = message_excerpt(&post.message.text, MESSAGE_LIMITS, &whole);
    output.print_data(&format!("{} {}: {text}", output.dim(&time_of_day(post.message.at)), post.who))
}
