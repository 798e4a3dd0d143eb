//! Shares whose files changed: the queue of those to be hashed again, and the answers to requests for them meanwhile.
//!
//! A file that changes all the time is out of date at every check. A request for one is answered with a hash from after
//! the request, whatever the file is by then: each group is verified when it is sent.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names that wait to be hashed, or whose content was disproved | the profile's shares | |
//! | questions that are remembered | 1,024, for a minute | the oldest are forgotten: asked again, they wait anew |
//! | attempts that are remembered | 1,024, for a minute | the same |

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use shared::{FileName, UserName};
use tokio::sync::Notify;

use crate::engine::share::RefreshOutcome;

/// Bound and age of remembered entries.
const MAX_RECENT: usize = 1024;
const RECENT_TTL: Duration = Duration::from_secs(60);
/// Time after which a file that only grew is described as it was hashed last: a file that is written to without end
/// never has a newer hash.
const GROWN_TIMEOUT: Duration = Duration::from_secs(8);

/// The reason to hash a share again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaleReason {
    /// Size or time differ from the record.
    Metadata,
    /// The content that was read isn't the one that was hashed, even if the metadata are unchanged.
    Content,
}

/// The answer to a question about a share that differs from its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StaleAnswer {
    /// The description on record: it is no older than the question.
    Described,
    /// The share is being hashed.
    Rehashing,
    /// Hashing failed: the file changes all the time.
    Changing,
    /// Hashing failed: the file can't be read, for this reason.
    Unreadable(String),
}

/// The queue of shares to be hashed again, each once however often it is requested.
#[derive(Debug, Default)]
pub struct StaleShares {
    state: Mutex<StaleSharesState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct StaleSharesState {
    due: HashMap<FileName, StaleReason>,
    /// Shares whose content was found to be another, until they are hashed.
    disproved: HashSet<FileName>,
    /// Open questions, with the time of the first request of each user for each name.
    questions: RecentEntries<(UserName, FileName), ()>,
    /// The outcome of the last attempt for each name, with the time at which it began.
    attempts: RecentEntries<FileName, RefreshOutcome>,
}

/// A bounded map of recent values, each with its time.
#[derive(Debug)]
struct RecentEntries<K, V>(HashMap<K, (Instant, V)>);

impl StaleShares {
    /// Adds a share, unless it is queued already. The graver reason counts.
    pub fn add(&self, name: FileName, reason: StaleReason) {
        let mut state = self.state();
        if reason == StaleReason::Content {
            state.disproved.insert(name.clone());
        }
        let known = state.due.entry(name).or_insert(reason);
        *known = reason.max(*known);
        self.added.notify_one();
    }

    /// Waits until shares are queued, and takes them all.
    pub async fn wait_for_due(&self) -> HashMap<FileName, StaleReason> {
        loop {
            let names = std::mem::take(&mut self.state().due);
            if !names.is_empty() {
                return names;
            }
            // A name that is added in between leaves a permit: `notified` returns at once.
            self.added.notified().await;
        }
    }

    /// Records the outcome of an attempt to hash a share that began at `begun`.
    pub fn note_refreshed(&self, name: &FileName, begun: Instant, outcome: RefreshOutcome) {
        let mut state = self.state();
        // An attempt that failed proves nothing: the record stays disproved.
        if matches!(outcome, RefreshOutcome::Done | RefreshOutcome::Gone | RefreshOutcome::Private(_)) {
            state.disproved.remove(name);
        }
        state.attempts.insert(name.clone(), begun, outcome);
    }

    /// True if the share's content was found to be another than the one on record.
    pub(super) fn is_disproved(&self, name: &FileName) -> bool {
        self.state().disproved.contains(name)
    }

    /// Decides the answer to a request of `user` for a changed share; `grown` if the file only became larger.
    pub(super) fn answer_for(&self, user: &UserName, name: &FileName, grown: bool, now: Instant) -> StaleAnswer {
        let mut state = self.state();
        let question = (user.clone(), name.clone());
        // A retry within a minute is the same question: as a new one, no hash would ever be recent enough.
        let asked = match state.questions.0.get(&question) {
            Some((asked, ())) if now.duration_since(*asked) < RECENT_TTL => *asked,
            _ => {
                state.questions.insert(question.clone(), now, ());
                now
            }
        };
        // An attempt that began before the question may have missed a change that the user knows of.
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
            // Answered: a further request is a new question.
            state.questions.0.remove(&question);
        }
        standing
    }

    fn state(&self) -> MutexGuard<'_, StaleSharesState> {
        self.state.lock()
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
