//! One account, its node and what its user does, for as long as a server runs.
//!
//! ```text
//! handlers ──► AccountSeat ──► NodeApi            (SeatTask keeps it connected)
//!                  ├─► SeatFetches                (threads; their progress goes into the feed)
//!                  └─◄ EventFeed ◄── SeatTask ◄── events of the node
//! ```
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | events kept for browsers that come back | 1,024 and 4 MiB | the page loads everything anew (`resync`) |
//! | fetches at once | 4 | refused |
//! | ended fetches that are listed | 100 | the oldest is forgotten |
//! | drops that are hashed at once | 8 | refused |
//! | uploads at once | 8 | refused for the moment |
//! | files of a fetch that are listed | 1,000 | only counted |

mod drop_jobs;
mod event_feed;
mod feed_json;
mod fetch_budgets;
mod seat_activity;
mod seat_fetches;
mod seat_task;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::drop_jobs::{MAX_JOBS, run_job};

pub(super) use self::drop_jobs::{DropDestination, DropJob};
pub(super) use self::event_feed::{EventFeed, FeedPage};
pub(super) use self::feed_json::placed_message;
pub(super) use self::seat_activity::{OpenStream, RestRules, SeatActivity};
pub(super) use self::seat_fetches::SeatFetches;
pub use self::seat_task::SeatTask;
use crate::engine::chat::ConversationName;
use crate::engine::door::used_bytes;
use crate::engine::dropped_files::DroppedFiles;
use crate::engine::node::{NodeApi, NodeHandle};
use crate::engine::node_connection::NodeConnection;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::web::hidden_folder::HiddenFolder;

/// The time for jobs to end with the seat.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Uploads at once; a page has two.
const MAX_UPLOADS: usize = 8;

/// Where a seat's files go.
#[derive(Debug, Clone)]
pub struct SeatDisk {
    /// The folder of fetched files.
    pub folder: PathBuf,
    /// Bytes of all uploads together; `u64::MAX` for what the disk has.
    pub quota: u64,
    /// Bytes of all fetched files together; `u64::MAX` for what the disk has.
    pub download_quota: u64,
    /// The folder whose place the browser's user isn't told.
    pub hidden: HiddenFolder,
}

/// An account at which a browser sits. Handlers hold it for as long as they answer.
pub struct AccountSeat {
    pub(super) me: LocalUser,
    pub(super) feed: EventFeed,
    pub(super) activity: Arc<SeatActivity>,
    pub(super) fetches: SeatFetches,
    pub(super) drops: DroppedFiles,
    /// One account must not take all the uploads that a server has at once.
    pub(super) uploads: Semaphore,
    /// `None` while another node is looked for.
    node: Mutex<Option<NodeApi>>,
    jobs: TaskTracker,
    cancel: CancellationToken,
}

impl AccountSeat {
    /// Sits down at an opened node. The task has to run for as long as the seat is used, and closes the node.
    ///
    /// # Errors
    /// A node of this process failed, or refuses to be watched.
    pub async fn take(
        me: LocalUser,
        node: NodeHandle,
        disk: SeatDisk,
        cancel: &CancellationToken,
    ) -> Result<(Arc<Self>, SeatTask), Error> {
        Self::take_at_door(me, node, disk, SeatActivity::always_awake(), cancel).await
    }

    /// Sits down as [`Self::take`], at a seat that may rest.
    ///
    /// # Errors
    /// Those of [`Self::take`].
    pub(super) async fn take_at_door(
        me: LocalUser,
        node: NodeHandle,
        disk: SeatDisk,
        activity: Arc<SeatActivity>,
        cancel: &CancellationToken,
    ) -> Result<(Arc<Self>, SeatTask), Error> {
        let SeatDisk { folder, quota, download_quota, hidden } = disk;
        let drops = DroppedFiles::of(me.profile.home(), quota);
        let (swept, profile) = (drops.clone(), me.profile.clone());
        run_blocking(move || {
            swept.sweep(&profile, SystemTime::now());
            Ok(())
        })
        .await?;
        // Its own: a seat that ends for another reason must not end whoever could cancel it.
        let cancel = cancel.child_token();
        let connection = NodeConnection::begin(&cancel, &me, node, None).await?;
        let (fetches, told) = SeatFetches::new(me.clone(), folder, download_quota, hidden.clone());
        let (feed, node) = (EventFeed::new(hidden), Mutex::new(connection.timed_api()));
        let (jobs, uploads) = (TaskTracker::new(), Semaphore::new(MAX_UPLOADS));
        let cancelled = cancel.clone();
        let seat = Arc::new(Self { me, feed, activity, fetches, drops, uploads, node, jobs, cancel: cancelled });
        let task = SeatTask::new(seat.clone(), connection, told, cancel);
        Ok((seat, task))
    }

    /// Returns the node's acts; `None` while there is no node.
    pub(super) fn node(&self) -> Option<NodeApi> {
        self.node.lock().clone()
    }

    /// True if the seat ends, or has ended: nobody may sit down at it any more.
    pub(super) fn has_ended(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// True while a fetch or another job runs.
    pub(super) fn is_working(&self) -> bool {
        self.fetches.is_running() || !self.jobs.is_empty()
    }

    /// Starts a fetch within the quota; returns its number.
    pub(super) async fn start_fetch(&self, from: &ConversationName, name: &str) -> Result<u64, Error> {
        let Some(quota) = self.fetches.quota() else { return self.fetches.start(from, name) };
        let folder = self.fetches.folder().to_owned();
        let used = run_blocking(move || Ok(used_bytes(&folder))).await?;
        self.fetches.start_within(quota, used, from, name)
    }

    /// Shares or sends dropped files, beside everything else. Fails if too many such jobs run.
    pub(super) fn run_drop_job(self: &Arc<Self>, job: DropJob) -> Result<(), ()> {
        if self.jobs.len() >= MAX_JOBS {
            return Err(());
        }
        self.jobs.spawn(run_job(self.clone(), job, self.cancel.clone()));
        Ok(())
    }

    /// Waits until all jobs have ended, which are cancelled by then.
    async fn await_jobs(&self) {
        self.jobs.close();
        // A disk that doesn't answer must not hold the process.
        let _ = tokio::time::timeout(END_TIMEOUT, self.jobs.wait()).await;
    }

    fn set_node(&self, node: Option<NodeApi>) {
        *self.node.lock() = node;
    }
}

/// Each seat equals itself alone: one account may have several, one after the other.
impl PartialEq for AccountSeat {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
