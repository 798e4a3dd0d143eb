//! The share watcher: keeps what is shared in step with the disk.
//!
//! ```text
//! system's reports ─► WatchInbox ─► ChangeSchedule ─► looks (FolderSync) ─┬► shares stored and removed ─► tracker
//! mounts, roots that come and go ──────┘    ▲                             └► HashQueue ─► hash jobs ────────┘
//!                                           └── unsettled files ◄──────────────┴──────────────┘
//! ```
//!
//! A folder that is shared as a whole ([`SharePlace::Tree`]) has the shares of the files that are in it. Of a file that is
//! shared by itself, only a change is noticed: the [`super::share_refresher`] hashes it again, and the share stays when the
//! file is gone.
//!
//! Not every change is reported: a folder that is renamed above a place, a disk that comes or goes. The places themselves
//! are looked at every [`PROBE_INTERVAL`]. What lies on a network or FUSE file system may change elsewhere, and is walked
//! at intervals, as are places for which the system has no watches left.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | looks at once | [`MAX_LOOKS`], one at each place | the place waits; a disk that hangs keeps one of them |
//! | hash jobs at once | one of small files, one of a large one | the queue |
//! | walks without reports | at intervals that grow with the time that they take ([`change_schedule`]) | |

mod change_schedule;
mod folder_watches;
mod hash_queue;
#[cfg(target_os = "linux")]
mod inotify_watcher;
#[cfg(not(target_os = "linux"))]
mod notify_watcher;
mod share_places;
mod watch_inbox;
mod watch_jobs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::change_schedule::{ChangeReports, ChangeSchedule, LookOutcome, PlaceId};
use self::folder_watches::FolderWatches;
use self::hash_queue::{HashLane, HashQueue};
#[cfg(target_os = "linux")]
use self::inotify_watcher::InotifyWatcher as FolderWatcher;
#[cfg(not(target_os = "linux"))]
use self::notify_watcher::NotifyWatcher as FolderWatcher;
use self::share_places::{PlaceKey, SharePlace, load_places};
use self::watch_inbox::{PathReport, WatchInbox};
use self::watch_jobs::{LookJob, LookResult, ProbeResult, WatchJobOutcome, probe_places, run_look};
use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::private_data::PrivateData;
use crate::engine::serve::StaleShares;
use crate::engine::share::run_hash_jobs;
use crate::engine::{Error, LocalUser, Notice, PollReason, run_blocking};
use crate::sys::{InodeKey, mount_points};

/// Interval of the looks at the places themselves.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_LOOKS: usize = 4;

/// A handle that tells the watcher of another process's changes to what is shared. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ShareWatcherHandle(Arc<Notify>);

/// The task that watches the shares.
pub(super) struct ShareWatcher {
    me: LocalUser,
    stale_shares: Arc<StaleShares>,
    tracker: TrackerHandle,
    events: EventBus,
    reload: ShareWatcherHandle,
    stop: CancellationToken,
    private: Arc<PrivateData>,
    inbox: Arc<WatchInbox>,
    watches: Arc<FolderWatches>,
    schedule: ChangeSchedule,
    hash_queue: HashQueue,
    places: BTreeMap<PlaceId, WatchedPlace>,
    /// The places by their folders.
    by_folder: HashMap<PathBuf, Vec<PlaceId>>,
    next_place: u64,
    jobs: JoinSet<WatchJobOutcome>,
    looks_running: usize,
    /// True while the places of complete, or of incomplete, reports are looked at.
    is_probing: [bool; 2],
    mount_points: HashSet<PathBuf>,
    /// The reasons for walks that the user was told of.
    told: HashSet<PollReason>,
}

struct WatchedPlace {
    place: Arc<SharePlace>,
    /// Held while the place is compared, and while shares of it are stored.
    order: Arc<Mutex<()>>,
    reports: ChangeReports,
    /// The folder when it was looked at last: `None` if that never happened, `Some(None)` if it wasn't there.
    inode: Option<Option<InodeKey>>,
}

impl ShareWatcherHandle {
    /// Makes the watcher read anew what is shared.
    pub(super) fn reload(&self) {
        self.0.notify_one();
    }
}

impl ShareWatcher {
    pub(super) fn new(
        me: LocalUser,
        stale_shares: Arc<StaleShares>,
        tracker: TrackerHandle,
        events: EventBus,
        reload: ShareWatcherHandle,
        stop: CancellationToken,
    ) -> Self {
        let inbox = Arc::<WatchInbox>::default();
        // For what is there already.
        reload.reload();
        Self {
            private: Arc::new(PrivateData::of(&me.profile)),
            watches: Arc::new(FolderWatches::new(inbox.clone())),
            me,
            stale_shares,
            tracker,
            events,
            reload,
            stop,
            inbox,
            schedule: ChangeSchedule::default(),
            hash_queue: HashQueue::default(),
            places: BTreeMap::new(),
            by_folder: HashMap::new(),
            next_place: 0,
            jobs: JoinSet::new(),
            looks_running: 0,
            is_probing: [false; 2],
            mount_points: HashSet::new(),
            told: HashSet::new(),
        }
    }

