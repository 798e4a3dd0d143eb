//! The reasons why a database can't be used.

use std::io;
use std::path::PathBuf;

use localization::{in_english, tr};
use shared::safe_text::safe_path;
use tokio_postgres::error::SqlState;

use super::postgres_address::PostgresAddressError;
use super::statement_failure::with_causes;

/// A reason why a database can't be used. Every message says what to do, and none has a password in it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum StoreConnectError {
    /// The address is wrong.
    #[error(transparent)]
    Address(#[from] PostgresAddressError),
    #[error("{}", tr!(
        "{why}; check that PostgreSQL runs there, and that it takes connections from this machine \
         (listen_addresses, pg_hba.conf)",
        why = .0
    ))]
    Unreachable(String),
    #[error("{}", tr!(
        "{why}; check the user, and its password in PGPASSWORD or ~/.pgpass, which others may not read (chmod 600)",
        why = .0
    ))]
    Refused(String),
    #[error("{}", tr!(
        "{why}; name the certificate that the server's is signed with, or the server's own, by sslrootcert=FILE in the \
         address",
        why = .0
    ))]
    Distrusted(String),
    #[error("{}", tr!("{why}; make it with `createdb -E UTF8 -T template0 -O USER NAME` on the server", why = .0))]
    NoDatabase(String),
    #[error("{}", tr!("{why}; the user has to own it: ALTER DATABASE NAME OWNER TO USER", why = .0))]
    NotOwner(String),
    #[error("{}", tr!(
        "it has schema version {found}, this tracker knows versions up to {known}: use the newer tracker that wrote it",
        found,
        known
    ))]
    TooNew { found: i32, known: i32 },
    #[error("{}", tr!("a tracker of an earlier version{by} uses it: stop that one first", by = .by))]
    InUse {
        /// The other tracker, in words; empty if it is unknown.
        by: String,
    },
    #[error("{}", tr!(
        "trackers with another key use it, and peers know all of them by one: write that key to a file there with \
         `tracker identity export FILE`, and make it this one's with `tracker identity import FILE --replace`"
    ))]
    OtherKey,
    #[error("{}", tr!("can't use the certificates in {path}: {why}", path = safe_path(.path), why))]
    Certificates { path: PathBuf, why: io::Error },
    #[error("{}", tr!("its server is PostgreSQL {found}: {needed} or later is needed", found, needed))]
    OldServer { found: i32, needed: i32 },
    #[error("{}", tr!(
        "its server is a former primary (timeline {found}, the newest is {known}): rejoin it to the new primary as a \
         standby, for example with pg_rewind",
        found,
        known
    ))]
    FormerPrimary { found: i32, known: i32 },
    #[error("{}", tr!("another server is the primary by now"))]
    Demoted,
    #[error("{}", tr!(
        "its server is neither the one that was used so far nor a standby of it: restart the tracker if the database has \
         moved"
    ))]
    OtherServer,
    #[error("{}", tr!("can't read {path}: {why}; check its permissions", path = safe_path(.path), why))]
    HistoryFile { path: PathBuf, why: io::Error },
    #[error("{0}")]
    Failed(String),
}

impl StoreConnectError {
    /// Returns the message for the log.
    pub(super) fn to_english(&self) -> String {
        in_english(|| self.to_string())
    }
}

impl From<tokio_postgres::Error> for StoreConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let why = with_causes(&error);
            // The library tells these apart by their texts only.
            return match &*why {
                _ if why.contains("password missing") => Self::Refused(why),
                _ if why.contains("invalid peer certificate") => Self::Distrusted(why),
                _ => Self::Unreachable(why),
            };
        };
        let why = answer.message().to_owned();
        let class = answer.code().code().get(..2).unwrap_or_default();
        match *answer.code() {
            SqlState::INVALID_CATALOG_NAME => Self::NoDatabase(why),
            SqlState::INSUFFICIENT_PRIVILEGE => Self::NotOwner(why),
            _ if class == "28" => Self::Refused(why),
            _ if class == "57" || class == "53" || class == "08" => Self::Unreachable(why),
            _ => Self::Failed(why),
        }
    }
}
