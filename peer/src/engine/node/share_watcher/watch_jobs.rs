//! What the share watcher does on threads that may block.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::change_schedule::{ChangeReports, PlaceId};
use super::folder_watches::{FolderWatches, WatchEffort};
use super::hash_queue::HashLane;
use super::share_places::{SharePlace, SharedFiles};
use crate::engine::private_data::PrivateData;
use crate::engine::serve::{StaleReason, StaleShares};
use crate::engine::share::{
    FolderSync, HashJobOutcome, ShareFreshness, SyncReport, SyncScope, folder_inode, freshness,
};
use crate::engine::{Error, PollReason};
use crate::profile::Profile;
use crate::sys::{InodeKey, is_changed_elsewhere, mount_points};

/// A look at a place.
pub(super) struct LookJob {
    pub(super) id: PlaceId,
    pub(super) place: Arc<SharePlace>,
    pub(super) order: Arc<Mutex<()>>,
    pub(super) scope: SyncScope,
    pub(super) profile: Profile,
    pub(super) private: Arc<PrivateData>,
    pub(super) watches: Arc<FolderWatches>,
    pub(super) stale_shares: Arc<StaleShares>,
}

/// The result of a look.
pub(super) struct LookResult {
    pub(super) looked: Result<SyncReport, Error>,
    pub(super) reports: ChangeReports,
    /// The reason why not all changes are reported.
    pub(super) poll_reason: Option<PollReason>,
    /// The folder of the place before the look; `None` if it wasn't there.
    pub(super) inode: Option<InodeKey>,
}

/// The places as they are.
pub(super) struct ProbeResult {
    pub(super) folders: BTreeMap<PlaceId, Option<InodeKey>>,
    pub(super) mount_points: HashSet<PathBuf>,
}

/// The outcome of a job.
pub(super) enum WatchJobOutcome {
    Look(PlaceId, Box<LookResult>),
    Hashed(HashLane, PlaceId, Result<HashJobOutcome, Error>),
    Probed(usize, ProbeResult),
    Released,
}

impl LookJob {
    /// Watches a folder of the place. Returns true if the place didn't watch it until now.
    fn watch(&self, folder: &Path) -> bool {
        // A walk is the safety net for watches, too.
        let effort = if self.scope == SyncScope::Whole { WatchEffort::Renewed } else { WatchEffort::Known };
        self.watches.watch(self.id, folder, effort)
    }
}

/// Compares a place, or a part of it, with the disk.
pub(super) fn run_look(job: &LookJob) -> LookResult {
    // Before the look: if the folder is exchanged meanwhile, the next probe finds another one.
    let inode = folder_inode(job.place.folder());
    let looked = {
        let _order = job.order.lock();
        match &*job.place {
            SharePlace::Tree(root) => {
                let mounts = || mount_points().into_iter().collect::<HashSet<PathBuf>>();
                let sync = FolderSync::new(&job.profile, &job.private, root, &mounts);
                sync.and_then(|sync| sync.run(&job.scope, &mut |folder| job.watch(folder)))
            }
            SharePlace::Files(files) => look_at_files(job, files),
        }
    };
    let folder = job.place.folder();
    // In doubt it reports: what is missed, the next regular walk finds.
    let elsewhere = is_changed_elsewhere(folder).unwrap_or(false);
    let poll_reason = job.watches.poll_reason(job.id).or_else(|| elsewhere.then_some(PollReason::FileSystem));
    let reports = if poll_reason.is_none() { ChangeReports::Complete } else { ChangeReports::Partial };
    LookResult { looked, reports, poll_reason, inode }
}

/// Looks for changes of files that are shared by themselves. They are hashed by the refresher, which retries.
fn look_at_files(job: &LookJob, files: &SharedFiles) -> Result<SyncReport, Error> {
    let is_new = job.watch(&files.folder);
    for (on_disk, names) in &files.names {
        let is_meant = match &job.scope {
            SyncScope::Whole => true,
            SyncScope::Parts(parts) => is_new || parts.keys().any(|part| part.as_os_str() == on_disk),
        };
        for name in names.iter().filter(|_| is_meant) {
            let path = files.folder.join(on_disk);
            let shares = job.profile.shares_named(name)?;
            let changed = shares.iter().filter(|share| share.path == path);
            if changed.map(freshness).any(|state| matches!(state, ShareFreshness::Changed { .. })) {
                job.stale_shares.add(name.clone(), StaleReason::Metadata);
            }
        }
    }
    // One that came or went changes nothing but the tracker's list, which is compared before it is sent.
    Ok(SyncReport { is_available: true, has_changed: true, ..SyncReport::default() })
}

/// Looks at the folders of places.
pub(super) fn probe_places(folders: Vec<(PlaceId, PathBuf)>) -> ProbeResult {
    let folders = folders.into_iter().map(|(id, path)| (id, folder_inode(&path))).collect();
    ProbeResult { folders, mount_points: mount_points().into_iter().collect() }
}
