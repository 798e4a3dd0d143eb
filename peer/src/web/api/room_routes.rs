//! Rooms: those of the user, those that the tracker lists, and changes of them.

use axum::http::StatusCode;
use localization::tr;
use serde::Deserialize;
use serde_json::json;
use shared::limits::MAX_ROOM_TOPIC_BYTES;
use shared::tracker::Password;
use shared::tracker::room_request::{GrantedRole, NewRoom, RequestedChange};
use shared::{RoomName, RoomTopic, UserName};

use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, ApiPath, PageSeat, answer, parsed};
use crate::engine::own_rooms::{change_own_room, create_own_room, join_by_name, leave_own_room};
use crate::engine::room_actions::list_rooms;
use crate::engine::tracker_account::new_idempotency_key;
use crate::web::json_answer::json_response;

/// A room to be made.
#[derive(Debug, Deserialize)]
pub(super) struct RoomCreation {
    name: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    invite_only: bool,
    /// Newcomers read the messages of the last 30 days.
    #[serde(default = "is_usual")]
    history: bool,
}

/// A password, where the room has one.
#[derive(Debug, Deserialize)]
pub(super) struct JoinPassword {
    #[serde(default)]
    password: Option<String>,
}

/// A member of a room, or somebody who may become one.
#[derive(Debug, Deserialize)]
pub(super) struct RoomUser {
    user: String,
    /// Of a change of roles: `member`, `moderator` or `owner`.
    #[serde(default)]
    role: Option<String>,
}

/// The line above a conversation.
#[derive(Debug, Deserialize)]
pub(super) struct TopicChange {
    topic: String,
}

const fn is_usual() -> bool {
    true
}

/// Lists the user's rooms.
pub(super) async fn list(page: PageSeat) -> ApiAnswer {
    answer(&json!({ "rooms": page.node()?.rooms().await? }))
}

/// Lists the rooms that the tracker tells of.
pub(super) async fn directory(page: PageSeat) -> ApiAnswer {
    let rooms = list_rooms(&mut page.seat.me.connect_tracker().await?).await?;
    answer(&json!({ "rooms": rooms }))
}

/// Makes a room.
pub(super) async fn create(page: PageSeat, ApiBody(wanted): ApiBody<RoomCreation>) -> ApiAnswer {
    let RoomCreation { name, password, topic, invite_only, history } = wanted;
    let new = NewRoom {
        name: room_name(&name)?,
        password: room_password(password)?,
        invite_only,
        history,
        // By it a repeated request has the answer of the first one, and isn't refused because the room exists.
        key: Some(new_idempotency_key()),
    };
    let topic = topic.filter(|topic| !topic.trim().is_empty()).map(|topic| room_topic(&topic)).transpose()?;
    let room = new.name.clone();
    create_own_room(&page.seat.me, new, topic).await?;
    Ok(json_response(StatusCode::CREATED, &json!({ "name": room })))
}

/// Joins a room.
pub(super) async fn join(
    page: PageSeat,
    ApiPath(room): ApiPath<String>,
    ApiBody(entry): ApiBody<JoinPassword>,
) -> ApiAnswer {
    join_by_name(&page.seat.me, &room_name(&room)?, room_password(entry.password)?).await?;
    answer(&json!({}))
}

/// Leaves a room.
pub(super) async fn leave(page: PageSeat, ApiPath(room): ApiPath<String>) -> ApiAnswer {
    leave_own_room(&page.seat.me, page.seat.node(), &room_name(&room)?).await?;
    answer(&json!({}))
}

/// Invites a user.
pub(super) async fn invite(page: PageSeat, room: ApiPath<String>, body: ApiBody<RoomUser>) -> ApiAnswer {
    change_user(&page, room, body, |user| RequestedChange::Invite { user }).await
}

/// Removes a member, who may be invited again.
pub(super) async fn kick(page: PageSeat, room: ApiPath<String>, body: ApiBody<RoomUser>) -> ApiAnswer {
    // The cut is asked of the node when the change is made.
    change_user(&page, room, body, |user| RequestedChange::Kick { user, cut: None }).await
}

/// Removes a member and keeps them out.
pub(super) async fn ban(page: PageSeat, room: ApiPath<String>, body: ApiBody<RoomUser>) -> ApiAnswer {
    change_user(&page, room, body, |user| RequestedChange::Ban { user, cut: None }).await
}

/// Keeps a user out no longer.
pub(super) async fn unban(page: PageSeat, room: ApiPath<String>, body: ApiBody<RoomUser>) -> ApiAnswer {
    change_user(&page, room, body, |user| RequestedChange::Unban { user }).await
}

/// Gives a member another role.
pub(super) async fn role(page: PageSeat, room: ApiPath<String>, body: ApiBody<RoomUser>) -> ApiAnswer {
    let change: fn(UserName) -> RequestedChange = match body.0.role.as_deref() {
        Some("member") => |user| RequestedChange::SetRole { user, role: GrantedRole::Member },
        Some("moderator") => |user| RequestedChange::SetRole { user, role: GrantedRole::Moderator },
        Some("owner") => |user| RequestedChange::PassOn { user },
        _ => return Err(ApiError::bad_request(|| tr!("role is member, moderator or owner"))),
    };
    change_user(&page, room, body, change).await
}

/// Changes the line above the conversation.
pub(super) async fn topic(
    page: PageSeat,
    ApiPath(room): ApiPath<String>,
    ApiBody(change): ApiBody<TopicChange>,
) -> ApiAnswer {
    let change = RequestedChange::SetTopic { topic: room_topic(&change.topic)? };
    change_own_room(&page.seat.me, page.seat.node(), &room_name(&room)?, change).await?;
    answer(&json!({}))
}

async fn change_user(
    page: &PageSeat,
    ApiPath(room): ApiPath<String>,
    ApiBody(body): ApiBody<RoomUser>,
    change: impl FnOnce(UserName) -> RequestedChange,
) -> ApiAnswer {
    let (room, change) = (room_name(&room)?, change(parsed(&body.user)?));
    change_own_room(&page.seat.me, page.seat.node(), &room, change).await?;
    answer(&json!({}))
}

/// Returns a room's name, with or without its sign.
fn room_name(text: &str) -> Result<RoomName, ApiError> {
    parsed(text.strip_prefix('#').unwrap_or(text))
}

fn room_topic(text: &str) -> Result<RoomTopic, ApiError> {
    let wrong = || tr!("a topic is one line of at most {limit} bytes", limit = MAX_ROOM_TOPIC_BYTES);
    text.trim().parse().map_err(|_| ApiError::bad_request(wrong))
}

fn room_password(text: Option<String>) -> Result<Option<Password>, ApiError> {
    let wrong = || tr!("a password has 1 to 1024 bytes");
    let password = |text: String| Password::new(&text).ok_or_else(|| ApiError::bad_request(wrong));
    text.filter(|text| !text.is_empty()).map(password).transpose()
}
