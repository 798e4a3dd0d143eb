//! Errors of requests, and their conversion from the errors of the modules below. Internal causes are only logged.

use std::time::Duration;

use shared::safe_text::safe_path;

use super::refusal_reason::RefusalReason;
use super::worker_thread::WorkerError;
use crate::membership::RoomRefusal;
use crate::passwords::PasswordError;
use crate::rate_limits::RateLimitExceeded;
use crate::registry::BindingChanged;
use crate::store::AccountStoreError;

/// Advice to clients after the account was changed at the same time.
pub(super) const RETRY_AFTER_CHANGE_MS: u64 = 100;
/// Advice to clients after the disk was full.
const RETRY_AFTER_FULL_MS: u64 = 60_000;

/// Advice to clients while the database is away.
const RETRY_AFTER_OUTAGE_MS: u64 = 2000;

/// A refused request.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(super) reason: RefusalReason,
    pub(super) retry_after_ms: Option<u64>,
}

pub(super) const fn busy(reason: RefusalReason, retry_after_ms: u64) -> RequestError {
    RequestError { reason, retry_after_ms: Some(retry_after_ms) }
}

pub(super) fn internal(why: &dyn std::fmt::Display) -> RequestError {
    // The cause is for the log only: strangers must not learn paths or errors of the system.
    tracing::error!(%why, "a request failed");
    RefusalReason::Internal.into()
}

impl From<RefusalReason> for RequestError {
    fn from(reason: RefusalReason) -> Self {
        Self { reason, retry_after_ms: None }
    }
}

impl From<WorkerError> for RequestError {
    fn from(why: WorkerError) -> Self {
        internal(&why)
    }
}

impl From<AccountStoreError> for RequestError {
    fn from(error: AccountStoreError) -> Self {
        match error {
            AccountStoreError::NameTaken(user) => RefusalReason::NameTaken { user, free: None }.into(),
            AccountStoreError::NameLike { wanted, taken } => {
                RefusalReason::NameLike { wanted, taken, free: None }.into()
            }
            AccountStoreError::KeyTaken => RefusalReason::KeyTaken.into(),
            AccountStoreError::Room(refusal) => refusal.into(),
            // The account was there a moment ago: somebody changed or removed it meanwhile.
            AccountStoreError::NoAccount | AccountStoreError::Changed => changed_meanwhile(),
            AccountStoreError::Busy => busy(RefusalReason::TooManyChanges, 1000),
            AccountStoreError::Full => {
                tracing::error!("the disk with the accounts is full");
                busy(RefusalReason::DiskFull, RETRY_AFTER_FULL_MS)
            }
            AccountStoreError::Lost(path) => {
                tracing::error!(path = %safe_path(&path), "the account database was removed or replaced");
                busy(RefusalReason::AccountsLost, RETRY_AFTER_FULL_MS)
            }
            AccountStoreError::Unreachable(why) => {
                // An outage has its line in the log already: each refused request would repeat it.
                tracing::debug!(%why, "the database can't be used");
                busy(RefusalReason::DatabaseAway, RETRY_AFTER_OUTAGE_MS)
            }
            AccountStoreError::Unknown(why) => {
                tracing::error!(%why, "it is unknown whether a change is made");
                busy(RefusalReason::OutcomeUnknown, RETRY_AFTER_OUTAGE_MS)
            }
            AccountStoreError::Failed(_) => internal(&error),
        }
    }
}

impl From<RoomRefusal> for RequestError {
    fn from(refusal: RoomRefusal) -> Self {
        let retry_after_ms = match &refusal {
            RoomRefusal::TooOften { wait } => Some(rounded_up_ms(*wait)),
            _ => None,
        };
        Self { reason: RefusalReason::Room(refusal), retry_after_ms }
    }
}

impl From<PasswordError> for RequestError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy { retry_after } => {
                let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                busy(RefusalReason::TooManyPasswords, ms)
            }
            PasswordError::Failed(why) => internal(&why),
        }
    }
}

impl From<RateLimitExceeded> for RequestError {
    fn from(RateLimitExceeded { limit, wait }: RateLimitExceeded) -> Self {
        Self { reason: RefusalReason::RateLimited(limit), retry_after_ms: Some(rounded_up_ms(wait)) }
    }
}

impl From<BindingChanged> for RequestError {
    fn from(_: BindingChanged) -> Self {
        changed_meanwhile()
    }
}

/// Returns the time in milliseconds, rounded up: a client that comes back exactly then is not too early.
fn rounded_up_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

pub(super) const fn changed_meanwhile() -> RequestError {
    busy(RefusalReason::AccountChanged, RETRY_AFTER_CHANGE_MS)
}
