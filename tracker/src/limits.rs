//! How often somebody may try: pure, with the time as an argument.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | wrong passwords for one user from one address | `--rate-limit-logins` a minute, 2.5 times that at once | `rate_limited` |
//! | wrong passwords from one address | 50 times as many; users who gave their right password from there lately don't count | `rate_limited` |
//! | passwords for one user from one address, right or wrong | 15 times as many, twice that at once | `rate_limited` |
//! | REGISTER from one address | `--rate-limit-registrations` a minute, 5 times that at once | `rate_limited` |
//! | accounts made from one address | 20 times as many a day, and at once | `rate_limited` |
//! | RESUME with a port, REGISTER_FILES and LOGOUT of one user from one address | 100 a second, 2,000 at once | `rate_limited` |
//! | RESUME with a port, REGISTER_FILES and LOGOUT from one address | 5 times as many | `rate_limited` |
//! | each of these from all addresses of one IPv6 network (/64) together | 16 times as much as from one of them | `rate_limited` |
//! | requests refused in a row on one connection; `busy` and `rate_limited` count for ten, `not_found` is an answer | 100, then one each 100 ms; 1,000 | one `rate_limited` line, closed |
//! | log lines of one kind about one address, and of all | 20 and 500 in 10 s | counted, and told in one line |
//! | keys remembered | 65,536 for each of these | those that are nearest to being free again are forgotten |
//!
//! # Forty people behind one address
//!
//! A class behind one router (NAT) is one origin, with the usual options as follows. Behind a door that tells them apart
//! (`--trusted-door`), each of them has all of it.
//!
//! | limit of an address | for each of forty people |
//! |---|---|
//! | wrong passwords | 20 a minute for each user; 1,000 a minute and 2,500 at once for all together. One of them who guesses more keeps others from logging in by password there, but not those who did so lately, nor anybody who resumes by key |
//! | REGISTER, accounts a day | 12 at once, then 2 a minute; 50 accounts a day |
//! | changes | 12 a second |
//! | connections ([`crate::places`]) | 25 |
//! | events that others are told ([`crate::registry`]) | 25 at once, then one a second or so: what comes faster is put together |
//! | users present, sessions ([`crate::registry`]) | 25 users; 16 sessions on each connection |
//! | subscriptions | one on each connection |
//! | long requests on their way ([`crate::connection`]) | 850 KiB at once, the next waits |
//! | lists of files (the table in `registry::room`) | 6 MiB of the 512, about 20,000 files; the floor in any case while there is room |
//! | long replies on their way (the same table) | 3 MiB that are not read |
//! | passwords ([`crate::passwords`]), searches ([`crate::service`]) | one turn of forty for each turn of any other address |
//! | work for the account store ([`crate::accounts`]) | 3 pieces at once |
//! | an address that speaks for accounts without a key (`registry::authority`) | each of them may speak for the others' accounts that have none: `--no-legacy-auth` ends that |
//! | places that are kept once logged in ([`crate::places`]) | 6; further ones give way when all are taken |
//! | the short list of the exercise | their entries take turns with those of other addresses; 24 always fit |
//!
//! An attempt is charged before the password is looked at, so that many at a time win nothing, and a right password
//! gets back what it was charged as a guess. Nothing is counted for a user alone: guessing at somebody's account from
//! one address never locks out its owner at another, and whoever gave the right password from an address lately goes on
//! there whatever others guess. In an IPv6 network, where one machine may use any number of
//! addresses, whoever gave the right password from an address lately goes on being counted there alone.

mod buckets;
mod known;
mod lines;
mod origin;
mod refusals;

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::Quota;
use shared::UserName;

use buckets::Buckets;
use known::Known;
pub use lines::{LeftOut, Lines};
pub use origin::{Network, Origin};
pub use refusals::Refusals;

/// How many changes an address has for each that it has for one user.
const USERS_PER_ADDRESS: NonZeroU32 = number(5);
/// How many wrong passwords an address has for each that it has for one user: a whole class may be behind it.
const GUESSES_PER_ADDRESS: NonZeroU32 = number(50);
/// How many passwords there may be for each wrong one.
const PASSWORDS_PER_GUESS: NonZeroU32 = number(15);
/// Changes a second of one user from one address.
const CHANGES_A_SECOND: NonZeroU32 = number(100);
/// Changes of one user from one address at once.
const CHANGES_AT_ONCE: NonZeroU32 = number(2000);
/// Accounts that an address may make in a day for each REGISTER that it has a minute.
const ACCOUNTS_A_DAY: NonZeroU32 = number(20);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much an IPv6 network has for each that one of its addresses has.
const ADDRESSES_PER_NETWORK: NonZeroU32 = number(16);

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
    guesses_at_user: Option<Tier<UserName>>,
    guesses: Option<Tier<()>>,
    passwords: Option<Tier<UserName>>,
    registrations: Option<Tier<()>>,
    accounts: Option<Tier<()>>,
    changes_of_user: Tier<UserName>,
    changes: Tier<()>,
    known: Known,
}

