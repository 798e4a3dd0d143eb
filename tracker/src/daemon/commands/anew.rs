//! `tracker new key` and `tracker new accounts`: what is lost for good is begun anew.

use std::path::Path;

use certs::Identity;

use super::{CommandError, say};
use crate::accounts::SqliteStore;
use crate::backup::{DATABASE, IDENTITY, KEY};
use crate::daemon::data_folder::DataFolder;
use crate::sqlite_file;

/// The ending of a damaged key's name when another takes its place.
const DAMAGED: &str = ".damaged";

pub(super) fn key(folder: &Path) -> Result<(), CommandError> {
    let _locked = DataFolder::lock(folder)?;
    let keys = folder.join(IDENTITY);
    let path = keys.join(KEY);
    match Identity::load(&keys) {
        Ok(Some(_)) => return Err(CommandError::NotLost(path)),
        Ok(None) => {}
        // Kept: somebody may still make something of it.
        Err(certs::IdentityError::Damaged { .. }) => {
            let aside = keys.join(format!("{KEY}{DAMAGED}"));
            std::fs::rename(&path, aside).map_err(|why| CommandError::File { path, why })?;
        }
        Err(other) => return Err(other.into()),
    }
    let fingerprint = Identity::load_or_create(&keys)?.fingerprint();
    say(&format!("made a new key with the fingerprint {fingerprint}"))
}

pub(super) fn accounts(folder: &Path) -> Result<(), CommandError> {
    let locked = DataFolder::lock(folder)?;
    let database = folder.join(DATABASE);
    if !sqlite_file::is_void(&database) {
        return Err(CommandError::NotLost(database));
    }
    drop(SqliteStore::open(&locked.make_database()?)?);
    say("there are no accounts now: everybody has to register again")
}
