//! This tracker as one of several on a database: changes of presence go through the log that all of them share.
//!
//! ```text
//! action ─► submit ─► Replicator: lock the log's end ─► apply what others wrote ─► is the change still right?
//!                                  ─► rows, entry, events, COMMIT ─► apply ─► the action's reply
//! notification, or each second ─► read ─► apply
//! ```
//!
//! Submitted changes that wait are written together: one transaction takes all that came during the one before. Of one
//! user there is one change in a transaction, so that each is judged after all before it. A change has its reply only when
//! it is committed and applied here; the events that it makes are in the next transaction, and the entry says until then
//! that this tracker owes them.
//!
//! A COMMIT whose answer is lost is *in doubt*: whoever locks the log's end again finds the entry, or knows that there
//! will never be one.
//!
//! What is not shared: rates, password guesses among them, are counted by each tracker; sessions that only authenticate are
//! those of the tracker where they began; and the lists' memory is bounded by each tracker for the lists of all.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | clients' changes that wait | `MAX_WAITING_REQUESTS` | `busy` |
//! | changes in one transaction | `CHANGES_PER_ENTRY`, or about `BYTES_PER_ENTRY` of them | the next one follows at once |
//! | the wait for a change | `CHANGE_PATIENCE` | `busy`: unknown whether it is made; one that is in no transaction yet is dropped, unless it ends a presence |
//! | the database is away, or this tracker's lease is over | | `busy` for all that is about presence; lists are as of before |

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::UserName;
use shared::tracker::TrackerRequest;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tracing::info;

use super::account_actions::too_many_present;
use super::change_queue::{
    ChangeFailure, ChangeQueue, ChangeSender, ReplicationRequest, SubmittedChange, change_queue,
};
use super::file_actions::files_refused;
use super::{RETRY_AFTER_CHANGE_MS, RefusalReason, RequestError, TrackerService, busy, changed_meanwhile};
use crate::metrics::ReplicationSnapshot;
use crate::registry::{AppliedChange, ChangeConflict, LocalDetails, NodeId, PresenceRegistry, ReplicatedChange};
use crate::store::{ReplicatedLog, SharedState};

/// The time that a client waits for a change to be made.
const CHANGE_PATIENCE: Duration = Duration::from_secs(8);
/// The time since the log was read to its end after which something is wrong.
const MAX_LOG_AGE: Duration = Duration::from_secs(10);
/// Advice to clients after too many changes waited, or the database was away.
const REPLICATION_RETRY_MS: u64 = 2000;

/// The way to the replicator, and the lease of this tracker.
#[derive(Debug)]
pub(super) struct ReplicationLink {
    pub(super) log: ReplicatedLog,
    requests: ChangeSender,
    /// Taken by the replicator when it starts.
    pub(super) queue: Mutex<Option<ChangeQueue>>,
    /// Wakes the replicator: there is an entry to read, or something to write.
    pub(super) wake: Arc<Notify>,
    /// The last entry of the log that the registry knew at the start.
    pub(super) begun_at: i64,
    /// The time at which the log was read to its end.
    pub(super) read_at: Mutex<Instant>,
}

impl ReplicationLink {
    pub(super) fn new(log: ReplicatedLog, wake: Arc<Notify>, begun_at: i64) -> Self {
        let (requests, queue) = change_queue();
        Self { log, requests, queue: Mutex::new(Some(queue)), wake, begun_at, read_at: Mutex::new(Instant::now()) }
    }

    /// True if the log could not be read for longer than a short outage lasts.
    pub(super) fn is_behind(&self) -> bool {
        self.read_at.lock().elapsed() > MAX_LOG_AGE
    }

    /// Returns the state for the metrics.
    pub(super) fn snapshot(&self) -> ReplicationSnapshot {
        ReplicationSnapshot {
            lease: self.log.lease_left(),
            log_age: self.read_at.lock().elapsed(),
            waiting: self.requests.waiting(),
        }
    }

    fn request(&self, request: ReplicationRequest) -> Result<(), RequestError> {
        let full = || busy(RefusalReason::TooManyChanges, REPLICATION_RETRY_MS);
        self.requests.try_send(request).then_some(()).ok_or_else(full)
    }

