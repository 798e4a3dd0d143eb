//! The node that a conversation needs: the one that runs, or one of our own for as long as the conversation lasts.

use std::time::Duration;

use super::Context;
use super::own_node::OwnNode;
use crate::engine::node::control::{Lifetime, NodeClient};
use crate::engine::{Error, Me};
use crate::profile::ProfileError;

/// Times that a node which is just beginning or ending is looked at again.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to a node, and the node itself if it is ours.
#[derive(Debug)]
pub(super) struct Station {
    /// The connection.
    pub(super) client: NodeClient,
    own: Option<OwnNode>,
}

impl Station {
    /// Connects to the running node, or starts one that lives so long.
    ///
    /// # Errors
    /// [`Error`]: there is none and none can be started.
    pub(super) async fn open(context: &Context, me: &Me, lifetime: Lifetime) -> Result<Self, Error> {
        tokio::select! {
            () = context.cancel.cancelled() => Err(Error::Interrupted),
            station = Self::find(me, lifetime) => station,
        }
    }

    /// Connects to the running node; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be talked to.
    pub(super) async fn running(me: &Me) -> Result<Option<Self>, Error> {
        Ok(NodeClient::connect(&me.profile).await?.map(|client| Self { client, own: None }))
    }

    /// Whether the node is ours and ends with the conversation.
    pub(super) const fn owns_node(&self) -> bool {
        self.own.is_some()
    }

    /// Takes what the node ended with, when it is ours.
    pub(super) async fn own_ending(self) -> Option<Result<(), Error>> {
        match self.own {
            Some(own) => Some(own.end().await),
            None => None,
        }
    }

    /// Ends the node if it is ours, in good order.
    ///
    /// # Errors
    /// What the node ended with.
    pub(super) async fn close(self) -> Result<(), Error> {
        drop(self.client);
        match self.own {
            Some(own) => own.end().await,
            None => Ok(()),
        }
    }

    async fn find(me: &Me, lifetime: Lifetime) -> Result<Self, Error> {
        for _ in 0..TRIES {
            if let Some(running) = Self::running(me).await? {
                return Ok(running);
            }
            match OwnNode::start(me, lifetime).await {
                Ok(own) => {
                    let client = NodeClient::connect(&me.profile).await?;
                    let client = client.ok_or_else(|| Error::Internal("the node did not start".to_owned()))?;
                    return Ok(Self { client, own: Some(own) });
                }
                // It has the profile and not yet, or no longer, its socket.
                Err(Error::Profile(ProfileError::NodeRuns { .. })) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProfileError::NodeRuns { pid: me.profile.node_holder().pid }.into())
    }
}
