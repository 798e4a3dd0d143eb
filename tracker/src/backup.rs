//! All that a tracker is, in one file: accounts, key, who is present.
//!
//! A backup is a tar archive, so that what is in it can be seen and taken out without a tracker:
//!
//! | entry | what |
//! |---|---|
//! | `manifest.json` | the format's number, and of every entry that follows its length and its BLAKE3 |
//! | `tracker.db` | the accounts, a whole SQLite database |
//! | `identity.pem` | the tracker's certificate and its secret key |
//! | `presence.db` | who is present, and the tokens of their sessions; a whole SQLite database |
//!
//! Whoever reads it can pose as this tracker, and try passwords at leisure: it is made with mode 0600.
//!
//! ```text
//! make:    databases ─ copied by SQLite ─► drafts ─► archive without a name ─► to the administrator
//! restore: archive ─ lengths, hashes, SQLite's checks, the key ─► restore.tmp ─ renamed ─► restore.ready
//!          ─ each old file out, each new one in ─► in place; what was there is in before-restore-N
//! ```
//!
//! From `restore.ready` on there is no way back: whoever opens the folder next finishes what a crash interrupted.

mod archive;
mod restore;

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

pub use archive::ArchiveError;
pub use restore::{RestoreError, Restored, finish_interrupted, restore};

/// The account database's name in the data folder.
pub const DATABASE: &str = "tracker.db";
/// The name of the memory of who was present.
pub const PRESENCE: &str = "presence.db";
/// The folder of the tracker's key in the data folder.
pub const IDENTITY: &str = "identity";
/// The key's name in it.
pub const KEY: &str = "identity.pem";

/// How the folders of drafts of backups begin and end.
const DRAFTS: (&str, &str) = ("backup-", ".tmp");

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system.
    #[error("the backup can't be made: {0}")]
    Io(#[from] io::Error),
    /// A database can't be copied.
    #[error("the backup can't be made: {0}")]
    Database(#[from] rusqlite::Error),
}

/// Makes a backup of the data folder, while its tracker runs or not. The file has no name: it is gone when it is
/// closed.
///
/// # Errors
/// [`BackupError`]; then nothing is left of it.
pub fn make(data_folder: &Path) -> Result<File, BackupError> {
    let drafts = tempfile::Builder::new().prefix(DRAFTS.0).suffix(DRAFTS.1).tempdir_in(data_folder)?;
    for name in [DATABASE, PRESENCE] {
        copy_database(&data_folder.join(name), &drafts.path().join(name))?;
    }
    let parts = [
        (DATABASE, drafts.path().join(DATABASE)),
        (KEY, data_folder.join(IDENTITY).join(KEY)),
        (PRESENCE, drafts.path().join(PRESENCE)),
    ];
    let file = tempfile::tempfile_in(drafts.path())?;
    archive::pack(&parts, &file)?;
    drafts.close()?;
    Ok(file)
}

/// Removes what backups and restorations that were cut off left in the data folder, which must be locked.
///
/// # Errors
/// When the folder can't be read. What can't be removed harms nobody.
pub fn sweep(data_folder: &Path) -> io::Result<()> {
    for entry in data_folder.read_dir()? {
        let (entry, (begin, end)) = (entry?, DRAFTS);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == restore::DRAFT || (name.starts_with(begin) && name.ends_with(end)) {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
    Ok(())
}

/// A whole copy as of one moment, whoever writes meanwhile.
fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let to = to.to_str().ok_or_else(|| io::Error::other("the data folder's path is not UTF-8"))?;
    let db = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.execute("VACUUM INTO ?1", [to])?;
    Ok(())
}

#[cfg(test)]
mod tests;
