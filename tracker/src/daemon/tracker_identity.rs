//! The tracker's key: made at the first start, and never again without the administrator's command.

use std::path::Path;

use certs::{Identity, MissingIdentityAdvice, MissingIdentityPolicy};
use localization::tr;

use super::DaemonError;
use crate::backup::IDENTITY_FOLDER;

/// Opens the key of a data folder. It is made only if there are no accounts.
pub(super) fn open_identity(data_folder: &Path, has_accounts: bool) -> Result<Identity, DaemonError> {
    let reliance = MissingIdentityAdvice {
        reason: &tr!("everybody who has an account here knows this tracker by it"),
        otherwise: &tr!("make a new one with `tracker new key`, which all of them have to trust again"),
    };
    let if_missing = if has_accounts { MissingIdentityPolicy::Fail(reliance) } else { MissingIdentityPolicy::Create };
    Ok(Identity::open(&data_folder.join(IDENTITY_FOLDER), if_missing)?)
}