/// Too often: try again after `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    /// The limit that was reached.
    pub limit: Limited,
    /// Until it can be tried again.
    pub wait: Duration,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Wrong passwords for one user from one address.
    GuessesAtUser,
    /// Wrong passwords from one address.
    Guesses,
    /// Passwords for one user, right or wrong.
    Passwords,
    /// New accounts from one address.
    Registrations,
    /// New accounts from one address within a day.
    Accounts,
    /// Changes of what others hear of one user.
    Changes,
}

impl Limits {
    /// Nothing is used yet.
    pub fn new(rates: Rates, now: Instant) -> Self {
        let logins =
            |times: NonZeroU32, halves_at_once: u32| rates.logins.map(|rate| a_minute(rate, times, halves_at_once));
        let registrations = rates.registrations.map(|rate| a_minute(rate, NonZeroU32::MIN, 10));
        let accounts = rates.registrations.and_then(|rate| a_day(rate.saturating_mul(ACCOUNTS_A_DAY)));
        let changes = Quota::per_second(CHANGES_A_SECOND).allow_burst(CHANGES_AT_ONCE);
        Self {
            guesses_at_user: logins(NonZeroU32::MIN, 5).map(|quota| Tier::new(quota, now)),
            guesses: logins(GUESSES_PER_ADDRESS, 5).map(|quota| Tier::new(quota, now)),
            passwords: logins(PASSWORDS_PER_GUESS, 4).map(|quota| Tier::new(quota, now)),
            registrations: registrations.map(|quota| Tier::new(quota, now)),
            accounts: accounts.map(|quota| Tier::new(quota, now)),
            changes_of_user: Tier::new(changes, now),
            changes: Tier::new(times(changes, USERS_PER_ADDRESS), now),
            known: Known::default(),
        }
    }

    /// Charges one attempt with a password.
    ///
    /// # Errors
    /// [`TooOften`], and then nothing is charged as a guess.
    pub fn attempt(&self, user: &UserName, from: Origin, now: Instant) -> Result<(), TooOften> {
        let (guesses, payer) = (self.guesses_by_others(user, from), self.seen_from(user, from));
        take(self.passwords.as_ref(), user, payer, now).map_err(|wait| TooOften { limit: Limited::Passwords, wait })?;
        take(guesses, &(), payer, now).map_err(|wait| TooOften { limit: Limited::Guesses, wait })?;
        take(self.guesses_at_user.as_ref(), user, payer, now).map_err(|wait| {
            give_back(guesses, &(), payer);
            TooOften { limit: Limited::GuessesAtUser, wait }
        })
    }

    /// The attempt was never looked at: it is no guess.
    pub fn forgive(&self, user: &UserName, from: Origin) {
        let payer = self.seen_from(user, from);
        give_back(self.guesses_by_others(user, from), &(), payer);
        give_back(self.guesses_at_user.as_ref(), user, payer);
    }

    /// The attempt was with the right password.
    pub fn was_right(&self, user: &UserName, from: Origin) {
        self.forgive(user, from);
        self.known.insert(user, from);
    }

    /// Charges one REGISTER.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn registration(&self, from: Origin, now: Instant) -> Result<(), TooOften> {
        let limit = Limited::Registrations;
        take(self.registrations.as_ref(), &(), Payer::of(from), now).map_err(|wait| TooOften { limit, wait })
    }

    /// Charges one account that is to be made.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn account(&self, from: Origin, now: Instant) -> Result<(), TooOften> {
        let limit = Limited::Accounts;
        take(self.accounts.as_ref(), &(), Payer::of(from), now).map_err(|wait| TooOften { limit, wait })
    }

    /// The account was not made.
    pub fn no_account(&self, from: Origin) {
        give_back(self.accounts.as_ref(), &(), Payer::of(from));
    }

    /// Charges one change of what others hear of the user, by somebody who may speak for it.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn change(&self, user: &UserName, from: Origin, now: Instant) -> Result<(), TooOften> {
        let changed = self.changes_of_user.take(user, Payer::of(from), now);
        let too_often = |wait| TooOften { limit: Limited::Changes, wait };
        changed.and_then(|()| self.changes.take(&(), Payer::of(from), now)).map_err(too_often)
    }

    /// What the origin may guess at all users together; `None` for a user who is at home there.
    fn guesses_by_others(&self, user: &UserName, from: Origin) -> Option<&Tier<()>> {
        self.guesses.as_ref().filter(|_| !self.known.has(user, from))
    }

    fn seen_from(&self, user: &UserName, from: Origin) -> Payer {
        let payer = Payer::of(from);
        if self.known.has(user, from) { Payer { network: None, ..payer } } else { payer }
    }
}

