//! Places that are given out to keys in turn.
//!
//! Whoever asks gets a place at once while there is one to be had; else the next free place goes to the waiting key that
//! holds the fewest, and of these to the one whose turn is longest ago. So many requests of one key keep nobody else waiting, and
//! many keys together only as long as each of them uses a place.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceBounds {
    /// For all keys together.
    pub(super) total: usize,
    /// For each of them.
    pub(super) per_key: usize,
}

/// Places for tasks that wait for them. Cheap to clone.
#[derive(Debug)]
pub(super) struct FairPlaces<K>(Arc<Mutex<Hall<K>>>);

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct FairPlace<K: Hash + Eq + Clone> {
    places: FairPlaces<K>,
    key: K,
}

/// One request for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ticket(u64);

/// Who holds places and who waits for them. Pure.
#[derive(Debug)]
struct Turns<K> {
    bounds: PlaceBounds,
    in_use: usize,
    held: HashMap<K, usize>,
    /// Keys that wait, the next one first, each with its requests.
    waiting: VecDeque<(K, VecDeque<Ticket>)>,
    next: u64,
}

#[derive(Debug)]
struct Hall<K> {
    turns: Turns<K>,
    /// Those who wait, by their tickets.
    doors: HashMap<Ticket, oneshot::Sender<()>>,
}

impl<K: Hash + Eq + Clone> FairPlaces<K> {
    /// Nobody holds any.
    pub(super) fn new(bounds: PlaceBounds) -> Self {
        Self(Arc::new(Mutex::new(Hall { turns: Turns::new(bounds), doors: HashMap::new() })))
    }

    /// Takes a place for `key`, if one is free for it.
    pub(super) fn try_take(&self, key: &K) -> Option<FairPlace<K>> {
        let is_taken = self.hall().turns.take_now(key);
        is_taken.then(|| self.place(key))
    }

    /// Waits for a place for `key`.
    pub(super) async fn take(&self, key: &K) -> FairPlace<K> {
        let (ticket, granted) = {
            let mut hall = self.hall();
            if hall.turns.take_now(key) {
                drop(hall);
                return self.place(key);
            }
            let ticket = hall.turns.wait(key);
            let (door, granted) = oneshot::channel();
            hall.doors.insert(ticket, door);
            (ticket, granted)
        };
        let mut request = Request { places: self, key, ticket, is_over: false };
        // The door is dropped only together with the places, which are here.
        let _ = granted.await;
        request.is_over = true;
        self.place(key)
    }

    fn place(&self, key: &K) -> FairPlace<K> {
        FairPlace { places: self.clone(), key: key.clone() }
    }

    fn hall(&self) -> MutexGuard<'_, Hall<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for FairPlaces<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq + Clone> FairPlace<K> {
    /// Returns how many places this one's key holds.
    pub(super) fn held(&self) -> usize {
        self.places.hall().turns.held(&self.key)
    }

    /// Whether more requests of this one's key wait.
    pub(super) fn own_wait(&self) -> bool {
        self.places.hall().turns.waiting.iter().any(|(key, _)| *key == self.key)
    }

    /// Returns the fewest places that another key holds which waits and may have more; `None` if no other waits.
    pub(super) fn poorest_waiting(&self) -> Option<usize> {
        self.places.hall().turns.poorest_waiting(&self.key)
    }
}

impl<K: Hash + Eq + Clone> Drop for FairPlace<K> {
    fn drop(&mut self) {
        let mut hall = self.places.hall();
        hall.turns.give_back(&self.key);
        hall.open_doors();
    }
}

impl<K: Hash + Eq + Clone> Hall<K> {
    fn open_doors(&mut self) {
        while let Some(ticket) = self.turns.grant() {
            if let Some(door) = self.doors.remove(&ticket) {
                // One that doesn't wait any more gives it back itself.
                let _ = door.send(());
            }
        }
    }
}

/// A request that waits; withdrawn when it is dropped.
struct Request<'a, K: Hash + Eq + Clone> {
    places: &'a FairPlaces<K>,
    key: &'a K,
    ticket: Ticket,
    is_over: bool,
}

impl<K: Hash + Eq + Clone> Drop for Request<'_, K> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut hall = self.places.hall();
        hall.doors.remove(&self.ticket);
        if !hall.turns.withdraw(self.key, self.ticket) {
            // It was granted in the same moment.
            hall.turns.give_back(self.key);
            hall.open_doors();
        }
    }
}

impl<K: Hash + Eq + Clone> Turns<K> {
    fn new(bounds: PlaceBounds) -> Self {
        Self { bounds, in_use: 0, held: HashMap::new(), waiting: VecDeque::new(), next: 0 }
    }

    fn held(&self, key: &K) -> usize {
        self.held.get(key).copied().unwrap_or(0)
    }

    fn may_have(&self, key: &K) -> bool {
        self.in_use < self.bounds.total && self.held(key) < self.bounds.per_key
    }

