//! The tracker's key: made at the first start, and never again by itself.

use std::path::Path;

use certs::{Identity, IfMissing, Reliance};

use super::DaemonError;
use crate::accounts::SqliteStore;
use crate::backup::IDENTITY;

/// Opens the key of a data folder whose accounts these are. It is made only while there are none.
pub(super) fn open(data_folder: &Path, accounts: &SqliteStore) -> Result<Identity, DaemonError> {
    let reliance = Reliance {
        reason: "everybody who has an account here knows this tracker by it",
        otherwise: "make a new one with `tracker new key`, which all of them have to trust again",
    };
    let if_missing = if accounts.is_empty()? { IfMissing::Create } else { IfMissing::Fail(reliance) };
    Ok(Identity::open(&data_folder.join(IDENTITY), if_missing)?)
}
