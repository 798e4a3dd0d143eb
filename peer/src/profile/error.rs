//! Why a profile can't be used, in words that say what to do.

use std::path::{Path, PathBuf};

use certs::IdentityError;
use rusqlite::ErrorCode;
use shared::safe_text::safe_path;

use super::busy;
use crate::sys::{RoomLimit, exhausted_room, is_read_only, is_without_descriptors, open_files_limit, plain_message};

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
    /// The database, because there is no room for anything more.
    #[error("the profile's database {} can't be used: {}", safe_path(.path), room_words(*.limit))]
    DiskFull {
        /// Which.
        path: PathBuf,
        /// The limit that was reached.
        limit: RoomLimit,
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
    /// The database has nothing in it.
    #[error(
        "the profile's database {path} is empty{}: put back a copy of the database, or remove the empty file to begin anew{}",
        .key.as_ref().map(|key| format!(", but its key {} is there", safe_path(key))).unwrap_or_default(),
        if .key.is_some() { " with the same key" } else { "" }
    )]
    EmptyDatabase {
        /// The database.
        path: PathBuf,
        /// The key, if there is one.
        key: Option<PathBuf>,
    },
    /// The database is not the one any more that is open.
    #[error(
        "the profile's database {path} was removed or replaced while a node or another command used it: put it back, or \
         a copy of it, and start again"
    )]
    DatabaseLost {
        /// The database.
        path: PathBuf,
    },
    /// There is no profile in the folder, and none can be made.
    #[error("can't make a profile in {home} ({}): give another folder with --home DIR", plain_message(.source))]
    CantMake {
        /// The folder.
        home: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others could read whatever is put into the folder.
    #[error(
        "{home} can't hold a profile: its file system keeps no permissions (mode {mode:o}), so that others on this \
         machine could read the secret key; use --home with a folder on another disk, or mount this one with umask=077"
    )]
    NoPermissions {
        /// The folder.
        home: PathBuf,
        /// The permissions that a private folder has there.
        mode: u32,
    },
    /// Another node has it.
    #[error("a node of this profile is already running{}: `peer whoami` shows it, `peer logout` stops it", of_process(*.pid))]
    NodeRuns {
        /// Its process, if it said so.
        pid: Option<u32>,
    },
    /// The process that has it, most often a node, is stopped, and answers nobody until it goes on.
    #[error(
        "{} holds this profile and is stopped: continue it with `fg` in its terminal or `kill -CONT {pid}`, \
         or end it with `kill -KILL {pid}`", busy::process_words(*.pid, .command.as_deref())
    )]
    NodeStopped {
        /// Its process.
        pid: u32,
        /// The command that it runs.
        command: Option<String>,
    },
    /// Another process held the database for longer than it was waited for.
    #[error(
        "{} holds the profile's database {path}; nothing was changed: wait until it is done, or end it with \
         `kill {pid}`, and try again", busy::process_words(*.pid, .command.as_deref())
    )]
    Held {
        /// The database.
        path: PathBuf,
        /// The process.
        pid: u32,
        /// The command that it runs.
        command: Option<String>,
    },
    /// Too many files are open to open the database.
    #[error(
        "the profile's database {path} can't be opened: too many open files{}; raise the limit with `ulimit -n 4096` and \
         run the same command again",
        limit_words()
    )]
    TooManyOpen {
        /// Which.
        path: PathBuf,
    },
    /// Nothing in the folder can be locked.
    #[error(
        "the file system of {home} has no locks ({source}), so that two nodes could run at once: \
         use --home with a folder on a local disk"
    )]
    NoLocks {
        /// The profile's folder.
        home: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

const fn room_words(limit: RoomLimit) -> &'static str {
    match limit {
        RoomLimit::Disk => "the disk is full: free some space and try again",
        RoomLimit::Quota => "your disk quota is used up: remove some of your files there and try again",
    }
}

fn limit_words() -> String {
    open_files_limit().map(|limit| format!(" ({limit} at once)")).unwrap_or_default()
}

/// Names a process, where it is known.
fn of_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
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
        Some(ErrorCode::ReadOnly) if is_read_only(path) => {
            "its file system can only be read: mount it for writing, or use --home with a folder on another disk"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "it can't be opened for writing: look at its owner and permissions"
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed | ErrorCode::NoLargeFileSupport) => {
            "the disk or its file system failed: see what the system says of it (`dmesg`), or use --home with a folder \
             on a local disk"
        }
        _ => "try again",
    };
    format!("the profile's database {} can't be used ({source}){outcome}: {advice}", safe_path(path))
}

impl ProfileError {
    /// That the node's process was stopped, and what to do about it.
    pub(crate) fn node_stopped(pid: u32) -> Self {
        let busy::Holder { pid, command, .. } = busy::Holder::of(pid);
        Self::NodeStopped { pid, command }
    }

    /// Returns whether there is no room for what was to be written, or nothing can be written there at all.
    pub(crate) fn is_unwritable(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Database { source, .. } => source.sqlite_error_code() == Some(ErrorCode::ReadOnly),
            _ => false,
        }
    }

    /// Whether somebody else held the database for longer than it was waited for.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Database { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            }
            Self::Held { .. } | Self::NodeStopped { .. } => true,
            _ => false,
        }
    }

    /// Why the database at `path` is held, as far as that can be found out.
    fn held(path: PathBuf, source: rusqlite::Error) -> Self {
        if let (Some(source), Some(home)) = (busy::without_locks(&path), path.parent()) {
            return Self::NoLocks { home: home.to_owned(), source };
        }
        match busy::holder(&path) {
            Some(busy::Holder { pid, command, is_stopped: true }) => Self::NodeStopped { pid, command },
            Some(busy::Holder { pid, command, .. }) => Self::Held { path, pid, command },
            None => Self::Database { path, source },
        }
    }

    /// What `source` says of the database at `path`.
    pub(super) fn database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, limit: RoomLimit::Disk },
            Some(ErrorCode::DatabaseBusy) => Self::held(path, source),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_without_descriptors() => {
                Self::TooManyOpen { path }
            }
            // What SQLite keeps in memory that it shares is a file as well, and fails in other words; so does every write for
            // want of quota. A connection that was opened to look can't write at all.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                match exhausted_room(&path) {
                    Some(limit) => Self::DiskFull { path, limit },
                    None => Self::Database { path, source },
                }
            }
            _ => Self::Database { path, source },
        }
    }
}
