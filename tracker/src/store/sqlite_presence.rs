//! The stored presences in a SQLite file of their own.
//!
//! Commits are not synced: a crash of the machine may cost the last moments. A damaged file is set aside and replaced by
//! an empty one, so that it never keeps the tracker from starting.
//!
//! A list of files is stored in its chunks, so that a small change writes little.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | one transaction | 512 users, or about 16 MiB of file lists | the next one follows at once |

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::{Connection, Row, Transaction, params};
use shared::UserName;
use shared::safe_text::safe_path;
use shared::tracker::{ListedPeer, SessionToken, SharedFile};
use tracing::warn;

use super::sqlite_file::{self, TOO_MANY_OPEN};
use super::{PresenceStoreError, unix_ms};
use crate::catalogue::FileList;
use crate::registry::{LoginTime, PresenceChange, RestoredPresence, StoredPresence};

/// The schema's version. A file of an unknown version is set aside.
const SCHEMA_VERSION: u32 = 3;
const SCHEMA: &str = "CREATE TABLE presence (
    user TEXT NOT NULL PRIMARY KEY,
    token BLOB NOT NULL CHECK (length(token) = 32),
    until_ms INTEGER NOT NULL,
    entry TEXT NOT NULL,
    login_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE list (
    user TEXT NOT NULL,
    digest BLOB NOT NULL,
    files TEXT NOT NULL,
    PRIMARY KEY (user, digest)
) STRICT;";
/// Version 1 had each list in one piece, in its user's row.
const MIGRATE_1_TO_2: &str = "CREATE TABLE list (
    user TEXT NOT NULL,
    digest BLOB NOT NULL,
    files TEXT NOT NULL,
    PRIMARY KEY (user, digest)
) STRICT;
INSERT INTO list SELECT user, x'', substr(files, 2, length(files) - 2) FROM presence WHERE files <> '[]';
ALTER TABLE presence DROP COLUMN files;";
/// Version 2 had no times of logins; those stored then count as logins at the time of the migration.
const MIGRATE_2_TO_3: &str = "ALTER TABLE presence ADD COLUMN login_ms INTEGER NOT NULL DEFAULT 0;
UPDATE presence SET login_ms = CAST(strftime('%s', 'now') AS INTEGER) * 1000;";

/// Users in one transaction.
const USERS_PER_TRANSACTION: usize = 512;
/// Bytes of lists after which a transaction ends.
const BYTES_PER_TRANSACTION: usize = 16 * 1024 * 1024;

/// The file. Clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct SqlitePresenceStore {
    db: Arc<Mutex<Connection>>,
}

impl SqlitePresenceStore {
    /// Opens or creates the file. A file that can't be used is set aside. Fails with [`PresenceStoreError`] when not
    /// even a new one can be created.
    pub(super) fn open(path: &Path) -> Result<Self, PresenceStoreError> {
        let db = open(path).or_else(|why| {
            // The file itself may be intact.
            if sqlite_file::is_out_of_descriptors() {
                return Err(PresenceStoreError(format!("{}: {TOO_MANY_OPEN}", safe_path(path))));
            }
            warn!(path = %safe_path(path), %why, "who was present is forgotten: the file is put aside");
            set_aside_damaged(path);
            open(path)
        });
        Ok(Self { db: Arc::new(Mutex::new(db?)) })
    }

