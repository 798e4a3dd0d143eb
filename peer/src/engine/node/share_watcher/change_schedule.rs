//! Schedule of looks at shared places: decides from reports of changes when which part of a place is compared with the
//! disk. Pure, with the time as an argument.
//!
//! A change is looked at once nothing happens to its path for [`QUIET`], and after [`MAX_DELAY`] in any case: a rename,
//! an editor's file that takes the place of another, and the many writes of one copy are one look. A file that a look
//! finds in the middle of being written is looked at again, until [`WRITE_PATIENCE`] is over; then it is hashed as it is, and
//! each time that happens again the patience doubles. Looks at parts are checked by one walk of the place some time later.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | paths of a place that wait | `MAX_PENDING` | one walk of the whole place in their stead |
//! | paths of a place that are known to be written | `MAX_WRITERS` | the oldest is forgotten: its patience begins anew |
//! | looks at a place at once | one | |
//! | walks of a place | a pause of twice as long as the last one took | |
//! | walks of a place that check earlier looks | a pause of 50 times as long as the last one took | |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::share::{SyncScope, WritePatience};
use crate::util::Backoff;

/// Time without a change after which a path is looked at.
const QUIET: Duration = Duration::from_millis(200);
/// The longest time from a change to the look at it.
const MAX_DELAY: Duration = Duration::from_millis(1000);
/// Pause before another look at a file that is being written.
const UNSETTLED_DELAY: Duration = Duration::from_millis(300);
/// The time for which a file that is written without a pause is waited for, at first and at most.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
const MAX_WRITE_PATIENCE: Duration = Duration::from_secs(600);
/// What falls due so soon is looked at together.
const BATCH_WINDOW: Duration = Duration::from_millis(50);
const MAX_PENDING: usize = 4096;
const MAX_WRITERS: usize = 1024;
/// The shortest pause between two walks of a place.
const MIN_WALK_PAUSE: Duration = Duration::from_millis(500);
/// Time between two walks of a place of which all changes are reported: a safety net.
const RESCAN_INTERVAL: Duration = Duration::from_secs(3600);
/// The shortest time from a look at changes to the walk that checks them: while a tree is renamed and written to at once,
/// its watches miss what they are set too late for.
const CHECK_DELAY: Duration = Duration::from_secs(30);
/// Bounds of the time between two walks of a place that doesn't report all changes.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(5);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(600);
/// The pause before a walk that no change asks for, as a multiple of the last walk's time.
const POLL_PAUSE_FACTOR: u32 = 50;
/// Bounds of the pause after a look that failed.
const MIN_FAILURE_DELAY: Duration = Duration::from_secs(1);
const MAX_FAILURE_DELAY: Duration = Duration::from_secs(300);

/// The number of a place in this run of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PlaceId(pub(super) u64);

/// The completeness of the reports about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeReports {
    /// Every change is reported.
    Complete,
    /// Some changes are not: the place is walked at intervals as well.
    Partial,
}

/// A look that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueLook {
    pub(super) place: PlaceId,
    pub(super) scope: SyncScope,
}

/// The outcome of a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LookOutcome {
    /// Paths that need another look soon.
    pub(super) unsettled: Vec<PathBuf>,
    /// True if nothing could be compared.
    pub(super) has_failed: bool,
}

/// The schedule of all places.
#[derive(Debug, Default)]
pub(super) struct ChangeSchedule {
    places: BTreeMap<PlaceId, PlaceSchedule>,
}

#[derive(Debug)]
struct PlaceSchedule {
    reports: ChangeReports,
    pending: BTreeMap<PathBuf, PendingLook>,
    writers: BTreeMap<PathBuf, WriterPatience>,
    /// The time of a walk that changes ask for.
    walk_at: Option<Instant>,
    /// The time of the walk that comes by itself.
    rescan_at: Instant,
    /// No walk begins before this.
    walk_floor: Instant,
    /// The time that the last walk took.
    walk_time: Duration,
    running: Option<RunningLook>,
    failures: Backoff,
}

