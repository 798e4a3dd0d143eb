//! Errors of a profile, with messages that tell the user what to do.

use std::path::{Path, PathBuf};

use certs::IdentityError;
use rusqlite::ErrorCode;
use shared::safe_text::safe_path;

use super::lock_wait;
use crate::sys::{
    RoomLimit, exhausted_room, is_descriptor_limit_reached, is_read_only_mount, open_files_limit, plain_message,
};
use crate::util::shell_words::single_quoted;

/// The reason why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// An I/O error of the folder or a file in it.
    #[error("can't use {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An error of the database.
    #[error("{}", describe_database_error(.path, .source))]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The database, because there is no room for anything more.
    #[error("the account's database {} can't be used: {}", safe_path(.path), room_words(*.limit))]
    DiskFull {
        /// The database.
        path: PathBuf,
        /// The limit that was reached.
        limit: RoomLimit,
    },
    /// The database was made by a later release.
    #[error("{path} was made by a newer version (schema {found}, this one knows {known}): use that version")]
    TooNew {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: i64,
        /// The latest schema version of this release.
        known: i64,
    },
    /// A stored value is not one that any release writes.
    #[error("the account's database {path} is damaged: {what}; put back a copy of it or move it away")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The damaged value.
        what: String,
    },
    /// An error of the key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The database is an empty file.
    #[error(
        "the account's database {path} is empty{}: put back a copy of the database, or remove the empty file and begin anew{}",
        .key.as_ref().map(|key| format!(", but its key {} is there", safe_path(key))).unwrap_or_default(),
        if .key.is_some() { " with the same key: `peer login NAME`" } else { "" }
    )]
    EmptyDatabase {
        /// The database.
        path: PathBuf,
        /// The key beside it, if there is one.
        key: Option<PathBuf>,
    },
    /// There is a key without a database.
    #[error(
        "the account's database {path} is missing, but its key {} is there: put back a copy of the database, or begin \
         anew with the same key: `peer login NAME`", safe_path(.key)
    )]
    MissingDatabase {
        /// The database.
        path: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The open database is no longer the file at its path.
    #[error(
        "the account's database {path} was removed or replaced while it was used: put it back, or a copy of it, and \
         start again"
    )]
    DatabaseLost {
        /// The database.
        path: PathBuf,
    },
    /// There is no profile in the folder, and none can be created.
    #[error("can't keep an account in {home} ({}): give another folder with --home DIR", plain_message(.source))]
    CannotCreate {
        /// The folder.
        home: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file system keeps no permissions, so that others could read the key.
    #[error(
        "{home} can't hold an account: its file system keeps no permissions (mode {mode:o}), so that others on this \
         machine could read the secret key; use --home with a folder on another disk, or mount this one with umask=077"
    )]
    NoPermissions {
        /// The folder.
        home: PathBuf,
        /// The mode that a private folder has there.
        mode: u32,
    },
    /// The profile belongs to another user.
    #[error(
        "{} belongs to another user ({owner}), who could run programs in your name by it: use --home with a folder of your \
         own, or make this one yours with `chown -R \"$(id -u)\" {}`", safe_path(.path), quoted(.path)
    )]
    ForeignOwner {
        /// The folder, or the database.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Other users may write to the profile.
    #[error(
        "others on this machine may write to {} (mode {mode:o}) and could run programs in your name by it: if nobody did, \
         run `chmod go-w {}`", safe_path(.path), quoted(.path)
    )]
    WritableByOthers {
        /// The folder, or the database.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The profile was exported, and goes on elsewhere.
    #[error(
        "this profile moved away with {file}: it goes on where that was imported. If it never was, `peer profile export \
         --cancel` keeps it here"
    )]
    MovedAway {
        /// The exported file.
        file: String,
    },
    /// A profile can't be imported where there is one.
    #[error("there is a profile in {} already: use --home with another folder", safe_path(.home))]
    HasProfile {
        /// The folder.
        home: PathBuf,
    },
    /// The file is no exported profile.
    #[error("{} is no file of `peer profile export`", safe_path(.file))]
    NotAnExport {
        /// The file.
        file: PathBuf,
    },
    /// Another node holds the profile.
    #[error("`peer` is already running for this account{}: `peer whoami` shows it, `peer stop` ends it", process_suffix(*.pid))]
    NodeRuns {
        /// Its process id, if its lock file names it.
        pid: Option<u32>,
    },
    /// The process that holds the profile, most often a node, is stopped and can't answer until it continues.
    #[error(
        "{} keeps this account and is stopped: continue it with `fg` in its terminal or `kill -CONT {pid}`, \
         or end it with `kill -KILL {pid}`", lock_wait::describe_process(*.pid, .command.as_deref())
    )]
    NodeStopped {
        /// Its process id.
        pid: u32,
        /// Its command line, if known.
        command: Option<String>,
    },
    /// Another process held the database for longer than the wait.
    #[error(
        "{} holds the account's database {path}; nothing was changed: wait until it is done, or end it with \
         `kill {pid}`, and try again", lock_wait::describe_process(*.pid, .command.as_deref())
    )]
    DatabaseHeld {
        /// The database.
        path: PathBuf,
        /// The process id of the holder.
        pid: u32,
        /// Its command line, if known.
        command: Option<String>,
    },
    /// Too many files are open to open the database.
    #[error(
        "the account's database {path} can't be opened: too many open files{}; raise the limit with `ulimit -n 4096` and \
         run the same command again",
        describe_descriptor_limit()
    )]
    TooManyOpenFiles {
        /// The database.
        path: PathBuf,
    },
    /// The file system supports no locks.
    #[error(
        "the file system of {home} has no locks ({source}), so that this account could go online twice: \
         use --home with a folder on a local disk"
    )]
    NoLocks {
        /// The profile's folder.
        home: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

const fn room_words(limit: RoomLimit) -> &'static str {
    match limit {
        RoomLimit::Disk => "the disk is full: free some space and try again",
        RoomLimit::Quota => "your disk quota is used up: remove some of your files there and try again",
    }
}

