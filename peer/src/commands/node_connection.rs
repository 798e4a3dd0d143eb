//! The connection to the node that a view or a program listens to; when that ends, another one is found beside it.

use std::pin::Pin;
use std::time::Duration;

use rand::Rng;

use super::CommandContext;
use super::node_handle::NodeHandle;
use crate::engine::chat::delivery_state::Backoff;
use crate::engine::node::control::{ControlAction, NodeLifetime, NodeMessage};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::ProfileError;

/// How long a node that ended may take to be there again.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// Between two looks for it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A node, or the search for one.
pub(super) enum NodeConnection {
    Connected(NodeHandle),
    Reconnecting(Pin<Box<dyn Future<Output = Result<NodeHandle, Error>>>>),
}

/// What comes next.
pub(super) enum ConnectionEvent {
    /// From the node.
    Message(NodeMessage),
    /// The node has ended.
    Lost(Error),
    /// There is a node again.
    Restored,
}

impl NodeConnection {
    /// Has the node do something; the reply comes with the id returned. Never waits. A node that is gone shows when the
    /// next thing is heard.
    pub(super) fn send(&mut self, action: ControlAction) -> Option<u64> {
        match self {
            Self::Connected(station) => station.client.queue_request(action).ok(),
            Self::Reconnecting(_) => None,
        }
    }

    /// Whether there is a node.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Whether the node is ours and ends with the view.
    pub(super) const fn owns_node(&self) -> bool {
        matches!(self, Self::Connected(station) if station.owns_node())
    }

    /// Why nothing comes from the node of another process, when that is stopped.
    pub(super) fn stopped_node_error(&self) -> Option<Error> {
        match self {
            Self::Connected(station) if !station.owns_node() => {
                let holder = station.client.process();
                holder.is_stopped().then(|| holder.stopped_error())
            }
            _ => None,
        }
    }

    /// Looks for another node when this one has ended. A node of our own that was told to make way is no failure.
    ///
    /// # Errors
    /// What a node of our own ended with.
    pub(super) async fn reconnect(&mut self, context: &CommandContext, me: &LocalUser) -> Result<(), Error> {
        let sought = Self::Reconnecting(Box::pin(search_for_node(context.clone(), me.clone())));
        if let Self::Connected(station) = std::mem::replace(self, sought)
            && let Some(ended) = station.embedded_result().await
        {
            ended?;
        }
        Ok(())
    }

    /// What comes next. May be cancelled and called again.
    pub(super) async fn next_event(&mut self) -> Result<ConnectionEvent, Error> {
        match self {
            Self::Connected(station) => {
                Ok(station.client.next_message().await.map_or_else(ConnectionEvent::Lost, ConnectionEvent::Message))
            }
            Self::Reconnecting(search) => {
                *self = Self::Connected(search.as_mut().await?);
                Ok(ConnectionEvent::Restored)
            }
        }
    }

    /// Ends the node if it is ours, in good order.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self {
            Self::Connected(station) => station.close().await,
            Self::Reconnecting(_) => Ok(()),
        }
    }
}

/// Finds another node when the one in use has ended: the one that is started in its place, else one of our own.
///
/// # Errors
/// [`Error`]: there is none, and none can be started.
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
    // One that is started again, as services are, comes back: whoever takes its place would keep it out.
    let patience = tokio::time::Instant::now() + RESTART_GRACE;
    while tokio::time::Instant::now() < patience {
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
    let mut backoff = Backoff::with_bounds(Duration::from_secs(1), Duration::from_secs(10));
    loop {
        require_account(&me)?;
        match NodeHandle::open(&context, &me, NodeLifetime::View).await {
            // The tracker may be gone as well, or whoever has the profile be slow to begin or to end.
            Err(error) if is_transient(&error) => tracing::debug!("still without a node: {error}"),
            found => return found,
        }
        tokio::time::sleep(backoff.next_delay(rand::rng().random())).await;
    }
}

/// Who logged out doesn't go online again.
fn require_account(me: &LocalUser) -> Result<(), Error> {
    let is_mine = me.profile.account()?.is_some_and(|account| account.user == me.user);
    if is_mine { Ok(()) } else { Err(Error::NotLoggedIn) }
}

fn is_transient(error: &Error) -> bool {
    error.kind() == ErrorKind::Network || matches!(error, Error::Profile(ProfileError::NodeRuns { .. }))
}
