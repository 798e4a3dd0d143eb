//! The connection to the node that a view or a program listens to; when that ends, another one is found beside it.

use std::pin::Pin;
use std::time::Duration;

use rand::Rng;

use super::Context;
use super::station::Station;
use crate::engine::chat::ledger::Backoff;
use crate::engine::node::control::{Action, FromNode, Lifetime};
use crate::engine::{Error, ErrorKind, Me};
use crate::profile::ProfileError;

/// How long a node that ended may take to be there again.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(100);

/// A node, or the search for one.
pub(super) enum Connection {
    There(Station),
    Sought(Pin<Box<dyn Future<Output = Result<Station, Error>>>>),
}

/// What comes next.
pub(super) enum Heard {
    /// From the node.
    Node(FromNode),
    /// The node has ended.
    Lost(Error),
    /// There is a node again.
    Found,
}

impl Connection {
    /// Has the node do something; the reply comes with the id returned. Never waits. A node that is gone shows when the
    /// next thing is heard.
    pub(super) fn send(&mut self, action: Action) -> Option<u64> {
        match self {
            Self::There(station) => station.client.post(action).ok(),
            Self::Sought(_) => None,
        }
    }

    /// Whether there is a node.
    pub(super) const fn is_there(&self) -> bool {
        matches!(self, Self::There(_))
    }

    /// Whether the node is ours and ends with the view.
    pub(super) const fn owns_node(&self) -> bool {
        matches!(self, Self::There(station) if station.owns_node())
    }

    /// Why nothing comes from the node of another process, when that is stopped.
    pub(super) fn stopped_node(&self) -> Option<Error> {
        match self {
            Self::There(station) if !station.owns_node() => {
                let holder = station.client.holder();
                holder.is_stopped().then(|| holder.stopped())
            }
            _ => None,
        }
    }

    /// Looks for another node when this one has ended. A node of our own that was told to make way is no failure.
    ///
    /// # Errors
    /// What a node of our own ended with.
    pub(super) async fn lose(&mut self, context: &Context, me: &Me) -> Result<(), Error> {
        let sought = Self::Sought(Box::pin(seek(context.clone(), me.clone())));
        if let Self::There(station) = std::mem::replace(self, sought)
            && let Some(ended) = station.own_ending().await
        {
            ended?;
        }
        Ok(())
    }

    /// What comes next. May be cancelled and called again.
    pub(super) async fn next(&mut self) -> Result<Heard, Error> {
        match self {
            Self::There(station) => Ok(station.client.next().await.map_or_else(Heard::Lost, Heard::Node)),
            Self::Sought(search) => {
                *self = Self::There(search.as_mut().await?);
                Ok(Heard::Found)
            }
        }
    }

    /// Ends the node if it is ours, in good order.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self {
            Self::There(station) => station.close().await,
            Self::Sought(_) => Ok(()),
        }
    }
}

/// Finds another node when the one in use has ended: the one that is started in its place, else one of our own.
///
/// # Errors
/// [`Error`]: there is none, and none can be started.
pub(super) async fn another(context: &Context, me: &Me, lifetime: Lifetime) -> Result<Station, Error> {
    let restarted = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        restarted = restarted(me) => restarted?,
    };
    match restarted {
        Some(station) => Ok(station),
        None => Station::open(context, me, lifetime).await,
    }
}

/// Waits for the node that is started in the place of the one that ended.
async fn restarted(me: &Me) -> Result<Option<Station>, Error> {
    // One that is started again, as services are, comes back: whoever takes its place would keep it out.
    let patience = tokio::time::Instant::now() + GRACE;
    while tokio::time::Instant::now() < patience {
        demand_account(me)?;
        match Station::running(me).await {
            Ok(Some(station)) => return Ok(Some(station)),
            Ok(None) => {}
            Err(error) if may_pass(&error) => tracing::debug!("the node can't be talked to: {error}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

async fn seek(context: Context, me: Me) -> Result<Station, Error> {
    if let Some(station) = restarted(&me).await? {
        return Ok(station);
    }
    let mut backoff = Backoff::between(Duration::from_secs(1), Duration::from_secs(10));
    loop {
        demand_account(&me)?;
        match Station::open(&context, &me, Lifetime::View).await {
            // The tracker may be gone as well, or whoever has the profile be slow to begin or to end.
            Err(error) if may_pass(&error) => tracing::debug!("still without a node: {error}"),
            found => return found,
        }
        tokio::time::sleep(backoff.pause(rand::rng().random())).await;
    }
}

/// Who logged out doesn't go online again.
fn demand_account(me: &Me) -> Result<(), Error> {
    let is_mine = me.profile.account()?.is_some_and(|account| account.user == me.user);
    if is_mine { Ok(()) } else { Err(Error::NotLoggedIn) }
}

fn may_pass(error: &Error) -> bool {
    error.kind() == ErrorKind::Network || matches!(error, Error::Profile(ProfileError::NodeRuns { .. }))
}
