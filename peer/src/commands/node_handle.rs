//! The node that a conversation needs: the one that runs, or one of our own for as long as the conversation lasts.

use std::time::Duration;

use super::CommandContext;
use super::embedded_node::EmbeddedNode;
use crate::engine::node::control::{NodeClient, NodeLifetime};
use crate::engine::{Error, LocalUser};
use crate::profile::ProfileError;

/// Times that a node which is just beginning or ending is looked at again.
const MAX_ATTEMPTS: u32 = 100;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A connection to a node, and the node itself if it is ours.
#[derive(Debug)]
pub(super) struct NodeHandle {
    /// The connection.
    pub(super) client: NodeClient,
    embedded: Option<EmbeddedNode>,
}

impl NodeHandle {
    /// Connects to the running node, or starts one that lives so long.
    ///
    /// # Errors
    /// [`Error`]: there is none and none can be started.
    pub(super) async fn open(context: &CommandContext, me: &LocalUser, lifetime: NodeLifetime) -> Result<Self, Error> {
        tokio::select! {
            () = context.cancel.cancelled() => Err(Error::Interrupted),
            station = Self::attach_or_start(me, lifetime) => station,
        }
    }

    /// Connects to the running node; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be talked to.
    pub(super) async fn attach(me: &LocalUser) -> Result<Option<Self>, Error> {
        Ok(NodeClient::connect(&me.profile).await?.map(|client| Self { client, embedded: None }))
    }

    /// Whether the node is ours and ends with the conversation.
    pub(super) const fn owns_node(&self) -> bool {
        self.embedded.is_some()
    }

    /// Takes what the node ended with, when it is ours.
    pub(super) async fn embedded_result(self) -> Option<Result<(), Error>> {
        match self.embedded {
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
        match self.embedded {
            Some(own) => own.end().await,
            None => Ok(()),
        }
    }

    async fn attach_or_start(me: &LocalUser, lifetime: NodeLifetime) -> Result<Self, Error> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(running) = Self::attach(me).await? {
                return Ok(running);
            }
            match EmbeddedNode::start(me, lifetime).await {
                Ok(own) => {
                    let client = NodeClient::connect(&me.profile).await?;
                    let client = client.ok_or_else(|| Error::Internal("the node did not start".to_owned()))?;
                    return Ok(Self { client, embedded: Some(own) });
                }
                // It has the profile and not yet, or no longer, its socket.
                Err(Error::Profile(ProfileError::NodeRuns { .. })) => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProfileError::NodeRuns { pid: me.profile.node_holder().pid }.into())
    }
}
