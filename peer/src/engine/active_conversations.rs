//! Conversations in which the user takes part: what moves files makes room for these and for no others.
//!
//! Nobody gets in by writing. The user opens a conversation in a view, or writes in it; that it was left alone for some
//! minutes ends it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | conversations that are remembered | those that the user wrote in within 5 minutes, those open in a view | forgotten |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::UserName;

/// How long after the user's last word a conversation goes on.
const TAKES_PART: Duration = Duration::from_secs(300);

/// The conversations in which the user takes part. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ActiveConversations {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// When the user wrote last.
    wrote: HashMap<UserName, Instant>,
    /// In how many views each is open.
    open: HashMap<UserName, usize>,
}

/// A conversation that is open in a view until this is dropped.
#[derive(Debug)]
pub struct OpenConversation {
    with: UserName,
    all: ActiveConversations,
}

impl ActiveConversations {
    /// Records that the user writes, or wrote, to `to`.
    pub fn wrote(&self, to: &UserName, now: Instant) {
        let mut inner = self.inner();
        inner.wrote.retain(|_, wrote| is_recent(*wrote, now));
        inner.wrote.insert(to.clone(), now);
    }

    /// Records that the conversation with `with` is open in a view.
    pub fn open(&self, with: &UserName) -> OpenConversation {
        *self.inner().open.entry(with.clone()).or_default() += 1;
        OpenConversation { with: with.clone(), all: self.clone() }
    }

    /// Tells whether the user takes part in the conversation with `with`.
    pub fn is_active(&self, with: &UserName, now: Instant) -> bool {
        let inner = self.inner();
        inner.open.contains_key(with) || inner.wrote.get(with).is_some_and(|wrote| is_recent(*wrote, now))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConversation {
    /// Returns the other side of the conversation.
    pub const fn with(&self) -> &UserName {
        &self.with
    }
}

impl Drop for OpenConversation {
    fn drop(&mut self) {
        let mut inner = self.all.inner();
        if let Some(views) = inner.open.get_mut(&self.with) {
            *views -= 1;
            if *views == 0 {
                inner.open.remove(&self.with);
            }
        }
    }
}

fn is_recent(wrote: Instant, now: Instant) -> bool {
    now.saturating_duration_since(wrote) < TAKES_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_makes_a_conversation_one() {
        let (all, begin) = (ActiveConversations::default(), Instant::now());
        let [bob, mallory]: [UserName; 2] = ["bob", "mallory"].map(|name| name.parse().unwrap());
        assert!(!all.is_active(&bob, begin));
        all.wrote(&bob, begin);
        assert!(all.is_active(&bob, begin) && !all.is_active(&mallory, begin));
        let later = begin + TAKES_PART;
        assert!(all.is_active(&bob, later - Duration::from_millis(1)) && !all.is_active(&bob, later));
        all.wrote(&mallory, later);
        assert_eq!(all.inner().wrote.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_conversation_is_open_until_the_last_view_closes_it() {
        let (all, now) = (ActiveConversations::default(), Instant::now());
        let bob: UserName = "bob".parse().unwrap();
        let (one, other) = (all.open(&bob), all.open(&bob));
        drop(one);
        assert!(all.is_active(&bob, now));
        drop(other);
        assert!(!all.is_active(&bob, now) && all.inner().open.is_empty());
    }
}
