//! How often somebody may try: pure, with the time as an argument.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | wrong passwords for one user from one address | `--rate-limit-logins` a minute, 2.5 times that at once | `rate_limited` |
//! | wrong passwords from one address | 5 times as many | `rate_limited` |
//! | REGISTER from one address | `--rate-limit-registrations` a minute, 5 times that at once | `rate_limited` |
//! | keys remembered | `KEYS` for each of the three | those that are nearest to being free again are forgotten |
//!
//! An attempt is charged before the password is looked at, so that many at a time win nothing, and a right password
//! gets its charge back: who knows the password may log in as often as the hashing allows. Nothing is counted for a
//! user alone: guessing at somebody's account from one address never locks out its owner at another. An IPv6 client
//! has a whole /64 to itself, which is one address here.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use shared::UserName;

/// Keys that one limit remembers.
const KEYS: usize = 65_536;
/// How many wrong passwords an address has for each that it has for one user.
const USERS_PER_ADDRESS: u32 = 5;

/// How much is too much; `None` is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Wrong passwords a minute for one user from one address.
    pub logins: Option<NonZeroU32>,
    /// REGISTER a minute from one address.
    pub registrations: Option<NonZeroU32>,
}

/// The limits, and what was used of them.
#[derive(Debug)]
pub struct Limits {
    by_user: Option<Buckets<(UserName, IpAddr)>>,
    by_address: Option<Buckets<IpAddr>>,
    registrations: Option<Buckets<IpAddr>>,
}

/// Too often: try again after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften(pub Duration);

impl Limits {
    /// Nothing is used yet.
    pub fn new(rates: Rates, now: Instant) -> Self {
        let buckets = |rate: Option<NonZeroU32>, times: u32, halves_at_once: u32| {
            rate.map(|rate| {
                let a_minute = rate.saturating_mul(NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN));
                let at_once = NonZeroU32::new(a_minute.get().saturating_mul(halves_at_once) / 2).unwrap_or(a_minute);
                (Quota::per_minute(a_minute).allow_burst(at_once), now)
            })
        };
        Self {
            by_user: buckets(rates.logins, 1, 5).map(Buckets::new),
            by_address: buckets(rates.logins, USERS_PER_ADDRESS, 5).map(Buckets::new),
            registrations: buckets(rates.registrations, 1, 10).map(Buckets::new),
        }
    }

    /// Charges one attempt with a password.
    ///
    /// # Errors
    /// [`TooOften`], and then nothing is charged.
    pub fn attempt(&self, user: &UserName, ip: IpAddr, now: Instant) -> Result<(), TooOften> {
        let address = network(ip);
        take(self.by_address.as_ref(), &address, now)?;
        take(self.by_user.as_ref(), &(user.clone(), address), now).inspect_err(|_| {
            give_back(self.by_address.as_ref(), &address);
        })
    }

    /// The attempt was no guess: its charge is given back.
    pub fn forgive(&self, user: &UserName, ip: IpAddr) {
        let address = network(ip);
        give_back(self.by_address.as_ref(), &address);
        give_back(self.by_user.as_ref(), &(user.clone(), address));
    }

    /// Charges one REGISTER.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn registration(&self, ip: IpAddr, now: Instant) -> Result<(), TooOften> {
        take(self.registrations.as_ref(), &network(ip), now)
    }
}

/// What counts as one address.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        ip => ip,
    }
}

fn take<K: Hash + Eq + Clone>(buckets: Option<&Buckets<K>>, key: &K, now: Instant) -> Result<(), TooOften> {
    buckets.map_or(Ok(()), |buckets| buckets.take(key, now))
}

fn give_back<K: Hash + Eq + Clone>(buckets: Option<&Buckets<K>>, key: &K) {
    if let Some(buckets) = buckets {
        buckets.give_back(key);
    }
}

/// One limit for many keys.
struct Buckets<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, Table<K>, Told, NoOpMiddleware<Nanos>>,
    table: Table<K>,
    /// What one cell is worth in the table.
    cell: Nanos,
}

/// The table that governor keeps its one number a key in: the time at which the key is as good as new.
struct Table<K>(Arc<Mutex<HashMap<K, Nanos>>>);

/// A clock that shows what it was told.
#[derive(Clone)]
struct Told {
    start: Instant,
    since_start: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new((quota, start): (Quota, Instant)) -> Self {
        let clock = Told { start, since_start: Arc::default() };
        let table = Table(Arc::default());
        let limiter = RateLimiter::new(quota, Table(Arc::clone(&table.0)), clock);
        Self { limiter, table, cell: quota.replenish_interval().into() }
    }

    fn take(&self, key: &K, now: Instant) -> Result<(), TooOften> {
        self.limiter.clock().tell(now);
        self.limiter.check_key(key).map_err(|not_until| TooOften(not_until.wait_time_from(self.limiter.clock().now())))
    }

