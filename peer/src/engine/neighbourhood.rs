//! Finding a tracker when none is known.

use tokio::task::JoinSet;

use super::{Error, Notice, Notify};
use crate::net::TrackerError;
use crate::net::discovery::{self, Announced};
use crate::net::tracker::{TrackerAddress, TrackerLink};
use crate::profile::Profile;

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

/// Takes the tracker at `address` for ours, if it has the key that was announced; then the key goes on record.
///
/// # Errors
/// [`Error::Tracker`] when it can't be reached, or when the key on record for that address is another one;
/// [`Error::FalseAnnouncement`].
pub async fn choose(
    profile: &Profile,
    address: &TrackerAddress,
    announced: &Announced,
    notify: &Notify,
) -> Result<(), Error> {
    let (text, identity) = (address.to_string(), profile.identity()?);
    let known = profile.tracker_pin(&text)?;
    let demanded = known.unwrap_or(announced.fingerprint);
    let link = TrackerLink::connect(address, &identity, Some(demanded)).await.map_err(|error| match error {
        TrackerError::IdentityChanged { presented, .. } if known.is_none() => {
            Error::FalseAnnouncement { address: text.clone(), announced: announced.fingerprint, presented }
        }
        error => error.into(),
    })?;
    if known.is_none() {
        profile.pin_tracker(&text, link.fingerprint())?;
        notify(Notice::NewTracker { address: text, fingerprint: link.fingerprint() });
    }
    Ok(())
}
