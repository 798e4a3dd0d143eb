//! The signal that a conversation with a guest has something new. It is a hint: what is new stands in the profile.

use tokio::sync::broadcast;

/// Changes that a slow receiver has not seen; one that missed some looks at its conversation.
const CAPACITY: usize = 256;

/// A conversation, by the numbers of its link and its guest; `None` for any.
pub type ChangedConversation = Option<(i64, i64)>;

/// The sender, and the source of receivers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GuestChatSignal(broadcast::Sender<ChangedConversation>);

impl Default for GuestChatSignal {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl GuestChatSignal {
    /// Tells that a conversation, or any of them, changed.
    pub fn send(&self, changed: ChangedConversation) {
        // An error means that nobody waits.
        let _ = self.0.send(changed);
    }

    /// Returns a receiver of the changes from now on.
    pub fn subscribe(&self) -> GuestChatChanges {
        GuestChatChanges(self.0.subscribe())
    }
}

/// A receiver of changes.
#[derive(Debug)]
pub struct GuestChatChanges(broadcast::Receiver<ChangedConversation>);

impl GuestChatChanges {
    /// Returns the next change; pending for ever once there is no sender.
    pub async fn next(&mut self) -> ChangedConversation {
        match self.0.recv().await {
            Ok(changed) => changed,
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_misses_changes_looks_at_everything() {
        let signal = GuestChatSignal::default();
        let mut changes = signal.subscribe();
        signal.send(Some((1, 2)));
        assert_eq!(changes.next().await, Some((1, 2)));
        for guest in 0..1000 {
            signal.send(Some((1, guest)));
        }
        assert_eq!(changes.next().await, None);
    }
}