    /// Calls `each` with every presence whose lease has not run out. Unreadable ones are left out. Fails with
    /// [`PresenceStoreError`] when the file can't be read at all.
    pub(super) fn load(
        &self,
        now: SystemTime,
        mut each: impl FnMut(RestoredPresence),
    ) -> Result<(), PresenceStoreError> {
        let db = self.db.lock();
        // By the wall clock: leases also run out while no tracker runs.
        db.execute("DELETE FROM presence WHERE until_ms <= ?1", [unix_ms(now)])?;
        db.execute("DELETE FROM list WHERE user NOT IN (SELECT user FROM presence)", [])?;
        // By login, so that the registry's order of logins is as it was.
        let mut query = db.prepare("SELECT user, token, until_ms, entry, login_ms FROM presence ORDER BY login_ms")?;
        let mut lists = db.prepare("SELECT files FROM list WHERE user = ?1")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let pieces = lists.query_map([row.get::<_, String>(0)?], |row| row.get::<_, String>(0))?;
            let revived =
                pieces.map(|piece| piece.map_err(PresenceStoreError::from).and_then(|text| parse_files(&text)));
            match revived.collect::<Result<Vec<_>, _>>().and_then(|pieces| restored_presence(row, pieces, now)) {
                Ok(revived) => each(revived),
                Err(why) => warn!(%why, "one who was present is forgotten"),
            }
        }
        Ok(())
    }

    /// Stores changes: first all presences, then their lists. After an error some of them may be stored.
    pub(super) fn store(&self, changes: &[PresenceChange], now: SystemTime) -> Result<(), PresenceStoreError> {
        let mut db = self.db.lock();
        // Presences first: they are small, and matter more than the lists if the process is killed in between.
        for some in changes.chunks(USERS_PER_TRANSACTION) {
            let batch = db.transaction()?;
            some.iter().try_for_each(|change| store_presence(&batch, change, now))?;
            batch.commit()?;
        }
        let (mut batch, mut bytes) = (db.transaction()?, 0);
        for PresenceChange { user, presence } in changes {
            let Some(files) = presence.as_ref().and_then(|presence| presence.files.as_ref()) else { continue };
            bytes += store_list(&batch, user, files)?;
            if bytes > BYTES_PER_TRANSACTION {
                batch.commit()?;
                (batch, bytes) = (db.transaction()?, 0);
            }
        }
        Ok(batch.commit()?)
    }
}

fn store_presence(batch: &Transaction<'_>, change: &PresenceChange, now: SystemTime) -> Result<(), PresenceStoreError> {
    let user = change.user.as_str();
    if let Some(StoredPresence { token, remaining, entry, at, .. }) = &change.presence {
        let (token, until, entry) = (token.as_bytes(), unix_ms(now + *remaining), text(entry)?);
        batch.prepare_cached("INSERT OR REPLACE INTO presence VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            user,
            token,
            until,
            entry,
            at.unix_ms()
        ])?;
    } else {
        batch.prepare_cached("DELETE FROM presence WHERE user = ?1")?.execute([user])?;
    }
    // `store_list` only sees lists with files: an empty one is removed here.
    let has_none = |presence: &StoredPresence| presence.files.as_ref().is_some_and(FileList::is_empty);
    if change.presence.as_ref().is_none_or(has_none) {
        batch.prepare_cached("DELETE FROM list WHERE user = ?1")?.execute([user])?;
    }
    Ok(())
}

