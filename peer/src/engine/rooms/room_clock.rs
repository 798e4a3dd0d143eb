//! The clocks that a registry of rooms reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::now_ms;

/// The time of day and a clock that never goes back: the system's, or simulated ones.
#[derive(Debug, Clone, Default)]
pub(super) enum RoomClock {
    #[default]
    System,
    Simulated(SimulatedClock),
}

/// Clocks that go on when their owner says so. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SimulatedClock {
    start: Instant,
    start_ms: i64,
    micros: Arc<AtomicU64>,
}

impl RoomClock {
    /// Returns the time by the clock that never goes back.
    pub(super) fn instant(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Simulated(clock) => clock.start + clock.elapsed(),
        }
    }

    /// Returns the time of day, in milliseconds since 1970.
    pub(super) fn wall_ms(&self) -> i64 {
        match self {
            Self::System => now_ms(),
            Self::Simulated(clock) => {
                clock.start_ms.saturating_add(i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Returns the time of day, as the core takes it.
    pub(super) fn unsigned_wall_ms(&self) -> u64 {
        u64::try_from(self.wall_ms()).unwrap_or(0)
    }
}

impl SimulatedClock {
    /// Returns clocks of which one shows this time of day.
    pub(super) fn starting_at(start_ms: i64) -> Self {
        Self { start: Instant::now(), start_ms, micros: Arc::default() }
    }

    /// Sets the time since the start.
    pub(super) fn set(&self, elapsed: Duration) {
        self.micros.store(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
