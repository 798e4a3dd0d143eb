//! Sessions: who sits here, and the end of a session. How one begins is the server's matter.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, PageSeat, answer};
use super::session_mode::SessionMode;
use crate::web::account_seat::AccountSeat;
use crate::web::json_answer::json_response;

/// Opens a session at a seat, or another tab of the one that the request has; returns the answer with its secret and its cookie.
///
/// # Errors
/// 500.
pub(in crate::web) fn session_answer(
    context: &ApiContext,
    seat: Arc<AccountSeat>,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let mut object = session_object(context, &seat);
    let user = seat.me.user.clone();
    let (credentials, _) = context.sessions.lock().open(user, seat, context.session_cookie(request), Instant::now());
    if let Some(object) = object.as_object_mut() {
        object.insert("secret".to_owned(), credentials.secret.into());
    }
    let mut response = json_response(StatusCode::CREATED, &object);
    let cookie = HeaderValue::try_from(context.cookie(&credentials.cookie));
    let cookie = cookie.map_err(|why| crate::engine::Error::Internal(why.to_string()))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Tells who sits here.
pub(super) async fn show(State(context): State<Arc<ApiContext>>, page: PageSeat) -> ApiAnswer {
    answer(&session_object(&context, &page.seat))
}

/// Ends the session.
pub(super) async fn end(State(context): State<Arc<ApiContext>>, page: PageSeat) -> ApiAnswer {
    context.sessions.lock().end(&page.session);
    let gone =
        HeaderValue::try_from(context.cookie("")).map_err(|why| crate::engine::Error::Internal(why.to_string()))?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response())
}

fn session_object(context: &ApiContext, seat: &AccountSeat) -> Value {
    let AccountSeat { me, fetches, .. } = seat;
    let mut object = json!({
        "user": me.user,
        "mode": context.mode.as_str(),
        "tracker": me.tracker.to_string(),
        "fingerprint": me.identity.fingerprint(),
        "version": env!("CARGO_PKG_VERSION"),
        "connected": seat.node().is_some(),
    });
    // Another machine's folder is no business of a browser at the door.
    if let (SessionMode::Local, Some(object)) = (context.mode, object.as_object_mut()) {
        object.insert("download_folder".to_owned(), fetches.folder().to_string_lossy().into());
    }
    object
}
