//! The JSON API of the page, below `/api/v1`: handlers that translate requests into acts of an account's seat.
//!
//! Each call belongs to a session: by its cookie and by the secret in the header `Page-Secret`. Errors are
//! `{"error":{"code":…,"message":…}}`, the message in the browser's language.

mod api_context;
mod api_error;
mod api_guard;
mod api_request;
mod api_router;
mod conversation_routes;
mod download_route;
mod drop_routes;
mod event_stream;
mod file_routes;
mod openapi;
mod openapi_schemas;
mod room_routes;
mod send_routes;
mod session_mode;
mod session_routes;
mod setting_routes;
mod share_routes;
mod user_routes;

pub(super) use self::api_context::ApiContext;
pub(super) use self::api_error::ApiError;
pub(super) use self::api_request::ApiBody;
pub(super) use self::api_router::api_router;
pub(super) use self::session_mode::SessionMode;
pub(super) use self::session_routes::session_answer;
