//! The clients' requests to the replicator, until they have their transaction or their reading of the log.
//!
//! ```text
//! ChangeSender ─► channel ─ as long as there is room ─► waiting ─ one change of each user ─► batch
//!                 (half of MAX_WAITING_REQUESTS)         (the other half)
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::catalogue::FileList;
use crate::registry::{AppliedChange, ChangeConflict, LocalDetails, ReplicatedChange};

/// Bounds the requests of clients that wait.
const MAX_WAITING_REQUESTS: usize = 4096;
/// Changes that are written in one transaction.
const CHANGES_PER_ENTRY: usize = 256;
/// Bytes of changes after which an entry ends.
const BYTES_PER_ENTRY: usize = 4 * 1024 * 1024;

/// A change that an action wants.
#[derive(Debug)]
pub(super) struct SubmittedChange {
    pub(super) change: ReplicatedChange,
    pub(super) details: LocalDetails,
    /// `None` for changes that the registry itself wants.
    pub(super) outcome: Option<oneshot::Sender<Result<AppliedChange, ChangeFailure>>>,
}

impl SubmittedChange {
    /// Wraps a change that no client waits for.
    pub(super) fn of_registry(change: ReplicatedChange) -> Self {
        Self { change, details: LocalDetails::default(), outcome: None }
    }

    /// True if its client has given up and asks again if it still wants it. The end of a presence is wanted all the same.
    fn is_abandoned(&self) -> bool {
        let is_awaited = self.outcome.as_ref().is_none_or(|outcome| !outcome.is_closed());
        !is_awaited && !matches!(self.change, ReplicatedChange::End { .. })
    }
}

/// The reason why a submitted change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeFailure {
    /// It has no place after the changes before it.
    Conflict(ChangeConflict),
    /// The log can't be written.
    Away,
}

/// A wish to the replicator.
#[derive(Debug)]
pub(super) enum ReplicationRequest {
    Change(Box<SubmittedChange>),
    /// Everything that is committed now is to be applied.
    CatchUp(oneshot::Sender<()>),
}

/// The clients' end of a [`ChangeQueue`].
#[derive(Debug)]
pub(super) struct ChangeSender {
    requests: mpsc::Sender<ReplicationRequest>,
    waiting: Arc<AtomicUsize>,
}

/// The requests that wait, in order.
#[derive(Debug)]
pub(super) struct ChangeQueue {
    inbox: mpsc::Receiver<ReplicationRequest>,
    waiting: VecDeque<SubmittedChange>,
    readers: Vec<oneshot::Sender<()>>,
    /// The number of requests that left the channel, for the metrics.
    waiting_count: Arc<AtomicUsize>,
}

/// Creates an empty queue and its sender.
pub(super) fn change_queue() -> (ChangeSender, ChangeQueue) {
    let (requests, inbox) = mpsc::channel(MAX_WAITING_REQUESTS / 2);
    let count = Arc::<AtomicUsize>::default();
    let sender = ChangeSender { requests, waiting: Arc::clone(&count) };
    (sender, ChangeQueue { inbox, waiting: VecDeque::new(), readers: Vec::new(), waiting_count: count })
}

impl ChangeSender {
    /// Queues a request. Returns false when too many wait, or the queue is gone.
    pub(super) fn try_send(&self, request: ReplicationRequest) -> bool {
        // At once: a client can come back, and a full queue is none to wait in.
        self.requests.try_send(request).is_ok()
    }

    /// Returns the number of requests that wait, changes of the registry included.
    pub(super) fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity() + self.waiting.load(Ordering::Relaxed)
    }
}

