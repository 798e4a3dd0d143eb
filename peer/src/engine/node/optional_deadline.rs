//! A deadline that may not be set.

use tokio::time::Instant;

/// Waits until that time; for ever if there is none. Cancel-safe.
pub(super) async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
