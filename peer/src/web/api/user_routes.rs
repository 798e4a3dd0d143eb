//! Users: everybody met, requests of strangers, blocks, and the question whether somebody exists.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use shared::UserName;

use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, ApiPath, PageSeat, answer, parsed};
use crate::engine::user_lookup::look_up_user;

/// A user who is looked for.
#[derive(Debug, Deserialize)]
pub(super) struct UserQuestion {
    user: String,
}

/// Lists everybody met, online or written with.
pub(super) async fn list(page: PageSeat) -> ApiAnswer {
    answer(&json!({ "users": page.node()?.users().await? }))
}

/// Asks the tracker whether a user has an account, and for similar names.
pub(super) async fn look_up(page: PageSeat, ApiBody(asked): ApiBody<UserQuestion>) -> ApiAnswer {
    let (exists, similar) = look_up_user(&page.seat.me, &parsed(&asked.user)?).await?;
    answer(&json!({ "exists": exists, "similar": similar }))
}

/// Accepts a stranger's messages.
pub(super) async fn accept(page: PageSeat, ApiPath(user): ApiPath<String>) -> ApiAnswer {
    let user = other_user(&page, &user)?;
    answer(&json!({ "changed": page.node()?.accept(&user).await? }))
}

/// Blocks a user.
pub(super) async fn block(page: PageSeat, ApiPath(user): ApiPath<String>) -> ApiAnswer {
    let user = other_user(&page, &user)?;
    answer(&json!({ "changed": page.node()?.block(&user).await? }))
}

/// Lifts a block.
pub(super) async fn unblock(page: PageSeat, ApiPath(user): ApiPath<String>) -> ApiAnswer {
    let user = other_user(&page, &user)?;
    answer(&json!({ "changed": page.node()?.unblock(&user).await? }))
}

/// Returns a user of the path, who isn't the session's own.
fn other_user(page: &PageSeat, text: &str) -> Result<UserName, ApiError> {
    let user: UserName = parsed(text)?;
    if user == page.seat.me.user {
        let words = || localization::tr!("{user} is you", user = &user);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, crate::engine::ErrorKind::Usage.as_str(), words));
    }
    Ok(user)
}
