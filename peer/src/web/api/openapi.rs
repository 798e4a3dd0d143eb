//! The document that describes the API (OpenAPI 3.1), which tests compare with the routes and with real answers.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::api_request::ApiAnswer;
use super::openapi_schemas::schemas;
use crate::web::json_answer::json_response;

/// An operation: method, path below `/api/v1`, what it does, the schema of its body, its status and the schema of its
/// answer.
type Operation = (&'static str, &'static str, &'static str, Option<&'static str>, u16, Option<&'static str>);

const OPERATIONS: &[Operation] = &[
    ("post", "/session", "Begin a session", Some("SessionRequest"), 201, Some("NewSession")),
    (
        "post",
        "/accounts",
        "Make an account, where the page is one for accounts",
        Some("NewAccount"),
        201,
        Some("Account"),
    ),
    ("get", "/session", "Tell who sits here", None, 200, Some("Session")),
    ("delete", "/session", "End the session", None, 204, None),
    ("get", "/events", "Stream events (text/event-stream); Last-Event-ID goes on", None, 200, None),
    ("get", "/users", "List everybody met, online or written with", None, 200, Some("Users")),
    ("post", "/users/lookup", "Ask the tracker whether a user exists", Some("UserQuestion"), 200, Some("UserAnswer")),
    ("post", "/users/{user}/accept", "Accept a stranger's messages", None, 200, Some("Changed")),
    ("post", "/users/{user}/block", "Block a user", None, 200, Some("Changed")),
    ("post", "/users/{user}/unblock", "Lift a block", None, 200, Some("Changed")),
    ("get", "/conversations/{name}/messages", "Read messages, the oldest first", None, 200, Some("Messages")),
    ("post", "/conversations/{name}/messages", "Send a message", Some("OutgoingText"), 202, Some("SentMessage")),
    ("delete", "/conversations/{name}/messages/{id}", "Take a queued message back", None, 200, Some("Cancelled")),
    ("post", "/conversations/{name}/read", "Mark messages as read", Some("ReadMark"), 204, None),
    ("post", "/conversations/{name}/typing", "Tell that the user is typing", None, 204, None),
    ("post", "/conversations/{name}/mute", "Set whether a conversation rings", Some("MuteChange"), 204, None),
    ("get", "/rooms", "List the user's rooms", None, 200, Some("Rooms")),
    ("post", "/rooms", "Make a room", Some("RoomCreation"), 201, Some("RoomName")),
    ("get", "/rooms/directory", "List the rooms at the tracker", None, 200, Some("RoomDirectory")),
    ("post", "/rooms/{room}/join", "Join a room", Some("RoomEntry"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/leave", "Leave a room", None, 200, Some("Nothing")),
    ("post", "/rooms/{room}/invite", "Invite a user", Some("RoomUser"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/kick", "Remove a member", Some("RoomUser"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/ban", "Remove a member for good", Some("RoomUser"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/unban", "Keep a user out no longer", Some("RoomUser"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/role", "Give a member another role", Some("RoomUser"), 200, Some("Nothing")),
    ("post", "/rooms/{room}/topic", "Change the topic", Some("TopicChange"), 200, Some("Nothing")),
    ("get", "/files", "Search the files of everybody who is online", None, 200, Some("FoundFiles")),
    ("get", "/files/{of}", "List the files of a user or a room", None, 200, Some("ListedFiles")),
    ("get", "/fetches", "List fetches", None, 200, Some("Fetches")),
    ("post", "/fetches", "Fetch a file, a folder or a pattern", Some("FetchOrder"), 201, Some("FetchNumber")),
    ("delete", "/fetches/{number}", "Stop a fetch; what is here is kept", None, 204, None),
    ("post", "/tickets", "Get a path to a fetched file that works once", Some("TicketRequest"), 200, Some("Ticket")),
    ("get", "/shares", "List the user's shares", None, 200, Some("Shares")),
    ("delete", "/shares/{name}", "Stop sharing a file or a folder", None, 204, None),
    ("get", "/uploads/{id}/{name}", "Tell how far an upload is", None, 200, Some("UploadState")),
    ("put", "/uploads/{id}/{name}", "Upload a file, from where it was by Content-Range", None, 201, Some("Uploaded")),
    ("delete", "/uploads/{id}/{name}", "Give a file of an upload up, unless it is shared or sent", None, 204, None),
    ("post", "/uploads/{id}/share", "Share uploaded files", Some("DropAudience"), 202, Some("Nothing")),
    ("post", "/uploads/{id}/send", "Send uploaded files", Some("DropReceiver"), 202, Some("Nothing")),
    ("get", "/sends", "List what is sent", None, 200, Some("Sends")),
    ("post", "/sends/{number}/{change}", "Pause, resume or end a send", None, 200, Some("Changed")),
    ("get", "/settings", "Show settings", None, 200, Some("Settings")),
    ("put", "/settings", "Change settings", Some("SettingChange"), 200, Some("Settings")),
    ("get", "/openapi.json", "This document", None, 200, None),
];

/// The operations by which people come in; each kind of server has its own.
const ENTRIES: [(&str, &str); 2] = [("post", "/session"), ("post", "/accounts")];

/// Parameters of queries, by operation.
const QUERIES: &[(&str, &str, &[&str])] = &[
    ("get", "/conversations/{name}/messages", &["before", "after", "limit", "search"]),
    ("get", "/files", &["search", "limit"]),
    ("get", "/files/{of}", &["prefix"]),
    ("delete", "/shares/{name}", &["audience"]),
];

/// Answers with the document; it needs no session.
pub(super) async fn document() -> ApiAnswer {
    Ok(json_response(StatusCode::OK, &api_document()))
}

fn api_document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.1).or_insert_with(|| json!({}));
        path[operation.0] = operation_object(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vizinho's page",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are milliseconds since 1970, sizes bytes. A conversation is `bob` or `#lab`, percent-encoded.",
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "cookie": [], "secret": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "cookie": { "type": "apiKey", "in": "cookie", "name": "vizinho_page_PORT" },
                "secret": { "type": "apiKey", "in": "header", "name": "Page-Secret" },
            },
        },
    })
}

