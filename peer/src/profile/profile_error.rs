//! Errors of a profile, with messages that tell the user what to do.

mod profile_texts;

use std::path::{Path, PathBuf};

use certs::IdentityError;
use localization::tr;
use rusqlite::ErrorCode;
use shared::safe_text::safe_path;

use self::profile_texts::{
    describe_database_error, descriptor_limit_text, empty_database_text, exhausted_space_text, quoted,
    running_node_text,
};
use super::lock_wait;
use crate::sys::{SpaceLimit, exhausted_space, is_descriptor_limit_reached, plain_message};

/// The reason why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// An I/O error of the folder or a file in it.
    #[error("{}", tr!("can't use {path}: {source}", path = safe_path(.path), source = .source))]
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
    #[error("{}", exhausted_space_text(.path, *.limit))]
    DiskFull {
        /// The database.
        path: PathBuf,
        /// The limit that was reached.
        limit: SpaceLimit,
    },
    /// The database was made by a later release.
    #[error(
        "{}",
        tr!(
            "{path} was made by a newer version (schema {found}, this one knows {known}): use that version",
            path = safe_path(.path),
            found = .found,
            known = .known
        )
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: i64,
        /// The latest schema version of this release.
        known: i64,
    },
    /// A stored value is not one that any release writes.
    #[error(
        "{}",
        tr!(
            "the account's database {path} is damaged: {what}; put back a copy of it or move it away",
            path = safe_path(.path),
            what = .what
        )
    )]
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
    #[error("{}", empty_database_text(.path, .key.as_deref()))]
    EmptyDatabase {
        /// The database.
        path: PathBuf,
        /// The key beside it, if there is one.
        key: Option<PathBuf>,
    },
    /// There is a key without a database.
    #[error(
        "{}",
        tr!(
            "the account's database {path} is missing, but its key {key} is there: put back a copy of the \
             database, or begin anew with the same key: `peer login NAME`",
            path = safe_path(.path),
            key = safe_path(.key)
        )
    )]
    MissingDatabase {
        /// The database.
        path: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The open database is no longer the file at its path.
    #[error(
        "{}",
        tr!(
            "the account's database {path} was removed or replaced while it was used: put it back, or a copy of \
             it, and start again",
            path = safe_path(.path)
        )
    )]
    DatabaseLost {
        /// The database.
        path: PathBuf,
    },
    /// There is no profile in the folder, and none can be created.
    #[error(
        "{}",
        tr!(
            "can't keep an account in {home} ({why}): give another folder with --home DIR",
            home = safe_path(.home),
            why = plain_message(.source)
        )
    )]
    CannotCreate {
        /// The folder.
        home: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file system keeps no permissions, so that others could read the key.
    #[error(
        "{}",
        tr!(
            "{home} can't hold an account: its file system keeps no permissions (mode {mode}), so that others \
             on this machine could read the secret key; use --home with a folder on another disk, or mount this \
             one with umask=077",
            home = safe_path(.home),
            mode = format_args!("{:o}", .mode)
        )
    )]
    NoPermissions {
        /// The folder.
        home: PathBuf,
        /// The mode that a private folder has there.
        mode: u32,
    },
    /// The profile belongs to another user.
    #[error(
        "{}",
        tr!(
            "{path} belongs to another user ({owner}), who could run programs in your name by it: use --home \
             with a folder of your own, or make this one yours with `chown -R \"$(id -u)\" {quoted}`",
            path = safe_path(.path),
            owner = .owner,
            quoted = quoted(.path)
        )
    )]
    ForeignOwner {
        /// The folder, or the database.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Other users may write to the profile.
    #[error(
        "{}",
        tr!(
            "others on this machine may write to {path} (mode {mode}) and could run programs in your name by \
             it: if nobody did, run `chmod go-w {quoted}`",
            path = safe_path(.path),
            mode = format_args!("{:o}", .mode),
            quoted = quoted(.path)
        )
    )]
    WritableByOthers {
        /// The folder, or the database.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The profile was exported, and goes on elsewhere.
    #[error(
        "{}",
        tr!(
            "this profile moved away with {file}: it goes on where that was imported. If it never was, `peer \
             profile export --cancel` keeps it here",
            file = .file
        )
    )]
    MovedAway {
        /// The exported file.
        file: String,
    },
    /// A profile can't be imported where there is one.
    #[error("{}", tr!("there is a profile in {home} already: use --home with another folder", home = safe_path(.home)))]
    HasProfile {
        /// The folder.
        home: PathBuf,
    },
    /// The file is no exported profile.
    #[error("{}", tr!("{file} is no file of `peer profile export`", file = safe_path(.file)))]
    NotAnExport {
        /// The file.
        file: PathBuf,
    },
    /// Another node holds the profile.
    #[error("{}", running_node_text(*.pid))]
    NodeRuns {
        /// Its process id, if its lock file names it.
        pid: Option<u32>,
    },
    /// The process that holds the profile, most often a node, is stopped and can't answer until it continues.
    #[error(
        "{}",
        tr!(
            "{process} keeps this account and is stopped: continue it with `fg` in its terminal or `kill -CONT \
             {pid}`, or end it with `kill -KILL {pid}`",
            process = lock_wait::describe_process(*.pid, .command.as_deref()),
            pid = .pid
        )
    )]
    NodeStopped {
        /// Its process id.
        pid: u32,
        /// Its command line, if known.
        command: Option<String>,
    },
    /// Another process held the database for longer than the wait.
    #[error(
        "{}",
        tr!(
            "{process} holds the account's database {path}; nothing was changed: wait until it is done, or end \
             it with `kill {pid}`, and try again",
            process = lock_wait::describe_process(*.pid, .command.as_deref()),
            path = safe_path(.path),
            pid = .pid
        )
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
    #[error("{}", descriptor_limit_text(.path))]
    TooManyOpenFiles {
        /// The database.
        path: PathBuf,
    },
    /// The file system supports no locks.
    #[error(
        "{}",
        tr!(
            "the file system of {home} has no locks ({source}), so that this account could go online twice: use \
             --home with a folder on a local disk",
            home = safe_path(.home),
            source = .source
        )
    )]
    NoLocks {
        /// The profile's folder.
        home: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl ProfileError {
    /// Returns an error for a failed access to `path`.
    pub(crate) fn io_at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

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
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, limit: SpaceLimit::Disk },
            Some(ErrorCode::DatabaseBusy) => Self::from_held_database(path, source),
            // Before the disk: with no descriptor left SQLite reports the same codes.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_descriptor_limit_reached() => {
                Self::TooManyOpenFiles { path }
            }
            // What SQLite keeps in memory that it shares is a file as well, and fails in other words; so does every write for
            // want of quota. A connection that was opened to look can't write at all.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                match exhausted_space(&path) {
                    Some(limit) => Self::DiskFull { path, limit },
                    None => Self::Database { path, source },
                }
            }
            _ => Self::Database { path, source },
        }
    }
}
