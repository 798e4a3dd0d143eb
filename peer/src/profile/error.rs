//! Why a profile can't be used, in words that say what to do.

use std::path::{Path, PathBuf};

use certs::IdentityError;
use rusqlite::ErrorCode;

use crate::sys::is_full;

/// Why the profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The folder or a file in it.
    #[error("can't use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database.
    #[error("{}", database_words(.path, .source))]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database, because its disk is full.
    #[error("the profile's database {} can't be used: the disk is full: free some space and try again", .path.display())]
    DiskFull {
        /// Which.
        path: PathBuf,
    },
    /// The database was made by a later version.
    #[error("{path} was made by a newer version (schema {found}, this one knows {known}): use that version")]
    TooNew {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// What was read back is not what is ever written.
    #[error("the profile's database {path} is damaged: {what}; put back a copy of it or move it away")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another node has it.
    #[error("a node of this profile is already running")]
    NodeRuns,
}

/// What is wrong with the database, and what to do about it.
fn database_words(path: &Path, source: &rusqlite::Error) -> String {
    let mut outcome = "; nothing was changed";
    let advice = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it: end that one (a backup, a database browser?) and try again"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            // Whatever is damaged may have been found in the middle of something.
            outcome = "";
            "it is damaged: put back a copy, or move it away to begin anew; the key is in a file of its own"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "it can't be opened for writing: look at its owner and permissions"
        }
        _ => "try again",
    };
    format!("the profile's database {} can't be used ({source}){outcome}: {advice}", path.display())
}

impl ProfileError {
    /// What `source` says of the database at `path`.
    pub(super) fn database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            // What SQLite keeps in memory that it shares is a file as well, and fails in other words.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(&path) => Self::DiskFull { path },
            _ => Self::Database { path, source },
        }
    }
}
