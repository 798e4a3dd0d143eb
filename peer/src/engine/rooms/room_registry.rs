//! The owner of all rooms: takes one step after another, stores each, and tells it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rooms::{
    Cut, MessageRun, RoomMessage, RunFault, RunRequest, Signature, SignedRecord, UnverifiedRun, VectorEntry,
    VerifyingKey,
};
use shared::peer::{MAX_ROOM_RUN_BYTES, MAX_ROOM_RUNS, RoomSummary, SingleRunBytes};
use shared::room::{MessageHash, RecordHash, RoomDigest};
use shared::{Fingerprint, RoomId, UserName};
use tokio::sync::{Notify, mpsc};

use super::mention::is_mentioned;
use super::room::{Room, RoomStep, RunOrigin, TakenRuns};
use super::room_clock::RoomClock;
use super::room_directory::RoomDirectory;
use super::stranger_checks::{StrangerChecks, StrangerVerdict};
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::room_values::{RoomNews, RoomNewsKind, RoomPost, RoomReceipt};
use crate::engine::{Error, LocalUser, RoomActionError};
use crate::profile::{KnownRoom, NewRoomMessage, RoomUpdate};

/// Pushed messages that wait to be sent.
const PUSH_QUEUE: usize = 256;

/// All rooms of the profile.
#[derive(Debug)]
pub(super) struct RoomRegistry {
    me: LocalUser,
    key: Fingerprint,
    rooms: BTreeMap<RoomId, Room>,
    outlets: HashMap<RoomId, Vec<RoomOutlet>>,
    strangers: StrangerChecks,
    /// What members have of our messages, as far as it isn't stored yet.
    unstored_deliveries: BTreeMap<(RoomId, Fingerprint), u64>,
    directory: RoomDirectory,
    events: EventBus,
    clock: RoomClock,
}

/// The stream to a member over which new messages go.
#[derive(Debug)]
pub(super) struct RoomOutlet {
    pub(super) member: Fingerprint,
    pub(super) pushes: mpsc::Sender<RoomPush>,
    /// Makes the stream's task compare both copies.
    pub(super) compare: Arc<Notify>,
    /// Our and the member's digest after a comparison that brought nothing: two members may differ for good in what they
    /// keep, and would compare without end.
    pub(super) settled: Option<(RoomDigest, RoomDigest)>,
}

impl RoomOutlet {
    /// Returns the outlet to a member, and the queue of what goes over it.
    pub(super) fn open(member: Fingerprint) -> (Self, mpsc::Receiver<RoomPush>) {
        let (pushes, queue) = mpsc::channel(PUSH_QUEUE);
        (Self { member, pushes, compare: Arc::new(Notify::new()), settled: None }, queue)
    }
}

/// A new message on its way to other members.
#[derive(Debug, Clone)]
pub(super) struct RoomPush {
    /// Its author's number, if it is ours.
    pub(super) own_number: Option<u64>,
    pub(super) message: MessageHash,
    pub(super) run: SingleRunBytes,
}

/// The relation of a caller to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallerStanding {
    /// A member.
    Member,
    /// No member of whom this node knows: the tracker is asked.
    Unclear,
    /// No member.
    Stranger,
    /// The user is no member.
    NotMine,
}

/// The result of offering bytes of runs.
#[derive(Debug)]
pub(super) enum OfferedRuns {
    /// They are in order.
    Taken {
        /// The result.
        taken: TakenRuns,
        /// The request for what follows.
        next: RunRequest,
    },
    /// No honest member sends them.
    Invalid(String),
}

/// The result of a message that was passed on unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferedPush {
    /// It is stored.
    Stored,
    /// Not now: its author writes too fast, or what comes before it is missing.
    Later,
}

impl RoomRegistry {
    /// Loads the profile's rooms. Blocking.
    ///
    /// # Errors
    /// An error of the profile.
    pub(super) fn load(me: LocalUser, directory: RoomDirectory, events: EventBus) -> Result<Self, Error> {
        Self::load_with_clock(me, directory, events, RoomClock::System)
    }

