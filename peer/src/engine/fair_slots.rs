//! Slots that are granted to keys in turn.
//!
//! A request gets a free slot at once if no one waits for it. Otherwise the next free slot goes to the waiting key that
//! holds the fewest, among these to the one whose turn is longest ago. So many requests of one key delay nobody else,
//! and many keys together only as long as each of them uses a slot.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The numbers of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FairSlotBounds {
    /// Slots of all keys together.
    pub(super) total: usize,
    /// Slots of each key.
    pub(super) per_key: usize,
}

/// Slots that tasks can wait for. Cheap to clone.
#[derive(Debug)]
pub(super) struct FairSlots<K>(Arc<Mutex<SlotState<K>>>);

/// A held slot; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct FairSlot<K: Hash + Eq + Clone> {
    slots: FairSlots<K>,
    key: K,
}

/// The number of one request for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SlotTicket(u64);

/// The holders of slots and the requests that wait. No I/O.
#[derive(Debug)]
struct SlotScheduler<K> {
    bounds: FairSlotBounds,
    in_use: usize,
    held: HashMap<K, usize>,
    /// Waiting keys in the order of their turns, each with its requests.
    waiting: VecDeque<(K, VecDeque<SlotTicket>)>,
    next_ticket: u64,
}

#[derive(Debug)]
struct SlotState<K> {
    scheduler: SlotScheduler<K>,
    /// The channels to the waiting tasks, by their tickets.
    wakers: HashMap<SlotTicket, oneshot::Sender<()>>,
}

impl<K: Hash + Eq + Clone> FairSlots<K> {
    /// Creates the slots, all free.
    pub(super) fn new(bounds: FairSlotBounds) -> Self {
        Self(Arc::new(Mutex::new(SlotState { scheduler: SlotScheduler::new(bounds), wakers: HashMap::new() })))
    }

    /// Takes a slot for `key`, if one is free for it.
    pub(super) fn try_acquire(&self, key: &K) -> Option<FairSlot<K>> {
        let is_taken = self.state().scheduler.try_take(key);
        is_taken.then(|| self.slot(key))
    }

    /// Waits for a slot for `key`. Cancel-safe: a dropped future withdraws its request.
    pub(super) async fn acquire(&self, key: &K) -> FairSlot<K> {
        let (ticket, granted) = {
            let mut hall = self.state();
            // Under the same lock as `enqueue`: a slot freed in between would wake nobody.
            if hall.scheduler.try_take(key) {
                drop(hall);
                return self.slot(key);
            }
            let ticket = hall.scheduler.enqueue(key);
            let (door, granted) = oneshot::channel();
            hall.wakers.insert(ticket, door);
            (ticket, granted)
        };
        let mut request = SlotWaiter { slots: self, key, ticket, is_granted: false };
        // The sender is dropped only together with the slots, which `self` holds.
        let _ = granted.await;
        request.is_granted = true;
        self.slot(key)
    }

    fn slot(&self, key: &K) -> FairSlot<K> {
        FairSlot { slots: self.clone(), key: key.clone() }
    }

    fn state(&self) -> MutexGuard<'_, SlotState<K>> {
        self.0.lock()
    }
}

impl<K> Clone for FairSlots<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq + Clone> FairSlot<K> {
    /// Returns the number of slots that this one's key holds.
    pub(super) fn held(&self) -> usize {
        self.slots.state().scheduler.held(&self.key)
    }

    /// True if more requests of this one's key wait.
    pub(super) fn has_own_waiting(&self) -> bool {
        self.slots.state().scheduler.waiting.iter().any(|(key, _)| *key == self.key)
    }

    /// Returns the fewest slots held by another waiting key that may have more; `None` if none waits.
    pub(super) fn fewest_held_by_waiting(&self) -> Option<usize> {
        self.slots.state().scheduler.fewest_held_by_waiting(&self.key)
    }
}

impl<K: Hash + Eq + Clone> Drop for FairSlot<K> {
    fn drop(&mut self) {
        let mut hall = self.slots.state();
        hall.scheduler.give_back(&self.key);
        hall.wake_granted();
    }
}

