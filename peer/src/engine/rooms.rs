//! Rooms: conversations of several users, whose messages travel from member to member.
//!
//! ```text
//!  RoomServer ─┐ (a stream of a member)               ┌─ Room (pure): Membership, RoomLog, GapSearch, DeliveryCounts …
//!  RoomStream ─┼─► Rooms ── jobs ──► RoomRegistry ────┤
//!  (our stream)│   (handle)         (one owner task)  ├─ Profile: each step is stored before it is told or sent
//!  commands  ──┘        ▲                             └─ RoomDirectory: who is a member, for all who ask
//!                       └ records of the tracker, from the node's `RoomSync`
//! ```
//!
//! A room is two sets, records and messages, and everything shown is a function of them; the crate [`rooms`] has that
//! core. Here they are exchanged. Each side of a link opens a stream for each room that both are in
//! ([`shared::peer::RoomStreamRequest`]): over it, it asks for what it lacks, and sends what is new at once. A message that came
//! unasked is passed on once, to all other streams. The node's `RoomLinks` decides with whom there are links
//! (`wanted_links`).
//!
//! Tasks only carry what is decided without sockets: `PullSession` asks for what is missing, `answer_request` answers, and
//! `UnansweredRequests` bounds what is on its way. A simulation runs the same with 200 members.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | steps that wait for the registry | 256 | whoever asks for one waits |
//! | pushed messages of one author | 20 a second, 200 at once | he is only pulled |
//! | pushed messages that wait for one member | 256 | the copies are compared |
//! | pushed messages that a member has not answered | 64 | the next ones wait |
//! | members pulled at once, a room | 2, for 20 s each | the others wait for their turn |
//! | comparisons for messages that are missing | after 10 s, then at growing pauses of up to 60 s | |
//! | time for a reply of a member, and for it to read ours | 20 s | the stream ends, and is opened again later |
//! | rooms of which the tracker's records are awaited | 1,024 | further ones are not asked about |
//! | callers who are no members, remembered | 4,096, 32 rooms of one | further ones are refused |
//! | messages kept, members, records | [`crate::profile`]'s and the crate's tables | |

mod delivery_counts;
mod display_order;
mod gap_search;
mod link_policy;
mod mention;
mod pull_session;
mod push_limiter;
mod request_exchange;
mod room;
mod room_answers;
mod room_clock;
mod room_directory;
mod room_outlets;
mod room_pull;
mod room_registry;
mod room_server;
#[doc(hidden)]
pub mod room_simulation;
mod room_stream;
mod stranger_checks;
mod unanswered_requests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::rooms::{Cut, Signature, VerifyingKey};
use localization::tr;
use parking_lot::Mutex;
use shared::room::{MessageHash, RecordHash};
use shared::{Fingerprint, RoomId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(in crate::engine) use link_policy::{UnreachableMembers, wanted_links};
pub use mention::is_mentioned;
pub use room_directory::{RoomDirectory, RoomEntries, RoomEntry};
pub(in crate::engine) use room_pull::run_room_stream;
use room_registry::RoomRegistry;
pub(in crate::engine) use room_server::{check_file_requester, serve_room};

use super::event_bus::EventBus;
use super::room_values::RoomReceipt;
use super::{Error, LocalUser, run_blocking};

/// Steps that may wait.
const JOB_QUEUE: usize = 256;
/// Steps taken with one change of threads.
const MAX_BATCHED_JOBS: usize = 32;
/// Rooms of which the tracker's records are awaited.
const MAX_DEMANDS: usize = 1024;
const TICK_INTERVAL: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

type RoomJob = Box<dyn FnOnce(&mut RoomRegistry) + Send>;

/// A handle to the profile's rooms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rooms {
    jobs: mpsc::Sender<RoomJob>,
    directory: RoomDirectory,
    sync_requests: mpsc::UnboundedSender<RoomSyncRequest>,
    /// The demands that go on, so that a crowd of callers asks once.
    requested: Arc<Mutex<BTreeMap<RoomId, RecordsDemand>>>,
}

/// The state of a demand for a room's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordsDemand {
    Pending,
    /// It was demanded again, for what the query under way may have missed.
    PendingTwice,
}

