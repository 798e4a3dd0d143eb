//! Attempts of each address: wrong codes and passwords, new accounts. No I/O: `now` is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::address_limits::GuestAddress;

/// Addresses that are remembered; of more, those that would be allowed most are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// The number of attempts that an address has at once, and the time after which it has one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptAllowance {
    /// Attempts at once.
    pub(super) at_once: u32,
    /// The time that each of them is missing.
    pub(super) regained_after: Duration,
}

/// Wrong codes of links and pages. One more is looked at every 30 s, so that nobody waits for longer.
pub(super) const WRONG_CODES: AttemptAllowance =
    AttemptAllowance { at_once: 10, regained_after: Duration::from_secs(30) };

/// The attempts of each address. An attempt is charged before it is made, so that many at a time gain nothing.
#[derive(Debug)]
pub(super) struct AddressAttempts {
    allowance: AttemptAllowance,
    /// The time at which an address has all attempts again.
    full_at: HashMap<GuestAddress, Instant>,
}

impl AddressAttempts {
    pub(super) fn new(allowance: AttemptAllowance) -> Self {
        Self { allowance, full_at: HashMap::new() }
    }

    /// Returns how long an address has to wait for an attempt; `None` if it needn't.
    pub(super) fn wait(&self, address: GuestAddress, now: Instant) -> Option<Duration> {
        let AttemptAllowance { at_once, regained_after } = self.allowance;
        let next_full_at = self.full_at.get(&address)?.max(&now).checked_add(regained_after)?;
        let wait = next_full_at.saturating_duration_since(now).saturating_sub(regained_after * at_once);
        (!wait.is_zero()).then_some(wait)
    }

    /// Charges an attempt. Fails with the time until the address has one again; then nothing is charged.
    pub(super) fn charge(&mut self, address: GuestAddress, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(address, now) {
            return Err(wait);
        }
        let full_at = self.full_at.get(&address).copied().unwrap_or(now).max(now) + self.allowance.regained_after;
        if self.full_at.len() >= MAX_REMEMBERED && !self.full_at.contains_key(&address) {
            self.forget(now);
        }
        self.full_at.insert(address, full_at);
        Ok(())
    }

    /// Gives an attempt back that doesn't count, such as one with the right password.
    pub(super) fn refund(&mut self, address: GuestAddress) {
        if let Some(full_at) = self.full_at.get_mut(&address)
            && let Some(earlier) = full_at.checked_sub(self.allowance.regained_after)
        {
            *full_at = earlier;
        }
    }

    /// Forgets the addresses that have all attempts, and if there are none the one that has most.
    fn forget(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= MAX_REMEMBERED
            && let Some(fullest) = self.full_at.iter().min_by_key(|(_, full_at)| **full_at).map(|(address, _)| *address)
        {
            self.full_at.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn address(text: &str) -> GuestAddress {
        GuestAddress::of(text.parse().unwrap())
    }

    #[test]
    fn some_at_once_and_then_one_after_another() {
        let (mut attempts, now) =
            (AddressAttempts::new(AttemptAllowance { at_once: 3, regained_after: MINUTE }), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(attempts.charge(guesser, now), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(attempts.charge(guesser, now), Err(MINUTE), "a refused one costs nothing");
        }
        assert_eq!(attempts.charge(other, now), Ok(()));
        assert_eq!(attempts.charge(guesser, now + MINUTE / 3), Err(MINUTE - MINUTE / 3));
        assert_eq!(attempts.charge(guesser, now + MINUTE), Ok(()));
        assert_eq!(attempts.charge(guesser, now + MINUTE), Err(MINUTE));
        // Long ago: not more than all of them.
        let later = now + MINUTE * 1000;
        assert_eq!((0..10).filter(|_| attempts.charge(guesser, later).is_ok()).count(), 3);
    }

    #[test]
    fn a_right_password_costs_nothing() {
        let (mut attempts, now) =
            (AddressAttempts::new(AttemptAllowance { at_once: 1, regained_after: MINUTE }), Instant::now());
        let class = address("2001:db8::1");
        for _ in 0..100 {
            assert_eq!(attempts.charge(class, now), Ok(()));
            attempts.refund(address("2001:db8::2"));
        }
    }

    #[test]
    fn however_many_addresses_few_are_remembered_and_the_busiest_stay() {
        let (mut attempts, now) =
            (AddressAttempts::new(AttemptAllowance { at_once: 3, regained_after: MINUTE }), Instant::now());
        let guesser = address("192.0.2.1");
        (0..3).for_each(|_| attempts.charge(guesser, now).unwrap());
        for number in 0..2 * MAX_REMEMBERED {
            let _ = attempts.charge(address(&format!("10.1.{}.{}", number / 250, number % 250)), now);
        }
        assert!(attempts.full_at.len() <= MAX_REMEMBERED);
        assert!(attempts.charge(guesser, now).is_err());
    }

    #[test]
    fn wrong_codes_are_forgiven_one_by_one() {
        const FORGIVENESS: Duration = WRONG_CODES.regained_after;
        let (mut codes, now) = (AddressAttempts::new(WRONG_CODES), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..WRONG_CODES.at_once {
            assert_eq!(codes.wait(guesser, now), None);
            codes.charge(guesser, now).unwrap();
        }
        assert_eq!((codes.wait(guesser, now), codes.wait(other, now)), (Some(FORGIVENESS), None));
        assert_eq!(codes.wait(guesser, now + Duration::from_secs(20)), Some(Duration::from_secs(10)));
        assert_eq!(codes.wait(guesser, now + FORGIVENESS), None);
        codes.charge(guesser, now + FORGIVENESS).unwrap();
        assert!(codes.wait(guesser, now + FORGIVENESS).is_some(), "one was forgiven, and one is new");
        assert_eq!(codes.wait(guesser, now + FORGIVENESS * 100), None);
        for number in 0..2 * MAX_REMEMBERED {
            let _ = codes.charge(address(&format!("10.1.{}.{}", number / 250, number % 250)), now);
        }
        assert!(codes.full_at.len() <= MAX_REMEMBERED);
    }
}
