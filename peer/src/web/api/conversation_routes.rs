//! Conversations with users and rooms: messages, marks, typing.

use axum::http::StatusCode;
use localization::tr;
use serde::Deserialize;
use serde_json::json;
use shared::peer::{ChatMessage, MessageId};

use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, ApiPath, ApiQuery, PageSeat, answer, done, parsed};
use crate::engine::chat::{self, ConversationName, HistoryQuery, MessageState};
use crate::engine::event_json::post_json;
use crate::engine::node::NodeApi;
use crate::engine::run_blocking;
use crate::web::account_seat::placed_message;
use crate::web::json_answer::json_response;

/// Messages of an answer, unless told, and at most.
const USUAL_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// A message to be sent. The page gives the id, so that a message that is sent twice is stored once.
#[derive(Debug, Deserialize)]
pub(super) struct OutgoingText {
    text: String,
    #[serde(default)]
    id: Option<MessageId>,
}

/// The last message that was read.
#[derive(Debug, Deserialize)]
pub(super) struct ReadMark {
    #[serde(default)]
    up_to: Option<i64>,
}

/// Whether a conversation rings.
#[derive(Debug, Deserialize)]
pub(super) struct MuteChange {
    muted: bool,
}

/// Returns messages of a conversation, the oldest first.
pub(super) async fn messages(page: PageSeat, ApiPath(name): ApiPath<String>, query: ApiQuery) -> ApiAnswer {
    let with: ConversationName = parsed(&name)?;
    let limit = query.number("limit")?.unwrap_or(USUAL_LIMIT).clamp(1, MAX_LIMIT);
    let after = query.number("after")?;
    let query = HistoryQuery {
        before: query.number("before")?,
        after,
        // Who asks for what follows a message reads on from there.
        earliest: after.is_some(),
        search: query.text("search").filter(|words| !words.trim().is_empty()).map(str::to_owned),
        ..HistoryQuery::with(&with, limit)
    };
    let messages = page.node()?.history(query).await?;
    let me = &page.seat.me.user;
    answer(&json!({ "messages": messages.iter().map(|stored| placed_message(stored, me)).collect::<Vec<_>>() }))
}

/// Sends a message, which is stored before the answer.
pub(super) async fn send(
    page: PageSeat,
    ApiPath(name): ApiPath<String>,
    ApiBody(outgoing): ApiBody<OutgoingText>,
) -> ApiAnswer {
    let node = page.node()?;
    let message = match parsed(&name)? {
        ConversationName::Person(to) => {
            let message = chat::compose(&outgoing.text)?;
            let message = ChatMessage { id: outgoing.id.unwrap_or(message.id), ..message };
            placed_message(&node.queue_message(&to, message).await?, &page.seat.me.user)
        }
        ConversationName::Room(room) => {
            // Only to check the text: the id of a room's message is its hash.
            chat::compose(&outgoing.text)?;
            let post = node.write_in_room(&room, &outgoing.text, false).await?.message;
            let mut object = post_json(&post, MessageState::Waiting);
            if let Some(object) = object.as_object_mut() {
                object.extend(
                    [("seq", post.seq.into()), ("at", post.at.into()), ("type", "message".into())]
                        .map(|(key, value): (&str, serde_json::Value)| (key.to_owned(), value)),
                );
            }
            object
        }
    };
    Ok(json_response(StatusCode::ACCEPTED, &json!({ "message": message })))
}

/// Takes a message back that is still queued.
pub(super) async fn cancel(page: PageSeat, ApiPath((name, id)): ApiPath<(String, String)>) -> ApiAnswer {
    let ConversationName::Person(to) = parsed(&name)? else {
        return Err(ApiError::bad_request(|| tr!("a message to a room can't be taken back")));
    };
    let id: MessageId = parsed(&id)?;
    answer(&json!({ "cancelled": page.node()?.cancel(&to, id).await? }))
}

/// Marks messages as read, all or those up to a place.
pub(super) async fn read(
    page: PageSeat,
    ApiPath(name): ApiPath<String>,
    ApiBody(mark): ApiBody<ReadMark>,
) -> ApiAnswer {
    let with: ConversationName = parsed(&name)?;
    page.node()?.mark_read(with, mark.up_to).await?;
    done()
}

/// Tells a user that this one is typing.
pub(super) async fn typing(page: PageSeat, ApiPath(name): ApiPath<String>) -> ApiAnswer {
    let node: NodeApi = page.node()?;
    // Rooms aren't told.
    if let ConversationName::Person(to) = parsed(&name)? {
        node.typing(&to).await?;
    }
    done()
}

/// Sets whether a conversation rings.
pub(super) async fn mute(
    page: PageSeat,
    ApiPath(name): ApiPath<String>,
    ApiBody(change): ApiBody<MuteChange>,
) -> ApiAnswer {
    let with: ConversationName = parsed(&name)?;
    let profile = page.seat.me.profile.clone();
    // A running node reads it anew for each message.
    run_blocking(move || Ok(profile.set_muted(&with, change.muted)?)).await?;
    done()
}
