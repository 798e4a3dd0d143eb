//! What a request that is not granted is answered with, and what of inside is told outside.

use shared::tracker::{ErrorCode, Refusal};

use super::long_work::NotDone;
use crate::accounts::StoreError;
use crate::limits::{Limited, TooOften};
use crate::passwords::PasswordError;
use crate::registry::BindingMoved;

/// When to try again after somebody else changed the same account.
pub(super) const RETRY_AFTER_CHANGE_MS: u64 = 100;
/// When to try again after there was no room on the disk.
const RETRY_AFTER_FULL_MS: u64 = 60_000;

/// A request that was not granted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) retry_after_ms: Option<u64>,
}

pub(super) fn refuse(code: ErrorCode, message: impl Into<String>) -> Refused {
    Refusal::new(code, message).into()
}

pub(super) fn busy(message: &str, retry_after_ms: u64) -> Refused {
    Refused { refusal: Refusal::new(ErrorCode::Busy, message), retry_after_ms: Some(retry_after_ms) }
}

pub(super) fn internal(why: &dyn std::fmt::Display) -> Refused {
    tracing::error!(%why, "a request failed");
    refuse(ErrorCode::Internal, "the tracker could not do it: its log says why")
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, retry_after_ms: None }
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
            why @ (StoreError::NameTaken(_) | StoreError::NameLike { .. }) => {
                refuse(ErrorCode::UserExists, why.to_string())
            }
            StoreError::KeyTaken => {
                refuse(ErrorCode::KeyMismatch, "this certificate already belongs to another account")
            }
            StoreError::NoAccount | StoreError::Changed => changed_meanwhile(),
            StoreError::Busy => busy("too many changes are waiting", 1000),
            StoreError::Full => {
                tracing::error!("the disk with the accounts is full");
                let message = "the tracker's disk is full and nothing was changed: whoever runs it has to make room";
                busy(message, RETRY_AFTER_FULL_MS)
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
                busy("too many passwords are being checked", ms)
            }
            PasswordError::Failed(why) => internal(&why),
        }
    }
}

impl From<TooOften> for Refused {
    fn from(TooOften { limit, wait }: TooOften) -> Self {
        let (what, option) = match limit {
            Limited::GuessesAtUser => ("wrong passwords for this user from this address", Some("logins")),
            Limited::Guesses => ("wrong passwords from this address", Some("logins")),
            Limited::Passwords => ("logins of this user from this address", Some("logins")),
            Limited::Registrations => ("new accounts from this address", Some("registrations")),
            Limited::Changes => ("changes of one user from this address", None),
        };
        // Rounded up: who comes back then is not too early.
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut message = format!("too many {what}: try again in {} s", ms.div_ceil(1000));
        if let Some(option) = option {
            message += &format!("; the tracker's --rate-limit-{option} says how many are taken");
        }
        Self { refusal: Refusal::new(ErrorCode::RateLimited, message), retry_after_ms: Some(ms) }
    }
}

impl From<BindingMoved> for Refused {
    fn from(_: BindingMoved) -> Self {
        changed_meanwhile()
    }
}

pub(super) fn changed_meanwhile() -> Refused {
    busy("the account was changed in the meantime", RETRY_AFTER_CHANGE_MS)
}
