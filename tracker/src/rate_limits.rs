//! Rate limits of attempts and changes: pure, with the time as an argument.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | wrong passwords for one user from one address | `--rate-limit-logins` a minute, 2.5 times that at once | `rate_limited` |
//! | wrong passwords from one address | 50 times as many; users whose right password came from there lately don't count | `rate_limited` |
//! | passwords for one user from one address, right or wrong | 15 times as many, twice that at once | `rate_limited` |
//! | REGISTER from one address | `--rate-limit-registrations` a minute, 5 times that at once | `rate_limited` |
//! | accounts made from one address | 20 times as many a day, and at once | `rate_limited` |
//! | accounts made from one IPv4 network (/24) | 4 times as many as from one address | `rate_limited` |
//! | wrong passwords for one room from one address | as for one user; each counts as one for the user who joins, too | `rate_limited` |
//! | rooms made from one address | 100 an hour, and at once | `rate_limited` |
//! | RESUME with a port, REGISTER_FILES, LOGOUT and changes of rooms of one user from one address | 100 a second, 2,000 at once | `rate_limited` |
//! | RESUME with a port, REGISTER_FILES, LOGOUT and changes of rooms from one address | 5 times as many | `rate_limited` |
//! | each of these from all addresses of one IPv6 network (/64) together | 16 times as much as from one of them | `rate_limited` |
//! | requests refused in a row on one connection; `busy` and `rate_limited` count for ten, `not_found` is an answer | 100, then one each 100 ms; 1,000 | one `rate_limited` line, closed |
//! | log lines of one kind about one address, and of all | 20 and 500 in 10 s | counted, and summed up in one line |
//! | keys remembered | 65,536 for each of these | those whose buckets are fullest are forgotten |
//!
//! # Forty people behind one address
//!
//! A class behind one router (NAT) is one origin, with the default options as follows. Behind a door that names each
//! person (`--trusted-door`), each of them has all of it.
//!
//! | limit of an address | for each of forty people |
//! |---|---|
//! | wrong passwords | 20 a minute for each user; 1,000 a minute and 2,500 at once for all together. One of them who guesses more keeps others from logging in by password there, but not those who did so lately, nor anybody who resumes by key |
//! | REGISTER, accounts a day | 12 at once, then 2 a minute; 50 accounts a day |
//! | changes | 12 a second |
//! | connections ([`crate::connection_slots`]) | 25 |
//! | events that others are told ([`crate::registry`]) | 25 at once, then one a second or so: what comes faster is put together |
//! | users present, sessions ([`crate::registry`]) | 25 users; 16 sessions on each connection |
//! | subscriptions | one on each connection |
//! | unfinished long requests ([`crate::connection`]) | 850 KiB at once, the next waits |
//! | lists of files (the table in `catalogue::catalogue_quota`) | 6 MiB of the 512, about 20,000 files; the floor in any case while there is space |
//! | long replies in flight (the same table) | 3 MiB that are not read |
//! | passwords ([`crate::passwords`]), searches ([`crate::service`]) | one turn of forty for each turn of any other address |
//! | jobs for the account store ([`crate::store`]) | 3 at once |
//! | an address that speaks for accounts without a key (`registry::speaker_decision`) | each of them may speak for the others' accounts that have none: `--no-legacy-auth` ends that |
//! | slots reserved by logins ([`crate::connection_slots`]) | 6; others may be evicted when all are in use |
//! | the short list of the exercise | their entries take turns with those of other addresses; 24 always fit |
//!
//! An attempt is charged before the password is checked, so that many at a time gain nothing; a right password gets
//! the charge for a guess back. Nothing is counted for a user alone: guessing at an account from one address never
//! locks out its owner at another. A user whose right password came from an address lately can go on logging in there,
//! whatever others guess. In an IPv6 network, where one machine may use any number of addresses, such a user is counted
//! at that address alone.

mod keyed_limiter;
mod known_logins;
mod log_throttle;
mod origin;
mod origin_limiter;
mod refusal_streak;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::Quota;
use shared::{RoomId, UserName};

