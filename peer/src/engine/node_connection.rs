//! Connection of a view or an event listener to the node; when the node ends, another one is found in the background.

use std::pin::Pin;
use std::time::Duration;

use rand::Rng;
use shared::UserName;
use tokio_util::sync::CancellationToken;

use super::node::{NodeApi, NodeEvents, NodeHandle, NodeLifetime, NodeNeed};
use super::node_event::NodeEvent;
use super::{Error, ErrorKind, LocalUser};
use crate::profile::ProfileError;
use crate::util::Backoff;

/// Time for a node that ended to be started again by its service manager.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// Time between two attempts to connect to it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A node and its events, or the search for one.
pub enum NodeConnection {
    Connected(Box<ConnectedNode>),
    Reconnecting(Pin<Box<dyn Future<Output = Result<ConnectedNode, Error>> + Send>>),
}

/// A node and its events.
pub struct ConnectedNode {
    handle: NodeHandle,
    events: NodeEvents,
}

/// The next event of a connection.
pub enum ConnectionEvent {
    /// An event of the node.
    Event(NodeEvent),
    /// The node has ended.
    Lost,
    /// Another node is connected.
    Restored,
}

impl ConnectedNode {
    /// Watches a node. The conversation with `with` counts as open.
    async fn watch(handle: NodeHandle, with: Option<&UserName>) -> Result<Self, Error> {
        match handle.watch(with).await {
            Ok(events) => Ok(Self { handle, events }),
            // A node of our own must leave the tracker before the error is printed.
            Err(error) => handle.close().await.and(Err(error)),
        }
    }
}

impl NodeConnection {
    /// Begins with an opened node. The conversation with `with` counts as open.
    ///
    /// # Errors
    /// A node of this process failed, or refuses to be watched.
    pub async fn begin(
        cancel: &CancellationToken,
        me: &LocalUser,
        handle: NodeHandle,
        with: Option<&UserName>,
    ) -> Result<Self, Error> {
        match ConnectedNode::watch(handle, with).await {
            Ok(node) => Ok(Self::Connected(Box::new(node))),
            // It ended since it was opened.
            Err(error) if is_transient(&error) => Ok(Self::search(cancel, me)),
            Err(error) => Err(error),
        }
    }

    fn search(cancel: &CancellationToken, me: &LocalUser) -> Self {
        Self::Reconnecting(Box::pin(search_for_node(cancel.clone(), me.clone())))
    }

    /// Returns the node's acts, without a time limit; `None` while there is no node. A node that has ended shows at the
    /// next [`Self::next_event`].
    pub fn api(&self) -> Option<NodeApi> {
        self.timed_api().map(|node| node.without_timeout())
    }

    /// The same with the time limit of commands, for those that give their requests no other end.
    pub fn timed_api(&self) -> Option<NodeApi> {
        match self {
            Self::Connected(node) => Some(NodeApi::clone(&node.handle)),
            Self::Reconnecting(_) => None,
        }
    }

    /// True if a node is connected.
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// True if this process runs the node, so that it ends with the view.
    pub const fn owns_node(&self) -> bool {
        matches!(self, Self::Connected(node) if node.handle.owns_node())
    }

    /// Returns the error to show if the node's process is stopped (`SIGSTOP`), unless that is this process.
    pub fn stopped_node_error(&self) -> Option<Error> {
        match self {
            Self::Connected(node) => node.handle.stopped_error(),
            Self::Reconnecting(_) => None,
        }
    }

    /// Tells the node which conversation is open in the view.
    pub fn set_open_conversation(&mut self, with: Option<&UserName>) {
        if let Self::Connected(node) = self {
            node.events.set_open_conversation(with);
        }
    }

    /// Starts the search for another node. It is no error if this process's own node was told to make way. Fails with
    /// the error that ended this process's own node.
    pub async fn reconnect(&mut self, cancel: &CancellationToken, me: &LocalUser) -> Result<(), Error> {
        std::mem::replace(self, Self::search(cancel, me)).close().await
    }

