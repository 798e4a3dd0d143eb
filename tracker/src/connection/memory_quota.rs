//! The memory quota for unfinished requests: a total, and a part of it for each origin.
//!
//! A request may be long and connections are many: together they would exceed any machine's memory. A request keeps
//! its memory as long as it arrives at [`MIN_BYTES_PER_SECOND`]; a slower one loses it when another needs memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::quota_table::{ExhaustedQuota, QuotaLimits, QuotaTable};
use crate::rate_limits::ClientOrigin;

/// The unit in which memory is acquired.
const UNIT_BYTES: usize = 64 * 1024;
/// Units for all connections together.
const TOTAL_UNITS: usize = 128 * 1024 * 1024 / UNIT_BYTES;
/// Units for the connections of one origin: two of the longest requests.
const ORIGIN_UNITS: usize = 34 * 1024 * 1024 / UNIT_BYTES;
/// The pace in bytes a second at which a request must arrive to keep its memory while others wait.
const MIN_BYTES_PER_SECOND: u64 = 64 * 1024;
/// The longest time that a burst can put a request ahead of the pace.
const MAX_TIME_AHEAD: Duration = Duration::from_secs(3);
/// The interval at which a waiting request looks for slow ones.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(500);

/// The memory for long requests of all connections.
#[derive(Debug)]
pub struct MemoryQuota {
    /// In units of [`UNIT_BYTES`].
    limits: QuotaLimits,
    usage: Mutex<QuotaUsage>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct QuotaUsage {
    units: QuotaTable,
    last_ticket: u64,
    holders: HashMap<u64, LeaseHolder>,
}

#[derive(Debug)]
struct LeaseHolder {
    from: ClientOrigin,
    /// The time at which it falls behind unless more arrives; `None` while its whole request is being answered.
    behind_at: Option<Instant>,
    reclaimed: Arc<Notify>,
}

/// The memory that one connection holds, freed when this is dropped.
#[derive(Debug)]
pub struct MemoryLease {
    quota: Arc<MemoryQuota>,
    from: ClientOrigin,
    units: usize,
    ticket: Option<HolderTicket>,
}

#[derive(Debug)]
struct HolderTicket {
    number: u64,
    reclaimed: Arc<Notify>,
}

impl MemoryQuota {
    /// Creates the quota with the usual limits.
    pub fn new() -> Self {
        Self::with_bounds(TOTAL_UNITS, ORIGIN_UNITS)
    }

    /// Creates a quota of units of 64 KiB: in total, and for one origin.
    pub fn with_bounds(total_units: usize, origin_units: usize) -> Self {
        let limits = QuotaLimits::shared(total_units, origin_units);
        Self { limits, usage: Mutex::default(), freed: Notify::const_new() }
    }

    /// Creates an empty lease for a connection of this origin.
    pub fn lease(self: &Arc<Self>, from: ClientOrigin) -> MemoryLease {
        MemoryLease { quota: Arc::clone(self), from, units: 0, ticket: None }
    }

    fn try_acquire(&self, lease: &mut MemoryLease, more: usize, now: Instant) -> Result<(), ExhaustedQuota> {
        let from = lease.from;
        let mut usage = self.usage.lock();
        usage.units.try_add(from, more, self.limits)?;
        lease.units += more;
        let behind_at = Some(now + MAX_TIME_AHEAD);
        // `or`: a holder that asks for more keeps its pace.
        if let Some(holder) = lease.ticket.as_ref().and_then(|held| usage.holders.get_mut(&held.number)) {
            holder.behind_at = holder.behind_at.or(behind_at);
        } else {
            usage.last_ticket += 1;
            let (number, gives_way) = (usage.last_ticket, Arc::new(Notify::new()));
            usage.holders.insert(number, LeaseHolder { from, behind_at, reclaimed: Arc::clone(&gives_way) });
            lease.ticket = Some(HolderTicket { number, reclaimed: gives_way });
        }
        drop(usage);
        Ok(())
    }

