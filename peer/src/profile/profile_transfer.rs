//! The profile in one file, to move it to another machine.
//!
//! The file is the database with the key in it as one more setting. Two machines with one key would sign different
//! messages as the same, so a profile that was exported is marked as moved, and nobody is its user any more; an import
//! makes a profile without the mark. Where the file was never imported, the mark can be taken away again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use certs::{Identity, IdentityCopy};
use localization::tr;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use zeroize::Zeroizing;

use super::profile_identity::{IDENTITY_FOLDER, KEY};
use super::schema::{SCHEMA_VERSION, schema_version};
use super::settings::PUT_SETTING;
use super::{APPLICATION_ID, Access, DATABASE_FILE, DATABASE_FILE_SUFFIXES, Profile, ProfileError};
use super::{database_file, profile_folder};
use crate::sys::{FolderHandle, is_locking_unsupported, sync_all};

/// The setting of an exported database that is the key.
const KEY_SETTING: &str = "exported_key";
/// The setting of a profile that was exported: the path of the file.
const MOVED_SETTING: &str = "moved_with";
/// The name of an imported database until it is complete.
const DRAFT: &str = "profile.db.import";
/// The name of the file that an import locks.
const TURN: &str = "profile.db.import.lock";
/// Bytes of a key file at most.
const MAX_KEY_BYTES: u64 = 64 * 1024;

impl Profile {
    /// Writes the profile and its key to a new file that only its owner may read, and marks this profile as moved.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`] beside a running node, else the reason why the file or the profile can't be used.
    pub fn export(&self, file: &Path) -> Result<(), ProfileError> {
        // Held to the end: no node may begin with a profile that is on its way.
        let _lock = self.lock_node()?;
        let key = read_key_file(&self.key_path())?;
        // `create_new`: what is there may be an earlier export, the only copy of a profile.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        made.map_err(ProfileError::io_at(file))?;
        let written = self.write_export(file, &key).and_then(|()| {
            let path = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
            self.set_setting(MOVED_SETTING, Some(&path.to_string_lossy()))
        });
        written.inspect_err(|_| {
            // Beside a profile without the mark it would be a second use of the key.
            let _ = fs::remove_file(file);
        })
    }

    fn write_export(&self, file: &Path, key: &str) -> Result<(), ProfileError> {
        let name =
            file.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, tr!("its path is not UTF-8")));
        let name = name.map_err(ProfileError::io_at(file))?;
        // An empty file in its place is written, and keeps its mode.
        self.db_result(self.writer()?.execute("VACUUM INTO ?1", [name]))?;
        let broken = |source| ProfileError::from_sqlite(file, source);
        let exported = Connection::open(file).map_err(broken)?;
        exported.execute(PUT_SETTING, [KEY_SETTING, key]).map_err(broken)?;
        exported.close().map_err(|(_, source)| broken(source))?;
        // Before the mark: a profile that moved into a file that a power cut empties would be lost.
        File::open(file).and_then(|file| file.sync_all()).map_err(ProfileError::io_at(file))?;
        // Its entry in the folder as well.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(ProfileError::io_at(folder))
    }

    /// Returns the file with which the profile moved away, if it did.
    pub fn moved_with(&self) -> Result<Option<String>, ProfileError> {
        self.setting(MOVED_SETTING)
    }

    /// Takes the mark away that the profile moved. Returns false if there was none.
    pub fn cancel_move(&self) -> Result<bool, ProfileError> {
        let is_moved = self.moved_with()?.is_some();
        self.set_setting(MOVED_SETTING, None)?;
        Ok(is_moved)
    }

    /// Makes the profile in `home` from an exported file. The database gets its name last: an import that was cut off
    /// is done anew by the next.
    ///
    /// # Errors
    /// [`ProfileError::HasProfile`] if there is one already, [`ProfileError::NotAnExport`], or the reason why nothing can
    /// be written there; then nothing is left of it.
    pub fn import(home: &Path, file: &Path) -> Result<Self, ProfileError> {
        if database_file::has_database(home).is_ok_and(|has_database| has_database) {
            return Err(ProfileError::HasProfile { home: home.to_owned() });
        }
        let key = read_exported_key(file)?;
        let folder = profile_folder::NewProfileFolder::create(home)?;
        let to_sync = folder.changed_folders();
        folder.keep_on_success(|home| {
            // To the end: of two imports at once, the second finds the profile of the first.
            let _turn = ImportTurn::begin(home)?;
            ensure_vacant(home, &key)?;
            let (place, had_key) = (ImportPlace::of(home), home.join(IDENTITY_FOLDER).join(KEY).exists());
            place.import(file, &key, &to_sync).inspect_err(|_| place.clear(had_key))
        })
    }
}

