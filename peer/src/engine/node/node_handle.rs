//! A handle to a profile's node, wherever it runs, and the acts that concern only a node that runs.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::api::NodeApi;
use super::control::{ControlAction, NodeClient};
use super::embedded_node::{EmbeddedNode, TransientNode};
use super::{NodeLifetime, NodeStatus};
use crate::engine::{Error, LocalUser};
use crate::profile::{Profile, ProfileError};

/// Attempts while another node is starting or ending: 100 at 50 ms are 5 s.
const MAX_ATTEMPTS: u32 = 100;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The part of a node that a caller can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeNeed {
    /// The profile's database. A node whose process is stopped is passed over.
    Store,
    /// Links to other users: those of the running node, or links that this process dials when it is asked to.
    Links,
    /// Presence at the tracker: if no node runs, this process runs one of this lifetime.
    Online(NodeLifetime),
}

/// The acts of a node, and the node itself if this process runs it.
#[derive(Debug)]
pub struct NodeHandle {
    api: NodeApi,
    own: OwnNode,
}

/// The node that this process runs.
#[derive(Debug)]
enum OwnNode {
    None,
    Transient(TransientNode),
    Online(EmbeddedNode),
}

impl NodeHandle {
    /// Attaches to the running node, or makes one in this process that meets the need.
    ///
    /// # Errors
    /// The reason why a running node can't be reached, or why none can be started.
    pub async fn open(me: &LocalUser, need: NodeNeed) -> Result<Self, Error> {
        for _ in 0..MAX_ATTEMPTS {
            match NodeClient::connect(&me.profile).await {
                Ok(Some(running)) => return Ok(Self { api: NodeApi::Attached(running), own: OwnNode::None }),
                Ok(None) => {}
                // A stopped node answers nothing, and storing needs only the database.
                Err(Error::Profile(ProfileError::NodeStopped { .. })) if need == NodeNeed::Store => {
                    return Ok(Self::transient(me));
                }
                Err(error) => return Err(error),
            }
            let NodeNeed::Online(lifetime) = need else { return Ok(Self::transient(me)) };
            match EmbeddedNode::start(me, lifetime).await {
                Ok((own, core)) => {
                    return Ok(Self { api: NodeApi::Embedded(Arc::new(core)), own: OwnNode::Online(own) });
                }
                // Another process holds the profile's lock, but has not opened its socket yet, or has closed it already.
                Err(Error::Profile(ProfileError::NodeRuns { .. })) => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProfileError::NodeRuns { pid: me.profile.node_holder().pid }.into())
    }

    /// Performs one act on a node, and ends the node in order if this process runs it.
    ///
    /// # Errors
    /// As [`Self::open`], else the error of the act.
    pub async fn perform_act<T>(
        me: &LocalUser,
        need: NodeNeed,
        act: impl AsyncFnOnce(&NodeApi) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let node = Self::open(me, need).await?;
        let outcome = act(&node).await;
        // In order, so that the other side learns at once that the link is over.
        // The error that ended the node first: that of the act may only be its consequence.
        node.close().await.and(outcome)
    }

    /// Attaches to the running node; `None` if there is none.
    ///
    /// # Errors
    /// The reason why a running node can't be reached.
    pub async fn attach(profile: &Profile) -> Result<Option<Self>, Error> {
        let running = NodeClient::connect(profile).await?;
        Ok(running.map(|running| Self { api: NodeApi::Attached(running), own: OwnNode::None }))
    }

    /// Returns a node without presence in this process, whether or not another one runs.
    pub fn transient(me: &LocalUser) -> Self {
        let (own, core) = TransientNode::start(me);
        Self { api: NodeApi::Embedded(Arc::new(core)), own: OwnNode::Transient(own) }
    }

    /// True if this process runs the node, which ends with the handle.
    pub const fn owns_node(&self) -> bool {
        !matches!(self.own, OwnNode::None)
    }

    /// Returns the error to show while the process of the node is stopped (`SIGSTOP`), unless that is this process.
    pub fn stopped_error(&self) -> Option<Error> {
        match &self.api {
            NodeApi::Attached(node) => node.process().is_stopped().then(|| node.process().stopped_error()),
            NodeApi::Embedded(_) => None,
        }
    }

    /// Ends the node in order if this process runs it.
    ///
    /// # Errors
    /// The error that ended the node.
    pub async fn close(self) -> Result<(), Error> {
        match self.own {
            OwnNode::Online(own) => own.end().await,
            OwnNode::Transient(own) => {
                own.end().await;
                Ok(())
            }
            OwnNode::None => Ok(()),
        }
    }
}

impl Deref for NodeHandle {
    type Target = NodeApi;

    fn deref(&self) -> &NodeApi {
        &self.api
    }
}

/// Returns the state of the running node; `None` if there is none.
///
/// # Errors
/// The reason why a running node can't be reached.
pub async fn running_status(profile: &Profile) -> Result<Option<NodeStatus>, Error> {
    match NodeClient::connect(profile).await? {
        Some(node) => node.status().await.map(Some),
        None => Ok(None),
    }
}

/// Stops the running node, if there is one, and waits until it has left the tracker.
///
/// # Errors
/// The reason why a running node can't be reached, or doesn't end.
pub async fn stop_running(profile: &Profile) -> Result<(), Error> {
    if let Some(node) = NodeClient::connect(profile).await? {
        node.stop().await?;
        // The next command must be able to start another one.
        profile.wait_for_node_exit().await?;
    }
    Ok(())
}

/// Has the running node, if there is one, announce the profile's shares to the tracker.
///
/// # Errors
/// The reason why a running node can't be reached.
pub async fn announce_shares(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        Some(node) => node.perform(ControlAction::SharesChanged).await,
        None => Ok(()),
    }
}

/// Has the running node, if there is one, look at the follows of the profile. Returns false if there is none.
///
/// # Errors
/// The reason why a running node can't be reached, or doesn't know how.
pub async fn announce_follows(profile: &Profile) -> Result<bool, Error> {
    match NodeClient::connect(profile).await? {
        Some(node) => node.perform(ControlAction::FollowsChanged).await.map(|()| true),
        None => Ok(false),
    }
}

/// Has the running node, if there is one, pass the messages that were removed from the history on no more.
///
/// # Errors
/// The reason why a running node can't be reached, or doesn't know how.
pub async fn announce_removal(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        Some(node) => node.perform(ControlAction::HistoryRemoved).await,
        None => Ok(()),
    }
}

/// Has the running node, if there is one, look for the profile's wishes; false if none runs.
///
/// # Errors
/// The reason why a running node can't be reached, or doesn't know how.
pub async fn announce_wishes(profile: &Profile) -> Result<bool, Error> {
    match NodeClient::connect(profile).await? {
        Some(node) => node.perform(ControlAction::WishesChanged).await.map(|()| true),
        None => Ok(false),
    }
}
