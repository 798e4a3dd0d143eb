//! Finding a tracker when none is known.

use super::{Error, Notice, Notify};
use crate::net::TrackerError;
use crate::net::discovery::{self, Announced};
use crate::net::tracker::{TrackerAddress, TrackerLink};
use crate::profile::Profile;

pub use crate::net::discovery::LISTEN_FOR;

/// The trackers that tell of themselves on the local network, and where each can be reached.
///
/// A network that can't be listened to is one on which nobody tells anything.
pub async fn trackers() -> Vec<(TrackerAddress, Announced)> {
    let announced = discovery::announced_trackers().await.unwrap_or_else(|why| {
        tracing::info!("{why}");
        Vec::new()
    });
    let mut reachable = Vec::new();
    for tracker in announced {
        if let Some(address) = tracker.reachable_address().await {
            reachable.push((address, tracker));
        }
    }
    reachable
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