/// The files that an import makes in a profile's folder.
struct ImportPlace<'a> {
    home: &'a Path,
    draft: PathBuf,
}

impl<'a> ImportPlace<'a> {
    fn of(home: &'a Path) -> Self {
        Self { home, draft: home.join(DRAFT) }
    }

    fn import(&self, file: &Path, key: &IdentityCopy, to_sync: &[PathBuf]) -> Result<Profile, ProfileError> {
        // The rest of an import that was cut off.
        remove_database(&self.draft);
        self.write_draft(file)?;
        key.install_new(&self.home.join(IDENTITY_FOLDER))?;
        // A login may have been faster with a key of its own.
        ensure_vacant(self.home, key)?;
        // The key's folder is durable before the database that belongs to it has its name.
        sync_folder(self.home)?;
        let folder = FolderHandle::open(self.home).map_err(ProfileError::io_at(self.home))?;
        match folder.rename_no_replace(DRAFT, DATABASE_FILE) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ProfileError::HasProfile { home: self.home.to_owned() });
            }
            renamed => renamed.map_err(ProfileError::io_at(&self.home.join(DATABASE_FILE)))?,
        }
        let opened = to_sync.iter().try_for_each(|folder| sync_folder(folder)).and_then(|()| {
            let profile = Profile::open_in(self.home, Access::Use)?;
            profile.identity()?;
            Ok(profile)
        });
        // Whatever had this name since the rename is the import's.
        opened.inspect_err(|_| remove_database(&self.home.join(DATABASE_FILE)))
    }

    /// Writes the database without the key and the mark, under a name that nothing else uses.
    fn write_draft(&self, file: &Path) -> Result<(), ProfileError> {
        let mut draft = new_private_file(&self.draft)?;
        let copied = File::open(file).and_then(|mut file| io::copy(&mut file, &mut draft));
        copied.and_then(|_| draft.sync_all()).map_err(ProfileError::io_at(&self.draft))?;
        let broken = |source| ProfileError::from_sqlite(&self.draft, source);
        let imported = Connection::open(&self.draft).map_err(broken)?;
        let (found, known) = (schema_version(&imported).map_err(broken)?, SCHEMA_VERSION);
        if found > known {
            return Err(ProfileError::TooNew { path: file.to_owned(), found, known });
        }
        // The key has its own file: what is deleted here must not stay in free pages.
        imported.pragma_update(None, "secure_delete", true).map_err(broken)?;
        let settings = [KEY_SETTING, MOVED_SETTING];
        imported.execute("DELETE FROM setting WHERE key IN (?1, ?2)", settings).map_err(broken)?;
        imported.close().map_err(|(_, source)| broken(source))
    }

    /// Removes what a failed import made.
    fn clear(&self, had_key: bool) {
        remove_database(&self.draft);
        // A database that is there is somebody else's, and may belong to the key by now.
        if !had_key && !self.home.join(DATABASE_FILE).exists() {
            let folder = self.home.join(IDENTITY_FOLDER);
            let _ = fs::remove_file(folder.join(KEY));
            // Fails, as it should, if there is something else in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The lock of the one import that is at work in a folder.
struct ImportTurn {
    path: PathBuf,
    _file: File,
}

impl ImportTurn {
    /// Waits until no other import is at work there.
    fn begin(home: &Path) -> Result<Self, ProfileError> {
        // A file of its own: the lock of the folder is the node's.
        let path = home.join(TURN);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(ProfileError::io_at(&path))?;
        match file.lock() {
            Err(why) if !is_locking_unsupported(&why) => Err(ProfileError::io_at(&path)(why)),
            _ => Ok(Self { path, _file: file }),
        }
    }
}

impl Drop for ImportTurn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Fails if the folder has a profile, or the key of one that lost its database. The key alone may be there: an import
/// was cut off.
fn ensure_vacant(home: &Path, key: &IdentityCopy) -> Result<(), ProfileError> {
    match database_file::has_database(home) {
        Ok(false) => Ok(()),
        Ok(true) => Err(ProfileError::HasProfile { home: home.to_owned() }),
        Err(missing @ ProfileError::MissingDatabase { .. }) => {
            let there = Identity::load(&home.join(IDENTITY_FOLDER));
            let is_same = there.is_ok_and(|there| there.is_some_and(|it| it.fingerprint() == key.fingerprint()));
            if is_same { Ok(()) } else { Err(missing) }
        }
        Err(other) => Err(other),
    }
}

/// Returns the key in an exported file, if it is one.
fn read_exported_key(file: &Path) -> Result<IdentityCopy, ProfileError> {
    let not_one = || ProfileError::NotAnExport { file: file.to_owned() };
    // SQLite's own words for a file that isn't there are of no help.
    File::open(file).map_err(ProfileError::io_at(file))?;
    let exported = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|_| not_one())?;
    let application: u32 = exported.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(|_| not_one())?;
    if application != u32::from_be_bytes(APPLICATION_ID) {
        return Err(not_one());
    }
    let query = "SELECT value FROM setting WHERE key = ?1";
    let key: Option<String> =
        exported.query_row(query, [KEY_SETTING], |row| row.get(0)).optional().map_err(|_| not_one())?;
    let key = key.map(Zeroizing::new).ok_or_else(not_one)?;
    IdentityCopy::read_stream(key.as_bytes()).map_err(ProfileError::io_at(file))?.map_err(|_| not_one())
}

fn new_private_file(path: &Path) -> Result<File, ProfileError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ProfileError::io_at(path))
}

