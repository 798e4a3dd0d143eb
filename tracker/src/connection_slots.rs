//! Slots for connections, bounded in total, for one address and for one IPv6 network.
//!
//! A connection with a login reserves its slot, up to a number for each user, origin and network, and never all slots.
//! When no slot is free, one without a reservation is evicted for the newcomer: the longest idle one of the address
//! that holds most, if the newcomer's address holds fewer; else one that has been idle for `EVICTION_IDLE_TIME`. So a
//! few addresses with many connections can't keep others out, and connections that are merely slow are not evicted.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | connections | `--max-connections` | the longest idle one without a reservation is evicted: of the address that holds most, if that is more than the newcomer's, or after 5 s; else one `busy` line, closed |
//! | connections from one address, or of one person behind a door | `--max-connections-per-ip` | likewise |
//! | connections from one IPv6 network (/64) | three quarters of `--max-connections` | likewise |
//! | slots reserved by logins | 16 for a user, 256 at an origin, half of `--max-connections` in an IPv6 network, three quarters in all | those connections may be evicted like others |

mod slot_activity;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::UserName;

use crate::keyed_counter::KeyedCounter;
use crate::quota_table::{ExhaustedQuota, QuotaLimits, QuotaTable};
use crate::rate_limits::ClientOrigin;
pub use slot_activity::SlotActivity;

/// Slots reserved for one user.
const RESERVED_PER_USER: usize = 16;
/// Slots reserved for the logins of one origin.
const RESERVED_PER_ORIGIN: usize = 256;
/// The idle time after which a connection is evicted even for an address that holds as many.
const EVICTION_IDLE_TIME: Duration = Duration::from_secs(5);
/// Addresses searched for a connection to evict, those with most connections first.
const MAX_EVICTION_CANDIDATES: usize = 64;

/// The limits of connections from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerAddressLimits {
    /// For an address of the network.
    pub remote: usize,
    /// For this machine itself, where proxies and forwarders connect from.
    pub loopback: usize,
}

/// The limit that leaves no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum SlotsExhausted {
    #[error("the tracker has too many connections")]
    Total,
    #[error("the tracker has too many connections from this address")]
    PerOrigin,
    #[error("the tracker has too many connections from this network")]
    PerNetwork,
}

/// All slots.
#[derive(Debug)]
pub struct ConnectionSlots {
    table: Arc<Mutex<SlotTable>>,
}

/// One connection's slot, free again when this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    number: u64,
    from: ClientOrigin,
    activity: Arc<SlotActivity>,
    /// The login that reserved the slot; `None` while the connection may be evicted.
    reservation: Option<SlotReservation>,
    table: Arc<Mutex<SlotTable>>,
}

/// A login that reserves a slot.
#[derive(Debug)]
struct SlotReservation {
    user: UserName,
    from: ClientOrigin,
}

#[derive(Debug)]
struct SlotTable {
    limit: usize,
    per_address: PerAddressLimits,
    last_number: u64,
    counts: QuotaTable,
    by_address: HashMap<ClientOrigin, BTreeMap<u64, Arc<SlotActivity>>>,
    /// The addresses by their number of slots.
    by_count: BTreeSet<(usize, ClientOrigin)>,
    reservations: ReservationCounts,
}

/// The numbers of reserved slots.
#[derive(Debug, Default)]
struct ReservationCounts {
    all: QuotaTable,
    by_user: KeyedCounter<UserName>,
}

