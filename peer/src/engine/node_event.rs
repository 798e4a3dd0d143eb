//! Node events, as views and other processes of the profile receive them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;
use serde::{Deserialize, Serialize};
use shared::peer::{ChatMessage, FileSend, MessageId, ReceiptOutcome};
use shared::{FileName, UserName};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use super::active_conversations::ActiveConversations;
use super::chat_activity::{ChatActivity, PeerChatActivity};
use super::follow_news::FollowNews;
use super::room_values::{RoomNews, RoomPost};
use super::{ErrorKind, Notice};
use crate::profile::{ConversationName, GuestPost, MessageState, WishMatch};
use crate::util::TranslatedText;

/// Events buffered for a slow receiver; one that falls further behind misses some.
const CHANNEL_CAPACITY: usize = 4096;
/// The same for changes of the catalogue, of which each is only a hint.
const CATALOGUE_CAPACITY: usize = 64;

/// An event in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The node is present at the tracker.
    Online {
        /// The user who is present.
        user: UserName,
        /// The address at which other peers find the node.
        address: SocketAddr,
        /// The UDP port that the node listens on; with a port forwarding it differs from the address's.
        port: u16,
        /// The number of shared files.
        shares: usize,
    },
    /// The account is online elsewhere with the same key. This node waits until that ends, or until it is told to take
    /// over.
    Displaced(OtherSession),
    /// The account was bound to another key; the node ends.
    AccountMoved {
        /// The account.
        user: UserName,
        /// The time of the change, in milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    /// The tracker can't be reached; the node retries by itself.
    TrackerLost {
        /// The error of the connection.
        why: TranslatedText,
    },
    /// The number of shared files changed.
    SharesChanged {
        /// The new number.
        count: usize,
    },
    /// The tracker refused the list of shares; the node retries by itself. Files can still be fetched by name.
    SharesRefused {
        /// The tracker's text.
        why: TranslatedText,
    },
    /// The tracker doesn't announce the address that the user asked for.
    AddressDropped {
        /// The dropped address.
        address: SocketAddr,
    },
    /// Another user came online or went offline.
    Presence {
        /// The other user.
        user: UserName,
        /// True if the user is online now.
        online: bool,
    },
    /// A message was received and stored.
    Received {
        /// The sender.
        from: UserName,
        /// The message with its id and text.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
        /// The time of storing in milliseconds since 1970, equal to the one in the history.
        #[serde(default)]
        at: i64,
    },
    /// A stranger wrote for the first time; sent after the event of the message.
    #[serde(rename = "request")]
    ContactRequest {
        /// The stranger.
        from: UserName,
    },
    /// A guest of a link wrote, or was answered; it is stored.
    GuestMessage(GuestPost),
    /// A stranger was accepted.
    Accepted {
        /// The accepted user.
        user: UserName,
    },
    /// A message of ours was stored and waits for delivery.
    #[serde(rename = "said")]
    MessageQueued {
        /// The recipient.
        to: UserName,
        /// The message with its id and text.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
    },
    /// The state of a message of ours changed.
    #[serde(rename = "state")]
    MessageStateChanged {
        /// The recipient.
        to: UserName,
        /// The message's id.
        id: MessageId,
        /// The new state.
        state: MessageState,
        /// The reason, if it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<TranslatedText>,
        /// The kind of that reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<ErrorKind>,
    },
    /// Messages for a user can't be delivered now; the node retries by itself.
    #[serde(rename = "held")]
    DeliveryHeld {
        /// The recipient.
        user: UserName,
        /// The error of the last attempt.
        why: TranslatedText,
        /// True if the recipient's key changed: nothing is delivered before `peer trust`.
        frozen: bool,
    },
    /// A message could not be stored and was not acked; its sender delivers it again.
    NotStored {
        /// The sender.
        from: UserName,
        /// The error of the profile.
        why: TranslatedText,
    },
    /// A message of a room was stored, ours or another member's. Messages come in the room's order, except those that are
    /// late.
    RoomMessage(RoomPost),
    /// A room changed otherwise.
    Room(RoomNews),
    /// A user is writing, in a conversation in which we take part.
    Typing {
        /// The writing user.
        from: UserName,
    },
    /// A conversation was read, in any view.
    Read {
        /// The conversation.
        with: ConversationName,
    },
    /// Progress or end of a file's transfer; repeated while it runs.
    Transfer(FileTransfer),
    /// Events were lost because the receiver was too slow; messages are in the history.
    #[serde(rename = "missed")]
    EventsMissed {
        /// The number of lost events; 0 if unknown.
        count: u64,
    },
    /// A receiver told what became of a send of ours.
    #[serde(rename = "receipt")]
    SendSettled {
        /// The receiver.
        by: UserName,
        /// The send's number in the profile.
        number: i64,
        /// What was sent.
        send: FileSend,
        /// True if it was sent to a room.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_room: bool,
        /// What became of it.
        outcome: ReceiptOutcome,
    },
    /// A send was accepted by a rule, and is here.
    SendAccepted {
        /// The sender.
        from: UserName,
        /// What was sent.
        send: FileSend,
        /// The folder, as text.
        folder: String,
    },
    /// A send of a user for whom there is a rule waits for the user all the same.
    SendHeld {
        /// The sender.
        from: UserName,
        /// What was sent.
        send: FileSend,
        /// The reason.
        why: TranslatedText,
    },
    /// The rule by which a user's sends were accepted is over, because the user's key changed.
    AcceptRuleEnded {
        /// The sender.
        user: UserName,
    },
    /// Somebody shares what the user wished for.
    WishFound {
        /// The wish's number in the profile.
        wish: i64,
        /// The wish, as the user wrote it.
        query: String,
        /// The file, and who shares it.
        #[serde(flatten)]
        file: WishMatch,
        /// The number of further files that match.
        others: usize,
        /// True if it is being fetched.
        #[serde(rename = "fetched")]
        is_fetched: bool,
        /// The reason why it isn't fetched, although the wish says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<TranslatedText>,
    },
    /// A file that the user wished for was fetched.
    WishFetched {
        /// The wish's number in the profile.
        wish: i64,
        /// The wish, as the user wrote it.
        query: String,
        /// The file, and who shared it.
        #[serde(flatten)]
        file: WishMatch,
        /// The folder, as text.
        folder: String,
    },
    /// A copy of a followed folder changed, or its follow.
    Follow(FollowNews),
    /// Another user fetched a file, or a part of one.
    Fetched {
        /// The other user.
        by: UserName,
        /// The shared name.
        name: FileName,
        /// Bytes that were sent.
        bytes: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// Further fetches of a user, summed up because there were too many to report each.
    FetchedMore {
        /// The other user; `None` if there were several.
        by: Option<UserName>,
        /// The number of files within ten seconds.
        count: u64,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// A connection was refused.
    Refused {
        /// The caller's address.
        address: SocketAddr,
        /// The reason.
        why: TranslatedText,
    },
    /// Further refused connections, summed up because there were too many to report each.
    RefusedMore {
        /// The number within ten seconds.
        count: u64,
        /// Their address; `None` if there were several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
    },
    /// A shared file changed since it was hashed.
    Stale {
        /// The shared name.
        name: FileName,
    },
    /// A notice for the user.
    Notice(Notice),
}

impl NodeEvent {
    /// Returns the transfer of which it tells. A file that another user fetched is told when its upload is over, whole or
    /// not; one that ended early counts as failed, although the other user may resume it later.
    pub fn transfer(&self) -> Option<FileTransfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer.clone()),
            Self::Fetched { by, name, bytes, size } => {
                let state = if bytes >= size { TransferState::Done } else { TransferState::Failed };
                let (peer, name, direction) = (by.clone(), name.clone(), TransferDirection::Up);
                Some(FileTransfer { peer, name, direction, bytes: *bytes, size: *size, state })
            }
            _ => None,
        }
    }
}

