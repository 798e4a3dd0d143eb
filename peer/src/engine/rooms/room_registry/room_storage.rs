//! What a registry's rooms read from the profile and write to it, step by step.

use std::collections::HashMap;
use std::time::Duration;

use rooms::MessageRun;
use shared::room::MessageHash;
use shared::{RoomId, UserName};

use super::RoomRegistry;
use crate::engine::Error;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomPost;
use crate::engine::rooms::mention::is_mentioned;
use crate::engine::rooms::room::{Room, RoomStep};
use crate::profile::{KnownRoom, NewRoomMessage, RoomUpdate};

/// Time after a failure to load a room.
const LOAD_PAUSE: Duration = Duration::from_secs(5);

impl RoomRegistry {
    /// Stores what is known of deliveries.
    pub(in crate::engine::rooms) fn store_deliveries(&mut self) {
        for ((room, member), number) in std::mem::take(&mut self.unstored_deliveries) {
            // A loss lasts only until the next comparison with that member.
            if let Err(error) = self.me.profile.record_room_delivery(room, &self.key, &member, number) {
                tracing::error!("a delivery could not be stored: {error}");
            }
        }
    }

    /// Removes what is older or more than a room may keep.
    pub(in crate::engine::rooms) fn prune(&mut self) -> Result<(), Error> {
        let (retention, now) = (self.me.profile.room_retention()?, self.clock.unsigned_wall_ms());
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            if let Some(step) = self.rooms.get_mut(&id).map(|room| room.prune(retention, now)) {
                self.commit(id, step)?;
            }
        }
        Ok(())
    }

    pub(super) fn load_room(&mut self, known: &KnownRoom) -> Result<(), Error> {
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
    pub(super) fn commit(&mut self, id: RoomId, step: RoomStep) -> Result<Vec<RoomPost>, Error> {
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
        // Before the news, whose hearers look there.
        if has_records && let Some(entry) = room.entry() {
            self.directory.put(entry);
        }
        self.tell(id, news);
        self.show_ready(id);
        Ok(posts)
    }

    /// Takes over what is stored of all rooms: another process of the profile removed messages from the history.
    pub(in crate::engine::rooms) fn reload_all(&mut self) {
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            self.reload(id);
            // A comparison ends with other digests than before.
            self.outlets.compare_with_all(id);
        }
    }

    pub(super) fn reload(&mut self, id: RoomId) {
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
                self.unloaded.insert(id, self.clock.instant() + LOAD_PAUSE);
            }
        }
    }

    /// Loads the rooms that could not be loaded again before.
    pub(super) fn load_unloaded(&mut self) {
        let now = self.clock.instant();
        let due: Vec<RoomId> = self.unloaded.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            match self.load_known_room(id) {
                Ok(()) => self.outlets.compare_with_all(id),
                Err(error) => {
                    tracing::debug!("a room still can't be loaded: {error}");
                    self.unloaded.insert(id, now + LOAD_PAUSE);
                }
            }
        }
    }

    /// Loads a room if the profile knows it.
    pub(super) fn load_known_room(&mut self, id: RoomId) -> Result<(), Error> {
        let known = self.me.profile.rooms()?.into_iter().find(|room| room.id == id);
        known.map_or(Ok(()), |known| self.load_room(&known))?;
        self.unloaded.remove(&id);
        Ok(())
    }

    /// Sends events of messages that wait for nothing.
    pub(super) fn show_ready(&mut self, id: RoomId) {
        let now = self.clock.instant();
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if !room.display.is_waiting() {
            return;
        }
        for post in room.take_ready(now) {
            // What blocked members write is passed on and stored, and not told. Neither is it when that can't be read: it is
            // in the history all the same.
            if matches!(self.me.profile.is_blocked(&post.from), Ok(false)) {
                self.events.send(NodeEvent::RoomMessage(post));
            }
        }
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
