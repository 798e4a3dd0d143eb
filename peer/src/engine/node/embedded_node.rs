//! A node that this process runs for a view or command: a present one on its own thread and runtime, so that its work
//! doesn't delay key presses, or in a pool beside others; or one without presence.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use localization::tr;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::delivery::MessageOutbox;
use super::link_pool::LinkPool;
use super::{ListenConfig, Node, NodeCore, NodeLifetime};
use crate::engine::event_bus::EventBus;
use crate::engine::serve::UploadLimits;
use crate::engine::{Error, LocalUser};

/// Time for work on other threads, such as a write to the profile, to end with the node.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(1);
/// Events buffered for a slow receiver of a node in a pool. The buffer is made whole at the start: the usual one takes
/// 0.9 MiB.
const POOLED_EVENTS: usize = 512;

/// A present node on a thread of this process.
#[derive(Debug)]
pub(super) struct EmbeddedNode {
    stop: CancellationToken,
    /// The node's own thread; `None` in a pool.
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

impl EmbeddedNode {
    /// Starts a node, waits until it is online or found no tracker, and returns its acts as well.
    ///
    /// # Errors
    /// The errors of [`Node::start`].
    pub(super) async fn start(me: &LocalUser, lifetime: NodeLifetime) -> Result<(Self, NodeCore), Error> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (me, token) = (me.clone(), stop.clone());
        let thread = match me.node_pool.clone() {
            None => Some(std::thread::Builder::new().name("node".to_owned()).spawn(move || {
                // The receiver is gone if the view was abandoned.
                let _ = end.send(run(&me, &token, ready, lifetime));
            })?),
            Some(pool) => {
                pool.spawn(move || async move {
                    let events = EventBus::with_capacity(POOLED_EVENTS);
                    let _ = end.send(run_until_stopped(&me, &token, ready, events, lifetime).await);
                });
                None
            }
        };
        let this = Self { stop, thread, ended };
        match is_ready.await {
            Ok(core) => Ok((this, core)),
            // The thread dropped `ready` without sending: its result says why.
            Err(_) => Err(match this.end().await {
                Ok(()) => Error::Internal(tr!("going online failed at once")),
                Err(error) => error,
            }),
        }
    }

    /// Stops the node and waits until it has left the tracker.
    ///
    /// # Errors
    /// The error that ended the node.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.stop.cancel();
        let ended = (&mut self.ended).await;
        // The thread has sent its result, or panicked: joining takes no time.
        let joined = self.thread.take().map(JoinHandle::join);
        match (ended, joined) {
            (Ok(result), _) => result,
            // The sender was dropped without a result: the thread panicked.
            (Err(_), _) => Err(Error::Internal(tr!("the part that keeps you online failed"))),
        }
    }
}

// A view that ends with an error must not leave its node running.
impl Drop for EmbeddedNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run(
    me: &LocalUser,
    stop: &CancellationToken,
    ready: oneshot::Sender<NodeCore>,
    lifetime: NodeLifetime,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run_until_stopped(me, stop, ready, EventBus::new(), lifetime));
    // Dropped, it would wait without end for a thread that hangs.
    runtime.shutdown_timeout(BLOCKING_WORK_TIMEOUT);
    ended
}

async fn run_until_stopped(
    me: &LocalUser,
    stop: &CancellationToken,
    ready: oneshot::Sender<NodeCore>,
    events: EventBus,
    lifetime: NodeLifetime,
) -> Result<(), Error> {
    let node = tokio::select! {
        () = stop.cancelled() => return Err(Error::Interrupted),
        node = Node::start(me, ListenConfig::default(), UploadLimits::default(), events, lifetime) => node?,
    };
    let inner = node.stop_token();
    // Fails if the view was abandoned, which stops the node as well.
    let _ = ready.send(node.core());
    // Forward the stop to the running node, and never complete: `node.run` has to shut down in order.
    let passes_on = async {
        stop.cancelled().await;
        inner.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = node.run() => ended,
        () = passes_on => Ok(()),
    }
}

/// A node without presence, for one command: it takes no lock and no port, dials only for what is asked of it, and lets
/// any number of others of the profile work beside it.
#[derive(Debug)]
pub(super) struct TransientNode {
    link_pool: Arc<LinkPool>,
    stop: CancellationToken,
    /// Owns the delivery workers.
    tasks: JoinSet<()>,
}

impl TransientNode {
    /// Returns a node without presence and its acts.
    pub(super) fn start(me: &LocalUser) -> (Self, NodeCore) {
        let (events, link_pool) = (EventBus::new(), Arc::new(LinkPool::on_demand(me.clone())));
        let stop = CancellationToken::new();
        let (outbox, dispatcher) = MessageOutbox::new(me.clone(), events.clone(), link_pool.clone(), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(dispatcher.run_workers());
        let core = NodeCore::offline(me.clone(), events, &link_pool, outbox);
        (Self { link_pool, stop, tasks }, core)
    }

    /// Closes the links that were dialed.
    pub(super) async fn end(mut self) {
        // Before the workers are aborted: dropping a stream finishes it, as if everything had been sent.
        self.link_pool.close().await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