/// What an attempt is charged to.
#[derive(Debug, Clone, Copy)]
struct Payer {
    origin: Origin,
    network: Option<Network>,
}

impl Payer {
    fn of(origin: Origin) -> Self {
        Self { origin, network: origin.network() }
    }
}

/// One limit for each origin, and one for each IPv6 network.
#[derive(Debug)]
struct Tier<K: Hash + Eq + Clone> {
    origins: Buckets<(K, Origin)>,
    networks: Buckets<(K, Network)>,
}

impl<K: Hash + Eq + Clone> Tier<K> {
    fn new(quota: Quota, now: Instant) -> Self {
        let networks = Buckets::new(times(quota, ADDRESSES_PER_NETWORK), now);
        Self { origins: Buckets::new(quota, now), networks }
    }

    fn take(&self, key: &K, payer: Payer, now: Instant) -> Result<(), Duration> {
        let origin = (key.clone(), payer.origin);
        self.origins.take(&origin, now)?;
        payer.network.map_or(Ok(()), |network| {
            self.networks.take(&(key.clone(), network), now).inspect_err(|_| self.origins.give_back(&origin))
        })
    }

    fn give_back(&self, key: &K, payer: Payer) {
        self.origins.give_back(&(key.clone(), payer.origin));
        if let Some(network) = payer.network {
            self.networks.give_back(&(key.clone(), network));
        }
    }
}

