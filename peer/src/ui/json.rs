//! Events and reports as JSON for programs: keys and codes are stable.

use std::time::Duration;

use localization::in_english;
use serde_json::{Value, json};
use shared::UserName;
use shared::peer::ChatMessage;

use crate::engine::Error;
use crate::engine::chat::{MessageDirection, MessageState, RoomMessageDetails, StoredMessage};
use crate::engine::fetch::{FetchSummary, FileOutcome, FileReport, SourceReport};
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomPost;
use crate::engine::rooms::is_mentioned;

/// Returns the report of a fetched file.
pub fn file_json(report: &FileReport) -> Value {
    let (status, path, code, message) = match &report.outcome {
        FileOutcome::Done(path) => ("done", Some(path), None, None),
        FileOutcome::Renamed(path) => ("renamed", Some(path), None, None),
        FileOutcome::Skipped(path) => ("skipped", Some(path), None, None),
        FileOutcome::Streamed => ("done", None, None, None),
        FileOutcome::Failed(error) | FileOutcome::Aborted(error) => {
            ("failed", None, Some(error.kind().as_str()), Some(in_english(|| error.to_string())))
        }
    };
    let mut value = json!({
        "status": status,
        "name": report.name,
        "path": path.map(|path| path.to_string_lossy()),
        "size": report.size,
        "bytes_fetched": report.bytes_fetched,
        "bytes_resumed": report.bytes_resumed,
        "sources": report.sources.iter().map(source_json).collect::<Vec<_>>(),
    });
    if let (Some(code), Some(object)) = (code, value.as_object_mut()) {
        object.insert("code".to_owned(), code.into());
        object.insert("message".to_owned(), message.into());
    }
    value
}

/// Returns the summary of a fetch; `error` is the error of the whole fetch.
pub(super) fn summary_json(summary: &FetchSummary, error: Option<&Error>, time: Duration) -> Value {
    json!({
        "done": summary.done,
        "renamed": summary.renamed,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "folders": summary.folders,
        "bytes_fetched": summary.bytes_fetched,
        "bytes_resumed": summary.bytes_resumed,
        "seconds": time.as_secs_f64(),
        "code": error.map(|error| error.kind().as_str()),
    })
}

/// Returns a stored message; `me` is the sender of outgoing ones between two users.
pub fn message_json(stored: &StoredMessage, me: &UserName) -> Value {
    if let Some(room) = &stored.room {
        return room_message_json(stored, room, me);
    }
    let StoredMessage { peer, direction, message, state, .. } = stored;
    let from = if *direction == MessageDirection::In { peer } else { me };
    let mut value = json!({
        "id": message.id,
        "peer": peer,
        "from": from,
        "ts": message.ts,
        "text": message.text,
        "state": state,
    });
    if let (Some(object), Some(offer)) = (value.as_object_mut(), &message.offer) {
        object.insert("offer".to_owned(), json!(offer));
    }
    if let (Some(object), Some(send)) = (value.as_object_mut(), &message.send) {
        object.insert("send".to_owned(), json!(send));
    }
    value
}

/// Returns a stored message of a room: the fields of [`post_json`], and how many other members have it if it is ours.
fn room_message_json(stored: &StoredMessage, room: &RoomMessageDetails, me: &UserName) -> Value {
    let StoredMessage { seq, peer, direction, message, at, .. } = stored;
    let post = RoomPost {
        room: room.name.clone(),
        room_id: room.id,
        from: peer.clone(),
        id: room.hash,
        seq: *seq,
        ts: message.ts,
        at: *at,
        text: message.text.clone(),
        late: room.is_late,
        mentions_me: *direction == MessageDirection::In && is_mentioned(message.text.as_received(), me),
    };
    let mut value = post_json(&post, stored.state);
    if let (Some(object), Some(delivery)) = (value.as_object_mut(), room.delivery) {
        object.insert("count".to_owned(), delivery.count.into());
        object.insert("of".to_owned(), delivery.of.into());
    }
    value
}

