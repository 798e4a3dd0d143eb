//! Hashing of files that were found in a folder that is shared as a whole.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use shared::FileName;

use super::folder_records::refresh_folders;
use super::{Error, RefreshOutcome, ShareFreshness, freshness, hash_shared};
use crate::engine::private_data::PrivateData;
use crate::profile::{HashedShare, Profile, ShareRoot};
use crate::sys::FileVersion;

/// A file to be hashed and shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct HashJob {
    /// The name under which it will be shared.
    pub name: FileName,
    /// Its path.
    pub path: PathBuf,
    /// Its path relative to the shared folder.
    pub relative: PathBuf,
    /// The version that was found.
    pub version: FileVersion,
}

/// The result of some jobs.
#[derive(Debug, Default)]
pub(in crate::engine) struct HashJobOutcome {
    /// The number of shares that were stored or removed.
    pub stored: usize,
    /// Paths, relative to the folder, of files that changed meanwhile.
    pub unsettled: Vec<PathBuf>,
    /// Files that hold a secret.
    pub refused: Vec<HashJob>,
}

/// Hashes files of a shared folder and stores their shares; blocks. `order` is held while they are stored, and must be
/// held while the folder is compared with the disk: what is gone by then is not stored.
///
/// # Errors
/// When the profile can't be read or written.
pub(in crate::engine) fn run_hash_jobs(
    profile: &Profile,
    private: &PrivateData,
    root: &ShareRoot,
    jobs: &[HashJob],
    order: &Mutex<()>,
    is_stopped: &dyn Fn() -> bool,
) -> Result<HashJobOutcome, Error> {
    let (mut outcome, mut hashed) = (HashJobOutcome::default(), Vec::new());
    let mut until_stopped = |_| if is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    for job in jobs {
        if is_stopped() {
            break;
        }
        match hash_shared(private, &root.audience, &job.name, &job.path, &mut until_stopped) {
            Ok(share) => hashed.push((share, job)),
            Err(RefreshOutcome::Changing) => outcome.unsettled.push(job.relative.clone()),
            Err(RefreshOutcome::Private(why)) => {
                // It may have been shared before it held a secret.
                if profile.remove_shares(&root.audience, [&job.name])? > 0 {
                    tracing::error!("{} is not shared any more: {why}", job.name.display());
                    outcome.stored += 1;
                }
                outcome.refused.push(job.clone());
            }
            // What can't be read now is told by `peer shares`, and perhaps read by the next walk.
            Err(why) => tracing::debug!("a file of a shared folder is not shared: {why:?}"),
        }
    }
    let _order = order.lock();
    // Compared once more: a look may have found the file changed or gone while it was hashed.
    let is_same =
        |share: &HashedShare| matches!(freshness(&share.share), ShareFreshness::Fresh | ShareFreshness::Touched);
    let (same, changed): (Vec<_>, Vec<_>) = hashed.into_iter().partition(|(share, _)| is_same(share));
    outcome.unsettled.extend(changed.into_iter().map(|(_, job)| job.relative.clone()));
    let above: BTreeSet<&Path> = same.iter().filter_map(|(_, job)| job.relative.parent()).collect();
    let shares: Vec<HashedShare> = same.into_iter().map(|(share, _)| share).collect();
    if !shares.is_empty() {
        outcome.stored += profile.put_root_shares(root, &shares)?;
        refresh_folders(profile, root, above)?;
    }
    Ok(outcome)
}