    /// Loads the profile's rooms, as [`RoomRegistry::load`], to be used by the time of `clock`.
    pub(super) fn load_with_clock(
        me: LocalUser,
        directory: RoomDirectory,
        events: EventBus,
        clock: RoomClock,
    ) -> Result<Self, Error> {
        let key = me.identity.fingerprint();
        let mut registry = Self {
            me,
            key,
            rooms: BTreeMap::new(),
            outlets: HashMap::new(),
            strangers: StrangerChecks::default(),
            unstored_deliveries: BTreeMap::new(),
            directory,
            events,
            clock,
        };
        for known in registry.me.profile.rooms()? {
            registry.load_room(&known)?;
        }
        Ok(registry)
    }

    /// Returns the state of a room that members compare first; `None` for an unknown room.
    pub(super) fn summary(&mut self, room: RoomId) -> Option<RoomSummary> {
        self.rooms.get_mut(&room).map(Room::summary)
    }

    /// Returns the relation of a caller to a room.
    pub(super) fn standing(&mut self, room: RoomId, user: &UserName, key: &Fingerprint) -> CallerStanding {
        let Some(known) = self.rooms.get(&room).filter(|room| room.is_active()) else {
            return CallerStanding::NotMine;
        };
        if known.members().members().get(key).is_some_and(|member| member.user == *user) {
            return CallerStanding::Member;
        }
        match self.strangers.verdict(room, *key, self.clock.instant()) {
            StrangerVerdict::Ask => CallerStanding::Unclear,
            StrangerVerdict::Refuse => CallerStanding::Stranger,
        }
    }

    /// Returns the relation to a room of a caller who asks for its files. A room that isn't the user's is treated like any
    /// other, so that nobody else learns in which rooms the user is.
    pub(super) fn file_standing(&mut self, room: RoomId, user: &UserName, key: &Fingerprint) -> CallerStanding {
        match self.standing(room, user, key) {
            CallerStanding::NotMine if self.strangers.is_first_call(room, *key, Instant::now()) => {
                CallerStanding::Unclear
            }
            CallerStanding::NotMine => CallerStanding::Stranger,
            standing => standing,
        }
    }

    /// Notes that the tracker answered a query about a room that began at `since`.
    pub(super) fn note_tracker_answer(&mut self, room: RoomId, since: Instant) {
        // A tracker may name any number of rooms.
        if self.rooms.contains_key(&room) {
            self.strangers.note_answer(room, since);
        }
    }

    /// Returns hashes of records, by which others find those that are missing here.
    pub(super) fn locator(&self, room: RoomId) -> Vec<RecordHash> {
        self.rooms.get(&room).map(|room| room.members().locator()).unwrap_or_default()
    }

    /// Returns the records after the newest known one of `locator`, and true if there are more.
    pub(super) fn records_after(&self, room: RoomId, locator: &[RecordHash]) -> (Vec<SignedRecord>, bool) {
        let Some(room) = self.rooms.get(&room) else { return (Vec::new(), false) };
        let (records, has_more) = room.records_after(locator);
        (records.to_vec(), has_more)
    }

    /// Returns a page of the vector, and true if there are more.
    pub(super) fn vector_page(&self, room: RoomId, after: Option<Fingerprint>) -> (Vec<VectorEntry>, bool) {
        self.rooms.get(&room).map(|room| room.vector_page(after)).unwrap_or_default()
    }

    /// Returns the encoded runs that `asker` lacks, and true if they lead to a cut.
    pub(super) fn runs(&mut self, room: RoomId, request: &RunRequest, asker: &Fingerprint) -> (Vec<Vec<u8>>, bool) {
        let is_missing = Cell::new(false);
        let runs = self.read_runs(room, request, asker, &is_missing);
        if !is_missing.get() {
            return runs;
        }
        // Another process of the profile removed messages from the history.
        self.reload(room);
        self.read_runs(room, request, asker, &is_missing)
    }

    fn read_runs(
        &self,
        room: RoomId,
        request: &RunRequest,
        asker: &Fingerprint,
        is_missing: &Cell<bool>,
    ) -> (Vec<Vec<u8>>, bool) {
        let Some(known) = self.rooms.get(&room) else { return (Vec::new(), false) };
        let signed = |hash: &MessageHash| {
            let signed = self.me.profile.signed_room_message(room, hash).unwrap_or_else(|error| {
                tracing::error!("a message can't be passed on: {error}");
                None
            });
            is_missing.set(is_missing.get() || signed.is_none());
            signed
        };
        let reply = known.runs(request, asker, signed);
        let mut bytes = 0;
        // One long run, or several short ones: what doesn't fit is asked for again.
        let fitting = reply.runs.iter().map(MessageRun::encode).take_while(|run| {
            let is_first = bytes == 0;
            bytes += run.len();
            is_first || bytes <= MAX_ROOM_RUN_BYTES
        });
        (fitting.take(MAX_ROOM_RUNS).collect(), reply.leads_to_cut)
    }