    /// Ends the node if this process runs it, and opens another one as soon as `wanted` is over. Fails with the error that
    /// ended this process's own node.
    pub async fn rest(
        &mut self,
        cancel: &CancellationToken,
        me: &LocalUser,
        wanted: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let (cancel, me) = (cancel.clone(), me.clone());
        let next = async move {
            // Polled after the node has ended: the one that follows needs its lock.
            wanted.await;
            open_when_possible(cancel, me, None).await
        };
        std::mem::replace(self, Self::Reconnecting(Box::pin(next))).close().await
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next_event(&mut self) -> Result<ConnectionEvent, Error> {
        match self {
            Self::Connected(node) => Ok(node.events.next().await.map_or(ConnectionEvent::Lost, ConnectionEvent::Event)),
            Self::Reconnecting(search) => {
                // The search lives in `self`: a dropped call is resumed by the next one.
                *self = Self::Connected(Box::new(search.as_mut().await?));
                Ok(ConnectionEvent::Restored)
            }
        }
    }

    /// Returns the next event that is there already.
    pub fn buffered_event(&mut self) -> Option<ConnectionEvent> {
        match self {
            Self::Connected(node) => node.events.next_buffered().map(ConnectionEvent::Event),
            Self::Reconnecting(_) => None,
        }
    }

    /// Ends the node in order if this process runs it.
    pub async fn close(self) -> Result<(), Error> {
        match self {
            Self::Connected(node) => {
                let ConnectedNode { handle, events } = *node;
                drop(events);
                handle.close().await
            }
            Self::Reconnecting(_) => Ok(()),
        }
    }
}

/// Opens the node of a view or command, until the first Ctrl-C. Fails with the reason why no node runs and none can be
/// started, or [`Error::Interrupted`].
pub async fn open_node(
    cancel: &CancellationToken,
    me: &LocalUser,
    lifetime: NodeLifetime,
) -> Result<NodeHandle, Error> {
    tokio::select! {
        () = cancel.cancelled() => Err(Error::Interrupted),
        opened = NodeHandle::open(me, NodeNeed::Online(lifetime)) => opened,
    }
}

/// Finds a node after the one in use has ended: the one started in its place, else one of this process. Fails with the
/// reason why no node runs and none can be started.
pub async fn open_replacement(
    cancel: &CancellationToken,
    me: &LocalUser,
    lifetime: NodeLifetime,
) -> Result<NodeHandle, Error> {
    let restarted = tokio::select! {
        () = cancel.cancelled() => return Err(Error::Interrupted),
        restarted = await_restart(me) => restarted?,
    };
    match restarted {
        Some(node) => Ok(node),
        None => open_node(cancel, me, lifetime).await,
    }
}

/// Waits for the node that is started in the place of the one that ended.
async fn await_restart(me: &LocalUser) -> Result<Option<NodeHandle>, Error> {
    // A service manager restarts a lasting node within seconds: starting our own at once would lock it out.
    let patience = tokio::time::Instant::now() + RESTART_GRACE;
    while tokio::time::Instant::now() < patience {
        // On every round: the user may log out meanwhile, and the node must not come back then.
        require_account(me)?;
        match NodeHandle::attach(&me.profile).await {
            Ok(Some(node)) => return Ok(Some(node)),
            Ok(None) => {}
            Err(error) if is_transient(&error) => tracing::debug!("the node can't be talked to: {error}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

async fn search_for_node(cancel: CancellationToken, me: LocalUser) -> Result<ConnectedNode, Error> {
    let restarted = await_restart(&me).await?;
    open_when_possible(cancel, me, restarted).await
}

/// Watches `restarted`, or opens a node as soon as that is possible. Fails with the reason why no node can be started.
async fn open_when_possible(
    cancel: CancellationToken,
    me: LocalUser,
    mut restarted: Option<NodeHandle>,
) -> Result<ConnectedNode, Error> {
    // Endless, unlike `open_replacement`: a view stays open, and its messages wait in the profile.
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    loop {
        let opened = match restarted.take() {
            Some(node) => Ok(node),
            None => {
                require_account(&me)?;
                open_node(&cancel, &me, NodeLifetime::View).await
            }
        };
        let watched = match opened {
            Ok(node) => ConnectedNode::watch(node, None).await,
            Err(error) => Err(error),
        };
        match watched {
            // The tracker may be gone as well, or the holder of the profile be slow to begin or to end.
            Err(error) if is_transient(&error) => tracing::debug!("still without a node: {error}"),
            found => return found,
        }
        // Jittered: several windows lost the same node, and only one of them can start the next.
        let pause = backoff.next_jittered(rand::rng().random());
        tokio::time::sleep(pause).await;
    }
}

/// Fails if the user logged out or changed the account: a view must not bring the old one online again.
fn require_account(me: &LocalUser) -> Result<(), Error> {
    let is_mine = me.profile.account()?.is_some_and(|account| account.user == me.user);
    if is_mine { Ok(()) } else { Err(Error::NotLoggedIn) }
}

fn is_transient(error: &Error) -> bool {
    error.kind() == ErrorKind::Network || matches!(error, Error::Profile(ProfileError::NodeRuns { .. }))
}
