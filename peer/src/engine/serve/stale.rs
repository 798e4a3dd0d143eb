//! Shares whose files changed: which are to be hashed again, and what those hear meanwhile who ask for them.
//!
//! A file that changes all the time would be out of date whenever it is looked at. Whoever asks for one is told what was
//! hashed from that moment on, however it is now: each group is checked as it is sent.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names that wait to be hashed, and those found to have other content | those that are shared | |
//! | questions that are remembered | 1,024, for a minute | the oldest are forgotten: asked again, they wait anew |
//! | attempts that are remembered | 1,024, for a minute | the same |

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::{FileName, UserName};
use tokio::sync::Notify;

use crate::engine::share::RefreshOutcome;

/// Entries that are remembered, and how long.
const REMEMBERED: usize = 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// A file that only grew is described as it was hashed to whoever waited so long for something newer.
const GROWN_PATIENCE: Duration = Duration::from_secs(8);

/// Why a share is to be hashed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaleReason {
    /// Its size or time differ from what was recorded.
    Metadata,
    /// What was read isn't what was hashed, whatever its metadata say.
    Content,
}

/// What somebody hears who asks for a share that differs from what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The description that was recorded: it is no older than the question.
    Described,
    /// It is being hashed.
    Waiting,
    /// It was tried, and it changes all the time.
    Changing,
    /// It was tried, and it can't be read.
    Unreadable(String),
}

/// Shares that are to be hashed again, each once however often it is asked for.
#[derive(Debug, Default)]
pub struct StaleShares {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    due: HashMap<FileName, StaleReason>,
    /// Those whose content was found to be another, until they are hashed.
    disproved: HashSet<FileName>,
    /// Who asked for what, and since when.
    questions: Recent<(UserName, FileName), ()>,
    /// What came of each, and when it was begun.
    attempts: Recent<FileName, RefreshOutcome>,
}

/// A few values, with the time of each.
#[derive(Debug)]
struct Recent<K, V>(HashMap<K, (Instant, V)>);

impl StaleShares {
    /// Adds a share, unless it waits already.
    pub fn add(&self, name: FileName, reason: StaleReason) {
        let mut state = self.state();
        if reason == StaleReason::Content {
            state.disproved.insert(name.clone());
        }
        let known = state.due.entry(name).or_insert(reason);
        *known = reason.max(*known);
        self.added.notify_one();
    }

    /// Takes all that wait, at least one: waits for it.
    pub async fn take(&self) -> HashMap<FileName, StaleReason> {
        loop {
            let names = std::mem::take(&mut self.state().due);
            if !names.is_empty() {
                return names;
            }
            self.added.notified().await;
        }
    }

    /// Notes what came of hashing a share again that was begun at `begun`.
    pub fn refreshed(&self, name: &FileName, begun: Instant, outcome: RefreshOutcome) {
        let mut state = self.state();
        if matches!(outcome, RefreshOutcome::Done | RefreshOutcome::Gone | RefreshOutcome::Private(_)) {
            state.disproved.remove(name);
        }
        state.attempts.put(name.clone(), begun, outcome);
    }

    /// Whether a share has other content than what is recorded, whatever its metadata say.
    pub(super) fn is_disproved(&self, name: &FileName) -> bool {
        self.state().disproved.contains(name)
    }

    /// Decides what `user` hears who asks now for a share that changed, perhaps only by growing.
    pub(super) fn standing(&self, user: &UserName, name: &FileName, grown: bool, now: Instant) -> Standing {
        let mut state = self.state();
        let question = (user.clone(), name.clone());
        let asked = match state.questions.0.get(&question) {
            Some((asked, ())) if now.duration_since(*asked) < REMEMBERED_FOR => *asked,
            _ => {
                state.questions.put(question.clone(), now, ());
                now
            }
        };
        let since = state.attempts.0.get(name).filter(|(begun, _)| *begun >= asked);
        let standing = match since {
            Some((_, RefreshOutcome::Done | RefreshOutcome::Gone | RefreshOutcome::Private(_))) => Standing::Described,
            Some((_, RefreshOutcome::Unreadable(why))) => Standing::Unreadable(why.clone()),
            _ if grown && now.duration_since(asked) >= GROWN_PATIENCE => Standing::Described,
            Some((_, RefreshOutcome::Changing)) => Standing::Changing,
            None => Standing::Waiting,
        };
        if matches!(standing, Standing::Described | Standing::Unreadable(_)) {
            // The next question is a new one.
            state.questions.0.remove(&question);
        }
        standing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    fn put(&mut self, key: K, at: Instant, value: V) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (then, _)| at.duration_since(*then) < REMEMBERED_FOR);
        }
        if self.0.len() >= REMEMBERED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (then, _))| *then).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, (at, value));
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (UserName, FileName) {
        ("alice".parse().unwrap(), "app.log".parse().unwrap())
    }

    #[test]
    fn what_was_hashed_since_the_question_is_the_answer() {
        let (stale, (alice, log), start) = (StaleShares::default(), names(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        stale.refreshed(&log, start, RefreshOutcome::Done);
        assert_eq!(stale.standing(&alice, &log, false, after(1)), Standing::Waiting, "that was before she asked");
        stale.refreshed(&log, after(2), RefreshOutcome::Changing);
        assert_eq!(stale.standing(&alice, &log, false, after(9)), Standing::Changing);
        stale.refreshed(&log, after(10), RefreshOutcome::Done);
        assert_eq!(stale.standing(&alice, &log, false, after(20)), Standing::Described);
        assert_eq!(stale.standing(&alice, &log, false, after(21)), Standing::Waiting, "a question of its own");
        stale.refreshed(&log, after(22), RefreshOutcome::Unreadable("no".to_owned()));
        assert_eq!(stale.standing(&alice, &log, false, after(23)), Standing::Unreadable("no".to_owned()));
    }

    #[test]
    fn a_file_that_grew_is_not_waited_for_without_end() {
        let (stale, (alice, log), start) = (StaleShares::default(), names(), Instant::now());
        assert_eq!(stale.standing(&alice, &log, true, start), Standing::Waiting);
        assert_eq!(stale.standing(&alice, &log, false, start + GROWN_PATIENCE), Standing::Waiting);
        assert_eq!(stale.standing(&alice, &log, true, start + GROWN_PATIENCE), Standing::Described);
    }

    #[test]
    fn questions_are_not_remembered_without_end() {
        let (stale, (alice, _), start) = (StaleShares::default(), names(), Instant::now());
        for number in 0..REMEMBERED * 2 {
            stale.standing(&alice, &format!("file{number}").parse().unwrap(), false, start);
        }
        assert_eq!(stale.state().questions.0.len(), REMEMBERED);
    }

    #[tokio::test]
    async fn each_is_taken_once_for_its_best_reason() {
        let (stale, (_, log)) = (StaleShares::default(), names());
        stale.add(log.clone(), StaleReason::Content);
        stale.add(log.clone(), StaleReason::Metadata);
        assert_eq!(stale.take().await, HashMap::from([(log, StaleReason::Content)]));
    }
}
