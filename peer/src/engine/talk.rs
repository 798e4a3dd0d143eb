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
pub const BESIDE_TALK: u64 = 50_000_000;
/// How long after its last sign a conversation goes on.
const PAUSE: Duration = Duration::from_secs(3);

/// Whether people are talking here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Talk {
    /// When it will have fallen silent.
    until: Arc<watch::Sender<Option<Instant>>>,
}

impl Default for Talk {
    fn default() -> Self {
        Self { until: Arc::new(watch::Sender::new(None)) }
    }
}

impl Talk {
    /// Somebody writes, or wrote.
    pub fn stir(&self) {
        let now = Instant::now();
        self.until.send_if_modified(|until| {
            let was_silent = !is_on(*until, now);
            *until = Some(now + PAUSE);
            // Those who wait for silence look again when they thought it would come.
            was_silent
        });
    }

    /// Whether they are talking now.
    pub fn is_on(&self) -> bool {
        is_on(*self.until.borrow(), Instant::now())
    }

    /// Waits until they talk, or until they don't.
    pub async fn wait_until(&self, talking: bool) {
        let mut until = self.until.subscribe();
        if talking {
            // Fails only without a sender, and this is one.
            let _ = until.wait_for(|until| is_on(*until, Instant::now())).await;
            return;
        }
        loop {
            let silent_at = *until.borrow();
            match silent_at {
                Some(at) if is_on(silent_at, Instant::now()) => sleep_until(at).await,
                _ => return,
            }
        }
    }

    /// Whether somebody else holds it as well.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.until) > 1
    }
}

/// Whether room is to be made on the way to one person: people talk here, or that person writes. Whoever writes to a user
/// who takes no part makes only what they are sent themselves slower. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TalkWith {
    all: Talk,
    own: Talk,
}

impl TalkWith {
    /// Room is made while `all` talk, and while `own` does.
    pub const fn new(all: Talk, own: Talk) -> Self {
        Self { all, own }
    }

    /// Whether it is to be made now.
    pub fn is_on(&self) -> bool {
        self.all.is_on() || self.own.is_on()
    }

    /// Waits until it is, or until it isn't.
    pub async fn wait_until(&self, talking: bool) {
        while self.is_on() != talking {
            if talking {
                tokio::select! {
                    () = self.all.wait_until(true) => {}
                    () = self.own.wait_until(true) => {}
                }
            } else {
                self.all.wait_until(false).await;
                self.own.wait_until(false).await;
            }
        }
    }
}

fn is_on(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_conversation_lasts_a_little_longer_than_its_last_sign() {
        let talk = Talk::default();
        talk.wait_until(false).await;
        let begin = Instant::now();
        let talking = async {
            for _ in 0..5 {
                talk.stir();
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        };
        let heard = async {
            talk.wait_until(true).await;
            assert!(talk.is_on());
            talk.wait_until(false).await;
            begin.elapsed()
        };
        let ((), lasted) = tokio::join!(talking, heard);
        assert_eq!(lasted.as_secs(), 4 * 2 + PAUSE.as_secs());
        assert!(!talk.is_on());
    }
}
