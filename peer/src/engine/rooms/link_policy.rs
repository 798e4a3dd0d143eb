//! The choice of members to be linked with. Pure.
//!
//! Up to [`ALL_LINKED`] members online are all linked. Beyond that each links its neighbours at [`DISTANCES`] in both
//! directions of a ring: the keys hashed with the room's id. All members compute the same ring, so both ends of a link
//! want it, and one who comes or goes changes the links of few. The distances of 1 make it one ring whatever else fails.
//!
//! In a network that fell apart most neighbours may be out of reach, whatever the tracker says. Those that could not be
//! dialed stay wanted, and whoever would be a neighbour without them is wanted as well.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use shared::{Fingerprint, RoomId, UserName};

/// Most members online, this one included, who are all linked.
const ALL_LINKED: usize = 16;
/// Distances of the neighbours that are linked in a larger room.
const DISTANCES: [usize; 4] = [1, 2, 4, 8];

/// Time for which a member that could not be dialed counts as unreachable.
const UNREACHABLE_TIME: Duration = Duration::from_secs(60);

/// The members that could not be dialed.
#[derive(Debug, Default)]
pub(in crate::engine) struct UnreachableMembers(HashMap<UserName, Instant>);

impl UnreachableMembers {
    /// Notes that a member could not be dialed.
    pub(in crate::engine) fn note_failure(&mut self, user: UserName, now: Instant) {
        // Whoever isn't dialed again would stay in the table for good.
        self.0.retain(|_, until| *until > now);
        self.0.insert(user, now + UNREACHABLE_TIME);
    }

    /// Notes that a member may be reached again.
    pub(in crate::engine) fn forget(&mut self, user: &UserName) {
        self.0.remove(user);
    }

    /// Notes that any member may be reached again.
    pub(in crate::engine) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns true if a member could not be dialed a moment ago.
    pub(in crate::engine) fn contains(&self, user: &UserName, now: Instant) -> bool {
        self.0.get(user).is_some_and(|until| *until > now)
    }
}

/// Returns the members to be linked with, of those online, of whom some are `unreachable`.
pub(in crate::engine) fn wanted_links(
    room: RoomId,
    me: &Fingerprint,
    online: &BTreeSet<Fingerprint>,
    unreachable: &BTreeSet<Fingerprint>,
) -> BTreeSet<Fingerprint> {
    // By all who are online: the other end, which has other failures, has to come to the same neighbours.
    let mut wanted = neighbours(room, me, online);
    if !unreachable.is_empty() {
        let reachable: BTreeSet<Fingerprint> = online.difference(unreachable).copied().collect();
        wanted.extend(neighbours(room, me, &reachable));
    }
    wanted
}

fn neighbours(room: RoomId, me: &Fingerprint, online: &BTreeSet<Fingerprint>) -> BTreeSet<Fingerprint> {
    let others: BTreeSet<Fingerprint> = online.iter().filter(|key| *key != me).copied().collect();
    if others.len() < ALL_LINKED {
        return others;
    }
    let mut ring: Vec<([u8; 32], Fingerprint)> =
        others.iter().chain([me]).map(|key| (place_in_ring(room, key), *key)).collect();
    ring.sort_unstable();
    let Some(own) = ring.iter().position(|(_, key)| key == me) else { return others };
    let count = ring.len();
    // The ring has at least 17 places, so no difference falls below zero.
    let neighbours = DISTANCES.iter().flat_map(|distance| [own + distance, own + count - distance]);
    neighbours.map(|place| ring[place % count].1).filter(|key| key != me).collect()
}

fn place_in_ring(room: RoomId, key: &Fingerprint) -> [u8; 32] {
    // With the room in the hash: who are neighbours in one room aren't so in all.
    let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 ring of a room v1");
    hasher.update(room.as_bytes());
    hasher.update(key.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId::from_bytes([3; 16]);

    fn keys(count: u16) -> BTreeSet<Fingerprint> {
        let key = |number: u16| Fingerprint::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes());
        (0..count).map(key).collect()
    }

    /// Returns how far the farthest member is from the first, in links; `None` if one can't be reached.
    fn reach(online: &BTreeSet<Fingerprint>) -> Option<usize> {
        let mut reached = BTreeSet::from_iter(online.first().copied());
        for steps in 0..=online.len() {
            if reached.len() == online.len() {
                return Some(steps);
            }
            let next: Vec<Fingerprint> = reached.iter().flat_map(|key| neighbours(ROOM, key, online)).collect();
            reached.extend(next);
        }
        None
    }

    #[test]
    fn a_small_room_is_linked_whole() {
        let online = keys(16);
        for key in &online {
            assert_eq!(neighbours(ROOM, key, &online).len(), 15);
        }
        assert!(neighbours(ROOM, online.first().unwrap(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_large_room_is_connected_by_few_links_that_both_ends_want() {
        for count in [17, 18, 24, 200, 500] {
            let online = keys(count);
            for key in &online {
                let wanted = neighbours(ROOM, key, &online);
                assert!(wanted.len() <= 8 && !wanted.contains(key), "{count}: {}", wanted.len());
                assert!(wanted.iter().all(|other| neighbours(ROOM, other, &online).contains(key)));
            }
            assert!(reach(&online).is_some_and(|steps| steps <= usize::from(count) / 16 + 4), "{count}");
        }
    }

    #[test]
    fn those_who_reach_each_other_are_connected_whoever_is_away() {
        let online = keys(200);
        let here: BTreeSet<Fingerprint> = online.iter().step_by(5).copied().collect();
        let away: BTreeSet<Fingerprint> = online.difference(&here).copied().collect();
        let mut reached = BTreeSet::from_iter(here.first().copied());
        for _ in 0..here.len() {
            let next: Vec<Fingerprint> =
                reached.iter().flat_map(|key| wanted_links(ROOM, key, &online, &away)).collect();
            reached.extend(next.into_iter().filter(|key| here.contains(key)));
        }
        assert_eq!(reached, here);
        let key = here.first().unwrap();
        assert!(neighbours(ROOM, key, &online).is_subset(&wanted_links(ROOM, key, &online, &away)));
    }

    #[test]
    fn who_could_not_be_dialed_counts_again_after_a_while() {
        let [one, other]: [UserName; 2] = ["one", "other"].map(|name| name.parse().unwrap());
        let (mut unreachable, start) = (UnreachableMembers::default(), Instant::now());
        unreachable.note_failure(one.clone(), start);
        let later = start + UNREACHABLE_TIME;
        assert!(unreachable.contains(&one, start) && !unreachable.contains(&other, start));
        assert!(!unreachable.contains(&one, later));
        unreachable.note_failure(other.clone(), later);
        assert_eq!(unreachable.0.len(), 1, "what is over is forgotten");
        unreachable.forget(&other);
        assert!(!unreachable.contains(&other, later));
    }

    #[test]
    fn one_who_leaves_changes_the_links_of_few() {
        let online = keys(200);
        let without: BTreeSet<Fingerprint> = online.iter().skip(1).copied().collect();
        let changed = without.iter().filter(|key| neighbours(ROOM, key, &online) != neighbours(ROOM, key, &without));
        assert!(changed.count() <= 2 * 8);
    }
}