    /// Takes a place unless somebody waits for it: a place that is free for one key while others wait is one that none of
    /// them may have.
    fn take_now(&mut self, key: &K) -> bool {
        let is_free = self.may_have(key) && !self.waiting.iter().any(|(other, _)| self.may_have(other));
        if is_free {
            self.note_taken(key);
        }
        is_free
    }

    fn note_taken(&mut self, key: &K) {
        self.in_use += 1;
        *self.held.entry(key.clone()).or_default() += 1;
    }

    fn wait(&mut self, key: &K) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        match self.waiting.iter_mut().find(|(other, _)| other == key) {
            Some((_, tickets)) => tickets.push_back(ticket),
            None => self.waiting.push_back((key.clone(), VecDeque::from([ticket]))),
        }
        ticket
    }

    /// Takes back a request; false when it doesn't wait any more.
    fn withdraw(&mut self, key: &K, ticket: Ticket) -> bool {
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

    /// Gives one free place to whose turn it is.
    fn grant(&mut self) -> Option<Ticket> {
        let eligible = self.waiting.iter().enumerate().filter(|(_, (key, _))| self.may_have(key));
        // The first of those with the fewest: they stand in the order of their turns.
        let (at, _) = eligible.min_by_key(|(at, (key, _))| (self.held(key), *at))?;
        let (key, mut tickets) = self.waiting.remove(at)?;
        let ticket = tickets.pop_front();
        self.note_taken(&key);
        if !tickets.is_empty() {
            self.waiting.push_back((key, tickets));
        }
        ticket
    }

    fn poorest_waiting(&self, except: &K) -> Option<usize> {
        let others = self.waiting.iter().filter(|(key, _)| key != except);
        others.map(|(key, _)| self.held(key)).filter(|held| *held < self.bounds.per_key).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: PlaceBounds = PlaceBounds { total: 4, per_key: 2 };

    #[test]
    fn places_go_round_between_keys_and_not_between_requests() {
        let mut turns = Turns::new(BOUNDS);
        assert_eq!(
            ["a", "a", "a", "b", "c", "c"].map(|key| turns.take_now(&key)),
            [true, true, false, true, true, false]
        );
        let greedy: Vec<Ticket> = (0..5).map(|_| turns.wait(&"a")).collect();
        let (late, later) = (turns.wait(&"d"), turns.wait(&"b"));
        assert_eq!(turns.grant(), None);
        turns.give_back(&"a");
        // "d" has none yet, "a" and "b" have one each, and "a" came first.
        assert_eq!(turns.grant(), Some(late));
        turns.give_back(&"c");
        assert_eq!(turns.grant(), Some(greedy[0]));
        turns.give_back(&"d");
        assert_eq!(turns.grant(), Some(later));
        assert_eq!(turns.poorest_waiting(&"a"), None);
        assert!(turns.withdraw(&"a", greedy[1]) && !turns.withdraw(&"a", greedy[0]));
    }

    #[test]
    fn a_place_that_those_who_wait_may_not_have_is_free_for_another() {
        let mut turns = Turns::new(BOUNDS);
        assert_eq!(["a", "a", "a"].map(|key| turns.take_now(&key)), [true, true, false]);
        turns.wait(&"a");
        assert!(turns.take_now(&"b"));
        assert_eq!(turns.poorest_waiting(&"b"), None, "it has all that it may have");
    }

    proptest! {
        /// Whatever is asked for, given back and withdrawn: the bounds hold, nothing is lost, and a place is free only
        /// while nobody waits who may have it.
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0..6_u8, 0..3_u8, any::<prop::sample::Index>()), 1..300)) {
            let mut turns = Turns::new(BOUNDS);
            let (mut held, mut waiting): (Vec<u8>, Vec<(u8, Ticket)>) = (Vec::new(), Vec::new());
            for (key, step, which) in steps {
                match step {
                    0 if turns.take_now(&key) => held.push(key),
                    0 => waiting.push((key, turns.wait(&key))),
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
                prop_assert!(!waiting.iter().any(|(key, _)| turns.may_have(key)));
            }
        }
    }

    #[tokio::test]
    async fn whoever_waits_no_longer_takes_nothing() {
        let places = FairPlaces::new(PlaceBounds { total: 1, per_key: 1 });
        let first = places.take(&"a").await;
        let mut given_up = Box::pin(places.take(&"b"));
        assert!(futures_poll(&mut given_up).await.is_none());
        drop(given_up);
        assert_eq!((first.poorest_waiting(), first.held()), (None, 1));
        // Granted and given up in the same moment.
        let mut granted = Box::pin(places.take(&"b"));
        assert!(futures_poll(&mut granted).await.is_none());
        assert_eq!(first.poorest_waiting(), Some(0));
        drop(first);
        drop(granted);
        assert_eq!(places.hall().turns.in_use, 0);
        assert!(places.try_take(&"c").is_some());
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