    /// Returns the requests for what a member has more, by a page of the member's vector, and notes what it has of ours.
    pub(super) fn requests(&mut self, room: RoomId, member: Fingerprint, page: &[VectorEntry]) -> Vec<RunRequest> {
        if let Some(own) = page.iter().find(|entry| entry.author == self.key) {
            self.note_delivered(room, member, own.newest, None);
        }
        self.rooms.get(&room).map(|known| known.requests(page)).unwrap_or_default()
    }

    /// Takes records as they travel, in their order, from a member. Returns true if any were new.
    ///
    /// # Errors
    /// The reason why they are no records of this room.
    pub(super) fn take_member_records(
        &mut self,
        room: RoomId,
        records: &[(Vec<u8>, Signature)],
    ) -> Result<bool, Error> {
        let Some(tracker) = self.rooms.get(&room).map(|room| room.tracker) else { return Ok(false) };
        self.take_records(room, tracker, records)
    }

    /// Takes records as they travel, in their order. Returns true if any were new.
    ///
    /// # Errors
    /// The reason why they are no records of this room, or why they can't be stored.
    pub(super) fn take_records(
        &mut self,
        room: RoomId,
        tracker: VerifyingKey,
        records: &[(Vec<u8>, Signature)],
    ) -> Result<bool, Error> {
        let verified: Result<Vec<SignedRecord>, _> =
            records.iter().map(|(signed, signature)| SignedRecord::verify(signed, signature, &tracker)).collect();
        let verified = verified.map_err(|why| Error::Internal(why.to_string()))?;
        if !self.rooms.contains_key(&room) {
            // Its messages are on the disk if it could not be loaded again after a fault: without them the user's numbers
            // would begin anew.
            self.load_known_room(room)?;
        }
        let key = self.key;
        let known = self.rooms.entry(room).or_insert_with(|| Room::new(room, key, tracker));
        let mut step = RoomStep::default();
        let refused = known.take_records(verified, &mut step);
        let is_new = step.has_records;
        if is_new || known.tracker != tracker {
            // A room is on record before the first of its records is stored. A tracker with a new key signs the next ones
            // with it, which members have to believe before they ask that tracker again.
            if let Some(name) = known.members().name().cloned().filter(|_| known.is_active()) {
                known.tracker = tracker;
                if let Err(error) = self.me.profile.add_room(room, &name, tracker) {
                    self.reload(room);
                    return Err(error.into());
                }
            }
        }
        if is_new {
            self.commit(room, step)?;
        }
        // What came before the refused record counts and is stored.
        if let Err(why) = refused {
            return Err(Error::Internal(why.to_string()));
        }
        Ok(is_new)
    }

    /// Takes encoded runs that a member was asked for.
    ///
    /// # Errors
    /// They can't be stored.
    pub(super) fn take_pulled_runs(
        &mut self,
        room: RoomId,
        request: &RunRequest,
        member: Fingerprint,
        encoded: &[Vec<u8>],
        leads_to_cut: bool,
    ) -> Result<OfferedRuns, Error> {
        let (reachable, now) = (self.reachable(room), self.clock.unsigned_wall_ms());
        let Some(known) = self.rooms.get_mut(&room) else {
            return Ok(OfferedRuns::Invalid("the room is gone".to_owned()));
        };
        let (mut runs, mut needs_records) = (Vec::new(), false);
        for bytes in encoded {
            match verify_run(bytes, known) {
                Ok(Some(run)) => runs.push(run),
                Ok(None) => needs_records = true,
                Err(why) => return Ok(OfferedRuns::Invalid(why)),
            }
        }
        // Gaps and ways to a cut are allowed for what was asked for, and for no other author.
        if runs.iter().any(|run| run.key().fingerprint() != request.author) {
            return Ok(OfferedRuns::Invalid("messages of another author".to_owned()));
        }
        let mut step = RoomStep::default();
        let origin = RunOrigin::Pulled { member, leads_to_cut, reachable: &reachable };
        let mut taken = known.take_runs(runs, origin, now, &mut step);
        taken.needs_records |= needs_records;
        self.commit(room, step)?;
        let next = self.rooms.get(&room).map_or_else(|| request.clone(), |known| known.request(request.author));
        Ok(OfferedRuns::Taken { taken, next })
    }

