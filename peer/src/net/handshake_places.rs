//! Places for callers that are not identified yet.
//!
//! Whoever comes gets a place; where there are too many, the one that has been on its way for the longest loses its own. A
//! caller that means it needs a few round trips, so that it is never the oldest among those who only keep places.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | from the first packet to being identified | 5 s | closed |
//! | callers of one address | 96 | the oldest of them is closed |
//! | callers of one IPv6 network (/64) | 192 | the same |
//! | callers in all | 256 | the oldest of the address that has the most is closed |
//! | callers in all, before further ones must prove their address (RFC 9000, section 8.1.2) | 48 | |
//! | callers that are turned away and hear why | 64, for 1 s | closed at once, with the reason |

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

const PER_ADDRESS: usize = 96;
const PER_NETWORK: usize = 192;
const IN_ALL: usize = 256;
const BEFORE_RETRY: usize = 48;

/// The places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakePlaces(Arc<Mutex<Queue>>);

/// A caller's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct HandshakePlace {
    places: HandshakePlaces,
    number: u64,
    lost: CancellationToken,
}

/// Callers in the order in which they came. Pure.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    callers: BTreeMap<u64, (Origin, CancellationToken)>,
}

/// Where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin {
    address: IpAddr,
    /// The network of which one machine may have any number of addresses.
    network: Option<Ipv6Addr>,
}

impl HandshakePlaces {
    /// A place for one more caller from there, perhaps that of another one.
    pub(super) fn enter(&self, ip: IpAddr) -> HandshakePlace {
        let lost = CancellationToken::new();
        let number = self.queue().enter(Origin::of(ip), lost.clone());
        HandshakePlace { places: self.clone(), number, lost }
    }

    /// Whether so many are on their way that the next one has to prove its address.
    pub(super) fn are_many(&self) -> bool {
        self.queue().callers.len() >= BEFORE_RETRY
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakePlace {
    /// Waits until it is another's.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.places.queue().callers.remove(&self.number);
    }
}

impl Queue {
    fn enter(&mut self, origin: Origin, lost: CancellationToken) -> u64 {
        let of_address = |other: &Origin| other.address == origin.address;
        self.make_room(PER_ADDRESS, of_address);
        if origin.network.is_some() {
            self.make_room(PER_NETWORK, |other| other.network == origin.network);
        }
        if self.callers.len() >= IN_ALL
            && let Some(heaviest) = self.heaviest()
        {
            self.make_room(0, |other| other.address == heaviest);
        }
        let number = self.next;
        self.next += 1;
        self.callers.insert(number, (origin, lost));
        number
    }

    /// Ends the oldest of those who are meant, if there are `bound` of them or more.
    fn make_room(&mut self, bound: usize, is_meant: impl Fn(&Origin) -> bool) {
        let mut meant = self.callers.iter().filter(|(_, (origin, _))| is_meant(origin));
        let Some((oldest, _)) = meant.next() else { return };
        if 1 + meant.count() >= bound {
            let oldest = *oldest;
            if let Some((_, lost)) = self.callers.remove(&oldest) {
                lost.cancel();
            }
        }
    }

    /// The address that has the most callers; of several, that of the oldest.
    fn heaviest(&self) -> Option<IpAddr> {
        let mut counts: HashMap<IpAddr, (usize, Reverse<u64>)> = HashMap::new();
        for (number, (origin, _)) in &self.callers {
            counts.entry(origin.address).or_insert((0, Reverse(*number))).0 += 1;
        }
        counts.into_iter().max_by_key(|(_, weight)| *weight).map(|(address, _)| address)
    }
}

impl Origin {
    const fn of(ip: IpAddr) -> Self {
        let address = ip.to_canonical();
        let network = match address {
            IpAddr::V6(v6) if !v6.is_loopback() => Some(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        Self { address, network }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(place: &HandshakePlace) -> bool {
        place.lost.is_cancelled()
    }

    #[test]
    fn the_oldest_of_a_crowd_gives_way_and_nobody_else() {
        let places = HandshakePlaces::default();
        let friend = places.enter("10.0.0.2".parse().unwrap());
        let crowd: Vec<_> = (0..PER_ADDRESS + 20).map(|_| places.enter("::ffff:10.0.0.9".parse().unwrap())).collect();
        assert_eq!(crowd.iter().filter(|place| lost(place)).count(), 20);
        assert!(crowd[..20].iter().all(lost) && !lost(&friend));
        drop(crowd);
        assert_eq!(places.queue().callers.len(), 1);
    }

    #[test]
    fn a_network_counts_as_well_as_its_addresses() {
        let places = HandshakePlaces::default();
        let friend = places.enter("2001:db8:0:1::5".parse().unwrap());
        let crowd: Vec<_> =
            (0..PER_NETWORK + 7).map(|n| places.enter(format!("2001:db8::{n:x}").parse().unwrap())).collect();
        assert!(crowd[..7].iter().all(lost) && !crowd[7..].iter().any(lost) && !lost(&friend));
    }

    #[test]
    fn however_many_addresses_the_one_with_the_most_gives_way() {
        let places = HandshakePlaces::default();
        let heavy: Vec<_> = (0..3).map(|_| places.enter("10.9.9.9".parse().unwrap())).collect();
        let others: Vec<_> =
            (0..IN_ALL).map(|n| places.enter(format!("10.0.{}.{}", n / 250, n % 250).parse().unwrap())).collect();
        assert_eq!(places.queue().callers.len(), IN_ALL);
        assert!(heavy.iter().all(lost), "two of them as the heaviest, one as the oldest of all");
        assert!(!others.iter().any(lost));
    }
}
