//! Check whether a profile's folder has a database.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use localization::tr;

use super::profile_identity::{IDENTITY_FOLDER, KEY};
use super::{DATABASE_FILE, ProfileError, node_lock};

/// Size of a database's header. SQLite takes a shorter file for an empty database.
const HEADER_BYTES: u64 = 100;
/// Time that another process may take from creating the file to writing its header.
const CREATION_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between two checks of the file.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns whether there is a database in `home`.
///
/// # Errors
/// [`ProfileError::EmptyDatabase`] if it lost its content, [`ProfileError::MissingDatabase`] if there is only a key,
/// [`ProfileError::DatabaseLost`] if it was removed while a node runs, or [`ProfileError::Io`].
pub(super) fn has_database(home: &Path) -> Result<bool, ProfileError> {
    has_database_within(home, CREATION_TIMEOUT)
}

/// Returns the same, with this time for the creation.
fn has_database_within(home: &Path, timeout: Duration) -> Result<bool, ProfileError> {
    let (path, begun) = (home.join(DATABASE_FILE), Instant::now());
    loop {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                // A new database would be taken for the one that the node still has open.
                if node_lock::is_node_locked(home).unwrap_or(false) {
                    return Err(ProfileError::DatabaseLost { path });
                }
                // The database of a new profile is made before its key.
                return key_in(home).map_or(Ok(false), |key| Err(ProfileError::MissingDatabase { path, key }));
            }
            Err(source) => return Err(ProfileError::Io { path, source }),
        };
        if !metadata.is_file() {
            return Err(ProfileError::Io { path, source: io::Error::other(tr!("it is not a file")) });
        }
        if metadata.len() >= HEADER_BYTES {
            return Ok(true);
        }
        if begun.elapsed() >= timeout || !is_being_created(&metadata, timeout) {
            return Err(ProfileError::EmptyDatabase { path, key: key_in(home) });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Returns the path of the key in `home`, if there is one.
fn key_in(home: &Path) -> Option<PathBuf> {
    Some(home.join(IDENTITY_FOLDER).join(KEY)).filter(|key| key.exists())
}

/// True if another process may be creating it. A time in the future counts: the clock may have been set back.
fn is_being_created(metadata: &Metadata, timeout: Duration) -> bool {
    metadata.modified().is_ok_and(|at| at.elapsed().map_or(true, |age| age < timeout))
}

#[cfg(test)]
mod tests {
    use certs::has_stable_inodes;

    use super::*;
    use crate::profile::{DATABASE_FILE_SUFFIXES, Profile};

    /// A file of so many bytes that was written long ago.
    fn put(path: &Path, len: u64) {
        let file = fs::File::create(path).unwrap();
        file.set_len(len).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }

    #[test]
    fn a_database_without_a_header_is_a_loss_with_a_key_or_without() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(DATABASE_FILE);
        for has_key in [false, true] {
            for len in [0, 1, 99] {
                put(&path, len);
                let error = Profile::open(home.path()).unwrap_err();
                assert!(
                    matches!(&error, ProfileError::EmptyDatabase { key, .. } if key.is_some() == has_key),
                    "{error}"
                );
                assert_eq!(error.to_string().contains("with the same key"), has_key);
                assert_eq!(fs::metadata(&path).unwrap().len(), len);
            }
            fs::remove_file(&path).unwrap();
            if has_key {
                let error = Profile::open(home.path()).unwrap_err();
                assert!(matches!(&error, ProfileError::MissingDatabase { .. }), "{error}");
                assert!(!path.exists());
            }
            let (profile, is_anew) = Profile::open_or_begin_anew(home.path()).unwrap();
            assert_eq!(is_anew, has_key);
            profile.identity().unwrap();
        }
    }

    #[test]
    fn a_database_that_another_process_makes_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(DATABASE_FILE);
        drop(fs::File::create(&path).unwrap());
        std::thread::scope(|scope| {
            // Longer than any machine is held up.
            let found = scope.spawn(|| has_database_within(home.path(), Duration::from_secs(600)));
            super::super::database_opening::open(&path).unwrap();
            assert!(found.join().unwrap().unwrap());
        });
    }

    #[test]
    fn nothing_is_written_to_a_database_that_was_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(DATABASE_FILE);
        for was_written in [true, false] {
            let profile = Profile::open(home.path()).unwrap();
            if was_written {
                profile.set_last_port(7).unwrap();
            }
            profile.check_database_file().unwrap();
            for suffix in DATABASE_FILE_SUFFIXES {
                let _ = fs::remove_file(home.path().join(format!("{DATABASE_FILE}{suffix}")));
            }
            for lost in [profile.set_last_port(8), profile.check_database_file(), profile.message_reader().map(drop)] {
                if !was_written || lost.is_err() {
                    assert!(matches!(lost, Err(ProfileError::DatabaseLost { .. })), "{lost:?}");
                }
            }
            assert!(profile.set_last_port(8).is_err());
            assert!(!path.exists(), "none is made in its place");
        }
    }

    #[test]
    fn another_database_in_its_place_is_not_the_one_that_is_open() {
        let home = tempfile::tempdir().unwrap();
        let (path, away) = (home.path().join(DATABASE_FILE), home.path().join("away"));
        let profile = Profile::open(home.path()).unwrap();
        fs::rename(&path, &away).unwrap();
        put(&path, 4096);
        assert_eq!(profile.check_database_file().is_err(), has_stable_inodes(&path));
        fs::rename(&away, &path).unwrap();
        profile.check_database_file().unwrap();
    }

    #[test]
    fn no_database_is_made_under_a_node_that_runs() {
        let home = tempfile::tempdir().unwrap();
        let lock = Profile::open(home.path()).unwrap().lock_node().unwrap();
        fs::remove_file(home.path().join(DATABASE_FILE)).unwrap();
        assert!(matches!(Profile::open(home.path()), Err(ProfileError::DatabaseLost { .. })));
        drop(lock);
        Profile::open(home.path()).unwrap();
    }
}