    /// Takes a message that `member` passed on unasked.
    ///
    /// # Errors
    /// Words if no honest member sends it, or an error if it can't be stored.
    pub(super) fn take_push(
        &mut self,
        room: RoomId,
        member: Fingerprint,
        run: &SingleRunBytes,
    ) -> Result<Result<OfferedPush, String>, Error> {
        let (instant, now) = (self.clock.instant(), self.clock.unsigned_wall_ms());
        let Some(known) = self.rooms.get_mut(&room) else { return Ok(Ok(OfferedPush::Later)) };
        let unverified = match UnverifiedRun::parse(run.as_bytes()) {
            Ok(unverified) => unverified,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let [message] = unverified.unverified_messages() else {
            return Ok(Err("a run of several messages was passed on".to_owned()));
        };
        let message = message.hash();
        // Most copies are of a message that came over another link: its hash says all, and costs less than its signature.
        if known.log().info(&message).is_some() {
            return Ok(Ok(OfferedPush::Stored));
        }
        let parsed = match verify(unverified, known) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(Ok(OfferedPush::Later)),
            Err(why) => return Ok(Err(why)),
        };
        // Behind the signature, so that nobody can use up another author's share.
        if !known.allow_push(&parsed.key().fingerprint(), instant) {
            return Ok(Ok(OfferedPush::Later));
        }
        let mut step = RoomStep::default();
        known.take_runs(vec![parsed], RunOrigin::Single, now, &mut step);
        let is_stored = known.log().info(&message).is_some();
        self.commit(room, step)?;
        if !is_stored {
            return Ok(Ok(OfferedPush::Later));
        }
        self.push(room, &RoomPush { own_number: None, message, run: run.clone() }, Some(&member));
        Ok(Ok(OfferedPush::Stored))
    }

    /// Writes a message: stores it, then sends it to all members with a stream.
    ///
    /// # Errors
    /// The user is no member, has no key to sign with, or the message can't be stored.
    pub(super) fn write(&mut self, room: RoomId, text: &str) -> Result<RoomReceipt, Error> {
        let keys = self.me.identity.ed25519_key_pair().ok_or(RoomActionError::UnusableKey)?;
        let verifying = verifying_key(&keys).ok_or(RoomActionError::UnusableKey)?;
        let now = self.clock.unsigned_wall_ms();
        let known = self.rooms.get_mut(&room).filter(|room| room.is_active());
        let Some(known) = known else { return Err(Error::Internal("the room is gone".to_owned())) };
        let draft = known.draft(&verifying, now, text.to_owned());
        let run = draft.sign(&keys).map_err(|why| Error::Internal(why.to_string()))?;
        let Some(message) = run.messages().first().map(RoomMessage::hash) else {
            return Err(Error::Internal("an empty run".to_owned()));
        };
        let mut step = RoomStep::default();
        known.take_runs(vec![run.clone()], RunOrigin::Single, now, &mut step);
        if known.log().info(&message).is_none() {
            let refusal = step.changes.iter().find_map(|change| change.refusal);
            return Err(Error::Internal(refusal.map_or_else(|| "refused".to_owned(), |why| why.to_string())));
        }
        let posts = self.commit(room, step)?;
        let post = posts.into_iter().find(|post| post.id == message);
        let Some(post) = post else { return Err(Error::Internal("the message was not stored".to_owned())) };
        if let Some(encoded) = SingleRunBytes::new(run.encode()) {
            let push = RoomPush { own_number: Some(draft.number), message, run: encoded };
            self.push(room, &push, None);
        }
        let (count, of) = self.rooms.get(&room).map_or((0, 0), |known| known.delivery_of(draft.number));
        Ok(RoomReceipt { message: post, count, of })
    }

