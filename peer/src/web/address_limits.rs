//! Bounds for each address: open connections and running uploads. No I/O.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections at once in all, and of one address.
pub(super) const MAX_CONNECTIONS: usize = 256;
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: usize = 64;
/// Uploads at once in all, and of one address; a page has two.
const MAX_UPLOADS: usize = 32;
const MAX_UPLOADS_PER_ADDRESS: usize = 8;

/// The network from which a guest comes: an IPv4 address, or the half of an IPv6 address that one household has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GuestAddress(IpAddr);

impl GuestAddress {
    pub(super) fn of(ip: IpAddr) -> Self {
        // A socket of both families shows IPv4 as ::ffff:a.b.c.d, and all of IPv4 is in one such /64.
        match ip.to_canonical() {
            IpAddr::V6(ip) => Self(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
            ip @ IpAddr::V4(_) => Self(ip),
        }
    }
}

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

/// The address of the guest who makes a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuestPeer(IpAddr);

impl GuestPeer {
    pub(super) fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    pub(super) const fn ip(self) -> IpAddr {
        self.0
    }

    pub(super) fn address(self) -> GuestAddress {
        GuestAddress::of(self.0)
    }
}

/// The connections, or running uploads, that a server has at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressLimits {
    /// In all.
    pub(super) total: usize,
    /// Of one address.
    pub(super) per_address: usize,
}

/// The open connections of each address, or its running uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct AddressCounts {
    limits: AddressLimits,
    open: Arc<Mutex<HashMap<GuestAddress, usize>>>,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self { total: MAX_CONNECTIONS, per_address: MAX_CONNECTIONS_PER_ADDRESS }
    }
}

/// A counted connection or upload, until it is dropped.
#[derive(Debug)]
pub(super) struct AddressPermit {
    counts: AddressCounts,
    address: GuestAddress,
}

impl AddressCounts {
    /// Returns none yet.
    pub(super) fn new(limits: AddressLimits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// Returns the counts of uploads, which may trickle for as long as they like.
    pub(super) fn of_uploads() -> Self {
        Self::new(AddressLimits { total: MAX_UPLOADS, per_address: MAX_UPLOADS_PER_ADDRESS })
    }

    /// Counts a connection or an upload; `None` if it would be one too many.
    pub(super) fn admit(&self, address: GuestAddress) -> Option<AddressPermit> {
        let mut counts = self.open.lock();
        let all: usize = counts.values().sum();
        let own = counts.get(&address).copied().unwrap_or(0);
        if all >= self.limits.total || own >= self.limits.per_address {
            return None;
        }
        counts.insert(address, own + 1);
        Some(AddressPermit { counts: self.clone(), address })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.open.lock();
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            // No entry stays, or the table would grow with every address that ever came.
            _ => drop(counts.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> GuestAddress {
        GuestAddress::of(text.parse().unwrap())
    }

    #[test]
    fn a_household_is_one_address() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn connections_are_bounded_for_each_and_for_all() {
        let counts = AddressCounts::new(AddressLimits::default());
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_PER_ADDRESS).map(|_| counts.admit(address("192.0.2.1"))).collect();
        assert!(held.iter().all(Option::is_some) && counts.admit(address("192.0.2.1")).is_none());
        held.pop();
        held.push(counts.admit(address("192.0.2.1")));
        assert!(held.iter().all(Option::is_some));
        for number in 0..MAX_CONNECTIONS - MAX_CONNECTIONS_PER_ADDRESS {
            held.push(counts.admit(address(&format!("10.0.{}.{}", number / 200, number % 200))));
        }
        assert!(held.iter().all(Option::is_some) && counts.admit(address("192.0.2.9")).is_none());
        drop(held);
        assert!(counts.open.lock().is_empty());
    }
}
