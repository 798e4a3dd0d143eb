//! What happens in a node, as its views and the other processes of the profile are told.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{self, Arc, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use shared::peer::{ChatMessage, MessageId};
use shared::{FileName, UserName};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use super::active_conversations::ActiveConversations;
use super::chat::MessageState;
use super::chat_activity::{ChatActivity, PeerChatActivity};
use super::{ErrorKind, Notice};

/// Events kept for a view that is slow; one that falls further behind misses some.
const CHANNEL_CAPACITY: usize = 4096;

/// Something that happened in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The node is present at the tracker.
    Online {
        /// As whom.
        user: UserName,
        /// Where others find it.
        address: SocketAddr,
        /// The UDP port that it listens on; another than theirs where a forwarding leads here.
        port: u16,
        /// How many files it shares.
        shares: usize,
    },
    /// The account is online elsewhere with the same key, so this node is not: it waits to be told, or for that to end.
    Displaced(OtherSession),
    /// The account has another key than this node's since some time: the node ends.
    AccountMoved {
        /// Whose.
        user: UserName,
        /// When, milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    /// The tracker is gone; the node tries again by itself.
    TrackerLost {
        /// Why.
        why: String,
    },
    /// Another number of files is shared than before.
    SharesChanged {
        /// How many now.
        count: usize,
    },
    /// The tracker doesn't list what is shared; it is asked again by itself. Whoever knows a name can fetch it meanwhile.
    SharesRefused {
        /// Why.
        why: String,
    },
    /// The tracker doesn't tell others of the address at which the user wants to be found.
    AddressDropped {
        /// Which.
        address: SocketAddr,
    },
    /// Somebody else came or went.
    Presence {
        /// Who.
        user: UserName,
        /// Whether they are online now.
        online: bool,
    },
    /// A message came and is stored.
    Received {
        /// From whom.
        from: UserName,
        /// What they wrote.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
        /// When it was stored here by this machine's clock, milliseconds since 1970, as history has it.
        #[serde(default)]
        at: i64,
    },
    /// Somebody wrote for the first time whom we neither wrote to nor accepted; told behind what they wrote.
    #[serde(rename = "request")]
    ContactRequest {
        /// Who.
        from: UserName,
    },
    /// Somebody is accepted: what they write is taken as from anybody with whom we talk.
    Accepted {
        /// Who.
        user: UserName,
    },
    /// A message of ours is stored here and waits to be delivered.
    #[serde(rename = "said")]
    MessageQueued {
        /// To whom.
        to: UserName,
        /// What was written.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
    },
    /// Something became of a message of ours.
    #[serde(rename = "state")]
    MessageStateChanged {
        /// To whom it was written.
        to: UserName,
        /// Which.
        id: MessageId,
        /// What became of it.
        state: MessageState,
        /// Why, when it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What kind of failure that is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<ErrorKind>,
    },
    /// What waits for somebody can't be delivered now; it is tried again by itself.
    #[serde(rename = "held")]
    DeliveryHeld {
        /// For whom.
        user: UserName,
        /// Why.
        why: String,
        /// Their key changed: nothing goes before `peer trust`.
        frozen: bool,
    },
    /// A message could not be stored here, and was not acked: it comes again later.
    NotStored {
        /// From whom.
        from: UserName,
        /// Why.
        why: String,
    },
    /// Somebody is writing to us, in a conversation in which we take part.
    Typing {
        /// Who.
        from: UserName,
    },
    /// What somebody wrote was read, in whatever view.
    Read {
        /// What who wrote.
        with: UserName,
    },
    /// A file is on its way, or was; told again and again while it is.
    Transfer(FileTransfer),
    /// This many events came too fast and were left out: what matters is in the history.
    #[serde(rename = "missed")]
    EventsMissed {
        /// How many.
        count: u64,
    },
    /// Somebody fetched a file, or part of one.
    Fetched {
        /// Who.
        by: UserName,
        /// What.
        name: FileName,
        /// Bytes that were sent.
        bytes: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// Somebody fetched more files than were told of one by one.
    FetchedMore {
        /// Who.
        by: UserName,
        /// How many, within ten seconds.
        count: u64,
        /// Bytes that were sent of them.
        bytes: u64,
    },
    /// A caller was turned away.
    Refused {
        /// Where it called from.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// More callers were turned away than were told of one by one.
    RefusedMore {
        /// How many, within ten seconds.
        count: u64,
        /// From where; of several addresses if it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
    },
    /// A shared file is no longer what it was.
    Stale {
        /// Which.
        name: FileName,
    },
    /// Something worth saying.
    Notice(Notice),
}

/// Where else an account is online with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSession {
    /// At which address.
    pub ip: IpAddr,
    /// Since when by this machine's clock, milliseconds since 1970, if the tracker says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTransfer {
    /// With whom.
    pub peer: UserName,
    /// Which file.
    pub name: FileName,
    /// From here or to here.
    pub direction: TransferDirection,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
    /// How it stands.
    pub state: TransferState,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferDirection {
    /// From here.
    Up,
    /// To here.
    Down,
}

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// It goes on.
    Running,
    /// All of it is there.
    Done,
    /// It ended before.
    Failed,
}

/// Where events go, and where views get them from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventBus {
    sender: broadcast::Sender<NodeEvent>,
    chat_activity: ChatActivity,
    /// Of those to whom there are links.
    peer_activity: Arc<sync::Mutex<HashMap<UserName, ChatActivity>>>,
    conversations: ActiveConversations,
    order_lock: Arc<Mutex<()>>,
}

