//! Finding a tracker when none is known.

use shared::Fingerprint;

use crate::net::discovery::{AnnouncedTracker, Neighbourhood, Reachability};

pub use crate::net::discovery::{DiscoveryError, LISTEN_FOR};

/// The trackers that were heard, and what that comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovered {
    /// Nobody is there.
    Nobody,
    /// One alone, or the one that was wanted.
    One(AnnouncedTracker),
    /// Somebody has to choose.
    Several(Neighbourhood),
}

/// Looks for trackers on the local network; where one key is `wanted`, only for that one.
///
/// # Errors
/// [`DiscoveryError`] when the network can't be listened to.
pub async fn look(wanted: Option<Fingerprint>) -> Result<Discovered, DiscoveryError> {
    Ok(choice(crate::net::discovery::neighbourhood(wanted).await?, wanted))
}

/// Decides on the keys that were heard, whether they answer or not: whoever makes the others silent, or crowds them out,
/// must not be the only one by that. A key that is wanted needs no decision.
fn choice(heard: Neighbourhood, wanted: Option<Fingerprint>) -> Discovered {
    let mut there = heard.trackers.iter().filter(|tracker| tracker.reachability != Reachability::Silent);
    match (there.next(), wanted) {
        (None, _) => Discovered::Nobody,
        (Some(first), Some(_)) => Discovered::One(first.clone()),
        (Some(first), None) if heard.trackers.len() == 1 && heard.is_settled && !heard.is_cut_off => {
            Discovered::One(first.clone())
        }
        (Some(_), None) => Discovered::Several(heard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(n: u8, reachability: Reachability) -> AnnouncedTracker {
        let address = ([10, 0, 0, n], 8000).into();
        AnnouncedTracker { fingerprint: Fingerprint::from_bytes([n; 32]), address, name: "x".to_owned(), reachability }
    }

    fn heard(trackers: &[AnnouncedTracker]) -> Neighbourhood {
        Neighbourhood { trackers: trackers.to_vec(), is_cut_off: false, is_settled: true }
    }

    #[test]
    fn one_is_chosen_by_itself_only_where_no_other_was_heard() {
        let (one, other) = (tracker(1, Reachability::Proved), tracker(2, Reachability::Proved));
        assert_eq!(choice(heard(&[]), None), Discovered::Nobody);
        let alone = heard(std::slice::from_ref(&one));
        assert_eq!(choice(alone.clone(), None), Discovered::One(one.clone()));
        // One whose key isn't there is refused by its key, aloud.
        let false_one = tracker(3, Reachability::Unproved);
        assert_eq!(choice(heard(std::slice::from_ref(&false_one)), None), Discovered::One(false_one));
        for many in [
            heard(&[one.clone(), other]),
            heard(&[one.clone(), tracker(2, Reachability::Unproved)]),
            heard(&[one.clone(), tracker(2, Reachability::Silent)]),
            Neighbourhood { is_cut_off: true, ..alone.clone() },
            Neighbourhood { is_settled: false, ..alone.clone() },
        ] {
            assert_eq!(choice(many.clone(), None), Discovered::Several(many));
        }
        assert_eq!(
            choice(heard(&[tracker(1, Reachability::Silent), tracker(2, Reachability::Silent)]), None),
            Discovered::Nobody
        );
        // Known by its key, it is the right one whatever else is told.
        let unsettled = Neighbourhood { is_cut_off: true, is_settled: false, ..alone };
        assert_eq!(choice(unsettled, Some(one.fingerprint)), Discovered::One(one));
    }
}
