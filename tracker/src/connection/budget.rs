//! Memory for requests on their way: all connections together have so much, and one address a part of it.
//!
//! A request may be long, and connections are many: together they would be more than any machine has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::limits::network;

/// What is taken at a time.
const PIECE: usize = 64 * 1024;
/// Pieces that all connections have together.
const IN_ALL: usize = 128 * 1024 * 1024 / PIECE;
/// Pieces that the connections of one address of the network have together: two of the longest requests.
const FROM_ONE: usize = 34 * 1024 * 1024 / PIECE;

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
    by_address: HashMap<IpAddr, usize>,
}

/// What one connection holds of it, free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    address: IpAddr,
    pieces: usize,
}

impl Budget {
    /// Nothing is taken yet.
    pub fn new() -> Self {
        Self::with_bounds(IN_ALL, FROM_ONE)
    }

    /// So many pieces of 64 KiB for all, and so many for one address of the network.
    pub fn with_bounds(in_all: usize, from_one: usize) -> Self {
        let taken = Mutex::new(Taken { in_all: 0, by_address: HashMap::new() });
        Self { in_all, from_one, taken, freed: Notify::const_new() }
    }

    /// A share of it for a connection from there, which holds nothing yet.
    pub fn share(self: &Arc<Self>, from: IpAddr) -> Share {
        Share { budget: Arc::clone(self), address: network(from), pieces: 0 }
    }

    fn try_take(&self, address: IpAddr, more: usize) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let from_there = taken.by_address.get(&address).copied().unwrap_or_default();
        // Proxies and forwarders come from this machine itself.
        let from_one = if address.is_loopback() { self.in_all } else { self.from_one };
        if taken.in_all + more > self.in_all || from_there + more > from_one {
            return false;
        }
        taken.in_all += more;
        taken.by_address.insert(address, from_there + more);
        true
    }

    fn give_back(&self, address: IpAddr, pieces: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= pieces;
        if let Some(from_there) = taken.by_address.get_mut(&address) {
            *from_there -= pieces;
            if *from_there == 0 {
                taken.by_address.remove(&address);
            }
        }
        drop(taken);
        self.freed.notify_waiters();
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
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
        loop {
            let mut freed = std::pin::pin!(self.budget.freed.notified());
            freed.as_mut().enable();
            if self.budget.try_take(self.address, needed - self.pieces) {
                self.pieces = needed;
                return;
            }
            freed.await;
        }
    }

    fn shrink(&mut self, needed: usize) {
        if needed < self.pieces {
            self.budget.give_back(self.address, self.pieces - needed);
            self.pieces = needed;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
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

    #[tokio::test]
    async fn in_all_and_from_one_address() {
        let budget = Arc::new(Budget::with_bounds(5, 3));
        let share = |ip: &str| budget.share(ip.parse().unwrap());
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
        assert!(taken.in_all == 0 && taken.by_address.is_empty());
    }
}
