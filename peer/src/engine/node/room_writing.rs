//! The acts on rooms that a node is asked for: list them, write, tell a member's last message.

use std::sync::Arc;
use std::time::Duration;

use shared::room::MessageHash;
use shared::tracker::room_request::RoomCut;
use shared::{RoomId, RoomName, UserName};
use tokio::sync::broadcast;

use super::online_users::OnlineUsers;
use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomMemberStatus, RoomNews, RoomNewsKind, RoomOverview, RoomReceipt};
use crate::engine::rooms::{RoomEntry, Rooms};
use crate::engine::{Error, RoomActionError, chat};

/// Time for the tracker to say who is online.
const PRESENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a member to tell our newest message, before the first one after a start is written. A profile that was
/// restored from a backup would use its numbers twice.
const OWN_CHAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// The same if a member has later messages of ours: those between are searched for first, and then given up. Members
/// would not take what is written meanwhile.
const OWN_CHAIN_SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
const OWN_CHAIN_POLL: Duration = Duration::from_millis(50);
/// Time for the first member to take a message.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The acts on rooms. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RoomWriting {
    user: UserName,
    rooms: Rooms,
    tracker: TrackerHandle,
    online: OnlineUsers,
    events: EventBus,
}

impl RoomWriting {
    pub(super) const fn new(
        user: UserName,
        rooms: Rooms,
        tracker: TrackerHandle,
        online: OnlineUsers,
        events: EventBus,
    ) -> Self {
        Self { user, rooms, tracker, online, events }
    }

    /// Returns all rooms, ordered by name.
    pub(super) async fn overview(&self) -> Result<Vec<RoomOverview>, Error> {
        self.rooms.wait_until_loaded().await?;
        let me = *self.rooms.directory().me();
        let mut overviews = Vec::new();
        for room in self.rooms.directory().rooms() {
            let mut members: Vec<RoomMemberStatus> = room
                .members()
                .iter()
                .filter_map(|(key, member)| {
                    let online = *key == me || self.online.is_online(&member.user).unwrap_or(false);
                    Some(RoomMemberStatus { user: member.user.clone(), role: room.role_of(key)?, online })
                })
                .collect();
            members.sort_by(|one, other| one.user.cmp(&other.user));
            overviews.push(RoomOverview {
                room: room.name().clone(),
                room_id: room.id(),
                topic: room.topic().clone(),
                role: room.role_of(&me).filter(|_| room.is_active()),
                members,
                waiting: usize::try_from(self.rooms.waiting(room.id()).await?).unwrap_or(usize::MAX),
                unread: 0,
                muted: false,
            });
        }
        overviews.sort_by(|one, other| one.room.cmp(&other.room));
        Ok(overviews)
    }

    /// Writes a message; with `wait` waits until a member has it, or none can be reached.
    pub(super) async fn write(&self, name: &RoomName, text: &str, wait: bool) -> Result<RoomReceipt, Error> {
        let text = chat::compose(text)?.text.into_received();
        let room = self.own_room(name).await?;
        if self.tracker.is_displaced() {
            // Two nodes would use the same numbers.
            return Err(RoomActionError::OnlineElsewhere.into());
        }
        if self.tracker.is_present() {
            self.online.wait_until_known(PRESENCE_TIMEOUT).await;
        }
        let can_reach_others = self.is_anybody_online(&room);
        if can_reach_others {
            self.wait_for_own_chain(room.id()).await?;
        }
        // Before it is written: the first ack may come at once.
        let events = self.events.subscribe();
        let receipt = self.rooms.write(room.id(), text).await?;
        if !wait || receipt.count > 0 || receipt.of == 0 || !can_reach_others {
            return Ok(receipt);
        }
        let delivered = self.wait_for_delivery(events, room.id(), receipt.message.id);
        // If nobody takes it in time, it stays stored, and the count says so.
        let _ = tokio::time::timeout(DELIVERY_TIMEOUT, delivered).await;
        let (count, of) = self.rooms.delivery(room.id(), receipt.message.id).await?;
        Ok(RoomReceipt { count, of, ..receipt })
    }

    /// Returns the last message of a member, as this node knows it.
    pub(super) async fn cut(&self, name: &RoomName, user: &UserName) -> Result<Option<RoomCut>, Error> {
        let room = self.own_room(name).await?;
        let Some(key) = room.key_of(user) else { return Ok(None) };
        let cut = self.rooms.cut(room.id(), *key).await?;
        Ok(cut.and_then(|cut| RoomCut::new(cut.number, cut.hash)))
    }

    /// Learns which messages another process of the profile removed.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        self.rooms.reload().await
    }

    /// Returns the room of this name of which the user is a member.
    async fn own_room(&self, name: &RoomName) -> Result<Arc<RoomEntry>, Error> {
        let find = || self.rooms.directory().room_named(name).filter(|room| room.is_active());
        if let Some(room) = find() {
            return Ok(room);
        }
        // The user may have joined a moment ago.
        if self.tracker.is_present() {
            self.rooms.await_all_records().await;
        }
        find().ok_or_else(|| RoomActionError::NotAMember(name.clone()).into())
    }

    fn is_anybody_online(&self, room: &RoomEntry) -> bool {
        let others = room.members().values().filter(|member| member.user != self.user);
        // Without the tracker's word somebody may be there.
        others.clone().any(|member| self.online.is_online(&member.user).unwrap_or(true))
    }

    async fn wait_for_own_chain(&self, room: RoomId) -> Result<(), Error> {
        let is_known = async {
            while !self.rooms.is_own_chain_known(room).await? {
                tokio::time::sleep(OWN_CHAIN_POLL).await;
            }
            Ok(())
        };
        let mut is_known = std::pin::pin!(is_known);
        if let Ok(known) = tokio::time::timeout(OWN_CHAIN_TIMEOUT, &mut is_known).await {
            return known;
        }
        if self.rooms.is_own_chain_behind(room).await?
            && let Ok(known) = tokio::time::timeout(OWN_CHAIN_SEARCH_TIMEOUT, is_known).await
        {
            return known;
        }
        // It is written all the same: a fork is told, and no message is lost.
        self.rooms.give_up_own_chain(room).await
    }

    /// Waits until a member has a message.
    async fn wait_for_delivery(
        &self,
        mut events: broadcast::Receiver<NodeEvent>,
        room: RoomId,
        message: MessageHash,
    ) -> Result<(), Error> {
        while self.rooms.delivery(room, message).await?.0 == 0 {
            loop {
                match events.recv().await {
                    // A later message that somebody has says it for this one as well.
                    Ok(NodeEvent::Room(RoomNews { kind: RoomNewsKind::Delivered { .. }, .. })) => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                }
            }
        }
        Ok(())
    }
}
