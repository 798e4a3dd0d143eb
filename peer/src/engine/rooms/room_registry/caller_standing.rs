//! The relation of callers to rooms.

use std::time::Instant;

use shared::{Fingerprint, RoomId, UserName};

use super::RoomRegistry;
use crate::engine::rooms::stranger_checks::StrangerVerdict;

/// The relation of a caller to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::rooms) enum CallerStanding {
    /// A member.
    Member,
    /// No member of whom this node knows: the tracker is asked.
    Unclear,
    /// No member.
    Stranger,
    /// The user is no member.
    NotMine,
}

impl RoomRegistry {
    /// Returns the relation of a caller to a room.
    pub(in crate::engine::rooms) fn standing(
        &mut self,
        room: RoomId,
        user: &UserName,
        key: &Fingerprint,
    ) -> CallerStanding {
        let Some(known) = self.rooms.get(&room).filter(|room| room.is_active()) else {
            return CallerStanding::NotMine;
        };
        if known.members().members().get(key).is_some_and(|member| member.user == *user) {
            return CallerStanding::Member;
        }
        match self.strangers.verdict(room, *key, self.clock.instant()) {
            StrangerVerdict::Ask => CallerStanding::Unclear,
            StrangerVerdict::Refuse => CallerStanding::Stranger,
        }
    }

    /// Returns the relation to a room of a caller who asks for its files. A room that isn't the user's is treated like any
    /// other, so that nobody else learns in which rooms the user is.
    pub(in crate::engine::rooms) fn file_standing(
        &mut self,
        room: RoomId,
        user: &UserName,
        key: &Fingerprint,
    ) -> CallerStanding {
        match self.standing(room, user, key) {
            CallerStanding::NotMine if self.strangers.is_first_call(room, *key, self.clock.instant()) => {
                CallerStanding::Unclear
            }
            CallerStanding::NotMine => CallerStanding::Stranger,
            standing => standing,
        }
    }

    /// Notes that the tracker answered a query about a room that began at `since`.
    pub(in crate::engine::rooms) fn note_tracker_answer(&mut self, room: RoomId, since: Instant) {
        // A tracker may name any number of rooms.
        if self.rooms.contains_key(&room) {
            self.strangers.note_answer(room, since);
        }
    }
}
