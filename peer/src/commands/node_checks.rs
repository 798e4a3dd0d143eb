//! Checks of the running node before a command changes the profile.

use localization::tr;

use crate::engine::Error;
use crate::engine::node::running_status;
use crate::profile::Profile;

/// Fails if a running node can't be told; called before the profile is changed.
pub(super) async fn require_reachable_node(profile: &Profile) -> Result<(), Error> {
    running_status(profile).await.map(drop)
}

/// Rejects a change of the account while a node uses it.
pub(super) async fn require_no_node(profile: &Profile) -> Result<(), Error> {
    match running_status(profile).await? {
        None => Ok(()),
        Some(status) => Err(Error::Usage(tr!(
            "{user} is online on this machine (process {pid}): run `peer stop` first, or use --home DIR for a second account",
            user = status.user,
            pid = status.pid
        ))),
    }
}
