//! What waits for its hook, and what runs. Pure.

use std::collections::HashMap;

use shared::UserName;

use crate::engine::fair_queue::{FairQueue, QueueBounds, QueueItem};

/// Hooks that run at once for people who are accepted.
const MAX_RUNNING: usize = 4;
/// Of these, for the messages of one person: however slow their texts make a program, others have their turn.
const MAX_RUNNING_PER_USER: usize = 2;
/// Messages that wait for their hook.
const QUEUE_BOUNDS: QueueBounds = QueueBounds { per_user: 100, total: 1000 };
/// The same of people who are not accepted: there may be any number of them, and nobody who is waits for one.
const STRANGER_QUEUE_BOUNDS: QueueBounds = QueueBounds { per_user: 1, total: 100 };

/// How the user stands with who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SenderStanding {
    Accepted,
    Stranger,
}

/// The place of a hook that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HookSlot {
    user: UserName,
    standing: SenderStanding,
}

/// The queue.
#[derive(Debug)]
pub(super) struct HookQueue<T> {
    accepted: FairQueue<T>,
    strangers: FairQueue<T>,
    /// How many run for each person who is accepted.
    running: HashMap<UserName, usize>,
    is_stranger_running: bool,
}

impl<T> HookQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            accepted: FairQueue::new(QUEUE_BOUNDS),
            strangers: FairQueue::new(STRANGER_QUEUE_BOUNDS),
            running: HashMap::new(),
            is_stranger_running: false,
        }
    }

    pub(super) fn push(&mut self, from: UserName, standing: SenderStanding, entry: T) {
        match standing {
            SenderStanding::Accepted => self.accepted.push(from, entry),
            SenderStanding::Stranger => self.strangers.push(from, entry),
        }
    }

    /// Takes out what may run now, and the place that it has until [`HookQueue::finish`].
    pub(super) fn start_next(&mut self) -> Option<(QueueItem<T>, HookSlot)> {
        if self.running.values().sum::<usize>() < MAX_RUNNING {
            let running = &self.running;
            let has_room = |user: &UserName| running.get(user).is_none_or(|count| *count < MAX_RUNNING_PER_USER);
            if let Some(item) = self.accepted.pop(has_room) {
                let user = item_user(&item).clone();
                *self.running.entry(user.clone()).or_default() += 1;
                return Some((item, HookSlot { user, standing: SenderStanding::Accepted }));
            }
        }
        // Strangers have a place of their own: they and accepted users never wait for each other.
        if self.is_stranger_running {
            return None;
        }
        let item = self.strangers.pop(|_| true)?;
        self.is_stranger_running = true;
        let user = item_user(&item).clone();
        Some((item, HookSlot { user, standing: SenderStanding::Stranger }))
    }

    /// Gives a place back.
    pub(super) fn finish(&mut self, slot: &HookSlot) {
        match slot.standing {
            SenderStanding::Stranger => self.is_stranger_running = false,
            SenderStanding::Accepted => {
                if let Some(count) = self.running.get_mut(&slot.user) {
                    *count -= 1;
                }
                self.running.retain(|_, count| *count > 0);
            }
        }
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        self.accepted.clear();
        self.strangers.clear();
    }
}

const fn item_user<T>(item: &QueueItem<T>) -> &UserName {
    match item {
        QueueItem::Entry(user, _) | QueueItem::Dropped(user, _) => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn started(queue: &mut HookQueue<u32>) -> Vec<(String, HookSlot)> {
        let starts = std::iter::from_fn(|| queue.start_next());
        starts.map(|(item, slot)| (item_user(&item).to_string(), slot)).collect()
    }

    #[test]
    fn thirty_strangers_have_one_place_and_a_friend_waits_for_none_of_them() {
        let mut queue = HookQueue::new();
        for number in 0..30 {
            queue.push(name(&format!("syb{number}")), SenderStanding::Stranger, number);
        }
        let first = started(&mut queue);
        assert_eq!(first.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["syb0"]);
        queue.push(name("alice"), SenderStanding::Accepted, 7);
        let second = started(&mut queue);
        assert_eq!(second.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["alice"]);
        queue.finish(&first[0].1);
        assert_eq!(started(&mut queue)[0].0, "syb1");
    }

    #[test]
    fn friends_have_four_places_and_two_of_one() {
        let mut queue = HookQueue::new();
        for user in ["alice", "bob", "carol"] {
            (0..5).for_each(|number| queue.push(name(user), SenderStanding::Accepted, number));
        }
        queue.push(name("mallory"), SenderStanding::Stranger, 1);
        let running = started(&mut queue);
        let users: Vec<_> = running.iter().map(|(user, _)| user.as_str()).collect();
        assert_eq!(users, ["alice", "bob", "carol", "alice", "mallory"]);
        queue.finish(&running[1].1);
        assert_eq!(started(&mut queue)[0].0, "bob");
        running.iter().for_each(|(_, slot)| queue.finish(slot));
        queue.clear();
        assert!(started(&mut queue).is_empty());
    }
}
