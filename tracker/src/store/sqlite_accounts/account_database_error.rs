//! The reasons why the account database can't be used.

use std::path::{Path, PathBuf};

use localization::tr;
use rusqlite::ErrorCode;
use shared::safe_text::safe_path;

use crate::store::sqlite_file::{self, TOO_MANY_OPEN};

/// The reason why the file can't be used. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum AccountDatabaseError {
    #[error("{}", tr!(
        "the account database {path} is damaged ({why}): put back a copy of it \
         (`tracker restore FILE`), or move it away and begin without accounts (`tracker new accounts`)",
        path = safe_path(.path),
        why
    ))]
    Damaged { path: PathBuf, why: String },
    #[error("{}", tr!(
        "the account database {path} has schema version {found}, this tracker knows versions up to {known}: \
         use the newer tracker that wrote it",
        path = safe_path(.path),
        found,
        known
    ))]
    TooNew {
        path: PathBuf,
        found: usize,
        /// The latest version that this tracker knows.
        known: usize,
    },
    #[error("{}", tr!("can't use the account database {path}: {why}", path = safe_path(.path), why = TOO_MANY_OPEN))]
    TooManyOpen { path: PathBuf },
    #[error("{}", tr!(
        "can't use the account database {path}: {why}; check its permissions and the space on its disk, \
         or choose a folder on another disk with --data-dir",
        path = safe_path(.path),
        why
    ))]
    Unusable {
        path: PathBuf,
        /// The error of SQLite or the system.
        why: String,
    },
}

impl AccountDatabaseError {
    /// Says what SQLite's error means for the file.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, why) = (path.to_owned(), error.to_string());
        // SQLite tells a lack of descriptors as a file that it can't open.
        if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && sqlite_file::is_out_of_descriptors() {
            return Self::TooManyOpen { path };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why },
            _ => Self::Unusable { path, why },
        }
    }
}
