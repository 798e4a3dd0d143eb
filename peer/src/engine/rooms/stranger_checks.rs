//! The treatment of callers who are no members of whom this node knows. Pure.
//!
//! They may have joined a moment ago. So the tracker is asked first, and they are told [`StrangerVerdict::Ask`], "not
//! now", until its answer is newer than their request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::{Fingerprint, RoomId};

/// Time for which the tracker's word about a caller holds.
const VERDICT_TTL: Duration = Duration::from_secs(30);
/// Callers that are remembered; a full table is cleared of the older ones.
const MAX_CALLERS: usize = 1024;

/// The callers who are not known as members, and the tracker's answers.
#[derive(Debug, Default)]
pub(super) struct StrangerChecks {
    callers: HashMap<(RoomId, Fingerprint), Instant>,
    /// The beginning of the last query that was answered.
    answered: HashMap<RoomId, Instant>,
}

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
        if self.callers.len() >= MAX_CALLERS {
            self.callers.retain(|_, since| now.duration_since(*since) < VERDICT_TTL);
        }
        if self.callers.len() >= MAX_CALLERS {
            // A crowd of strangers: none of them is waited for.
            return StrangerVerdict::Refuse;
        }
        let since = self.callers.entry((room, caller)).or_insert(now);
        // The caller may have joined since: an old refusal doesn't hold.
        if now.duration_since(*since) >= VERDICT_TTL {
            *since = now;
        }
        match self.answered.get(&room) {
            Some(answered) if *answered >= *since => StrangerVerdict::Refuse,
            _ => StrangerVerdict::Ask,
        }
    }

    /// Returns true for the first call of a caller, and for one after a while: `room` is none of the user's, so that the
    /// tracker can't be asked, and the caller gets the same replies as if it were one.
    pub(super) fn is_first_call(&mut self, room: RoomId, caller: Fingerprint, now: Instant) -> bool {
        let is_known = |since: &Instant| now.duration_since(*since) < VERDICT_TTL;
        if self.callers.get(&(room, caller)).is_some_and(is_known) {
            return false;
        }
        self.callers.retain(|_, since| is_known(since));
        if self.callers.len() >= MAX_CALLERS {
            return false;
        }
        self.callers.insert((room, caller), now);
        true
    }

    /// Notes that the tracker answered a query about `room` that began at `since`.
    pub(super) fn note_answer(&mut self, room: RoomId, since: Instant) {
        self.answered.insert(room, since);
    }
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
        }
        assert!(checks.callers.len() <= MAX_CALLERS);
    }
}