    /// Returns the number of other members who have one of our messages, and of all other members.
    pub(super) fn delivery(&self, room: RoomId, message: &MessageHash) -> (usize, usize) {
        let Some(known) = self.rooms.get(&room) else { return (0, 0) };
        known.log().info(message).map_or((0, 0), |info| known.delivery_of(info.number))
    }

    /// Returns the newest message of a member, as this node knows it.
    pub(super) fn cut(&self, room: RoomId, key: &Fingerprint) -> Option<Cut> {
        self.rooms.get(&room).map(|known| known.cut(key))
    }

    /// Returns the number of our messages in a room that no other member has yet.
    pub(super) fn waiting(&self, room: RoomId) -> u64 {
        self.rooms.get(&room).map_or(0, Room::waiting)
    }

    /// Returns the open cuts that this node may set.
    pub(super) fn settable_cuts(&self) -> Vec<(RoomId, Fingerprint, u64, Cut)> {
        let of_room = |(id, room): (&RoomId, &Room)| {
            let id = *id;
            room.settable_cuts().into_iter().map(move |(key, ended_at, cut)| (id, key, ended_at, cut))
        };
        self.rooms.iter().flat_map(of_room).collect()
    }

    /// Returns true once a member was asked for our newest message.
    pub(super) fn is_own_chain_known(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_none_or(Room::is_own_chain_known)
    }

    /// Notes that a member of the room has our messages up to this number, which is that of `message` if it is known.
    pub(super) fn note_delivered(
        &mut self,
        room: RoomId,
        member: Fingerprint,
        number: u64,
        message: Option<MessageHash>,
    ) {
        let key = self.key;
        let Some(known) = self.rooms.get_mut(&room) else { return };
        let newest = known.cut(&key);
        // A member may claim anything; what isn't written can't be there.
        let number = number.min(newest.number);
        if !known.note_delivered(member, number) {
            return;
        }
        // Stored with the next tick: a busy room has many acks a second.
        self.unstored_deliveries.insert((room, member), number);
        let (count, of) = known.delivery_of(number);
        // A number alone names only the newest message.
        if let Some(id) = message.or(newest.hash.filter(|_| number == newest.number)) {
            self.tell(room, vec![RoomNewsKind::Delivered { id, count, of }]);
        }
    }

    /// Notes that both copies were compared, and pulled as far as the member, with this digest, has more.
    pub(super) fn note_compared(&mut self, room: RoomId, member: Fingerprint, theirs: RoomDigest, has_news: bool) {
        let Some(known) = self.rooms.get_mut(&room) else { return };
        // If this profile is a backup, what it wrote since came with the comparison.
        known.note_own_chain_known();
        let mine = known.summary().digest;
        if mine == theirs {
            self.note_delivered(room, member, u64::MAX, None);
        }
        // With news, a further comparison is due, and may bring more.
        let settled = Some((mine, theirs)).filter(|_| !has_news);
        self.outlets_of(room).iter_mut().filter(|outlet| outlet.member == member).for_each(|outlet| {
            outlet.settled = settled;
        });
        if has_news {
            // What came in runs has no signature of its own to be passed on with: the others ask for it. The member itself
            // learns by one more comparison that it was received.
            self.compare_with_all(room);
        }
    }

    /// Makes the streams to all members compare both copies.
    pub(super) fn compare_with_all(&mut self, room: RoomId) {
        self.outlets_of(room).iter().for_each(|outlet| outlet.compare.notify_one());
    }

    /// Returns the messages of a room, in its order.
    pub(super) fn order(&self, room: RoomId) -> Vec<MessageHash> {
        let known = self.rooms.get(&room);
        known.map(|known| known.log().ordered().map(|(hash, _)| *hash).collect()).unwrap_or_default()
    }

    /// Adds the stream to a member, in place of an earlier one.
    pub(super) fn add_outlet(&mut self, room: RoomId, outlet: RoomOutlet) {
        let outlets = self.outlets_of(room);
        outlets.retain(|other| other.member != outlet.member);
        outlets.push(outlet);
    }

    /// Makes the stream to a member compare both copies, if there is one.
    pub(super) fn compare_with(&mut self, room: RoomId, member: &Fingerprint) {
        for outlet in self.outlets_of(room).iter().filter(|outlet| outlet.member == *member) {
            outlet.compare.notify_one();
        }
    }