const fn number(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

fn a_minute(rate: NonZeroU32, times: NonZeroU32, halves_at_once: u32) -> Quota {
    let a_minute = rate.saturating_mul(times);
    let at_once = NonZeroU32::new(a_minute.get().saturating_mul(halves_at_once) / 2).unwrap_or(a_minute);
    Quota::per_minute(a_minute).allow_burst(at_once)
}

fn a_day(accounts: NonZeroU32) -> Option<Quota> {
    Some(Quota::with_period(DAY / accounts.get())?.allow_burst(accounts))
}

fn times(quota: Quota, times: NonZeroU32) -> Quota {
    let quicker = Quota::with_period(quota.replenish_interval() / times.get()).unwrap_or(quota);
    quicker.allow_burst(quota.burst_size().saturating_mul(times))
}

fn take<K: Hash + Eq + Clone>(tier: Option<&Tier<K>>, key: &K, payer: Payer, now: Instant) -> Result<(), Duration> {
    tier.map_or(Ok(()), |tier| tier.take(key, payer, now))
}

fn give_back<K: Hash + Eq + Clone>(tier: Option<&Tier<K>>, key: &K, payer: Payer) {
    if let Some(tier) = tier {
        tier.give_back(key, payer);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn limits(now: Instant) -> Limits {
        Limits::new(Rates { logins: NonZeroU32::new(20), registrations: NonZeroU32::new(60) }, now)
    }

    #[test]
    fn guessing_at_one_account_is_slowed_down_and_harms_nobody_elsewhere() {
        for (here, there) in [("10.0.0.1", "10.0.0.2"), ("fd00:1::2", "fd00:1::3"), ("fe80::2", "fe80::3")] {
            let mut now = Instant::now();
            let (limits, bob, here, there) = (limits(now), name("bob"), ip(here), ip(there));
            for _ in 0..50 {
                assert_eq!(limits.attempt(&bob, here, now), Ok(()));
            }
            let TooOften { limit, wait } = limits.attempt(&bob, here, now).unwrap_err();
            assert_eq!((limit, wait), (Limited::GuessesAtUser, 3 * SECOND));
            assert_eq!(limits.attempt(&bob, there, now), Ok(()));
            assert_eq!(limits.attempt(&name("alice"), here, now), Ok(()));
            now += wait - Duration::from_nanos(1);
            assert!(limits.attempt(&bob, here, now).is_err());
            now += Duration::from_nanos(1);
            assert_eq!(limits.attempt(&bob, here, now), Ok(()));
            assert!(limits.attempt(&bob, here, now).is_err());
        }
    }

    #[test]
    fn guessing_at_many_accounts_is_slowed_down_too() {
        let now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        let bob = name("bob");
        limits.attempt(&bob, here, now).unwrap();
        limits.was_right(&bob, here);
        let allowed = (0..10_000).filter(|n| limits.attempt(&name(&format!("u{n}")), here, now).is_ok()).count();
        assert_eq!(allowed, 2500);
        let TooOften { limit, .. } = limits.attempt(&name("alice"), here, now).unwrap_err();
        assert_eq!(limit, Limited::Guesses);
        assert_eq!(limits.attempt(&name("u1"), ip("10.0.0.2"), now), Ok(()));
        // Who is at home there goes on, and is guessed at no more often than before.
        assert_eq!((0..100).filter(|_| limits.attempt(&bob, here, now).is_ok()).count(), 50);
    }

    #[test]
    fn a_class_behind_one_address_is_not_locked_out_by_wrong_guesses() {
        let now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        for n in 0..300 {
            limits.attempt(&name(&format!("u{}", n % 40)), here, now).unwrap();
        }
        for n in 0..40 {
            let user = name(&format!("u{n}"));
            limits.attempt(&user, here, now).unwrap();
            limits.was_right(&user, here);
        }
    }

    #[test]
    fn one_machine_with_many_addresses_is_slowed_down_but_not_whom_it_guesses_at() {
        let now = Instant::now();
        let (limits, bob, home) = (limits(now), name("bob"), ip("fd00:1::b:b:b"));
        limits.attempt(&bob, home, now).unwrap();
        limits.was_right(&bob, home);
        let address = |n: u32| IpAddr::from((0xfd00_0001_u128 << 96 | u128::from(n)).to_be_bytes());
        let guesses = (0..100_000).map(|n| Origin::of(address(n)));
        let allowed = guesses.filter(|from| limits.attempt(&bob, *from, now).is_ok()).count();
        assert_eq!(allowed, 16 * 50);
        assert!(limits.attempt(&bob, ip("fd00:1::5:5"), now).is_err());
        assert_eq!(limits.attempt(&bob, home, now), Ok(()));
        assert_eq!(limits.attempt(&bob, ip("fd00:2::5"), now), Ok(()));
    }

    #[test]
    fn who_knows_the_password_may_log_in_often_but_not_without_end() {
        let mut now = Instant::now();
        let (limits, bob, here) = (limits(now), name("bob"), ip("10.0.0.1"));
        let log_in = |user: &UserName, now| limits.attempt(user, here, now).inspect(|()| limits.was_right(user, here));
        assert_eq!((0..10_000).filter(|_| log_in(&bob, now).is_ok()).count(), 600);
        now += 60 * SECOND;
        assert_eq!((0..10_000).filter(|_| log_in(&bob, now).is_ok()).count(), 300);
        // Others behind the same address have their own.
        for n in 0..1000 {
            assert_eq!(log_in(&name(&format!("u{n}")), now), Ok(()));
        }
        now += 120 * SECOND;
        let guesses = (0..1000).filter(|_| limits.attempt(&bob, here, now).is_ok()).count();
        assert_eq!(guesses, 50);
    }

    #[test]
    fn changes_come_often_but_not_without_end() {
        let mut now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        let changes = |user: &str, now| (0..50_000).filter(|_| limits.change(&name(user), here, now).is_ok()).count();
        assert_eq!(changes("bob", now), 2000);
        now += SECOND;
        assert_eq!(changes("bob", now), 100);
        assert_eq!(changes("alice", now), 2000);
        let all: usize = (0..100).map(|n| changes(&format!("u{n}"), now)).sum();
        assert!(all < 10_000, "{all}");
        assert_eq!(limits.change(&name("bob"), ip("10.0.0.2"), now), Ok(()));
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
    fn one_address_makes_so_many_accounts_a_day() {
        let mut now = Instant::now();
        let (limits, here) = (limits(now), ip("10.0.0.1"));
        assert_eq!((0..5000).filter(|_| limits.account(here, now).is_ok()).count(), 1200);
        assert_eq!(limits.account(here, now).unwrap_err().limit, Limited::Accounts);
        limits.no_account(here);
        assert_eq!(limits.account(here, now), Ok(()));
        assert_eq!(limits.account(ip("10.0.0.2"), now), Ok(()));
        now += DAY;
        assert_eq!((0..5000).filter(|_| limits.account(here, now).is_ok()).count(), 1200);
    }

    #[test]
    fn without_rates_no_password_and_no_registration_is_limited() {
        let now = Instant::now();
        let limits = Limits::new(Rates { logins: None, registrations: None }, now);
        for _ in 0..1000 {
            assert_eq!(limits.attempt(&name("bob"), ip("10.0.0.1"), now), Ok(()));
            assert_eq!(limits.registration(ip("10.0.0.1"), now), Ok(()));
        }
    }
}
