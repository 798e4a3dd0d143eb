//! A semaphore whose permits go round by origin, for expensive work such as hashing passwords.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::rate_limits::ClientOrigin;

/// The party that requests work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requester {
    /// The administrator on the local socket, who comes first.
    Administrator,
    /// A client.
    Client(ClientOrigin),
}

/// A semaphore with a bounded queue for each origin.
#[derive(Debug)]
pub(crate) struct FairSemaphore {
    permits: usize,
    state: Mutex<SemaphoreState>,
}

#[derive(Debug)]
struct SemaphoreState {
    free_permits: usize,
    clients: RoundRobinQueue<oneshot::Sender<FairPermit>>,
    administrator: VecDeque<oneshot::Sender<FairPermit>>,
    administrator_bound: usize,
}

/// One permit. Dropping it gives it to the next in turn.
#[derive(Debug)]
pub(crate) struct FairPermit(Option<Arc<FairSemaphore>>);

/// The waiting requests: a queue for each origin, and turns among the origins.
#[derive(Debug)]
struct RoundRobinQueue<T> {
    bound: usize,
    len: usize,
    queues: HashMap<ClientOrigin, VecDeque<T>>,
    /// The origins with a non-empty queue, in the order of their turns.
    origins: VecDeque<ClientOrigin>,
}

impl From<ClientOrigin> for Requester {
    fn from(origin: ClientOrigin) -> Self {
        Self::Client(origin)
    }
}

impl FairSemaphore {
    pub(crate) fn new(permits: usize, waiting: usize, administrator_bound: usize) -> Self {
        let clients = RoundRobinQueue { bound: waiting, len: 0, queues: HashMap::new(), origins: VecDeque::new() };
        let state =
            SemaphoreState { free_permits: permits, clients, administrator: VecDeque::new(), administrator_bound };
        Self { permits, state: Mutex::new(state) }
    }

    /// Waits for a permit; `None` when too many wait. Cancel-safe.
    pub(crate) async fn acquire(self: &Arc<Self>, requester: Requester) -> Option<FairPermit> {
        let permit = {
            let mut state = self.state.lock();
            // A permit is free only while nobody waits: `next` passes on all others.
            if state.free_permits > 0 {
                state.free_permits -= 1;
                return Some(FairPermit(Some(Arc::clone(self))));
            }
            let (ticket, permit) = oneshot::channel();
            // The refused ticket may be another origin's; dropping it wakes its owner with `None`.
            drop(state.enqueue(requester, ticket));
            permit
        };
        permit.await.ok()
    }

    /// Returns the number of permits in use and of requests that wait.
    pub(crate) fn used_or_awaited(&self) -> usize {
        let state = self.state.lock();
        self.permits - state.free_permits + state.clients.len + state.administrator.len()
    }
}

impl SemaphoreState {
    /// Adds a ticket. Returns the ticket for which there is no place.
    fn enqueue(
        &mut self,
        requester: Requester,
        ticket: oneshot::Sender<FairPermit>,
    ) -> Option<oneshot::Sender<FairPermit>> {
        match requester {
            Requester::Client(from) => {
                // Cancelled requests leave closed tickets behind, which are only removed when space is needed.
                if self.clients.is_full() {
                    self.clients.retain(|ticket| !ticket.is_closed());
                }
                self.clients.push(from, ticket)
            }
            Requester::Administrator => {
                self.administrator.retain(|ticket| !ticket.is_closed());
                if self.administrator.len() >= self.administrator_bound {
                    return Some(ticket);
                }
                self.administrator.push_back(ticket);
                None
            }
        }
    }

    fn next(&mut self) -> Option<oneshot::Sender<FairPermit>> {
        let next = self.administrator.pop_front().or_else(|| self.clients.pop());
        self.free_permits += usize::from(next.is_none());
        next
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let Some(semaphore) = self.0.take() else { return };
        loop {
            // Locked for this line only: a permit that `send` returns must not be dropped under the lock.
            let next = semaphore.state.lock().next();
            let Some(ticket) = next else { return };
            match ticket.send(Self(Some(Arc::clone(&semaphore)))) {
                Ok(()) => return,
                // The requester has given up: the permit goes to the next one. Emptied, so that its drop does nothing.
                Err(mut permit) => permit.0 = None,
            }
        }
    }
}