/// A path that waits for its look.
#[derive(Debug, Clone, Copy)]
struct PendingLook {
    first: Instant,
    due: Instant,
}

/// A file that is written without a pause.
#[derive(Debug, Clone, Copy)]
struct WriterPatience {
    since: Instant,
    patience: Duration,
}

#[derive(Debug)]
struct RunningLook {
    scope: SyncScope,
    begun: Instant,
}

impl ChangeSchedule {
    /// Adds a place, which is walked at once.
    pub(super) fn add_place(&mut self, place: PlaceId, now: Instant) {
        self.places.insert(place, PlaceSchedule::new(now));
    }

    /// Removes a place.
    pub(super) fn remove_place(&mut self, place: PlaceId) {
        self.places.remove(&place);
    }

    /// Records how complete the reports about a place are.
    pub(super) fn set_reports(&mut self, place: PlaceId, reports: ChangeReports, now: Instant) {
        if let Some(place) = self.places.get_mut(&place) {
            if reports == ChangeReports::Partial && place.reports == ChangeReports::Complete {
                // Until now the next walk may have been an hour away.
                place.rescan_at = place.rescan_at.min(now + MIN_POLL_INTERVAL);
            }
            place.reports = reports;
        }
    }

    /// Records a change of this path, relative to the place.
    pub(super) fn note_change(&mut self, place: PlaceId, path: &Path, now: Instant) {
        if let Some(place) = self.places.get_mut(&place) {
            place.note_change(path, now);
        }
    }

    /// Records that a place may have changed anywhere.
    pub(super) fn request_walk(&mut self, place: PlaceId, now: Instant) {
        if let Some(place) = self.places.get_mut(&place) {
            place.request_walk(now + QUIET);
        }
    }

    /// Returns the time at which the next look is due; `None` if there is none.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.places.values().filter_map(PlaceSchedule::next_due).min()
    }

    /// Takes up to `limit` looks that are due. Each place has one at most until its outcome is noted.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize) -> Vec<DueLook> {
        let due = self.places.iter_mut().filter_map(|(place, schedule)| {
            let scope = schedule.take_due(now)?;
            Some(DueLook { place: *place, scope })
        });
        // The map is lazy: beyond the limit no place is marked as running.
        due.take(limit).collect()
    }

    /// Records the outcome of a look.
    pub(super) fn note_outcome(&mut self, place: PlaceId, outcome: LookOutcome, now: Instant) {
        if let Some(place) = self.places.get_mut(&place) {
            place.note_outcome(outcome, now);
        }
    }

    /// Records that a path changed while it was hashed.
    pub(super) fn note_unsettled(&mut self, place: PlaceId, path: PathBuf, now: Instant) {
        if let Some(place) = self.places.get_mut(&place) {
            place.note_unsettled(path, now);
        }
    }
}

impl PlaceSchedule {
    fn new(now: Instant) -> Self {
        Self {
            reports: ChangeReports::Complete,
            pending: BTreeMap::new(),
            writers: BTreeMap::new(),
            walk_at: Some(now),
            rescan_at: now + RESCAN_INTERVAL,
            walk_floor: now,
            walk_time: Duration::ZERO,
            running: None,
            failures: Backoff::new(MIN_FAILURE_DELAY, MAX_FAILURE_DELAY),
        }
    }

    fn note_change(&mut self, path: &Path, now: Instant) {
        // The walk has not begun, so it sees this change as well.
        if self.walk_at.is_some() {
            return;
        }
        if let Some(pending) = self.pending.get_mut(path) {
            pending.due = (now + QUIET).min(pending.first + MAX_DELAY);
        } else {
            self.add_pending(path.to_owned(), now, QUIET);
        }
    }

    fn add_pending(&mut self, path: PathBuf, now: Instant, delay: Duration) {
        // A walk sees everything: when one is due, or too much is pending, parts needn't be remembered.
        if self.pending.len() >= MAX_PENDING {
            self.request_walk(now + delay);
        } else if self.walk_at.is_none() {
            let pending = PendingLook { first: now, due: now + delay };
            self.pending.entry(path).or_insert(pending);
        }
    }

