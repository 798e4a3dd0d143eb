//! Clock by which messages expire: the machine's, without its jumps. No I/O.
//!
//! A clock that is wrong once, by weeks or decades, must not expire messages; nor may messages wait for ever when it is
//! set back. So this clock follows the machine's from one call to the next, but by at most [`MAX_JUMP_MS`] more than
//! the program is known to have run in between, and it never goes back. A machine that is off for longer counts as off
//! for that long only; its messages wait longer.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

/// The setting that stores the clock.
pub(super) const CLOCK_KEY: &str = "outbox_clock";

/// The longest unobserved time that is believed, in milliseconds: a weekend.
const MAX_JUMP_MS: i64 = 2 * 24 * 3600 * 1000;

/// The clock at its last update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SteadyClock {
    /// This clock's time in milliseconds; since 1970, if the machine's clock was always right.
    at_ms: i64,
    /// The machine's time at that update, in milliseconds since 1970.
    machine_ms: i64,
}

impl SteadyClock {
    /// Starts at the machine's time.
    pub(super) const fn starting_at(machine_ms: i64) -> Self {
        Self { at_ms: machine_ms, machine_ms }
    }

    /// Returns this clock's time.
    pub(super) const fn now_ms(self) -> i64 {
        self.at_ms
    }

    /// Advances to the machine's time `machine_ms`; `ran` is the time that the calling program ran since its last
    /// update, zero at its first.
    pub(super) fn advance(self, machine_ms: i64, ran: Duration) -> Self {
        let ran = i64::try_from(ran.as_millis()).unwrap_or(i64::MAX);
        let went_by = match machine_ms.saturating_sub(self.machine_ms) {
            // The machine's clock was set back: only the time that the program ran is certain.
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

/// Loads the clock as it was last stored; without one it starts at the machine's time.
pub(super) fn load_steady_clock(connection: &Connection, now_ms: i64) -> rusqlite::Result<SteadyClock> {
    let mut query = connection.prepare_cached("SELECT value FROM setting WHERE key = ?1")?;
    let text: Option<String> = query.query_row([CLOCK_KEY], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or_else(|| SteadyClock::starting_at(now_ms)))
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