impl<T> RoundRobinQueue<T> {
    const fn is_full(&self) -> bool {
        self.len >= self.bound
    }

    /// Adds a request. Returns the one for which there is no place: the newest of the longest queue.
    fn push(&mut self, from: ClientOrigin, one: T) -> Option<T> {
        let mut without_place = None;
        if self.is_full() {
            let here = self.queues.get(&from).map_or(0, VecDeque::len);
            // `here + 1`: an origin whose queue would then be as long can't push out another one.
            let longest = self.queues.iter().max_by_key(|(_, row)| row.len()).map(|(origin, row)| (*origin, row.len()));
            match longest {
                Some((longest, len)) if len > here + 1 => without_place = self.pop_newest(longest),
                _ => return Some(one),
            }
        }
        let row = self.queues.entry(from).or_default();
        if row.is_empty() {
            self.origins.push_back(from);
        }
        row.push_back(one);
        self.len += 1;
        without_place
    }

    fn pop(&mut self) -> Option<T> {
        let from = self.origins.pop_front()?;
        let row = self.queues.get_mut(&from)?;
        let one = row.pop_front()?;
        self.len -= 1;
        if row.is_empty() {
            self.queues.remove(&from);
        } else {
            // Behind all others: each of them has its turn first.
            self.origins.push_back(from);
        }
        Some(one)
    }

    /// Removes the newest request of an origin that has more than one.
    fn pop_newest(&mut self, from: ClientOrigin) -> Option<T> {
        let newest = self.queues.get_mut(&from)?.pop_back()?;
        self.len -= 1;
        Some(newest)
    }

    fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.queues.values_mut().for_each(|row| row.retain(&is_kept));
        self.queues.retain(|_, row| !row.is_empty());
        self.origins.retain(|from| self.queues.contains_key(from));
        self.len = self.queues.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(n: u8) -> ClientOrigin {
        ClientOrigin::of([10, 0, 0, n].into())
    }

    fn queue(bound: usize) -> RoundRobinQueue<(u8, u32)> {
        RoundRobinQueue { bound, len: 0, queues: HashMap::new(), origins: VecDeque::new() }
    }

    #[test]
    fn whoever_asks_for_little_has_a_turn_soon_and_always_a_place() {
        let mut queue = queue(100);
        let turned_away = (0..1000).filter(|n| queue.push(origin((n % 3) as u8), ((n % 3) as u8, *n)).is_some());
        assert_eq!(turned_away.count(), 900);
        let gave_way = queue.push(origin(9), (9, 0)).unwrap();
        assert!(gave_way.0 < 3 && gave_way.1 > 90, "{gave_way:?}");
        let next: Vec<u8> = std::iter::from_fn(|| queue.pop()).take(4).map(|(from, _)| from).collect();
        assert!(next.contains(&9), "{next:?}");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_on() {
        let permits = Arc::new(FairSemaphore::new(1, 2, 1));
        let here = Requester::Client(origin(1));
        let permit = permits.acquire(here).await.unwrap();
        {
            let given_up = std::pin::pin!(permits.acquire(here));
            assert!(given_up.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
            let also = std::pin::pin!(permits.acquire(here));
            assert!(also.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        let (next, ()) = tokio::join!(permits.acquire(here), async { drop(permit) });
        assert_eq!(permits.used_or_awaited(), 1);
        drop(next);
        assert_eq!(permits.used_or_awaited(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_address_keeps_its_order(steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..200)) {
            let (mut queue, mut inside, mut next) = (queue(7), Vec::new(), 0);
            for (from, pops) in steps {
                if pops {
                    let popped = queue.pop();
                    prop_assert_eq!(popped.is_none(), inside.is_empty());
                    if let Some(one) = popped {
                        let first = inside.iter().position(|(from, _)| *from == one.0);
                        prop_assert_eq!(inside.remove(first.unwrap()), one);
                    }
                } else {
                    next += 1;
                    inside.push((from, next));
                    if let Some(one) = queue.push(origin(from), (from, next)) {
                        inside.retain(|other| *other != one);
                    }
                    prop_assert!(queue.len <= 7);
                }
                prop_assert_eq!(queue.len, inside.len());
                prop_assert_eq!(queue.origins.len(), queue.queues.len());
            }
        }
    }
}
