//! Attempts from one and from many addresses, and the limits that they meet.

use std::net::IpAddr;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

fn ip(text: &str) -> ClientOrigin {
    ClientOrigin::of(text.parse().unwrap())
}

fn limits(now: Instant) -> RateLimits {
    RateLimits::new(RateSettings { logins: NonZeroU32::new(20), registrations: NonZeroU32::new(60) }, now)
}

#[test]
fn guessing_at_one_account_is_slowed_down_and_harms_nobody_elsewhere() {
    for (here, there) in [("10.0.0.1", "10.0.0.2"), ("fd00:1::2", "fd00:1::3"), ("fe80::2", "fe80::3")] {
        let mut now = Instant::now();
        let (limits, bob, here, there) = (limits(now), name("bob"), ip(here), ip(there));
        for _ in 0..50 {
            assert_eq!(limits.charge_password(&bob, here, now), Ok(()));
        }
        let RateLimitExceeded { limit, wait } = limits.charge_password(&bob, here, now).unwrap_err();
        assert_eq!((limit, wait), (LimitKind::GuessesAtUser, 3 * SECOND));
        assert_eq!(limits.charge_password(&bob, there, now), Ok(()));
        assert_eq!(limits.charge_password(&name("alice"), here, now), Ok(()));
        now += wait - Duration::from_nanos(1);
        assert!(limits.charge_password(&bob, here, now).is_err());
        now += Duration::from_nanos(1);
        assert_eq!(limits.charge_password(&bob, here, now), Ok(()));
        assert!(limits.charge_password(&bob, here, now).is_err());
    }
}

#[test]
fn guessing_at_many_accounts_is_slowed_down_too() {
    let now = Instant::now();
    let (limits, here) = (limits(now), ip("10.0.0.1"));
    let bob = name("bob");
    limits.charge_password(&bob, here, now).unwrap();
    limits.record_correct_password(&bob, here);
    let allowed = (0..10_000).filter(|n| limits.charge_password(&name(&format!("u{n}")), here, now).is_ok()).count();
    assert_eq!(allowed, 2500);
    let RateLimitExceeded { limit, .. } = limits.charge_password(&name("alice"), here, now).unwrap_err();
    assert_eq!(limit, LimitKind::Guesses);
    assert_eq!(limits.charge_password(&name("u1"), ip("10.0.0.2"), now), Ok(()));
    // A known user can still log in, and guesses at it are no more frequent than before.
    assert_eq!((0..100).filter(|_| limits.charge_password(&bob, here, now).is_ok()).count(), 50);
}

#[test]
fn a_class_behind_one_address_is_not_locked_out_by_wrong_guesses() {
    let now = Instant::now();
    let (limits, here) = (limits(now), ip("10.0.0.1"));
    for n in 0..300 {
        limits.charge_password(&name(&format!("u{}", n % 40)), here, now).unwrap();
    }
    for n in 0..40 {
        let user = name(&format!("u{n}"));
        limits.charge_password(&user, here, now).unwrap();
        limits.record_correct_password(&user, here);
    }
}

#[test]
fn one_machine_with_many_addresses_is_slowed_down_but_not_whom_it_guesses_at() {
    let now = Instant::now();
    let (limits, bob, home) = (limits(now), name("bob"), ip("fd00:1::b:b:b"));
    limits.charge_password(&bob, home, now).unwrap();
    limits.record_correct_password(&bob, home);
    let address = |n: u32| IpAddr::from((0xfd00_0001_u128 << 96 | u128::from(n)).to_be_bytes());
    let guesses = (0..100_000).map(|n| ClientOrigin::of(address(n)));
    let allowed = guesses.filter(|from| limits.charge_password(&bob, *from, now).is_ok()).count();
    assert_eq!(allowed, 16 * 50);
    assert!(limits.charge_password(&bob, ip("fd00:1::5:5"), now).is_err());
    assert_eq!(limits.charge_password(&bob, home, now), Ok(()));
    assert_eq!(limits.charge_password(&bob, ip("fd00:2::5"), now), Ok(()));
}

#[test]
fn who_knows_the_password_may_log_in_often_but_not_without_end() {
    let mut now = Instant::now();
    let (limits, bob, here) = (limits(now), name("bob"), ip("10.0.0.1"));
    let log_in = |user: &UserName, now| {
        limits.charge_password(user, here, now).inspect(|()| limits.record_correct_password(user, here))
    };
    assert_eq!((0..10_000).filter(|_| log_in(&bob, now).is_ok()).count(), 600);
    now += 60 * SECOND;
    assert_eq!((0..10_000).filter(|_| log_in(&bob, now).is_ok()).count(), 300);
    // Other users behind the same address have limits of their own.
    for n in 0..1000 {
        assert_eq!(log_in(&name(&format!("u{n}")), now), Ok(()));
    }
    now += 120 * SECOND;
    let guesses = (0..1000).filter(|_| limits.charge_password(&bob, here, now).is_ok()).count();
    assert_eq!(guesses, 50);
}

