//! The task that writes this tracker's changes to the log and applies those of all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::UserName;
use shared::tracker::TrackerEventKind;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::TrackerService;
use super::change_queue::{ChangeFailure, ChangeQueue, SubmittedChange};
use super::shared_registry::drop_in_background;
use crate::catalogue::FileList;
use crate::registry::{AppliedChange, ChangeConflict, LocalDetails, NodeId, ReplicatedChange};
use crate::store::{LogEntry, LogError, LogSession, LogTurn, ReplicatedLog};

/// The interval at which the log is read without a notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time before the first attempt to use the log again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A tracker that could not reach the database leaves the others so much time to renew their leases before it takes any
/// for dead: they could not reach it either.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(8);

/// A transaction whose COMMIT has no answer yet.
#[derive(Debug)]
struct EntryInDoubt {
    turn: LogTurn,
    node: NodeId,
    changes: Vec<SubmittedChange>,
    events: Vec<TrackerEventKind>,
}

/// The events that a tracker owed whose users are taken over.
#[derive(Debug, Default)]
struct OwedEvents {
    /// The last entry that it had settled.
    settled: i64,
    /// The users whose events it owed.
    users: HashSet<UserName>,
    /// Those of them whose keys changed.
    keys: HashSet<UserName>,
}

/// The state of the task.
struct Replicator {
    service: Arc<TrackerService>,
    log: ReplicatedLog,
    wake: Arc<Notify>,
    queue: ChangeQueue,
    /// The last entry that is applied.
    applied: i64,
    /// The last entry of this run whose events are in the pacer.
    settled: i64,
    in_doubt: Option<EntryInDoubt>,
    /// The trackers whose users are to be taken over.
    owed: HashMap<NodeId, OwedEvents>,
}

impl TrackerService {
    /// Writes and applies changes until `stop`, and then until none waits. Does nothing for an embedded store.
    pub async fn run_replication(self: Arc<Self>, stop: CancellationToken) {
        let Some(link) = &self.replication else { return };
        let Some(queue) = link.queue.lock().take() else { return };
        let replicator = Replicator {
            log: link.log.clone(),
            wake: Arc::clone(&link.wake),
            queue,
            applied: link.begun_at,
            settled: link.begun_at,
            in_doubt: None,
            owed: HashMap::new(),
            service: Arc::clone(&self),
        };
        replicator.run(stop).await;
    }
}

