//! The end of a connection to the tracker, and what its errors mean for the session.

use shared::tracker::TrackerErrorCode;

use crate::engine::Error;
use crate::net::TrackerError;

/// The reason why a connection to the tracker is given up.
pub(super) enum SessionEnd {
    Leaving,
    /// The connection or the session has to be renewed, which is not reported to the user.
    Reconnect,
    Lost(TrackerError),
    /// The tracker rejects the account or its key: the node ends.
    Fatal(Error),
}

impl From<TrackerError> for SessionEnd {
    fn from(error: TrackerError) -> Self {
        Self::Lost(error)
    }
}

impl SessionEnd {
    /// Classifies an error of a request: lost connection or rejected account.
    pub(super) fn from_error(error: Error) -> Self {
        match error {
            Error::Tracker(error) if error.code().is_none() => Self::Lost(error),
            error if is_fatal(&error) => Self::Fatal(error),
            Error::Tracker(error) => Self::Lost(error),
            error => Self::Fatal(error),
        }
    }
}

/// True if the fault is the tracker's, and another one of the same users may do better.
pub(super) fn is_outage(error: &Error) -> bool {
    let Error::Tracker(error) = error else { return false };
    matches!(error, TrackerError::Unreachable { .. }) || error.code() == Some(TrackerErrorCode::Busy)
}

/// True if retrying can't help: the tracker was reached and rejects this account.
pub(super) fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Tracker(TrackerError::IdentityChanged { .. }) => true,
        Error::Tracker(error) => matches!(
            error.code(),
            Some(
                TrackerErrorCode::KeyMismatch
                    | TrackerErrorCode::NotLoggedIn
                    | TrackerErrorCode::AuthFailed
                    | TrackerErrorCode::NotFound
                    | TrackerErrorCode::Forbidden
            )
        ),
        Error::SignedOut { .. }
        | Error::TrackerKeyMismatch { .. }
        | Error::TrackerKeyConflict { .. }
        | Error::AccountMoved { .. }
        | Error::KeyOfAnotherAccount { .. }
        | Error::Profile(_) => true,
        _ => false,
    }
}