/// Stores the chunks of a list that are not there yet and removes outdated ones. Returns the bytes written.
fn store_list(batch: &Transaction<'_>, user: &UserName, files: &FileList) -> Result<usize, PresenceStoreError> {
    let user = user.as_str();
    let mut known = batch.prepare_cached("SELECT digest FROM list WHERE user = ?1")?;
    let known = known.query_map([user], |row| row.get::<_, Vec<u8>>(0))?;
    let mut outdated: HashSet<Vec<u8>> = known.collect::<Result<_, _>>()?;
    let mut bytes = 0;
    for (digest, piece) in files.pieces() {
        // A chunk that is there stays, so a small change of a long list writes little.
        if !outdated.remove(digest.as_bytes().as_slice()) {
            bytes += piece.len();
            let mut insert = batch.prepare_cached("INSERT INTO list VALUES (?1, ?2, ?3)")?;
            insert.execute(params![user, digest.as_bytes(), text(&piece)?])?;
        }
    }
    for digest in outdated {
        batch.prepare_cached("DELETE FROM list WHERE user = ?1 AND digest = ?2")?.execute(params![user, digest])?;
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<Connection, PresenceStoreError> {
    let db = sqlite_file::open(path)?;
    // NORMAL doesn't sync each commit: a crash of the machine may cost the last ones, but never damages the file.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        // A first read finds a damaged file before the tracker relies on it.
        SCHEMA_VERSION => db.query_row("SELECT count(*) FROM presence", [], |row| row.get::<_, i64>(0)).map(drop)?,
        0 => run_schema_change(&db, SCHEMA)?,
        1 => run_schema_change(&db, &[MIGRATE_1_TO_2, MIGRATE_2_TO_3].concat())?,
        2 => run_schema_change(&db, MIGRATE_2_TO_3)?,
        other => {
            return Err(PresenceStoreError(format!("it has version {other}, this tracker knows {SCHEMA_VERSION}")));
        }
    }
    Ok(db)
}

fn run_schema_change(db: &Connection, statements: &str) -> Result<(), PresenceStoreError> {
    // One transaction: an interrupted migration is repeated at the next start.
    Ok(db.execute_batch(&format!("BEGIN; {statements} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"))?)
}

fn set_aside_damaged(path: &Path) {
    let damaged = sqlite_file::with_suffix(path, ".damaged");
    for suffix in sqlite_file::FILE_SUFFIXES {
        // A missing file needs no new name; one that can't be moved is reported by the next attempt to open it.
        let _ = std::fs::rename(sqlite_file::with_suffix(path, suffix), sqlite_file::with_suffix(&damaged, suffix));
    }
}

fn restored_presence(
    row: &Row<'_>,
    pieces: Vec<Vec<SharedFile>>,
    now: SystemTime,
) -> Result<RestoredPresence, PresenceStoreError> {
    let token = SessionToken::from_bytes(row.get(1)?);
    let until: i64 = row.get(2)?;
    let left = u64::try_from(until - unix_ms(now)).unwrap_or_default();
    let entry: ListedPeer = serde_json::from_str(&row.get::<_, String>(3)?).map_err(malformed)?;
    let (files, at) = (FileList::from_pieces(pieces), LoginTime::at_unix_ms(row.get(4)?));
    Ok(RestoredPresence { entry, files, token, remaining: Duration::from_millis(left), at })
}

fn parse_files(piece: &str) -> Result<Vec<SharedFile>, PresenceStoreError> {
    serde_json::from_str(&format!("[{piece}]")).map_err(malformed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn malformed(why: serde_json::Error) -> PresenceStoreError {
    PresenceStoreError(why.to_string())
}

fn text(bytes: &[u8]) -> Result<&str, PresenceStoreError> {
    std::str::from_utf8(bytes).map_err(|why| PresenceStoreError(why.to_string()))
}

impl From<rusqlite::Error> for PresenceStoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use shared::tracker::{FilesMode, HashText};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn list(names: impl IntoIterator<Item = usize>) -> FileList {
        let hash = HashText::new("h").unwrap();
        let file = |number| SharedFile { name: format!("{number:06}").parse().unwrap(), size: 1, hash: hash.clone() };
        FileList::from_list(names.into_iter().map(file).collect())
    }

    fn change(user: &str, files: Option<FileList>) -> PresenceChange {
        let entry =
            format!(r#"{{"user":"{user}","ip":"10.0.0.1","port":4000,"addresses":[],"fingerprint":null,"files":[]}}"#);
        let token = SessionToken::from_bytes([7; 32]);
        let at = LoginTime::at_unix_ms(1_700_000_000_123);
        let presence = Some(StoredPresence { token, remaining: MINUTE, entry: entry.into_bytes(), at, files });
        PresenceChange { user: user.parse().unwrap(), presence }
    }

    fn loaded(memory: &SqlitePresenceStore, now: SystemTime) -> Vec<RestoredPresence> {
        let mut all = Vec::new();
        memory.load(now, |revived| all.push(revived)).unwrap();
        all
    }

    fn rows(memory: &SqlitePresenceStore) -> i64 {
        memory.db.lock().query_row("SELECT count(*) FROM list", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_was_stored_comes_back_until_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.db");
        let now = SystemTime::now();
        {
            let memory = SqlitePresenceStore::open(&path).unwrap();
            memory.store(&[change("alice", Some(list(0..1))), change("bob", Some(list(0..2)))], now).unwrap();
            memory.store(&[PresenceChange { user: "bob".parse().unwrap(), presence: None }], now).unwrap();
            memory.store(&[change("alice", None)], now + MINUTE).unwrap();
        }
        let memory = SqlitePresenceStore::open(&path).unwrap();
        let revived = loaded(&memory, now + MINUTE);
        assert_eq!(revived.len(), 1);
        assert_eq!((revived[0].entry.user.as_str(), revived[0].files.len()), ("alice", 1));
        assert_eq!(revived[0].token, SessionToken::from_bytes([7; 32]));
        assert!(revived[0].remaining.abs_diff(MINUTE) < Duration::from_millis(2));
        assert!(loaded(&memory, now + MINUTE * 2).is_empty());
        assert_eq!(rows(&memory), 0);
    }

    #[test]
    fn a_small_change_of_a_long_list_writes_little() {
        let folder = tempfile::tempdir().unwrap();
        let memory = SqlitePresenceStore::open(&folder.path().join("presence.db")).unwrap();
        let (now, before) = (SystemTime::now(), list(0..50_000));
        memory.store(&[change("alice", Some(before.clone()))], now).unwrap();
        let written = |files: &FileList| {
            let db = memory.db.lock();
            let changes = db.total_changes();
            drop(db);
            memory.store(&[change("alice", Some(files.clone()))], now).unwrap();
            memory.db.lock().total_changes() - changes
        };
        assert!(rows(&memory) > 50);
        let one_more = before.with_changes(FilesMode::Add, &list([500_000])).unwrap().unwrap();
        let fewer = one_more.with_changes(FilesMode::Remove, &list([25_000, 49_000])).unwrap().unwrap();
        for files in [&one_more, &fewer] {
            // The rows of the presence, of the old chunks and of the new ones.
            assert!(written(files) <= 7);
            let revived = loaded(&memory, now);
            assert_eq!(
                revived[0].files.with_changes(FilesMode::Replace, files).unwrap().map(|files| files.len()),
                None
            );
            assert_eq!(written(&revived[0].files), 1, "it is the same pieces again");
        }
        written(&FileList::default());
        assert_eq!(rows(&memory), 0);
    }

    #[test]
    fn what_version_1_stored_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            r#"CREATE TABLE presence (
                user TEXT NOT NULL PRIMARY KEY,
                token BLOB NOT NULL CHECK (length(token) = 32),
                until_ms INTEGER NOT NULL,
                entry TEXT NOT NULL,
                files TEXT NOT NULL
            ) STRICT;
            INSERT INTO presence VALUES ('bob', zeroblob(32), 9000000000000,
                '{"user":"bob","ip":"10.0.0.1","port":4000,"addresses":[],"fingerprint":null,"files":[]}',
                '[{"name":"á","size":1,"hash":"h"},{"name":"b","size":2,"hash":""}]');
            INSERT INTO presence VALUES ('carol', zeroblob(32), 9000000000000,
                '{"user":"carol","ip":"10.0.0.1","port":4000,"addresses":[],"fingerprint":null,"files":[]}', '[]');
            PRAGMA user_version = 1;"#,
        )
        .unwrap();
        drop(db);
        for _ in 0..2 {
            let memory = SqlitePresenceStore::open(&path).unwrap();
            let mut revived = loaded(&memory, SystemTime::now());
            revived.sort_by_key(|one| one.entry.user.clone());
            let counts: Vec<_> = revived.iter().map(|one| (one.entry.user.as_str(), one.files.len())).collect();
            assert_eq!(counts, [("bob", 2), ("carol", 0)]);
            memory.store(&[change("bob", Some(revived[0].files.clone()))], SystemTime::now()).unwrap();
            assert_eq!(rows(&memory), 1);
        }
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.db");
        std::fs::File::create(&path).and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 8192])).unwrap();
        let memory = SqlitePresenceStore::open(&path).unwrap();
        assert!(loaded(&memory, SystemTime::now()).is_empty());
        memory.store(&[change("alice", Some(FileList::default()))], SystemTime::now()).unwrap();
        assert!(folder.path().join("presence.db.damaged").exists());
    }

    #[test]
    fn what_can_t_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let memory = SqlitePresenceStore::open(&folder.path().join("presence.db")).unwrap();
        let now = SystemTime::now();
        memory.store(&[change("alice", Some(list(0..1))), change("bob", Some(list(0..1)))], now).unwrap();
        memory.db.lock().execute("UPDATE list SET files = '{' WHERE user = 'alice'", []).unwrap();
        assert_eq!(loaded(&memory, now).len(), 1);
    }
}
