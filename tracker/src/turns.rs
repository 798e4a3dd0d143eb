//! Turns at something dear, such as a core that hashes passwords: they go round by origin.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::limits::Origin;

/// Who wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker {
    /// The administrator, on the local socket: comes first.
    Administrator,
    /// A client.
    Client(Origin),
}

/// Turns at the cores.
#[derive(Debug)]
pub(crate) struct Turns {
    cores: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    clients: Queue<oneshot::Sender<Turn>>,
    administrator: VecDeque<oneshot::Sender<Turn>>,
    administrator_bound: usize,
}

/// One turn. The next one's begins when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Turns>>);

/// Those who wait, each address in a row of its own, and the rows have their turns one after another.
#[derive(Debug)]
struct Queue<T> {
    bound: usize,
    len: usize,
    rows: HashMap<Origin, VecDeque<T>>,
    /// The addresses of rows that aren't empty.
    round: VecDeque<Origin>,
}

impl From<Origin> for Asker {
    fn from(origin: Origin) -> Self {
        Self::Client(origin)
    }
}

impl Turns {
    pub(crate) fn new(cores: usize, waiting: usize, administrator_bound: usize) -> Self {
        let clients = Queue { bound: waiting, len: 0, rows: HashMap::new(), round: VecDeque::new() };
        let state = State { free: cores, clients, administrator: VecDeque::new(), administrator_bound };
        Self { cores, state: Mutex::new(state) }
    }

    /// A turn, when it is there; `None` when too many wait. It may be given up at any moment.
    pub(crate) async fn wait(self: &Arc<Self>, asker: Asker) -> Option<Turn> {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(Arc::clone(self))));
            }
            let (ticket, turn) = oneshot::channel();
            // Whose ticket is dropped is told so by that.
            drop(state.queue(asker, ticket));
            turn
        };
        turn.await.ok()
    }

    /// Turns that are used or waited for.
    pub(crate) fn asked_for(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.cores - state.free + state.clients.len + state.administrator.len()
    }
}

impl State {
    /// Hands back the ticket for which there is no room.
    fn queue(&mut self, asker: Asker, ticket: oneshot::Sender<Turn>) -> Option<oneshot::Sender<Turn>> {
        match asker {
            Asker::Client(from) => {
                if self.clients.is_full() {
                    self.clients.retain(|ticket| !ticket.is_closed());
                }
                self.clients.push(from, ticket)
            }
            Asker::Administrator => {
                self.administrator.retain(|ticket| !ticket.is_closed());
                if self.administrator.len() >= self.administrator_bound {
                    return Some(ticket);
                }
                self.administrator.push_back(ticket);
                None
            }
        }
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let next = self.administrator.pop_front().or_else(|| self.clients.pop());
        self.free += usize::from(next.is_none());
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        loop {
            let next = turns.state.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(ticket) = next else { return };
            match ticket.send(Self(Some(Arc::clone(&turns)))) {
                Ok(()) => return,
                // Given up meanwhile; this turn is still to be given.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl<T> Queue<T> {
    const fn is_full(&self) -> bool {
        self.len >= self.bound
    }

    /// Hands back the one for which there is no room: the newest of the longest row.
    fn push(&mut self, from: Origin, one: T) -> Option<T> {
        let mut without_place = None;
        if self.is_full() {
            let here = self.rows.get(&from).map_or(0, VecDeque::len);
            let longest = self.rows.iter().max_by_key(|(_, row)| row.len()).map(|(origin, row)| (*origin, row.len()));
            match longest {
                Some((longest, len)) if len > here + 1 => without_place = self.pop_newest(longest),
                _ => return Some(one),
            }
        }
        let row = self.rows.entry(from).or_default();
        if row.is_empty() {
            self.round.push_back(from);
        }
        row.push_back(one);
        self.len += 1;
        without_place
    }

    fn pop(&mut self) -> Option<T> {
        let from = self.round.pop_front()?;
        let row = self.rows.get_mut(&from)?;
        let one = row.pop_front()?;
        self.len -= 1;
        if row.is_empty() {
            self.rows.remove(&from);
        } else {
            self.round.push_back(from);
        }
        Some(one)
    }

    /// Only from rows that have more than one.
    fn pop_newest(&mut self, from: Origin) -> Option<T> {
        let newest = self.rows.get_mut(&from)?.pop_back()?;
        self.len -= 1;
        Some(newest)
    }

    fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.rows.values_mut().for_each(|row| row.retain(&is_kept));
        self.rows.retain(|_, row| !row.is_empty());
        self.round.retain(|from| self.rows.contains_key(from));
        self.len = self.rows.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(n: u8) -> Origin {
        Origin::of([10, 0, 0, n].into())
    }

    fn queue(bound: usize) -> Queue<(u8, u32)> {
        Queue { bound, len: 0, rows: HashMap::new(), round: VecDeque::new() }
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
        let turns = Arc::new(Turns::new(1, 2, 1));
        let here = Asker::Client(origin(1));
        let turn = turns.wait(here).await.unwrap();
        {
            let given_up = std::pin::pin!(turns.wait(here));
            assert!(given_up.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
            let also = std::pin::pin!(turns.wait(here));
            assert!(also.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        let (next, ()) = tokio::join!(turns.wait(here), async { drop(turn) });
        assert_eq!(turns.asked_for(), 1);
        drop(next);
        assert_eq!(turns.asked_for(), 0);
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
                prop_assert_eq!(queue.round.len(), queue.rows.len());
            }
        }
    }
}