/// The other session of an account that is online elsewhere with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSession {
    /// The address of the other machine.
    pub ip: IpAddr,
    /// The start of that session in milliseconds since 1970 by this machine's clock, if the tracker says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// The progress of a file's transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTransfer {
    /// The other user.
    pub peer: UserName,
    /// The shared name.
    pub name: FileName,
    /// Upload or download.
    pub direction: TransferDirection,
    /// Bytes transferred so far.
    pub bytes: u64,
    /// Size of the file in bytes.
    pub size: u64,
    /// Running or ended.
    pub state: TransferState,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferDirection {
    /// From this machine.
    Up,
    /// To this machine.
    Down,
}

/// The state of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Not ended yet.
    Running,
    /// Ended with all bytes.
    Done,
    /// Ended before.
    Failed,
}

/// The channel from the node's parts to its views, with the chat activity that the events show. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventBus {
    sender: broadcast::Sender<NodeEvent>,
    /// The users whose files in the tracker's catalogue changed; apart, since no view shows that.
    catalogue: broadcast::Sender<UserName>,
    chat_activity: ChatActivity,
    /// The activity of users with a link.
    peer_activity: Arc<parking_lot::Mutex<HashMap<UserName, ChatActivity>>>,
    conversations: ActiveConversations,
    order_lock: Arc<Mutex<()>>,
}

impl EventBus {
    /// Creates a channel without receivers.
    pub fn new() -> Self {
        Self::with_capacity(CHANNEL_CAPACITY)
    }

