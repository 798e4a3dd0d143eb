//! Connection to the node of a view or an event listener; when the node ends, another one is found in the background.

use std::pin::Pin;
use std::time::Duration;

use rand::Rng;

use super::context::CommandContext;
use super::node_handle::NodeHandle;
use crate::engine::node::control::{ControlAction, NodeLifetime, NodeMessage};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::ProfileError;
use crate::util::Backoff;

/// Time for a node that ended to be started again by its service manager.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// Time between two attempts to connect to it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A connected node, or the search for one.
pub(super) enum NodeConnection {
    Connected(NodeHandle),
    Reconnecting(Pin<Box<dyn Future<Output = Result<NodeHandle, Error>>>>),
}

/// The next event of a connection.
pub(super) enum ConnectionEvent {
    /// A reply or an event of the node.
    Message(NodeMessage),
    /// The node has ended.
    Lost(Error),
    /// Another node is connected.
    Restored,
}

impl NodeConnection {
    /// Sends a request without waiting and returns the id of its reply; `None` while there is no node. A broken
    /// connection shows at the next [`Self::next_event`].
    pub(super) fn send(&mut self, action: ControlAction) -> Option<u64> {
        match self {
            Self::Connected(station) => station.client.queue_request(action).ok(),
            Self::Reconnecting(_) => None,
        }
    }

    /// True if a node is connected.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// True if this process runs the node, so that it ends with the view.
    pub(super) const fn owns_node(&self) -> bool {
        matches!(self, Self::Connected(station) if station.owns_node())
    }

    /// Returns the error to show if the node's process is stopped (`SIGSTOP`), unless that is this process.
    pub(super) fn stopped_node_error(&self) -> Option<Error> {
        match self {
            Self::Connected(station) if !station.owns_node() => {
                let holder = station.client.process();
                holder.is_stopped().then(|| holder.stopped_error())
            }
            _ => None,
        }
    }

    /// Starts the search for another node. It is no error if this process's own node was told to make way.
    ///
    /// # Errors
    /// The error that ended this process's own node.
    pub(super) async fn reconnect(&mut self, context: &CommandContext, me: &LocalUser) -> Result<(), Error> {
        let sought = Self::Reconnecting(Box::pin(search_for_node(context.clone(), me.clone())));
        if let Self::Connected(station) = std::mem::replace(self, sought)
            && let Some(ended) = station.embedded_result().await
        {
            ended?;
        }
        Ok(())
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next_event(&mut self) -> Result<ConnectionEvent, Error> {
        match self {
            Self::Connected(station) => {
                Ok(station.client.next_message().await.map_or_else(ConnectionEvent::Lost, ConnectionEvent::Message))
            }
            Self::Reconnecting(search) => {
                // The search lives in `self`: a dropped call is resumed by the next one.
                *self = Self::Connected(search.as_mut().await?);
                Ok(ConnectionEvent::Restored)
            }
        }
    }

    /// Ends the node in order if this process runs it.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self {
            Self::Connected(station) => station.close().await,
            Self::Reconnecting(_) => Ok(()),
        }
    }
}

/// Finds a node after the one in use has ended: the one started in its place, else one of this process.
///
/// # Errors
/// The reason why no node runs and none can be started.
pub(super) async fn open_replacement(
    context: &CommandContext,
    me: &LocalUser,
    lifetime: NodeLifetime,
) -> Result<NodeHandle, Error> {
    let restarted = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        restarted = await_restart(me) => restarted?,
    };
    match restarted {
        Some(station) => Ok(station),
        None => NodeHandle::open(context, me, lifetime).await,
    }
}

/// Waits for the node that is started in the place of the one that ended.
async fn await_restart(me: &LocalUser) -> Result<Option<NodeHandle>, Error> {
    // A service manager restarts a lasting node within seconds: starting our own at once would lock it out.
    let patience = tokio::time::Instant::now() + RESTART_GRACE;
    while tokio::time::Instant::now() < patience {
        // On every round: the user may log out meanwhile, and the node must not come back then.
        require_account(me)?;
        match NodeHandle::attach(me).await {
            Ok(Some(station)) => return Ok(Some(station)),
            Ok(None) => {}
            Err(error) if is_transient(&error) => tracing::debug!("the node can't be talked to: {error}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

async fn search_for_node(context: CommandContext, me: LocalUser) -> Result<NodeHandle, Error> {
    if let Some(station) = await_restart(&me).await? {
        return Ok(station);
    }
    // Endless, unlike `open_replacement`: a view stays open, and its messages wait in the profile.
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    loop {
        require_account(&me)?;
        match NodeHandle::open(&context, &me, NodeLifetime::View).await {
            // The tracker may be gone as well, or the holder of the profile be slow to begin or to end.
            Err(error) if is_transient(&error) => tracing::debug!("still without a node: {error}"),
            found => return found,
        }
        tokio::time::sleep(backoff.next_jittered(rand::rng().random())).await;
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
