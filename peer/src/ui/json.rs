//! Events and reports as programs read them: stable keys, stable codes.

use serde_json::{Value, json};
use shared::UserName;

use crate::engine::chat::{Direction, MessageState, StoredMessage};
use crate::engine::event::Event;
use crate::engine::fetch::{Report, SourceReport, Status};

/// What became of a fetched file.
pub fn file_json(report: &Report) -> Value {
    let (status, path, code, message) = match &report.status {
        Status::Done(path) => ("done", Some(path), None, None),
        Status::Renamed(path) => ("renamed", Some(path), None, None),
        Status::Skipped(path) => ("skipped", Some(path), None, None),
        Status::Streamed => ("done", None, None, None),
        Status::Failed(error) => ("failed", None, Some(error.kind().as_str()), Some(error.to_string())),
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

/// A message of a conversation; `me` wrote what went out. The state is one of four, and tells how far it came; a message
/// of ours that will come no further has `given_up` as well.
pub fn message_json(stored: &StoredMessage, me: &UserName) -> Value {
    let StoredMessage { peer, direction, message, state, .. } = stored;
    let from = if *direction == Direction::In { peer } else { me };
    let reached = if state.is_given_up() { MessageState::Waiting } else { *state };
    let mut value = json!({
        "id": message.id,
        "peer": peer,
        "from": from,
        "ts": message.ts,
        "text": message.text,
        "state": reached,
    });
    if let Some(object) = value.as_object_mut() {
        if state.is_given_up() {
            object.insert("given_up".to_owned(), state.as_str().into());
        }
        if let Some(offer) = &message.offer {
            object.insert("offer".to_owned(), json!(offer));
        }
    }
    value
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
