//! What a request that is not granted is answered with, and what of inside is told outside.

use shared::safe_text::safe_path;

use super::long_work::NotDone;
use super::reason::Reason;
use crate::accounts::StoreError;
use crate::limits::TooOften;
use crate::passwords::PasswordError;
use crate::registry::BindingMoved;

/// When to try again after somebody else changed the same account.
pub(super) const RETRY_AFTER_CHANGE_MS: u64 = 100;
/// When to try again after there was no room on the disk.
const RETRY_AFTER_FULL_MS: u64 = 60_000;

/// A request that was not granted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(super) reason: Reason,
    pub(super) retry_after_ms: Option<u64>,
}

pub(super) const fn busy(reason: Reason, retry_after_ms: u64) -> Refused {
    Refused { reason, retry_after_ms: Some(retry_after_ms) }
}

pub(super) fn internal(why: &dyn std::fmt::Display) -> Refused {
    tracing::error!(%why, "a request failed");
    Reason::Internal.into()
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after_ms: None }
    }
}

impl From<NotDone> for Refused {
    fn from(why: NotDone) -> Self {
        internal(&why)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken(user) => Reason::NameTaken { user, free: None }.into(),
            StoreError::NameLike { wanted, taken } => Reason::NameLike { wanted, taken, free: None }.into(),
            StoreError::KeyTaken => Reason::KeyTaken.into(),
            StoreError::NoAccount | StoreError::Changed => changed_meanwhile(),
            StoreError::Busy => busy(Reason::ManyChanges, 1000),
            StoreError::Full => {
                tracing::error!("the disk with the accounts is full");
                busy(Reason::DiskFull, RETRY_AFTER_FULL_MS)
            }
            StoreError::Lost(path) => {
                tracing::error!(path = %safe_path(&path), "the account database was removed or replaced");
                busy(Reason::AccountsLost, RETRY_AFTER_FULL_MS)
            }
            StoreError::Failed(why) => internal(&why),
        }
    }
}

impl From<PasswordError> for Refused {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy { retry_after } => {
                let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                busy(Reason::ManyPasswords, ms)
            }
            PasswordError::Failed(why) => internal(&why),
        }
    }
}

impl From<TooOften> for Refused {
    fn from(TooOften { limit, wait }: TooOften) -> Self {
        // Rounded up: who comes back then is not too early.
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self { reason: Reason::TooOften(limit), retry_after_ms: Some(ms) }
    }
}

impl From<BindingMoved> for Refused {
    fn from(_: BindingMoved) -> Self {
        changed_meanwhile()
    }
}

pub(super) const fn changed_meanwhile() -> Refused {
    busy(Reason::AccountChanged, RETRY_AFTER_CHANGE_MS)
}
