//! Bounds for each address: open connections, and wrong codes. No I/O: `now` is an argument.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Connections at once in all, and of one address.
pub(super) const MAX_CONNECTIONS: usize = 256;
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: usize = 64;
/// Uploads at once in all, and of one address; a page has two.
const MAX_UPLOADS: usize = 32;
const MAX_UPLOADS_PER_ADDRESS: usize = 8;
/// Wrong codes of one address before it has to wait, and the time after which one of them is forgiven.
const MAX_WRONG_CODES: u32 = 10;
const FORGIVENESS: Duration = Duration::from_secs(30);
/// Addresses that are remembered for their wrong codes.
const MAX_REMEMBERED: usize = 4096;

/// The network from which a guest comes: an IPv4 address, or the half of an IPv6 address that one household has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GuestAddress(IpAddr);

impl GuestAddress {
    pub(super) fn of(ip: IpAddr) -> Self {
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
pub(super) struct ConnectionLimits {
    /// In all.
    pub(super) total: usize,
    /// Of one address.
    pub(super) per_address: usize,
}

/// The open connections of each address, or its running uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ConnectionCounts {
    limits: ConnectionLimits,
    open: Arc<Mutex<HashMap<GuestAddress, usize>>>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: MAX_CONNECTIONS, per_address: MAX_CONNECTIONS_PER_ADDRESS }
    }
}

/// A counted connection or upload, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    counts: ConnectionCounts,
    address: GuestAddress,
}

impl ConnectionCounts {
    /// Returns none yet.
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// Returns the counts of uploads, which may trickle for as long as they like.
    pub(super) fn of_uploads() -> Self {
        Self::new(ConnectionLimits { total: MAX_UPLOADS, per_address: MAX_UPLOADS_PER_ADDRESS })
    }

    /// Counts a connection or an upload; `None` if it would be one too many.
    pub(super) fn admit(&self, address: GuestAddress) -> Option<ConnectionPermit> {
        let mut counts = self.open.lock();
        let all: usize = counts.values().sum();
        let own = counts.get(&address).copied().unwrap_or(0);
        if all >= self.limits.total || own >= self.limits.per_address {
            return None;
        }
        counts.insert(address, own + 1);
        Some(ConnectionPermit { counts: self.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.open.lock();
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.address)),
        }
    }
}

/// The wrong codes of each address.
#[derive(Debug, Default)]
pub(super) struct WrongCodes(HashMap<GuestAddress, (u32, Instant)>);

impl WrongCodes {
    /// Returns how long an address has to wait before another code of it is looked at; `None` if it needn't.
    pub(super) fn wait(&self, address: GuestAddress, now: Instant) -> Option<Duration> {
        let (count, since) = *self.0.get(&address)?;
        if remaining(count, since, now) < MAX_WRONG_CODES {
            return None;
        }
        let passed = now.saturating_duration_since(since).as_secs() % FORGIVENESS.as_secs();
        Some(FORGIVENESS.saturating_sub(Duration::from_secs(passed)))
    }

    /// Counts a wrong code.
    pub(super) fn add(&mut self, address: GuestAddress, now: Instant) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&address) {
            self.0.retain(|_, (count, since)| remaining(*count, *since, now) > 0);
            if self.0.len() >= MAX_REMEMBERED
                && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address)
            {
                self.0.remove(&oldest);
            }
        }
        let (count, since) = self.0.get(&address).copied().unwrap_or((0, now));
        let left = remaining(count, since, now);
        // Forgiven ones leave; the time of the next forgiveness stays.
        let since = if left == 0 { now } else { since + FORGIVENESS * (count - left) };
        // Capped, so that nobody waits for longer than one wrong code takes to be forgiven.
        self.0.insert(address, (left.saturating_add(1).min(MAX_WRONG_CODES), since));
    }
}

/// Returns how many wrong codes are not forgiven yet.
fn remaining(count: u32, since: Instant, now: Instant) -> u32 {
    let forgiven = now.saturating_duration_since(since).as_secs() / FORGIVENESS.as_secs();
    count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
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
        let counts = ConnectionCounts::new(ConnectionLimits::default());
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

    #[test]
    fn wrong_codes_are_forgiven_one_by_one() {
        let (mut codes, now) = (WrongCodes::default(), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..MAX_WRONG_CODES {
            assert_eq!(codes.wait(guesser, now), None);
            codes.add(guesser, now);
        }
        assert_eq!((codes.wait(guesser, now), codes.wait(other, now)), (Some(FORGIVENESS), None));
        assert_eq!(codes.wait(guesser, now + Duration::from_secs(20)), Some(Duration::from_secs(10)));
        assert_eq!(codes.wait(guesser, now + FORGIVENESS), None);
        codes.add(guesser, now + FORGIVENESS);
        assert!(codes.wait(guesser, now + FORGIVENESS).is_some(), "one was forgiven, and one is new");
        assert_eq!(codes.wait(guesser, now + FORGIVENESS * 100), None);
        for number in 0..2 * MAX_REMEMBERED {
            codes.add(address(&format!("10.1.{}.{}", number / 250, number % 250)), now);
        }
        assert!(codes.0.len() <= MAX_REMEMBERED);
    }
}
