//! `tracker new key` and `tracker new accounts`: what is lost for good is begun anew.

use std::path::Path;

use certs::{Identity, Replacement};
use shared::safe_text::safe_path;

use super::{CommandError, say};
use crate::backup::{DATABASE, IDENTITY, KEY};
use crate::daemon::data_folder::DataFolder;
use crate::sqlite_file;

pub(super) fn key(folder: &Path) -> Result<(), CommandError> {
    demand_folder(folder)?;
    let _locked = DataFolder::lock(folder)?;
    let keys = folder.join(IDENTITY);
    match Identity::load(&keys) {
        Ok(Some(_)) => return Err(CommandError::NotLost(keys.join(KEY))),
        Ok(None) | Err(certs::IdentityError::Damaged { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let replacement = Replacement::begin(&keys)?;
    let fingerprint = replacement.identity().fingerprint();
    let kept = match replacement.commit()? {
        Some(aside) => format!("; the damaged one is kept as {}", safe_path(&aside)),
        None => String::new(),
    };
    say(&format!("made a new key with the fingerprint {fingerprint}{kept}"))
}

/// Where no folder is nothing was lost: its path is misspelled.
fn demand_folder(folder: &Path) -> Result<(), CommandError> {
    if folder.is_dir() { Ok(()) } else { Err(CommandError::NoDataFolder(folder.to_owned())) }
}

pub(super) fn accounts(folder: &Path) -> Result<(), CommandError> {
    demand_folder(folder)?;
    let locked = DataFolder::lock(folder)?;
    let database = folder.join(DATABASE);
    if !sqlite_file::is_void(&database) {
        return Err(CommandError::NotLost(database));
    }
    drop(locked.begin_accounts()?);
    say("there are no accounts now: everybody has to register again")
}
