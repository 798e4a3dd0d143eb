//! The treatment of callers who are no members of whom this node knows. Pure.
//!
//! They may have joined a moment ago. So the tracker is asked first, and they are told [`StrangerVerdict::Ask`], "not
//! now", until its answer is newer than their request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::{Fingerprint, RoomId};

/// Time for which the tracker's word about a caller holds.
const VERDICT_TTL: Duration = Duration::from_secs(30);
/// Callers that are remembered, each with a room; a full table is cleared of the older ones.
const MAX_CALLERS: usize = 4096;
/// Rooms that are remembered of one caller, more than two users have streams for.
const MAX_ROOMS_PER_CALLER: usize = 32;

/// The callers who are not known as members, and the tracker's answers.
#[derive(Debug, Default)]
pub(super) struct StrangerChecks {
    callers: CallerTable,
    /// Calls about rooms that aren't the user's: any number of rooms can be made up.
    callers_elsewhere: CallerTable,
    /// The beginning of the last query that was answered.
    answered: HashMap<RoomId, Instant>,
}

/// Callers, with the room that they asked for and the time since when they wait for the tracker's word.
#[derive(Debug, Default)]
struct CallerTable(HashMap<(RoomId, Fingerprint), Instant>);

/// The reply to a caller who is no known member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StrangerVerdict {
    /// The tracker has to be asked.
    Ask,
    /// The tracker doesn't list the caller either.
    Refuse,
}

impl StrangerChecks {
    /// Returns the reply to a caller.
    pub(super) fn verdict(&mut self, room: RoomId, caller: Fingerprint, now: Instant) -> StrangerVerdict {
        let rooms_elsewhere = self.callers_elsewhere.rooms_of(&caller, now);
        let Some(since) = self.callers.note_call((room, caller), rooms_elsewhere, now) else {
            // A crowd of strangers, or one who guesses: nobody is waited for.
            return StrangerVerdict::Refuse;
        };
        match self.answered.get(&room) {
            Some(answered) if *answered >= since => StrangerVerdict::Refuse,
            _ => StrangerVerdict::Ask,
        }
    }

    /// Returns true for the first call of a caller, and for one after a while: `room` is none of the user's, so that the
    /// tracker can't be asked, and the caller gets the same replies as if it were one.
    pub(super) fn is_first_call(&mut self, room: RoomId, caller: Fingerprint, now: Instant) -> bool {
        if self.callers_elsewhere.is_known(&(room, caller), now) {
            return false;
        }
        let rooms_here = self.callers.rooms_of(&caller, now);
        self.callers_elsewhere.note_call((room, caller), rooms_here, now).is_some()
    }

    /// Notes that the tracker answered a query about `room` that began at `since`.
    pub(super) fn note_answer(&mut self, room: RoomId, since: Instant) {
        self.answered.insert(room, since);
    }
}

impl CallerTable {
    /// Returns true if a call is remembered.
    fn is_known(&self, call: &(RoomId, Fingerprint), now: Instant) -> bool {
        self.0.get(call).is_some_and(|since| is_recent(*since, now))
    }

    /// Returns the number of rooms that a caller asked for.
    fn rooms_of(&self, caller: &Fingerprint, now: Instant) -> usize {
        self.0.iter().filter(|((_, other), since)| other == caller && is_recent(**since, now)).count()
    }

    /// Remembers a call. Returns the time since when the caller waits; `None` if there is no room for it, given the
    /// rooms that the caller asked for elsewhere.
    fn note_call(&mut self, call: (RoomId, Fingerprint), elsewhere: usize, now: Instant) -> Option<Instant> {
        if self.is_known(&call, now) {
            return self.0.get(&call).copied();
        }
        if self.0.len() >= MAX_CALLERS {
            self.0.retain(|_, since| is_recent(*since, now));
        }
        // The caller may have joined since an earlier call: an old refusal doesn't hold.
        let is_full = self.0.len() >= MAX_CALLERS && !self.0.contains_key(&call);
        if is_full || self.rooms_of(&call.1, now) + elsewhere >= MAX_ROOMS_PER_CALLER {
            return None;
        }
        self.0.insert(call, now);
        Some(now)
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.duration_since(since) < VERDICT_TTL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_refused_only_on_the_trackers_word() {
        let (room, caller) = (RoomId::from_bytes([1; 16]), Fingerprint::from_bytes([2; 32]));
        let (mut checks, start) = (StrangerChecks::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        checks.note_answer(room, start);
        assert_eq!(checks.verdict(room, caller, later(1)), StrangerVerdict::Ask, "the answer is older than the call");
        assert_eq!(checks.verdict(room, caller, later(2)), StrangerVerdict::Ask);
        checks.note_answer(room, later(3));
        assert_eq!(checks.verdict(room, caller, later(4)), StrangerVerdict::Refuse);
        // The caller may have joined since.
        assert_eq!(checks.verdict(room, caller, later(40)), StrangerVerdict::Ask);
    }

    #[test]
    fn a_room_of_others_is_refused_like_one_of_the_users() {
        let (room, caller) = (RoomId::from_bytes([1; 16]), Fingerprint::from_bytes([2; 32]));
        let (mut checks, start) = (StrangerChecks::default(), Instant::now());
        let mut is_asked = |seconds| checks.is_first_call(room, caller, start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 29, 30, 31].map(&mut is_asked), [true, false, false, true, false]);
    }

    #[test]
    fn a_crowd_of_strangers_is_not_remembered_without_end() {
        let (mut checks, now) = (StrangerChecks::default(), Instant::now());
        let room = RoomId::from_bytes([1; 16]);
        for number in 0..5000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            checks.verdict(room, Fingerprint::from_bytes(key), now);
            checks.is_first_call(room, Fingerprint::from_bytes(key), now);
        }
        assert_eq!([checks.callers.0.len(), checks.callers_elsewhere.0.len()], [MAX_CALLERS; 2]);
    }

    #[test]
    fn whoever_makes_up_rooms_takes_no_place_from_a_newcomer() {
        let (mut checks, now) = (StrangerChecks::default(), Instant::now());
        let [mallory, newcomer] = [1, 2].map(|byte| Fingerprint::from_bytes([byte; 32]));
        let rooms = (0..5000_u128).map(|number| RoomId::from_bytes(number.to_be_bytes()));
        let first_calls = rooms.filter(|room| checks.is_first_call(*room, mallory, now)).count();
        assert_eq!(first_calls, MAX_ROOMS_PER_CALLER);
        // In all rooms alike, or the replies would tell which are the user's.
        let room = RoomId::from_bytes([9; 16]);
        assert_eq!(checks.verdict(room, mallory, now), StrangerVerdict::Refuse);
        assert_eq!(checks.verdict(room, newcomer, now), StrangerVerdict::Ask);
        assert_eq!(checks.verdict(room, mallory, now + VERDICT_TTL), StrangerVerdict::Ask);
    }
}
