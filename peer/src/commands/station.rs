//! The node that a conversation needs: the one that runs, or one of our own for as long as the conversation lasts.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::engine::event::Events;
use crate::engine::node::control::NodeClient;
use crate::engine::node::{Node, Place};
use crate::engine::serve::Limits;
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
    own: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
}

impl Station {
    /// Connects to the running node, or starts one.
    ///
    /// # Errors
    /// [`Error`]: there is none and none can be started.
    pub(super) async fn open(context: &Context, me: &Me) -> Result<Self, Error> {
        tokio::select! {
            () = context.cancel.cancelled() => Err(Error::Interrupted),
            station = Self::find(me) => station,
        }
    }

    /// Ends the node if it is ours, in good order.
    ///
    /// # Errors
    /// What the node ended with.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        self.stop.cancel();
        while let Some(ended) = self.own.join_next().await {
            ended.map_err(|failure| Error::Internal(failure.to_string()))??;
        }
        Ok(())
    }

    async fn find(me: &Me) -> Result<Self, Error> {
        for _ in 0..TRIES {
            if let Some(client) = NodeClient::connect(&me.profile).await? {
                return Ok(Self { client, own: JoinSet::new(), stop: CancellationToken::new() });
            }
            match Node::start(me, Place::default(), Limits::default(), Events::new()).await {
                Ok(node) => return Self::with(node, me).await,
                // It has the profile and not yet, or no longer, its socket.
                Err(Error::Profile(ProfileError::NodeRuns)) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProfileError::NodeRuns.into())
    }

    async fn with(node: Node, me: &Me) -> Result<Self, Error> {
        let stop = node.stop_token();
        let mut own = JoinSet::new();
        own.spawn(node.run());
        let client = NodeClient::connect(&me.profile).await?;
        let client = client.ok_or_else(|| Error::Internal("the node did not start".to_owned()))?;
        Ok(Self { client, own, stop })
    }
}
