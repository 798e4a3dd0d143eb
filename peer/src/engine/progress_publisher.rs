//! Publication of a fetch's progress, at most ten times a second and without delaying the fetch.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::LocalUser;
use super::fetch::FetchEvent;
use super::node::NodeHandle;
use super::node_event::FileTransfer;
use super::progress_throttle::ProgressThrottle;

/// Least time between two publications.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// Time for the last publication after the fetch has ended.
const FINAL_PUBLISH_TIMEOUT: Duration = Duration::from_millis(100);
/// Time between two searches for a node where there was none.
const NODE_SEARCH_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one fetch, for publication.
#[derive(Debug)]
pub struct ProgressPublisher {
    /// `None` after the fetch has ended.
    transfers: Mutex<Option<ProgressThrottle>>,
    changed: Notify,
}

impl ProgressPublisher {
    /// Prepares for a fetch that begins.
    pub fn for_fetch() -> Self {
        Self { transfers: Mutex::new(Some(ProgressThrottle::new(Instant::now()))), changed: Notify::new() }
    }

    /// Updates the progress from an event of the fetch.
    pub fn handle_event(&self, event: &FetchEvent<'_>) {
        if self.transfers().as_mut().is_some_and(|transfers| transfers.handle_event(event, Instant::now())) {
            // Keeps a permit if nobody waits: an event during a publication is not lost.
            self.changed.notify_one();
        }
    }

    /// Runs `work`, which reports to this publisher, and publishes its progress meanwhile and at the end.
    pub async fn publish_during<T>(
        &self,
        mut tell: impl AsyncFnMut(Vec<FileTransfer>),
        work: impl Future<Output = T>,
    ) -> T {
        let telling = async {
            loop {
                self.changed.notified().await;
                tell(self.due_transfers()).await;
                // After the publication, so that the first news waits for nothing.
                tokio::time::sleep(PUBLISH_INTERVAL).await;
            }
        };
        let done = tokio::select! {
            // Biased: progress is never preferred to the fetch itself.
            biased;
            done = work => done,
            never = telling => {
                let never: Infallible = never;
                match never {}
            }
        };
        let last = self.transfers().take().map(ProgressThrottle::final_updates).unwrap_or_default();
        if !last.is_empty() {
            // A slow listener goes without the last update: the fetch's result must not wait.
            let _ = tokio::time::timeout(FINAL_PUBLISH_TIMEOUT, tell(last)).await;
        }
        done
    }

    fn due_transfers(&self) -> Vec<FileTransfer> {
        self.transfers().as_mut().map(|transfers| transfers.due_updates(Instant::now())).unwrap_or_default()
    }

    fn transfers(&self) -> MutexGuard<'_, Option<ProgressThrottle>> {
        self.transfers.lock()
    }
}

/// The running node of the profile, if there is one, which forwards the progress to its watchers.
#[derive(Debug)]
pub struct NodeProgressSink<'a> {
    me: &'a LocalUser,
    node: Option<NodeHandle>,
    last_search: Option<Instant>,
}

impl<'a> NodeProgressSink<'a> {
    /// Starts without a connection; the node is looked for at the first publication.
    pub const fn new(me: &'a LocalUser) -> Self {
        Self { me, node: None, last_search: None }
    }

    /// Publishes the progress, if a node runs.
    pub async fn publish(&mut self, transfers: Vec<FileTransfer>) {
        if self.node.is_none() {
            self.node = self.find_node().await;
        }
        if let Some(node) = &self.node
            && node.report_transfers(transfers).await.is_err()
        {
            self.node = None;
        }
    }

    async fn find_node(&mut self) -> Option<NodeHandle> {
        if self.last_search.is_some_and(|looked| looked.elapsed() < NODE_SEARCH_INTERVAL) {
            return None;
        }
        self.last_search = Some(Instant::now());
        NodeHandle::attach(&self.me.profile).await.unwrap_or_else(|why| {
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
        let telling = ProgressPublisher::for_fetch();
        let (owner, name) = ("bob".parse().unwrap(), "film.mkv".parse().unwrap());
        let begun = tokio::time::Instant::now();
        let work = async {
            telling.handle_event(&FetchEvent::Started { file: 0, owner: &owner, name: &name, size: 10, resumed: 0 });
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
        let telling = ProgressPublisher::for_fetch();
        let (owner, name) = ("bob".parse().unwrap(), "film.mkv".parse().unwrap());
        let work = async {
            telling.handle_event(&FetchEvent::Started { file: 0, owner: &owner, name: &name, size: 5000, resumed: 0 });
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