use keyed_limiter::KeyedLimiter;
use known_logins::KnownLogins;
pub use log_throttle::{LogThrottle, SuppressedLines};
pub use origin::ClientOrigin;
use origin::Ipv4Network;
use origin_limiter::{ChargeTarget, OriginLimiter};
pub use refusal_streak::RefusalStreak;

/// Changes that an address may make, as a multiple of those of one user.
const USER_SHARES_PER_ADDRESS: NonZeroU32 = nonzero(5);
/// Wrong passwords that an address may send, as a multiple of those for one user: a whole class may share it.
const GUESSES_PER_ADDRESS: NonZeroU32 = nonzero(50);
/// Passwords for one user, as a multiple of the wrong ones.
const PASSWORDS_PER_GUESS: NonZeroU32 = nonzero(15);
/// Changes a second of one user from one address.
const CHANGES_A_SECOND: NonZeroU32 = nonzero(100);
/// Changes of one user from one address at once.
const CHANGES_AT_ONCE: NonZeroU32 = nonzero(2000);
/// Accounts that an address may make in a day, as a multiple of its REGISTER requests a minute.
const ACCOUNTS_A_DAY: NonZeroU32 = nonzero(20);
/// Rooms that an address may make in an hour.
const ROOMS_AN_HOUR: NonZeroU32 = nonzero(100);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The accounts that an IPv4 network of 256 addresses may make, as a multiple of those of one address.
const ACCOUNTS_PER_IPV4_NETWORK: NonZeroU32 = nonzero(4);

/// The configured rates; `None` disables a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSettings {
    /// Wrong passwords a minute for one user from one address.
    pub logins: Option<NonZeroU32>,
    /// REGISTER a minute from one address.
    pub registrations: Option<NonZeroU32>,
}

/// The limits and their buckets.
#[derive(Debug)]
pub struct RateLimits {
    guesses_at_user: OriginLimiter<UserName>,
    guesses: OriginLimiter<()>,
    passwords: OriginLimiter<UserName>,
    registrations: OriginLimiter<()>,
    accounts: OriginLimiter<()>,
    network_accounts: Option<Arc<KeyedLimiter<Ipv4Network>>>,
    changes_of_user: OriginLimiter<UserName>,
    changes: OriginLimiter<()>,
    guesses_at_room: OriginLimiter<RoomId>,
    rooms: OriginLimiter<()>,
    known_logins: Arc<KnownLogins>,
}

/// The refusal of an attempt: try again after `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitExceeded {
    /// The limit that was reached.
    pub limit: LimitKind,
    /// The time until an attempt is possible.
    pub wait: Duration,
}

/// The kinds of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
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
    /// New accounts from one network within a day.
    NetworkAccounts,
    /// Changes of one user's presence, files and rooms.
    Changes,
    /// Wrong passwords for one room from one address.
    GuessesAtRoom,
    /// New rooms from one address.
    Rooms,
}

impl RateLimits {
    /// Creates the limits with full buckets.
    pub fn new(rates: RateSettings, now: Instant) -> Self {
        let unlimited = Self {
            guesses_at_user: OriginLimiter::unlimited(LimitKind::GuessesAtUser),
            guesses: OriginLimiter::unlimited(LimitKind::Guesses),
            passwords: OriginLimiter::unlimited(LimitKind::Passwords),
            registrations: OriginLimiter::unlimited(LimitKind::Registrations),
            accounts: OriginLimiter::unlimited(LimitKind::Accounts),
            network_accounts: None,
            changes_of_user: OriginLimiter::unlimited(LimitKind::Changes),
            changes: OriginLimiter::unlimited(LimitKind::Changes),
            guesses_at_room: OriginLimiter::unlimited(LimitKind::GuessesAtRoom),
            rooms: OriginLimiter::unlimited(LimitKind::Rooms),
            known_logins: Arc::default(),
        };
        unlimited.with_rates(rates, now)
    }

