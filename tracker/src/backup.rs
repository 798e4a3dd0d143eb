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

mod backup_archive;
mod restore;

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

pub use backup_archive::ArchiveError;
pub use restore::{RestoreError, RestoreReport, finish_interrupted, restore};

/// The account database's name in the data folder.
pub const ACCOUNT_DATABASE: &str = "tracker.db";
/// The name of the memory of who was present.
pub const PRESENCE_DATABASE: &str = "presence.db";
/// The folder of the tracker's key in the data folder.
pub const IDENTITY_FOLDER: &str = "identity";
/// The key's name in it.
pub const KEY_FILE: &str = "identity.pem";

/// How the folders of drafts of backups begin and end.
const DRAFT_AFFIXES: (&str, &str) = ("backup-", ".tmp");

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
pub fn create_backup(data_folder: &Path) -> Result<File, BackupError> {
    let drafts = tempfile::Builder::new().prefix(DRAFT_AFFIXES.0).suffix(DRAFT_AFFIXES.1).tempdir_in(data_folder)?;
    for name in [ACCOUNT_DATABASE, PRESENCE_DATABASE] {
        copy_database(&data_folder.join(name), &drafts.path().join(name))?;
    }
    let parts = [
        (ACCOUNT_DATABASE, drafts.path().join(ACCOUNT_DATABASE)),
        (KEY_FILE, data_folder.join(IDENTITY_FOLDER).join(KEY_FILE)),
        (PRESENCE_DATABASE, drafts.path().join(PRESENCE_DATABASE)),
    ];
    let file = tempfile::tempfile_in(drafts.path())?;
    backup_archive::pack(&parts, &file)?;
    drafts.close()?;
    Ok(file)
}

/// Removes what backups and restorations that were cut off left in the data folder, which must be locked.
///
/// # Errors
/// When the folder can't be read. What can't be removed harms nobody.
pub fn remove_leftovers(data_folder: &Path) -> io::Result<()> {
    for entry in data_folder.read_dir()? {
        let (entry, (begin, end)) = (entry?, DRAFT_AFFIXES);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == restore::DRAFT_FOLDER || (name.starts_with(begin) && name.ends_with(end)) {
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