/// The task that owns the profile's rooms.
#[derive(Debug)]
pub(in crate::engine) struct RoomOwner {
    me: LocalUser,
    events: EventBus,
    directory: RoomDirectory,
    jobs: mpsc::Receiver<RoomJob>,
}

/// A demand for the tracker's records.
#[derive(Debug)]
pub(in crate::engine) enum RoomSyncRequest {
    /// Of one room.
    Room(RoomId),
    /// Of all rooms that the tracker says the user is in. The sender is dropped when it is done.
    All(Option<oneshot::Sender<()>>),
}

impl Rooms {
    /// Returns a handle to the rooms of `me`, the task that owns them, and the demands for the tracker's records.
    pub(in crate::engine) fn new(
        me: LocalUser,
        events: EventBus,
    ) -> (Self, RoomOwner, mpsc::UnboundedReceiver<RoomSyncRequest>) {
        let (sender, jobs) = mpsc::channel(JOB_QUEUE);
        let (sync_requests, demands) = mpsc::unbounded_channel();
        let directory = RoomDirectory::new(me.identity.fingerprint());
        let owner = RoomOwner { me, events, directory: directory.clone(), jobs };
        (Self { jobs: sender, directory, sync_requests, requested: Arc::default() }, owner, demands)
    }

    /// Returns the rooms and their members.
    pub const fn directory(&self) -> &RoomDirectory {
        &self.directory
    }

    /// Writes a message: it is stored, then sent to all members with a link.
    ///
    /// # Errors
    /// The user is no member, has no key to sign with, or the message can't be stored.
    pub(in crate::engine) async fn write(&self, room: RoomId, text: String) -> Result<RoomReceipt, Error> {
        self.perform(move |registry| registry.write(room, &text)).await?
    }

    /// Returns the number of other members who have one of our messages, and of all other members.
    pub(in crate::engine) async fn delivery(&self, room: RoomId, id: MessageHash) -> Result<(usize, usize), Error> {
        self.perform(move |registry| registry.delivery(room, &id)).await
    }

    /// Returns the newest message of a member, as this node knows it.
    pub(in crate::engine) async fn cut(&self, room: RoomId, key: Fingerprint) -> Result<Option<Cut>, Error> {
        self.perform(move |registry| registry.cut(room, &key)).await
    }

    /// Returns the number of our messages in a room that no other member has yet.
    pub(in crate::engine) async fn waiting(&self, room: RoomId) -> Result<u64, Error> {
        self.perform(move |registry| registry.waiting(room)).await
    }

    /// Returns the open cuts that this node may set, each with the cut that it knows.
    pub(in crate::engine) async fn settable_cuts(&self) -> Result<Vec<(RoomId, Fingerprint, u64, Cut)>, Error> {
        self.perform(|registry| registry.settable_cuts()).await
    }

    /// Learns which messages another process of the profile removed from the history.
    pub(in crate::engine) async fn reload(&self) -> Result<(), Error> {
        self.perform(RoomRegistry::reload_all).await
    }

    /// Waits until the rooms are loaded.
    pub(in crate::engine) async fn wait_until_loaded(&self) -> Result<(), Error> {
        self.perform(|_| ()).await
    }

    /// Notes that no member could be asked for our newest message in time.
    pub(in crate::engine) async fn give_up_own_chain(&self, room: RoomId) -> Result<(), Error> {
        self.perform(move |registry| registry.give_up_own_chain(room)).await
    }

    /// Returns true once a member was asked for our newest message since the start.
    pub(in crate::engine) async fn is_own_chain_known(&self, room: RoomId) -> Result<bool, Error> {
        self.perform(move |registry| registry.is_own_chain_known(room)).await
    }

    /// Returns true if a member has later messages of ours that can't be taken yet.
    pub(in crate::engine) async fn is_own_chain_behind(&self, room: RoomId) -> Result<bool, Error> {
        self.perform(move |registry| registry.is_own_chain_behind(room)).await
    }

    /// Returns hashes of records, by which the tracker finds those that are missing here.
    pub(in crate::engine) async fn locator(&self, room: RoomId) -> Result<Vec<RecordHash>, Error> {
        self.perform(move |registry| registry.locator(room)).await
    }

