//! The acts of a node, performed in this process: for the views that run the node, for the clients of its local socket,
//! and for commands while no node runs.

use std::sync::{Arc, OnceLock, Weak};

use localization::tr;
use shared::peer::{ChatMessage, MessageId, PeerErrorCode, RECEIPTS_CAPABILITY};
use shared::tracker::room_request::RoomCut;
use shared::{FileName, RoomName, UserName};
use tokio_util::sync::CancellationToken;

use super::NodeServices;
use super::delivery::MessageOutbox;
use super::link_pool::LinkPool;
use super::node_values::{FlushReport, NodeLifetime, NodeStatus, SendAnnouncement, UserSummary};
use super::revalidation_trigger::{RevalidationHandle, RevalidationTrigger};
use super::room_writing::RoomWriting;
use super::share_watcher::ShareWatcherHandle;
use super::tracker_session::{PresenceState, TrackerHandle};
use super::user_list;
use crate::engine::chat::{self, DeliveryReport};
use crate::engine::event_bus::EventBus;
use crate::engine::follow_news::FollowWaker;
use crate::engine::guest_links::{GuestPost, LinkHostHandle, LinkService, answer_guest};
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::engine::room_values::{RoomOverview, RoomReceipt};
use crate::engine::tracker_account::{self, PasswordChange};
use crate::engine::{Error, LocalUser, file_offers, now_s, run_blocking};
use crate::profile::{Audience, ConversationName, HistoryQuery, OutgoingSend, Profile, StoredMessage};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The parts of a node that its acts use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeCore {
    me: LocalUser,
    events: EventBus,
    /// Only the node itself keeps its links and its port: a caller may hold this for longer.
    link_pool: Weak<LinkPool>,
    outbox: Arc<MessageOutbox>,
    /// `None` in a node without presence, which lasts as long as one command.
    presence: Option<PresenceServices>,
}

/// The parts that only a node has which is present at the tracker.
#[derive(Debug, Clone)]
struct PresenceServices {
    tracker: TrackerHandle,
    revalidation: RevalidationHandle,
    rooms: RoomWriting,
    share_watcher: ShareWatcherHandle,
    follows: FollowWaker,
    lifetime: NodeLifetime,
    stop: CancellationToken,
    ended: CancellationToken,
    /// Set where links for guests are served beside the node.
    link_host: Arc<OnceLock<LinkHostHandle>>,
}

impl NodeCore {
    /// Returns the acts of a node that is present at the tracker until `ended` is cancelled; `stop` ends it.
    pub(super) fn online(
        me: LocalUser,
        events: EventBus,
        services: NodeServices,
        lifetime: NodeLifetime,
        stop: CancellationToken,
        ended: CancellationToken,
    ) -> Self {
        let NodeServices { link_pool, outbox, tracker, revalidation, rooms, online, share_watcher, follows, .. } =
            services;
        let rooms = RoomWriting::new(me.user.clone(), rooms, tracker.clone(), online, events.clone());
        let link_host = Arc::default();
        let presence = Some(PresenceServices {
            tracker,
            revalidation,
            rooms,
            share_watcher,
            follows,
            lifetime,
            stop,
            ended,
            link_host,
        });
        Self { me, events, link_pool: Arc::downgrade(&link_pool), outbox, presence }
    }

    /// Returns the acts of a node without presence.
    pub(super) fn offline(
        me: LocalUser,
        events: EventBus,
        link_pool: &Arc<LinkPool>,
        outbox: Arc<MessageOutbox>,
    ) -> Self {
        Self { me, events, link_pool: Arc::downgrade(link_pool), outbox, presence: None }
    }

    pub(super) const fn events(&self) -> &EventBus {
        &self.events
    }

    /// Lets a server of links for guests run beside the node; the first one stays.
    pub fn set_link_host(&self, host: LinkHostHandle) {
        if let Some(presence) = &self.presence {
            let _ = presence.link_host.set(host);
        }
    }

    pub(super) async fn serve_links(&self) -> Result<Option<LinkService>, Error> {
        match self.presence.as_ref().and_then(|presence| presence.link_host.get()) {
            Some(host) => host.look().await.map(Some),
            None => Ok(None),
        }
    }

    /// Stores an answer to a guest of a link. Its browser learns of it where a server of links runs beside this node.
    pub(super) async fn answer_guest(&self, conversation: (i64, i64), text: String) -> Result<GuestPost, Error> {
        let post = self.with_profile(move |profile| answer_guest(profile, conversation, &text)).await?;
        if let Some(host) = self.presence.as_ref().and_then(|presence| presence.link_host.get()) {
            host.chat_signal().send(Some(conversation));
        }
        self.events.send(NodeEvent::GuestMessage(post.clone()));
        Ok(post)
    }

