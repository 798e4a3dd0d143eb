//! Looks at the profile: its folder, database, disk and node.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use shared::safe_text::safe_path;
use tokio::time::timeout;

use super::account_findings::{AccountFinding, DiskFinding, NodeFinding};
use crate::engine::node::{NodeStatus, running_status};
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::engine::{Error, LocalUser, NodeHandlers};
use crate::net::tracker::TrackerAddress;
use crate::profile::{Access, Profile, ProfileError};
use crate::sys::{FolderHandle, is_out_of_inodes};
use crate::util::shell_words::single_quoted;

/// Time for the check of the database; in a large one some damage may remain undetected.
const DATABASE_CHECK_LIMIT: Duration = Duration::from_secs(1);
/// Time for a running node to say how it is.
const NODE_TIMEOUT: Duration = Duration::from_millis(2500);

/// The profile and tracker to examine.
#[derive(Debug, Clone)]
pub struct ExaminationRequest {
    /// The profile's folder.
    pub home: PathBuf,
    /// The tracker, if it was named.
    pub tracker: Option<TrackerAddress>,
    /// The demand on the tracker's key.
    pub key_policy: TrackerKeyPolicy,
    /// True if no announcement is listened to.
    pub no_mdns: bool,
}

/// Loads the account, if there is a usable one, and judges it. Blocking.
pub(super) fn load_account(request: &ExaminationRequest) -> (Option<LocalUser>, AccountFinding) {
    let profile = match Profile::open_existing(&request.home, Access::Look) {
        Ok(Some(profile)) => profile,
        Ok(None) => return (None, AccountFinding::Missing { has_profile: false }),
        Err(error) => return (None, unusable(&error.into())),
    };
    let quiet = Arc::new(|_| {});
    // Nothing is fetched by a look at the account.
    let (tracker, handlers) = (request.tracker.clone(), NodeHandlers::NONE);
    match LocalUser::load(profile.clone(), tracker, request.key_policy, quiet, handlers) {
        Ok(me) => {
            let finding = judge_profile(&profile, &me);
            (Some(me), finding)
        }
        Err(Error::NotLoggedIn) => (None, AccountFinding::Missing { has_profile: true }),
        Err(error) => (None, unusable(&error)),
    }
}

fn judge_profile(profile: &Profile, me: &LocalUser) -> AccountFinding {
    let home = profile.home().to_owned();
    if profile.is_read_only() {
        return AccountFinding::ReadOnly { home };
    }
    match readable_mode(profile) {
        Some(mode) => AccountFinding::Exposed { home, mode },
        None => AccountFinding::Sound { user: me.user.clone(), home },
    }
}

/// Returns the mode of the folder if others can get at the messages through it.
fn readable_mode(profile: &Profile) -> Option<u32> {
    const ENTER_BY_OTHERS: u32 = 0o011;
    const READ_BY_OTHERS: u32 = 0o044;
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o777);
    // A file is reached only through its folder: both have to let others in (path_resolution(7)).
    let (folder, database) = (mode(profile.home()), mode(&profile.database_path()));
    (folder & ENTER_BY_OTHERS != 0 && database & READ_BY_OTHERS != 0).then_some(folder)
}

/// Checks the database for damage; `None` if none is found. Blocking.
pub(super) fn look_for_damage(profile: &Profile) -> Option<AccountFinding> {
    profile.look_for_damage(DATABASE_CHECK_LIMIT).err().map(|error| unusable(&error.into()))
}

fn unusable(error: &Error) -> AccountFinding {
    let kind = error.kind();
    let (why, remedy) = match error {
        Error::Profile(ProfileError::WritableByOthers { path, mode }) => {
            let (path, mode) = (safe_path(path), format!("{mode:o}"));
            let why = tr!("others on this machine may write to {path} (mode {mode}): if nobody did,", path, mode);
            (why, Some(format!("chmod go-w {}", single_quoted(&path))))
        }
        Error::Profile(ProfileError::ForeignOwner { path, owner }) => {
            let path = safe_path(path);
            let why = tr!("{path} belongs to another user ({owner}); to make it yours:", path, owner);
            (why, Some(format!("sudo chown -R \"$(id -u)\" {}", single_quoted(&path))))
        }
        error => (error.to_string(), None),
    };
    AccountFinding::Unusable { why, remedy, kind }
}

/// Returns the room on the profile's disk, if the system tells it. Blocking.
pub(super) fn measure_disk(home: &Path) -> Option<DiskFinding> {
    let bytes = FolderHandle::open(home).and_then(|folder| folder.free_space()).ok()?.bytes?;
    Some(DiskFinding { home: home.to_owned(), bytes, has_inodes: !is_out_of_inodes(home) })
}

/// Asks the running node how it is. The second value is its version and process.
pub(super) async fn examine_node(profile: &Profile) -> (NodeFinding, Option<(String, u32)>) {
    let failed = |error: Error| NodeFinding::Unusable { why: error.to_string(), kind: error.kind() };
    let status = match timeout(NODE_TIMEOUT, running_status(profile)).await {
        Ok(Ok(Some(status))) => status,
        Ok(Ok(None)) => return (NodeFinding::NotRunning, None),
        Ok(Err(error)) => return (failed(error), None),
        Err(_) => {
            let why = match profile.node_holder().pid {
                Some(pid) => tr!("the `peer` that runs on this machine (process {pid}) doesn't answer", pid),
                None => tr!("the `peer` that runs on this machine doesn't answer"),
            };
            return (failed(Error::NodeGone { why }), None);
        }
    };
    let NodeStatus { address, pid, elsewhere, version, .. } = status;
    let finding = match (address, elsewhere) {
        (Some(address), _) => NodeFinding::Online { address, pid },
        (None, Some(_)) => NodeFinding::Displaced { pid },
        (None, None) => NodeFinding::Waiting { pid },
    };
    (finding, Some((version, pid)))
}
