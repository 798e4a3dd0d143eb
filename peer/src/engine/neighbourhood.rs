//! Finding a tracker when none is known.

use tokio::task::JoinSet;

use crate::net::discovery::{self, Announced};
use crate::net::tracker::TrackerAddress;

pub use crate::net::discovery::{DiscoveryError, LISTEN_FOR};

/// The trackers that tell of themselves on the local network, and where each can be reached.
///
/// # Errors
/// [`DiscoveryError`] when the network can't be listened to.
pub async fn trackers() -> Result<Vec<(TrackerAddress, Announced)>, DiscoveryError> {
    let announced = discovery::announced_trackers().await?;
    // All at once: whoever announces what can't be reached doesn't make anybody wait for each of them.
    let mut attempts = JoinSet::new();
    for (place, tracker) in announced.into_iter().enumerate() {
        attempts.spawn(async move { (place, tracker.reachable_address().await, tracker) });
    }
    let mut all = attempts.join_all().await;
    all.sort_by_key(|(place, ..)| *place);
    Ok(all.into_iter().filter_map(|(_, address, tracker)| Some((address?, tracker))).collect())
}
