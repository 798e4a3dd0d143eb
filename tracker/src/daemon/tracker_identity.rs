//! The tracker's key: made at the first start, and never again without the administrator's command.

use std::path::Path;

use certs::{Identity, MissingIdentityAdvice, MissingIdentityPolicy};
use localization::tr;

use super::DaemonError;
use crate::backup::IDENTITY_FOLDER;
use crate::store::SqliteAccountStore;

/// Opens the key of a data folder with these accounts. It is made only if there are no accounts.
pub(super) fn open_identity(data_folder: &Path, accounts: &SqliteAccountStore) -> Result<Identity, DaemonError> {
    let reliance = MissingIdentityAdvice {
        reason: &tr!("everybody who has an account here knows this tracker by it"),
        otherwise: &tr!("make a new one with `tracker new key`, which all of them have to trust again"),
    };
    let if_missing =
        if accounts.is_empty()? { MissingIdentityPolicy::Create } else { MissingIdentityPolicy::Fail(reliance) };
    Ok(Identity::open(&data_folder.join(IDENTITY_FOLDER), if_missing)?)
}
