//! Discovery of trackers on the local network.

use std::net::SocketAddr;

use shared::Fingerprint;

use crate::net::discovery::{AnnouncedTracker, DiscoveryResult, Reachability};

pub use crate::net::discovery::{DiscoveryError, LISTEN_DURATION};

/// The trackers that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveredTrackers {
    /// No tracker answers.
    NotFound,
    /// The only tracker, or the wanted one.
    One(AnnouncedTracker),
    /// Several, among which the user has to choose.
    Several(DiscoveryResult),
}

/// Looks for trackers on the local network; with `wanted`, only for the one with that key. Fails with
/// [`DiscoveryError`] if the network can't be listened to.
pub async fn discover(wanted: Option<Fingerprint>) -> Result<DiscoveredTrackers, DiscoveryError> {
    Ok(choose(crate::net::discovery::discover_trackers(wanted).await?, wanted))
}

/// Returns the addresses at which trackers of this key answer on the local network; none if it can't be listened to.
pub async fn find_places(key: Fingerprint) -> Vec<SocketAddr> {
    match crate::net::discovery::discover_trackers(Some(key)).await {
        Ok(heard) => heard.trackers.into_iter().flat_map(|tracker| tracker.places).collect(),
        Err(why) => {
            tracing::info!("further trackers can't be looked for: {why}");
            Vec::new()
        }
    }
}

/// Chooses by the announced keys, whether they answer or not: a tracker must not become the only one by silencing the
/// others or crowding them out. A wanted key needs no choice.
fn choose(heard: DiscoveryResult, wanted: Option<Fingerprint>) -> DiscoveredTrackers {
    let mut there = heard.trackers.iter().filter(|tracker| tracker.reachability != Reachability::Silent);
    match (there.next(), wanted) {
        (None, _) => DiscoveredTrackers::NotFound,
        (Some(first), Some(_)) => DiscoveredTrackers::One(first.clone()),
        (Some(first), None) if heard.trackers.len() == 1 && heard.is_settled && !heard.is_cut_off => {
            DiscoveredTrackers::One(first.clone())
        }
        (Some(_), None) => DiscoveredTrackers::Several(heard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(n: u8, reachability: Reachability) -> AnnouncedTracker {
        let address = ([10, 0, 0, n], 8000).into();
        let fingerprint = Fingerprint::from_bytes([n; 32]);
        AnnouncedTracker { fingerprint, address, places: vec![address], name: "x".to_owned(), reachability }
    }

    fn heard(trackers: &[AnnouncedTracker]) -> DiscoveryResult {
        DiscoveryResult { trackers: trackers.to_vec(), is_cut_off: false, is_settled: true }
    }

    #[test]
    fn one_is_chosen_by_itself_only_where_no_other_was_heard() {
        let (one, other) = (tracker(1, Reachability::Proved), tracker(2, Reachability::Proved));
        assert_eq!(choose(heard(&[]), None), DiscoveredTrackers::NotFound);
        let alone = heard(std::slice::from_ref(&one));
        assert_eq!(choose(alone.clone(), None), DiscoveredTrackers::One(one.clone()));
        // One whose key isn't there is refused by its key, aloud.
        let false_one = tracker(3, Reachability::Unproved);
        assert_eq!(choose(heard(std::slice::from_ref(&false_one)), None), DiscoveredTrackers::One(false_one));
        for many in [
            heard(&[one.clone(), other]),
            heard(&[one.clone(), tracker(2, Reachability::Unproved)]),
            heard(&[one.clone(), tracker(2, Reachability::Silent)]),
            DiscoveryResult { is_cut_off: true, ..alone.clone() },
            DiscoveryResult { is_settled: false, ..alone.clone() },
        ] {
            assert_eq!(choose(many.clone(), None), DiscoveredTrackers::Several(many));
        }
        assert_eq!(
            choose(heard(&[tracker(1, Reachability::Silent), tracker(2, Reachability::Silent)]), None),
            DiscoveredTrackers::NotFound
        );
        // Known by its key, it is the right one whatever else is told.
        let unsettled = DiscoveryResult { is_cut_off: true, is_settled: false, ..alone };
        assert_eq!(choose(unsettled, Some(one.fingerprint)), DiscoveredTrackers::One(one));
    }
}
