//! The clock by which messages grow old: that of the machine, except where that jumps. Pure.
//!
//! A machine whose clock is wrong for once, by weeks or by decades, must not give up what waits; nor may it wait for ever
//! when the clock is put back. So the age of a message is what was observed of it: this clock goes on with the machine's
//! from one look to the next, and takes at most [`JUMP_MS`] more than the program is known to have run meanwhile. It never
//! goes back. A machine that is off for longer counts as off for that long; what waits there waits longer for it.

use std::time::Duration;

/// The most that is believed to have gone by unseen, milliseconds: a weekend.
const MAX_JUMP_MS: i64 = 2 * 24 * 3600 * 1000;

/// The clock as it was at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SteadyClock {
    /// What it said, milliseconds since 1970 for as long as the machine's clock was always right.
    at_ms: i64,
    /// What the machine's clock said, milliseconds since 1970.
    machine_ms: i64,
}

impl SteadyClock {
    /// Goes with the machine's clock from now on.
    pub(super) const fn starting_at(machine_ms: i64) -> Self {
        Self { at_ms: machine_ms, machine_ms }
    }

    /// What it says.
    pub(super) const fn now_ms(self) -> i64 {
        self.at_ms
    }

    /// Another look, when the machine's clock says `machine_ms` and the program that looks has run for `ran` since its last
    /// one, none before its first.
    pub(super) fn advance(self, machine_ms: i64, ran: Duration) -> Self {
        let ran = i64::try_from(ran.as_millis()).unwrap_or(i64::MAX);
        let went_by = match machine_ms.saturating_sub(self.machine_ms) {
            // It was put back.
            ..0 => ran,
            went_by => went_by.min(ran.saturating_add(MAX_JUMP_MS)),
        };
        Self { at_ms: self.at_ms.saturating_add(went_by), machine_ms }
    }
}

impl std::fmt::Display for SteadyClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.at_ms, self.machine_ms)
    }
}

impl std::str::FromStr for SteadyClock {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (at, machine) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self { at_ms: at.parse()?, machine_ms: machine.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn ran(ms: i64) -> Duration {
        Duration::from_millis(ms.unsigned_abs())
    }

    #[test]
    fn a_clock_that_is_wrong_for_once_costs_little() {
        let begin = SteadyClock::starting_at(1_000 * DAY);
        for wrong in [1_020 * DAY, 20_000 * DAY, 0, i64::MIN, i64::MAX] {
            let during = begin.advance(wrong, Duration::ZERO).advance(wrong.saturating_add(HOUR), ran(HOUR));
            let after = during.advance(1_000 * DAY + 2 * HOUR, Duration::ZERO);
            let aged = after.now_ms() - begin.now_ms();
            assert!((HOUR..=MAX_JUMP_MS + 2 * HOUR).contains(&aged), "{wrong}: {aged}");
            // And from there it goes on as ever.
            let later = after.advance(1_001 * DAY + 2 * HOUR, Duration::ZERO);
            assert_eq!(later.now_ms() - after.now_ms(), DAY);
        }
    }

    #[test]
    fn a_machine_that_sleeps_or_is_off_grows_old_with_it() {
        let begin = SteadyClock::starting_at(0);
        // Asleep for a night: the program did not run, the clock went on.
        assert_eq!(begin.advance(9 * HOUR, ran(HOUR)).now_ms(), 9 * HOUR);
        assert_eq!(begin.advance(30 * DAY, Duration::ZERO).now_ms(), MAX_JUMP_MS);
    }

    proptest! {
        #[test]
        fn it_is_right_while_the_machines_is(steps in proptest::collection::vec(0..MAX_JUMP_MS, 0..50)) {
            let mut clock = SteadyClock::starting_at(7);
            let mut machine = 7;
            for step in steps {
                machine += step;
                clock = clock.advance(machine, Duration::ZERO);
                prop_assert_eq!(clock.now_ms(), machine);
            }
        }

        #[test]
        fn it_never_goes_back_and_never_jumps(looks in proptest::collection::vec((any::<i64>(), 0..DAY), 0..50)) {
            let mut clock = SteadyClock::starting_at(0);
            for (machine, time) in looks {
                let next = clock.advance(machine, ran(time));
                prop_assert!((0..=time + MAX_JUMP_MS).contains(&(next.now_ms() - clock.now_ms())));
                prop_assert_eq!(next.to_string().parse::<SteadyClock>().unwrap(), next);
                clock = next;
            }
        }
    }
}
