//! Opening of the database: journal, safety settings, migration.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};
use shared::safe_text::safe_path;

use super::ProfileError;
use super::lock_wait::{self, DatabaseUse};
use super::schema::{SCHEMA_VERSION, migrate, schema_version};
use crate::sys;

/// The journal that protects writes against a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JournalMode {
    /// A write-ahead log: readers never wait for writers, but processes need shared memory.
    WriteAhead,
    /// A rollback journal, for file systems without shared memory, such as FUSE and network ones.
    Rollback,
}

/// Opens the database, and creates or migrates it.
pub(super) fn open(path: &Path) -> Result<Connection, ProfileError> {
    let _used = DatabaseUse::begin(path.into());
    match open_with(path, JournalMode::WriteAhead) {
        // A database that was copied from another disk may also be in WAL mode already.
        Err(ProfileError::Database { source, .. }) if has_no_shared_memory(&source) => {
            tracing::debug!("the file system of {} takes no write-ahead log", safe_path(path));
            disable_wal(path).map_err(|source| ProfileError::from_sqlite(path, source))?;
            open_with(path, JournalMode::Rollback)
        }
        opened => opened,
    }
}

/// Opens the database to look at it; where there is no room for the files that SQLite wants beside it, as it is on the disk.
///
/// Such a connection never learns of later changes: it is for commands that end soon.
pub(super) fn open_to_look(path: &Path) -> Result<Connection, ProfileError> {
    match open(path) {
        // What is in a log that nobody can read is not to be overlooked.
        Err(full @ ProfileError::DiskFull { .. }) if !has_log(path) => {
            let is_current =
                |connection: &Connection| schema_version(connection).is_ok_and(|found| found == SCHEMA_VERSION);
            connect_unchanging(path).ok().filter(is_current).ok_or(full)
        }
        opened => opened,
    }
}

fn open_with(path: &Path, journal: JournalMode) -> Result<Connection, ProfileError> {
    let broken = |source| ProfileError::from_sqlite(path, source);
    if !path.exists() {
        // SQLite would create it with the umask's mode, and messages must not be readable by others.
        // Not `create_new`: another process may be creating the same profile.
        let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map_err(ProfileError::io_at(path))?;
    }
    let mut connection = connect(path).map_err(broken)?;
    let (found, known) = (schema_version(&connection).map_err(broken)?, SCHEMA_VERSION);
    // A newer release may have changed the meaning of what this one would write.
    let check_known = |found| match found {
        found if found > known => Err(ProfileError::TooNew { path: path.to_owned(), found, known }),
        _ => Ok(()),
    };
    check_known(found)?;
    // A current schema can be read as it is; an older one would need a migration.
    if connection.is_readonly(MAIN_DB).map_err(broken)? {
        return match found {
            found if found == known => Ok(connection),
            _ => Err(ProfileError::from_sqlite(path, read_only_error())),
        };
    }
    // An existing database keeps its journal: another mode means that it is, or was, on a disk without shared
    // memory. Trying to switch again would fail every other process that reads at that moment.
    if found == 0 {
        // Lets deleted pages be returned bit by bit; it has no effect after the first table is created.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(broken)?;
    }
    if found == 0 && journal == JournalMode::WriteAhead {
        enable_wal(&connection).map_err(broken)?;
    }
    // In WAL mode NORMAL may lose the last commits at a power loss, and stored messages were acked already.
    connection.pragma_update(None, "synchronous", "FULL").map_err(broken)?;
    if found < known {
        check_known(migrate(&mut connection).map_err(broken)?)?;
    }
    Ok(connection)
}

/// Returns a connection, which can only read if the file system is mounted read-only.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    if sys::is_read_only_mount(path) && !has_log(path) {
        return connect_unchanging(path);
    }
    configure_connection(Connection::open_with_flags(path, usual_flags() | OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// A connection that reads and needs nothing else, neither locks nor files beside the database.
fn connect_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    // Without this word SQLite wants to write its notes beside it; with it, it would overlook a log.
    let uri = format!("file:{}?immutable=1", escape_uri_path(path));
    configure_connection(Connection::open_with_flags(uri, usual_flags() | OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn usual_flags() -> OpenFlags {
    // A connection is never used by two threads at once, so SQLite's own mutex would guard nothing.
    OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI
}

/// Returns whether something stands in the write-ahead log.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0)
}

fn configure_connection(connection: Connection) -> rusqlite::Result<Connection> {
    lock_wait::install_busy_handler(&connection)?;
    // The file may come from somebody else: its schema must not be able to run functions or corrupt the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Detects damaged pages when they are read, before the damage spreads.
    connection.pragma_update(None, "cell_size_check", true)?;
    // rusqlite keeps 16; a node goes round more than those, and every miss parses SQL anew.
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Escapes a path for a URI.
fn escape_uri_path(path: &Path) -> String {
    // `?`, `#` and `%` would begin parameters, a fragment or an escape (sqlite.org/uri.html).
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    let escaped = |byte: &u8| {
        if is_plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }
    };
    path.as_os_str().as_bytes().iter().map(escaped).collect()
}

fn read_only_error() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY), None)
}

/// Switches to a write-ahead log. SQLite calls no busy handler if another process switches at the same moment.
fn enable_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut steps = 0;
    loop {
        // The switch alone doesn't map the shared memory: read something to find out whether it works.
        match connection.pragma_update(None, "journal_mode", "WAL").and_then(|()| schema_version(connection)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && lock_wait::wait_step(steps) => {
                steps += 1;
            }
            switched => return switched.map(|_| ()),
        }
    }
}

/// Switches to a rollback journal, over a new connection: one that failed to map shared memory never tries anything
/// else.
fn disable_wal(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    // With an exclusive lock, SQLite keeps the log's index in its own memory.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "DELETE")
}

/// True if the file system can't share memory between processes.
fn has_no_shared_memory(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE};
    let none = [SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE];
    error.sqlite_error().is_some_and(|error| none.contains(&error.extended_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_not_trusted() {
        let home = tempfile::tempdir().unwrap();
        let connection = open(&home.path().join("profile.db")).unwrap();
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert_eq!(connection.pragma_query_value(None, "trusted_schema", |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(open(&path), Err(ProfileError::TooNew { found: 99, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn rubbish_is_an_error_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let rubbish = b"this is not a database, it is a letter to my aunt".repeat(20);
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &rubbish).unwrap();
        assert!(matches!(open(&path), Err(ProfileError::Database { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), rubbish);
    }

    #[test]
    fn two_processes_make_it_at_the_same_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| open(&path).unwrap());
            }
        });
    }
}