impl<K: Hash + Eq + Clone> SlotState<K> {
    fn wake_granted(&mut self) {
        while let Some(ticket) = self.scheduler.grant() {
            if let Some(door) = self.wakers.remove(&ticket) {
                // A task that stopped waiting withdraws in its `Drop`, and gives the slot back there.
                let _ = door.send(());
            }
        }
    }
}

/// A waiting request; dropping it withdraws the request.
struct SlotWaiter<'a, K: Hash + Eq + Clone> {
    slots: &'a FairSlots<K>,
    key: &'a K,
    ticket: SlotTicket,
    is_granted: bool,
}

impl<K: Hash + Eq + Clone> Drop for SlotWaiter<'_, K> {
    fn drop(&mut self) {
        if self.is_granted {
            return;
        }
        let mut hall = self.slots.state();
        hall.wakers.remove(&self.ticket);
        if !hall.scheduler.withdraw(self.key, self.ticket) {
            // Granted between the last poll and the drop: pass the slot on.
            hall.scheduler.give_back(self.key);
            hall.wake_granted();
        }
    }
}

impl<K: Hash + Eq + Clone> SlotScheduler<K> {
    fn new(bounds: FairSlotBounds) -> Self {
        Self { bounds, in_use: 0, held: HashMap::new(), waiting: VecDeque::new(), next_ticket: 0 }
    }

    fn held(&self, key: &K) -> usize {
        self.held.get(key).copied().unwrap_or(0)
    }

    fn can_hold(&self, key: &K) -> bool {
        self.in_use < self.bounds.total && self.held(key) < self.bounds.per_key
    }

    /// Takes a slot, unless another key waits that could take it. A free slot for which none of the waiting keys is
    /// eligible (each at its own bound) may be taken.
    fn try_take(&mut self, key: &K) -> bool {
        let is_free = self.can_hold(key) && !self.waiting.iter().any(|(other, _)| self.can_hold(other));
        if is_free {
            self.record_taken(key);
        }
        is_free
    }

    fn record_taken(&mut self, key: &K) {
        self.in_use += 1;
        *self.held.entry(key.clone()).or_default() += 1;
    }

    fn enqueue(&mut self, key: &K) -> SlotTicket {
        let ticket = SlotTicket(self.next_ticket);
        self.next_ticket += 1;
        match self.waiting.iter_mut().find(|(other, _)| other == key) {
            Some((_, tickets)) => tickets.push_back(ticket),
            None => self.waiting.push_back((key.clone(), VecDeque::from([ticket]))),
        }
        ticket
    }

    /// Withdraws a request; returns false if it doesn't wait any more.
    fn withdraw(&mut self, key: &K, ticket: SlotTicket) -> bool {
        let Some((_, tickets)) = self.waiting.iter_mut().find(|(other, _)| other == key) else { return false };
        let before = tickets.len();
        tickets.retain(|other| *other != ticket);
        let was_there = tickets.len() < before;
        self.waiting.retain(|(_, tickets)| !tickets.is_empty());
        was_there
    }

