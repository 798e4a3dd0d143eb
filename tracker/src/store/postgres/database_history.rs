//! The server's history: which primary is the one to ask after a standby was promoted.
//!
//! A promotion begins a timeline with a higher number (PostgreSQL, "Continuous Archiving": *Timelines*). A former primary
//! that comes back still takes changes, which nobody else would ever see. So a process that has seen a timeline opens no
//! session with a server on a lower one, not even after a restart: a file in the data folder remembers it.
//!
//! A standby may be promoted without the last transactions. Which of them the trackers had read nobody can tell, so a new
//! timeline is a new *epoch* of the log: its first entry names the last one of the epoch before that the server has, and
//! the numbers of entries and events go on [`EPOCH_GAP`] higher. A tracker that had read more begins anew, and no
//! number is given twice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tracing::{info, warn};

use super::store_connect_error::StoreConnectError;

/// The numbers that a new epoch leaves out: more than a lost tail can have had.
pub(super) const EPOCH_GAP: i64 = 1 << 20;

/// The history that a server continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatabaseHistory {
    /// The number that a primary and its standbys have in common.
    pub(super) system: i64,
    /// Grows with each promotion.
    pub(super) timeline: i32,
}

impl DatabaseHistory {
    /// Asks the primary of a session.
    pub(super) async fn of(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let select = "SELECT system_identifier,
                ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int4
            FROM pg_control_system()";
        let row = client.query_one(select, &[]).await?;
        Ok(Self { system: row.get(0), timeline: row.get(1) })
    }
}

/// The newest history that this process has seen.
#[derive(Debug)]
pub(super) struct NewestHistory {
    seen: Mutex<SeenHistory>,
    file: Option<PathBuf>,
}

#[derive(Debug)]
enum SeenHistory {
    /// By an earlier process, or not at all.
    Earlier(Option<DatabaseHistory>),
    Now(DatabaseHistory),
}

impl NewestHistory {
    /// Reads what an earlier process remembered. Fails with [`StoreConnectError::HistoryFile`].
    pub(super) fn open(file: Option<&Path>) -> Result<Self, StoreConnectError> {
        let earlier = match file.map(|path| (path, fs::read(path))) {
            None => None,
            Some((_, Err(why))) if why.kind() == io::ErrorKind::NotFound => None,
            Some((path, Err(why))) => return Err(StoreConnectError::HistoryFile { path: path.to_owned(), why }),
            // One that can't be read is written anew.
            Some((_, Ok(text))) => serde_json::from_slice(&text).ok(),
        };
        Ok(Self { seen: Mutex::new(SeenHistory::Earlier(earlier)), file: file.map(Path::to_owned) })
    }

    /// Takes note of a primary's history. Fails with [`StoreConnectError`] for that of a former primary, and of a server
    /// that has nothing to do with the one before.
    pub(super) fn admit(&self, found: DatabaseHistory) -> Result<(), StoreConnectError> {
        let mut seen = self.seen.lock();
        match *seen {
            SeenHistory::Now(known) if known == found => return Ok(()),
            SeenHistory::Now(known) | SeenHistory::Earlier(Some(known))
                if known.system == found.system && known.timeline > found.timeline =>
            {
                return Err(StoreConnectError::FormerPrimary { found: found.timeline, known: known.timeline });
            }
            SeenHistory::Now(known) if known.system != found.system => return Err(StoreConnectError::OtherServer),
            SeenHistory::Now(_) => info!(timeline = found.timeline, "another server is the primary"),
            SeenHistory::Earlier(Some(known)) if known.system != found.system => {
                info!("the database is on another server than at the last start");
            }
            SeenHistory::Earlier(_) => {}
        }
        *seen = SeenHistory::Now(found);
        if let Some(file) = &self.file
            && let Err(why) = write(file, found)
        {
            warn!(%why, "the database's history can't be remembered: after a restart a former primary might be taken");
        }
        Ok(())
    }

    /// True if no newer history was seen.
    pub(super) fn is_newest(&self, history: DatabaseHistory) -> bool {
        matches!(*self.seen.lock(), SeenHistory::Now(known) if known == history)
    }
}

fn write(file: &Path, history: DatabaseHistory) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    // A crash must leave either file whole: without one a former primary might be taken.
    let mut text = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut text, &history)?;
    text.as_file().sync_all()?;
    text.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_primary_is_refused_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        let at = |system, timeline| DatabaseHistory { system, timeline };
        let former = |result| matches!(result, Err(StoreConnectError::FormerPrimary { .. }));
        let newest = NewestHistory::open(Some(&file)).unwrap();
        newest.admit(at(7, 1)).unwrap();
        assert!(newest.is_newest(at(7, 1)));
        newest.admit(at(7, 2)).unwrap();
        assert!(!newest.is_newest(at(7, 1)) && newest.is_newest(at(7, 2)));
        assert!(former(newest.admit(at(7, 1))));
        assert!(matches!(newest.admit(at(8, 5)), Err(StoreConnectError::OtherServer)));
        let after_restart = NewestHistory::open(Some(&file)).unwrap();
        assert!(former(after_restart.admit(at(7, 1))));
        assert!(!after_restart.is_newest(at(7, 2)));
        after_restart.admit(at(7, 3)).unwrap();
        // A database that was moved has another server's number.
        let moved = NewestHistory::open(Some(&file)).unwrap();
        moved.admit(at(8, 1)).unwrap();
        assert!(NewestHistory::open(Some(&file)).unwrap().admit(at(8, 1)).is_ok());
    }
}
