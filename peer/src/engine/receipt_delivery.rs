//! Delivery of receipts by commands and views that fetched what somebody sent.

use shared::UserName;

use super::node::{NodeHandle, NodeNeed};
use super::{Error, LocalUser};

/// Has the node deliver the receipts that are queued for these users. What can't be delivered now stays queued: it goes
/// with the next delivery while `peer serve` runs.
pub async fn deliver_receipts(me: &LocalUser, users: Vec<UserName>) {
    for user in users {
        let delivered: Result<_, Error> =
            NodeHandle::perform_act(me, NodeNeed::Links, async |node| node.flush(&user).await).await;
        if let Err(error) = delivered {
            tracing::info!("the receipt for {user} waits: {error}");
        }
    }
}
