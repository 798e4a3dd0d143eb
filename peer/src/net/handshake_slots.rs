//! Slots for callers that are not identified yet.
//!
//! Every caller gets a slot. If there are too many, the caller that has been in the handshake for the longest is
//! evicted. An honest caller needs a few round trips only, so it is never the oldest among callers that merely occupy
//! slots.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | from the first packet to being identified | 5 s | closed |
//! | callers of one address | 96 | the oldest of them is closed |
//! | callers of one IPv6 network (/64) | 192 | the same |
//! | callers in all | 256 | the oldest one of the address with the most callers is closed |
//! | callers in all, before new ones must prove their address (RFC 9000, section 8.1.2) | 48 | a Retry packet |
//! | refused callers that are told the reason | 64, for 1 s | closed at once, with the reason in the close frame |

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use shared::Ipv6Network;
use tokio_util::sync::CancellationToken;

const PER_ADDRESS: usize = 96;
const PER_NETWORK: usize = 192;
const MAX_CALLERS: usize = 256;
const RETRY_THRESHOLD: usize = 48;

/// The slots. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakeSlots(Arc<Mutex<HandshakeQueue>>);

/// A caller's slot, released when it is dropped.
#[derive(Debug)]
pub(super) struct HandshakeSlot {
    slots: HandshakeSlots,
    number: u64,
    evicted: CancellationToken,
}

/// The callers in the order of arrival. Pure.
#[derive(Debug, Default)]
struct HandshakeQueue {
    next: u64,
    callers: BTreeMap<u64, (CallerOrigin, CancellationToken)>,
}

/// The origin of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CallerOrigin {
    address: IpAddr,
    network: Option<Ipv6Network>,
}

impl HandshakeSlots {
    /// Returns a slot for a caller from `ip`, evicting another caller if necessary.
    pub(super) fn acquire(&self, ip: IpAddr) -> HandshakeSlot {
        let evicted = CancellationToken::new();
        let number = self.queue().push(CallerOrigin::of(ip), evicted.clone());
        HandshakeSlot { slots: self.clone(), number, evicted }
    }

    /// True if the number of callers in the handshake requires the next one to prove its address.
    pub(super) fn is_retry_needed(&self) -> bool {
        self.queue().callers.len() >= RETRY_THRESHOLD
    }

    fn queue(&self) -> MutexGuard<'_, HandshakeQueue> {
        self.0.lock()
    }
}

impl HandshakeSlot {
    /// Waits until the slot is given to another caller.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        // An evicted caller's entry is gone already.
        self.slots.queue().callers.remove(&self.number);
    }
}

impl HandshakeQueue {
    fn push(&mut self, origin: CallerOrigin, evicted: CancellationToken) -> u64 {
        let of_address = |other: &CallerOrigin| other.address == origin.address;
        // Per address first: a flood from one address then evicts only its own callers.
        self.evict_oldest(PER_ADDRESS, of_address);
        // A machine has as many addresses of its /64 as it likes, which the bound per address doesn't see.
        if origin.network.is_some() {
            self.evict_oldest(PER_NETWORK, |other| other.network == origin.network);
        }
        // From the heaviest address, as a flood from there must not evict everybody else.
        if self.callers.len() >= MAX_CALLERS
            && let Some(heaviest) = self.heaviest()
        {
            self.evict_oldest(0, |other| other.address == heaviest);
        }
        let number = self.next;
        self.next += 1;
        self.callers.insert(number, (origin, evicted));
        number
    }

    /// Evicts the oldest affected caller, if there are at least `bound` of them.
    fn evict_oldest(&mut self, bound: usize, is_affected: impl Fn(&CallerOrigin) -> bool) {
        // The numbers increase with arrival, so the map's first entry is the oldest.
        let mut meant = self.callers.iter().filter(|(_, (origin, _))| is_affected(origin));
        let Some((oldest, _)) = meant.next() else { return };
        if 1 + meant.count() >= bound {
            let oldest = *oldest;
            if let Some((_, lost)) = self.callers.remove(&oldest) {
                lost.cancel();
            }
        }
    }

    /// Returns the address with the most callers; of several, the one with the oldest caller.
    fn heaviest(&self) -> Option<IpAddr> {
        let mut counts: HashMap<IpAddr, (usize, Reverse<u64>)> = HashMap::new();
        for (number, (origin, _)) in &self.callers {
            // They come in the order of arrival, so the first of an address is its oldest.
            counts.entry(origin.address).or_insert((0, Reverse(*number))).0 += 1;
        }
        counts.into_iter().max_by_key(|(_, weight)| *weight).map(|(address, _)| address)
    }
}

impl CallerOrigin {
    const fn of(ip: IpAddr) -> Self {
        Self { address: ip.to_canonical(), network: Ipv6Network::of(ip) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(place: &HandshakeSlot) -> bool {
        place.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_of_a_crowd_gives_way_and_nobody_else() {
        let places = HandshakeSlots::default();
        let friend = places.acquire("10.0.0.2".parse().unwrap());
        let crowd: Vec<_> = (0..PER_ADDRESS + 20).map(|_| places.acquire("::ffff:10.0.0.9".parse().unwrap())).collect();
        assert_eq!(crowd.iter().filter(|place| lost(place)).count(), 20);
        assert!(crowd[..20].iter().all(lost) && !lost(&friend));
        drop(crowd);
        assert_eq!(places.queue().callers.len(), 1);
    }

    #[test]
    fn a_network_counts_as_well_as_its_addresses() {
        let places = HandshakeSlots::default();
        let friend = places.acquire("2001:db8:0:1::5".parse().unwrap());
        let crowd: Vec<_> =
            (0..PER_NETWORK + 7).map(|n| places.acquire(format!("2001:db8::{n:x}").parse().unwrap())).collect();
        assert!(crowd[..7].iter().all(lost) && !crowd[7..].iter().any(lost) && !lost(&friend));
    }

    #[test]
    fn however_many_addresses_the_one_with_the_most_gives_way() {
        let places = HandshakeSlots::default();
        let heavy: Vec<_> = (0..3).map(|_| places.acquire("10.9.9.9".parse().unwrap())).collect();
        let others: Vec<_> = (0..MAX_CALLERS)
            .map(|n| places.acquire(format!("10.0.{}.{}", n / 250, n % 250).parse().unwrap()))
            .collect();
        assert_eq!(places.queue().callers.len(), MAX_CALLERS);
        assert!(heavy.iter().all(lost), "two of them as the heaviest, one as the oldest of all");
        assert!(!others.iter().any(lost));
    }
}
