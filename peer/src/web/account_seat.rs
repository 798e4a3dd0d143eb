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
//! | files of a fetch that are listed | 1,000 | only counted |

mod event_feed;
mod feed_json;
mod seat_activity;
mod seat_fetches;
mod seat_task;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(super) use self::event_feed::{EventFeed, FeedPage};
pub(super) use self::feed_json::placed_message;
pub(super) use self::seat_activity::{OpenStream, RestRules, SeatActivity};
pub(super) use self::seat_fetches::SeatFetches;
pub use self::seat_task::SeatTask;
use crate::engine::background_fetches::BackgroundEvent;
use crate::engine::node::{NodeApi, NodeHandle};
use crate::engine::node_connection::NodeConnection;
use crate::engine::{Error, LocalUser};

/// An account at which a browser sits. Handlers hold it for as long as they answer.
pub struct AccountSeat {
    pub(super) me: LocalUser,
    pub(super) feed: EventFeed,
    pub(super) activity: Arc<SeatActivity>,
    pub(super) fetches: SeatFetches,
    /// `None` while another node is looked for.
    node: Mutex<Option<NodeApi>>,
    tell: mpsc::UnboundedSender<BackgroundEvent>,
}

impl AccountSeat {
    /// Sits down at an opened node. Fetched files go into `folder`. The task has to run for as long as the seat is used,
    /// and closes the node.
    ///
    /// # Errors
    /// A node of this process failed, or refuses to be watched.
    pub async fn take(
        me: LocalUser,
        node: NodeHandle,
        folder: PathBuf,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<(Arc<Self>, SeatTask), Error> {
        Self::take_at_door(me, node, folder, SeatActivity::always_awake(), cancel).await
    }

    /// Sits down as [`Self::take`], at a seat that may rest.
    ///
    /// # Errors
    /// Those of [`Self::take`].
    pub(super) async fn take_at_door(
        me: LocalUser,
        node: NodeHandle,
        folder: PathBuf,
        activity: Arc<SeatActivity>,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<(Arc<Self>, SeatTask), Error> {
        let connection = NodeConnection::begin(cancel, &me, node, None).await?;
        let (fetches, told) = SeatFetches::new(me.clone(), folder);
        let (feed, node, tell) = (EventFeed::default(), Mutex::new(connection.api()), fetches.event_sender());
        let seat = Arc::new(Self { me, feed, activity, fetches, node, tell });
        let task = SeatTask::new(seat.clone(), connection, told, cancel.clone());
        Ok((seat, task))
    }

    /// Returns the node's acts; `None` while there is no node.
    pub(super) fn node(&self) -> Option<NodeApi> {
        self.node.lock().clone()
    }

    /// Returns a sender for events of jobs beside the fetches.
    pub(super) fn event_sender(&self) -> mpsc::UnboundedSender<BackgroundEvent> {
        self.tell.clone()
    }

    fn set_node(&self, node: Option<NodeApi>) {
        *self.node.lock() = node;
    }
}
