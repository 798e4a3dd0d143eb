//! The reasons for refusals, and the codes that programs read.

use shared::UserName;
use shared::json_scanner::ScanError;
use shared::tracker::{TrackerErrorCode, UnusableName};

use super::room_refusal_text;
use crate::membership::RoomRefusal;
use crate::rate_limits::LimitKind;
use crate::registry::SessionEndReason;

/// A reason why a request is refused, or a connection ends.
#[derive(Debug)]
pub(crate) enum RefusalReason {
    /// The bytes are no JSON object.
    Scan(ScanError),
    TruncatedRequest,
    SlowRequest,
    RefusedTooOften,
    /// A person behind a door has too many connections.
    NoConnectionSlot,
    /// No memory is left for a long request.
    TooManyLongRequests,
    /// A long request came too slowly, and its memory was given to others.
    MemoryReclaimed,
    UnusableName(UnusableName),
    NameTaken {
        user: UserName,
        /// A similar name that is free; `None` if none was found.
        free: Option<UserName>,
    },
    NameLike {
        wanted: UserName,
        taken: UserName,
        /// A similar name that is free; `None` if none was found.
        free: Option<UserName>,
    },
    RegistrationClosed,
    /// There are as many accounts as people may make by themselves.
    TooManyAccounts,
    WrongPassword,
    RateLimited(LimitKind),
    /// The certificate shown is bound to this account, which isn't the one of the request.
    KeyOfOtherAccount(UserName),
    /// The store found the certificate bound to another account.
    KeyTaken,
    TlsRequired(UserName),
    /// The action needs a client certificate, and the connection is plaintext.
    NeedsTls,
    NeedsCertificate,
    /// The certificate is no trusted door's, or a user already logged in on the connection.
    NotATrustedDoor,
    UnknownKey,
    /// The certificate was this account's until a rebind.
    AccountMoved {
        user: UserName,
        /// Seconds since the rebind.
        moved_for_s: u64,
    },
    /// The account is bound, and no certificate was shown.
    KeyRequired(UserName),
    /// The account is bound, and another certificate was shown.
    BoundToOtherKey(UserName),
    NotOnline(UserName),
    NotLoggedInAs(UserName),
    NotUser(UserName),
    SessionEnded(UserName, SessionEndReason),
    NoSession,
    ForeignToken,
    NotBound,
    NoSuchName(UserName),
    AmbiguousName {
        name: UserName,
        all: Vec<UserName>,
    },
    TooManyFiles(UserName),
    TooManyReplies,
    CatalogueFull,
    /// Too many users are present from one origin.
    TooManyPresent,
    /// Too many searches wait.
    TooManySearches,
    /// The list exceeds the user's, or the origin's, quota of the catalogue.
    CatalogueShareExceeded,
    ListChanged,
    /// The rules of rooms refuse it.
    Room(RoomRefusal),
    AccountChanged,
    TooManyChanges,
    TooManyPasswords,
    DiskFull,
    AccountsLost,
    /// The database of accounts and rooms can't be reached.
    DatabaseAway,
    /// The database went away while a change was stored.
    OutcomeUnknown,
    Internal,
}

impl RefusalReason {
    /// Returns the code that programs read.
    pub(crate) const fn code(&self) -> TrackerErrorCode {
        match self {
            Self::Scan(ScanError::NotAnObject(_)) | Self::TruncatedRequest => TrackerErrorCode::BadJson,
            Self::Scan(ScanError::TooLarge { .. } | ScanError::TooDeep { .. }) | Self::TooManyFiles(_) => {
                TrackerErrorCode::TooLarge
            }
            Self::SlowRequest | Self::AmbiguousName { .. } => TrackerErrorCode::BadRequest,
            Self::RefusedTooOften | Self::RateLimited(_) => TrackerErrorCode::RateLimited,
            Self::UnusableName(_) => TrackerErrorCode::InvalidUser,
            Self::NameTaken { .. } | Self::NameLike { .. } => TrackerErrorCode::UserExists,
            Self::RegistrationClosed
            | Self::TooManyAccounts
            | Self::NotUser(_)
            | Self::ForeignToken
            | Self::NotATrustedDoor => TrackerErrorCode::Forbidden,
            Self::WrongPassword => TrackerErrorCode::AuthFailed,
            Self::KeyOfOtherAccount(_) | Self::KeyTaken | Self::KeyRequired(_) | Self::BoundToOtherKey(_) => {
                TrackerErrorCode::KeyMismatch
            }
            Self::TlsRequired(_) | Self::NeedsTls => TrackerErrorCode::TlsRequired,
            Self::NeedsCertificate
            | Self::UnknownKey
            | Self::AccountMoved { .. }
            | Self::NotOnline(_)
            | Self::NotLoggedInAs(_)
            | Self::SessionEnded(..)
            | Self::NoSession => TrackerErrorCode::NotLoggedIn,
            Self::NotBound | Self::NoSuchName(_) => TrackerErrorCode::NotFound,
            Self::TooManyLongRequests
            | Self::MemoryReclaimed
            | Self::NoConnectionSlot
            | Self::TooManyReplies
            | Self::CatalogueFull
            | Self::CatalogueShareExceeded
            | Self::TooManyPresent
            | Self::TooManySearches
            | Self::ListChanged
            | Self::AccountChanged
            | Self::TooManyChanges
            | Self::TooManyPasswords
            | Self::DiskFull
            | Self::AccountsLost
            | Self::DatabaseAway
            | Self::OutcomeUnknown => TrackerErrorCode::Busy,
            Self::Room(refusal) => room_refusal_text::code(refusal),
            Self::Internal => TrackerErrorCode::Internal,
        }
    }

    /// Returns the seconds since the rebind that took the account from the key shown.
    pub(super) const fn moved_for_s(&self) -> Option<u64> {
        match self {
            Self::AccountMoved { moved_for_s, .. } => Some(*moved_for_s),
            _ => None,
        }
    }
}
