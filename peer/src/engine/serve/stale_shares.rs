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
const MAX_RECENT: usize = 1024;
const RECENT_TTL: Duration = Duration::from_secs(60);
/// A file that only grew is described as it was hashed to whoever waited so long for something newer.
const GROWN_TIMEOUT: Duration = Duration::from_secs(8);

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
pub(super) enum StaleAnswer {
    /// The description that was recorded: it is no older than the question.
    Described,
    /// It is being hashed.
    Rehashing,
    /// It was tried, and it changes all the time.
    Changing,
    /// It was tried, and it can't be read.
    Unreadable(String),
}

/// Shares that are to be hashed again, each once however often it is asked for.
#[derive(Debug, Default)]
pub struct StaleShares {
    state: Mutex<StaleSharesState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct StaleSharesState {
    due: HashMap<FileName, StaleReason>,
    /// Those whose content was found to be another, until they are hashed.
    disproved: HashSet<FileName>,
    /// Who asked for what, and since when.
    questions: RecentEntries<(UserName, FileName), ()>,
    /// What came of each, and when it was begun.
    attempts: RecentEntries<FileName, RefreshOutcome>,
}

/// A few values, with the time of each.
#[derive(Debug)]
struct RecentEntries<K, V>(HashMap<K, (Instant, V)>);

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
    pub async fn wait_for_due(&self) -> HashMap<FileName, StaleReason> {
        loop {
            let names = std::mem::take(&mut self.state().due);
            if !names.is_empty() {
                return names;
            }
            self.added.notified().await;
        }
    }

    /// Notes what came of hashing a share again that was begun at `begun`.
    pub fn note_refreshed(&self, name: &FileName, begun: Instant, outcome: RefreshOutcome) {
        let mut state = self.state();
        if matches!(outcome, RefreshOutcome::Done | RefreshOutcome::Gone | RefreshOutcome::Private(_)) {
            state.disproved.remove(name);
        }
        state.attempts.insert(name.clone(), begun, outcome);
    }

    /// Whether a share has other content than what is recorded, whatever its metadata say.
    pub(super) fn is_disproved(&self, name: &FileName) -> bool {
        self.state().disproved.contains(name)
    }

    /// Decides what `user` hears who asks now for a share that changed, perhaps only by growing.
    pub(super) fn answer_for(&self, user: &UserName, name: &FileName, grown: bool, now: Instant) -> StaleAnswer {
        let mut state = self.state();
        let question = (user.clone(), name.clone());
        let asked = match state.questions.0.get(&question) {
            Some((asked, ())) if now.duration_since(*asked) < RECENT_TTL => *asked,
            _ => {
                state.questions.insert(question.clone(), now, ());
                now
            }
        };
        let since = state.attempts.0.get(name).filter(|(begun, _)| *begun >= asked);
        let standing = match since {
            Some((_, RefreshOutcome::Done | RefreshOutcome::Gone | RefreshOutcome::Private(_))) => {
                StaleAnswer::Described
            }
            Some((_, RefreshOutcome::Unreadable(why))) => StaleAnswer::Unreadable(why.clone()),
            _ if grown && now.duration_since(asked) >= GROWN_TIMEOUT => StaleAnswer::Described,
            Some((_, RefreshOutcome::Changing)) => StaleAnswer::Changing,
            None => StaleAnswer::Rehashing,
        };
        if matches!(standing, StaleAnswer::Described | StaleAnswer::Unreadable(_)) {
            // The next question is a new one.
            state.questions.0.remove(&question);
        }
        standing
    }

    fn state(&self) -> MutexGuard<'_, StaleSharesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone, V> RecentEntries<K, V> {
    fn insert(&mut self, key: K, at: Instant, value: V) {
        if self.0.len() >= MAX_RECENT {
            self.0.retain(|_, (then, _)| at.duration_since(*then) < RECENT_TTL);
        }
        if self.0.len() >= MAX_RECENT
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (then, _))| *then).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, (at, value));
    }
}

impl<K, V> Default for RecentEntries<K, V> {
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
        stale.note_refreshed(&log, start, RefreshOutcome::Done);
        assert_eq!(
            stale.answer_for(&alice, &log, false, after(1)),
            StaleAnswer::Rehashing,
            "that was before she asked"
        );
        stale.note_refreshed(&log, after(2), RefreshOutcome::Changing);
        assert_eq!(stale.answer_for(&alice, &log, false, after(9)), StaleAnswer::Changing);
        stale.note_refreshed(&log, after(10), RefreshOutcome::Done);
        assert_eq!(stale.answer_for(&alice, &log, false, after(20)), StaleAnswer::Described);
        assert_eq!(stale.answer_for(&alice, &log, false, after(21)), StaleAnswer::Rehashing, "a question of its own");
        stale.note_refreshed(&log, after(22), RefreshOutcome::Unreadable("no".to_owned()));
        assert_eq!(stale.answer_for(&alice, &log, false, after(23)), StaleAnswer::Unreadable("no".to_owned()));
    }

    #[test]
    fn a_file_that_grew_is_not_waited_for_without_end() {
        let (stale, (alice, log), start) = (StaleShares::default(), names(), Instant::now());
        assert_eq!(stale.answer_for(&alice, &log, true, start), StaleAnswer::Rehashing);
        assert_eq!(stale.answer_for(&alice, &log, false, start + GROWN_TIMEOUT), StaleAnswer::Rehashing);
        assert_eq!(stale.answer_for(&alice, &log, true, start + GROWN_TIMEOUT), StaleAnswer::Described);
    }

    #[test]
    fn questions_are_not_remembered_without_end() {
        let (stale, (alice, _), start) = (StaleShares::default(), names(), Instant::now());
        for number in 0..MAX_RECENT * 2 {
            stale.answer_for(&alice, &format!("file{number}").parse().unwrap(), false, start);
        }
        assert_eq!(stale.state().questions.0.len(), MAX_RECENT);
    }

    #[tokio::test]
    async fn each_is_taken_once_for_its_best_reason() {
        let (stale, (_, log)) = (StaleShares::default(), names());
        stale.add(log.clone(), StaleReason::Content);
        stale.add(log.clone(), StaleReason::Metadata);
        assert_eq!(stale.wait_for_due().await, HashMap::from([(log, StaleReason::Content)]));
    }
}
