//! The parts of a request as handlers take them, each with an error that says what is wrong, and answers as JSON.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use localization::tr;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_context::ApiContext;
use super::api_error::ApiError;
use crate::engine::ErrorKind;
use crate::engine::node::NodeApi;
use crate::web::account_seat::AccountSeat;
use crate::web::http_text::{form_fields, header_text};
use crate::web::json_answer::json_response;
use crate::web::page_session::PageSession;

/// Bytes of a request's body, uploads apart, and the time for it to come.
const MAX_BODY_BYTES: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The result of a handler.
pub(super) type ApiAnswer = Result<Response, ApiError>;

/// The seat of the request's session.
pub(in crate::web) struct PageSeat {
    pub(in crate::web) seat: Arc<AccountSeat>,
    pub(in crate::web) session: PageSession<Arc<AccountSeat>>,
}

/// The body of a request: one JSON object; an empty one where there is none.
pub(in crate::web) struct ApiBody<T>(pub(in crate::web) T);

/// A value in the path of a request.
pub(super) struct ApiPath<T>(pub(super) T);

/// The fields of a request's query.
pub(super) struct ApiQuery(Vec<(String, String)>);

impl PageSeat {
    /// Returns the node's acts.
    ///
    /// # Errors
    /// 503.
    pub(super) fn node(&self) -> Result<NodeApi, ApiError> {
        self.seat.node().ok_or_else(ApiError::no_node)
    }
}

impl FromRequestParts<Arc<ApiContext>> for PageSeat {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<ApiContext>) -> Result<Self, ApiError> {
        let session = context.session(&parts.headers)?;
        // At a door it may rest; and a node that can't come back ends its seat.
        if !session.seat.activity.call().await || session.seat.has_ended() {
            return Err(ApiError::no_node());
        }
        Ok(Self { seat: session.seat.clone(), session })
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for ApiBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = header_text(request.headers(), &CONTENT_TYPE).is_some_and(|kind| {
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        // Before its type is judged: a request without a body has none.
        let body = read_body(request.into_body()).await?;
        if body.is_empty() {
            return parse_body(b"{}");
        }
        // A form of another site can't say that it is JSON.
        if !is_json {
            return Err(ApiError::bad_request(|| tr!("the body has to be application/json")));
        }
        parse_body(&body)
    }
}

fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<ApiBody<T>, ApiError> {
    // By way of a value: an array would be taken for an object's fields in their order.
    let value: Value = serde_json::from_slice(bytes).map_err(|why| bad_body(&why))?;
    if !value.is_object() {
        return Err(ApiError::bad_request(|| tr!("the body has to be one JSON object")));
    }
    serde_json::from_value(value).map(ApiBody).map_err(|why| bad_body(&why))
}

fn bad_body(why: &serde_json::Error) -> ApiError {
    ApiError::bad_request(|| tr!("the body can't be read: {why}", why = why.to_string()))
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES));
    let late = || ApiError::broke_off(|| tr!("the body doesn't come"));
    read.await.map_err(|_| late())?.map_err(|_| {
        let words = || tr!("the body has at most {limit} bytes, and comes whole", limit = MAX_BODY_BYTES);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::Usage.as_str(), words)
    })
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|_| ApiError::bad_request(|| tr!("the address can't be read")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(form_fields(parts.uri.query().unwrap_or_default())))
    }
}

impl ApiQuery {
    /// Returns a field, if it is there.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Returns a field that is a number, if it is there.
    ///
    /// # Errors
    /// 400.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let number = |text: &str| text.parse().map_err(|_| ApiError::bad_request(|| tr!("{name} is no number", name)));
        self.text(name).map(number).transpose()
    }
}

/// Returns a value of a path or a body as one of our types.
///
/// # Errors
/// 400 with the reason.
pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|why: T::Err| ApiError::bad_request(|| why.to_string()))
}

/// Returns an answer of JSON, with 200.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of handlers")]
pub(super) fn answer(value: &Value) -> ApiAnswer {
    Ok(json_response(StatusCode::OK, value))
}

/// Returns an answer without a body, with 204.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of handlers")]
pub(super) fn done() -> ApiAnswer {
    Ok(StatusCode::NO_CONTENT.into_response())
}
