//! A rate limiter for many keys, with a bounded table.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};

/// Keys that one limiter remembers.
pub(super) const MAX_KEYS: usize = 65_536;

/// One quota for each of many keys.
pub(super) struct KeyedLimiter<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, BucketTable<K>, ManualClock, NoOpMiddleware<Nanos>>,
    table: BucketTable<K>,
    quota: Quota,
}

/// The table behind governor: for each key the time at which its bucket is full again.
struct BucketTable<K>(Arc<Mutex<HashMap<K, Nanos>>>);

/// A clock that is set by hand.
#[derive(Clone)]
struct ManualClock {
    start: Instant,
    since_start: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    pub(super) fn new(quota: Quota, start: Instant) -> Self {
        let clock = ManualClock { start, since_start: Arc::default() };
        let table = BucketTable(Arc::default());
        let limiter = RateLimiter::new(quota, BucketTable(Arc::clone(&table.0)), clock);
        Self { limiter, table, quota }
    }

    pub(super) const fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes one cell, or returns the time until one is free.
    pub(super) fn charge(&self, key: &K, now: Instant) -> Result<(), Duration> {
        self.limiter.clock().advance_to(now);
        self.limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(self.limiter.clock().now()))
    }

    pub(super) fn refund(&self, key: &K) {
        // Governor has no refund. Its state is the time at which the bucket is full: one cell less undoes a charge.
        if let Some(free_at) = self.table.lock().get_mut(key) {
            *free_at = free_at.saturating_sub(self.quota.replenish_interval().into());
        }
    }
}

impl<K> BucketTable<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Nanos>> {
        self.0.lock()
    }
}

impl<K: Hash + Eq + Clone> StateStore for BucketTable<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut table = self.lock();
        // A refusal stores nothing, and so can't fill the table.
        let (answer, free_at) = decide(table.get(key).copied())?;
        if table.len() >= MAX_KEYS && !table.contains_key(key) {
            forget_half(&mut table);
        }
        table.insert(key.clone(), free_at);
        Ok(answer)
    }
}

/// Forgets the half of the keys whose buckets are fullest: forgetting those changes least.
fn forget_half<K: Hash + Eq>(table: &mut HashMap<K, Nanos>) {
    let mut times: Vec<Nanos> = table.values().copied().collect();
    let middle = times.len() / 2;
    // Not sorted: only the middle is needed, and the table is locked meanwhile.
    let (_, middle, _) = times.select_nth_unstable(middle);
    let middle = *middle;
    table.retain(|_, free_at| *free_at > middle);
}

impl ManualClock {
    fn advance_to(&self, now: Instant) {
        let nanos = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        // `fetch_max`: callers on several threads bring their times in any order, and the clock must not go back.
        self.since_start.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.since_start.load(Ordering::Relaxed))
    }
}

impl<K: Hash + Eq + Clone> std::fmt::Debug for KeyedLimiter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedLimiter").field("quota", &self.quota).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn however_many_keys_the_table_stays_small_and_the_busiest_are_remembered() {
        let now = Instant::now();
        let quota = Quota::per_minute(NonZeroU32::new(60).unwrap()).allow_burst(NonZeroU32::new(300).unwrap());
        let buckets = KeyedLimiter::new(quota, now);
        assert_eq!((0..1000).filter(|_| buckets.charge(&u32::MAX, now).is_ok()).count(), 300);
        for key in 0..200_000_u32 {
            let _ = buckets.charge(&key, now);
        }
        assert!(buckets.table.lock().len() <= MAX_KEYS);
        assert!(buckets.charge(&u32::MAX, now).is_err());
    }
}
