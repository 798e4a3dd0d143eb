//! Backups: a tracker's accounts, rooms, key and presences in one file.
//!
//! A backup is a tar archive, so that it can be inspected and unpacked without a tracker:
//!
//! | entry | content |
//! |---|---|
//! | `manifest.json` | the format's number, and the length and BLAKE3 hash of every following entry |
//! | `tracker.db` | the accounts and rooms, a complete SQLite database, wherever the tracker keeps them |
//! | `identity.pem` | the tracker's certificate and its secret key |
//! | `presence.db` | the present users, and the tokens of their sessions; a complete SQLite database |
//!
//! Whoever reads it can pose as this tracker and guess passwords offline: it is made with mode 0600.
//!
//! ```text
//! create:  databases ─ copied by SQLite ─► drafts ─► archive without a name ─► to the administrator
//! restore: archive ─ lengths, hashes, SQLite's checks, the key ─► restore.tmp ─ renamed ─► restore.ready
//!          ─ each old file out, each new one in ─► in place; the previous files are in before-restore-N
//! ```
//!
//! From `restore.ready` on, the restoration can only go forward: the next process finishes an interrupted one.

mod backup_archive;
mod restore;

use std::fs::File;
use std::io;
use std::path::Path;

use localization::tr;
use rusqlite::{Connection, OpenFlags};

use crate::store::StoreCopyError;

pub use backup_archive::ArchiveError;
pub use restore::{RestoreError, RestoreReport, finish_interrupted, restore};

/// The account database's name in the data folder.
pub const ACCOUNT_DATABASE: &str = "tracker.db";
/// The presence database's name in the data folder.
pub const PRESENCE_DATABASE: &str = "presence.db";
/// The key's folder in the data folder.
pub const IDENTITY_FOLDER: &str = "identity";
/// The key's name in its folder.
pub const KEY_FILE: &str = "identity.pem";

/// The prefix and suffix of folders with drafts of backups.
const DRAFT_AFFIXES: (&str, &str) = ("backup-", ".tmp");

/// The reason why a backup can't be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum BackupError {
    #[error("{}", tr!("the backup can't be made: {why}", why = .0))]
    Io(#[from] io::Error),
    #[error("{}", tr!("the backup can't be made: {why}", why = .0))]
    Database(#[from] rusqlite::Error),
    #[error("{}", tr!("the backup can't be made: {why}", why = .0))]
    Accounts(#[from] StoreCopyError),
}

/// Makes a backup of the data folder, whether its tracker runs or not. `copy_accounts` writes a copy of the accounts to a
/// path if they are not in the folder, and returns whether it did. The file has no name and disappears when it is closed.
/// Fails with [`BackupError`]; then no file is left behind.
pub fn create_backup(
    data_folder: &Path,
    copy_accounts: impl FnOnce(&Path) -> Result<bool, StoreCopyError>,
) -> Result<File, BackupError> {
    let drafts = tempfile::Builder::new().prefix(DRAFT_AFFIXES.0).suffix(DRAFT_AFFIXES.1).tempdir_in(data_folder)?;
    let is_copied = copy_accounts(&drafts.path().join(ACCOUNT_DATABASE))?;
    let in_folder = if is_copied { &[PRESENCE_DATABASE][..] } else { &[ACCOUNT_DATABASE, PRESENCE_DATABASE] };
    for name in in_folder {
        copy_database(&data_folder.join(name), &drafts.path().join(name))?;
    }
    let parts = [
        (ACCOUNT_DATABASE, drafts.path().join(ACCOUNT_DATABASE)),
        (KEY_FILE, data_folder.join(IDENTITY_FOLDER).join(KEY_FILE)),
        (PRESENCE_DATABASE, drafts.path().join(PRESENCE_DATABASE)),
    ];
    // Without a name: a crash leaves no file with the secret key behind.
    let file = tempfile::tempfile_in(drafts.path())?;
    backup_archive::pack(&parts, &file)?;
    // By hand: a drop would not tell that copies of the databases stay behind.
    drafts.close()?;
    Ok(file)
}

/// Removes the remains of interrupted backups and restorations from the data folder, which must be locked. Fails with
/// the system's error when the folder can't be read. Remains that can't be removed are harmless.
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

/// Copies a database as of one moment, even while others write to it.
fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let db = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    vacuum_into(&db, to)
}

/// Writes a connection's database to a new file.
fn vacuum_into(db: &Connection, to: &Path) -> Result<(), BackupError> {
    // It becomes a parameter of the statement, which is text.
    let to = to.to_str().ok_or_else(|| io::Error::other("the data folder's path is not UTF-8"))?;
    // `VACUUM INTO` reads in one transaction and includes the write-ahead log, which copying the file would miss.
    db.execute("VACUUM INTO ?1", [to])?;
    Ok(())
}

#[cfg(test)]
mod tests;
