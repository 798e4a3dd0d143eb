//! Chat activity: whether people are writing in conversations in which the user takes part
//! ([`super::active_conversations::ActiveConversations`]).
//!
//! During chat activity, file transfers leave the network queues to messages, and of the processor and the disk what they
//! need (`bulk_rate`). A fetch in another process than the node's also lowers its priority for the rest of its life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Time after the last sign of activity until chat counts as idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A detector of chat activity. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct ChatActivity {
    /// The time when activity ends, unless there is more; `None` before the first.
    active_until: Arc<watch::Sender<Option<Instant>>>,
}

impl Default for ChatActivity {
    fn default() -> Self {
        Self { active_until: Arc::new(watch::Sender::new(None)) }
    }
}

impl ChatActivity {
    /// Records that somebody writes, or wrote.
    pub fn record_activity(&self) {
        let now = Instant::now();
        self.active_until.send_if_modified(|until| {
            let was_silent = !is_active_at(*until, now);
            *until = Some(now + IDLE_TIMEOUT);
            // Wakes only those who wait for activity: those who wait for silence sleep until the old end and
            // look again.
            was_silent
        });
    }

    /// True if people are writing now.
    pub fn is_active(&self) -> bool {
        is_active_at(*self.active_until.borrow(), Instant::now())
    }

    /// Waits until people are writing (`talking`), or until they are not.
    pub async fn wait_for(&self, talking: bool) {
        let mut until = self.active_until.subscribe();
        if talking {
            // Fails only when the sender is gone, and `self` holds it.
            let _ = until.wait_for(|until| is_active_at(*until, Instant::now())).await;
            return;
        }
        loop {
            let silent_at = *until.borrow();
            match silent_at {
                Some(at) if is_active_at(silent_at, Instant::now()) => sleep_until(at).await,
                _ => return,
            }
        }
    }

    /// True if another clone exists.
    pub(super) fn has_other_handles(&self) -> bool {
        Arc::strong_count(&self.active_until) > 1
    }
}

/// Chat activity as it concerns the transfers to one user: overall activity, or messages of that user. A user who
/// writes without the owner taking part slows only the files sent to that same user. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerChatActivity {
    overall: ChatActivity,
    peer: ChatActivity,
}

impl PeerChatActivity {
    /// Combines the overall activity with that of one user.
    pub const fn new(overall: ChatActivity, peer: ChatActivity) -> Self {
        Self { overall, peer }
    }

    /// True if transfers to the user are to be slowed now.
    pub fn is_active(&self) -> bool {
        self.overall.is_active() || self.peer.is_active()
    }

    /// Waits until transfers are to be slowed (`talking`), or until they are not.
    pub async fn wait_for(&self, talking: bool) {
        // A loop: while one of the two is awaited, the other may change.
        while self.is_active() != talking {
            if talking {
                tokio::select! {
                    () = self.overall.wait_for(true) => {}
                    () = self.peer.wait_for(true) => {}
                }
            } else {
                self.overall.wait_for(false).await;
                self.peer.wait_for(false).await;
            }
        }
    }
}

fn is_active_at(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_conversation_lasts_a_little_longer_than_its_last_sign() {
        let talk = ChatActivity::default();
        talk.wait_for(false).await;
        let begin = Instant::now();
        let talking = async {
            for _ in 0..5 {
                talk.record_activity();
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        };
        let heard = async {
            talk.wait_for(true).await;
            assert!(talk.is_active());
            talk.wait_for(false).await;
            begin.elapsed()
        };
        let ((), lasted) = tokio::join!(talking, heard);
        assert_eq!(lasted.as_secs(), 4 * 2 + IDLE_TIMEOUT.as_secs());
        assert!(!talk.is_active());
    }
}