    /// Creates a channel that buffers this many events for a slow receiver.
    pub fn with_capacity(events: usize) -> Self {
        let (chat_activity, conversations) = (ChatActivity::default(), ActiveConversations::default());
        let (peer_activity, order_lock) = (Arc::default(), Arc::default());
        let (sender, catalogue) = (broadcast::channel(events).0, broadcast::channel(CATALOGUE_CAPACITY).0);
        Self { sender, catalogue, chat_activity, peer_activity, conversations, order_lock }
    }

    /// Sends an event to all receivers.
    pub fn send(&self, event: NodeEvent) {
        match &event {
            NodeEvent::MessageQueued { to, .. } => self.record_own_writing(to),
            NodeEvent::Typing { from } | NodeEvent::Received { from, .. } if self.is_participating(from) => {
                self.chat_activity.record_activity();
            }
            // A user who writes without our taking part slows only the files sent to that same user.
            NodeEvent::Typing { from } | NodeEvent::Received { from, .. } => {
                if let Some(talk) = self.peer_activity().get(from) {
                    talk.record_activity();
                }
            }
            _ => {}
        }
        // An error means that there is no receiver.
        let _ = self.sender.send(event);
    }

    /// Locks the order of message events. Held from before a message is stored until its event is sent, so that events
    /// come in the order of places, and a receiver of one has received all before it.
    pub async fn lock_order(&self) -> OwnedMutexGuard<()> {
        self.order_lock.clone().lock_owned().await
    }

    /// As [`EventBus::lock_order`], on a thread that may block.
    pub fn lock_order_blocking(&self) -> OwnedMutexGuard<()> {
        self.order_lock.clone().blocking_lock_owned()
    }

    /// Returns a receiver of all events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.sender.subscribe()
    }

    /// Tells that a user's files in the tracker's catalogue changed.
    pub fn note_catalogue_change(&self, user: UserName) {
        // An error means that there is no receiver.
        let _ = self.catalogue.send(user);
    }

    /// Returns a receiver of the users whose files in the tracker's catalogue change from now on.
    pub fn subscribe_catalogue(&self) -> broadcast::Receiver<UserName> {
        self.catalogue.subscribe()
    }

    /// Records that the user writes to `to`: transfers are slowed.
    pub fn record_own_writing(&self, to: &UserName) {
        self.conversations.record_written(to, Instant::now());
        self.chat_activity.record_activity();
    }

    /// True if the user takes part in the conversation with `with`.
    pub fn is_participating(&self, with: &UserName) -> bool {
        self.conversations.is_active(with, Instant::now())
    }

    /// Returns the conversations in which the user takes part.
    pub const fn conversations(&self) -> &ActiveConversations {
        &self.conversations
    }

    /// Returns the overall chat activity.
    pub const fn chat_activity(&self) -> &ChatActivity {
        &self.chat_activity
    }

    /// Returns the chat activity that concerns transfers to `user`; kept as long as the result, or a clone, is held.
    pub fn peer_chat_activity(&self, user: &UserName) -> PeerChatActivity {
        let mut talk_of = self.peer_activity();
        // Users without a link left go here, so that the map stays as small as the number of links.
        talk_of.retain(|_, talk| talk.has_other_handles());
        PeerChatActivity::new(self.chat_activity.clone(), talk_of.entry(user.clone()).or_default().clone())
    }

    fn peer_activity(&self) -> MutexGuard<'_, HashMap<UserName, ChatActivity>> {
        self.peer_activity.lock()
    }
}

impl Default for EventBus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_slows_transfers_by_writing_alone() {
        let events = EventBus::new();
        let [bob, mallory]: [UserName; 2] = ["bob", "mallory"].map(|name| name.parse().unwrap());
        let message = |text: &str| ChatMessage {
            id: MessageId::from_bytes([1; 16]),
            ts: 0,
            text: text.into(),
            offer: None,
            send: None,
        };
        let received =
            |from: &UserName| NodeEvent::Received { from: from.clone(), message: message("hi"), seq: 1, at: 0 };
        let with_mallory = events.peer_chat_activity(&mallory);
        events.send(received(&mallory));
        events.send(NodeEvent::Typing { from: mallory.clone() });
        assert!(!events.chat_activity().is_active() && !events.peer_chat_activity(&bob).is_active());
        assert!(with_mallory.is_active(), "what mallory fetches may be in the way of mallory's own words");
        events.send(NodeEvent::MessageQueued { to: bob.clone(), message: message("lunch?"), seq: 2 });
        assert!(
            events.chat_activity().is_active() && events.is_participating(&bob) && !events.is_participating(&mallory)
        );

        let elsewhere = EventBus::new();
        let open = elsewhere.conversations().open(&bob);
        elsewhere.send(received(&bob));
        assert!(elsewhere.chat_activity().is_active(), "it is open in a view");
        assert_eq!(open.with(), &bob);
    }
}