    async fn submit(&self, change: ReplicatedChange, details: LocalDetails) -> Result<AppliedChange, RequestError> {
        let (outcome, made) = oneshot::channel();
        let user = change.user().cloned();
        let submitted = SubmittedChange { change, details, outcome: Some(outcome) };
        self.request(ReplicationRequest::Change(Box::new(submitted)))?;
        match timeout(CHANGE_PATIENCE, made).await {
            Ok(Ok(Ok(applied))) => Ok(applied),
            Ok(Ok(Err(ChangeFailure::Conflict(conflict)))) => Err(conflict_error(conflict, user.as_ref())),
            Ok(Ok(Err(ChangeFailure::Away))) => Err(away()),
            // The replicator ended, or the database says nothing about a COMMIT.
            Ok(Err(_)) | Err(_) => Err(busy(RefusalReason::OutcomeUnknown, REPLICATION_RETRY_MS)),
        }
    }

    async fn catch_up(&self) -> Result<(), RequestError> {
        let (done, caught_up) = oneshot::channel();
        self.request(ReplicationRequest::CatchUp(done))?;
        let unknown = || busy(RefusalReason::OutcomeUnknown, REPLICATION_RETRY_MS);
        timeout(CHANGE_PATIENCE, caught_up).await.ok().and_then(Result::ok).ok_or_else(unknown)
    }
}

impl TrackerService {
    /// True if several trackers share the users.
    pub(super) const fn is_replicated(&self) -> bool {
        self.replication.is_some()
    }

    /// Makes a change on all trackers of the database, and returns its effect here. `None` where there is only one.
    pub(super) async fn replicate(
        &self,
        change: ReplicatedChange,
        details: LocalDetails,
    ) -> Result<Option<AppliedChange>, RequestError> {
        let Some(link) = &self.replication else { return Ok(None) };
        self.ensure_lease()?;
        self.ensure_no_outage()?;
        link.submit(change, details).await.map(Some)
    }

    /// Applies all changes that are committed, those of a job of before included. Returns false where there is one
    /// tracker, which tells itself.
    pub(super) async fn catch_up(&self) -> Result<bool, RequestError> {
        let Some(link) = &self.replication else { return Ok(false) };
        self.ensure_no_outage()?;
        link.catch_up().await?;
        Ok(true)
    }

    /// Refuses at once what the database can't do while it is known to be away.
    fn ensure_no_outage(&self) -> Result<(), RequestError> {
        if self.accounts.outage().is_some() { Err(away()) } else { Ok(()) }
    }

    /// Refuses to speak of presence while other trackers may take this one for dead.
    pub(super) fn ensure_lease(&self) -> Result<(), RequestError> {
        let is_held = self.replication.as_ref().is_none_or(|link| link.log.is_lease_held());
        if is_held { Ok(()) } else { Err(away()) }
    }
}

/// Restores what several trackers share, and returns the number of the log's entry of which it is the effect.
pub(super) fn restore_shared(registry: &mut PresenceRegistry, shared: SharedState, node: NodeId, now: Instant) -> i64 {
    let first = shared.event_before_kept() + 1;
    let SharedState { number, events, presences, .. } = shared;
    // First: presences of a database are neither queued for an end here nor marked for the tracker's own file.
    registry.replicate(node);
    registry.append_events(first, events);
    let known = presences.len();
    for (login, holder, files) in presences {
        registry.restore_shared(login, holder, files, now);
    }
    info!(known, number, "present by the database");
    number
}

/// True for requests whose reply says that a user is present, or no longer.
pub(super) const fn is_about_presence(request: &TrackerRequest) -> bool {
    matches!(
        request,
        TrackerRequest::Login { .. }
            | TrackerRequest::Resume(_)
            | TrackerRequest::RegisterFiles(_)
            | TrackerRequest::Logout { .. }
            | TrackerRequest::Heartbeat { .. }
    )
}

fn away() -> RequestError {
    busy(RefusalReason::DatabaseAway, REPLICATION_RETRY_MS)
}

fn conflict_error(conflict: ChangeConflict, user: Option<&UserName>) -> RequestError {
    match (conflict, user) {
        (ChangeConflict::TooManyPresent, _) => too_many_present(),
        (ChangeConflict::List, _) => busy(RefusalReason::ListChanged, RETRY_AFTER_CHANGE_MS),
        (ChangeConflict::Files(why), Some(user)) => files_refused(user, why),
        (ChangeConflict::Account | ChangeConflict::Presence | ChangeConflict::Files(_), _) => changed_meanwhile(),
    }
}
