//! Who was present when the process ended, kept in a SQLite file of its own and written behind.
//!
//! ```text
//! registry ─ marks users that changed ─► every second: one transaction ─► presence.db
//! start    ◄─ whose lease has not run out and whose account is as it was ◄─┘
//! ```
//!
//! It is a convenience, not a promise: accounts and bindings are in [`crate::accounts`], synced at every commit. Here a
//! crash of the machine may cost the last moments, a kill of the process at most two seconds, and a damaged file is
//! put aside and begun anew, so that it never keeps the tracker from starting.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | changes not stored | one mark a user | |
//! | one transaction | 512 users or about 16 MiB of file lists | the next one follows at once |
//! | a disk that takes nothing | | logged once; tried again each second; nobody is refused anything |

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, params};
use shared::tracker::{PeerEntry, SharedFile, Token};
use tracing::warn;

use crate::registry::{Change, Remembered, Revived};

/// The schema's version; another one's contents are not worth keeping.
const VERSION: u32 = 1;
const SCHEMA: &str = "CREATE TABLE presence (
    user TEXT NOT NULL PRIMARY KEY,
    token BLOB NOT NULL CHECK (length(token) = 32),
    until_ms INTEGER NOT NULL,
    entry TEXT NOT NULL,
    files TEXT NOT NULL
) STRICT";

/// The file.
#[derive(Debug, Clone)]
pub struct Memory {
    db: Arc<Mutex<Connection>>,
}

/// Why it was not stored; then nothing of it was.
#[derive(Debug, thiserror::Error)]
#[error("who is present can't be stored: {0}")]
pub struct MemoryError(String);

impl Memory {
    /// Opens the file, or begins a new one. A file that can't be used is put aside.
    ///
    /// # Errors
    /// When not even a new one can be made.
    pub fn open(path: &Path) -> Result<Self, MemoryError> {
        let db = open(path).or_else(|why| {
            warn!(path = %path.display(), %why, "who was present is forgotten: the file is put aside");
            put_aside(path);
            open(path)
        });
        Ok(Self { db: Arc::new(Mutex::new(db?)) })
    }

    /// Those whose lease has not run out. What can't be read is left out.
    ///
    /// # Errors
    /// [`MemoryError`] when the file can't be read at all.
    pub fn load(&self, now: SystemTime) -> Result<Vec<Revived>, MemoryError> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        db.execute("DELETE FROM presence WHERE until_ms <= ?1", [unix_ms(now)])?;
        let mut query = db.prepare("SELECT token, until_ms, entry, files FROM presence")?;
        let rows = query.query_map([], |row| Ok(revived(row, now)))?;
        let mut all = Vec::new();
        for row in rows {
            match row? {
                Ok(revived) => all.push(revived),
                Err(why) => warn!(%why, "one who was present is forgotten"),
            }
        }
        Ok(all)
    }

    /// Stores all of these or nothing.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn store(&self, changes: &[Change], now: SystemTime) -> Result<(), MemoryError> {
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = db.transaction()?;
        for Change { user, presence } in changes {
            let user = user.as_str();
            let Some(Remembered { token, remaining, entry, files }) = presence else {
                batch.prepare_cached("DELETE FROM presence WHERE user = ?1")?.execute([user])?;
                continue;
            };
            let (token, until, entry) = (token.as_bytes(), unix_ms(now + *remaining), text(entry)?);
            match files {
                Some(files) => batch
                    .prepare_cached("INSERT OR REPLACE INTO presence VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![user, token, until, entry, text(files)?])?,
                None => batch
                    .prepare_cached("UPDATE presence SET token = ?2, until_ms = ?3, entry = ?4 WHERE user = ?1")?
                    .execute(params![user, token, until, entry])?,
            };
        }
        batch.commit()?;
        Ok(())
    }
}

fn open(path: &Path) -> Result<Connection, MemoryError> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => db.query_row("SELECT count(*) FROM presence", [], |row| row.get::<_, i64>(0)).map(drop)?,
        0 => {
            db.execute_batch(SCHEMA)?;
            db.pragma_update(None, "user_version", VERSION)?;
        }
        other => return Err(MemoryError(format!("it has version {other}, this tracker knows {VERSION}"))),
    }
    Ok(db)
}

fn put_aside(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let with = |more: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(more);
            PathBuf::from(name)
        };
        // What isn't there needs no new name, and what can't be moved is told by the next attempt to open it.
        let _ = std::fs::rename(with(ending), with(&format!(".damaged{ending}")));
    }
}

fn revived(row: &Row<'_>, now: SystemTime) -> Result<Revived, MemoryError> {
    let token = Token::from_bytes(row.get(0)?);
    let until: i64 = row.get(1)?;
    let left = u64::try_from(until - unix_ms(now)).unwrap_or_default();
    let malformed = |why: serde_json::Error| MemoryError(why.to_string());
    let mut entry: PeerEntry = serde_json::from_str(&row.get::<_, String>(2)?).map_err(malformed)?;
    entry.files = serde_json::from_str::<Vec<SharedFile>>(&row.get::<_, String>(3)?).map_err(malformed)?;
    Ok(Revived { entry, token, remaining: Duration::from_millis(left) })
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn text(bytes: &[u8]) -> Result<&str, MemoryError> {
    std::str::from_utf8(bytes).map_err(|why| MemoryError(why.to_string()))
}

impl From<rusqlite::Error> for MemoryError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn change(user: &str, files: Option<&[u8]>) -> Change {
        let entry =
            format!(r#"{{"user":"{user}","ip":"10.0.0.1","port":4000,"addresses":[],"fingerprint":null,"files":[]}}"#);
        let presence = Some(Remembered {
            token: Token::from_bytes([7; 32]),
            remaining: MINUTE,
            entry: entry.into_bytes(),
            files: files.map(bytes::Bytes::copy_from_slice),
        });
        Change { user: user.parse().unwrap(), presence }
    }

    #[test]
    fn what_was_stored_comes_back_until_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.db");
        let now = SystemTime::now();
        let files: &[u8] = br#"[{"name":"a","size":1,"hash":"h"}]"#;
        {
            let memory = Memory::open(&path).unwrap();
            memory.store(&[change("alice", Some(files)), change("bob", Some(b"[]"))], now).unwrap();
            memory.store(&[Change { user: "bob".parse().unwrap(), presence: None }], now).unwrap();
            memory.store(&[change("alice", None)], now + MINUTE).unwrap();
        }
        let memory = Memory::open(&path).unwrap();
        let revived = memory.load(now + MINUTE).unwrap();
        assert_eq!(revived.len(), 1);
        assert_eq!((revived[0].entry.user.as_str(), revived[0].entry.files.len()), ("alice", 1));
        assert_eq!(revived[0].token, Token::from_bytes([7; 32]));
        assert!(revived[0].remaining.abs_diff(MINUTE) < Duration::from_millis(2));
        assert!(memory.load(now + MINUTE * 2).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.db");
        std::fs::File::create(&path).and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 8192])).unwrap();
        let memory = Memory::open(&path).unwrap();
        assert!(memory.load(SystemTime::now()).unwrap().is_empty());
        memory.store(&[change("alice", Some(b"[]"))], SystemTime::now()).unwrap();
        assert!(folder.path().join("presence.db.damaged").exists());
    }

    #[test]
    fn what_can_t_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(&folder.path().join("presence.db")).unwrap();
        let now = SystemTime::now();
        memory.store(&[change("alice", Some(b"[{]")), change("bob", Some(b"[]"))], now).unwrap();
        assert_eq!(memory.load(now).unwrap().len(), 1);
    }
}
