//! Bounded queue with a turn for each user. No I/O.

use std::collections::{HashMap, VecDeque};

use shared::UserName;

/// The bounds of a [`FairQueue`].
#[derive(Debug, Clone, Copy)]
pub struct QueueBounds {
    /// The largest number of entries of one user.
    pub per_user: usize,
    /// The largest number of entries of all users.
    pub total: usize,
}

/// A bounded queue for each user, emptied in turn: nobody waits behind more than one entry of each other user.
///
/// When the total is reached, the longest queue loses its last entry to a user with a shorter one. So a user with many
/// entries takes nothing from one with few, and many small accounts take nothing from each other.
#[derive(Debug)]
pub struct FairQueue<T> {
    bounds: QueueBounds,
    queues: HashMap<UserName, UserQueue<T>>,
    /// Users with entries or drops, the next one first.
    turns: VecDeque<UserName>,
    len: usize,
}

#[derive(Debug)]
struct UserQueue<T> {
    entries: VecDeque<T>,
    /// Entries dropped since the last one was taken out.
    dropped: u64,
}

/// The next item of a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum QueueItem<T> {
    /// An entry of this user.
    Entry(UserName, T),
    /// The number of dropped entries of this user, who has no other entries waiting.
    Dropped(UserName, u64),
}

impl<T> FairQueue<T> {
    /// Returns an empty queue.
    pub fn new(bounds: QueueBounds) -> Self {
        Self { bounds, queues: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }

    /// Queues an entry of `from`, or counts it as dropped. A drop isn't even counted for a new user if as many users
    /// wait as entries may: the number of users has to be bounded as well.
    pub fn push(&mut self, from: UserName, entry: T) {
        let theirs = self.queues.get(&from).map_or(0, |queue| queue.entries.len());
        let has_room =
            theirs < self.bounds.per_user && (self.len < self.bounds.total || self.evict_from_longest(theirs));
        if !has_room && self.turns.len() >= self.bounds.total && !self.queues.contains_key(&from) {
            return;
        }
        // A user is in `turns` exactly as long as in `queues`.
        let queue = self.queues.entry(from.clone()).or_insert_with(|| {
            self.turns.push_back(from);
            UserQueue { entries: VecDeque::new(), dropped: 0 }
        });
        if has_room {
            queue.entries.push_back(entry);
            self.len += 1;
        } else {
            queue.dropped += 1;
        }
    }

    /// Takes out the next item among the users for whom `may_go` is true. Such a user's next turn comes after all
    /// others.
    pub fn pop(&mut self, mut may_go: impl FnMut(&UserName) -> bool) -> Option<QueueItem<T>> {
        let at = self.turns.iter().position(&mut may_go)?;
        let from = self.turns.remove(at)?;
        let queue = self.queues.get_mut(&from)?;
        if let Some(entry) = queue.entries.pop_front() {
            self.len -= 1;
            if queue.entries.is_empty() && queue.dropped == 0 {
                self.queues.remove(&from);
            } else {
                self.turns.push_back(from.clone());
            }
            return Some(QueueItem::Entry(from, entry));
        }
        // Reported after the last entry, so that the count covers the whole burst.
        let left_out = self.queues.remove(&from).map_or(0, |queue| queue.dropped);
        Some(QueueItem::Dropped(from, left_out))
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.queues.clear();
        self.turns.clear();
        self.len = 0;
    }

    /// Drops an entry of the longest queue, if it is longer than `than` + 1: equal queues don't evict each other.
    fn evict_from_longest(&mut self, than: usize) -> bool {
        let longest = self.queues.values_mut().max_by_key(|queue| queue.entries.len());
        let Some(longest) = longest.filter(|queue| queue.entries.len() > than + 1) else { return false };
        // The newest: the earlier ones have waited longer.
        longest.entries.pop_back();
        longest.dropped += 1;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: QueueBounds = QueueBounds { per_user: 4, total: 8 };

    fn name(no: u32) -> UserName {
        format!("user{no}").parse().unwrap()
    }

    fn drained(queue: &mut FairQueue<u32>) -> Vec<QueueItem<u32>> {
        std::iter::from_fn(|| queue.pop(|_| true)).collect()
    }

    #[test]
    fn whoever_says_one_thing_is_next_after_one_of_each_other() {
        let mut queue = FairQueue::new(BOUNDS);
        (0..1000).for_each(|no| queue.push(name(1), no));
        queue.push(name(2), 7);
        let entry = |user, no| QueueItem::Entry(name(user), no);
        let all = drained(&mut queue);
        assert_eq!(all[..3], [entry(1, 0), entry(2, 7), entry(1, 1)]);
        assert_eq!(
            all[3..],
            [entry(1, 2), entry(1, 3), QueueItem::Dropped(name(1), 996)],
            "in their order, and told once"
        );
        assert_eq!(queue.len, 0);
    }

    #[test]
    fn those_who_may_not_go_keep_their_place() {
        let mut queue = FairQueue::new(BOUNDS);
        [(1, 10), (1, 11), (2, 20)].into_iter().for_each(|(user, no)| queue.push(name(user), no));
        assert_eq!(queue.pop(|user| *user != name(1)), Some(QueueItem::Entry(name(2), 20)));
        assert_eq!(queue.pop(|user| *user != name(1)), None);
        assert_eq!(queue.pop(|_| true), Some(QueueItem::Entry(name(1), 10)));
    }

    #[test]
    fn a_full_queue_takes_from_who_has_most() {
        let mut queue = FairQueue::new(BOUNDS);
        (0..8).for_each(|no| queue.push(name(no / 4), no));
        // Six newcomers: each finds room until nobody has more than they would.
        (2..8).for_each(|user| queue.push(name(user), 100));
        let all = drained(&mut queue);
        let of = |user: u32| {
            all.iter().filter(|next| matches!(next, QueueItem::Entry(from, _) if *from == name(user))).count()
        };
        assert_eq!((0..8).map(of).collect::<Vec<_>>(), [1; 8]);
        assert!(all.contains(&QueueItem::Dropped(name(0), 3)) && all.contains(&QueueItem::Dropped(name(1), 3)));
        // Beyond that the newest finds none, and is not even counted.
        (0..9).for_each(|user| queue.push(name(user), 1));
        assert_eq!(drained(&mut queue), (0..8).map(|user| QueueItem::Entry(name(user), 1)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn bounds_and_orders_hold(pushes in proptest::collection::vec((0_u32..6, any::<bool>()), 0..300)) {
            let mut queue = FairQueue::new(BOUNDS);
            let (mut said, mut heard) = (0_u64, 0_u64);
            let mut last = HashMap::new();
            let mut hear = |next: QueueItem<u64>| match next {
                QueueItem::Entry(from, no) => {
                    assert!(last.insert(from, no).is_none_or(|before| before < no), "in their order");
                    1
                }
                QueueItem::Dropped(_, count) => count,
            };
            for (user, pops) in pushes {
                queue.push(name(user), said);
                said += 1;
                prop_assert!(queue.len <= BOUNDS.total);
                prop_assert!(queue.queues.values().all(|queue| queue.entries.len() <= BOUNDS.per_user));
                if pops && let Some(next) = queue.pop(|_| true) {
                    heard += hear(next);
                }
            }
            while let Some(next) = queue.pop(|_| true) {
                heard += hear(next);
            }
            prop_assert_eq!(said, heard, "each is told or counted");
            prop_assert!(queue.queues.is_empty() && queue.turns.is_empty());
        }
    }
}
