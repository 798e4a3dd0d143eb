//! The data folder: private, and used by one tracker at a time.
//!
//! Everything specific to Unix (modes, the superuser) is in this module.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use localization::tr;
use shared::safe_text::safe_path;
use tracing::{info, warn};

use super::CommandError;
use crate::backup::{self, ACCOUNT_DATABASE, IDENTITY_FOLDER, KEY_FILE, PRESENCE_DATABASE};
use crate::folder_lock::{FolderLock, LockError, private_file};
use crate::store::sqlite_file;
use crate::store::{AccountDatabaseError, SqliteAccountStore};

/// The reason why the folder can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum DataFolderError {
    #[error("{}", tr!(
        "can't use the data folder {path}: {why}; check its permissions, or choose another with --data-dir",
        path = safe_path(.path),
        why
    ))]
    Unusable { path: PathBuf, why: io::Error },
    #[error("{}", tr!(
        "the data folder {path} is on a file system without locks ({why}), where two trackers could run at once: \
         choose a folder on a local disk with --data-dir",
        path = safe_path(.path),
        why
    ))]
    NoLocks { path: PathBuf, why: io::Error },
    #[error("{}", tr!(
        "another tracker{by} is using the data folder {path}: stop it, or choose another folder with --data-dir",
        by,
        path = safe_path(.path)
    ))]
    InUse {
        path: PathBuf,
        /// The process, in words; empty if it is unknown.
        by: String,
    },
    #[error("{}", tr!(
        "the account database {database} is {state}: put back a copy of it (`tracker restore FILE`), or begin without \
         accounts with `tracker new accounts`",
        database = safe_path(.database),
        state
    ))]
    NoAccounts {
        database: PathBuf,
        /// "empty", or "missing" and the file that shows the loss.
        state: String,
    },
    #[error("{}", tr!(
        "others on this machine could read the secret key in {path}, for its file system keeps no permissions \
         (mode {mode}); choose another folder with --data-dir",
        path = safe_path(.path),
        mode = format_args!("{mode:o}")
    ))]
    NoPermissions {
        path: PathBuf,
        /// The mode that a private folder gets there.
        mode: u32,
    },
}

/// A locked data folder, this process's own while this lives.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    lock: FolderLock,
}

impl DataFolder {
    /// Creates the folder if necessary, makes it private, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, DataFolderError> {
        // Noted before they are made: they are removed again if the file system turns out to be unsuitable.
        let unusable = |why| DataFolderError::Unusable { path: path.to_owned(), why };
        let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let made: Vec<PathBuf> = missing.map(Into::into).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mode = effective_mode(path).map_err(unusable)?;
        if mode & 0o077 != 0 {
            // Only empty folders are removed.
            made.iter().for_each(|path| drop(std::fs::remove_dir(path)));
            return Err(DataFolderError::NoPermissions { path: path.to_owned(), mode });
        }
        let mode = path.metadata().map_err(unusable)?.permissions().mode();
        if mode & 0o077 != 0 {
            if is_tracker_folder(path).map_err(unusable)? {
                std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unusable)?;
            } else {
                warn!(path = %safe_path(path), "others may look into the data folder: give the tracker one of its own");
            }
        }
        // SQLite uses another kind of lock (`fcntl`) than the folder (`flock`): a file system may lack one of them.
        if let Some(why) = sqlite_file::locking_error(path) {
            return Err(DataFolderError::NoLocks { path: path.to_owned(), why });
        }
        let lock = FolderLock::acquire(path).map_err(|why| {
            let path = path.to_owned();
            match why {
                LockError::Held { by } => DataFolderError::InUse { path, by: describe_holder(by) },
                LockError::NoLocks(why) => DataFolderError::NoLocks { path, why },
                LockError::Unusable(why) => DataFolderError::Unusable { path, why },
            }
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Prepares the folder for serving: finishes or removes interrupted backups and restorations. `has_accounts` is
    /// false if they are in another database.
    pub(super) fn prepare(&self, has_accounts: bool) -> Result<(), DataFolderError> {
        let path = &self.path;
        let unusable = |why| DataFolderError::Unusable { path: path.clone(), why };
        // Before anything is opened: it replaces the databases.
        let finished = backup::finish_interrupted(path).map_err(unusable)?;
        if let Some(before) = finished {
            info!(before = %safe_path(before), "a restoration that was cut off is finished");
        }
        backup::remove_leftovers(path).map_err(unusable)?;
        if !has_accounts {
            return private_file(&path.join(PRESENCE_DATABASE)).map(drop).map_err(unusable);
        }
        self.ensure_accounts_not_lost()?;
        let (accounts, presence) = (path.join(ACCOUNT_DATABASE), path.join(PRESENCE_DATABASE));
        if sqlite_file::is_missing_or_empty(&presence) && !sqlite_file::is_missing_or_empty(&accounts) {
            warn!(path = %safe_path(presence), "missing or empty: who was online before is forgotten and has to log in again");
        }
        // Created before SQLite does it, so that nobody else can ever read it; SQLite's other files inherit the mode.
        for name in [ACCOUNT_DATABASE, PRESENCE_DATABASE] {
            private_file(&path.join(name)).map_err(unusable)?;
        }
        Ok(())
    }

    /// Opens the account database of a prepared folder. A new database that can't be written, as on a full disk, is
    /// removed again: at the next start it would look like a loss.
    pub(super) fn open_accounts(&self) -> Result<SqliteAccountStore, AccountDatabaseError> {
        let database = self.path.join(ACCOUNT_DATABASE);
        SqliteAccountStore::open(&database).inspect_err(|_| {
            if sqlite_file::is_missing_or_empty(&database) {
                // A file that can't be removed is reported at the next start.
                sqlite_file::remove(&database);
                let _ = std::fs::remove_file(self.path.join(PRESENCE_DATABASE));
            }
        })
    }

    /// Returns the account database if there is one with accounts. Fails with [`AccountDatabaseError`] when it can't be
    /// read.
    pub(super) fn existing_accounts(&self) -> Result<Option<SqliteAccountStore>, AccountDatabaseError> {
        let database = self.path.join(ACCOUNT_DATABASE);
        if sqlite_file::is_missing_or_empty(&database) {
            return Ok(None);
        }
        let accounts = SqliteAccountStore::open(&database)?;
        // What can't be read is no reason to take it for empty.
        Ok(Some(accounts).filter(|accounts| !accounts.is_empty().unwrap_or(false)))
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates an empty account database. Remains of an empty one are removed.
    pub(super) fn create_accounts(&self) -> Result<SqliteAccountStore, CommandError> {
        let database = self.path.join(ACCOUNT_DATABASE);
        sqlite_file::remove(&database);
        private_file(&database).map_err(|why| DataFolderError::Unusable { path: self.path.clone(), why })?;
        Ok(self.open_accounts()?)
    }

    /// Keeps the lock's file in place, where other trackers look for it.
    pub(super) fn maintain_lock(&self) {
        self.lock.maintain();
    }

    /// Refuses a folder whose accounts were lost. The account database is the first file that a tracker makes: any
    /// other file without it shows a loss, and so does an empty database.
    fn ensure_accounts_not_lost(&self) -> Result<(), DataFolderError> {
        let database = self.path.join(ACCOUNT_DATABASE);
        if !sqlite_file::is_missing_or_empty(&database) {
            return Ok(());
        }
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        if is_there(&database) {
            return Err(DataFolderError::NoAccounts { database, state: tr!("empty") });
        }
        let others = [
            Path::new(IDENTITY_FOLDER).join(KEY_FILE),
            PRESENCE_DATABASE.into(),
            format!("{ACCOUNT_DATABASE}-journal").into(),
            format!("{ACCOUNT_DATABASE}-wal").into(),
        ];
        match others.iter().find(|name| is_there(&self.path.join(name))) {
            Some(name) => {
                let state = tr!("missing, but {path} is there", path = safe_path(name));
                Err(DataFolderError::NoAccounts { database, state })
            }
            None => Ok(()),
        }
    }
}

/// Returns the default folder; `None` for a user without a home.
pub(super) fn default_folder() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/vizinho-tracker"));
    }
    let folders = directories::ProjectDirs::from("", "", "vizinho-tracker")?;
    // Only Linux has a folder for state.
    Some(folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned())
}

