//! Events and reports as programs read them: stable keys, stable codes.

use std::time::Duration;

use serde_json::{Value, json};
use shared::UserName;
use shared::peer::ChatMessage;

use crate::engine::Error;
use crate::engine::chat::{Direction, MessageState, StoredMessage};
use crate::engine::event::{Course, Event, Transfer, TransferState};
use crate::engine::fetch::{Report, SourceReport, Status, Summary};

/// What became of a fetched file.
pub fn file_json(report: &Report) -> Value {
    let (status, path, code, message) = match &report.status {
        Status::Done(path) => ("done", Some(path), None, None),
        Status::Renamed(path) => ("renamed", Some(path), None, None),
        Status::Skipped(path) => ("skipped", Some(path), None, None),
        Status::Streamed => ("done", None, None, None),
        Status::Failed(error) | Status::BrokenOff(error) => {
            ("failed", None, Some(error.kind().as_str()), Some(error.to_string()))
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

/// What became of a fetch; `error` is what went wrong with it.
pub(super) fn summary_json(summary: &Summary, error: Option<&Error>, time: Duration) -> Value {
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

/// A message of a conversation; `me` wrote what went out.
pub fn message_json(stored: &StoredMessage, me: &UserName) -> Value {
    let StoredMessage { peer, direction, message, state, .. } = stored;
    let from = if *direction == Direction::In { peer } else { me };
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
    value
}

/// What happened in a node of `me`, as `peer events` tells it: its type and its fields.
pub fn happening_json(event: &Event, me: &UserName) -> Option<(&'static str, Value)> {
    let message = |peer: &UserName, direction, state, message: &ChatMessage| {
        let stored = StoredMessage { seq: 0, peer: peer.clone(), direction, message: message.clone(), state, at: 0 };
        let kind = if message.offer.is_some() { "offer" } else { "message" };
        (kind, message_json(&stored, me))
    };
    Some(match event {
        Event::Received { from, message: text, .. } => message(from, Direction::In, MessageState::Received, text),
        Event::Request { from } => ("request", json!({ "from": from })),
        Event::Said { to, message: text, .. } => message(to, Direction::Out, MessageState::Waiting, text),
        Event::State { to, id, state, why, .. } => ("ack", json!({ "peer": to, "id": id, "state": state, "why": why })),
        Event::TrackerLost { why } => ("tracker", json!({ "reachable": false, "why": why })),
        Event::Online { .. } => ("tracker", json!({ "reachable": true })),
        Event::Displaced(elsewhere) => ("tracker", json!({ "reachable": true, "elsewhere": elsewhere })),
        Event::AccountMoved { user, since } => ("account_moved", json!({ "user": user, "since": since })),
        Event::Presence { user, online } => ("presence", json!({ "user": user, "online": online })),
        Event::Fetched { by, name, bytes, size } => {
            let state = if bytes >= size { TransferState::Done } else { TransferState::Failed };
            let (peer, name, direction) = (by.clone(), name.clone(), Course::Up);
            ("transfer", json!(Transfer { peer, name, direction, bytes: *bytes, size: *size, state }))
        }
        Event::Transfer(transfer) => ("transfer", json!(transfer)),
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

/// Something that happened in a node.
pub fn event_json(event: &Event) -> Value {
    serde_json::to_value(event).unwrap_or_default()
}