    fn release(&self, lease: &mut MemoryLease, pieces: usize) {
        let mut usage = self.usage.lock();
        usage.units.subtract(lease.from, pieces);
        lease.units -= pieces;
        if lease.units == 0
            && let Some(held) = lease.ticket.take()
        {
            usage.holders.remove(&held.number);
        }
        drop(usage);
        // All waiters: they wait for different limits, and any of them may fit now.
        self.freed.notify_waiters();
    }

    /// Asks the holder furthest behind to give up its memory, if that relieves this limit.
    fn reclaim(&self, lack: ExhaustedQuota, from: ClientOrigin, now: Instant) {
        let mut usage = self.usage.lock();
        // Cleared, so that the next waiter doesn't choose the same holder again while it gives up its memory.
        if let Some(holder) = usage.furthest_behind(lack, from, now) {
            holder.behind_at = None;
            holder.reclaimed.notify_one();
        }
    }

    fn update_holder(&self, lease: &MemoryLease, change: impl FnOnce(&mut LeaseHolder)) {
        let Some(held) = &lease.ticket else { return };
        let mut usage = self.usage.lock();
        if let Some(holder) = usage.holders.get_mut(&held.number) {
            change(holder);
        }
    }
}

impl Default for MemoryQuota {
    fn default() -> Self {
        Self::new()
    }
}

impl QuotaUsage {
    fn furthest_behind(&mut self, lack: ExhaustedQuota, from: ClientOrigin, now: Instant) -> Option<&mut LeaseHolder> {
        let helps = |holder: &LeaseHolder| match lack {
            ExhaustedQuota::Total => true,
            ExhaustedQuota::PerOrigin => holder.from == from,
            ExhaustedQuota::PerNetwork => holder.from.network() == from.network(),
        };
        let is_behind = |holder: &&mut LeaseHolder| holder.behind_at.is_some_and(|at| at <= now) && helps(holder);
        self.holders.values_mut().filter(is_behind).min_by_key(|holder| holder.behind_at)
    }
}

impl MemoryLease {
    /// Holds the memory for this many bytes: frees the surplus at once, and waits for the rest. Cancel-safe.
    pub async fn resize(&mut self, bytes: usize) {
        let needed = bytes.div_ceil(UNIT_BYTES);
        if needed <= self.units {
            self.shrink(needed);
            return;
        }
        let quota = Arc::clone(&self.quota);
        loop {
            // Registered before the attempt: memory freed in between still wakes this task.
            let mut freed = std::pin::pin!(quota.freed.notified());
            freed.as_mut().enable();
            let now = Instant::now();
            match quota.try_acquire(self, needed - self.units, now) {
                Ok(()) => return,
                Err(lack) => quota.reclaim(lack, self.from, now),
            }
            // Both a release and a timeout lead to another attempt, which also looks for slow holders again.
            let _ = timeout(RECLAIM_INTERVAL, freed).await;
        }
    }

    /// Records that bytes of the request arrived.
    pub fn record_arrival(&self, bytes: usize, now: Instant) {
        self.quota.update_holder(self, |holder| {
            if let Some(behind_at) = &mut holder.behind_at {
                let paid_for = Duration::from_micros(bytes as u64 * 1_000_000 / MIN_BYTES_PER_SECOND);
                // `max`: a request that fell behind starts afresh with what has arrived.
                *behind_at = ((*behind_at).max(now) + paid_for).min(now + MAX_TIME_AHEAD);
            }
        });
    }

    /// Counts for another origin from now on, with nothing held.
    pub fn move_to(&mut self, from: ClientOrigin) {
        // The lease that was there frees its memory when it is dropped.
        *self = self.quota.lease(from);
    }

    /// Marks the request as complete: while the tracker answers it, its client can't be too slow.
    pub fn mark_complete(&self) {
        self.quota.update_holder(self, |holder| holder.behind_at = None);
    }

    /// Waits until this connection must give up its memory.
    pub async fn wait_for_reclaim(&self) {
        match &self.ticket {
            Some(held) => held.reclaimed.notified().await,
            None => std::future::pending().await,
        }
    }

