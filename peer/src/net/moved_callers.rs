//! Packets from addresses from which nobody called.
//!
//! Whoever has a link may come from another address in the middle of it (RFC 9000, section 9): a machine that changes its
//! network, a router that gives out another port. quinn then sends a packet there to see whether somebody answers, and until
//! then three times as many bytes as came from there, and the rest of a packet beyond. For a small packet, on which somebody
//! wrote the address of somebody else, that is much. So few addresses are new at once.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | addresses that are new without a call | 64 at once, then 8 a second | what comes from there is dropped; whoever is there says it again |
//! | addresses that are remembered | 16,384 | those that were silent for 30 s are forgotten, then none is new |
//!
//! A packet that begins a call has 1,200 bytes at least: it is no small one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::addresses::without_scope;
use super::burst_limit::BurstLimit;

/// What a packet has that begins a call (RFC 9000, section 14.1).
const FIRST_PACKET_BYTES: usize = 1200;
/// Addresses that are new without a call.
const NEW_ADDRESSES: BurstLimit = BurstLimit { burst: 64, interval: Duration::from_millis(125) };
/// Addresses that are remembered, and how long one may be silent: longer than a link may.
const ADDRESSES: usize = 16 * 1024;
const SILENT: Duration = Duration::from_secs(30);
/// How often it is looked for those that are silent, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The addresses from which somebody called, or to which a link moved.
#[derive(Debug)]
pub(super) struct MovedCallers(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// When each was heard last.
    heard: HashMap<SocketAddr, Instant>,
    looked: Option<Instant>,
    /// When as many may be new at once as ever.
    rested_at: Option<Instant>,
}

impl MovedCallers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Known { heard: HashMap::new(), looked: None, rested_at: None }))
    }

    /// Notes that somebody called from an address, or is called there.
    pub(super) fn note_call(&self, address: SocketAddr, now: Instant) {
        self.known().remember(without_scope(address), now);
    }

    /// Whether a packet of so many bytes that comes from an address is taken.
    pub(super) fn takes(&self, address: SocketAddr, bytes: usize, now: Instant) -> bool {
        let (mut known, address) = (self.known(), without_scope(address));
        if let Some(heard) = known.heard.get_mut(&address) {
            *heard = now;
            return true;
        }
        // No entry for a first packet: a flood of them gets a Retry, and only a call that is taken up is noted.
        bytes >= FIRST_PACKET_BYTES || (known.may_be_new(now) && known.remember(address, now))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

impl Known {
    fn may_be_new(&mut self, now: Instant) -> bool {
        let taken = NEW_ADDRESSES.try_take(self.rested_at, 1, now);
        self.rested_at = taken.or(self.rested_at);
        taken.is_some()
    }

    fn remember(&mut self, address: SocketAddr, now: Instant) -> bool {
        // At most once a second: a flood would make each packet walk the whole table.
        if self.heard.len() >= ADDRESSES && self.looked.is_none_or(|looked| now >= looked + LOOK_EVERY) {
            self.looked = Some(now);
            self.heard.retain(|_, heard| now.saturating_duration_since(*heard) < SILENT);
        }
        let has_room = self.heard.len() < ADDRESSES || self.heard.contains_key(&address);
        if has_room {
            self.heard.insert(address, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 40;

    fn address(n: usize) -> SocketAddr {
        ([10, 0, u8::try_from(n / 60_000).unwrap(), 1], u16::try_from(1024 + n % 60_000).unwrap()).into()
    }

    #[test]
    fn few_addresses_are_new_at_once_and_callers_are_heard() {
        let (callers, mut now) = (MovedCallers::new(), Instant::now());
        let new = |from: usize, now| (from..from + 1000).filter(|n| callers.takes(address(*n), SMALL, now)).count();
        assert!(callers.takes(address(5000), FIRST_PACKET_BYTES, now), "a call");
        callers.note_call(address(5000), now);
        assert_eq!(new(0, now), 64);
        assert_eq!(new(0, now), 64, "the same");
        assert!(callers.takes(address(5000), SMALL, now) && callers.takes(address(6000), FIRST_PACKET_BYTES, now));
        now += Duration::from_secs(2);
        assert_eq!(new(1000, now), 16);
        now += Duration::from_secs(60);
        assert_eq!(new(2000, now), 64);
    }

    #[test]
    fn addresses_are_not_remembered_without_end() {
        let (callers, now) = (MovedCallers::new(), Instant::now());
        (0..ADDRESSES * 2).for_each(|n| callers.note_call(address(n), now));
        assert_eq!(callers.known().heard.len(), ADDRESSES);
        assert!(!callers.takes(address(ADDRESSES * 2), SMALL, now));
        assert!(callers.takes(address(0), SMALL, now + SILENT));
        assert!(callers.takes(address(ADDRESSES * 2), SMALL, now + SILENT));
        assert_eq!(callers.known().heard.len(), 2);
    }
}