    fn request_walk(&mut self, at: Instant) {
        self.pending.clear();
        self.walk_at = Some(self.walk_at.map_or(at, |before| before.min(at)));
    }

    fn walk_due(&self) -> Instant {
        self.walk_at.map_or(self.rescan_at, |at| at.min(self.rescan_at)).max(self.walk_floor)
    }

    fn next_due(&self) -> Option<Instant> {
        let pending = self.pending.values().map(|pending| pending.due).min();
        self.running.is_none().then(|| pending.map_or(self.walk_due(), |due| due.min(self.walk_due())))
    }

    fn take_due(&mut self, now: Instant) -> Option<SyncScope> {
        if self.running.is_some() || self.next_due()? > now {
            return None;
        }
        let scope = if self.walk_due() <= now {
            self.walk_at = None;
            // The walk looks at all of these as well.
            self.pending.clear();
            SyncScope::Whole
        } else {
            let (due, later): (BTreeMap<_, _>, _) = std::mem::take(&mut self.pending)
                .into_iter()
                .partition(|(_, pending)| pending.due <= now + BATCH_WINDOW);
            self.pending = later;
            SyncScope::Parts(due.into_keys().map(|path| self.with_patience(path, now)).collect())
        };
        self.running = Some(RunningLook { scope: scope.clone(), begun: now });
        Some(scope)
    }

    /// Returns the path with the patience that is left for it, which begins anew once it is over.
    fn with_patience(&mut self, path: PathBuf, now: Instant) -> (PathBuf, WritePatience) {
        let writer = self.writers.get_mut(&path).filter(|writer| now >= writer.since + writer.patience);
        let Some(writer) = writer else { return (path, WritePatience::Wait) };
        *writer = WriterPatience { since: now, patience: (writer.patience * 2).min(MAX_WRITE_PATIENCE) };
        (path, WritePatience::Over)
    }

    fn note_outcome(&mut self, outcome: LookOutcome, now: Instant) {
        let Some(RunningLook { scope, begun }) = self.running.take() else { return };
        let took = now.saturating_duration_since(begun);
        if scope == SyncScope::Whole {
            self.walk_time = took;
            let poll = (took * POLL_PAUSE_FACTOR).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);
            let interval = if self.reports == ChangeReports::Complete { RESCAN_INTERVAL } else { poll };
            (self.rescan_at, self.walk_floor) = (now + interval, now + MIN_WALK_PAUSE.max(took * 2));
        } else {
            // The earliest counts: changes without an end must not put it off.
            let delay = (self.walk_time * POLL_PAUSE_FACTOR).clamp(CHECK_DELAY, RESCAN_INTERVAL);
            self.rescan_at = self.rescan_at.min(now + delay);
        }
        if outcome.has_failed {
            let delay = self.failures.next_delay();
            self.request_walk(now + delay);
            return;
        }
        self.failures = Backoff::new(MIN_FAILURE_DELAY, MAX_FAILURE_DELAY);
        // Nobody wrote any more to what was looked at and is settled.
        let is_unsettled = |path: &PathBuf| outcome.unsettled.contains(path);
        self.writers.retain(|path, _| match &scope {
            SyncScope::Whole => is_unsettled(path),
            SyncScope::Parts(parts) => parts.get(path) != Some(&WritePatience::Wait) || is_unsettled(path),
        });
        for path in outcome.unsettled {
            self.note_unsettled(path, now);
        }
    }

    fn note_unsettled(&mut self, path: PathBuf, now: Instant) {
        if self.writers.len() >= MAX_WRITERS
            && !self.writers.contains_key(&path)
            && let Some(oldest) =
                self.writers.iter().min_by_key(|(_, writer)| writer.since).map(|(path, _)| path.clone())
        {
            // Its patience begins anew if it is still being written to.
            self.writers.remove(&oldest);
        }
        let begin = WriterPatience { since: now, patience: WRITE_PATIENCE };
        self.writers.entry(path.clone()).or_insert(begin);
        self.add_pending(path, now, UNSETTLED_DELAY);
    }
}

#[cfg(test)]
mod tests;