    /// Returns the limits with these rates. Those whose own rate stays the same share their buckets with these limits, and
    /// known users stay known; the others begin with full buckets.
    #[must_use]
    pub fn with_rates(&self, rates: RateSettings, now: Instant) -> Self {
        // Bursts are given in halves of a minute's rate, for 2.5 is no integer.
        let logins = |times: NonZeroU32, halves_at_once: u32| {
            rates.logins.map(|rate| per_minute_quota(rate, times, halves_at_once))
        };
        let registrations = rates.registrations.map(|rate| per_minute_quota(rate, NonZeroU32::MIN, 10));
        let accounts = rates.registrations.and_then(|rate| per_day_quota(rate.saturating_mul(ACCOUNTS_A_DAY)));
        let of_network = accounts.map(|quota| multiply_quota(quota, ACCOUNTS_PER_IPV4_NETWORK));
        let same_network = self.network_accounts.clone().filter(|limiter| Some(limiter.quota()) == of_network);
        let changes = Quota::per_second(CHANGES_A_SECOND).allow_burst(CHANGES_AT_ONCE);
        let of_address = multiply_quota(changes, USER_SHARES_PER_ADDRESS);
        Self {
            guesses_at_user: self.guesses_at_user.with_quota(logins(NonZeroU32::MIN, 5), now),
            guesses: self.guesses.with_quota(logins(GUESSES_PER_ADDRESS, 5), now),
            passwords: self.passwords.with_quota(logins(PASSWORDS_PER_GUESS, 4), now),
            registrations: self.registrations.with_quota(registrations, now),
            accounts: self.accounts.with_quota(accounts, now),
            network_accounts: same_network.or_else(|| of_network.map(|quota| Arc::new(KeyedLimiter::new(quota, now)))),
            changes_of_user: self.changes_of_user.with_quota(Some(changes), now),
            changes: self.changes.with_quota(Some(of_address), now),
            guesses_at_room: self.guesses_at_room.with_quota(logins(NonZeroU32::MIN, 5), now),
            rooms: self.rooms.with_quota(Some(Quota::per_hour(ROOMS_AN_HOUR)), now),
            known_logins: Arc::clone(&self.known_logins),
        }
    }

    /// Charges one attempt with a password. Fails with [`RateLimitExceeded`]; then nothing is charged as a guess.
    pub fn charge_password(&self, user: &UserName, from: ClientOrigin, now: Instant) -> Result<(), RateLimitExceeded> {
        let (shared_guesses, payer) = (self.shared_guesses(user, from), self.charge_target(user, from));
        // Never refunded: this limit counts right passwords as well, since each costs a hash.
        self.passwords.charge(user, payer, now)?;
        shared_guesses.map_or(Ok(()), |guesses| guesses.charge(&(), payer, now))?;
        self.guesses_at_user.charge(user, payer, now).inspect_err(|_| {
            // The attempt won't be checked, so it is no guess at all users together either.
            shared_guesses.into_iter().for_each(|guesses| guesses.refund(&(), payer));
        })
    }

    /// Refunds an attempt that was not checked: it is no guess.
    pub fn refund_guess(&self, user: &UserName, from: ClientOrigin) {
        let payer = self.charge_target(user, from);
        self.shared_guesses(user, from).into_iter().for_each(|guesses| guesses.refund(&(), payer));
        self.guesses_at_user.refund(user, payer);
    }

    /// Records an attempt with the right password: it is no guess, and the user becomes known at this origin.
    pub fn record_correct_password(&self, user: &UserName, from: ClientOrigin) {
        self.refund_guess(user, from);
        self.known_logins.insert(user, from);
    }

    /// Charges one REGISTER. Fails with [`RateLimitExceeded`] when the origin registers too often.
    pub fn charge_registration(&self, from: ClientOrigin, now: Instant) -> Result<(), RateLimitExceeded> {
        self.registrations.charge(&(), from.into(), now)
    }

