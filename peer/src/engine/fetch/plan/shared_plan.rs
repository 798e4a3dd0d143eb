//! The plan as the tasks of a round share it.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::FetchPlan;

/// The plan of a round as its session and its downloaders share it, with a wake-up for downloaders that found no work.
#[derive(Debug)]
pub(in crate::engine::fetch) struct SharedPlan {
    plan: Mutex<FetchPlan>,
    new_work: Notify,
}

impl SharedPlan {
    pub(in crate::engine::fetch) fn new(plan: FetchPlan) -> Self {
        Self { plan: Mutex::new(plan), new_work: Notify::new() }
    }

    pub(in crate::engine::fetch) fn lock(&self) -> MutexGuard<'_, FetchPlan> {
        self.plan.lock()
    }

    /// Wakes the downloaders that wait for work.
    pub(in crate::engine::fetch) fn announce_work(&self) {
        // All of them: work for one source may be none for another.
        self.new_work.notify_waiters();
    }

    /// Waits for the next announcement; created before the plan is asked, it misses none.
    pub(in crate::engine::fetch) fn work_announced(&self) -> Notified<'_> {
        self.new_work.notified()
    }
}

impl Default for SharedPlan {
    /// Returns a plan without files, which is done.
    fn default() -> Self {
        Self::new(FetchPlan::new([], 1, false))
    }
}
