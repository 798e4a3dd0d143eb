//! Whether people are talking, in conversations in which the user takes part
//! ([`super::active_conversations::ActiveConversations`]).
//!
//! What moves files then makes room: it leaves most of the processor, the disk and the queues on the way to the messages.
//! The rates are absolute because what else they could be a share of, the speed of the machine or of the network, is
//! known only to somebody who uses it up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Bytes a second that may go beside it: two fifths of what a gigabit network carries. With twice as much both ways at
/// once, two cores are too busy for messages to come as soon as without.
pub const BULK_RATE_DURING_CHAT: u64 = 50_000_000;
/// How long after its last sign a conversation goes on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether people are talking here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChatActivity {
    /// When it will have fallen silent.
    active_until: Arc<watch::Sender<Option<Instant>>>,
}

impl Default for ChatActivity {
    fn default() -> Self {
        Self { active_until: Arc::new(watch::Sender::new(None)) }
    }
}

impl ChatActivity {
    /// Somebody writes, or wrote.
    pub fn record_activity(&self) {
        let now = Instant::now();
        self.active_until.send_if_modified(|until| {
            let was_silent = !is_active_at(*until, now);
            *until = Some(now + IDLE_TIMEOUT);
            // Those who wait for silence look again when they thought it would come.
            was_silent
        });
    }

    /// Whether they are talking now.
    pub fn is_active(&self) -> bool {
        is_active_at(*self.active_until.borrow(), Instant::now())
    }

    /// Waits until they talk, or until they don't.
    pub async fn wait_for(&self, talking: bool) {
        let mut until = self.active_until.subscribe();
        if talking {
            // Fails only without a sender, and this is one.
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

    /// Whether somebody else holds it as well.
    pub(super) fn has_other_handles(&self) -> bool {
        Arc::strong_count(&self.active_until) > 1
    }
}

/// Whether room is to be made on the way to one person: people talk here, or that person writes. Whoever writes to a user
/// who takes no part makes only what they are sent themselves slower. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerChatActivity {
    overall: ChatActivity,
    peer: ChatActivity,
}

impl PeerChatActivity {
    /// Room is made while `all` talk, and while `own` does.
    pub const fn new(overall: ChatActivity, peer: ChatActivity) -> Self {
        Self { overall, peer }
    }

    /// Whether it is to be made now.
    pub fn is_active(&self) -> bool {
        self.overall.is_active() || self.peer.is_active()
    }

    /// Waits until it is, or until it isn't.
    pub async fn wait_for(&self, talking: bool) {
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
