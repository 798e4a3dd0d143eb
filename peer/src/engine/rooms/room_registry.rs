//! The owner of all rooms: takes one step after another, stores each, and tells it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rooms::{Cut, MessageRun, RoomMessage, RunRequest, SignedRecord, VectorEntry, VerifyingKey};
use shared::peer::{MAX_ROOM_RUN_BYTES, MAX_ROOM_RUNS, RoomSummary, SingleRunBytes};
use shared::room::{MessageHash, RecordHash, RoomDigest};
use shared::{Fingerprint, RoomId};

use super::room::{Room, RoomStep, RunOrigin};
use super::room_clock::RoomClock;
use super::room_directory::RoomDirectory;
use super::room_outlets::{RoomOutlets, RoomPush};
use super::stranger_checks::StrangerChecks;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomNews, RoomNewsKind, RoomReceipt};
use crate::engine::{Error, LocalUser, RoomActionError};

mod caller_standing;
mod room_storage;
mod run_intake;

pub(super) use caller_standing::CallerStanding;
pub(super) use run_intake::{OfferedPush, OfferedRuns};

/// All rooms of the profile.
#[derive(Debug)]
pub(super) struct RoomRegistry {
    me: LocalUser,
    key: Fingerprint,
    rooms: BTreeMap<RoomId, Room>,
    /// Rooms that could not be loaded again, and the time of the next attempt.
    unloaded: BTreeMap<RoomId, Instant>,
    outlets: RoomOutlets,
    strangers: StrangerChecks,
    /// What members have of our messages, as far as it isn't stored yet.
    unstored_deliveries: BTreeMap<(RoomId, Fingerprint), u64>,
    directory: RoomDirectory,
    events: EventBus,
    clock: RoomClock,
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
            unloaded: BTreeMap::new(),
            outlets: RoomOutlets::default(),
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
        let is_ours = |own: &&VectorEntry| self.rooms.get(&room).is_some_and(|known| known.has_same(own));
        // By its number alone, a backup would take what it wrote before for what it writes now.
        if let Some(own) = page.iter().find(|entry| entry.author == self.key).filter(is_ours) {
            self.note_delivered(room, member, own.newest, None);
        }
        self.rooms.get(&room).map(|known| known.requests(page)).unwrap_or_default()
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
        // Stored before it is sent: the number of a message that is out must not be used again.
        let posts = self.commit(room, step)?;
        let post = posts.into_iter().find(|post| post.id == message);
        let Some(post) = post else { return Err(Error::Internal("the message was not stored".to_owned())) };
        if let Some(encoded) = SingleRunBytes::new(run.encode()) {
            let push = RoomPush { own_number: Some(draft.number), message, run: encoded };
            self.outlets.push(room, &push, None);
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

    /// Returns true if a member has later messages of ours that can't be taken yet.
    pub(super) fn is_own_chain_behind(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(Room::is_own_chain_behind)
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
        known.note_asked(member);
        // If this profile is a backup, what it wrote since came with the comparison.
        if !known.is_own_chain_behind() {
            known.note_own_chain_known();
        }
        let mine = known.summary().digest;
        if mine == theirs {
            // An equal copy has all of ours; the number is capped at the newest.
            self.note_delivered(room, member, u64::MAX, None);
        }
        // With news, a further comparison is due, and may bring more.
        let settled = Some((mine, theirs)).filter(|_| !has_news);
        self.outlets.note_settled(room, &member, settled);
        if has_news {
            // What came in runs has no signature of its own to be passed on with: the others ask for it. The member itself
            // learns by one more comparison that it was received.
            self.outlets.compare_with_all(room);
        }
    }

    /// Notes that a member's turn ended with nothing new, and before it had nothing more.
    pub(super) fn note_unfinished(&mut self, room: RoomId, member: Fingerprint) {
        if let Some(known) = self.rooms.get_mut(&room) {
            known.note_unfinished(member);
        }
    }

    /// Returns the messages of a room, in its order.
    pub(super) fn order(&self, room: RoomId) -> Vec<MessageHash> {
        let known = self.rooms.get(&room);
        known.map(|known| known.log().ordered().map(|(hash, _)| *hash).collect()).unwrap_or_default()
    }

    /// Returns the streams to members.
    pub(super) fn outlets(&mut self) -> &mut RoomOutlets {
        &mut self.outlets
    }

    /// Returns true if a comparison with a member of this digest brought nothing, and nothing changed here since.
    pub(super) fn is_settled(&mut self, room: RoomId, member: &Fingerprint, theirs: RoomDigest) -> bool {
        self.summary(room).is_some_and(|mine| self.outlets.is_settled(room, member, (mine.digest, theirs)))
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
        !self.unstored_deliveries.is_empty() || !self.unloaded.is_empty() || self.rooms.values().any(is_due)
    }

    /// Does what time demands: shows messages that waited long enough, searches on for missing ones, and loads what
    /// could not be loaded before.
    pub(super) fn tick(&mut self) {
        self.load_unloaded();
        self.store_deliveries();
        let (ids, now): (Vec<RoomId>, _) = (self.rooms.keys().copied().collect(), self.clock.instant());
        for id in ids {
            self.show_ready(id);
            let reachable = self.outlets.members(id);
            if self.rooms.get_mut(&id).is_some_and(|room| room.begin_search_round(&reachable, now)) {
                self.outlets.compare_anew_with_all(id);
            }
        }
    }

    fn tell(&self, id: RoomId, news: Vec<RoomNewsKind>) {
        let Some(name) = self.rooms.get(&id).and_then(|room| room.members().name()) else { return };
        for kind in news {
            self.events.send(NodeEvent::Room(RoomNews { room: name.clone(), room_id: id, kind }));
        }
    }
}

fn verifying_key(keys: &Ed25519KeyPair) -> Option<VerifyingKey> {
    keys.public_key().as_ref().try_into().ok().map(VerifyingKey::from_raw)
}

#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;
