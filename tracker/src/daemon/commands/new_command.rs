//! The commands `tracker new key` and `tracker new accounts`, for parts that are lost for good.

use std::path::Path;

use certs::{Identity, IdentityReplacement};
use localization::tr;
use shared::safe_text::safe_path;

use super::{CommandError, print_text};
use crate::backup::{ACCOUNT_DATABASE, IDENTITY_FOLDER, KEY_FILE};
use crate::daemon::data_folder::DataFolder;
use crate::store::sqlite_file;

pub(super) fn create_key(folder: &Path) -> Result<(), CommandError> {
    ensure_folder_exists(folder)?;
    let _locked = DataFolder::lock(folder)?;
    let keys = folder.join(IDENTITY_FOLDER);
    match Identity::load(&keys) {
        Ok(Some(_)) => return Err(CommandError::StillPresent(keys.join(KEY_FILE))),
        // A damaged key is lost as well; it is put aside.
        Ok(None) | Err(certs::IdentityError::Damaged { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let replacement = IdentityReplacement::begin(&keys)?;
    let fingerprint = replacement.identity().fingerprint();
    print_text(&match replacement.commit()? {
        Some(aside) => tr!(
            "made a new key with the fingerprint {fingerprint}; the damaged one is kept as {path}",
            fingerprint,
            path = safe_path(&aside)
        ),
        None => tr!("made a new key with the fingerprint {fingerprint}", fingerprint),
    })
}

/// Refuses a missing folder: nothing was lost there, its path is misspelled.
fn ensure_folder_exists(folder: &Path) -> Result<(), CommandError> {
    if folder.is_dir() { Ok(()) } else { Err(CommandError::NoDataFolder(folder.to_owned())) }
}

pub(super) fn create_accounts(folder: &Path) -> Result<(), CommandError> {
    ensure_folder_exists(folder)?;
    let locked = DataFolder::lock(folder)?;
    let database = folder.join(ACCOUNT_DATABASE);
    if !sqlite_file::is_missing_or_empty(&database) {
        return Err(CommandError::StillPresent(database));
    }
    drop(locked.create_accounts()?);
    print_text(&tr!("there are no accounts now: everybody has to register again"))
}