/// Returns a message of a room, whose id is the hash by which all members know it.
fn post_json(post: &RoomPost, state: MessageState) -> Value {
    let mut value = json!({
        "id": post.id,
        "peer": format!("#{}", post.room),
        "room": post.room,
        "room_id": post.room_id,
        "from": post.from,
        "ts": post.ts,
        "text": post.text,
        "state": state,
    });
    if let Some(object) = value.as_object_mut() {
        let flags = [("late", post.late), ("mentions_me", post.mentions_me)];
        object.extend(flags.into_iter().filter(|(_, is_so)| *is_so).map(|(key, _)| (key.to_owned(), true.into())));
    }
    value
}

/// Returns an event of `me`'s node as `peer events` prints it: its type and its fields. `None` if it isn't printed.
pub fn ndjson_event(event: &NodeEvent, me: &UserName) -> Option<(&'static str, Value)> {
    in_english(|| ndjson_fields(event, me))
}

fn ndjson_fields(event: &NodeEvent, me: &UserName) -> Option<(&'static str, Value)> {
    let message = |peer: &UserName, direction, state, message: &ChatMessage| {
        // Neither the sequence number nor the time of storage is part of the JSON.
        let stored =
            StoredMessage { seq: 0, peer: peer.clone(), direction, message: message.clone(), state, at: 0, room: None };
        let kind = if message.offer.is_some() || message.send.is_some() { "offer" } else { "message" };
        (kind, message_json(&stored, me))
    };
    Some(match event {
        NodeEvent::Received { from, message: text, .. } => {
            message(from, MessageDirection::In, MessageState::Received, text)
        }
        NodeEvent::RoomMessage(post) => {
            let state = if post.from == *me { MessageState::Waiting } else { MessageState::Received };
            ("message", post_json(post, state))
        }
        NodeEvent::Room(news) => ("room", json!(news)),
        NodeEvent::GuestMessage(post) => ("guest_message", json!(post)),
        NodeEvent::ContactRequest { from } => ("request", json!({ "from": from })),
        NodeEvent::MessageQueued { to, message: text, .. } => {
            message(to, MessageDirection::Out, MessageState::Waiting, text)
        }
        NodeEvent::MessageStateChanged { to, id, state, why, .. } => {
            ("ack", json!({ "peer": to, "id": id, "state": state, "why": why }))
        }
        NodeEvent::TrackerLost { why } => ("tracker", json!({ "reachable": false, "why": why })),
        NodeEvent::Online { .. } => ("tracker", json!({ "reachable": true })),
        NodeEvent::Displaced(elsewhere) => ("tracker", json!({ "reachable": true, "elsewhere": elsewhere })),
        NodeEvent::AccountMoved { user, since } => ("account_moved", json!({ "user": user, "since": since })),
        NodeEvent::Presence { user, online } => ("presence", json!({ "user": user, "online": online })),
        NodeEvent::Fetched { .. } | NodeEvent::Transfer(_) => ("transfer", json!(event.transfer()?)),
        NodeEvent::SendSettled { by, number, send, outcome, .. } => (
            "receipt",
            json!({ "from": by, "number": number, "name": send.name, "hash": send.hash, "outcome": outcome }),
        ),
        NodeEvent::SendAccepted { from, send, folder } => {
            ("accepted", json!({ "from": from, "name": send.name, "size": send.size, "folder": folder }))
        }
        NodeEvent::WishFound { wish, query, file, others, is_fetched, why } => (
            "wish",
            json!({ "number": wish, "query": query, "file": file, "others": others, "fetched": is_fetched, "why": why }),
        ),
        NodeEvent::WishFetched { wish, query, file, folder } => {
            ("wish_fetched", json!({ "number": wish, "query": query, "file": file, "folder": folder }))
        }
        NodeEvent::Follow(news) => ("follow_change", json!(news)),
        _ => return None,
    })
}

fn source_json(source: &SourceReport) -> Value {
    let mut value = json!({ "user": source.user, "bytes": source.bytes });
    if let (true, Some(object)) = (source.banned, value.as_object_mut()) {
        object.insert("banned".to_owned(), true.into());
    }
    value
}

/// Returns an event with all its fields, as `peer serve --json` prints it.
pub fn event_json(event: &NodeEvent) -> Value {
    in_english(|| serde_json::to_value(event)).unwrap_or_default()
}