    fn shrink(&mut self, needed: usize) {
        if needed < self.units {
            let quota = Arc::clone(&self.quota);
            quota.release(self, self.units - needed);
        }
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(share: &mut MemoryLease, pieces: usize) -> bool {
        use std::task::{Context, Poll, Waker};
        let fit = std::pin::pin!(share.resize(pieces * UNIT_BYTES));
        matches!(fit.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    fn gives_way(share: &MemoryLease) -> bool {
        use std::task::{Context, Waker};
        std::pin::pin!(share.wait_for_reclaim()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn in_all_and_from_one_address() {
        let quota = Arc::new(MemoryQuota::with_bounds(5, 3));
        let share = |ip: &str| quota.lease(ClientOrigin::of(ip.parse().unwrap()));
        let (mut one, mut same, mut other) = (share("10.0.0.1"), share("::ffff:10.0.0.1"), share("10.0.0.2"));
        assert!(at_once(&mut one, 2) && at_once(&mut one, 2) && at_once(&mut same, 1));
        assert!(!at_once(&mut same, 2));
        assert!(at_once(&mut other, 2));
        assert!(!at_once(&mut other, 3));
        assert!(!at_once(&mut share("127.0.0.1"), 1));
        let waiting = async { other.resize(3 * UNIT_BYTES).await };
        let ((), ()) = tokio::join!(waiting, async { drop(one) });
        assert!(at_once(&mut same, 2) && !at_once(&mut same, 3));
        drop((same, other));
        assert!(at_once(&mut share("127.0.0.1"), 5));
        let usage = quota.usage.lock();
        assert!(usage.units.is_empty() && usage.holders.is_empty());
    }

    #[tokio::test]
    async fn neighbours_in_an_ipv6_network_have_memory_of_their_own() {
        let quota = Arc::new(MemoryQuota::with_bounds(8, 2));
        let share = |ip: &str| quota.lease(ClientOrigin::of(ip.parse().unwrap()));
        let (mut one, mut two) = (share("fd00::1"), share("fd00::2"));
        assert!(at_once(&mut one, 2) && !at_once(&mut one, 3) && at_once(&mut two, 2));
        let mut three = share("fd00::3");
        assert!(at_once(&mut three, 2) && !at_once(&mut share("fd00::4"), 1) && at_once(&mut share("10.0.0.1"), 2));
    }

    #[tokio::test]
    async fn whoever_is_furthest_behind_gives_way_when_somebody_waits() {
        let quota = Arc::new(MemoryQuota::with_bounds(4, 4));
        let share = |ip: &str| quota.lease(ClientOrigin::of(ip.parse().unwrap()));
        let (mut stalled, mut slow, mut whole) = (share("10.0.0.1"), share("10.0.0.2"), share("10.0.0.3"));
        let (mut late, mut now) = (share("10.0.0.4"), Instant::now());
        assert!(at_once(&mut stalled, 1) && at_once(&mut slow, 2) && at_once(&mut whole, 1));
        now += Duration::from_secs(1);
        // A burst puts a request ahead for a limited time only.
        stalled.record_arrival(100 << 20, now);
        whole.mark_complete();
        for _ in 0..30 {
            quota.reclaim(quota.try_acquire(&mut late, 1, now).unwrap_err(), late.from, now);
            assert!(!gives_way(&stalled) && !gives_way(&slow) && !gives_way(&whole));
            now += Duration::from_millis(100);
            slow.record_arrival(MIN_BYTES_PER_SECOND as usize / 10 + 1, now);
        }
        quota.reclaim(quota.try_acquire(&mut late, 1, now).unwrap_err(), late.from, now);
        quota.reclaim(quota.try_acquire(&mut late, 1, now).unwrap_err(), late.from, now);
        assert!(gives_way(&stalled) && !gives_way(&slow) && !gives_way(&whole));
        drop(stalled);
        assert!(at_once(&mut late, 1));
    }
}