    /// Charges one account that is about to be made. Fails with [`RateLimitExceeded`] when the origin made too many
    /// accounts today.
    pub fn charge_account(&self, from: ClientOrigin, now: Instant) -> Result<(), RateLimitExceeded> {
        self.accounts.charge(&(), from.into(), now)?;
        let Some((limiter, network)) = self.network_accounts.as_ref().zip(from.ipv4_network()) else { return Ok(()) };
        limiter.charge(&network, now).map_err(|wait| {
            self.accounts.refund(&(), from.into());
            RateLimitExceeded { limit: LimitKind::NetworkAccounts, wait }
        })
    }

    /// Refunds an account that was not made.
    pub fn refund_account(&self, from: ClientOrigin) {
        self.accounts.refund(&(), from.into());
        if let Some((limiter, network)) = self.network_accounts.as_ref().zip(from.ipv4_network()) {
            limiter.refund(&network);
        }
    }

    /// Charges one change of a user's presence or files, requested with authority. Fails with [`RateLimitExceeded`]
    /// when the user or the origin changes too often.
    pub fn charge_change(&self, user: &UserName, from: ClientOrigin, now: Instant) -> Result<(), RateLimitExceeded> {
        self.changes_of_user.charge(user, from.into(), now)?;
        // The change isn't made: the user's own quota is not to pay for others of the address.
        self.changes.charge(&(), from.into(), now).inspect_err(|_| self.changes_of_user.refund(user, from.into()))
    }

    /// Charges one attempt of a user with a room's password. It counts as one for the user, too. Fails with
    /// [`RateLimitExceeded`]; then nothing is charged as a guess.
    pub fn charge_room_password(
        &self,
        room: RoomId,
        user: &UserName,
        from: ClientOrigin,
        now: Instant,
    ) -> Result<(), RateLimitExceeded> {
        self.charge_password(user, from, now)?;
        self.guesses_at_room.charge(&room, from.into(), now).inspect_err(|_| self.refund_guess(user, from))
    }

    /// Refunds an attempt with a room's password that was right, or not checked: it is no guess.
    pub fn refund_room_guess(&self, room: RoomId, user: &UserName, from: ClientOrigin) {
        self.refund_guess(user, from);
        self.guesses_at_room.refund(&room, from.into());
    }

    /// Charges one room that is about to be made. Fails with [`RateLimitExceeded`] when the origin makes too many
    /// rooms.
    pub fn charge_room(&self, from: ClientOrigin, now: Instant) -> Result<(), RateLimitExceeded> {
        self.rooms.charge(&(), from.into(), now)
    }

    /// Refunds a room that was not made.
    pub fn refund_room(&self, from: ClientOrigin) {
        self.rooms.refund(&(), from.into());
    }

    /// Returns the limiter of all guesses from one origin; `None` for a user who is known there.
    fn shared_guesses(&self, user: &UserName, from: ClientOrigin) -> Option<&OriginLimiter<()>> {
        (!self.known_logins.contains(user, from)).then_some(&self.guesses)
    }

    fn charge_target(&self, user: &UserName, from: ClientOrigin) -> ChargeTarget {
        // A known user isn't slowed down by other addresses of the network.
        if self.known_logins.contains(user, from) { ChargeTarget::origin_alone(from) } else { from.into() }
    }
}

const fn nonzero(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

fn per_minute_quota(rate: NonZeroU32, times: NonZeroU32, halves_at_once: u32) -> Quota {
    let a_minute = rate.saturating_mul(times);
    let at_once = NonZeroU32::new(a_minute.get().saturating_mul(halves_at_once) / 2).unwrap_or(a_minute);
    Quota::per_minute(a_minute).allow_burst(at_once)
}

fn per_day_quota(accounts: NonZeroU32) -> Option<Quota> {
    Some(Quota::with_period(DAY / accounts.get())?.allow_burst(accounts))
}

fn multiply_quota(quota: Quota, times: NonZeroU32) -> Quota {
    let quicker = Quota::with_period(quota.replenish_interval() / times.get()).unwrap_or(quota);
    quicker.allow_burst(quota.burst_size().saturating_mul(times))
}