    /// Takes records that `tracker` signed. Returns true if any were new.
    ///
    /// # Errors
    /// They are no records of this room, or can't be stored.
    pub(in crate::engine) async fn take_records(
        &self,
        room: RoomId,
        tracker: VerifyingKey,
        records: Vec<(Vec<u8>, Signature)>,
    ) -> Result<bool, Error> {
        self.perform(move |registry| registry.take_records(room, tracker, &records)).await?
    }

    /// Demands the tracker's records of a room.
    pub(in crate::engine) fn request_records(&self, room: RoomId) {
        let mut requested = self.requested.lock();
        let is_full = requested.len() >= MAX_DEMANDS;
        match requested.entry(room) {
            Entry::Occupied(mut demand) => drop(demand.insert(RecordsDemand::PendingTwice)),
            // More rooms than a user is in: the tracker makes them up.
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(demand) => {
                demand.insert(RecordsDemand::Pending);
                // Fails only when the node is ending.
                let _ = self.sync_requests.send(RoomSyncRequest::Room(room));
            }
        }
    }

    /// Ends a demand for the records of a room. `since` is the beginning of the query, if the tracker answered it.
    pub(in crate::engine) async fn finish_request(&self, room: RoomId, since: Option<Instant>) -> Result<(), Error> {
        // Removed before the answer is noted: a demand from here on is not met by it.
        let demand = self.requested.lock().remove(&room);
        if let Some(since) = since {
            self.perform(move |registry| registry.note_tracker_answer(room, since)).await?;
        }
        if demand == Some(RecordsDemand::PendingTwice) {
            self.request_records(room);
        }
        Ok(())
    }

    /// Notes the newest record of a room, as the tracker tells it.
    pub(in crate::engine) fn note_head(&self, room: RoomId, head: RecordHash) {
        if self.directory.room(room).and_then(|known| known.head()) != Some(head) {
            self.request_records(room);
        }
    }

    /// Demands the tracker's records of all rooms.
    pub(in crate::engine) fn request_all_records(&self) {
        let _ = self.sync_requests.send(RoomSyncRequest::All(None));
    }

    /// Demands the tracker's records of all rooms, and waits until they are there.
    pub(in crate::engine) async fn await_all_records(&self) {
        let (done, is_done) = oneshot::channel();
        let _ = self.sync_requests.send(RoomSyncRequest::All(Some(done)));
        // It ends by the drop of the sender, which is the sign that all is done.
        let _ = is_done.await;
    }

    async fn perform<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut RoomRegistry) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        let job: RoomJob = Box::new(move |registry| {
            // The receiver may have given up.
            let _ = reply.send(job(registry));
        });
        let ending = || Error::Internal(tr!("`peer` is going offline"));
        self.jobs.send(job).await.map_err(|_| ending())?;
        result.await.map_err(|_| ending())
    }
}

impl RoomOwner {
    /// Loads the rooms, then takes steps until the node stops.
    ///
    /// # Errors
    /// The rooms can't be loaded.
    pub(in crate::engine) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let Self { me, events, directory, .. } = &self;
        let (me, events, directory) = (me.clone(), events.clone(), directory.clone());
        let mut registry = run_blocking(move || RoomRegistry::load(me, directory, events)).await?;
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        let mut prune = tokio::time::interval(PRUNE_INTERVAL);
        // A step that takes long is not to be followed by all the ticks that it missed.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        prune.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut batch: Vec<RoomJob> = Vec::new();
            tokio::select! {
                () = stop.cancelled() => break,
                count = self.jobs.recv_many(&mut batch, MAX_BATCHED_JOBS) => if count == 0 {
                    break;
                },
                // Without work no thread is woken every second.
                _ = tick.tick(), if registry.is_tick_due() => batch.push(Box::new(RoomRegistry::tick)),
                _ = prune.tick() => batch.push(Box::new(|registry: &mut RoomRegistry| if let Err(error) = registry.prune() {
                    tracing::error!("rooms could not be pruned: {error}");
                })),
            }
            registry = run_blocking(move || {
                // Steps write to the disk, and the state stays in one piece: it moves to a thread that may block.
                batch.into_iter().for_each(|job| job(&mut registry));
                Ok(registry)
            })
            .await?;
        }
        run_blocking(move || {
            // Those since the last tick are only in memory.
            registry.store_deliveries();
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
