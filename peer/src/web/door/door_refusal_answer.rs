//! The answers of the API to a login or a registration that is refused.

use axum::http::StatusCode;
use shared::tracker::TrackerErrorCode;

use crate::engine::Error;
use crate::engine::door::DoorRefusal;
use crate::net::TrackerError;
use crate::web::api::ApiError;

/// Seconds after which a full door is asked again.
const FULL_RETRY_SECONDS: u64 = 60;

impl From<DoorRefusal> for ApiError {
    fn from(refusal: DoorRefusal) -> Self {
        let (status, code) = match &refusal {
            DoorRefusal::WrongPassword => (StatusCode::FORBIDDEN, "wrong_password"),
            DoorRefusal::MoveNeeded { .. } => (StatusCode::CONFLICT, "moved_needed"),
            DoorRefusal::BindNeeded { .. } => (StatusCode::CONFLICT, "consent_needed"),
            DoorRefusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "door_full"),
            DoorRefusal::Failed(Error::Tracker(TrackerError::Refused { refusal: of_tracker, retry_after })) => {
                let status = match of_tracker.code {
                    TrackerErrorCode::UserExists => StatusCode::CONFLICT,
                    TrackerErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                    TrackerErrorCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
                    TrackerErrorCode::Forbidden => StatusCode::FORBIDDEN,
                    _ => StatusCode::BAD_REQUEST,
                };
                let error = Self::new(status, of_tracker.code.as_str(), || refusal.to_string());
                return match retry_after {
                    // Parts of a second are cut off, and 0 would invite the next attempt at once.
                    Some(wait) => error.retry_after(wait.as_secs().max(1)),
                    None => error,
                };
            }
            DoorRefusal::Failed(_) => {
                let DoorRefusal::Failed(error) = refusal else { return Self::no_node() };
                return error.into();
            }
        };
        let error = Self::new(status, code, || refusal.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE { error.retry_after(FULL_RETRY_SECONDS) } else { error }
    }
}

/// Returns the answer to a login while a browser is at as many accounts as can be online.
pub(super) fn all_awake() -> ApiError {
    let words = || localization::tr!("as many people are online here as this machine takes: try again later");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "door_full", words).retry_after(FULL_RETRY_SECONDS)
}