    /// Returns the token whose cancellation stops the node.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.presence.as_ref().map(|presence| presence.stop.clone()).unwrap_or_default()
    }

    /// Returns the token that is cancelled when the node has ended.
    pub(super) fn ended_token(&self) -> CancellationToken {
        self.presence.as_ref().map(|presence| presence.ended.clone()).unwrap_or_default()
    }

    pub(super) fn lifetime(&self) -> NodeLifetime {
        self.presence.as_ref().map_or(NodeLifetime::Command, |presence| presence.lifetime)
    }

    /// Returns the event with which a watcher begins: the reason why the node is not present at the tracker.
    pub(super) fn absence_event(&self) -> Option<NodeEvent> {
        match self.presence.as_ref()?.tracker.presence_state() {
            PresenceState::Offline { why } => Some(NodeEvent::TrackerLost { why }),
            PresenceState::Displaced(elsewhere) => Some(NodeEvent::Displaced(elsewhere)),
            PresenceState::Present { .. } => None,
        }
    }

    pub(super) fn status(&self) -> NodeStatus {
        let (address, elsewhere) = match self.presence.as_ref().map(|presence| presence.tracker.presence_state()) {
            Some(PresenceState::Present { address }) => (Some(address), None),
            Some(PresenceState::Displaced(elsewhere)) => (None, Some(elsewhere)),
            Some(PresenceState::Offline { .. }) | None => (None, None),
        };
        let (user, lifetime) = (self.me.user.clone(), self.lifetime());
        NodeStatus { user, address, pid: std::process::id(), lifetime, elsewhere, version: VERSION.to_owned() }
    }

    pub(super) async fn queue_message(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        self.outbox.enqueue(to, message).await
    }

    pub(super) async fn deliver(
        &self,
        to: &UserName,
        message: ChatMessage,
        now: bool,
    ) -> Result<DeliveryReport, Error> {
        if self.presence.is_none() {
            // No dispatcher expires messages: an old one must not be sent along.
            self.outbox.expire_with_notices().await?;
        }
        self.outbox.deliver(to, message, now).await
    }

    pub(super) async fn queue_offer(&self, to: &UserName, name: &FileName) -> Result<StoredMessage, Error> {
        self.outbox.enqueue(to, self.offer_message(to, name)?).await
    }

    pub(super) async fn deliver_offer(&self, to: &UserName, name: &FileName) -> Result<DeliveryReport, Error> {
        self.deliver(to, self.offer_message(to, name)?, false).await
    }

    /// Stores the message that announces a send, and waits for its first delivery attempt.
    pub(super) async fn announce_send(&self, number: i64) -> Result<SendAnnouncement, Error> {
        let found = self.with_profile(move |profile| Ok(profile.send(number)?)).await?;
        let Some(OutgoingSend { id: Some(id), audience: Audience::Person(to), send, .. }) = found else {
            return Err(Error::Usage(tr!("there is no send {number} to a person", number)));
        };
        let report = self.deliver(&to, chat::compose_send(&self.me.user, id, send), false).await?;
        // After the attempt, which may have made the link.
        let link = self.link_pool.upgrade().and_then(|links| links.existing_link(&to));
        Ok(SendAnnouncement { report, receipts: link.map(|link| link.has_capability(RECEIPTS_CAPABILITY)) })
    }

    pub(super) async fn flush(&self, to: &UserName) -> Result<FlushReport, Error> {
        self.outbox.flush(to).await
    }

    pub(super) async fn cancel(&self, to: &UserName, id: MessageId) -> Result<bool, Error> {
        self.outbox.cancel_queued(to, id).await
    }

    pub(super) fn typing(&self, to: &UserName) {
        // Throttle transfers already now: a message follows soon.
        self.events.record_own_writing(to);
        self.outbox.notify_typing(to);
    }

    pub(super) async fn history(&self, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
        self.with_profile(move |profile| Ok(profile.history(&query)?)).await
    }

    pub(super) async fn mark_read(&self, with: ConversationName, up_to: Option<i64>) -> Result<(), Error> {
        let marked = with.clone();
        if self.with_profile(move |profile| Ok(profile.mark_read(marked, up_to)?)).await? {
            self.events.send(NodeEvent::Read { with });
        }
        Ok(())
    }

    pub(super) async fn users(&self) -> Result<Vec<UserSummary>, Error> {
        user_list::list_users(&self.me, self.presence.as_ref().map(|presence| presence.tracker.clone())).await
    }

    /// Returns the names that a user shares, each up to the slash after `prefix`; none while no tracker lists them.
    pub(super) async fn shared_names(&self, user: UserName, prefix: &str) -> Result<Vec<String>, Error> {
        let Some(presence) = &self.presence else { return Ok(Vec::new()) };
        user_list::shared_names(presence.tracker.clone(), user, prefix).await
    }

    pub(super) async fn block(&self, user: UserName) -> Result<bool, Error> {
        let blocked = user.clone();
        let changed = self.with_profile(move |profile| Ok(profile.block(&blocked, now_s())?)).await?;
        // The block is on record before the links close, or the user could call again in between.
        if let Some(link_pool) = self.link_pool.upgrade() {
            link_pool.close_links(&user, PeerErrorCode::Unauthorised);
        }
        // Nothing more is fetched of what the user shares.
        self.follows_changed();
        Ok(changed)
    }

    pub(super) async fn unblock(&self, user: UserName) -> Result<bool, Error> {
        let changed = self.with_profile(move |profile| Ok(profile.unblock(&user)?)).await?;
        self.follows_changed();
        Ok(changed)
    }

    pub(super) async fn accept(&self, user: UserName) -> Result<bool, Error> {
        let accepted = user.clone();
        let changed = self.with_profile(move |profile| Ok(profile.accept(&accepted)?)).await?;
        self.events.send(NodeEvent::Accepted { user });
        Ok(changed)
    }

    pub(super) async fn rooms(&self) -> Result<Vec<RoomOverview>, Error> {
        let mut rooms = self.room_writing()?.overview().await?;
        let (known, unread) = self.with_profile(|profile| Ok((profile.rooms()?, profile.unread_counts()?))).await?;
        for room in &mut rooms {
            room.muted = known.iter().any(|known| known.id == room.room_id && known.is_muted);
            room.unread = unread.iter().find(|unread| unread.with == room.room).map_or(0, |unread| unread.count);
        }
        Ok(rooms)
    }

    pub(super) async fn write_in_room(&self, room: &RoomName, text: &str, wait: bool) -> Result<RoomReceipt, Error> {
        self.room_writing()?.write(room, text, wait).await
    }

    pub(super) async fn room_cut(&self, room: &RoomName, user: &UserName) -> Result<Option<RoomCut>, Error> {
        self.room_writing()?.cut(room, user).await
    }

    /// Returns the acts on rooms. A message is signed with its number: only the one node that is present writes.
    fn room_writing(&self) -> Result<&RoomWriting, Error> {
        let presence = self.presence.as_ref();
        presence
            .map(|presence| &presence.rooms)
            .ok_or_else(|| Error::Internal("rooms need a node that is present".to_owned()))
    }

    /// Attempts the delivery to `user`, or to everybody, again. A node without presence delivers nothing unasked.
    pub(super) async fn wake(&self, user: Option<UserName>) -> Result<(), Error> {
        let Some(presence) = &self.presence else { return Ok(()) };
        match user {
            Some(user) => {
                // `peer trust` asks for this: another key may be on record by now.
                presence.revalidation.request(RevalidationTrigger::UserKey(user.clone()));
                self.outbox.wake(&user);
                Ok(())
            }
            None => self.outbox.wake_all().await,
        }
    }

    /// Reports a transfer to all watchers, with its byte count capped at the file's size.
    pub(super) fn report_transfer(&self, transfer: FileTransfer) {
        self.events.send(NodeEvent::Transfer(FileTransfer { bytes: transfer.bytes.min(transfer.size), ..transfer }));
    }

    pub(super) async fn change_password(&self, change: PasswordChange) -> Result<(), Error> {
        let user = self.me.user.clone();
        match &self.presence {
            // The node's session is the one that asks, so that it stays valid.
            Some(presence) => tracker_account::change_password(&mut presence.tracker.clone(), user, change).await,
            None => tracker_account::change_password(&mut self.me.connect_tracker().await?, user, change).await,
        }
    }

    pub(super) fn shares_changed(&self) {
        if let Some(presence) = &self.presence {
            presence.tracker.shares_changed();
            presence.share_watcher.reload();
        }
    }

    /// Looks at the follows of the profile, which another process may have changed.
    pub(super) fn follows_changed(&self) {
        if let Some(presence) = &self.presence {
            presence.follows.wake();
        }
    }

    /// Learns which messages of rooms another process of the profile removed.
    pub(super) async fn history_removed(&self) -> Result<(), Error> {
        match &self.presence {
            Some(presence) => presence.rooms.reload().await,
            None => Ok(()),
        }
    }

    pub(super) fn wishes_changed(&self) {
        if let Some(presence) = &self.presence {
            presence.tracker.files_changed().notify_one();
        }
    }

    pub(super) fn go_online(&self) {
        if let Some(presence) = &self.presence {
            presence.tracker.go_online();
        }
    }

    /// Returns the message that announces an offer, as it is stored: the recipient must be able to fetch exactly that.
    fn offer_message(&self, to: &UserName, name: &FileName) -> Result<ChatMessage, Error> {
        Ok(chat::compose_offer(&self.me.user, file_offers::find_offer(&self.me, to, name)?))
    }

    async fn with_profile<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Profile) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let profile = self.me.profile.clone();
        run_blocking(move || work(&profile)).await
    }
}
