//! The task of a seat: it keeps the node connected and carries events into the feed.

use std::sync::Arc;

use localization::tr;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::AccountSeat;
use super::feed_json::feed_event;
use crate::engine::background_fetches::BackgroundEvent;
use crate::engine::node_connection::{ConnectionEvent, NodeConnection};
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::engine::{Error, now_ms};

/// Transfers that wait to be reported to the node; beyond, progress is left out.
const MAX_REPORTS: usize = 64;

/// What keeps a seat alive. It ends with its `cancel`, or with an error of the node.
pub struct SeatTask {
    seat: Arc<AccountSeat>,
    connection: NodeConnection,
    told: mpsc::UnboundedReceiver<BackgroundEvent>,
    cancel: CancellationToken,
    /// The node ended because nobody was there.
    is_resting: bool,
}

impl SeatTask {
    pub(super) const fn new(
        seat: Arc<AccountSeat>,
        connection: NodeConnection,
        told: mpsc::UnboundedReceiver<BackgroundEvent>,
        cancel: CancellationToken,
    ) -> Self {
        Self { seat, connection, told, cancel, is_resting: false }
    }

    /// Runs until it is cancelled, then stops the fetches and closes the node.
    ///
    /// # Errors
    /// The error that ended the node of this process, or the reason why there can't be another one.
    pub async fn run(mut self) -> Result<(), Error> {
        let (reports, mut queued) = mpsc::channel::<FileTransfer>(MAX_REPORTS);
        let seat = self.seat.clone();
        // Beside the events: each report waits for the node's answer, and the feed must not.
        let report = async {
            while let Some(transfer) = queued.recv().await {
                if let Some(node) = seat.node() {
                    // The node has ended: the search for another one runs already.
                    let _ = node.report_transfers(vec![transfer]).await;
                }
            }
        };
        let ended = tokio::select! {
            ended = self.carry(reports) => ended,
            () = report => Ok(()),
        };
        // Before anybody is woken: a login that waits for this seat has to see that it is none any more.
        self.cancel.cancel();
        self.seat.fetches.cancel();
        self.seat.await_jobs().await;
        self.seat.set_node(None);
        // Who waits for the seat to wake finds no node, at once.
        self.seat.activity.end_rest();
        let closed = self.connection.close().await;
        ended.and(closed)
    }

    async fn carry(&mut self, reports: mpsc::Sender<FileTransfer>) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                event = self.connection.next_event() => self.handle_connection(event?).await?,
                Some(event) = self.told.recv() => self.handle_background(event, &reports),
                () = self.seat.activity.unused(), if !self.is_resting => self.rest().await?,
            }
        }
    }

    /// Ends the node until somebody is there again; a fetch or another job that runs is somebody.
    async fn rest(&mut self) -> Result<(), Error> {
        let AccountSeat { activity, me, feed, .. } = &*self.seat;
        if self.seat.is_working() {
            // Its time begins anew, or the seat would be asked to rest again at once.
            activity.touch();
            return Ok(());
        }
        let rest = activity.begin_rest();
        self.is_resting = true;
        self.seat.set_node(None);
        feed.publish("node", || json!({ "connected": false }));
        let wanted = {
            let activity = activity.clone();
            async move { activity.wanted(rest).await }
        };
        self.connection.rest(&self.cancel, me, wanted).await
    }

    async fn handle_connection(&mut self, event: ConnectionEvent) -> Result<(), Error> {
        let AccountSeat { feed, me, .. } = &*self.seat;
        match event {
            // What was missed is in the history and the lists.
            ConnectionEvent::Event(NodeEvent::EventsMissed { .. }) => feed.publish("resync", || Value::Null),
            ConnectionEvent::Event(event) => {
                // Made again for each language, at the same time.
                let at = now_ms();
                let fields = || feed_event(&event, &me.user, at);
                if let Some((kind, _)) = fields() {
                    feed.publish(kind, || fields().map_or(Value::Null, |(_, fields)| fields));
                }
            }
            ConnectionEvent::Lost => {
                self.seat.set_node(None);
                feed.publish("node", || json!({ "connected": false }));
                self.connection.reconnect(&self.cancel, me).await?;
            }
            ConnectionEvent::Restored => {
                // Before the end of the rest: the calls that it wakes ask for the node at once.
                self.seat.set_node(self.connection.timed_api());
                if std::mem::take(&mut self.is_resting) {
                    self.seat.activity.end_rest();
                }
                feed.publish("node", || json!({ "connected": true }));
                feed.publish("resync", || Value::Null);
            }
        }
        Ok(())
    }

    fn handle_background(&self, event: BackgroundEvent, reports: &mpsc::Sender<FileTransfer>) {
        let AccountSeat { feed, fetches, .. } = &*self.seat;
        match event {
            // The node sends it back as an event to all views.
            BackgroundEvent::Transfer(transfer) => drop(reports.try_send(transfer)),
            BackgroundEvent::Hashing(transfer) => feed.publish("hashing", || json!(transfer)),
            // The fetch's progress says that it is here.
            BackgroundEvent::FilePlaced(_) if fetches.hides_places() => {}
            BackgroundEvent::Note(text) | BackgroundEvent::FilePlaced(text) => {
                feed.publish("note", || json!({ "text": text }));
            }
            BackgroundEvent::Problem(text) => feed.publish("problem", || json!({ "text": text })),
            BackgroundEvent::Progress(number) => {
                if !fetches.reserve_size(number) && fetches.stop(number) {
                    let words = || tr!("that is more than your share of this machine's disk: it was stopped");
                    feed.publish("problem", || json!({ "text": words() }));
                }
                self.publish_fetch(number);
            }
            BackgroundEvent::AllFilesReported(number) => fetches.mark_reported(number),
            BackgroundEvent::Ended(number) => {
                if fetches.record_end(number) {
                    self.publish_fetch(number);
                }
            }
            // Its progress says so.
            BackgroundEvent::Interrupted(_) => {}
        }
    }

    fn publish_fetch(&self, number: u64) {
        let AccountSeat { feed, fetches, .. } = &*self.seat;
        if let Some(progress) = fetches.snapshot(number) {
            feed.publish("fetch", || fetches.object(&progress));
        }
    }
}