impl ChangeQueue {
    /// True if nothing waits except in the channel.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.readers.is_empty()
    }

    /// Waits for a request. Cancel-safe; pending for ever once there is no sender.
    pub(super) async fn receive(&mut self) {
        match self.inbox.recv().await {
            Some(request) => self.accept(request),
            None => std::future::pending().await,
        }
        self.update_count();
    }

    /// Takes requests out of the channel as long as there is room: what stays there makes senders hear that it is full.
    pub(super) fn take_requests(&mut self) {
        // The registry's changes are as many as there are presences, and must not keep clients out.
        let awaited = self.waiting.iter().filter(|one| one.outcome.is_some()).count();
        for _ in awaited + self.readers.len()..MAX_WAITING_REQUESTS / 2 {
            let Ok(request) = self.inbox.try_recv() else { break };
            self.accept(request);
        }
        self.update_count();
    }

    /// Takes those who wait for a reading of the log.
    pub(super) fn take_readers(&mut self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.readers)
    }

    /// Appends changes that the registry wants.
    pub(super) fn extend(&mut self, changes: impl IntoIterator<Item = ReplicatedChange>) {
        self.waiting.extend(changes.into_iter().map(SubmittedChange::of_registry));
        self.update_count();
    }

    /// Takes the next changes, one of each user. Those that nobody waits for any more are dropped.
    pub(super) fn next_batch(&mut self) -> Vec<SubmittedChange> {
        let (mut users, mut batch, mut bytes) = (HashSet::new(), Vec::new(), 0);
        let mut later = VecDeque::new();
        for one in std::mem::take(&mut self.waiting) {
            if one.is_abandoned() {
                continue;
            }
            let is_full = batch.len() == CHANGES_PER_ENTRY || bytes > BYTES_PER_ENTRY;
            let is_first = one.change.user().is_none_or(|user| !users.contains(user));
            // Changes that are put off count as well: a later one of the same user must not overtake them.
            users.extend(one.change.user().cloned());
            if is_full || !is_first {
                later.push_back(one);
                continue;
            }
            bytes += one.details.files.as_ref().map_or(0, FileList::bytes);
            batch.push(one);
        }
        self.waiting = later;
        self.update_count();
        batch
    }

    /// Empties the queue and its channel. Returns the changes; readers hear that it failed.
    pub(super) fn take_all(&mut self) -> VecDeque<SubmittedChange> {
        while let Ok(request) = self.inbox.try_recv() {
            self.accept(request);
        }
        self.readers.clear();
        let all = std::mem::take(&mut self.waiting);
        self.update_count();
        all
    }

    fn accept(&mut self, request: ReplicationRequest) {
        match request {
            ReplicationRequest::Change(change) => self.waiting.push_back(*change),
            ReplicationRequest::CatchUp(reader) => self.readers.push(reader),
        }
    }

    fn update_count(&self) {
        self.waiting_count.store(self.waiting.len() + self.readers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use shared::tracker::{FilesMode, SessionToken};

    use super::*;
    use crate::registry::TokenHash;

    type Outcome = oneshot::Receiver<Result<AppliedChange, ChangeFailure>>;

    fn files(user: &str) -> ReplicatedChange {
        let token = TokenHash::from(&SessionToken::from_bytes([7; 32]));
        ReplicatedChange::Files { user: user.parse().unwrap(), token, mode: FilesMode::Replace, files: Vec::new() }
    }

    fn end(user: &str) -> ReplicatedChange {
        ReplicatedChange::End {
            user: user.parse().unwrap(),
            token: TokenHash::from(&SessionToken::from_bytes([7; 32])),
        }
    }

    /// Submits a change. Returns its outcome, or `None` when the queue is full.
    fn submit(sender: &ChangeSender, change: ReplicatedChange) -> Option<Outcome> {
        let (outcome, made) = oneshot::channel();
        let submitted = SubmittedChange { change, details: LocalDetails::default(), outcome: Some(outcome) };
        sender.try_send(ReplicationRequest::Change(Box::new(submitted))).then_some(made)
    }

    #[test]
    fn while_nothing_is_written_only_so_many_wait_and_all_of_them_are_counted() {
        let (sender, mut queue) = change_queue();
        // As many presences may end at once as there are.
        queue.extend((0..MAX_WAITING_REQUESTS).map(|n| end(&format!("gone{n}"))));
        let mut outcomes = Vec::new();
        for n in 0..3 * MAX_WAITING_REQUESTS {
            outcomes.extend(submit(&sender, files(&format!("u{n}"))));
            queue.take_requests();
        }
        assert_eq!(outcomes.len(), MAX_WAITING_REQUESTS);
        assert_eq!(sender.waiting(), 2 * MAX_WAITING_REQUESTS);
        assert!(submit(&sender, files("bob")).is_none());
        // Readers wait among them.
        assert!(!sender.try_send(ReplicationRequest::CatchUp(oneshot::channel().0)));
        assert_eq!(queue.take_all().len(), 2 * MAX_WAITING_REQUESTS);
        assert_eq!(sender.waiting(), 0);
        assert!(submit(&sender, files("bob")).is_some());
    }

    #[test]
    fn a_change_whose_client_gave_up_is_not_written_unless_it_ends_a_presence() {
        let (sender, mut queue) = change_queue();
        drop(submit(&sender, files("bob")).unwrap());
        let awaited = submit(&sender, files("bob")).unwrap();
        drop(submit(&sender, end("alice")).unwrap());
        queue.take_requests();
        queue.extend([end("carol")]);
        let batch = queue.next_batch();
        let users: Vec<_> = batch.iter().filter_map(|one| one.change.user()).map(ToString::to_string).collect();
        assert_eq!(users, ["bob", "alice", "carol"]);
        assert!(queue.is_empty() && sender.waiting() == 0);
        drop(awaited);
    }

    #[test]
    fn of_one_user_there_is_one_change_in_a_batch_and_their_order_stays() {
        let (sender, mut queue) = change_queue();
        let changes = [files("bob"), end("bob"), files("alice"), files("bob")];
        let _outcomes: Vec<_> = changes.into_iter().map(|change| submit(&sender, change).unwrap()).collect();
        queue.take_requests();
        let sizes = std::array::from_fn(|_| queue.next_batch().len());
        assert_eq!(sizes, [2, 1, 1, 0]);
    }
}