    /// Returns true if a comparison with a member of this digest brought nothing, and nothing changed here since.
    pub(super) fn is_settled(&mut self, room: RoomId, member: &Fingerprint, theirs: RoomDigest) -> bool {
        let Some(mine) = self.summary(room) else { return false };
        let outlets = self.outlets_of(room).iter();
        outlets.filter(|outlet| outlet.member == *member).any(|outlet| outlet.settled == Some((mine.digest, theirs)))
    }

    /// Notes that no member could be asked for our newest message in time.
    pub(super) fn give_up_own_chain(&mut self, room: RoomId) {
        if let Some(known) = self.rooms.get_mut(&room) {
            tracing::info!("no member tells what we wrote last: writing all the same");
            known.note_own_chain_known();
        }
    }

    /// Returns true if time demands something.
    pub(super) fn is_tick_due(&self) -> bool {
        let is_due = |room: &Room| room.is_searching() || room.display.is_waiting();
        !self.unstored_deliveries.is_empty() || self.rooms.values().any(is_due)
    }

    /// Does what time demands: shows messages that waited long enough, and searches on for missing ones.
    pub(super) fn tick(&mut self) {
        self.store_deliveries();
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            self.show_ready(id);
            if self.rooms.get(&id).is_some_and(Room::is_searching) {
                self.outlets_of(id).iter().for_each(|outlet| outlet.compare.notify_one());
            }
        }
    }

    /// Stores what is known of deliveries.
    pub(super) fn store_deliveries(&mut self) {
        for ((room, member), number) in std::mem::take(&mut self.unstored_deliveries) {
            if let Err(error) = self.me.profile.record_room_delivery(room, &self.key, &member, number) {
                tracing::error!("a delivery could not be stored: {error}");
            }
        }
    }

    /// Removes what is older or more than a room may keep.
    pub(super) fn prune(&mut self) -> Result<(), Error> {
        let (retention, now) = (self.me.profile.room_retention()?, self.clock.unsigned_wall_ms());
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            if let Some(step) = self.rooms.get_mut(&id).map(|room| room.prune(retention, now)) {
                self.commit(id, step)?;
            }
        }
        Ok(())
    }

    fn load_room(&mut self, known: &KnownRoom) -> Result<(), Error> {
        let Some(stored) = self.me.profile.load_room(known.id)? else { return Ok(()) };
        let mut room = Room::loaded(stored, self.key, known.tracker);
        for (member, number) in self.me.profile.room_deliveries(known.id, &self.key)? {
            room.note_delivered(member, number);
        }
        if let Some(entry) = room.entry() {
            self.directory.put(entry);
        }
        self.rooms.insert(known.id, room);
        Ok(())
    }

    /// Stores a step and tells it. Returns the new messages.
    fn commit(&mut self, id: RoomId, step: RoomStep) -> Result<Vec<RoomPost>, Error> {
        let RoomStep { runs, changes, news, has_records } = step;
        if !has_records && changes.iter().all(is_empty) {
            return Ok(Vec::new());
        }
        let Some(room) = self.rooms.get_mut(&id) else { return Ok(Vec::new()) };
        // Held until the events are sent, so that they come in the order of the messages' places.
        let _turn = self.events.lock_order_blocking();
        let at = self.clock.wall_ms();
        let update =
            RoomUpdate { members: room.members(), log: room.log(), me: self.key, runs: &runs, changes: &changes };
        let stored = match self.me.profile.store_room_update(&update, at) {
            Ok(stored) => stored,
            Err(error) => {
                // The memory is ahead of the disk: what isn't stored must not be passed on.
                self.reload(id);
                return Err(error.into());
            }
        };
        let posts = posts_of(&self.me.user, room, &runs, &stored, at);
        room.display.extend(posts.iter().cloned());
        if has_records && let Some(entry) = room.entry() {
            self.directory.put(entry);
        }
        self.tell(id, news);
        self.show_ready(id);
        Ok(posts)
    }

    /// Takes over what is stored of all rooms: another process of the profile removed messages from the history.
    pub(super) fn reload_all(&mut self) {
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            self.reload(id);
            // A comparison ends with other digests than before.
            self.outlets_of(id).iter().for_each(|outlet| outlet.compare.notify_one());
        }
    }

    fn reload(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        match self.me.profile.load_room(id) {
            Ok(Some(stored)) => {
                room.replace_stored(stored);
                if let Some(entry) = room.entry() {
                    self.directory.put(entry);
                }
            }
            // Memory that may be ahead of the disk must not be passed on.
            Ok(None) => drop(self.rooms.remove(&id)),
            Err(error) => {
                tracing::error!("a room can't be loaded again: {error}");
                self.rooms.remove(&id);
            }
        }
    }

    /// Loads a room if the profile knows it.
    fn load_known_room(&mut self, id: RoomId) -> Result<(), Error> {
        let known = self.me.profile.rooms()?.into_iter().find(|room| room.id == id);
        known.map_or(Ok(()), |known| self.load_room(&known))
    }

    /// Sends events of messages that wait for nothing.
    fn show_ready(&mut self, id: RoomId) {
        let now = self.clock.unsigned_wall_ms();
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if !room.display.is_waiting() {
            return;
        }
        for post in room.take_ready(now) {
            // What blocked members write is passed on and stored, and not told.
            if !self.me.profile.is_blocked(&post.from).unwrap_or(false) {
                self.events.send(NodeEvent::RoomMessage(post));
            }
        }
    }

    fn tell(&self, id: RoomId, news: Vec<RoomNewsKind>) {
        let Some(name) = self.rooms.get(&id).and_then(|room| room.members().name()) else { return };
        for kind in news {
            self.events.send(NodeEvent::Room(RoomNews { room: name.clone(), room_id: id, kind }));
        }
    }

    fn push(&mut self, room: RoomId, push: &RoomPush, from: Option<&Fingerprint>) {
        for outlet in self.outlets_of(room).iter().filter(|outlet| Some(&outlet.member) != from) {
            // A full queue is that of a slow member, who asks for the rest.
            if outlet.pushes.try_send(push.clone()).is_err() {
                outlet.compare.notify_one();
            }
        }
    }

    fn outlets_of(&mut self, room: RoomId) -> &mut Vec<RoomOutlet> {
        let outlets = self.outlets.entry(room).or_default();
        // A stream that ended tells nobody: its queue is closed.
        outlets.retain(|outlet| !outlet.pushes.is_closed());
        outlets
    }

    fn reachable(&mut self, room: RoomId) -> BTreeSet<Fingerprint> {
        self.outlets_of(room).iter().map(|outlet| outlet.member).collect()
    }
}

