//! Memory for requests on their way: all connections together have so much, and one address a part of it.
//!
//! A request may be long, and connections are many: together they would be more than any machine has. What arrives
//! keeps its memory as long as it arrives at `PACE`; what doesn't gives way when somebody else needs the memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::limits::{Network, Origin};

/// What is taken at a time.
const PIECE: usize = 64 * 1024;
/// Pieces that all connections have together.
const IN_ALL: usize = 128 * 1024 * 1024 / PIECE;
/// Pieces that the connections of one address of the network have together: two of the longest requests.
const FROM_ONE: usize = 34 * 1024 * 1024 / PIECE;
/// The pace at which a request has to arrive to keep its memory when others need it, bytes a second.
const PACE: u64 = 64 * 1024;
/// How far ahead of that it can be: what came at once excuses nobody for longer than this.
const AHEAD: Duration = Duration::from_secs(3);
/// How often whoever waits looks for those who are behind.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The memory there is.
#[derive(Debug)]
pub struct Budget {
    in_all: usize,
    from_one: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_address: HashMap<Origin, usize>,
    by_network: HashMap<Network, usize>,
    last: u64,
    holders: HashMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    from: Origin,
    /// When it is behind, unless more comes; `None` while its request is whole and being answered.
    behind_at: Option<Instant>,
    gives_way: Arc<Notify>,
}

/// What would have to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Memory,
    FromThere(Origin),
    FromNetwork(Network),
}

/// What one connection holds of it, free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    from: Origin,
    pieces: usize,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    gives_way: Arc<Notify>,
}

impl Budget {
    /// Nothing is taken yet.
    pub fn new() -> Self {
        Self::with_bounds(IN_ALL, FROM_ONE)
    }

    /// So many pieces of 64 KiB for all, and so many for one address of the network.
    pub fn with_bounds(in_all: usize, from_one: usize) -> Self {
        Self { in_all, from_one, taken: Mutex::default(), freed: Notify::const_new() }
    }

    /// A share of it for a connection from there, which holds nothing yet.
    pub fn share(self: &Arc<Self>, from: Origin) -> Share {
        Share { budget: Arc::clone(self), from, pieces: 0, held: None }
    }

    fn try_take(&self, share: &mut Share, more: usize, now: Instant) -> Result<(), Lack> {
        let from = share.from;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let from_there = taken.by_address.get(&from).copied().unwrap_or_default();
        let network = from.network().map(|it| (it, taken.by_network.get(&it).copied().unwrap_or_default()));
        // Proxies and forwarders come from this machine itself.
        let from_one = if from.is_loopback() { self.in_all } else { self.from_one };
        // Whatever one network does, others have a quarter.
        let from_network = (self.in_all - self.in_all / 4).max(from_one);
        if from_there + more > from_one {
            return Err(Lack::FromThere(from));
        }
        if let Some((network, count)) = network
            && count + more > from_network
        {
            return Err(Lack::FromNetwork(network));
        }
        if taken.in_all + more > self.in_all {
            return Err(Lack::Memory);
        }
        taken.in_all += more;
        taken.by_address.insert(from, from_there + more);
        if let Some((network, count)) = network {
            taken.by_network.insert(network, count + more);
        }
        share.pieces += more;
        let behind_at = Some(now + AHEAD);
        if let Some(holder) = share.held.as_ref().and_then(|held| taken.holders.get_mut(&held.number)) {
            holder.behind_at = holder.behind_at.or(behind_at);
        } else {
            taken.last += 1;
            let (number, gives_way) = (taken.last, Arc::new(Notify::new()));
            taken.holders.insert(number, Holder { from, behind_at, gives_way: Arc::clone(&gives_way) });
            share.held = Some(Held { number, gives_way });
        }
        drop(taken);
        Ok(())
    }

    fn give_back(&self, share: &mut Share, pieces: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= pieces;
        less(&mut taken.by_address, share.from, pieces);
        if let Some(network) = share.from.network() {
            less(&mut taken.by_network, network, pieces);
        }
        share.pieces -= pieces;
        if share.pieces == 0
            && let Some(held) = share.held.take()
        {
            taken.holders.remove(&held.number);
        }
        drop(taken);
        self.freed.notify_waiters();
    }