    /// Runs until the node stops.
    ///
    /// # Errors
    /// When a job panics.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        // Before the first look, so that no disk comes or goes unnoticed.
        self.mount_points = run_blocking(|| Ok(mount_points().into_iter().collect())).await?;
        let mut probe = tokio::time::interval(PROBE_INTERVAL);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (inbox, reload, stop) = (self.inbox.clone(), self.reload.clone(), self.stop.clone());
        loop {
            self.begin_looks();
            self.begin_hashing();
            // With all of them under way, the end of one wakes the loop.
            let next_look = self.schedule.next_due().filter(|_| self.looks_running < MAX_LOOKS);
            tokio::select! {
                () = stop.cancelled() => break,
                () = reload.0.notified() => self.load().await,
                () = inbox.wait() => self.take_reports(),
                // `select!` evaluates the time even where the branch is off.
                () = tokio::time::sleep_until(next_look.unwrap_or_else(Instant::now).into()), if next_look.is_some() => {}
                _ = probe.tick() => self.begin_probes(),
                Some(ended) = self.jobs.join_next() => match ended {
                    Ok(outcome) => self.note_job(outcome),
                    Err(failure) => return Err(Error::Internal(failure.to_string())),
                },
            }
        }
        // The jobs notice the stop; a disk that hangs is not waited for.
        self.jobs.detach_all();
        Ok(())
    }

    /// Reads what is shared, and looks at all places: they may have been shared anew or in part no more.
    async fn load(&mut self) {
        let profile = self.me.profile.clone();
        let loaded = match run_blocking(move || load_places(&profile)).await {
            Ok(loaded) => loaded,
            Err(error) => {
                // The next change of what is shared reads it again.
                tracing::error!("what is shared could not be read, and is not watched: {error}");
                return;
            }
        };
        let now = Instant::now();
        let mut known: BTreeMap<PlaceKey, PlaceId> =
            self.places.iter().map(|(id, watched)| (watched.place.key(), *id)).collect();
        for place in loaded {
            match known.remove(&place.key()) {
                Some(id) => {
                    if let Some(watched) = self.places.get_mut(&id) {
                        watched.place = Arc::new(place);
                    }
                    self.schedule.request_walk(id, now);
                }
                None => self.add_place(place, now),
            }
        }
        known.into_values().for_each(|id| self.remove_place(id));
    }

    fn add_place(&mut self, place: SharePlace, now: Instant) {
        let id = PlaceId(self.next_place);
        self.next_place += 1;
        self.by_folder.entry(place.folder().to_owned()).or_default().push(id);
        let watched = WatchedPlace {
            place: Arc::new(place),
            order: Arc::default(),
            reports: ChangeReports::Complete,
            inode: None,
        };
        self.places.insert(id, watched);
        self.schedule.add_place(id, now);
    }

    fn remove_place(&mut self, id: PlaceId) {
        if let Some(removed) = self.places.remove(&id)
            && let Some(places) = self.by_folder.get_mut(removed.place.folder())
        {
            places.retain(|place| *place != id);
            if places.is_empty() {
                self.by_folder.remove(removed.place.folder());
            }
        }
        self.schedule.remove_place(id);
        self.hash_queue.remove_place(id);
        self.release(id);
    }

    fn release(&mut self, id: PlaceId) {
        let watches = self.watches.clone();
        // Not here: the watcher's lock is held while the system is asked, which may take long.
        self.jobs.spawn_blocking(move || {
            watches.remove_place(id);
            WatchJobOutcome::Released
        });
    }

    /// Hands the system's reports to the places that they concern.
    fn take_reports(&mut self) {
        let (reports, now) = (self.inbox.take(), Instant::now());
        if reports.has_overflowed {
            // Reports of watches that the kernel dropped may be among the lost ones (inotify(7), `IN_Q_OVERFLOW`).
            self.watches.forget_all();
            self.places.keys().for_each(|id| self.schedule.request_walk(*id, now));
        }
        for (path, report) in reports.paths {
            if report == PathReport::Place {
                self.watches.forget(&path);
            }
            for folder in path.ancestors() {
                for id in self.by_folder.get(folder).into_iter().flatten() {
                    let relative = path.strip_prefix(folder).unwrap_or(Path::new(""));
                    if relative.as_os_str().is_empty() {
                        self.schedule.request_walk(*id, now);
                    } else if self.places.get(id).is_some_and(|watched| watched.place.concerns(relative)) {
                        self.schedule.note_change(*id, relative, now);
                    }
                }
            }
        }
    }

    fn begin_looks(&mut self) {
        let free = MAX_LOOKS.saturating_sub(self.looks_running);
        for due in self.schedule.take_due(Instant::now(), free) {
            let Some(watched) = self.places.get(&due.place) else { continue };
            let job = LookJob {
                id: due.place,
                place: watched.place.clone(),
                order: watched.order.clone(),
                scope: due.scope,
                profile: self.me.profile.clone(),
                private: self.private.clone(),
                watches: self.watches.clone(),
                stale_shares: self.stale_shares.clone(),
            };
            self.looks_running += 1;
            self.jobs.spawn_blocking(move || WatchJobOutcome::Look(job.id, Box::new(run_look(&job))));
        }
    }

    fn begin_hashing(&mut self) {
        for lane in [HashLane::Small, HashLane::Large] {
            let Some((id, files)) = self.hash_queue.take_batch(lane) else { continue };
            let Some(SharePlace::Tree(root)) = self.places.get(&id).map(|watched| &*watched.place) else {
                // The place may be gone by now, and the lane must not stay taken.
                self.hash_queue.note_finished(lane);
                continue;
            };
            let (root, order) = (root.clone(), self.places[&id].order.clone());
            let (profile, private, stop) = (self.me.profile.clone(), self.private.clone(), self.stop.clone());
            self.jobs.spawn_blocking(move || {
                let hashed = run_hash_jobs(&profile, &private, &root, &files, &order, &|| stop.is_cancelled());
                WatchJobOutcome::Hashed(lane, id, hashed)
            });
        }
    }

    /// Looks at the places themselves. Those that may hang, on other machines, keep nobody from looking at the others.
    fn begin_probes(&mut self) {
        for (number, reports) in [ChangeReports::Complete, ChangeReports::Partial].into_iter().enumerate() {
            let places = self.places.iter().filter(|(_, watched)| watched.reports == reports);
            let folders: Vec<(PlaceId, PathBuf)> =
                places.map(|(id, watched)| (*id, watched.place.folder().to_owned())).collect();
            // One at a time of each kind: at a disk that hangs, each second would leave a further thread.
            if !self.is_probing[number] && !folders.is_empty() {
                self.is_probing[number] = true;
                self.jobs.spawn_blocking(move || WatchJobOutcome::Probed(number, probe_places(folders)));
            }
        }
    }

    fn note_job(&mut self, outcome: WatchJobOutcome) {
        match outcome {
            WatchJobOutcome::Look(id, result) => {
                self.looks_running -= 1;
                self.note_look(id, *result);
            }
            WatchJobOutcome::Hashed(lane, id, hashed) => {
                self.hash_queue.note_finished(lane);
                match hashed {
                    Ok(hashed) => {
                        let now = Instant::now();
                        hashed.unsettled.into_iter().for_each(|path| self.schedule.note_unsettled(id, path, now));
                        self.hash_queue.note_refused(id, hashed.refused);
                        if hashed.stored > 0 {
                            self.tracker.shares_changed();
                        }
                    }
                    // Found again by the next walk.
                    Err(error) => tracing::error!("files of a shared folder could not be shared: {error}"),
                }
            }
            WatchJobOutcome::Probed(number, result) => {
                self.is_probing[number] = false;
                self.note_probe(result);
            }
            WatchJobOutcome::Released => {}
        }
    }

    fn note_look(&mut self, id: PlaceId, result: LookResult) {
        let (LookResult { looked, reports, poll_reason, inode }, now) = (result, Instant::now());
        if let Some(watched) = self.places.get_mut(&id) {
            watched.reports = reports;
            if watched.inode.replace(inode).is_some_and(|before| before != inode) {
                // Also where nothing is stored: files that aren't there are not listed.
                self.tracker.shares_changed();
            }
            self.schedule.set_reports(id, reports, now);
            if let Some(reason) = poll_reason.filter(|reason| self.told.insert(*reason)) {
                let folder = watched.place.folder().to_string_lossy().into_owned();
                self.events.send(NodeEvent::Notice(Notice::FoldersPolled { folder, reason }));
            }
        } else {
            // It was removed meanwhile; the look may have watched folders for it after that.
            self.release(id);
        }
        let outcome = match looked {
            Ok(report) => {
                if !report.is_available {
                    tracing::debug!("a shared folder is not there; what is shared of it is kept");
                }
                for name in report.stale {
                    self.events.send(NodeEvent::Stale { name });
                }
                self.hash_queue.add(id, report.to_hash);
                if report.has_changed {
                    self.tracker.shares_changed();
                }
                LookOutcome { unsettled: report.unsettled, has_failed: false }
            }
            Err(error) => {
                tracing::error!("a shared folder could not be compared with the disk: {error}");
                LookOutcome { unsettled: Vec::new(), has_failed: true }
            }
        };
        self.schedule.note_outcome(id, outcome, now);
    }

    /// Walks places whose folder is another now, or gone, and those with a disk that came or went.
    fn note_probe(&mut self, ProbeResult { folders, mount_points }: ProbeResult) {
        let (now, mut has_changed) = (Instant::now(), false);
        let changed: Vec<&PathBuf> = mount_points.symmetric_difference(&self.mount_points).collect();
        for (id, watched) in &self.places {
            let folder = watched.place.folder();
            let is_other = folders.get(id).is_some_and(|inode| watched.inode.is_some_and(|seen| seen != *inode));
            if is_other || changed.iter().any(|mount| mount.starts_with(folder) || folder.starts_with(mount)) {
                self.watches.forget(folder);
                self.schedule.request_walk(*id, now);
                has_changed = true;
            }
        }
        self.mount_points = mount_points;
        if has_changed {
            // Files that aren't there are not listed, whatever is stored of them.
            self.tracker.shares_changed();
        }
    }
}
