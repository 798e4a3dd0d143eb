//! The rooms and their members, for everybody in this process who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rooms::{MemberRole, RoomMember};
use shared::room::RecordHash;
use shared::tracker::room_reply::ListedRole;
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};
use tokio::sync::watch;

/// A view of all rooms, which the registry replaces at each change. Cheap to clone; never waits for the registry.
#[derive(Clone)]
pub struct RoomDirectory {
    me: Fingerprint,
    rooms: Arc<watch::Sender<RoomEntries>>,
}

/// All rooms, by id.
pub type RoomEntries = Arc<BTreeMap<RoomId, Arc<RoomEntry>>>;

/// A room and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEntry {
    pub(super) id: RoomId,
    pub(super) name: RoomName,
    pub(super) topic: RoomTopic,
    pub(super) members: BTreeMap<Fingerprint, RoomMember>,
    pub(super) epoch: u64,
    pub(super) head: Option<RecordHash>,
    /// The user is a member, and the room isn't deleted.
    pub(super) is_active: bool,
}

impl RoomDirectory {
    /// Returns a directory without rooms for the user with this key.
    pub(super) fn new(me: Fingerprint) -> Self {
        Self { me, rooms: Arc::new(watch::Sender::new(RoomEntries::default())) }
    }

    /// Returns true if `user` is a member of the room now, with this key. False for everybody in a room that is not
    /// known, that was deleted, or that this node's user left.
    pub fn is_member(&self, room: RoomId, user: &UserName, key: &Fingerprint) -> bool {
        let rooms = self.rooms.borrow();
        rooms.get(&room).is_some_and(|room| room.has_member(user, key))
    }

    /// Returns a room.
    pub fn room(&self, id: RoomId) -> Option<Arc<RoomEntry>> {
        self.rooms.borrow().get(&id).cloned()
    }

    /// Returns the room of this name, in any case of letters; of several the one of which the user is a member.
    pub fn room_named(&self, name: &RoomName) -> Option<Arc<RoomEntry>> {
        let rooms = self.rooms.borrow();
        let named = rooms.values().filter(|room| room.name.as_str().eq_ignore_ascii_case(name.as_str()));
        // One that was left or deleted may have had the name before.
        named.max_by_key(|room| (room.is_active, room.epoch)).cloned()
    }

    /// Returns true if the user is a member of any room.
    pub fn has_active_rooms(&self) -> bool {
        self.rooms.borrow().values().any(|room| room.is_active)
    }

    /// Returns true if `other` is a member of an active room, with any key.
    pub fn has_fellow_member(&self, other: &UserName) -> bool {
        self.rooms.borrow().values().any(|room| room.is_active && room.key_of(other).is_some())
    }

    /// Returns all rooms.
    pub fn rooms(&self) -> Vec<Arc<RoomEntry>> {
        self.rooms.borrow().values().cloned().collect()
    }

    /// Returns a receiver that is told of each change.
    pub fn subscribe(&self) -> watch::Receiver<RoomEntries> {
        self.rooms.subscribe()
    }

    /// Returns the user's key.
    pub(in crate::engine) const fn me(&self) -> &Fingerprint {
        &self.me
    }

    /// Replaces a room's entry.
    pub(super) fn put(&self, entry: RoomEntry) {
        // Each change wakes all who check their members: what is the same wakes nobody.
        self.rooms.send_if_modified(|rooms| {
            let is_changed = rooms.get(&entry.id).is_none_or(|known| **known != entry);
            if is_changed {
                // Copied only while somebody still holds the former map.
                Arc::make_mut(rooms).insert(entry.id, Arc::new(entry));
            }
            is_changed
        });
    }
}

impl fmt::Debug for RoomDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomDirectory").field("rooms", &self.rooms.borrow().len()).finish_non_exhaustive()
    }
}

impl RoomEntry {
    /// Returns the id.
    pub const fn id(&self) -> RoomId {
        self.id
    }

    /// Returns the hash of the newest record.
    pub const fn head(&self) -> Option<RecordHash> {
        self.head
    }

    /// Returns the name.
    pub const fn name(&self) -> &RoomName {
        &self.name
    }

    /// Returns the line above the conversation.
    pub const fn topic(&self) -> &RoomTopic {
        &self.topic
    }

    /// Returns the present members, by key.
    pub const fn members(&self) -> &BTreeMap<Fingerprint, RoomMember> {
        &self.members
    }

    /// Returns true if the user is a member, and the room isn't deleted.
    pub const fn is_active(&self) -> bool {
        self.is_active
    }

    /// Returns true if `user` is a member with this key, in a room of the user's.
    pub fn has_member(&self, user: &UserName, key: &Fingerprint) -> bool {
        self.is_active && self.members.get(key).is_some_and(|member| member.user == *user)
    }

    /// Returns the key with which a user is a member.
    pub fn key_of(&self, user: &UserName) -> Option<&Fingerprint> {
        self.members.iter().find(|(_, member)| member.user == *user).map(|(key, _)| key)
    }

    /// Returns the role of the member with this key.
    pub fn role_of(&self, key: &Fingerprint) -> Option<ListedRole> {
        self.members.get(key).map(|member| listed_role(member.role))
    }
}

/// Returns a role as the tracker's protocol names it.
pub(super) const fn listed_role(role: MemberRole) -> ListedRole {
    match role {
        MemberRole::Member => ListedRole::Member,
        MemberRole::Moderator => ListedRole::Moderator,
        MemberRole::Owner => ListedRole::Owner,
    }
}