impl Replicator {
    async fn run(mut self, stop: CancellationToken) {
        let (mut backoff, mut last_trouble) = (BACKOFF.0, None);
        // At the start nobody else has to be waited for: whoever has no lease had none before.
        let mut patience = Duration::ZERO;
        loop {
            // Before the session: a run that is fenced waits until its number is another one.
            let node = self.log.node();
            let ended = match self.log.open(Arc::clone(&self.wake)).await {
                Ok(session) => self.work(&session, patience, &stop, &mut backoff).await,
                Err(why) => Err(why),
            };
            patience = PATIENCE_WITH_OTHERS;
            match ended {
                Ok(()) => return,
                Err(LogError::OutOfDate) => {
                    warn!("this tracker missed more changes than the database keeps");
                    return self.log.report_outdated();
                }
                // With the old number every further attempt would be refused.
                Err(LogError::Fenced) => self.log.wait_for_other_node(node).await,
                Err(LogError::Lost(why)) => {
                    // Once for each reason: during an outage the attempts go on.
                    if last_trouble.as_ref() != Some(&why) {
                        warn!(%why, "what users do is not written, and not heard of from other trackers");
                    }
                    last_trouble = Some(why);
                    self.log.report_trouble();
                }
            }
            // Clients hear at once that it failed instead of waiting until their time is over.
            self.refuse_waiting();
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Works with one session until it fails or the stop is done.
    async fn work(
        &mut self,
        session: &LogSession,
        patience: Duration,
        stop: &CancellationToken,
        backoff: &mut Duration,
    ) -> Result<(), LogError> {
        self.service.with_registry(|registry, _| registry.set_node(session.node()));
        self.resolve_doubt(session).await?;
        *backoff = BACKOFF.0;
        let may_adopt = Instant::now() + patience;
        let mut next_poll = Instant::now();
        loop {
            // Those that ask now are answered by the reading that begins after this.
            self.queue.take_requests();
            let readers = self.queue.take_readers();
            self.read(session, None).await?;
            for reader in readers {
                // Whoever asked may be gone.
                let _ = reader.send(());
            }
            self.write(session).await?;
            if next_poll <= Instant::now() {
                next_poll = Instant::now() + POLL_INTERVAL;
                self.adopt_dead_nodes(session, may_adopt <= Instant::now()).await?;
            }
            // What had no place in the batch, such as a second change of one user, is written without a pause.
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.queue.receive() => {}
                () = sleep_until(next_poll) => {}
                () = stop.cancelled() => return session.give_up_lease().await,
            }
        }
    }

    /// Refuses what waits: nothing of it is written.
    fn refuse_waiting(&mut self) {
        let all = self.queue.take_all();
        self.refuse(all);
    }

    fn refuse(&self, changes: impl IntoIterator<Item = SubmittedChange>) {
        for SubmittedChange { change, outcome, .. } in changes {
            match outcome {
                Some(outcome) => drop(outcome.send(Err(ChangeFailure::Away))),
                // The registry still wants it.
                None => self.service.with_registry(|registry, _| registry.propose(change)),
            }
        }
    }

    /// Finds out whether the entry in doubt is there.
    async fn resolve_doubt(&mut self, session: &LogSession) -> Result<(), LogError> {
        if self.in_doubt.is_none() {
            return Ok(());
        }
        // With the lock no transaction of before can be under way.
        let turn = session.begin().await?;
        session.confirm().await?;
        self.read(session, Some(turn.number)).await?;
        if let Some(undone) = self.in_doubt.take() {
            info!("changes whose answer was lost are undone");
            self.undo(undone.changes, undone.events);
        }
        Ok(())
    }

    /// Gives back what is certainly not written.
    fn undo(&self, changes: Vec<SubmittedChange>, events: Vec<TrackerEventKind>) {
        self.service.with_registry(|registry, _| registry.return_outgoing_events(events));
        self.refuse(changes);
    }

    /// Reads and applies the entries that are new; all of those before `until` if it is given.
    async fn read(&mut self, session: &LogSession, until: Option<i64>) -> Result<(), LogError> {
        while until.is_none_or(|until| self.applied + 1 < until) {
            let entries = session.read_after(self.applied).await?;
            if entries.is_empty() {
                // The end is locked, so all before it is committed: what can't be read is no longer kept.
                if until.is_some() {
                    return Err(LogError::OutOfDate);
                }
                if let Some(link) = &self.service.replication {
                    *link.read_at.lock() = std::time::Instant::now();
                }
                return Ok(());
            }
            for entry in entries {
                self.apply_entry(entry).await;
            }
        }
        Ok(())
    }

    async fn apply_entry(&mut self, entry: LogEntry) {
        let LogEntry { number, begins_epoch, node, event_before, changes, events } = entry;
        let own = self.in_doubt.take_if(|doubt| doubt.turn.number == number && doubt.node == node);
        match own {
            Some(EntryInDoubt { changes, .. }) => self.apply_own(changes, node),
            None => {
                for change in changes {
                    let details = self.details_of(&change).await;
                    self.apply(change, node, details);
                }
            }
        }
        if begins_epoch {
            // Subscribers are to look anew, even if nothing happens for long.
            self.service.with_registry(|registry, _| registry.append_events(event_before + 1, Vec::new()));
        }
        self.finish_entry(number, node, event_before, events);
    }

    fn finish_entry(&mut self, number: i64, node: NodeId, event_before: u64, events: Vec<TrackerEventKind>) {
        self.applied = number;
        if node == self.log.node() {
            // Its changes are applied, so their events are sent or held back: nothing of it is owed any more.
            self.settled = number;
        }
        if !events.is_empty() {
            self.service.with_registry(|registry, _| registry.append_events(event_before + 1, events));
        }
    }

    /// Makes the list that another tracker's change makes, without the registry's lock.
    async fn details_of(&self, change: &ReplicatedChange) -> LocalDetails {
        let ReplicatedChange::Files { user, mode, files, .. } = change else { return LocalDetails::default() };
        let Some(before) = self.service.with_registry(|registry, _| registry.files(user).cloned()) else {
            return LocalDetails::default();
        };
        let (mode, files) = (*mode, files.clone());
        let make = move || {
            let after = before.with_changes(mode, &FileList::from_list(files)).ok().flatten();
            (after, before)
        };
        // A panic there is a fault that the log shows; the list stays as it is.
        let Ok((after, before)) = tokio::task::spawn_blocking(make).await else { return LocalDetails::default() };
        drop_in_background(vec![before]);
        LocalDetails { files: after, ..LocalDetails::default() }
    }

    fn apply(&self, change: ReplicatedChange, by: NodeId, details: LocalDetails) -> AppliedChange {
        if let ReplicatedChange::Registered { user, lapses: true, .. } = &change {
            self.service.note_unused(user.clone());
        }
        self.service.with_registry(|registry, now| registry.apply(change, by, details, now))
    }

    fn apply_own(&mut self, changes: Vec<SubmittedChange>, node: NodeId) {
        for SubmittedChange { change, details, outcome } in changes {
            let owed = if let ReplicatedChange::Adopted { node } = &change { self.owed.remove(node) } else { None };
            let applied = self.apply(change, node, details);
            if let Some(OwedEvents { users, keys, .. }) = owed {
                self.service.with_registry(|registry, _| {
                    users.iter().for_each(|user| registry.tell_state(user));
                    keys.iter().for_each(|user| registry.tell_key(user));
                });
            }
            let Some(outcome) = outcome else { continue };
            if let (Err(_), AppliedChange::Session(session)) = (outcome.send(Ok(applied)), applied) {
                // Whoever logged in is gone.
                self.service.with_registry(|registry, now| registry.connection_dropped(session, now));
            }
        }
    }

    /// Writes what waits, if anything does.
    async fn write(&mut self, session: &LogSession) -> Result<(), LogError> {
        self.queue.take_requests();
        let (proposals, has_events) =
            self.service.with_registry(|registry, _| (registry.take_proposals(), registry.has_work_for_log()));
        self.queue.extend(proposals);
        let mut batch = self.queue.next_batch();
        if batch.is_empty() && !has_events {
            return Ok(());
        }
        let turn = match self.prepare(session, &mut batch).await {
            Ok(turn) => turn,
            Err(why) => {
                // No COMMIT was sent, so nothing is in doubt.
                self.undo(batch, Vec::new());
                return Err(why);
            }
        };
        // Only now: they are as of after all entries before this one. What is neither sent nor held back is nowhere.
        let (events, held) =
            self.service.with_registry(|registry, _| (registry.take_outgoing_events(), registry.held_back_users()));
        if batch.is_empty() && events.is_empty() {
            // All were refused: an entry with nothing in it would only wake the other trackers.
            return session.roll_back().await;
        }
        // With the adoption this tracker owes what that one owed.
        let adopted = batch.iter().filter_map(|one| match &one.change {
            ReplicatedChange::Adopted { node } => self.owed.get(node),
            _ => None,
        });
        let held = held.into_iter().chain(adopted.flat_map(|owed| owed.users.iter().cloned())).collect();
        let changes: Vec<&ReplicatedChange> = batch.iter().map(|one| &one.change).collect();
        let committed = session.commit(turn, &changes, &events, (self.settled, &held)).await;
        let entry = EntryInDoubt { turn, node: session.node(), changes: batch, events };
        if let Err(why) = committed {
            // Whole: found in the log it is applied as this tracker's own, and otherwise given back.
            self.in_doubt = Some(entry);
            return Err(why);
        }
        let EntryInDoubt { node, changes, events, .. } = entry;
        self.apply_own(changes, node);
        self.finish_entry(turn.number, node, turn.last_event, events);
        Ok(())
    }

    /// Locks the end of the log, refuses what has no place there, and writes the rows of the rest.
    async fn prepare(&mut self, session: &LogSession, batch: &mut Vec<SubmittedChange>) -> Result<LogTurn, LogError> {
        let turn = session.begin().await?;
        // A change is judged by the state after all entries before it, those of other trackers included.
        self.read(session, Some(turn.number)).await?;
        for one in std::mem::take(batch) {
            let admitted = match &one.change {
                ReplicatedChange::Adopted { node } => {
                    let settled = self.owed.get(node).map(|owed| owed.settled);
                    // Others may have been faster, or it may be alive after all.
                    let still = session.lock_dead_node(*node).await?.map(|dead| dead.settled);
                    if still.is_some() && still == settled { Ok(()) } else { Err(ChangeConflict::Presence) }
                }
                change => self.service.with_registry(|registry, _| registry.admit(change, &one.details)),
            };
            match (admitted, one.outcome) {
                (Ok(()), outcome) => batch.push(SubmittedChange { outcome, ..one }),
                (Err(conflict), Some(outcome)) => {
                    // Whoever asked may be gone.
                    let _ = outcome.send(Err(ChangeFailure::Conflict(conflict)));
                }
                // It has no place any more, and nobody waits for it.
                (Err(_), None) => {}
            }
        }
        let changes: Vec<_> = batch.iter().map(|one| (&one.change, one.details.files.as_ref())).collect();
        session.write_changes(&changes).await?;
        Ok(turn)
    }

    /// Takes over the users of trackers that ended; of those that died only if `with_lapsed`.
    async fn adopt_dead_nodes(&mut self, session: &LogSession, with_lapsed: bool) -> Result<(), LogError> {
        // Read anew each time: another tracker may have taken one of them over meanwhile.
        self.owed.clear();
        for dead in session.dead_nodes(with_lapsed).await? {
            let changes = session.changes_of(dead.node, dead.settled).await?;
            let users_of = |is_wanted: fn(&ReplicatedChange) -> bool| {
                changes.iter().filter(move |change| is_wanted(change)).filter_map(|change| change.user().cloned())
            };
            let held = dead.held.iter().filter_map(|user| user.parse().ok());
            let users = held.chain(users_of(ReplicatedChange::has_events)).collect();
            let keys =
                users_of(|change| matches!(change, ReplicatedChange::Bound { .. } | ReplicatedChange::Unbound { .. }))
                    .collect();
            self.owed.insert(dead.node, OwedEvents { settled: dead.settled, users, keys });
            self.queue.extend([ReplicatedChange::Adopted { node: dead.node }]);
            info!(node = dead.node.0, "a tracker ended: its users are taken over");
        }
        Ok(())
    }
}