#[test]
fn changes_come_often_but_not_without_end() {
    let mut now = Instant::now();
    let (limits, here) = (limits(now), ip("10.0.0.1"));
    let changes =
        |user: &str, now| (0..50_000).filter(|_| limits.charge_change(&name(user), here, now).is_ok()).count();
    assert_eq!(changes("bob", now), 2000);
    now += SECOND;
    assert_eq!(changes("bob", now), 100);
    assert_eq!(changes("alice", now), 2000);
    let all: usize = (0..100).map(|n| changes(&format!("u{n}"), now)).sum();
    assert!(all < 10_000, "{all}");
    assert_eq!(limits.charge_change(&name("bob"), ip("10.0.0.2"), now), Ok(()));
    // What the address refused is not charged to the user: a minute later carol has all of hers.
    assert_eq!(changes("carol", now), 0);
    let door = |user: &str| limits.changes_of_user.charge(&name(user), here.into(), now).is_ok();
    assert_eq!((0..5000).filter(|_| door("carol")).count(), 2000);
}

#[test]
fn registrations_come_in_bursts() {
    let mut now = Instant::now();
    let (limits, here) = (limits(now), ip("10.0.0.1"));
    assert_eq!((0..1000).filter(|_| limits.charge_registration(here, now).is_ok()).count(), 300);
    assert_eq!(limits.charge_registration(ip("10.0.0.2"), now), Ok(()));
    now += 60 * SECOND;
    assert_eq!((0..1000).filter(|_| limits.charge_registration(here, now).is_ok()).count(), 60);
}

#[test]
fn one_address_makes_so_many_accounts_a_day() {
    let mut now = Instant::now();
    let (limits, here) = (limits(now), ip("10.0.0.1"));
    assert_eq!((0..5000).filter(|_| limits.charge_account(here, now).is_ok()).count(), 1200);
    assert_eq!(limits.charge_account(here, now).unwrap_err().limit, LimitKind::Accounts);
    limits.refund_account(here);
    assert_eq!(limits.charge_account(here, now), Ok(()));
    assert_eq!(limits.charge_account(ip("10.0.0.2"), now), Ok(()));
    now += DAY;
    assert_eq!((0..5000).filter(|_| limits.charge_account(here, now).is_ok()).count(), 1200);
}

#[test]
fn many_addresses_of_one_network_make_no_more_accounts_than_a_few() {
    let mut now = Instant::now();
    let limits = limits(now);
    let made = |network: u8, now| {
        let addresses = (0..=255).map(|host| ip(&format!("10.0.{network}.{host}")));
        addresses.map(|from| (0..100).filter(|_| limits.charge_account(from, now).is_ok()).count()).sum::<usize>()
    };
    assert_eq!(made(1, now), 4800);
    let refused = limits.charge_account(ip("10.0.1.200"), now).unwrap_err();
    assert_eq!(refused.limit, LimitKind::NetworkAccounts);
    // What was refused there is not charged to the address, and other networks go on.
    limits.refund_account(ip("10.0.1.200"));
    assert_eq!(limits.charge_account(ip("10.0.1.200"), now), Ok(()));
    assert_eq!(limits.charge_account(ip("10.0.2.1"), now), Ok(()));
    now += DAY;
    assert_eq!(made(1, now), 4800);
}

#[test]
fn a_new_rate_of_one_thing_refills_nothing_else() {
    let now = Instant::now();
    let (before, bob, here) = (limits(now), name("bob"), ip("10.0.0.1"));
    before.charge_password(&bob, here, now).unwrap();
    before.record_correct_password(&bob, here);
    while before.charge_password(&name("alice"), here, now).is_ok() {}
    while before.charge_registration(here, now).is_ok() {}
    while before.charge_account(here, now).is_ok() {}
    while before.charge_room(here, now).is_ok() {}
    let (logins, registrations) = (NonZeroU32::new(20), NonZeroU32::new(60));
    let after = before.with_rates(RateSettings { logins: NonZeroU32::new(30), registrations }, now);
    assert_eq!(after.charge_password(&name("alice"), here, now), Ok(()), "its own rate is another one");
    assert!(after.charge_registration(here, now).is_err());
    assert!(after.charge_account(here, now).is_err());
    assert!(after.charge_room(here, now).is_err());
    let after = before.with_rates(RateSettings { logins, registrations: None }, now);
    assert_eq!(after.charge_registration(here, now), Ok(()));
    assert!(after.charge_password(&name("alice"), here, now).is_err());
    while after.charge_password(&name("carol"), here, now).is_ok() {}
    assert!((0..10_000).any(|n| after.charge_password(&name(&format!("u{n}")), here, now).is_err()));
    assert_eq!(after.charge_password(&bob, here, now), Ok(()), "bob is known as before");
}

#[test]
fn without_rates_no_password_and_no_registration_is_limited() {
    let now = Instant::now();
    let limits = RateLimits::new(RateSettings { logins: None, registrations: None }, now);
    for _ in 0..1000 {
        assert_eq!(limits.charge_password(&name("bob"), ip("10.0.0.1"), now), Ok(()));
        assert_eq!(limits.charge_registration(ip("10.0.0.1"), now), Ok(()));
    }
}