impl ConnectionSlots {
    /// Creates the slots, all of them free.
    pub fn new(limit: usize, per_address: PerAddressLimits) -> Self {
        let table = SlotTable {
            limit,
            per_address,
            last_number: 0,
            counts: QuotaTable::default(),
            by_address: HashMap::new(),
            by_count: BTreeSet::new(),
            reservations: ReservationCounts::default(),
        };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Changes the limits; slots in use stay in use.
    pub fn set_limits(&self, limit: usize, per_address: PerAddressLimits) {
        let mut table = self.table.lock();
        (table.limit, table.per_address) = (limit, per_address);
    }

    /// Acquires a slot for a connection from this address, by evicting another one if necessary. Fails with
    /// [`SlotsExhausted`] when a limit is reached and no connection may be evicted.
    pub fn acquire(&self, from: IpAddr, now: Instant) -> Result<ConnectionSlot, SlotsExhausted> {
        let from = ClientOrigin::of(from);
        let mut table = self.table.lock();
        // Eviction frees the slot at once; the evicted connection ends a moment later by itself.
        if let Some(full) = table.exhausted_limit(from) {
            let (number, other) = table.eviction_candidate(full, from, now).ok_or(full)?;
            if let Some(activity) = table.remove(number, other) {
                activity.evict();
            }
        }
        let activity = Arc::new(SlotActivity::new(now));
        let number = table.add(from, Arc::clone(&activity));
        Ok(ConnectionSlot { number, from, activity, reservation: None, table: Arc::clone(&self.table) })
    }
}

impl ConnectionSlot {
    /// Reserves the slot for a user who logged in, unless too many are reserved.
    pub fn reserve_for(&mut self, user: &UserName) {
        // One reservation keeps the connection: a further login on it takes no more.
        if self.reservation.is_some() {
            return;
        }
        let mut table = self.table.lock();
        let kept = SlotReservation { user: user.clone(), from: self.from };
        let limit = table.limit;
        if table.reservations.add(&kept, limit) {
            self.activity.mark_reserved();
            self.reservation = Some(kept);
        }
    }

    /// Counts the connection for another origin, once a door has named its person. Fails with [`SlotsExhausted`] when
    /// that origin has no slot left; the connection then has none any more.
    pub fn move_to(&mut self, from: ClientOrigin) -> Result<(), SlotsExhausted> {
        let mut table = self.table.lock();
        // Evicted in the meantime: the connection is about to end.
        if table.remove(self.number, self.from).is_none() {
            return Ok(());
        }
        table.exhausted_limit(from).map_or(Ok(()), Err)?;
        (self.number, self.from) = (table.add(from, Arc::clone(&self.activity)), from);
        Ok(())
    }

    /// Returns the activity, which the connection updates.
    pub fn activity(&self) -> Arc<SlotActivity> {
        Arc::clone(&self.activity)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.remove(self.number, self.from);
        self.reservation.take().iter().for_each(|kept| table.reservations.remove(kept));
    }
}

impl ReservationCounts {
    /// Adds a reservation if the limits allow it. Returns whether they do.
    fn add(&mut self, kept: &SlotReservation, limit: usize) -> bool {
        let SlotReservation { user, from } = kept;
        let limits = QuotaLimits {
            total: limit - limit / 4,
            per_origin: RESERVED_PER_ORIGIN,
            loopback: limit,
            per_network: limit / 2,
        };
        // The user's limit first: `try_add` has an effect that would have to be undone.
        let may = self.by_user.get(user) < RESERVED_PER_USER && self.all.try_add(*from, 1, limits).is_ok();
        if may {
            self.by_user.add(user.clone(), 1);
        }
        may
    }

    fn remove(&mut self, kept: &SlotReservation) {
        self.by_user.subtract(&kept.user, 1);
        self.all.subtract(kept.from, 1);
    }
}

impl From<ExhaustedQuota> for SlotsExhausted {
    fn from(limit: ExhaustedQuota) -> Self {
        match limit {
            ExhaustedQuota::Total => Self::Total,
            ExhaustedQuota::PerOrigin => Self::PerOrigin,
            ExhaustedQuota::PerNetwork => Self::PerNetwork,
        }
    }
}

impl SlotTable {
    fn exhausted_limit(&self, from: ClientOrigin) -> Option<SlotsExhausted> {
        let PerAddressLimits { remote, loopback } = self.per_address;
        let shared = QuotaLimits::shared(self.limit, remote.min(self.limit));
        let limits = QuotaLimits { per_origin: remote, loopback, ..shared };
        self.counts.check(from, 1, limits).err().map(Into::into)
    }