    fn give_back(&mut self, key: &K) {
        self.in_use = self.in_use.saturating_sub(1);
        if let Some(held) = self.held.get_mut(key) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(key);
            }
        }
    }

    /// Grants one free slot to the next request.
    fn grant(&mut self) -> Option<SlotTicket> {
        let eligible = self.waiting.iter().enumerate().filter(|(_, (key, _))| self.can_hold(key));
        // The first among those with the fewest slots: the queue is in the order of turns.
        let (at, _) = eligible.min_by_key(|(at, (key, _))| (self.held(key), *at))?;
        let (key, mut tickets) = self.waiting.remove(at)?;
        let ticket = tickets.pop_front();
        self.record_taken(&key);
        // To the end: the key's other requests wait for its next turn.
        if !tickets.is_empty() {
            self.waiting.push_back((key, tickets));
        }
        ticket
    }

    fn fewest_held_by_waiting(&self, except: &K) -> Option<usize> {
        let others = self.waiting.iter().filter(|(key, _)| key != except);
        others.map(|(key, _)| self.held(key)).filter(|held| *held < self.bounds.per_key).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: FairSlotBounds = FairSlotBounds { total: 4, per_key: 2 };

    #[test]
    fn places_go_round_between_keys_and_not_between_requests() {
        let mut turns = SlotScheduler::new(BOUNDS);
        assert_eq!(
            ["a", "a", "a", "b", "c", "c"].map(|key| turns.try_take(&key)),
            [true, true, false, true, true, false]
        );
        let greedy: Vec<SlotTicket> = (0..5).map(|_| turns.enqueue(&"a")).collect();
        let (late, later) = (turns.enqueue(&"d"), turns.enqueue(&"b"));
        assert_eq!(turns.grant(), None);
        turns.give_back(&"a");
        // "d" has none yet, "a" and "b" have one each, and "a" came first.
        assert_eq!(turns.grant(), Some(late));
        turns.give_back(&"c");
        assert_eq!(turns.grant(), Some(greedy[0]));
        turns.give_back(&"d");
        assert_eq!(turns.grant(), Some(later));
        assert_eq!(turns.fewest_held_by_waiting(&"a"), None);
        assert!(turns.withdraw(&"a", greedy[1]) && !turns.withdraw(&"a", greedy[0]));
    }

    #[test]
    fn a_place_that_those_who_wait_may_not_have_is_free_for_another() {
        let mut turns = SlotScheduler::new(BOUNDS);
        assert_eq!(["a", "a", "a"].map(|key| turns.try_take(&key)), [true, true, false]);
        turns.enqueue(&"a");
        assert!(turns.try_take(&"b"));
        assert_eq!(turns.fewest_held_by_waiting(&"b"), None, "it has all that it may have");
    }

    proptest! {
        /// For any order of requests, returns and withdrawals: the bounds hold, no slot is lost, and a slot is free only
        /// while no waiting key may take it.
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0..6_u8, 0..3_u8, any::<prop::sample::Index>()), 1..300)) {
            let mut turns = SlotScheduler::new(BOUNDS);
            let (mut held, mut waiting): (Vec<u8>, Vec<(u8, SlotTicket)>) = (Vec::new(), Vec::new());
            for (key, step, which) in steps {
                match step {
                    0 if turns.try_take(&key) => held.push(key),
                    0 => waiting.push((key, turns.enqueue(&key))),
                    1 if !held.is_empty() => turns.give_back(&held.swap_remove(which.index(held.len()))),
                    2 if !waiting.is_empty() => {
                        let (key, ticket) = waiting.swap_remove(which.index(waiting.len()));
                        prop_assert!(turns.withdraw(&key, ticket));
                    }
                    _ => {}
                }
                while let Some(ticket) = turns.grant() {
                    let at = waiting.iter().position(|(_, other)| *other == ticket).expect("it waited");
                    held.push(waiting.swap_remove(at).0);
                }
                prop_assert!(turns.in_use == held.len() && held.len() <= BOUNDS.total);
                for key in 0..6 {
                    let of_key = held.iter().filter(|other| **other == key).count();
                    prop_assert!(of_key == turns.held(&key) && of_key <= BOUNDS.per_key);
                }
                let waits = turns.waiting.iter().map(|(_, tickets)| tickets.len()).sum::<usize>();
                prop_assert_eq!(waits, waiting.len());
                prop_assert!(!waiting.iter().any(|(key, _)| turns.can_hold(key)));
            }
        }
    }

    #[tokio::test]
    async fn whoever_waits_no_longer_takes_nothing() {
        let places = FairSlots::new(FairSlotBounds { total: 1, per_key: 1 });
        let first = places.acquire(&"a").await;
        let mut given_up = Box::pin(places.acquire(&"b"));
        assert!(futures_poll(&mut given_up).await.is_none());
        drop(given_up);
        assert_eq!((first.fewest_held_by_waiting(), first.held()), (None, 1));
        // Granted and given up in the same moment.
        let mut granted = Box::pin(places.acquire(&"b"));
        assert!(futures_poll(&mut granted).await.is_none());
        assert_eq!(first.fewest_held_by_waiting(), Some(0));
        drop(first);
        drop(granted);
        assert_eq!(places.state().scheduler.in_use, 0);
        assert!(places.try_acquire(&"c").is_some());
    }

    /// Polls once.
    async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