fn remove_database(path: &Path) {
    for suffix in DATABASE_FILE_SUFFIXES {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        let _ = fs::remove_file(path);
    }
}

fn sync_folder(path: &Path) -> Result<(), ProfileError> {
    let folder = File::open(path).map_err(ProfileError::io_at(path))?;
    sync_all(&[folder]).into_iter().collect::<io::Result<()>>().map_err(ProfileError::io_at(path))
}

fn read_key_file(path: &Path) -> Result<Zeroizing<String>, ProfileError> {
    let mut key = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut key));
    read.map_err(ProfileError::io_at(path))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::profile::ProfileAccount;

    #[test]
    fn a_profile_moves_and_the_old_one_knows() {
        let place = tempfile::tempdir().unwrap();
        let (old, new, file) = (place.path().join("old"), place.path().join("new"), place.path().join("file"));
        let profile = Profile::open(&old).unwrap();
        let account = ProfileAccount { user: "bob".parse().unwrap(), tracker: "192.0.2.7:8000".to_owned() };
        let fingerprint = profile.identity().unwrap().fingerprint();
        profile.set_account(&account).unwrap();
        let lock = profile.lock_node().unwrap();
        assert!(matches!(profile.export(&file), Err(ProfileError::NodeRuns { .. })) && !file.exists());
        drop(lock);
        profile.export(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(profile.moved_with().unwrap().is_some());
        assert!(profile.export(&file).is_err(), "nothing is overwritten");
        assert!(file.exists());
        let moved = Profile::import(&new, &file).unwrap();
        assert_eq!(moved.account().unwrap(), Some(account));
        assert_eq!(moved.identity().unwrap().fingerprint(), fingerprint);
        assert_eq!(moved.moved_with().unwrap(), None);
        assert_eq!(fs::metadata(moved.key_path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(moved.setting(KEY_SETTING).unwrap(), None);
        let database = fs::read(new.join(DATABASE_FILE)).unwrap();
        assert!(!database.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "the key is in its own file only");
        assert!(matches!(Profile::import(&new, &file), Err(ProfileError::HasProfile { .. })));
        assert!(profile.cancel_move().unwrap());
        assert!(!profile.cancel_move().unwrap());
    }

    #[test]
    fn an_import_that_is_refused_leaves_the_key_that_is_there() {
        let place = tempfile::tempdir().unwrap();
        let (old, home, file) = (place.path().join("old"), place.path().join("home"), place.path().join("file"));
        let moving = Profile::open(&old).unwrap();
        moving.identity().unwrap();
        moving.export(&file).unwrap();
        let lost = Profile::open(&home).unwrap();
        lost.identity().unwrap();
        let (key, content) = (lost.key_path(), fs::read(lost.key_path()).unwrap());
        drop(lost);
        for suffix in DATABASE_FILE_SUFFIXES {
            let _ = fs::remove_file(home.join(format!("{DATABASE_FILE}{suffix}")));
        }
        assert!(Profile::import(&home, &file).is_err());
        assert_eq!(fs::read(key).unwrap(), content);
        assert!(!home.join(DATABASE_FILE).exists());
    }

    #[test]
    fn an_import_that_was_cut_off_is_done_anew() {
        let place = tempfile::tempdir().unwrap();
        let (old, home, file) = (place.path().join("old"), place.path().join("home"), place.path().join("file"));
        let moving = Profile::open(&old).unwrap();
        let fingerprint = moving.identity().unwrap().fingerprint();
        moving.export(&file).unwrap();
        // Killed before the rename: a part of the draft with its journal, and the key.
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        for name in [DRAFT.to_owned(), format!("{DRAFT}-journal")] {
            File::create(home.join(name)).unwrap().write_all(b"a part").unwrap();
        }
        read_exported_key(&file).unwrap().install_new(&home.join(IDENTITY_FOLDER)).unwrap();
        let imported = Profile::import(&home, &file).unwrap();
        assert_eq!(imported.identity().unwrap().fingerprint(), fingerprint);
        drop(imported);
        let drafts = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(drafts.filter(|name| name.starts_with(DRAFT)).count(), 0);
    }

    #[test]
    fn an_export_of_a_newer_release_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (old, home, file) = (place.path().join("old"), place.path().join("home"), place.path().join("file"));
        let moving = Profile::open(&old).unwrap();
        moving.identity().unwrap();
        moving.export(&file).unwrap();
        let newer = Connection::open(&file).unwrap();
        newer.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        drop(newer);
        assert!(matches!(Profile::import(&home, &file), Err(ProfileError::TooNew { .. })));
        assert!(!home.exists());
    }

    #[test]
    fn nothing_is_made_of_what_is_no_export() {
        let place = tempfile::tempdir().unwrap();
        let (home, other) = (place.path().join("home"), place.path().join("other"));
        Profile::open(&other).unwrap();
        File::create(place.path().join("text")).unwrap().write_all(b"hello").unwrap();
        for file in [place.path().join("text"), other.join(DATABASE_FILE)] {
            assert!(matches!(Profile::import(&home, &file), Err(ProfileError::NotAnExport { .. })), "{file:?}");
        }
        assert!(matches!(Profile::import(&home, &place.path().join("none")), Err(ProfileError::Io { .. })));
        assert!(!home.exists());
    }
}
