//! The schemas of bodies and answers, in a short notation.
//!
//! A field is `name: type`; the name ends in `?` if it may be missing. A type is `text`, `number`, `bool`, the name of
//! another schema, one of these in brackets for a list, or with `?` at its end if it may be `null`.

use serde_json::{Map, Value, json};

const SCHEMAS: &[(&str, &str)] = &[
    ("Error", "error: ErrorDetail, offset?: number, mode?: text"),
    ("ErrorDetail", "code: text, message: text"),
    ("Nothing", ""),
    ("Changed", "changed: bool"),
    ("SessionRequest", "token?: text, user?: text, password?: text, consent?: text"),
    ("NewAccount", "user: text, password: text"),
    ("Account", "user: text"),
    (
        "Session",
        "user: text, mode: text, tracker: text, fingerprint: text, version: text, connected: bool, download_folder?: text",
    ),
    (
        "NewSession",
        "secret: text, user: text, mode: text, tracker: text, fingerprint: text, version: text, connected: bool, \
         download_folder?: text",
    ),
    ("Users", "users: [User]"),
    (
        "User",
        "user: text, online: bool?, unread: number, waiting: number, frozen: bool, blocked: bool, request: bool, \
         muted: bool, last: number?",
    ),
    ("UserQuestion", "user: text"),
    ("UserAnswer", "exists: bool, similar: [text]"),
    ("Messages", "messages: [Message]"),
    ("SentMessage", "message: Message"),
    (
        "Message",
        "type: text, id: text, peer: text, from: text, ts: number, at: number, seq: number, text: text, state: text, \
         offer?: Offer, send?: SentFiles, room?: text, room_id?: text, late?: bool, mentions_me?: bool, count?: number, \
         of?: number",
    ),
    ("Offer", "name: text, size: number, hash: text"),
    ("SentFiles", "name: text, kind: text, files: number, size: number, hash: text"),
    ("OutgoingText", "text: text, id?: text"),
    ("Cancelled", "cancelled: bool"),
    ("ReadMark", "up_to?: number?"),
    ("MuteChange", "muted: bool"),
    ("Rooms", "rooms: [Room]"),
    (
        "Room",
        "room: text, room_id: text, topic: text, role?: text, members: [RoomMember], waiting: number, unread: number, \
         muted?: bool",
    ),
    ("RoomMember", "user: text, role: text, online: bool"),
    ("RoomDirectory", "rooms: [ListedRoom]"),
    (
        "ListedRoom",
        "id: text, name: text, topic: text, owner: text, members: number, keyless: number, password: bool, \
         invite_only: bool, history: bool, role?: text, invited: bool",
    ),
    ("RoomName", "name: text"),
    ("RoomCreation", "name: text, password?: text?, topic?: text?, invite_only?: bool, history?: bool"),
    ("RoomEntry", "password?: text?"),
    ("RoomUser", "user: text, role?: text?"),
    ("TopicChange", "topic: text"),
    ("FoundFiles", "files: [FoundFile], more: bool"),
    ("FoundFile", "user: text, name: text, size: number, hash: text"),
    ("ListedFiles", "files: [ListedFile], more: bool"),
    ("ListedFile", "name: text, size: number, hash: text?, mtime: number"),
    ("Fetches", "fetches: [Fetch]"),
    (
        "Fetch",
        "number: number, from: text, name: text, bytes: number, size: number, state: text, why?: text, \
         files: [FetchedFile], file_count: number",
    ),
    ("FetchedFile", "name: text, path?: text, bytes: number, size: number, state: text, why?: text, hash?: text"),
    ("FetchOrder", "from: text, name: text"),
    ("FetchNumber", "number: number"),
    ("TicketRequest", "fetch: number, file: text"),
    ("Ticket", "path: text"),
    ("Shares", "shares: [Share], more: bool"),
    ("Share", "name: text, size: number, hash: text, audience: text?"),
    ("UploadState", "offset: number, complete: bool"),
    ("Uploaded", "name: text, size: number"),
    ("UploadPart", "offset: number"),
    ("DropAudience", "room?: text?"),
    ("DropReceiver", "to: text, text?: text?"),
    ("Sends", "sends: [Send]"),
    (
        "Send",
        "number: number, to: text?, name: text, kind: text, files: number, size: number, hash: text, at: number, \
         state: text, paused: bool, count?: number, declined?: number",
    ),
    ("Settings", "bell: bool, desktop: bool, muted: [text]"),
    ("SettingChange", "bell?: bool?, desktop?: bool?"),
];

/// Returns the schemas by their names.
pub(super) fn schemas() -> Map<String, Value> {
    SCHEMAS.iter().map(|(name, fields)| ((*name).to_owned(), object_schema(fields))).collect()
}

fn object_schema(fields: &str) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields.split(", ").filter(|field| !field.is_empty()) {
        let (name, kind) = field.split_once(": ").unwrap_or((field, "text"));
        let (name, is_optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        if !is_optional {
            required.push(name);
        }
        properties.insert(name.to_owned(), type_schema(kind));
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn type_schema(kind: &str) -> Value {
    if let Some(item) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return json!({ "type": "array", "items": type_schema(item) });
    }
    let (kind, may_be_null) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let name = match kind {
        "text" => "string",
        "number" => "integer",
        "bool" => "boolean",
        schema => return json!({ "$ref": format!("#/components/schemas/{schema}") }),
    };
    if may_be_null { json!({ "type": [name, "null"] }) } else { json!({ "type": name }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation() {
        let schema = object_schema("name: text, size?: number?, files: [File]");
        let wanted = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "size": { "type": ["integer", "null"] },
                "files": { "type": "array", "items": { "$ref": "#/components/schemas/File" } },
            },
            "required": ["name", "files"],
        });
        assert_eq!(schema, wanted);
    }
}