    fn eviction_candidate(
        &self,
        full: SlotsExhausted,
        from: ClientOrigin,
        now: Instant,
    ) -> Option<(u64, ClientOrigin)> {
        let here = self.count_of(from);
        let may_go = |count: usize, origin: ClientOrigin| {
            // If the newcomer's address then held as many, the evicted client could come back and evict in turn.
            let quiet = if count > here + 1 { Duration::ZERO } else { EVICTION_IDLE_TIME };
            self.longest_idle(origin, now, quiet).map(|number| (number, origin))
        };
        let addresses = self.by_count.iter().rev().copied();
        match full {
            // Only the address's own connections can relieve its limit.
            SlotsExhausted::PerOrigin => may_go(here, from),
            SlotsExhausted::PerNetwork => addresses
                .filter(|(_, origin)| origin.network() == from.network())
                .take(MAX_EVICTION_CANDIDATES)
                .find_map(|(count, origin)| may_go(count, origin)),
            SlotsExhausted::Total => {
                addresses.take(MAX_EVICTION_CANDIDATES).find_map(|(count, origin)| may_go(count, origin))
            }
        }
    }

    fn longest_idle(&self, origin: ClientOrigin, now: Instant, at_least: Duration) -> Option<u64> {
        // A scan of one address's connections, which only happens when a limit is reached.
        let held = self.by_address.get(&origin)?.iter();
        let quiet = held.filter_map(|(number, activity)| Some((activity.evictable_since()?, *number)));
        let (since, number) = quiet.min()?;
        (now.saturating_duration_since(since) >= at_least).then_some(number)
    }

    fn count_of(&self, from: ClientOrigin) -> usize {
        self.counts.at_origin(from)
    }

    fn add(&mut self, from: ClientOrigin, activity: Arc<SlotActivity>) -> u64 {
        self.last_number += 1;
        let held = self.by_address.entry(from).or_default();
        // The set is ordered by count, so the entry has to move.
        self.by_count.remove(&(held.len(), from));
        held.insert(self.last_number, activity);
        self.by_count.insert((held.len(), from));
        self.counts.add(from, 1);
        self.last_number
    }

