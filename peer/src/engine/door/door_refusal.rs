//! The reasons why a door opens no account.

use localization::tr;
use shared::UserName;
use shared::tracker::TrackerErrorCode;

use crate::engine::Error;
use crate::net::TrackerError;

/// The reason why an account is not opened, and the step that would open it.
#[derive(Debug, thiserror::Error)]
pub enum DoorRefusal {
    /// The tracker says that user or password are wrong.
    #[error("{}", tr!("wrong user name or password"))]
    WrongPassword,
    /// The account's key is on another machine.
    #[error(
        "{}",
        tr!(
            "the account {user} lives on another machine. It can move to this door: that machine is then signed out, and \
             everybody who knows {user} is warned that the key has changed, until they have compared the new one",
            user = .user
        )
    )]
    MoveNeeded {
        /// The account.
        user: UserName,
    },
    /// The account has no key.
    #[error(
        "{}",
        tr!(
            "the account {user} has no key yet. Here it gets one, which this door keeps: from then on its password goes \
             encrypted or not at all, and the exercise's clients can't log in to it any more",
            user = .user
        )
    )]
    BindNeeded {
        /// The account.
        user: UserName,
    },
    /// The door has as many accounts as it takes.
    #[error("{}", tr!("this door takes no more accounts: ask whoever runs it"))]
    Full,
    /// Another reason, such as a name that is taken or a tracker that can't be reached.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<TrackerError> for DoorRefusal {
    fn from(error: TrackerError) -> Self {
        Error::from(error).into()
    }
}

impl DoorRefusal {
    /// Returns the refusal for the failed login of a user.
    pub(super) fn of_login(error: Error, user: &UserName) -> Self {
        match error {
            Error::Tracker(ref why) if why.code() == Some(TrackerErrorCode::AuthFailed) => Self::WrongPassword,
            Error::Tracker(ref why) if why.code() == Some(TrackerErrorCode::KeyMismatch) => {
                Self::MoveNeeded { user: user.clone() }
            }
            Error::AccountElsewhere { user } => Self::MoveNeeded { user },
            other => Self::Failed(other),
        }
    }
}
