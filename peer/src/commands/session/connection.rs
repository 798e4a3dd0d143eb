//! The connection to the node that a view shows; when that ends, another one is found beside the view.

use std::pin::Pin;

use rand::Rng;

use super::super::Context;
use super::super::station::Station;
use crate::engine::chat::ledger::Backoff;
use crate::engine::node::control::{Action, FromNode};
use crate::engine::{Error, ErrorKind, Me};
use crate::profile::ProfileError;

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

    /// Looks for another node, or starts one.
    pub(super) fn seek(&mut self, context: &Context, me: &Me) {
        *self = Self::Sought(Box::pin(seek(context.clone(), me.clone())));
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

async fn seek(context: Context, me: Me) -> Result<Station, Error> {
    let mut backoff = Backoff::between(std::time::Duration::from_secs(1), std::time::Duration::from_secs(10));
    loop {
        match Station::open(&context, &me).await {
            // The tracker may be gone as well, or whoever has the profile be slow to begin or to end.
            Err(error) if may_pass(&error) => tracing::debug!("still without a node: {error}"),
            found => return found,
        }
        tokio::time::sleep(backoff.pause(rand::rng().random())).await;
    }
}

fn may_pass(error: &Error) -> bool {
    error.kind() == ErrorKind::Network || matches!(error, Error::Profile(ProfileError::NodeRuns))
}