/// Parses and verifies an encoded run; `None` if it has no signature, as earlier versions send the way to a cut.
fn verify_run(bytes: &[u8], room: &Room) -> Result<Option<MessageRun>, String> {
    verify(UnverifiedRun::parse(bytes).map_err(|why| why.to_string())?, room)
}

fn verify(run: UnverifiedRun, room: &Room) -> Result<Option<MessageRun>, String> {
    let has_signature = run.has_signature();
    match run.verify(room.members()) {
        Err(RunFault::BadSignature) if !has_signature => Ok(None),
        verified => verified.map(Some).map_err(|why| why.to_string()),
    }
}

fn posts_of(me: &UserName, room: &Room, runs: &[MessageRun], stored: &[NewRoomMessage], at: i64) -> Vec<RoomPost> {
    let Some(name) = room.members().name() else { return Vec::new() };
    let places: HashMap<MessageHash, &NewRoomMessage> = stored.iter().map(|new| (new.hash, new)).collect();
    let messages = runs.iter().flat_map(MessageRun::messages);
    let posts = messages.filter_map(|message| {
        let place = places.get(&message.hash())?;
        let from = room.members().user(&message.author())?.clone();
        let text = message.content().body.clone();
        Some(RoomPost {
            room: name.clone(),
            room_id: message.content().room,
            mentions_me: from != *me && is_mentioned(&text, me),
            from,
            id: message.hash(),
            seq: place.seq,
            ts: i64::try_from(message.content().time).unwrap_or(i64::MAX),
            at,
            text: text.into(),
            late: place.is_late,
        })
    });
    posts.collect()
}

fn is_empty(change: &rooms::LogChange) -> bool {
    change.stored.is_empty() && change.void.is_empty() && change.pruned.is_empty()
}

fn verifying_key(keys: &Ed25519KeyPair) -> Option<VerifyingKey> {
    keys.public_key().as_ref().try_into().ok().map(VerifyingKey::from_raw)
}

#[cfg(test)]
mod tests;
