//! The events of a node as browsers get them: those of `peer events`, and what only a view needs.

use serde_json::{Value, json};
use shared::UserName;

use crate::engine::chat::StoredMessage;
use crate::engine::event_json::{message_json, ndjson_event};
use crate::engine::node_event::NodeEvent;

/// Returns the type and the fields of an event that came `now`; `None` if browsers don't need it.
pub(in crate::web) fn feed_event(event: &NodeEvent, me: &UserName, now: i64) -> Option<(&'static str, Value)> {
    match event {
        NodeEvent::Typing { from } => return Some(("typing", json!({ "from": from }))),
        NodeEvent::Read { with } => return Some(("read", json!({ "with": with }))),
        NodeEvent::Accepted { user } => return Some(("request_accepted", json!({ "user": user }))),
        NodeEvent::DeliveryHeld { user, why, frozen } => {
            return Some(("held", json!({ "user": user, "why": why, "frozen": frozen })));
        }
        _ => {}
    }
    let (kind, mut fields) = ndjson_event(event, me)?;
    let place = match event {
        NodeEvent::Received { seq, at, .. } => Some((*seq, *at)),
        NodeEvent::MessageQueued { seq, .. } => Some((*seq, 0)),
        NodeEvent::RoomMessage(post) => Some((post.seq, post.at)),
        _ => None,
    };
    if let (Some((seq, at)), Some(object)) = (place, fields.as_object_mut()) {
        // An earlier release's node doesn't tell the time of storing.
        add_place(object, seq, if at == 0 { now } else { at });
    }
    Some((kind, fields))
}

/// Returns a message of the history with its place and time.
pub(in crate::web) fn placed_message(stored: &StoredMessage, me: &UserName) -> Value {
    let mut message = message_json(stored, me);
    if let Some(object) = message.as_object_mut() {
        add_place(object, stored.seq, stored.at);
        let is_offer = stored.message.offer.is_some() || stored.message.send.is_some();
        object.insert("type".to_owned(), if is_offer { "offer" } else { "message" }.into());
    }
    message
}

fn add_place(object: &mut serde_json::Map<String, Value>, seq: i64, at: i64) {
    object.insert("seq".to_owned(), seq.into());
    object.insert("at".to_owned(), at.into());
}