    fn give_back(&self, key: &K) {
        if let Some(free_at) = self.table.lock().get_mut(key) {
            *free_at = free_at.saturating_sub(self.cell);
        }
    }
}

impl<K> Table<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Nanos>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Table<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut table = self.lock();
        let (answer, free_at) = decide(table.get(key).copied())?;
        if table.len() >= KEYS && !table.contains_key(key) {
            forget_half(&mut table);
        }
        table.insert(key.clone(), free_at);
        Ok(answer)
    }
}

/// Forgets the keys that are nearest to being as good as new.
fn forget_half<K: Hash + Eq>(table: &mut HashMap<K, Nanos>) {
    let mut times: Vec<Nanos> = table.values().copied().collect();
    let middle = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(middle);
    let middle = *middle;
    table.retain(|_, free_at| *free_at > middle);
}

impl Told {
    fn tell(&self, now: Instant) {
        let nanos = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        self.since_start.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.since_start.load(Ordering::Relaxed))
    }
}

impl<K: Hash + Eq + Clone> std::fmt::Debug for Buckets<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").field("cell", &self.cell).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits(now: Instant) -> Limits {
        Limits::new(Rates { logins: NonZeroU32::new(20), registrations: NonZeroU32::new(60) }, now)
    }

    #[test]
    fn guessing_at_one_account_is_slowed_down_and_harms_nobody_elsewhere() {
        let mut now = Instant::now();
        let (limits, bob, here, there) = (limits(now), name("bob"), ip("10.0.0.1"), ip("10.0.0.2"));
        for _ in 0..50 {
            assert_eq!(limits.attempt(&bob, here, now), Ok(()));
        }
        let TooOften(wait) = limits.attempt(&bob, here, now).unwrap_err();
        assert_eq!(wait, 3 * SECOND);
        assert_eq!(limits.attempt(&bob, there, now), Ok(()));
        assert_eq!(limits.attempt(&name("alice"), here, now), Ok(()));
        now += wait - Duration::from_nanos(1);
        assert!(limits.attempt(&bob, here, now).is_err());
        now += Duration::from_nanos(1);
        assert_eq!(limits.attempt(&bob, here, now), Ok(()));
        assert!(limits.attempt(&bob, here, now).is_err());
    }

    #[test]
    fn guessing_at_many_accounts_is_slowed_down_too() {
        let now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        let allowed = (0..1000).filter(|n| limits.attempt(&name(&format!("u{n}")), here, now).is_ok()).count();
        assert_eq!(allowed, 250);
        assert_eq!(limits.attempt(&name("u1"), ip("10.0.0.2"), now), Ok(()));
    }

    #[test]
    fn who_knows_the_password_is_never_slowed_down() {
        let now = Instant::now();
        let (limits, bob, here) = (limits(now), name("bob"), ip("10.0.0.1"));
        for _ in 0..10_000 {
            assert_eq!(limits.attempt(&bob, here, now), Ok(()));
            limits.forgive(&bob, here);
        }
        limits.forgive(&bob, here);
        let allowed = (0..1000).filter(|_| limits.attempt(&bob, here, now).is_ok()).count();
        assert!((50..=51).contains(&allowed), "{allowed}");
    }

    #[test]
    fn registrations_come_in_bursts() {
        let mut now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        assert_eq!((0..1000).filter(|_| limits.registration(here, now).is_ok()).count(), 300);
        assert_eq!(limits.registration(ip("10.0.0.2"), now), Ok(()));
        now += 60 * SECOND;
        assert_eq!((0..1000).filter(|_| limits.registration(here, now).is_ok()).count(), 60);
    }

    #[test]
    fn without_rates_nothing_is_limited() {
        let now = Instant::now();
        let limits = Limits::new(Rates { logins: None, registrations: None }, now);
        for _ in 0..1000 {
            assert_eq!(limits.attempt(&name("bob"), ip("10.0.0.1"), now), Ok(()));
            assert_eq!(limits.registration(ip("10.0.0.1"), now), Ok(()));
        }
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        assert_eq!(network(ip("2001:db8::1:2:3:4")), network(ip("2001:db8::5")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:2::1")));
        assert_eq!(network(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(network(ip("::1")), ip("::1"));
    }

    #[test]
    fn however_many_keys_the_table_stays_small_and_the_busiest_are_remembered() {
        let now = Instant::now();
        let limits = limits(now);
        let busy = ip("10.0.0.1");
        assert_eq!((0..1000).filter(|_| limits.registration(busy, now).is_ok()).count(), 300);
        for n in 0..200_000_u32 {
            let _ = limits.registration(IpAddr::from((0x0b00_0000 + n).to_be_bytes()), now);
        }
        let buckets = limits.registrations.as_ref().unwrap();
        assert!(buckets.table.lock().len() <= KEYS);
        assert!(limits.registration(busy, now).is_err());
    }
}