impl EventBus {
    /// Nobody listens yet.
    pub fn new() -> Self {
        let (chat_activity, conversations) = (ChatActivity::default(), ActiveConversations::default());
        let (peer_activity, order_lock) = (Arc::default(), Arc::default());
        Self { sender: broadcast::channel(CHANNEL_CAPACITY).0, chat_activity, peer_activity, conversations, order_lock }
    }

    /// Tells everybody who listens.
    pub fn send(&self, event: NodeEvent) {
        match &event {
            NodeEvent::MessageQueued { to, .. } => self.record_own_writing(to),
            NodeEvent::Typing { from } | NodeEvent::Received { from, .. } if self.is_participating(from) => {
                self.chat_activity.record_activity();
            }
            // Whoever only writes to the user makes nothing slower but what they fetch themselves.
            NodeEvent::Typing { from } | NodeEvent::Received { from, .. } => {
                if let Some(talk) = self.peer_activity().get(from) {
                    talk.record_activity();
                }
            }
            _ => {}
        }
        // An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Held from before a message is stored until it was told: so messages are told in the order of their places, and whoever
    /// heard of one has heard of all before it.
    pub async fn lock_order(&self) -> OwnedMutexGuard<()> {
        self.order_lock.clone().lock_owned().await
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.sender.subscribe()
    }

    /// Records that the user writes to `to`: what moves files makes room.
    pub fn record_own_writing(&self, to: &UserName) {
        self.conversations.record_written(to, Instant::now());
        self.chat_activity.record_activity();
    }

    /// Tells whether the user takes part in the conversation with `with`.
    pub fn is_participating(&self, with: &UserName) -> bool {
        self.conversations.is_active(with, Instant::now())
    }

    /// Returns the conversations in which the user takes part.
    pub const fn conversations(&self) -> &ActiveConversations {
        &self.conversations
    }

    /// Whether people talk, as the events say.
    pub const fn chat_activity(&self) -> &ChatActivity {
        &self.chat_activity
    }

    /// Returns whether room is to be made on the way to `user`; remembered for as long as somebody holds it.
    pub fn peer_chat_activity(&self, user: &UserName) -> PeerChatActivity {
        let mut talk_of = self.peer_activity();
        talk_of.retain(|_, talk| talk.has_other_handles());
        PeerChatActivity::new(self.chat_activity.clone(), talk_of.entry(user.clone()).or_default().clone())
    }

    fn peer_activity(&self) -> MutexGuard<'_, HashMap<UserName, ChatActivity>> {
        self.peer_activity.lock().unwrap_or_else(PoisonError::into_inner)
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
            room: None,
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