fn operation_object((method, path, summary, body, status, answer): &Operation) -> Value {
    let error = json!({ "description": "An error", "content": content("Error") });
    let mut responses = Map::new();
    let success = match answer {
        Some(schema) => json!({ "description": "Done", "content": content(schema) }),
        None => json!({ "description": "Done" }),
    };
    responses.insert(status.to_string(), success);
    if *method == "put" && *status == 201 {
        responses
            .insert("202".to_owned(), json!({ "description": "A part is here", "content": content("UploadPart") }));
    }
    for status in ["400", "401", "403", "404", "408", "409", "413", "421", "429", "503"] {
        responses.insert(status.to_owned(), error.clone());
    }
    let named = path.split(['{', '}']).skip(1).step_by(2);
    let in_path = named.map(|name| (name, "path", true));
    let queries = QUERIES.iter().filter(|query| (query.0, query.1) == (*method, *path));
    let in_query = queries.flat_map(|query| query.2.iter().map(|name| (*name, "query", false)));
    let parameters: Vec<Value> = in_path
        .chain(in_query)
        .map(|(name, place, required)| {
            json!({ "name": name, "in": place, "required": required, "schema": { "type": "string" } })
        })
        .collect();
    let mut object = json!({ "summary": summary, "parameters": parameters, "responses": responses });
    if let Some(body) = body {
        object["requestBody"] = json!({ "content": content(body) });
    }
    // These open the door, or only describe it.
    if ENTRIES.contains(&(*method, *path)) || *path == "/openapi.json" {
        object["security"] = json!([]);
    }
    object
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::header::ALLOW;
    use axum::routing::MethodRouter;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::super::api_context::ApiContext;
    use super::super::api_router::routes;
    use super::super::session_mode::SessionMode;
    use super::*;

    /// The path without what its parameters are called.
    fn shape(path: &str) -> String {
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
    }

    /// The methods of a route.
    async fn methods(path: &str, route: MethodRouter<Arc<ApiContext>>) -> Vec<String> {
        let context = Arc::new(ApiContext::new(SessionMode::Local, 1, false, Vec::new()));
        let router = Router::new().route(path, route).with_state(context);
        let refused = Request::builder().method("PATCH").uri(path).body(Body::empty()).unwrap();
        let refused = TowerToHyperService::new(router).call(refused).await.unwrap();
        let allowed = refused.headers()[ALLOW].to_str().unwrap().to_lowercase();
        allowed.split(',').filter(|method| *method != "head").map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn each_route_is_described_and_no_other() {
        let described: BTreeSet<(String, String)> = OPERATIONS
            .iter()
            .filter(|operation| !ENTRIES.contains(&(operation.0, operation.1)))
            .map(|operation| (operation.0.to_owned(), shape(operation.1)))
            .collect();
        let mut served = BTreeSet::new();
        for (path, route) in routes() {
            served.extend(methods(path, route).await.into_iter().map(|method| (method, shape(path))));
        }
        // A dropped file may be called like these two.
        for (method, name) in
            ["get", "put", "delete"].into_iter().flat_map(|method| [(method, "share"), (method, "send")])
        {
            assert!(served.remove(&(method.to_owned(), format!("/uploads/{{}}/{name}"))), "{method} {name}");
        }
        assert_eq!(described, served);
        for (method, path, _) in QUERIES {
            assert!(OPERATIONS.iter().any(|operation| (operation.0, operation.1) == (*method, *path)), "{path}");
        }
    }

    #[test]
    fn each_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    object.values().for_each(|value| references(value, found));
                }
                Value::Array(array) => array.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let (document, mut found) = (api_document(), Vec::new());
        references(&document, &mut found);
        assert!(found.len() > 100, "{found:?}");
        for reference in &found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        for name in schemas().keys() {
            let reference = format!("#/components/schemas/{name}");
            assert!(found.contains(&reference), "{name} is never used");
        }
    }
}