    /// Asks whoever is furthest behind to give way, if that helps.
    fn reclaim(&self, lack: Lack, now: Instant) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = taken.furthest_behind(lack, now) {
            holder.behind_at = None;
            holder.gives_way.notify_one();
        }
    }

    fn with_holder(&self, share: &Share, change: impl FnOnce(&mut Holder)) {
        let Some(held) = &share.held else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = taken.holders.get_mut(&held.number) {
            change(holder);
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Taken {
    fn furthest_behind(&mut self, lack: Lack, now: Instant) -> Option<&mut Holder> {
        let helps = |holder: &Holder| match lack {
            Lack::Memory => true,
            Lack::FromThere(from) => holder.from == from,
            Lack::FromNetwork(network) => holder.from.network() == Some(network),
        };
        let is_behind = |holder: &&mut Holder| holder.behind_at.is_some_and(|at| at <= now) && helps(holder);
        self.holders.values_mut().filter(is_behind).min_by_key(|holder| holder.behind_at)
    }
}

impl Share {
    /// Holds as much as `bytes` need: gives back what is too much at once, and waits for what is missing. It may be
    /// given up at any moment.
    pub async fn fit(&mut self, bytes: usize) {
        let needed = bytes.div_ceil(PIECE);
        if needed <= self.pieces {
            self.shrink(needed);
            return;
        }
        let budget = Arc::clone(&self.budget);
        loop {
            let mut freed = std::pin::pin!(budget.freed.notified());
            freed.as_mut().enable();
            let now = Instant::now();
            match budget.try_take(self, needed - self.pieces, now) {
                Ok(()) => return,
                Err(lack) => budget.reclaim(lack, now),
            }
            // Whether it came or not, the next look says.
            let _ = timeout(LOOK_EVERY, freed).await;
        }
    }

    /// So many bytes of the request came.
    pub fn arrived(&self, bytes: usize, now: Instant) {
        self.budget.with_holder(self, |holder| {
            if let Some(behind_at) = &mut holder.behind_at {
                let paid_for = Duration::from_micros(bytes as u64 * 1_000_000 / PACE);
                *behind_at = ((*behind_at).max(now) + paid_for).min(now + AHEAD);
            }
        });
    }

    /// From now on counts for this origin, beginning with nothing.
    pub fn move_to(&mut self, from: Origin) {
        *self = self.budget.share(from);
    }

    /// The request is whole: it is the tracker that takes its time now.
    pub fn is_whole(&self) {
        self.budget.with_holder(self, |holder| holder.behind_at = None);
    }

    /// Ready once somebody else is to have the memory.
    pub async fn must_give_way(&self) {
        match &self.held {
            Some(held) => held.gives_way.notified().await,
            None => std::future::pending().await,
        }
    }

    fn shrink(&mut self, needed: usize) {
        if needed < self.pieces {
            let budget = Arc::clone(&self.budget);
            budget.give_back(self, self.pieces - needed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

fn less<K: std::hash::Hash + Eq + Copy>(counts: &mut HashMap<K, usize>, key: K, pieces: usize) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= pieces;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(share: &mut Share, pieces: usize) -> bool {
        use std::task::{Context, Poll, Waker};
        let fit = std::pin::pin!(share.fit(pieces * PIECE));
        matches!(fit.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    fn gives_way(share: &Share) -> bool {
        use std::task::{Context, Waker};
        std::pin::pin!(share.must_give_way()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn in_all_and_from_one_address() {
        let budget = Arc::new(Budget::with_bounds(5, 3));
        let share = |ip: &str| budget.share(Origin::of(ip.parse().unwrap()));
        let (mut one, mut same, mut other) = (share("10.0.0.1"), share("::ffff:10.0.0.1"), share("10.0.0.2"));
        assert!(at_once(&mut one, 2) && at_once(&mut one, 2) && at_once(&mut same, 1));
        assert!(!at_once(&mut same, 2));
        assert!(at_once(&mut other, 2));
        assert!(!at_once(&mut other, 3));
        assert!(!at_once(&mut share("127.0.0.1"), 1));
        let waiting = async { other.fit(3 * PIECE).await };
        let ((), ()) = tokio::join!(waiting, async { drop(one) });
        assert!(at_once(&mut same, 2) && !at_once(&mut same, 3));
        drop((same, other));
        assert!(at_once(&mut share("127.0.0.1"), 5));
        let taken = budget.taken.lock().unwrap();
        assert!(taken.in_all == 0 && taken.by_address.is_empty() && taken.holders.is_empty());
    }

    #[tokio::test]
    async fn neighbours_in_an_ipv6_network_have_memory_of_their_own() {
        let budget = Arc::new(Budget::with_bounds(8, 2));
        let share = |ip: &str| budget.share(Origin::of(ip.parse().unwrap()));
        let (mut one, mut two) = (share("fd00::1"), share("fd00::2"));
        assert!(at_once(&mut one, 2) && !at_once(&mut one, 3) && at_once(&mut two, 2));
        let mut three = share("fd00::3");
        assert!(at_once(&mut three, 2) && !at_once(&mut share("fd00::4"), 1) && at_once(&mut share("10.0.0.1"), 2));
    }

    #[tokio::test]
    async fn whoever_is_furthest_behind_gives_way_when_somebody_waits() {
        let budget = Arc::new(Budget::with_bounds(4, 4));
        let share = |ip: &str| budget.share(Origin::of(ip.parse().unwrap()));
        let (mut stalled, mut slow, mut whole) = (share("10.0.0.1"), share("10.0.0.2"), share("10.0.0.3"));
        let (mut late, mut now) = (share("10.0.0.4"), Instant::now());
        assert!(at_once(&mut stalled, 1) && at_once(&mut slow, 2) && at_once(&mut whole, 1));
        now += Duration::from_secs(1);
        // Much at once excuses nobody for long.
        stalled.arrived(100 << 20, now);
        whole.is_whole();
        for _ in 0..30 {
            budget.reclaim(budget.try_take(&mut late, 1, now).unwrap_err(), now);
            assert!(!gives_way(&stalled) && !gives_way(&slow) && !gives_way(&whole));
            now += Duration::from_millis(100);
            slow.arrived(PACE as usize / 10 + 1, now);
        }
        budget.reclaim(budget.try_take(&mut late, 1, now).unwrap_err(), now);
        budget.reclaim(budget.try_take(&mut late, 1, now).unwrap_err(), now);
        assert!(gives_way(&stalled) && !gives_way(&slow) && !gives_way(&whole));
        drop(stalled);
        assert!(at_once(&mut late, 1));
    }
}