    /// Removes a slot; `None` if it was evicted already.
    fn remove(&mut self, number: u64, from: ClientOrigin) -> Option<Arc<SlotActivity>> {
        let held = self.by_address.get_mut(&from)?;
        let activity = held.remove(&number)?;
        self.by_count.remove(&(held.len() + 1, from));
        if held.is_empty() {
            self.by_address.remove(&from);
        } else {
            self.by_count.insert((held.len(), from));
        }
        self.counts.subtract(from, 1);
        Some(activity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_empty(slots: &ConnectionSlots) -> bool {
        let table = slots.table.lock();
        table.counts.is_empty() && table.by_address.is_empty() && table.by_count.is_empty()
    }

    #[test]
    fn in_all_and_from_one_address() {
        let now = Instant::now();
        let slots = ConnectionSlots::new(5, PerAddressLimits { remote: 2, loopback: 4 });
        let from = |text: &str| slots.acquire(ip(text), now);
        let mut held = vec![from("10.0.0.1").unwrap(), from("10.0.0.1").unwrap()];
        assert_eq!(from("::ffff:10.0.0.1").unwrap_err(), SlotsExhausted::PerOrigin);
        held.extend([from("127.0.0.1").unwrap(), from("10.0.0.3").unwrap(), from("10.0.0.4").unwrap()]);
        held.iter().for_each(|slot| slot.activity.mark_reserved());
        assert_eq!(from("10.0.0.2").unwrap_err(), SlotsExhausted::Total);
        held.remove(0);
        held.push(from("10.0.0.2").unwrap());
        slots.set_limits(9, PerAddressLimits { remote: 3, loopback: 4 });
        held.push(from("10.0.0.2").unwrap());
        held.clear();
        assert!(is_empty(&slots));
    }

    #[test]
    fn whoever_logs_in_without_end_keeps_some_places_and_never_all() {
        let now = Instant::now();
        let slots = ConnectionSlots::new(4000, PerAddressLimits { remote: 1024, loopback: 4000 });
        let user = |n: usize| format!("mallory{n}").parse::<UserName>().unwrap();
        let mut hoard = Vec::new();
        for n in 0..4000 {
            let mut slot = slots.acquire([10, 0, 0, (n % 8) as u8].into(), now).unwrap();
            slot.reserve_for(&user(n / 100));
            slot.reserve_for(&user(n / 100));
            hoard.push(slot);
        }
        assert_eq!(hoard.iter().filter(|slot| slot.reservation.is_some()).count(), 40 * RESERVED_PER_USER);
        let mut newcomer = slots.acquire(ip("10.0.1.1"), now).unwrap();
        newcomer.reserve_for(&"bob".parse().unwrap());
        assert!(newcomer.reservation.is_some());
        drop((hoard, newcomer));
        let mut hoard = Vec::new();
        for n in 0..4000 {
            let mut slot = slots.acquire([10, 0, (n % 200) as u8, 1].into(), now).unwrap();
            slot.reserve_for(&user(n / 10));
            hoard.push(slot);
        }
        assert_eq!(hoard.iter().filter(|slot| slot.reservation.is_some()).count(), 3000);
        assert!(slots.acquire(ip("10.1.1.1"), now).is_ok(), "a quarter is never kept");
        drop(hoard);
        assert!(is_empty(&slots));
        let kept = &slots.table.lock().reservations;
        assert!(kept.all.is_empty() && kept.by_user.is_empty());
    }

    #[test]
    fn people_behind_a_door_have_places_of_their_own() {
        let now = Instant::now();
        let slots = ConnectionSlots::new(100, PerAddressLimits { remote: 2, loopback: 100 });
        let person = |name: &str| ClientOrigin::behind(shared::Fingerprint::from_bytes([7; 32]), name);
        let mut all = Vec::new();
        for name in ["ana", "bia", "ana", "bia", "caio"] {
            let mut slot = slots.acquire(ip("10.0.0.1"), now).unwrap();
            slot.move_to(person(name)).unwrap();
            all.push(slot);
        }
        let mut third = slots.acquire(ip("10.0.0.1"), now).unwrap();
        assert_eq!(third.move_to(person("ana")), Err(SlotsExhausted::PerOrigin));
        drop((all, third));
        assert!(is_empty(&slots));
    }

    #[test]
    fn neighbours_in_an_ipv6_network_have_places_of_their_own() {
        let now = Instant::now();
        let slots = ConnectionSlots::new(100, PerAddressLimits { remote: 10, loopback: 100 });
        let from = |n: u128| slots.acquire(IpAddr::from((0xfd00_u128 << 112 | n).to_be_bytes()), now);
        let hoarder: Vec<ConnectionSlot> = (0..10).map(|_| from(2).unwrap()).collect();
        assert_eq!(from(2).unwrap_err(), SlotsExhausted::PerOrigin);
        let neighbour = from(3).unwrap();
        let crowd: Vec<ConnectionSlot> = (100..164).map(|n| from(n).unwrap()).collect();
        hoarder.iter().chain(&crowd).chain([&neighbour]).for_each(|slot| slot.activity.mark_reserved());
        assert_eq!(from(200).unwrap_err(), SlotsExhausted::PerNetwork);
        assert!(slots.acquire(ip("10.0.0.1"), now).is_ok());
        drop((hoarder, neighbour, crowd));
        assert!(is_empty(&slots));
    }

    #[test]
    fn a_hoard_gives_way_to_others_at_once_and_to_more_of_its_own_when_it_is_quiet() {
        let mut now = Instant::now();
        let slots = ConnectionSlots::new(20, PerAddressLimits { remote: 10, loopback: 20 });
        let logged_in = slots.acquire(ip("10.0.0.1"), now).unwrap();
        logged_in.activity.mark_reserved();
        let mut hoard: Vec<ConnectionSlot> =
            (1..20).map(|n| slots.acquire([10, 0, 1, n % 2].into(), now).unwrap()).collect();
        let newcomers: Vec<ConnectionSlot> =
            (0..12).map(|n| slots.acquire([10, 0, 2, n].into(), now).unwrap()).collect();
        assert_eq!(slots.table.lock().counts.total(), 20);
        // An evicted connection is no longer counted, however long it takes to end.
        hoard.clear();
        assert_eq!(slots.table.lock().counts.total(), 13);
        hoard.extend((0..7).map(|_| slots.acquire(ip("10.0.1.1"), now).unwrap()));
        assert_eq!(slots.acquire(ip("10.0.1.1"), now).unwrap_err(), SlotsExhausted::Total);
        now += EVICTION_IDLE_TIME;
        hoard.push(slots.acquire(ip("10.0.1.1"), now).unwrap());
        drop((logged_in, newcomers, hoard));
        assert!(is_empty(&slots));
    }
}
