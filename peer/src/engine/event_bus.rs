//! The bus on which a node's parts tell their events, with the chat activity that the events show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;
use shared::UserName;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use super::active_conversations::ActiveConversations;
use super::chat_activity::{ChatActivity, PeerChatActivity};
use super::node_event::NodeEvent;

/// Events buffered for a slow receiver; one that falls further behind misses some.
const CHANNEL_CAPACITY: usize = 4096;
/// The same for changes of the catalogue, of which each is only a hint.
const CATALOGUE_CAPACITY: usize = 64;

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

/// Returns the next event, or how many were missed, after which a view can reload; `None` when the bus is gone. Cancel-safe.
pub async fn next_event(receiver: &mut broadcast::Receiver<NodeEvent>) -> Option<NodeEvent> {
    match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(count)) => Some(NodeEvent::EventsMissed { count }),
        Err(RecvError::Closed) => None,
    }
}

/// As [`next_event`], if there is one already.
pub fn buffered_event(receiver: &mut broadcast::Receiver<NodeEvent>) -> Option<NodeEvent> {
    match receiver.try_recv() {
        Ok(event) => Some(event),
        Err(TryRecvError::Lagged(count)) => Some(NodeEvent::EventsMissed { count }),
        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, MessageId};

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
