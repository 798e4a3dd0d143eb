//! The question to the tracker who is online, while its news go on.

use std::collections::{HashMap, HashSet};
use std::future::Future;

use shared::UserName;
use tokio::task::JoinSet;

/// A query under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct PresenceQuery {
    task: JoinSet<Option<Vec<UserName>>>,
    /// What was heard since the query began: its answer may be older.
    heard: HashMap<UserName, bool>,
    /// Something was missed since it began.
    is_stale: bool,
}

impl PresenceQuery {
    /// Returns true if a query is under way.
    pub(super) fn is_running(&self) -> bool {
        !self.task.is_empty()
    }

    /// Begins a query in place of one under way, whose answer may miss what happened since.
    pub(super) fn restart(&mut self, query: impl Future<Output = Option<Vec<UserName>>> + Send + 'static) {
        self.abandon();
        self.task.spawn(query);
    }

    /// Ends a query under way.
    pub(super) fn abandon(&mut self) {
        // A set that is dropped aborts its tasks.
        *self = Self::default();
    }

    /// Notes that something was missed: the answer of a query under way is not taken.
    pub(super) fn note_missed(&mut self) {
        self.is_stale = self.is_running();
    }

    /// Notes that a user came online or went.
    pub(super) fn note(&mut self, user: &UserName, is_online: bool) {
        if self.is_running() {
            self.heard.insert(user.clone(), is_online);
        }
    }

    /// Waits for the end of the query. Returns the users who are online, or `None` if the tracker doesn't say or something was
    /// missed meanwhile; never
    /// returns without a query. Cancel-safe.
    pub(super) async fn finish(&mut self) -> Option<HashSet<UserName>> {
        let Some(ended) = self.task.join_next().await else { return std::future::pending().await };
        let heard = std::mem::take(&mut self.heard);
        if std::mem::take(&mut self.is_stale) {
            return None;
        }
        let mut users: HashSet<UserName> = ended.ok()??.into_iter().collect();
        for (user, is_online) in heard {
            if is_online {
                users.insert(user);
            } else {
                users.remove(&user);
            }
        }
        Some(users)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn users<const N: usize>(names: [&str; N]) -> [UserName; N] {
        names.map(|name| name.parse().unwrap())
    }

    #[tokio::test]
    async fn what_is_heard_meanwhile_is_newer_than_the_answer() {
        let [bob, carol, dave] = users(["bob", "carol", "dave"]);
        let mut query = PresenceQuery::default();
        query.note(&carol, false);
        let (answer, answered) = oneshot::channel();
        query.restart(async move { answered.await.ok() });
        query.note(&bob, false);
        query.note(&dave, true);
        answer.send(vec![bob, carol.clone()]).unwrap();
        assert_eq!(query.finish().await, Some(HashSet::from([carol, dave])));
        assert!(!query.is_running());
    }

    #[tokio::test]
    async fn the_answer_to_an_earlier_query_is_not_taken() {
        let [bob, carol] = users(["bob", "carol"]);
        let mut query = PresenceQuery::default();
        let [(early, is_early), (late, is_late)] = [oneshot::channel(), oneshot::channel()];
        query.restart(async move { is_early.await.ok() });
        query.note(&bob, true);
        // The tracker was lost and found: nobody heard who went.
        query.restart(async move { is_late.await.ok() });
        late.send(vec![carol.clone()]).unwrap();
        assert_eq!(query.finish().await, Some(HashSet::from([carol])));
        assert!(early.send(vec![bob]).is_err());
    }
}
