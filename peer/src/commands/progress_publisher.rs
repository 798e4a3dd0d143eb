//! Telling of a fetch while it goes on, at most ten times a second, and never at its cost.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::UserName;
use tokio::sync::Notify;

use crate::engine::LocalUser;
use crate::engine::fetch::FetchEvent;
use crate::engine::node::control::{ControlAction, NodeClient};
use crate::engine::node_event::FileTransfer;
use crate::engine::progress_throttle::ProgressThrottle;

/// Between two tellings.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// What the last telling may take when the fetch itself is over.
const FINAL_PUBLISH_TIMEOUT: Duration = Duration::from_millis(100);
/// Between two looks for a node where there was none.
const NODE_SEARCH_INTERVAL: Duration = Duration::from_secs(5);

/// What is told of one fetch.
#[derive(Debug)]
pub(super) struct ProgressPublisher {
    /// Nothing any more when the fetch is over.
    transfers: Mutex<Option<ProgressThrottle>>,
    changed: Notify,
}

impl ProgressPublisher {
    /// Of a fetch that begins.
    pub(super) fn new(from: &UserName) -> Self {
        Self { transfers: Mutex::new(Some(ProgressThrottle::new(from, Instant::now()))), changed: Notify::new() }
    }

    /// Takes what the fetch reports.
    pub(super) fn handle_event(&self, event: &FetchEvent<'_>) {
        if self.transfers().as_mut().is_some_and(|transfers| transfers.handle_event(event, Instant::now())) {
            self.changed.notify_one();
        }
    }

    /// Does `work`, which reports to this, and tells of it meanwhile and at the end.
    pub(super) async fn publish_during<T>(
        &self,
        mut tell: impl AsyncFnMut(Vec<FileTransfer>),
        work: impl Future<Output = T>,
    ) -> T {
        let telling = async {
            loop {
                self.changed.notified().await;
                tell(self.due_transfers()).await;
                tokio::time::sleep(PUBLISH_INTERVAL).await;
            }
        };
        let done = tokio::select! {
            biased;
            done = work => done,
            never = telling => {
                let never: Infallible = never;
                match never {}
            }
        };
        let last = self.transfers().take().map(ProgressThrottle::final_updates).unwrap_or_default();
        if !last.is_empty() {
            // Whoever takes longer to hear it will have to do without.
            let _ = tokio::time::timeout(FINAL_PUBLISH_TIMEOUT, tell(last)).await;
        }
        done
    }

    fn due_transfers(&self) -> Vec<FileTransfer> {
        self.transfers().as_mut().map(|transfers| transfers.due_updates(Instant::now())).unwrap_or_default()
    }

    fn transfers(&self) -> MutexGuard<'_, Option<ProgressThrottle>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running node of the profile, if there is one: it tells everybody who watches.
#[derive(Debug)]
pub(super) struct NodeProgressSink<'a> {
    me: &'a LocalUser,
    client: Option<NodeClient>,
    last_search: Option<Instant>,
}

impl<'a> NodeProgressSink<'a> {
    /// It is not looked for yet.
    pub(super) const fn new(me: &'a LocalUser) -> Self {
        Self { me, client: None, last_search: None }
    }

    /// Tells it, if it is there and listens.
    pub(super) async fn publish(&mut self, transfers: Vec<FileTransfer>) {
        // Taken out while it is used: what is broken off in the middle of a line is of no more use.
        let client = match self.client.take() {
            Some(client) => Some(client),
            None => self.find_node().await,
        };
        let Some(mut client) = client else { return };
        for transfer in transfers {
            if client.send(ControlAction::Transfer(transfer)).await.is_err() {
                return;
            }
        }
        self.client = Some(client);
    }

    async fn find_node(&mut self) -> Option<NodeClient> {
        if self.last_search.is_some_and(|looked| looked.elapsed() < NODE_SEARCH_INTERVAL) {
            return None;
        }
        self.last_search = Some(Instant::now());
        NodeClient::connect(&self.me.profile).await.unwrap_or_else(|why| {
            tracing::debug!("the node is not told: {why}");
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_hears_nothing_holds_up_nothing() {
        let telling = ProgressPublisher::new(&"bob".parse().unwrap());
        let name = "film.mkv".parse().unwrap();
        let begun = tokio::time::Instant::now();
        let work = async {
            telling.handle_event(&FetchEvent::Started { file: 0, name: &name, size: 10, resumed: 0 });
            tokio::time::sleep(Duration::from_secs(2)).await;
            7
        };
        let mut asked = 0;
        let deaf = async |_: Vec<FileTransfer>| {
            asked += 1;
            std::future::pending::<()>().await;
        };
        assert_eq!(telling.publish_during(deaf, work).await, 7);
        assert!(begun.elapsed() <= Duration::from_secs(2) + FINAL_PUBLISH_TIMEOUT, "{:?}", begun.elapsed());
        assert_eq!(asked, 2, "once, and for the end");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_times_a_second_are_enough() {
        let telling = ProgressPublisher::new(&"bob".parse().unwrap());
        let name = "film.mkv".parse().unwrap();
        let work = async {
            telling.handle_event(&FetchEvent::Started { file: 0, name: &name, size: 5000, resumed: 0 });
            for _ in 0..3000 {
                telling.handle_event(&FetchEvent::Verified { file: 0, bytes: 1 });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut told = Vec::new();
        telling.publish_during(async |transfers: Vec<FileTransfer>| told.extend(transfers), work).await;
        assert!((20..=32).contains(&told.len()), "{}", told.len());
    }
}
