//! Pauses between attempts. Pure.

use std::time::Duration;

/// A pause that doubles with each attempt, from the shortest to the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Creates pauses within these bounds.
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, next: shortest }
    }

    /// Returns the pause before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.longest);
        delay
    }

    /// Returns the pause before the next attempt, shortened to between half and all of it, so that many that failed
    /// together don't come back together. `jitter` is from 0 to 1.
    pub fn next_jittered(&mut self, jitter: f64) -> Duration {
        self.next_delay().mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins again with the shortest pause.
    pub const fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// Goes on from a pause that the other side asks for, within the bounds.
    pub fn continue_from(&mut self, delay: Duration) {
        self.next = delay.clamp(self.shortest, self.longest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHORTEST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(300);

    #[test]
    fn pauses_double_and_begin_again() {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), SHORTEST);
        for (asked, given) in [(0, 2), (60, 60), (1000, 300)] {
            backoff.continue_from(Duration::from_secs(asked));
            assert_eq!(backoff.next_delay().as_secs(), given);
        }
    }

    proptest! {
        #[test]
        fn pauses_grow_to_an_end(chances in proptest::collection::vec(0.0..1.0, 1..50)) {
            let mut backoff = Backoff::new(SHORTEST, LONGEST);
            let mut longest = Duration::ZERO;
            for chance in chances {
                let pause = backoff.next_jittered(chance);
                prop_assert!(pause >= SHORTEST / 2 && pause <= LONGEST && pause * 4 >= longest);
                longest = longest.max(pause);
            }
        }
    }
}
