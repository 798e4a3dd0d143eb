//! The addresses of the API, and those of the page itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use localization::tr;

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_guard::guard;
use super::api_request::{ApiAnswer, ApiPath};
use super::{
    conversation_routes, download_route, drop_routes, event_stream, file_routes, openapi, room_routes, send_routes,
    session_routes, setting_routes, share_routes, user_routes,
};
use crate::engine::ErrorKind;
use crate::web::app_assets::app_file;

/// Where the API begins.
pub(super) const BASE: &str = "/api/v1";

type ContextRoute = (&'static str, MethodRouter<Arc<ApiContext>>);

/// Returns the routes of a server of pages. `own` are those by which its sessions begin.
pub(in crate::web) fn api_router(context: &Arc<ApiContext>, own: Router<Arc<ApiContext>>) -> Router {
    let mut router = own;
    for (path, methods) in routes() {
        router = router.route(&format!("{BASE}{path}"), methods);
    }
    router
        .route("/", get(index))
        .route("/d/{ticket}/{name}", get(download_route::download))
        .route("/app/{name}", get(app))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        // Behind the fallbacks: a layer covers only what was added before it.
        .layer(from_fn_with_state(context.clone(), guard))
        .with_state(context.clone())
}

pub(super) fn routes() -> Vec<ContextRoute> {
    vec![
        ("/session", get(session_routes::show).delete(session_routes::end)),
        ("/events", get(event_stream::events)),
        ("/users", get(user_routes::list)),
        ("/users/lookup", post(user_routes::look_up)),
        ("/users/{user}/accept", post(user_routes::accept)),
        ("/users/{user}/block", post(user_routes::block)),
        ("/users/{user}/unblock", post(user_routes::unblock)),
        ("/conversations/{name}/messages", get(conversation_routes::messages).post(conversation_routes::send)),
        ("/conversations/{name}/messages/{id}", delete(conversation_routes::cancel)),
        ("/conversations/{name}/read", post(conversation_routes::read)),
        ("/conversations/{name}/typing", post(conversation_routes::typing)),
        ("/conversations/{name}/mute", post(conversation_routes::mute)),
        ("/files", get(file_routes::search)),
        ("/files/{of}", get(file_routes::list)),
        ("/fetches", get(file_routes::fetches).post(file_routes::fetch)),
        ("/fetches/{number}", delete(file_routes::stop)),
        ("/tickets", post(file_routes::ticket)),
        ("/shares", get(share_routes::list)),
        ("/shares/{name}", delete(share_routes::remove)),
        // A dropped file may have these names as well.
        ("/uploads/{id}/share", dropped_file().post(drop_routes::share)),
        ("/uploads/{id}/send", dropped_file().post(drop_routes::send)),
        ("/uploads/{id}/{name}", dropped_file()),
        ("/sends", get(send_routes::list)),
        ("/sends/{number}/{change}", post(send_routes::change)),
        ("/settings", get(setting_routes::show).put(setting_routes::change)),
        ("/openapi.json", get(openapi::document)),
        ("/rooms", get(room_routes::list).post(room_routes::create)),
        ("/rooms/directory", get(room_routes::directory)),
        ("/rooms/{room}/join", post(room_routes::join)),
        ("/rooms/{room}/leave", post(room_routes::leave)),
        ("/rooms/{room}/invite", post(room_routes::invite)),
        ("/rooms/{room}/kick", post(room_routes::kick)),
        ("/rooms/{room}/ban", post(room_routes::ban)),
        ("/rooms/{room}/unban", post(room_routes::unban)),
        ("/rooms/{room}/role", post(room_routes::role)),
        ("/rooms/{room}/topic", post(room_routes::topic)),
    ]
}

fn dropped_file() -> MethodRouter<Arc<ApiContext>> {
    get(drop_routes::state).put(drop_routes::upload).delete(drop_routes::cancel)
}

async fn index(headers: HeaderMap) -> ApiAnswer {
    app_file("index.html", &headers).ok_or_else(ApiError::not_found)
}

async fn app(State(_): State<Arc<ApiContext>>, ApiPath(name): ApiPath<String>, headers: HeaderMap) -> ApiAnswer {
    app_file(&name, &headers).ok_or_else(ApiError::not_found)
}

async fn nothing() -> Response {
    ApiError::not_found().into_response()
}

async fn wrong_method() -> Response {
    let words = || tr!("this address doesn't know that method");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Usage.as_str(), words).into_response()
}
