//! Database schema, its migrations, and the opening of the database.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior};
use shared::safe_text::safe_path;

use super::{ProfileError, lock_wait};
use crate::sys;

/// Entry N takes the schema from version N to N + 1; a released entry is never changed.
const MIGRATIONS: [&str; 10] = [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10];

const V1: &str = "
    CREATE TABLE setting (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE friend (
        user TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        verified INTEGER NOT NULL DEFAULT 0,
        addresses TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX friend_by_fingerprint ON friend (fingerprint);

    CREATE TABLE share (
        name TEXT PRIMARY KEY,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL
    ) STRICT;
    CREATE INDEX share_by_hash ON share (hash);
    CREATE INDEX share_by_path ON share (path);

    CREATE TABLE empty_folder (
        name TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE message (
        seq INTEGER PRIMARY KEY,
        peer TEXT NOT NULL,
        direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
        id TEXT NOT NULL,
        ts INTEGER NOT NULL,
        text TEXT NOT NULL,
        state TEXT NOT NULL,
        UNIQUE (peer, direction, id)
    ) STRICT;
";

/// Conversations with read markers, the outbox, the full-text index, offers, blocked users.
const V2: &str = r#"
    ALTER TABLE message ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN offer TEXT;
    UPDATE message SET at = ts;
    CREATE INDEX message_by_peer ON message (peer, seq);
    CREATE INDEX message_received ON message (peer, seq) WHERE direction = 'in';

    CREATE TABLE conversation (
        peer TEXT PRIMARY KEY,
        read_up_to INTEGER NOT NULL DEFAULT 0,
        unread INTEGER NOT NULL DEFAULT 0,
        unread_bytes INTEGER NOT NULL DEFAULT 0,
        frozen INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    -- What there is was shown when it came.
    INSERT INTO conversation (peer, read_up_to) SELECT peer, max(seq) FROM message GROUP BY peer;

    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY REFERENCES message (seq),
        peer TEXT NOT NULL,
        since INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outbox_by_peer ON outbox (peer, seq);
    INSERT INTO outbox (seq, peer, since) SELECT seq, peer, ts FROM message WHERE state = 'waiting';

    CREATE VIRTUAL TABLE message_words USING fts5 (
        text, content = 'message', content_rowid = 'seq', tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO message_words (rowid, text) SELECT seq, text FROM message;
    CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
        INSERT INTO message_words (rowid, text) VALUES (new.seq, new.text);
    END;

    CREATE TABLE blocked (
        user TEXT PRIMARY KEY,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE offer (
        peer TEXT NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL,
        PRIMARY KEY (peer, name)
    ) STRICT;
    CREATE INDEX offer_by_hash ON offer (hash);
"#;

/// Partial files that are shared while they are fetched; the change time as part of a file's version.
const V3: &str = "
    CREATE TABLE partial (
        part BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX partial_by_hash ON partial (hash);

    -- No file has this one: what was hashed before is hashed once more.
    ALTER TABLE share ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE offer ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
";

/// All folders of the shares with their times; those without files are marked as empty.
const V4: &str = "
    CREATE TABLE folder (
        name TEXT PRIMARY KEY,
        -- NULL: as long as it isn't shared again.
        mtime_ns INTEGER,
        empty INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO folder (name, empty) SELECT name, 1 FROM empty_folder;
    DROP TABLE empty_folder;
";

/// Runs of zero groups, which are neither read nor sent; an index to find moved files by their inode.
const V5: &str = "
    ALTER TABLE share ADD COLUMN zeros BLOB;
    ALTER TABLE offer ADD COLUMN zeros BLOB;
    CREATE INDEX share_by_inode ON share (inode);
";

/// The mark in the header that identifies a copy of the database under any name ([`APPLICATION_ID`]).
const V6: &str = "PRAGMA application_id = 1449753198;";

/// The bytes that V6 writes at offset 68 (<https://www.sqlite.org/fileformat2.html#application_id>): `Vizn`.
pub const APPLICATION_ID: [u8; 4] = 1_449_753_198_u32.to_be_bytes();

/// Trackers by their keys. The key of the account's tracker counts as confirmed, because the password went there; the
/// others were only seen.
const V7: &str = "
    CREATE TABLE tracker_key (
        fingerprint TEXT PRIMARY KEY,
        confirmed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tracker_address (
        address TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL REFERENCES tracker_key (fingerprint)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO tracker_key (fingerprint, confirmed)
        SELECT value, max(key = 'tracker_pin ' || coalesce((SELECT value FROM setting WHERE key = 'tracker'), ''))
        FROM setting WHERE key GLOB 'tracker_pin *' GROUP BY value;
    INSERT INTO tracker_address (address, fingerprint)
        SELECT substr(key, length('tracker_pin ') + 1), value FROM setting WHERE key GLOB 'tracker_pin *';
    DELETE FROM setting WHERE key GLOB 'tracker_pin *';
";

/// Message requests of strangers, and ids of forgotten messages.
const V8: &str = "
    ALTER TABLE conversation ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN request_count INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN request_bytes INTEGER NOT NULL DEFAULT 0;
    -- With whom there is a conversation, one goes on.
    UPDATE conversation SET accepted = 1;
    CREATE INDEX conversation_request ON conversation (peer, request_count, request_bytes) WHERE accepted = 0;

    -- One that is delivered again is not new.
    CREATE TABLE forgotten (
        peer TEXT NOT NULL,
        direction TEXT NOT NULL,
        id TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (peer, direction, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX forgotten_by_time ON forgotten (at);
";

/// Shares, folders and partial files by audience: `''` for everybody, `@USER` for one person (before: the offers), `#ID` for
/// a room.
const V9: &str = "
    CREATE TABLE share_by_audience (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL,
        ctime_ns INTEGER NOT NULL,
        zeros BLOB,
        PRIMARY KEY (audience, name)
    ) STRICT;
    INSERT INTO share_by_audience
        SELECT '', name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros FROM share;
    INSERT INTO share_by_audience
        SELECT '@' || peer, name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros FROM offer;
    DROP TABLE share;
    DROP TABLE offer;
    ALTER TABLE share_by_audience RENAME TO share;
    CREATE INDEX share_by_hash ON share (hash, audience);
    CREATE INDEX share_by_path ON share (path);
    CREATE INDEX share_by_inode ON share (inode);
    CREATE INDEX restricted_share_by_name ON share (name) WHERE audience <> '';

    CREATE TABLE folder_by_audience (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        -- NULL: as long as it isn't shared again.
        mtime_ns INTEGER,
        empty INTEGER NOT NULL,
        PRIMARY KEY (audience, name)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO folder_by_audience SELECT '', name, mtime_ns, empty FROM folder;
    DROP TABLE folder;
    ALTER TABLE folder_by_audience RENAME TO folder;

    ALTER TABLE partial ADD COLUMN audience TEXT NOT NULL DEFAULT '';
    CREATE INDEX partial_by_audience ON partial (audience);
";

/// Rooms. Their messages stand among all others, in conversations whose name begins with `#`. Numbers that others choose
/// are big-endian blobs, so that all 64 bits compare as they should.
const V10: &str = "
    CREATE TABLE room (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        tracker BLOB NOT NULL,
        joined INTEGER NOT NULL,
        others INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX room_by_name ON room (name);

    CREATE TABLE room_record (
        room INTEGER NOT NULL,
        position INTEGER NOT NULL,
        hash BLOB NOT NULL,
        signed BLOB NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (room, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE room_author (
        room INTEGER NOT NULL,
        author BLOB NOT NULL,
        key BLOB NOT NULL,
        floor BLOB NOT NULL,
        floor_contents BLOB NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (room, author)
    ) STRICT, WITHOUT ROWID;

    -- NULL for messages between two users, which are in the order of their arrival.
    ALTER TABLE message ADD COLUMN place BLOB;
    ALTER TABLE message ADD COLUMN void INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX message_by_place ON message (peer, place) WHERE place IS NOT NULL;

    CREATE TABLE room_message (
        seq INTEGER PRIMARY KEY REFERENCES message (seq),
        room INTEGER NOT NULL,
        hash BLOB NOT NULL,
        author BLOB NOT NULL,
        user TEXT NOT NULL,
        number BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        late INTEGER NOT NULL,
        -- The signed bytes before the text, which ends them; NULL: not kept for others.
        head BLOB,
        signature BLOB
    ) STRICT;
    CREATE UNIQUE INDEX room_message_by_hash ON room_message (room, hash);
    CREATE INDEX room_message_by_author ON room_message (room, author, number);
    CREATE TRIGGER room_message_added AFTER INSERT ON room_message BEGIN
        UPDATE room SET bytes = bytes + new.bytes WHERE number = new.room;
        UPDATE room_author SET bytes = bytes + new.bytes WHERE room = new.room AND author = new.author;
    END;
    CREATE TRIGGER room_message_removed AFTER DELETE ON room_message BEGIN
        UPDATE room SET bytes = bytes - old.bytes WHERE number = old.room;
        UPDATE room_author SET bytes = bytes - old.bytes WHERE room = old.room AND author = old.author;
    END;

    CREATE TABLE room_delivery (
        room INTEGER NOT NULL,
        author BLOB NOT NULL,
        member BLOB NOT NULL,
        number BLOB NOT NULL,
        PRIMARY KEY (room, author, member)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE conversation ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN read_place BLOB;
";

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
            let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
            let is_current = |connection: &Connection| schema_version(connection).is_ok_and(|found| found == known);
            connect_unchanging(path).ok().filter(is_current).ok_or(full)
        }
        opened => opened,
    }
}

fn open_with(path: &Path, journal: JournalMode) -> Result<Connection, ProfileError> {
    let broken = |source| ProfileError::from_sqlite(path, source);
    if !path.exists() {
        // SQLite would create it with the umask's mode, and messages must not be readable by others.
        let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map_err(|source| ProfileError::Io { path: path.to_owned(), source })?;
    }
    let mut connection = connect(path).map_err(broken)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = schema_version(&connection).map_err(broken)?;
    // A newer release may have changed the meaning of what this one would write.
    if found > known {
        return Err(ProfileError::TooNew { path: path.to_owned(), found, known });
    }
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
        migrate(&mut connection).map_err(broken)?;
    }
    Ok(connection)
}

/// Returns a connection, which can only read if the file system is mounted read-only.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    if sys::is_read_only_mount(path) && !has_log(path) {
        return connect_unchanging(path);
    }
    configure_connection(path, Connection::open_with_flags(path, usual_flags() | OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// A connection that reads and needs nothing else, neither locks nor files beside the database.
fn connect_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    // Without this word SQLite wants to write its notes beside it; with it, it would overlook a log.
    let uri = format!("file:{}?immutable=1", escape_uri_path(path));
    configure_connection(path, Connection::open_with_flags(uri, usual_flags() | OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn usual_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI
}

/// Returns whether something stands in the write-ahead log.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0)
}

fn configure_connection(path: &Path, connection: Connection) -> rusqlite::Result<Connection> {
    lock_wait::install_busy_handler(&connection, path)?;
    // The file may come from somebody else: its schema must not be able to run functions or corrupt the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Detects damaged pages when they are read, before the damage spreads.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Escapes a path for a URI.
fn escape_uri_path(path: &Path) -> String {
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

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_to(connection, MIGRATIONS.len())
}

fn migrate_to(connection: &mut Connection, to: usize) -> rusqlite::Result<()> {
    // Immediate: a read lock that is upgraded later fails at once, without the busy handler, when both
    // migrate.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated while this one waited for the lock.
    let from = usize::try_from(schema_version(&transaction)?).unwrap_or(0);
    for migration in MIGRATIONS.iter().take(to).skip(from) {
        transaction.execute_batch(migration)?;
    }
    // In the same transaction: a crash leaves the old version with the old tables.
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()
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
    fn a_profile_of_the_first_version_keeps_its_messages() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(V1).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO message (peer, direction, id, ts, text, state) VALUES
             ('bob', 'in', '00000000000000000000000000000001', 5, 'o orçamento', 'received'),
             ('bob', 'out', '00000000000000000000000000000002', 6, 'obrigada', 'stored'),
             ('bob', 'out', '00000000000000000000000000000003', 7, 'até logo', 'waiting');
             INSERT INTO empty_folder VALUES ('docs/empty')",
        )
        .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        assert_eq!(schema_version(&new).unwrap(), 10);
        let one = |query: &str| new.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(one("SELECT count(*) FROM message WHERE at = ts"), 3);
        assert_eq!(one("SELECT count(*) FROM folder WHERE name = 'docs/empty' AND empty AND mtime_ns IS NULL"), 1);
        assert_eq!(one("SELECT rowid FROM message_words WHERE message_words MATCH 'orcamento'"), 1);
        assert_eq!(one("SELECT seq FROM outbox WHERE peer = 'bob' AND since = 7"), 3);
        assert_eq!(one("SELECT read_up_to FROM conversation WHERE peer = 'bob' AND unread = 0"), 3);
        assert_eq!(one("SELECT accepted FROM conversation WHERE peer = 'bob'"), 1);
    }

    #[test]
    fn the_trackers_of_earlier_versions_are_kept_by_key() {
        let pins = "INSERT INTO setting VALUES
            ('tracker_pin 10.0.0.1:8000', 'aa'), ('tracker_pin tracker.lan:8000', 'aa'),
            ('tracker_pin 10.0.0.66:8000', 'bb'), ('bell', 'off');";
        let account = "INSERT INTO setting VALUES ('tracker', '10.0.0.1:8000'), ('user', 'alice');";
        // The tracker's setting stays after `peer logout`: the password went to that tracker all the same.
        let logged_out = "INSERT INTO setting VALUES ('tracker', '10.0.0.1:8000');";
        let elsewhere = "INSERT INTO setting VALUES ('tracker', '10.0.0.9:8000'), ('user', 'alice');";
        for (settings, confirmed) in [(account, 1), (logged_out, 1), (elsewhere, 0), ("", 0)] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("profile.db");
            let mut old = Connection::open(&path).unwrap();
            migrate_to(&mut old, 6).unwrap();
            old.execute_batch(pins).unwrap();
            old.execute_batch(settings).unwrap();
            drop(old);
            let new = open(&path).unwrap();
            let rows = |query: &str| {
                let mut query = new.prepare(query).unwrap();
                let rows =
                    query.query_map([], |row| Ok(format!("{} {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
                rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
            };
            let keys = rows("SELECT fingerprint, CAST(confirmed AS TEXT) FROM tracker_key ORDER BY 1");
            assert_eq!(keys, [format!("aa {confirmed}"), "bb 0".to_owned()], "{settings}");
            let addresses = rows("SELECT address, fingerprint FROM tracker_address ORDER BY 1");
            assert_eq!(addresses, ["10.0.0.1:8000 aa", "10.0.0.66:8000 bb", "tracker.lan:8000 aa"]);
            assert!(rows("SELECT key, value FROM setting WHERE key LIKE '%pin%'").is_empty());
        }
    }

    #[test]
    fn shares_and_offers_of_earlier_versions_get_their_audiences() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let mut old = Connection::open(&path).unwrap();
        migrate_to(&mut old, 8).unwrap();
        let file = "path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros";
        let values = "x'2f61', 3, 1, 2, 0, x'aa', x'bb', 4, NULL";
        old.execute_batch(&format!(
            "INSERT INTO share (name, {file}) VALUES ('a', {values}), ('b', {values});
             INSERT INTO offer (peer, name, {file}) VALUES ('bob', 'b', {values}), ('carol', 'c', {values});
             INSERT INTO folder VALUES ('docs', 5, 1);
             INSERT INTO partial (part, name, size, mtime, executable, hash) VALUES (x'2f62', 'd', 9, 8, 0, x'cc')"
        ))
        .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        let one = |query: &str| new.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
        let shares = "SELECT group_concat(audience || ' ' || name, ', ' ORDER BY audience, name) FROM share
                      WHERE path = x'2f61' AND size = 3 AND ctime_ns = 4 AND hash = x'aa' AND manifest = x'bb'";
        assert_eq!(one(shares), " a,  b, @bob b, @carol c");
        assert_eq!(one("SELECT name FROM folder WHERE audience = '' AND mtime_ns = 5 AND empty"), "docs");
        assert_eq!(one("SELECT name FROM partial WHERE audience = ''"), "d");
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
