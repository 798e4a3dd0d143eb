//! `/metrics` and `/healthz`, for those who watch the tracker. Off unless an address is given.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

use crate::metrics;
use crate::service::Service;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let routes = Router::new().route("/metrics", get(all_metrics)).route("/healthz", get(health)).with_state(service);
    if let Err(why) = axum::serve(listener, routes).await {
        error!(%why, "metrics are not served any more");
    }
}

async fn all_metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], service.metrics().text(service.snapshot()))
}

/// Well when the registry and the account store answer.
async fn health(State(service): State<Arc<Service>>) -> impl IntoResponse {
    use axum::http::StatusCode;
    match service.all_accounts().await {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
