//! A node for as long as a view lives, on a thread of its own: whatever it does, no key press is late.

use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::node::control::NodeLifetime;
use crate::engine::node::{ListenConfig, Node};
use crate::engine::node_event::EventBus;
use crate::engine::serve::UploadLimits;
use crate::engine::{Error, LocalUser};

/// A node that this process runs.
#[derive(Debug)]
pub(super) struct EmbeddedNode {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

impl EmbeddedNode {
    /// Starts it and waits until it is online.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub(super) async fn start(me: &LocalUser, lifetime: NodeLifetime) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (me, token) = (me.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("node".to_owned()).spawn(move || {
            // Nobody waits for it when the view was given up.
            let _ = end.send(run(&me, &token, ready, lifetime));
        })?;
        let this = Self { stop, thread: Some(thread), ended };
        match is_ready.await {
            Ok(()) => Ok(this),
            Err(_) => Err(match this.end().await {
                Ok(()) => Error::Internal("the node did not start".to_owned()),
                Err(error) => error,
            }),
        }
    }

    /// Ends it and waits until it has left the tracker.
    ///
    /// # Errors
    /// What it could not go on for.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.stop.cancel();
        let ended = (&mut self.ended).await;
        let joined = self.thread.take().map(JoinHandle::join);
        match (ended, joined) {
            (Ok(result), _) => result,
            (Err(_), _) => Err(Error::Internal("the node failed".to_owned())),
        }
    }
}

impl Drop for EmbeddedNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run(
    me: &LocalUser,
    stop: &CancellationToken,
    ready: oneshot::Sender<()>,
    lifetime: NodeLifetime,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = tokio::select! {
            () = stop.cancelled() => return Err(Error::Interrupted),
            node = Node::start(me, ListenConfig::default(), UploadLimits::default(), EventBus::new(), lifetime) => node?,
        };
        let inner = node.stop_token();
        let _ = ready.send(());
        let passes_on = async {
            stop.cancelled().await;
            inner.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = node.run() => ended,
            () = passes_on => Ok(()),
        }
    })
}
