//! Handle of the node that a view or command uses: the running one, or one of its own.

use std::time::Duration;

use super::context::CommandContext;
use super::embedded_node::EmbeddedNode;
use crate::engine::node::control::{NodeClient, NodeLifetime};
use crate::engine::{Error, LocalUser};
use crate::profile::ProfileError;

/// Attempts while another node is starting or ending: 100 at 50 ms are 5 s.
const MAX_ATTEMPTS: u32 = 100;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A connection to a node, and the node itself if this process runs it.
#[derive(Debug)]
pub(super) struct NodeHandle {
    /// The control connection.
    pub(super) client: NodeClient,
    embedded: Option<EmbeddedNode>,
}

impl NodeHandle {
    /// Connects to the running node, or starts one with the given lifetime.
    ///
    /// # Errors
    /// The reason why no node runs and none can be started, or [`Error::Interrupted`].
    pub(super) async fn open(context: &CommandContext, me: &LocalUser, lifetime: NodeLifetime) -> Result<Self, Error> {
        tokio::select! {
            () = context.cancel.cancelled() => Err(Error::Interrupted),
            station = Self::attach_or_start(me, lifetime) => station,
        }
    }

    /// Connects to the running node; `None` if there is none.
    ///
    /// # Errors
    /// Fails if a node runs that can't be talked to.
    pub(super) async fn attach(me: &LocalUser) -> Result<Option<Self>, Error> {
        Ok(NodeClient::connect(&me.profile).await?.map(|client| Self { client, embedded: None }))
    }

    /// True if this process runs the node.
    pub(super) const fn owns_node(&self) -> bool {
        self.embedded.is_some()
    }

    /// Ends the node if this process runs it, and returns its result.
    pub(super) async fn embedded_result(self) -> Option<Result<(), Error>> {
        match self.embedded {
            Some(own) => Some(own.end().await),
            None => None,
        }
    }

    /// Ends the node in order if this process runs it.
    ///
    /// # Errors
    /// The error that ended the node.
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
                    // Over the socket as for a node of another process: the view needs one kind of connection
                    // only.
                    let client = NodeClient::connect(&me.profile).await?;
                    let client = client.ok_or_else(|| Error::Internal("going online failed at once".to_owned()))?;
                    return Ok(Self { client, embedded: Some(own) });
                }
                // Another process holds the profile's lock, but has not opened its socket yet, or has closed
                // it already.
                Err(Error::Profile(ProfileError::NodeRuns { .. })) => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProfileError::NodeRuns { pid: me.profile.node_holder().pid }.into())
    }
}