/// Returns the mode that a private folder in `path` really gets.
fn effective_mode(path: &Path) -> io::Result<u32> {
    // File systems without permissions accept any mode and report another: only a probe shows it.
    let probe =
        tempfile::Builder::new().prefix(".probe-").permissions(Permissions::from_mode(0o700)).tempdir_in(path)?;
    let mode = probe.path().metadata()?.permissions().mode() & 0o777;
    probe.close()?;
    Ok(mode)
}

/// True if the folder is empty or has a tracker's database. Others, such as `/tmp`, must stay open to everybody.
fn is_tracker_folder(path: &Path) -> io::Result<bool> {
    Ok(path.join(ACCOUNT_DATABASE).exists() || path.read_dir()?.next().is_none())
}

fn describe_holder(by: Option<u32>) -> String {
    by.map_or_else(String::new, |pid| format!(" ({})", tr!("process {pid}", pid)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn open(path: &Path) -> Result<DataFolder, DataFolderError> {
        let folder = DataFolder::lock(path)?;
        folder.prepare(true).map(|()| folder)
    }

    #[test]
    fn private_and_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let lock = open(&path).unwrap();
        drop(lock.open_accounts().unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let error = open(&path).unwrap_err();
        assert!(matches!(&error, DataFolderError::InUse { .. }));
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(lock);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(open(&path).is_ok());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(open(&path.join("lock/x")), Err(DataFolderError::Unusable { .. })));
    }

    #[test]
    fn accounts_that_were_lost_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, database) = (folder.path(), folder.path().join(ACCOUNT_DATABASE));
        let told = |state: &str| {
            let error = open(path).unwrap_err().to_string();
            let expected = format!("the account database {} is {state}: ", safe_path(&database));
            assert!(error.starts_with(&expected) && error.contains("tracker restore"), "{error}");
        };
        drop(open(path).unwrap().open_accounts().unwrap());
        open(path).unwrap();
        for len in [0, 1, 99] {
            File::create(&database).unwrap().set_len(len).unwrap();
            told("empty");
            drop(DataFolder::lock(path).unwrap().create_accounts().unwrap());
            open(path).unwrap();
        }
        sqlite_file::remove(&database);
        told(&format!("missing, but {PRESENCE_DATABASE} is there"));
        assert!(!database.exists());
        certs::Identity::load_or_create(&path.join(IDENTITY_FOLDER)).unwrap();
        std::fs::remove_file(path.join(PRESENCE_DATABASE)).unwrap();
        told(&format!("missing, but {IDENTITY_FOLDER}/{KEY_FILE} is there"));
        std::fs::remove_dir_all(path.join(IDENTITY_FOLDER)).unwrap();
        open(path).unwrap();
    }

    #[test]
    fn a_folder_of_others_is_left_open_and_the_database_is_private_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        drop(File::create(folder.path().join("something else")).unwrap());
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let lock = open(folder.path()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o755);
        drop(lock.open_accounts().unwrap());
        assert_eq!(mode(&folder.path().join(ACCOUNT_DATABASE)), 0o600);
    }
}
