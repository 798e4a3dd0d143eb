//! Triggers of link revalidation: the reasons, and the handle by which the node's parts request it.

use std::net::IpAddr;

use shared::UserName;
use tokio::sync::mpsc;

/// The reason for a revalidation, and the links that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RevalidationTrigger {
    /// The tracker said something about this user's key: all links to the user.
    UserKey(UserName),
    /// Another node of our account is present, and messages to us go there: all links.
    OwnDisplacement,
    /// Key changes may have been missed: all links.
    AllKeys,
    /// The user is at these addresses now: outbound links to other addresses.
    UserMoved(UserName, Vec<IpAddr>),
    /// Addresses of this machine may be gone: inbound links that use them.
    LocalNetwork,
}

/// A handle that sends triggers to the [`super::link_revalidation::LinkRevalidator`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RevalidationHandle {
    triggers: mpsc::UnboundedSender<RevalidationTrigger>,
}

impl RevalidationHandle {
    /// Returns a handle and the receiver for the revalidator.
    pub(super) fn channel() -> (Self, mpsc::UnboundedReceiver<RevalidationTrigger>) {
        let (triggers, trigger_receiver) = mpsc::unbounded_channel();
        (Self { triggers }, trigger_receiver)
    }

    /// Requests a revalidation; returns at once.
    pub(super) fn request(&self, trigger: RevalidationTrigger) {
        // Fails only when the node is ending.
        let _ = self.triggers.send(trigger);
    }
}
