//! The newest record of each room, and who is told of it.
//!
//! A subscriber has no queue, only the number of the last change that it was told: it gets the present state of those of
//! its rooms that changed since. So changes of one room merge for whoever reads slowly, and each room has a pace.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::room::RecordHash;
use shared::tracker::{TrackerEvent, TrackerEventKind};
use shared::{RoomId, UserName};

use super::event_pace::{Pace, PaceLimit};

/// Changes of one room that are told one by one.
const ROOM_PACE: PaceLimit = PaceLimit { burst: 10, interval: Duration::from_millis(500) };
/// Invitations and ends of memberships that are remembered for those who read behind.
const KEPT_NOTICES: usize = 4096;

/// A change of a room, as far as others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomUpdate {
    /// The room.
    pub id: RoomId,
    /// The epoch of its newest record.
    pub epoch: u64,
    /// The hash of its newest record.
    pub head: RecordHash,
    /// Users who are members from now on.
    pub joined: Vec<UserName>,
    /// Users who are no longer members.
    pub gone: Vec<UserName>,
    /// Users who are invited from now on.
    pub invited: Vec<UserName>,
    /// The room is no more.
    pub is_deleted: bool,
}

/// The newest record of each room, and the rooms of each user.
#[derive(Debug, Default)]
pub(super) struct RoomHeads {
    rooms: HashMap<RoomId, RoomHead>,
    rooms_of: HashMap<UserName, BTreeSet<RoomId>>,
    /// The latest invitations and ends of memberships, with the number of the change.
    notices: VecDeque<(u64, UserName, RoomId, RoomHead)>,
    /// The rooms whose change waits for their pace.
    due: BTreeSet<(Instant, RoomId)>,
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct RoomHead {
    epoch: u64,
    head: RecordHash,
    /// The number of the change that was told last.
    last_told: u64,
    pace: Option<Pace>,
    /// The time at which a change is told that waits.
    due: Option<Instant>,
}

impl RoomUpdate {
    /// Returns the update of a room whose members stay.
    pub const fn unchanged(id: RoomId, epoch: u64, head: RecordHash) -> Self {
        Self { id, epoch, head, joined: Vec::new(), gone: Vec::new(), invited: Vec::new(), is_deleted: false }
    }
}

impl RoomHeads {
    /// Returns the number of rooms.
    pub(super) fn count(&self) -> usize {
        self.rooms.len()
    }

