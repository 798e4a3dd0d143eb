//! The lease by which a tracker claims its users.
//!
//! The database's clock says until when it lasts for others. Here it counts from before the renewal was sent, by a clock
//! that goes on while the machine sleeps: so it is over here before it can be over there.

use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// The length of a tracker's lease, by the database's clock.
pub(super) const NODE_LEASE: Duration = Duration::from_secs(8);
/// The part of the lease that is not used, for clocks that go at different rates.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// The time since the machine started, its sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootTime(Duration);

/// The lease of this run.
#[derive(Debug, Default)]
pub(super) struct NodeLease(Mutex<Option<BootTime>>);

impl BootTime {
    pub(super) fn now() -> Self {
        // The monotonic clock stands still while the machine sleeps (clock_gettime(2)).
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Self(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
    }
}

impl NodeLease {
    /// Records a renewal that was sent at this time, and granted.
    pub(super) fn record(&self, sent: BootTime) {
        let mut renewed = self.0.lock();
        // `max`: an answer that comes late must not shorten the lease.
        *renewed = (*renewed).max(Some(sent));
    }

    /// Forgets the lease: the run is over.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// True while no other tracker may take this run for dead.
    pub(super) fn is_held(&self) -> bool {
        !self.left().is_zero()
    }

    /// Returns the time for which no other tracker may take this run for dead.
    pub(super) fn left(&self) -> Duration {
        self.left_at(BootTime::now())
    }

    fn left_at(&self, now: BootTime) -> Duration {
        let end = self.0.lock().map(|sent| sent.0 + NODE_LEASE - LEASE_MARGIN);
        end.map(|end| end.saturating_sub(now.0)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_when_the_renewal_was_sent() {
        let (lease, second) = (NodeLease::default(), |n| BootTime(Duration::from_secs(n)));
        assert!(lease.left_at(second(0)).is_zero());
        lease.record(second(10));
        lease.record(second(9));
        assert_eq!(lease.left_at(second(17)), Duration::from_millis(500));
        assert!(lease.left_at(second(18)).is_zero());
        lease.forget();
        assert!(lease.left_at(second(11)).is_zero());
        assert!(BootTime::now() <= BootTime::now());
    }
}
