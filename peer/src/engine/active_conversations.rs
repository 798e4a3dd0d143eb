//! Conversations in which the user takes part: file transfers are slowed for these and for no others.
//!
//! Messages of others don't count, so that nobody can slow a transfer by writing. A conversation becomes active when
//! the user opens it in a view or writes in it, and ends some minutes after the last sign of the user.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | conversations that are remembered | those that the user wrote in within 5 minutes, those open in a view | forgotten |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use shared::UserName;

/// Time that a conversation stays active after the user's last message.
const PARTICIPATION_TIMEOUT: Duration = Duration::from_secs(300);

/// The conversations in which the user takes part. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ActiveConversations {
    state: Arc<Mutex<ConversationState>>,
}

#[derive(Debug, Default)]
struct ConversationState {
    /// Time of the user's last message.
    last_written: HashMap<UserName, Instant>,
    /// Number of views in which each conversation is open.
    open_views: HashMap<UserName, usize>,
}

/// A conversation that counts as open in a view until this is dropped.
#[derive(Debug)]
pub struct OpenConversation {
    with: UserName,
    all: ActiveConversations,
}

impl ActiveConversations {
    /// Records that the user writes, or wrote, to `to`.
    pub fn record_written(&self, to: &UserName, now: Instant) {
        let mut inner = self.state();
        // Old entries go here, so that the map needs no timer.
        inner.last_written.retain(|_, wrote| is_recent(*wrote, now));
        inner.last_written.insert(to.clone(), now);
    }

    /// Records that the conversation with `with` is open in a view, until the returned value is dropped.
    pub fn open(&self, with: &UserName) -> OpenConversation {
        // Counted, because several views may have the same conversation open.
        *self.state().open_views.entry(with.clone()).or_default() += 1;
        OpenConversation { with: with.clone(), all: self.clone() }
    }

    /// True if the user takes part in the conversation with `with`.
    pub fn is_active(&self, with: &UserName, now: Instant) -> bool {
        let inner = self.state();
        inner.open_views.contains_key(with) || inner.last_written.get(with).is_some_and(|wrote| is_recent(*wrote, now))
    }

    fn state(&self) -> MutexGuard<'_, ConversationState> {
        self.state.lock()
    }
}

impl OpenConversation {
    /// Returns the other user of the conversation.
    pub const fn with(&self) -> &UserName {
        &self.with
    }
}

impl Drop for OpenConversation {
    fn drop(&mut self) {
        let mut inner = self.all.state();
        if let Some(views) = inner.open_views.get_mut(&self.with) {
            *views -= 1;
            if *views == 0 {
                inner.open_views.remove(&self.with);
            }
        }
    }
}

fn is_recent(wrote: Instant, now: Instant) -> bool {
    now.saturating_duration_since(wrote) < PARTICIPATION_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_makes_a_conversation_one() {
        let (all, begin) = (ActiveConversations::default(), Instant::now());
        let [bob, mallory]: [UserName; 2] = ["bob", "mallory"].map(|name| name.parse().unwrap());
        assert!(!all.is_active(&bob, begin));
        all.record_written(&bob, begin);
        assert!(all.is_active(&bob, begin) && !all.is_active(&mallory, begin));
        let later = begin + PARTICIPATION_TIMEOUT;
        assert!(all.is_active(&bob, later - Duration::from_millis(1)) && !all.is_active(&bob, later));
        all.record_written(&mallory, later);
        assert_eq!(all.state().last_written.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_conversation_is_open_until_the_last_view_closes_it() {
        let (all, now) = (ActiveConversations::default(), Instant::now());
        let bob: UserName = "bob".parse().unwrap();
        let (one, other) = (all.open(&bob), all.open(&bob));
        drop(one);
        assert!(all.is_active(&bob, now));
        drop(other);
        assert!(!all.is_active(&bob, now) && all.state().open_views.is_empty());
    }
}