    /// Returns the number of the last change that may be told.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Returns the time at which the next waiting change may be told.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Tells the changes whose time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            self.tell(id, now);
        }
    }

    /// Records a change that is stored already.
    pub(super) fn update(&mut self, update: RoomUpdate, now: Instant) {
        let RoomUpdate { id, epoch, head, joined, gone, invited, is_deleted } = update;
        let new = RoomHead { epoch, head, last_told: 0, pace: None, due: None };
        let known = self.rooms.entry(id).or_insert(new);
        // A new password changes no record: members have nothing to fetch then.
        let is_news = known.last_told == 0 || known.epoch != epoch;
        // Before the notices below, which are made from it.
        (known.epoch, known.head) = (epoch, head);
        for user in joined {
            self.rooms_of.entry(user).or_default().insert(id);
        }
        for user in gone {
            self.depart(user, id);
        }
        for user in invited {
            self.tell_once(user, id);
        }
        if is_deleted {
            // Told before the room is removed: a notice is made from its head.
            let of_room = self.rooms_of.iter().filter(|(_, rooms)| rooms.contains(&id));
            let all: Vec<UserName> = of_room.map(|(user, _)| user.clone()).collect();
            all.into_iter().for_each(|user| self.depart(user, id));
            if let Some(RoomHead { due: Some(due), .. }) = self.rooms.remove(&id) {
                self.due.remove(&(due, id));
            }
        } else if is_news {
            self.schedule(id, now);
        }
    }

    /// Returns the lines of the user's rooms that changed after `seen`, and the number to continue from. `seq` is the
    /// number of the latest numbered event.
    pub(super) fn lines_after(&self, user: &UserName, seen: u64, seq: u64) -> (Vec<u8>, u64) {
        let mut lines = Vec::new();
        let mut add = |id: RoomId, room: &RoomHead| {
            let kind = TrackerEventKind::Room { id, epoch: room.epoch, head: room.head };
            lines.extend(super::peer_list::to_json(&TrackerEvent { seq, kind }));
            lines.push(b'\n');
        };
        // Most events are about no room: they cost no look at those of each subscriber.
        if seen < self.last {
            let ids = self.rooms_of.get(user).into_iter().flatten();
            let changed = ids.filter_map(|id| self.rooms.get_key_value(id)).filter(|(_, room)| room.last_told > seen);
            changed.for_each(|(id, room)| add(*id, room));
            // Newest first: numbers only grow, so the search ends at the first one that was seen.
            let notices = self.notices.iter().rev().take_while(|(number, ..)| *number > seen);
            notices.filter(|(_, who, ..)| who == user).for_each(|(_, _, id, room)| add(*id, room));
        }
        (lines, self.last)
    }

    fn depart(&mut self, user: UserName, id: RoomId) {
        if let Some(rooms) = self.rooms_of.get_mut(&user) {
            rooms.remove(&id);
            if rooms.is_empty() {
                self.rooms_of.remove(&user);
            }
        }
        // By a notice: the room is no longer among those whose changes this user is told.
        self.tell_once(user, id);
    }

    /// Tells somebody who is not a member of the room as it is now.
    fn tell_once(&mut self, user: UserName, id: RoomId) {
        let Some(room) = self.rooms.get(&id).copied() else { return };
        if self.notices.len() == KEPT_NOTICES {
            self.notices.pop_front();
        }
        self.last += 1;
        self.notices.push_back((self.last, user, id, room));
    }

    fn schedule(&mut self, id: RoomId, now: Instant) {
        // A change that waits already is told together with this one.
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.due.is_none()) else { return };
        let wait = room.pace.map_or(Duration::ZERO, |pace| pace.wait(ROOM_PACE, now));
        if wait.is_zero() {
            self.tell(id, now);
        } else {
            room.due = Some(now + wait);
            self.due.insert((now + wait, id));
        }
    }

    fn tell(&mut self, id: RoomId, now: Instant) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        self.last += 1;
        room.last_told = self.last;
        room.due = None;
        room.pace.get_or_insert(Pace::rested_at(now)).record(ROOM_PACE, 1, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn update(room: u8, epoch: u64, joined: &[&str], gone: &[&str]) -> RoomUpdate {
        let users = |names: &[&str]| names.iter().map(|name| user(name)).collect();
        let unchanged = RoomUpdate::unchanged(RoomId::from_bytes([room; 16]), epoch, RecordHash::from_bytes([7; 32]));
        RoomUpdate { joined: users(joined), gone: users(gone), ..unchanged }
    }

    /// The rooms and epochs of the lines, and the number to continue from.
    fn told(heads: &RoomHeads, name: &str, seen: u64) -> (Vec<(u8, u64)>, u64) {
        let (lines, seen) = heads.lines_after(&user(name), seen, 5);
        let lines = std::str::from_utf8(&lines).unwrap().lines().map(|line| {
            let event: TrackerEvent = serde_json::from_str(line).unwrap();
            assert_eq!(event.seq, 5);
            let TrackerEventKind::Room { id, epoch, .. } = event.kind else { panic!("{line}") };
            (id.as_bytes()[0], epoch)
        });
        (lines.collect(), seen)
    }

    #[test]
    fn members_are_told_and_others_not() {
        let (mut heads, now) = (RoomHeads::default(), Instant::now());
        heads.update(update(1, 2, &["alice"], &[]), now);
        heads.update(update(2, 2, &["bob"], &[]), now);
        let (lines, alice_seen) = told(&heads, "alice", 0);
        assert_eq!(lines, [(1, 2)]);
        assert_eq!(told(&heads, "carol", 0).0, []);
        heads.update(update(1, 3, &["bob"], &[]), now);
        assert_eq!(told(&heads, "bob", alice_seen).0, [(1, 3)]);
        let (lines, alice_seen) = told(&heads, "alice", alice_seen);
        assert_eq!(lines, [(1, 3)]);
        // A kick: the one who went is told once, and then nothing more.
        heads.update(update(1, 4, &[], &["bob"]), now);
        assert_eq!(told(&heads, "bob", alice_seen).0, [(1, 4)]);
        assert_eq!(told(&heads, "alice", alice_seen).0, [(1, 4)]);
        let (_, seen) = told(&heads, "bob", alice_seen);
        heads.update(update(1, 5, &[], &[]), now);
        assert_eq!(told(&heads, "bob", seen).0, []);
        assert_eq!(told(&heads, "alice", seen).0, [(1, 5)]);
        let (_, seen) = told(&heads, "alice", seen);
        // Who is invited is told of the room once, and others hear nothing of it.
        heads.update(RoomUpdate { invited: vec![user("dave")], ..update(1, 5, &[], &[]) }, now);
        let (lines, dave_seen) = told(&heads, "dave", seen);
        assert_eq!(
            (lines, told(&heads, "dave", dave_seen).0, told(&heads, "alice", seen).0),
            (vec![(1, 5)], vec![], vec![])
        );
        heads.update(RoomUpdate { is_deleted: true, ..update(1, 6, &[], &[]) }, now);
        assert_eq!(told(&heads, "alice", seen).0, [(1, 6)]);
        assert_eq!((told(&heads, "alice", 0).0, heads.count()), (vec![(1, 6)], 1));
    }

    #[test]
    fn a_room_has_a_pace_and_the_newest_state_is_told() {
        let (mut heads, mut now) = (RoomHeads::default(), Instant::now());
        let mut seen = 0;
        let mut lines = 0;
        for epoch in 1..=100 {
            heads.update(update(1, epoch, &["alice"], &[]), now);
            let (told, after) = told(&heads, "alice", seen);
            (lines, seen) = (lines + told.len(), after);
        }
        assert_eq!(lines, ROOM_PACE.burst as usize);
        let due = heads.next_due().unwrap();
        assert!(due > now && due <= now + ROOM_PACE.interval);
        now = due;
        heads.tick(now);
        assert_eq!(told(&heads, "alice", seen).0, [(1, 100)]);
        assert_eq!(heads.next_due(), None);
        // Other rooms aren't held up.
        let (_, seen) = told(&heads, "alice", seen);
        heads.update(update(2, 1, &["alice"], &[]), now);
        assert_eq!(told(&heads, "alice", seen).0, [(2, 1)]);
    }
}
