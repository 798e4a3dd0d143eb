//! Messages and events as JSON for programs and pages, as `peer events` prints them: keys and codes are stable.

use localization::in_english;
use serde_json::{Value, json};
use shared::UserName;
use shared::peer::ChatMessage;

use super::chat::{MessageDirection, MessageState, RoomMessageDetails, StoredMessage};
use super::node_event::NodeEvent;
use super::room_values::RoomPost;
use super::rooms::is_mentioned;

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
pub fn post_json(post: &RoomPost, state: MessageState) -> Value {
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