fn describe_descriptor_limit() -> String {
    open_files_limit().map(|limit| format!(" ({limit} at once)")).unwrap_or_default()
}

/// Returns the process in parentheses, if known.
fn process_suffix(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    single_quoted(&safe_path(path))
}

/// Describes a database error and the next step for the user.
fn describe_database_error(path: &Path, source: &rusqlite::Error) -> String {
    let mut outcome = "; nothing was changed";
    let advice = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it: end that one (a backup, a database browser?) and try again"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            // Damage may be found in the middle of a change.
            outcome = "";
            "it is damaged: put back a copy, or move it away to begin anew; the key is in a file of its own"
        }
        Some(ErrorCode::ReadOnly) if is_read_only_mount(path) => {
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
    format!("the account's database {} can't be used ({source}){outcome}: {advice}", safe_path(path))
}

impl ProfileError {
    /// Returns the error for a node whose process is stopped.
    pub(crate) fn node_stopped(pid: u32) -> Self {
        let lock_wait::LockHolder { pid, command, .. } = lock_wait::LockHolder::from_pid(pid);
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
    pub(crate) fn is_database_held(&self) -> bool {
        match self {
            Self::Database { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            }
            Self::DatabaseHeld { .. } | Self::NodeStopped { .. } => true,
            _ => false,
        }
    }

    /// Finds the reason why the database at `path` is held.
    fn from_held_database(path: PathBuf, source: rusqlite::Error) -> Self {
        // First: on a file system without locks SQLite reports every database as held.
        if let (Some(source), Some(home)) = (lock_wait::probe_lock_support(&path), path.parent()) {
            return Self::NoLocks { home: home.to_owned(), source };
        }
        match lock_wait::find_lock_holder(&path) {
            Some(lock_wait::LockHolder { pid, command, is_stopped: true }) => Self::NodeStopped { pid, command },
            Some(lock_wait::LockHolder { pid, command, .. }) => Self::DatabaseHeld { path, pid, command },
            None => Self::Database { path, source },
        }
    }

    /// Maps SQLite's error for the database at `path`.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, limit: RoomLimit::Disk },
            Some(ErrorCode::DatabaseBusy) => Self::from_held_database(path, source),
            // Before the disk: with no descriptor left SQLite reports the same codes.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_descriptor_limit_reached() => {
                Self::TooManyOpenFiles { path }
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
