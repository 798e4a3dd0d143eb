//! The meaning of the server's errors.

use tokio_postgres::error::SqlState;

use crate::store::AccountStoreError;

/// The failure of a statement.
#[derive(Debug)]
pub(super) enum StatementFailure {
    /// Another transaction came in between: the same one may succeed when it is repeated.
    Conflict,
    /// The connection, or the server behind it, can't be used any more.
    ConnectionLost(String),
    /// The server had no time for it.
    TooSlow,
    /// The server has no space left.
    Full,
    /// A row with the same unique value is there already.
    Exists {
        /// The name of the constraint.
        constraint: String,
        why: String,
    },
    /// Anything else.
    Failed(String),
}

impl StatementFailure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        // What the server didn't say went wrong on the way to it.
        let Some(answer) = error.as_db_error() else { return Self::ConnectionLost(with_causes(error)) };
        let why = answer.message().to_owned();
        let class = answer.code().code().get(..2).unwrap_or_default();
        match *answer.code() {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Conflict,
            // By the limits that each session sets for statements and for locks.
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Self::TooSlow,
            SqlState::DISK_FULL => Self::Full,
            SqlState::UNIQUE_VIOLATION => {
                Self::Exists { constraint: answer.constraint().unwrap_or_default().to_owned(), why }
            }
            // The server became a standby, or is one by now.
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ConnectionLost(why),
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Self::ConnectionLost(why),
            // Connection exceptions, and want of connections or memory.
            _ if class == "08" || class == "53" => Self::ConnectionLost(why),
            _ => Self::Failed(why),
        }
    }

    /// Returns the failure of a server that doesn't answer.
    pub(super) fn silence() -> Self {
        Self::ConnectionLost("the database doesn't answer".to_owned())
    }

    /// Says what it means for the change, which is undone.
    pub(super) fn to_store_error(&self) -> AccountStoreError {
        match self {
            Self::Conflict | Self::TooSlow => AccountStoreError::Busy,
            Self::ConnectionLost(why) => AccountStoreError::Unreachable(why.clone()),
            Self::Full => AccountStoreError::Full,
            Self::Exists { why, .. } | Self::Failed(why) => AccountStoreError::Failed(why.clone()),
        }
    }

    /// Returns the name of the constraint that a row would have violated.
    pub(super) fn violated_constraint(&self) -> Option<&str> {
        match self {
            Self::Exists { constraint, .. } => Some(constraint),
            _ => None,
        }
    }
}

/// Returns an error with its causes, which the library's messages leave out.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            text = format!("{text}: {why_text}");
        }
        cause = why.source();
    }
    text
}
